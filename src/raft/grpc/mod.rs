//! Messages between replicas over gRPC.
//!
//! One stream for each pair of nodes, direction and class. It begins with a handshake, in which
//! each side says who it is: a node of another cluster, one at another's address, and one that
//! lost its folder and comes back under its old id are refused.
//!
//! In reading order:
//! - [`pb`]: the types generated from `proto/arqon_internal.proto`.
//! - [`registry`]: who may speak to whom.
//! - [`lanes`]: the ways from this node.
//! - [`service`]: the ways to it.

pub mod lanes;
pub mod registry;
pub mod service;

pub use lanes::GrpcPeers;
pub use registry::{Identity, Peer};

/// The types generated from `proto/arqon_internal.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod pb {
    tonic::include_proto!("arqondb.internal.v1");
}

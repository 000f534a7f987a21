//! Floor 6: the wire between programs: generated protobuf types, what they mean in `op`, and a
//! client.
//!
//! In reading order:
//! - [`pb`]: the types generated from `proto/arqondb.proto`, the contract with every client.
//! - [`request`]: requests, from the wire to `op`, checked; [`outgoing`] the way back.
//! - [`answer`]: answers, both ways.
//! - [`vectors`]: those about vectors.
//! - [`cursor`]: what a scan's `next_cursor` looks like.
//! - [`consistency`]: how fresh a read must be, as its options say it.
//! - [`status`]: [`base::Error`](crate::base::Error) as a gRPC status, and back.
//! - [`codec`]: decoding that bounds a message's elements before it allocates for them.
//! - [`client`]: [`Client`], a server elsewhere as [`KvOps`](crate::op::KvOps).
//! - [`vector_client`]: its calls about vectors.
//! - [`ops`]: requests and answers between the programs of a cluster; [`link`]: what carries them;
//!   [`cluster`]: what is asked over links.
//!
//! Invariants owed to the floors above:
//! - A request that leaves [`request`] keeps every bound of `op`; one that does not keep them is
//!   answered with what to mend.
//! - A write whose outcome is not known is never reported as failed.

pub mod answer;
pub mod client;
pub mod cluster;
pub mod codec;
pub mod consistency;
pub mod cursor;
pub mod link;
pub mod ops;
pub mod outgoing;
pub mod request;
pub mod status;
pub mod vector_client;
pub mod vectors;

pub use client::Client;

/// The types generated from `proto/arqondb.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod pb {
    tonic::include_proto!("arqondb.v1");

    /// The file's descriptors, without comments: an encoded `google.protobuf.FileDescriptorSet`.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/arqondb.fds"));

    /// The service's full name, as health checks and reflection call it.
    pub const SERVICE: &str = "arqondb.v1.ArqonDb";
}

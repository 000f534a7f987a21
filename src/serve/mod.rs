//! Floor 9: the doors. Each turns a protocol into requests and answers back into the protocol.
//!
//! - [`grpc`]: the clients of `proto/arqondb.proto`.
//! - [`resp`]: Redis clients.
//!
//! Invariants owed to the floor above:
//! - A door knows requests and answers, never how they are executed: it is generic over
//!   [`KvOps`](crate::op::KvOps).
//! - Doors do not know each other.

pub mod grpc;
pub mod resp;

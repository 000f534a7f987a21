//! Floor 9: the doors: a protocol's bytes to `op` and back. A door knows no other door and no
//! storage; it speaks to a [`KvOps`](crate::op::KvOps).

pub mod grpc;

//! Floor 0: the words every floor shares. No I/O, no clock, no thread lives here.
//!
//! In reading order:
//! - [`error`]: the one [`Error`], its kinds, and what a caller does about each.
//! - [`ids`]: newtypes for sequence numbers, column families, log groups and log indexes.
//! - [`codec`]: bounded reading and writing of integers and length-prefixed bytes.
//! - [`checksum`]: CRC32C, quick for short inputs.
//! - [`escape`]: bytes printed so that a person can read them and a program can read them back.
//! - [`glob`]: Redis-style pattern matching in bounded time.
//!
//! Invariants owed to the floors above:
//! - Decoding never panics and never allocates by a length it has not checked against the
//!   bytes it holds.
//! - An [`ErrorKind`] says what the caller does next; nobody recognises an error by its text.

pub mod checksum;
pub mod codec;
pub mod error;
pub mod escape;
pub mod glob;
pub mod ids;

pub use error::{Error, ErrorKind, Result};
pub use ids::{CfId, GroupId, IndexId, JobId, LogIndex, NodeId, ReplicaId, Seq, ShardId};

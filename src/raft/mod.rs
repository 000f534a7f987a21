//! Floor 6: replication. openraft behind one door; nobody else names it.
//!
//! Words: a *group* is one shard's replicas and their common log, kept as one group of each node's
//! log. A *proposal* is an encoded write batch that a leader hands to its group.
//!
//! In reading order:
//! - [`vocabulary`]: openraft's type parameters, chosen once.
//! - [`wire`]: our own protobuf of entries, votes and memberships; openraft's derives are no format.
//! - [`log_store`]: a group's Raft log over the node's log.
//! - [`state_machine`]: committed entries applied to a shard.
//! - [`proposer`]: a group as a shard's [`crate::shard::Log`].
//!
//! Openraft counts entries from 0, the node's log from 1: entry `i` of a group is the log's entry
//! `i + 1`.
//!
//! Invariants owed to the floors above:
//! - Votes, entries, truncations and purges of a group reach the disk in the order they were made.
//! - No entry is reported flushed, and no vote returned from, before the log's sync.
//! - An entry is purged only when the shard's tables hold it.
//! - A follower applies a batch through the same [`crate::shard::Shard::apply`] as everyone.

pub mod log_store;
pub mod proposer;
pub mod state_machine;
pub mod vocabulary;
pub mod wire;

pub use log_store::{LogStore, Recovered};
pub use proposer::{Proposer, RaftLog, proposals};
pub use state_machine::StateMachine;
pub use vocabulary::TypeConfig;

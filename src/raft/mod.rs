//! Floor 6: replication. openraft behind one door; nobody else names it.
//!
//! Words: a *group* is one shard's (or the catalog's) replicas and their common log, kept as one
//! group of each node's log. A *replica* is a group's state on one node; its id is never used
//! again. A *proposal* is what a leader hands to its group as one entry: encoded write batches, or a
//! command. A *session* is the time in which a leader may place batches. A replica's state lies in
//! a *generation*, a folder that a snapshot replaces by another. A *copy* of it is what is sent.
//!
//! In reading order:
//! - [`vocabulary`]: openraft's type parameters, chosen once; proposals. [`chance`]: its runtime.
//! - [`wire`]: our own protobuf of entries, votes and memberships; openraft's derives are no format.
//! - [`log_store`]: a group's Raft log over the node's log.
//! - [`state`]: the seam to what is replicated: [`shard_machine`], a shard; [`memory`], something
//!   small in memory.
//! - `generation`: where a state lies, and how another takes its place.
//! - `replica`: a state, where it stands, and its copies. [`machine`]: as openraft drives it.
//! - [`proposer`]: a group as a shard's [`crate::shard::Log`]; `pace`: how much one entry takes.
//! - [`split`]: a shard that becomes two.
//! - [`options`]: settings of a group. `retention`: cutting its log by size.
//! - [`transport`]: the seam to the network. `message`: what replicas say to each other. `link`:
//!   saying it. `inbound`: hearing it. `ship` and `receive`: snapshots.
//! - [`host`]: the groups of a node. [`group`]: one of them, as the floors above hold it.
//!   `barrier`: reads of it that wait together. `hibernate`: what it costs while nothing is written.
//! - `failure`: what openraft refuses or gives up, as errors.
//! - [`work`]: where what waits for the disk is done.
//!
//! Openraft counts entries from 0, the node's log from 1: entry `i` of a group is the log's entry
//! `i + 1`. Every entry is applied to the state machine, also one that changes nothing there: it
//! knows how far it is.
//!
//! Invariants owed to the floors above:
//! - Votes, entries, truncations and purges of a group reach the disk in the order they were made.
//! - No entry is reported flushed, and no vote returned from, before the log's sync.
//! - The tables of a shard hold nothing that this node's log does not have durable.
//! - An entry is purged only when the state machine's folder holds it.
//! - A follower applies an entry through the same [`crate::shard::Shard::apply_entry`] as everyone.
//! - A crash while a snapshot is installed leaves the old state or the new.
//! - A replica that lost its log or its folder is not started again.
//! - A proposal that may have been committed is never reported as failed.

mod barrier;
pub mod chance;
mod failure;
mod generation;
pub mod group;
mod hibernate;
pub mod host;
mod inbound;
mod link;
pub mod log_store;
pub mod machine;
pub mod memory;
mod message;
pub mod options;
mod pace;
pub mod proposer;
mod receive;
mod replica;
mod retention;
pub mod shard_machine;
mod ship;
pub mod split;
pub mod state;
pub mod transport;
pub mod vocabulary;
pub mod wire;
pub mod work;

pub use group::{Consistency, Group, GroupStatus};
pub use host::{Host, HostOptions, Recoveries};
pub use log_store::{LogStore, Recovered};
pub use machine::{Machine, Shipment};
pub use memory::{Memory, MemoryMachine};
pub use options::GroupOptions;
pub use proposer::{Proposer, RaftLog, proposals};
pub use shard_machine::{OpenShard, ShardHandle, ShardMachine};
pub(crate) use ship::Rate;
pub use split::{Halves, Split};
pub use state::StateMachine;
pub use transport::{Class, NodeId, Peers};
pub use vocabulary::{LogId, TypeConfig};
pub use work::Work;

//! Floor 7: the roles that hold state.
//!
//! A standalone node has one shard on one log in one folder; a cluster's node ([`cluster`]) has
//! replicas of many.
//!
//! ```text
//! DIR/FORMAT     what the folder is, and its version
//! DIR/LOCK       held while a process has it open
//! DIR/log/       the node's log
//! DIR/shard-1/   the shard's sstables and manifest
//! ```
//!
//! In reading order:
//! - [`options`]: how a database is opened, [`Options`].
//! - [`local_log`]: the node's own log as a shard's [`crate::shard::Log`].
//! - `turns`: one of the threads that wait for the disk syncs for all.
//! - [`core`]: opening, recovery, upkeep, closing.
//! - [`db`]: [`Db`], the embedded database, synchronous.
//! - `gate`: between requests on a runtime's threads and those that wait with latches held.
//! - `pipeline`: requests on one shard, whoever commits what they write.
//! - [`standalone`]: [`Standalone`], the same behind the doors, asynchronous.
//! - [`cluster`]: a node of a cluster.
//!
//! Invariants owed to the floors above:
//! - A folder is open in one process at most.
//! - An acknowledged write is there after `kill -9`; at `always` after power loss too.

pub mod cluster;
mod core;
pub mod db;
mod gate;
pub mod local_log;
pub mod options;
mod pipeline;
pub mod standalone;
mod turns;

pub use core::check_format;
pub use db::{Db, DbIter, Snapshot};
pub use options::Options;
pub use standalone::Standalone;

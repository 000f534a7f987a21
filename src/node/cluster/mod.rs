//! A node of a cluster: replicas of shards on one log, told by the catalog what to keep.
//!
//! ```text
//! DIR/FORMAT     what the folder is, and its version
//! DIR/NODE       who this node is, and in which cluster
//! DIR/LOCK       held while a process has it open
//! DIR/log/       the log of all groups
//! DIR/groups/    a folder for each replica
//! DIR/copies/    copies of shards that a backup is reading
//! ```
//!
//! In reading order:
//! - [`options`]: how it is opened.
//! - `identity`: who it is; a folder that was lost is another node.
//! - [`member`]: [`Member`], opening, registering, heartbeats, stopping.
//! - `replicas`: what runs here, brought in line with the catalog.
//! - `lead`: what a leader tells the catalog, and does for it.
//! - `report`: what it says of the shards it leads.
//! - `families`: column families, brought in line with it too.
//! - `indexes`: and indexes of vectors.
//! - `split`: one shard becomes two.
//! - `execute`: requests on a shard of a group.
//! - `stale`: reads that a replica answers without leading.
//! - `copies`: copies of shards, for who makes a backup.
//! - `service`: the calls of the links.
//!
//! Invariants owed to the floors above:
//! - A request is executed on the leader of its shard, at the epoch it names, or not at all.
//! - A read sees every write that was acknowledged before it began, anywhere; one that may be stale
//!   sees those that were acknowledged longer ago than its bound when it came.
//! - No write of a column family precedes its creation in the log of any replica.

mod copies;
mod execute;
mod families;
mod identity;
mod indexes;
mod lead;
pub mod member;
pub mod options;
mod replicas;
mod report;
mod service;
mod split;
mod stale;

pub use member::Member;
pub use options::MemberOptions;
pub use replicas::Troubles;

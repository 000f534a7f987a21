//! Floor 7: the metadata plane, the role that keeps the cluster's catalog.
//!
//! One, three or five of these processes form a Raft group of their own, whose state is the
//! [`Catalog`](crate::catalog::Catalog). Everyone else asks any of them; the one that leads decides.
//!
//! ```text
//! DIR/FORMAT     what the folder is, and its version
//! DIR/LOCK       held while a process has it open
//! DIR/KNOWN      whom this one has met
//! DIR/log/       the log
//! DIR/groups/    the catalog, as far as the log no longer holds it
//! ```
//!
//! In reading order:
//! - [`options`]: how it is opened.
//! - `memory`: the catalog as what a group replicates.
//! - `folder`: who may open a folder.
//! - `known`: whom this one has met. `readmit`: taking in again who has lost a folder.
//! - [`server`]: [`Meta`], opening, changing and following the catalog.
//! - `service`: the calls of the links.
//! - `keeper`: what the leader sees to by itself: nodes that fall silent.
//! - `figures`: what nodes say of the shards they lead.
//! - [`jobs`]: moves of shards, draining, repair: what is to be done, and the loop that does it.
//!
//! Invariants owed to the floors above:
//! - A change that was answered is on the disks of a majority.
//! - Who follows is told every change, in order, or all of the catalog.
//! - Who has lost a folder has no vote until another replica has taken its place.
//! - A job that was begun is brought to its end by whoever leads, or called off.

mod figures;
mod folder;
pub mod jobs;
mod keeper;
mod known;
mod memory;
pub mod options;
mod readmit;
pub mod server;
mod service;

pub use options::MetaOptions;
pub use server::Meta;

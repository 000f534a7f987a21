//! Floor 5: the catalog, the cluster's metadata as a state machine.
//!
//! Words: a *command* is a change as the metadata group's log holds it; a *refusal* is why one was
//! not applied. Each command that changes something makes one *revision*, and a *change* is what
//! it changed: *events*, each with the new value of one record. The *view* is all records at one
//! revision; a *subscriber* holds a copy of it and follows the changes. The *window* is the recent
//! changes the catalog keeps for that. A shard's *epoch* is the version of its descriptor.
//!
//! In reading order:
//! - [`ids`], [`limits`]: numbers, bounds.
//! - [`records`]: clusters, nodes, shards, families, indexes, users, jobs.
//! - [`command`]: what can be asked, and what it answers; [`refusal`]: or why not.
//! - [`event`], [`view`]: what subscribers are told, and what they hold.
//! - [`catalog`]: [`Catalog`], and the way of a command through it.
//! - [`evaluate`]: what each command answers and changes.
//! - [`requests`], [`window`]: retries that apply once, and the recent changes.
//! - [`placement`]: which nodes a shard's replicas go to.
//! - [`plan`]: what to move next, for repair, for draining, for balance; and the next step of a move.
//! - [`wire`]: the bytes of all this.
//!
//! Invariants owed to the floors above:
//! - A catalog is a function of the commands it applied: no clock, no randomness, no I/O.
//! - A refused command has changed nothing. A command that is not understood halts; it is never
//!   skipped.
//! - Once created, shards cover all slots exactly once. No id is ever handed out twice. Epochs and
//!   revisions only rise, revisions by one. At most one active job concerns a shard.
//! - Whoever follows every change holds what the catalog holds; a gap is a typed error.

#[expect(clippy::module_inception, reason = "the folder is named after what this file defines")]
mod catalog;
pub mod command;
mod evaluate;
pub mod event;
pub mod ids;
pub mod limits;
pub mod placement;
pub mod plan;
pub mod records;
pub mod refusal;
mod requests;
pub mod view;
mod window;
pub mod wire;

pub use crate::op::route::{SLOTS, SlotRange};
pub use catalog::Catalog;
pub use command::{Action, Applied, Command, JobChange, Outcome, ShardChange};
pub use event::{Change, Event};
pub use ids::{IndexId, JobId, NextIds, NodeId, ReplicaId, ShardId};
pub use limits::FORMAT_VERSION;
pub use refusal::{Refusal, Standing};
pub use view::View;
pub use wire::encode_command;
pub use wire::{decode_answer, decode_change, decode_command, encode_answer, encode_change};

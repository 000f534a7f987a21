//! Plans: what to move next, from the view and figures given with it. Pure functions.
//!
//! Words: a *move* is one shard's way to other replicas or another leader, run as one job. Its
//! *steps* are the single changes; [`next_step`] reads the next one off the shard as it is, so a
//! job goes on after a crash from wherever it was. A shard is *stuck* when nothing can be done for
//! it now: no quorum, or no node for it.
//!
//! In reading order: [`moves`], [`board`] (what the nodes carry, while a plan is made), [`repair`],
//! [`drain`], [`rebalance`]; [`members`]: how a shard's group follows what the catalog names.
//!
//! Invariants owed to whoever runs the moves:
//! - A replica is added, caught up and promoted before another is sent on its way out, and none is
//!   that leaves its shard without a quorum.
//! - A plan has at most one move a shard, and none for a shard that has an active job or a pending
//!   split.
//! - Moves never crowd a failure domain beyond its cap, and a plan made from their result does not
//!   take them back.

mod board;
mod drain;
mod members;
mod moves;
mod rebalance;
mod repair;

pub use board::{Figures, ShardFigures};
pub use drain::drain;
pub use members::{MemberStep, Members, member_step};
pub use moves::{Move, Plan, Step, next_step};
pub use rebalance::rebalance;
pub use repair::repair;

//! Jobs: what the leading metadata node does of its own accord with shards and nodes.
//!
//! Words: an *order* is what a job is to do. A *deed* is one thing done now: a change of the catalog,
//! or a shard asked to change its leader. A node has *slots*: so many moves may concern it at once.
//!
//! In reading order:
//! - [`order`]: what the steps of a job hold.
//! - [`decide`]: [`decide()`], what is to be done now: a function of the catalog and the time.
//! - `planned`: jobs that plan others: repair, draining, rebalancing.
//! - `slots`: how much moves at a time.
//! - `runner`: the loop that does it.
//!
//! Invariants:
//! - Nothing is remembered between two decisions but what the catalog holds, so whoever leads next
//!   goes on from where it was left. Every deed names what it was decided on (an epoch, a state, the
//!   owner of a lease) and does nothing if that has changed.
//! - A replica goes only when those that stay are a majority on nodes that are heard of.

pub mod decide;
pub mod order;
mod planned;
pub(super) mod runner;
mod slots;

pub use decide::{Deed, Limits, Situation, decide};
pub use order::{Order, Task};

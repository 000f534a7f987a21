//! Postings in the LSM and their centroids in memory (SPANN: Chen et al. 2021), kept in order under
//! endless updates by small steps (SPFresh: Xu et al. 2023).
//!
//! A *posting* holds entries, an id and a code each, of vectors that are near each other; its
//! *centroid* is their mean. A search finds the nearest centroids by a graph, reads their postings,
//! and fetches the vectors that are nearest by their codes. A vector at the border of several
//! postings has an entry in each (*closure*). A posting that outgrows a page is split, one that has
//! shrunk is dissolved, and entries that lie nearer to a new centroid than to their own move there. When
//! vectors have come to be others than those that codes were learnt from, new ones are learnt and the
//! postings encoded anew, one a step.
//!
//! The records are the truth: a posting may name vectors that are gone or were replaced. A search
//! compares what it fetches, and a step that rewrites a posting leaves out what is gone.
//!
//! In reading order:
//! - `config`: [`SpfreshConfig`].
//! - `postings`: [`Postings`], [`FetchLive`], and what an entry is.
//! - `index`: [`SpfreshIndex`].
//! - `centroids`: which postings a vector belongs to.
//! - `bisect`: cuts vectors in two, and in many.
//! - `build`: from many vectors at once; `update`: insertions and removals; `steps`: splits, merges
//!   and reassignments.
//! - `retrain`: new codes for vectors that have changed.
//! - `search`: answers.
//! - `stored`: what is kept in memory, as a segment.
//!
//! Owed: after each call the postings and what is in memory agree, if the owner keeps both or
//! neither; an answer holds no vector that is gone and no id twice.

mod bisect;
mod build;
mod centroids;
mod config;
mod index;
mod postings;
mod retrain;
mod search;
mod steps;
mod stored;
mod update;

pub use config::SpfreshConfig;
pub use index::SpfreshIndex;
pub use postings::{FetchLive, Postings};
pub use retrain::SpfreshCodes;

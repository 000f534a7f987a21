//! A sealed graph for speed: each node has the codes of its neighbours beside it.
//!
//! A walk through a plain graph fetches each neighbour's vector from another place in memory. Here
//! a node's row holds all a hop needs: its own vector, the numbers of 32 neighbours, and for each
//! of them a code of one bit a dimension (RaBitQ: Gao and Long 2024), of the direction in which it
//! lies. One pass over the row estimates the distances of all 32; the exact distance is computed
//! for a node when the walk comes to it (SymphonyQG: Gou et al. 2025).
//!
//! In reading order:
//! - `row`: what a node's row holds.
//! - `lists`: which 32 neighbours a node has.
//! - `walk`: from row to row.
//! - `index`: [`PackedIndex`]; `stored`: as bytes.

mod index;
mod lists;
mod row;
mod stored;
mod walk;

pub use index::PackedIndex;

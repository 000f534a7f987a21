//! Graphs that are walked by codes: the nearest by their codes are compared exactly at the end.
//!
//! In reading order:
//! - `pq_hnsw`: [`PqHnswIndex`]: a graph with vectors and product codes in memory.
//! - `stored`: its sections in a segment.
//! - `compact`: [`CompactIndex`]: codes in memory, vectors elsewhere.

mod compact;
mod pq_hnsw;
mod stored;

pub use compact::CompactIndex;
pub use pq_hnsw::{PqHnswConfig, PqHnswIndex};

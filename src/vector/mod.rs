//! Floor 4: vectors, and indexes that find the nearest ones.
//!
//! Pure and synchronous: an index is memory and arithmetic. It knows no shard, no file and no
//! clock; its owner keeps the records that are the truth, and the bytes an index is stored in.
//!
//! Words: the *distance* of two vectors is a number that is smaller the closer they are, under one
//! of three [metrics](DistanceMetric). A *graph* links each vector's *node* with near ones; a *beam*
//! is the nearest nodes a walk knows, `ef` of them at most. A *code* stands for a vector in fewer
//! bytes and gives an *estimate* of its distance; to *rerank* is to compare the nearest by their
//! estimates exactly. *Recall* is the share of the true nearest neighbours that a search returns. A
//! *segment* is an index as bytes.
//!
//! Which index:
//!
//! | | changes | bytes a vector at 384 floats | for |
//! |---|---|---|---|
//! | [`FlatIndex`] | yes | 1,970 | exact answers; up to some thousand vectors |
//! | [`HnswIndex`] | yes | 1,720 | what is fresh; up to 100,000 vectors |
//! | [`PqHnswIndex`] | yes | as above and the codes | many searches on vectors of some hundred floats |
//! | [`PackedIndex`] | sealed | 2,700 | the fastest search |
//! | [`CompactIndex`] | sealed | 341, vectors elsewhere | more vectors than memory |
//! | [`DiskHnswIndex`] | sealed | 61, the rest in pages on disk | far more vectors than memory |
//! | [`SpfreshIndex`] | yes | 60, postings and vectors elsewhere | the same, and ever new ones |
//!
//! In reading order:
//! - `metric`: [`DistanceMetric`], and which vectors are refused.
//! - `kernel`: the inner loops, for each set of instructions.
//! - `measure`: a metric and its kernels.
//! - `rows`: tables in huge pages; `ids`: from ids to slots; `parallel`: one work on some threads.
//! - `hit`: answers; `filter`: requests.
//! - `beam`: what a walk remembers.
//! - `hnsw`: [`HnswIndex`], the graph.
//! - `code`: product codes, rotations, RaBitQ, codes along the directions of most variance.
//! - `doors`: where walks through sealed graphs begin.
//! - `coded`: [`PqHnswIndex`] and [`CompactIndex`], walked by codes.
//! - `disk`: [`DiskHnswIndex`], a graph in pages on disk and codes in memory.
//! - `packed`: [`PackedIndex`], with the codes of the neighbours beside each node.
//! - `spfresh`: [`SpfreshIndex`], postings elsewhere and their centroids in memory.
//! - `flat`: [`FlatIndex`], without a graph.
//! - `text`: [`TextIndex`], words beside vectors, and one ranking out of several.
//! - `segment`: the frame of stored bytes.
//!
//! Invariants owed to the floors above:
//! - A vector with a NaN, an infinity, the wrong dimension, or no direction under cosine is an
//!   error, and changes nothing.
//! - Answers are sorted by distance, then id, and hold no id twice and none that was removed; without
//!   `distance_max` they hold `min(k, matches)` hits, with a filter as without.
//! - Every vector of an [`HnswIndex`] can be reached, and with `ef` as large as the index its answer
//!   is exact.
//! - The same calls in the same order on the same machine give the same index and the same answers,
//!   whatever the number of threads.
//! - Stored bytes are never trusted: any bytes give an index that can be used, or a typed error.

mod beam;
mod code;
mod coded;
mod disk;
mod doors;
mod filter;
mod flat;
mod hit;
mod hnsw;
mod ids;
mod kernel;
mod measure;
mod metric;
mod packed;
mod parallel;
mod rows;
mod segment;
mod spfresh;
mod text;

pub use code::pq::PqConfig;
pub use coded::{CompactIndex, PqHnswConfig, PqHnswIndex};
pub use disk::{DiskHnswConfig, DiskHnswIndex, PAGE_BYTES, PageSink, Pages};
pub use filter::{Filter, SearchRequest};
pub use flat::FlatIndex;
pub use hit::{Answer, Hit, SearchStats};
pub use hnsw::{HnswConfig, HnswIndex};
pub(crate) use ids::IdSet;
pub use metric::{DIM_MAX, DistanceMetric};
pub use packed::PackedIndex;
pub use spfresh::{FetchLive, Postings, SpfreshCodes, SpfreshConfig, SpfreshIndex};
pub use text::{Fused, TextHit, TextIndex, TextMatched, TextMatches, fuse_by_rank, words};

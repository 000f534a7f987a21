//! A graph in memory (HNSW: Malkov and Yashunin 2018): each node is linked with near ones in many
//! directions, and a search walks along the links, always from the nearest node it knows.
//!
//! In reading order:
//! - `config`: [`HnswConfig`].
//! - `graph`: the tables.
//! - `walk`: down the levels and along one; `among`: from match to match.
//! - `select`: which neighbours a node keeps.
//! - `insert`: batches of new nodes; `tree`: none is lost; `repair`: dead ones leave;
//!   `shrink`: their memory is given back.
//! - `search`: which way a search takes.
//! - `stored`: the graph's sections in a segment.
//! - `index`: [`HnswIndex`].

mod among;
mod config;
mod graph;
mod index;
mod insert;
mod repair;
mod search;
mod select;
mod shrink;
mod stored;
mod tree;
mod walk;

pub use config::HnswConfig;
pub(super) use graph::Graph;
pub use index::HnswIndex;
pub(super) use select::Choice;

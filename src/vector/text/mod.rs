//! Text beside vectors: which texts have the words of a query, and one ranking out of several.
//!
//! In reading order:
//! - `tokens`: from a text to its words.
//! - `index`: [`TextIndex`], scored by BM25.
//! - `fuse`: [`fuse_by_rank`], which needs no scores that can be compared.

mod fuse;
mod index;
mod tokens;

pub use fuse::{Fused, fuse_by_rank};
pub use index::{TextHit, TextIndex, TextMatched, TextMatches};
pub use tokens::words;

//! A sealed graph on disk: links and vectors in pages, and in memory only codes, by which a walk
//! decides what is worth reading.
//!
//! In reading order:
//! - `pages`: [`Pages`], where a segment's bytes are; the checksum of a page.
//! - `layout`: how many nodes a block of pages holds, and where their parts stand.
//! - `placement`: which nodes share a block: near ones, so that one read serves several.
//! - `lists`: which neighbours a node has on disk.
//! - `header`: the first page, and what follows from it.
//! - `writer`: from a graph to a stream of pages.
//! - `resident`: what is in memory, and how it is read back.
//! - `directory`: from ids to nodes, by pages.
//! - `walk`: from block to block.
//! - `index`: [`DiskHnswIndex`].
//!
//! Owed: bytes of pages are checked each time they are read, and whatever they say, a search ends
//! with an answer or a typed error; a search reads no page twice.

mod directory;
mod header;
mod index;
mod layout;
mod lists;
mod pages;
mod placement;
mod resident;
mod walk;
mod writer;

pub use index::{DiskHnswConfig, DiskHnswIndex};
pub use pages::{PAGE_BYTES, Pages};
pub use writer::PageSink;

//! Sstables: sorted runs on disk, written once and never changed.
//!
//! Words: a *block* is the unit that is compressed, checked, read and cached; a *restart* is a
//! place in a block where a search may begin; a *separator* tells two blocks apart.
//!
//! Files in reading order:
//! - [`mod@format`]: the file as a whole, blocks with their checksums, the footer.
//! - [`block`], `block_writer`, `block_cursor`: a data block read, written, walked.
//! - `lz4`: how blocks are compressed.
//! - [`filter`]: which user keys are surely not in the table.
//! - `index`: which block a key is in.
//! - [`properties`]: what a table says about itself.
//! - [`writer`]: [`TableWriter`], from front to back.
//! - [`table`], `table_cursor`, `read_ahead`: [`Table`], open to be read.
//! - `anatomy`, [`verify`](mod@verify), [`dump`](mod@dump): a table that may be damaged.
//!
//! Invariants owed to the tree:
//! - Every byte of a file is under a checksum; a flipped bit is an error and never a wrong answer.
//! - Nothing is allocated by a length that is not bounded by what was read.
//! - [`TableWriter::finish`] returns when the file is synced. Its name is the caller's to sync.
//! - A block is checked once, when it is read; from the cache it comes checked.

mod anatomy;
pub mod block;
mod block_cursor;
mod block_writer;
pub mod dump;
pub mod filter;
pub mod format;
mod index;
mod lz4;
pub mod properties;
mod read_ahead;
pub mod table;
mod table_cursor;
pub mod verify;
pub mod writer;

pub use block::Block;
pub use dump::{Dump, DumpItem, dump};
pub use format::Codec;
pub use properties::Properties;
pub use table::Table;
pub use table_cursor::TableCursor;
pub use verify::{VerifyReport, verify};
pub use writer::{TableInfo, TableOptions, TableWriter};

#[cfg(test)]
mod tests;

//! Floor 3: the storage engine: memtables, sstables, compaction, snapshots, iterators.
//!
//! An [`batch::WriteBatch`] is applied at a log index; the log itself is not the engine's: after
//! a restart its owner replays the batches behind [`the flushed index`](batch).
//!
//! Words: a *user key* is what the caller names; an *internal key* is a user key and a trailer
//! of sequence number and kind. A *tree* is one column family's memtables and levels. A *version*
//! is the set of sstables at one moment; the *manifest* is the history of versions on disk.
//!
//! In reading order:
//! - [`key`]: internal keys, record kinds, what stands before a value.
//! - [`batch`]: writes that happen together.
//! - [`family_change`]: families that the log creates and drops.
//! - [`cursor`]: a position in a sorted run.
//! - [`heads`]: a search among sorted keys.
//! - [`tombstone`]: range deletes, indexed by what they cover.
//! - [`dead`]: spans of keys of which none is live.
//! - [`memtable`]: the newest writes, in memory.
//! - [`sstable`]: sorted runs on disk.
//! - [`cache`]: their blocks in memory.
//! - [`stored`]: a value where it was found.
//! - [`merge`]: operators, and how operands become a value.
//! - [`options`]: the settings of an engine, a family, a read.
//! - [`manifest`]: the history of versions on disk.
//! - [`version`]: the sstables of a tree at one moment.
//! - [`iter`]: many sorted runs as one, and what a caller sees of them.
//! - [`compaction`]: fewer and deeper runs, without what nobody can read.
//! - [`engine`]: all of it together.
//! - [`check`]: the slow check of a whole database.

pub mod batch;
pub mod cache;
pub mod check;
pub mod compaction;
pub mod cursor;
pub mod dead;
pub mod engine;
pub mod family_change;
pub mod heads;
pub mod iter;
pub mod key;
pub mod manifest;
pub mod memtable;
pub mod merge;
pub mod options;
pub mod sstable;
pub mod stored;
pub mod tombstone;
pub mod version;

pub use cache::BlockCache;
pub use engine::{Engine, EngineStats, Found, Pressure, Snapshot};
pub use iter::Iter;
pub use options::{CfOptions, EngineOptions, IterOptions, ReadOptions};
pub use sstable::Codec;

//! Settings of the engine, of a family, and of one read. Values only.

use crate::base::{Error, Result, Seq};
use crate::lsm::sstable::{Codec, TableOptions};
use std::ops::Bound;
use std::path::PathBuf;

/// The most levels a tree can have.
pub const LEVELS_MAX: usize = 12;

/// Settings of one engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The folder that holds manifest and sstables. Created if absent.
    pub dir: PathBuf,
    /// Size in bytes at which a family's memtable is flushed. Default 64 MiB, 4 KiB to 4 GiB.
    pub write_buffer_bytes: u64,
    /// Bytes of all families' memtables together, those being flushed included. Above three
    /// quarters of it the largest is flushed early and writers are slowed; at all of it they stop.
    /// Default 256 MiB; at least `write_buffer_bytes`.
    pub memtable_budget_bytes: u64,
    /// Levels of a tree. Default 7, 2 to 12.
    pub levels: usize,
    /// The most bytes that the first level below 0 in use holds, unless it is the last. Default
    /// 256 MiB; at least `file_bytes`.
    pub level1_bytes: u64,
    /// How many times larger each level in use is than the one above. Default 10, 2 to 100.
    pub level_multiplier: u64,
    /// Files in level 0 at which they are compacted into the level below, if they have as many
    /// bytes as it; else at twice as many. Default 4, at least 1.
    pub l0_compact_files: usize,
    /// Files in level 0 at which writers are slowed. Default 16.
    pub l0_slow_files: usize,
    /// Files in level 0 at which writers stop. Default 32; above `l0_slow_files`.
    pub l0_stop_files: usize,
    /// Target size in bytes of an sstable below level 0. Default 32 MiB, at least 4 KiB.
    pub file_bytes: u64,
    /// How sstables are written; the codec is that of the compressed levels. Default
    /// [`TableOptions::default`].
    pub table: TableOptions,
    /// First level that is compressed. Default 0: level 0 too, which would else be most of what
    /// is written.
    pub compress_from_level: usize,
    /// Deletes, without a write between the first and the last of their keys, after which is
    /// looked for a span of keys that iterators need not walk. Default 2048, at least 1.
    pub dead_span_after: u64,
    /// Whether flushes and picked compactions are scheduled on the pool. Default true; without
    /// it they run only when asked for.
    pub background: bool,
    /// Opens without changing anything on disk; batches may be replayed into memory. Default false.
    pub read_only: bool,
}

impl EngineOptions {
    /// The defaults, for the database in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> EngineOptions {
        EngineOptions {
            dir: dir.into(),
            write_buffer_bytes: 64 << 20,
            memtable_budget_bytes: 256 << 20,
            levels: 7,
            level1_bytes: 256 << 20,
            level_multiplier: 10,
            l0_compact_files: 4,
            l0_slow_files: 16,
            l0_stop_files: 32,
            file_bytes: 32 << 20,
            table: TableOptions::default(),
            compress_from_level: 0,
            dead_span_after: 2048,
            background: true,
            read_only: false,
        }
    }

    /// The write buffers for so many bytes of memtables: one is flushed while the next is filled,
    /// and writers are not yet slowed.
    pub fn with_memtable_budget(mut self, bytes: u64) -> EngineOptions {
        self.memtable_budget_bytes = bytes.max(1 << 20);
        self.write_buffer_bytes = (self.memtable_budget_bytes / 8 * 3).min(64 << 20);
        self
    }

    /// Bytes in memtables above which they are flushed early and writers slowed.
    pub fn memtable_soft_bytes(&self) -> u64 {
        self.memtable_budget_bytes / 4 * 3
    }

    /// How sstables of a level are written.
    pub fn table_for(&self, level: usize) -> TableOptions {
        let codec = if level >= self.compress_from_level { self.table.codec } else { Codec::None };
        TableOptions { codec, ..self.table }
    }

    /// # Errors
    /// `InvalidArgument` names the option that is out of bounds.
    pub fn validate(&self) -> Result<()> {
        let checks = [
            ((4 << 10..=4 << 30).contains(&self.write_buffer_bytes), "write_buffer_bytes"),
            (self.memtable_budget_bytes >= self.write_buffer_bytes, "memtable_budget_bytes"),
            ((2..=LEVELS_MAX).contains(&self.levels), "levels"),
            (self.file_bytes >= 4 << 10, "file_bytes"),
            (self.level1_bytes >= self.file_bytes, "level1_bytes"),
            ((2..=100).contains(&self.level_multiplier), "level_multiplier"),
            (self.l0_compact_files >= 1, "l0_compact_files"),
            (self.l0_slow_files >= self.l0_compact_files, "l0_slow_files"),
            (self.l0_stop_files > self.l0_slow_files, "l0_stop_files"),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, name)) => Err(Error::invalid(format!("the option {name} is out of bounds"))),
        }
    }
}

/// Settings of one family, kept in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CfOptions {
    /// How many sequence numbers back every version stays readable, snapshot or not. Default 0:
    /// only what snapshots hold. `u64::MAX` keeps everything.
    pub retain_seqs: u64,
}

/// How a key is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// The sequence number to read at: a snapshot's, or any that is retained. `None` reads the
    /// newest that is visible.
    pub at: Option<Seq>,
    /// Values that expire at or before this Unix time in ms are absent. 0 shows them all.
    pub now_ms: u64,
    /// Whether blocks read stay in the cache. Default true.
    pub fill_cache: bool,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions { at: None, now_ms: 0, fill_cache: true }
    }
}

/// Which keys an iterator covers, and how.
#[derive(Debug, Clone)]
pub struct IterOptions {
    /// Lower bound of user keys.
    pub lower: Bound<Vec<u8>>,
    /// Upper bound of user keys.
    pub upper: Bound<Vec<u8>>,
    /// Only keys that begin with this, within the bounds. Empty for all.
    pub prefix: Vec<u8>,
    /// The sequence number to read at, as in [`ReadOptions::at`].
    pub at: Option<Seq>,
    /// As in [`ReadOptions::now_ms`].
    pub now_ms: u64,
    /// Leave values out: they read as empty, and merges are not folded.
    pub keys_only: bool,
    /// Whether blocks read stay in the cache. Default true; turn it off for long scans.
    pub fill_cache: bool,
}

impl Default for IterOptions {
    fn default() -> IterOptions {
        IterOptions {
            lower: Bound::Unbounded,
            upper: Bound::Unbounded,
            prefix: Vec::new(),
            at: None,
            now_ms: 0,
            keys_only: false,
            fill_cache: true,
        }
    }
}

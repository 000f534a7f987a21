//! Figures of the engine.

use crate::lsm::cache::CacheStats;
use crate::lsm::compaction::pick::debt_bytes;
use crate::lsm::engine::{Engine, lock};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counted since open.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) gets: AtomicU64,
    pub(super) iterators: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) flush_bytes_written: AtomicU64,
    pub(super) compactions: AtomicU64,
    pub(super) moves: AtomicU64,
    pub(super) compaction_bytes_read: AtomicU64,
    pub(super) compaction_bytes_written: AtomicU64,
    pub(super) stall_us: AtomicU64,
}

/// One level, all families together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LevelStats {
    /// Files.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// Figures of the engine. Counters are since open.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EngineStats {
    /// Families.
    pub families: u64,
    /// Bytes of records in memtables.
    pub memtable_bytes: u64,
    /// Memtables that wait to be flushed.
    pub memtables_sealed: u64,
    /// Bytes of sstables.
    pub table_bytes: u64,
    /// Bytes of indexes, filters and range deletes held in memory.
    pub pinned_bytes: u64,
    /// Levels from 0.
    pub levels: Vec<LevelStats>,
    /// Bytes that wait for compaction.
    pub compaction_debt_bytes: u64,
    /// The block cache, which other engines may share.
    pub cache: CacheStats,
    /// Snapshots held.
    pub snapshots: u64,
    /// Point reads.
    pub gets: u64,
    /// Iterators opened.
    pub iterators: u64,
    /// Flushes done.
    pub flushes: u64,
    /// Bytes of sstables that flushes wrote.
    pub flush_bytes_written: u64,
    /// Compactions done, moves left out.
    pub compactions: u64,
    /// Files moved a level down without being read.
    pub moves: u64,
    /// Bytes of sstables that compactions read.
    pub compaction_bytes_read: u64,
    /// Bytes of sstables that compactions wrote.
    pub compaction_bytes_written: u64,
    /// Bytes written to manifests.
    pub manifest_bytes_written: u64,
    /// Microseconds that writers waited for room.
    pub stall_us: u64,
    /// Microseconds that a writer is asked to wait now; `u64::MAX` to stop.
    pub delay_us: u64,
}

impl EngineStats {
    /// Bytes written to sstables for each byte that flushes wrote:
    /// (flush bytes written + compaction bytes written) / flush bytes written; 0 before a flush.
    pub fn write_amplification(&self) -> f64 {
        match self.flush_bytes_written {
            0 => 0.0,
            flushed => (flushed + self.compaction_bytes_written) as f64 / flushed as f64,
        }
    }
}

impl Engine {
    /// Figures of the engine now.
    pub fn stats(&self) -> EngineStats {
        let inner = &self.inner;
        let mut stats = EngineStats {
            levels: vec![LevelStats::default(); inner.options.levels],
            cache: inner.cache.stats(),
            snapshots: lock(&inner.snapshots).values().map(|n| *n as u64).sum(),
            manifest_bytes_written: lock(&inner.manifest).bytes_written(),
            delay_us: inner.pressure.load(Ordering::Relaxed),
            ..EngineStats::default()
        };
        for tree in inner.all_trees() {
            let view = tree.view();
            stats.families += 1;
            stats.memtable_bytes += view.memtable_bytes();
            stats.memtables_sealed += view.sealed.len() as u64;
            stats.compaction_debt_bytes += debt_bytes(&view.version, &inner.options);
            for (level, file) in view.version.files() {
                if stats.levels.len() <= level {
                    stats.levels.resize(level + 1, LevelStats::default());
                }
                stats.levels[level].files += 1;
                stats.levels[level].bytes += file.meta.size;
                stats.table_bytes += file.meta.size;
                stats.pinned_bytes += file.table().pinned_bytes() as u64;
            }
        }
        let c = &inner.counters;
        for (figure, counter) in [
            (&mut stats.gets, &c.gets),
            (&mut stats.iterators, &c.iterators),
            (&mut stats.flushes, &c.flushes),
            (&mut stats.flush_bytes_written, &c.flush_bytes_written),
            (&mut stats.compactions, &c.compactions),
            (&mut stats.moves, &c.moves),
            (&mut stats.compaction_bytes_read, &c.compaction_bytes_read),
            (&mut stats.compaction_bytes_written, &c.compaction_bytes_written),
            (&mut stats.stall_us, &c.stall_us),
        ] {
            *figure = counter.load(Ordering::Relaxed);
        }
        stats
    }
}

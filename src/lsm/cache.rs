//! Data blocks in memory, shared by all tables of a process.
//!
//! A block is keyed by its table's own number, drawn when the table is opened and never used
//! again, and its offset. It enters checked and uncompressed, so a hit checks nothing.

use crate::lsm::sstable::Block;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const COUNTER_STRIPES: usize = 16;

/// Where a block is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockKey {
    /// The table, by [`BlockCache::new_table`].
    pub table: u64,
    /// Offset of the block in its file.
    pub offset: u64,
}

/// A cache of blocks, bounded by the bytes they hold. All methods may be called from many threads.
pub struct BlockCache {
    blocks: Cache<BlockKey, Arc<Block>, ByBytes>,
    next_table: AtomicU64,
    counters: [Counter; COUNTER_STRIPES],
}

/// Apart from one another, so that threads do not fight for a cache line.
#[derive(Default)]
#[repr(align(128))]
struct Counter {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What a cache has done and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Lookups that found their block.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Blocks held.
    pub blocks: u64,
    /// Bytes held.
    pub bytes: u64,
    /// The most bytes it may hold.
    pub capacity_bytes: u64,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<BlockKey, Arc<Block>> for ByBytes {
    fn weight(&self, _key: &BlockKey, block: &Arc<Block>) -> u64 {
        block.bytes() as u64
    }
}

impl BlockCache {
    /// A cache that holds at most `capacity_bytes` of blocks; with 0 it holds none.
    pub fn new(capacity_bytes: u64) -> Arc<BlockCache> {
        // Blocks are of 4 KiB mostly; the estimate sizes the tables, not the contents.
        let blocks_estimate = (capacity_bytes / 4096).clamp(16, 1 << 22) as usize;
        Arc::new(BlockCache {
            blocks: Cache::with_weighter(blocks_estimate, capacity_bytes, ByBytes),
            next_table: AtomicU64::new(1),
            counters: Default::default(),
        })
    }

    /// A number for a table that is being opened.
    pub fn new_table(&self) -> u64 {
        self.next_table.fetch_add(1, Ordering::Relaxed)
    }

    /// The block, if it is held.
    pub fn get(&self, key: BlockKey) -> Option<Arc<Block>> {
        let found = self.blocks.get(&key);
        let counter = &self.counters[(key.offset >> 12) as usize % COUNTER_STRIPES];
        let count = if found.is_some() { &counter.hits } else { &counter.misses };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Takes a block in; others may have to go. One too large to hold is not taken.
    pub fn insert(&self, key: BlockKey, block: Arc<Block>) {
        self.blocks.insert(key, block);
    }

    /// Lets go of a block.
    pub fn remove(&self, key: BlockKey) {
        self.blocks.remove(&key);
    }

    /// What the cache has done and holds.
    pub fn stats(&self) -> CacheStats {
        let sum = |of: fn(&Counter) -> &AtomicU64| {
            self.counters.iter().map(|c| of(c).load(Ordering::Relaxed)).sum()
        };
        CacheStats {
            hits: sum(|c| &c.hits),
            misses: sum(|c| &c.misses),
            blocks: self.blocks.len() as u64,
            bytes: self.blocks.weight(),
            capacity_bytes: self.blocks.capacity(),
        }
    }
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stats().fmt(f)
    }
}

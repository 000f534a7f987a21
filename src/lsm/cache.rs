//! Data blocks in memory, shared by all tables of a process.
//!
//! A block is keyed by its table's own number, drawn when the table is opened and never used
//! again, and its offset. It enters checked and uncompressed, so a hit checks nothing.

use crate::lsm::sstable::Block;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const COUNTER_STRIPES: usize = 16;

/// Where a block is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockKey {
    /// The table, by [`BlockCache::new_table`].
    pub table: u64,
    /// Offset of the block in its file.
    pub offset: u64,
}

/// A cache of blocks, bounded by the bytes they hold. All methods may be called from many threads.
pub struct BlockCache {
    blocks: Cache<BlockKey, Arc<Block>, ByBytes, Spread>,
    capacity_bytes: u64,
    /// Bytes of the capacity that open tables take for their indexes and filters.
    pinned_bytes: Mutex<u64>,
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
    /// The most bytes it may hold, without those pinned.
    pub capacity_bytes: u64,
}

impl Hash for BlockKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The factor is odd: no two keys of one table, or of one offset, give the same number.
        state.write_u64(self.offset.wrapping_add(self.table.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    }
}

/// Hashes the one number of a [`BlockKey`]: nobody outside chooses it, so mixing it well is all
/// that is needed, at a tenth of the standard hasher's price.
#[derive(Debug, Clone, Copy, Default)]
struct Spread(u64);

impl BuildHasher for Spread {
    type Hasher = Spread;

    fn build_hasher(&self) -> Spread {
        Spread(0)
    }
}

impl Hasher for Spread {
    fn write_u64(&mut self, n: u64) {
        let product = u128::from(self.0 ^ n ^ 0x5851_F42D_4C95_7F2D) * 0xD6E8_FEB8_6659_FD93;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u64(u64::from(*b)));
    }

    fn finish(&self) -> u64 {
        self.0
    }
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
            blocks: Cache::with(
                blocks_estimate,
                capacity_bytes,
                ByBytes,
                Spread::default(),
                DefaultLifecycle::default(),
            ),
            capacity_bytes,
            pinned_bytes: Mutex::new(0),
            next_table: AtomicU64::new(1),
            counters: Default::default(),
        })
    }

    /// Takes bytes off the capacity, for what an open table holds beside its blocks. An eighth of
    /// the capacity is blocks' however much that is.
    pub fn pin(&self, bytes: u64) {
        self.change_pinned(|pinned| pinned + bytes);
    }

    /// Gives back what [`BlockCache::pin`] took.
    pub fn unpin(&self, bytes: u64) {
        self.change_pinned(|pinned| pinned.saturating_sub(bytes));
    }

    fn change_pinned(&self, change: impl FnOnce(u64) -> u64) {
        let mut pinned = self.pinned_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *pinned = change(*pinned);
        let left = self.capacity_bytes.saturating_sub(*pinned).max(self.capacity_bytes / 8);
        if left != self.blocks.capacity() {
            self.blocks.set_capacity(left);
        }
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

    /// The block, if it is held, without counting the lookup or holding the block any longer for
    /// it: for reads that will not come again.
    pub fn peek(&self, key: BlockKey) -> Option<Arc<Block>> {
        self.blocks.peek(&key)
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

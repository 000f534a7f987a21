//! Data blocks in memory, within one bound for all tables of a process.
//!
//! Files in reading order:
//! - this one: [`BlockCache`], and [`TableBlocks`], a slot for each block of a table.
//! - `queue`: which block goes when one must.
//!
//! A table knows its blocks by number, so finding one is a load from its slot, which takes no lock
//! and counts no reference. A block enters checked and uncompressed: a hit checks
//! nothing.
//!
//! Invariants owed to the tables:
//! - A block that was found stays as it is until the finder lets go of it.
//! - The blocks held take no more than the capacity, but for the one just entering.

mod queue;

use crate::lsm::sstable::Block;
use arc_swap::{ArcSwapOption, Guard};
use queue::{Entry, Queue};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const COUNTER_STRIPES: usize = 16;

/// A cache of blocks, bounded by the bytes they hold. All methods may be called from many threads.
pub struct BlockCache {
    queue: Mutex<Queue>,
    /// Bytes that blocks may take now.
    room_bytes: AtomicU64,
    capacity_bytes: u64,
    /// Bytes of the capacity that open tables take for their indexes and filters.
    pinned_bytes: Mutex<u64>,
    held_blocks: AtomicU64,
    held_bytes: AtomicU64,
    next_table: AtomicU64,
    /// Entries of the queue whose block is gone, about.
    stale: AtomicUsize,
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
    /// Lookups that found their block. Some may not be counted where threads look at once.
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

/// The blocks of one open table that are in the cache. When it is dropped they go.
pub struct TableBlocks {
    cache: Arc<BlockCache>,
    /// Drawn for it, and never again.
    id: u64,
    slots: Box<[ArcSwapOption<Block>]>,
}

/// A block that was found, held for a moment: a thread holds few of them well.
pub type Held = Guard<Option<Arc<Block>>>;

impl BlockCache {
    /// A cache that holds at most `capacity_bytes` of blocks; with 0 it holds none.
    pub fn new(capacity_bytes: u64) -> Arc<BlockCache> {
        Arc::new(BlockCache {
            queue: Mutex::new(Queue::new(capacity_bytes)),
            room_bytes: AtomicU64::new(capacity_bytes),
            capacity_bytes,
            pinned_bytes: Mutex::new(0),
            held_blocks: AtomicU64::new(0),
            held_bytes: AtomicU64::new(0),
            next_table: AtomicU64::new(1),
            stale: AtomicUsize::new(0),
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
        if self.room_bytes.swap(left, Ordering::Relaxed) > left {
            self.make_room(&mut self.queue());
        }
    }

    /// What the cache has done and holds.
    pub fn stats(&self) -> CacheStats {
        let sum = |of: fn(&Counter) -> &AtomicU64| {
            self.counters.iter().map(|c| of(c).load(Ordering::Relaxed)).sum()
        };
        CacheStats {
            hits: sum(|c| &c.hits),
            misses: sum(|c| &c.misses),
            blocks: self.held_blocks.load(Ordering::Relaxed),
            bytes: self.held_bytes.load(Ordering::Relaxed),
            capacity_bytes: self.room_bytes.load(Ordering::Relaxed),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets blocks go until those held fit.
    fn make_room(&self, queue: &mut Queue) {
        while self.held_bytes.load(Ordering::Relaxed) > self.room_bytes.load(Ordering::Relaxed) {
            if !queue.let_one_go() {
                return;
            }
        }
    }
}

impl TableBlocks {
    /// For a table of `blocks` blocks.
    pub fn new(cache: Arc<BlockCache>, blocks: usize) -> Arc<TableBlocks> {
        let id = cache.next_table.fetch_add(1, Ordering::Relaxed);
        let slots = (0..blocks).map(|_| ArcSwapOption::empty()).collect();
        Arc::new(TableBlocks { cache, id, slots })
    }

    /// The cache they are in.
    pub fn cache(&self) -> &Arc<BlockCache> {
        &self.cache
    }

    /// Memory of the slots, in bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// Block `i`, if it is held. REQUIRES: `i` is below the number of blocks.
    #[inline]
    pub fn get(&self, i: usize) -> Held {
        let found = self.slots[i].load();
        let counter = &self.cache.counters[i % COUNTER_STRIPES];
        let count = if found.is_some() { &counter.hits } else { &counter.misses };
        // Not one atomic addition, which would wait for whatever was written before it.
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        if let Some(block) = &*found {
            block.note_read();
        }
        found
    }

    /// Block `i`, if it is held, without counting the lookup or holding the block any longer for
    /// it: for reads that will not come again.
    pub fn peek(&self, i: usize) -> Option<Arc<Block>> {
        self.slots[i].load_full()
    }

    /// Takes block `i` in; others may have to go. One too large to hold is not taken, nor a second
    /// one.
    pub fn insert(self: &Arc<TableBlocks>, i: usize, block: &Arc<Block>) {
        let (cache, bytes) = (&*self.cache, block.bytes() as u64);
        if bytes > cache.room_bytes.load(Ordering::Relaxed) {
            return;
        }
        // First, for it may be let go as soon as it is there.
        cache.held_blocks.fetch_add(1, Ordering::Relaxed);
        cache.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        let before = self.slots[i].compare_and_swap(&None::<Arc<Block>>, Some(Arc::clone(block)));
        if before.is_some() {
            cache.held_blocks.fetch_sub(1, Ordering::Relaxed);
            cache.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return;
        }
        let mut queue = cache.queue();
        queue.push(Entry::new(self, i, bytes));
        if cache.stale.load(Ordering::Relaxed) > queue.stale_max() {
            cache.stale.store(0, Ordering::Relaxed);
            queue.forget_stale();
        }
        cache.make_room(&mut queue);
    }

    /// Lets all blocks go.
    pub fn evict(&self) {
        let gone = (0..self.slots.len()).filter(|i| self.let_go(*i)).count();
        // The queue is told later: this may run under its lock, where the last holder lets go.
        self.cache.stale.fetch_add(gone, Ordering::Relaxed);
    }

    /// Lets block `i` go; gives whether it was held.
    fn let_go(&self, i: usize) -> bool {
        let Some(block) = self.slots[i].swap(None) else { return false };
        self.cache.held_blocks.fetch_sub(1, Ordering::Relaxed);
        self.cache.held_bytes.fetch_sub(block.bytes() as u64, Ordering::Relaxed);
        true
    }
}

impl Drop for TableBlocks {
    fn drop(&mut self) {
        self.evict();
    }
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stats().fmt(f)
    }
}

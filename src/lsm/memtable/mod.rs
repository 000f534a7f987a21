//! Memtables: the newest writes of a tree, in memory and in order.
//!
//! Files in reading order:
//! - [`arena`]: memory in large chunks, pooled across memtables ([`ArenaPool`]).
//! - `node`: one record in one piece of arena memory.
//! - `skiplist`: the order; one writer at a time, readers without locks.
//! - `samples`: the writer's own table of where an insert goes.
//! - `hash_index`: from a user key to its newest record, for point reads.
//! - `loading`: how a replayed log is put in order all at once.
//! - `cursor`: a walk over a memtable it keeps alive.
//!
//! Invariants owed to the tree:
//! - One writer at a time: [`Memtable::insert`] takes the writer's lock, and a shard applies its
//!   batches in order anyhow, so the lock is free. Readers never wait for it.
//! - A record is seen by readers that start after its insert returned. The owner publishes a
//!   sequence number only then, so a reader at a published one misses nothing.
//! - An insert allocates nothing of its own: memory comes by the chunk.

pub mod arena;
mod cursor;
mod hash_index;
mod loading;
mod node;
mod samples;
mod skiplist;

pub use arena::ArenaPool;
pub use cursor::MemtableCursor;

use crate::base::Seq;
use crate::env::SpinGuard;
use crate::lsm::batch::{Counts, Op};
use crate::lsm::key::{Kind, trailer};
use crate::lsm::tombstone::{RangeDeletes, RangeTombstone};
use skiplist::{ListWriter, SkipList, Target};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use xxhash_rust::xxh3::xxh3_64;

/// Records in order, added to by one writer and read by many. Share it in an `Arc`.
pub struct Memtable {
    list: SkipList,
    range_deletes: RwLock<RangeDeletes>,
    has_range_deletes: AtomicBool,
    bytes: AtomicUsize,
    entries: AtomicUsize,
    counts: CountsSum,
}

#[derive(Default)]
struct CountsSum {
    keys: AtomicI64,
    expires: AtomicI64,
    inexact: AtomicBool,
}

/// How a memtable's records change the family's counts, all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountsDelta {
    /// Live keys.
    pub keys: i64,
    /// Live keys with an expiry.
    pub expires: i64,
    /// Whether every record said how it changes the counts.
    pub exact: bool,
}

impl Memtable {
    /// An empty memtable that takes its memory from `pool`.
    pub fn new(pool: &ArenaPool) -> Memtable {
        Memtable {
            list: SkipList::new(pool),
            range_deletes: RwLock::default(),
            has_range_deletes: AtomicBool::new(false),
            bytes: AtomicUsize::new(0),
            entries: AtomicUsize::new(0),
            counts: CountsSum::default(),
        }
    }

    /// Adds the record of one operation; `op.cf` is the caller's affair. A record that is there
    /// already (same key, sequence number and kind) is left as it is and not counted again. Gives
    /// the bytes that the memtable has grown by.
    pub fn insert(&self, op: &Op<'_>) -> usize {
        self.inserting().insert(op)
    }

    /// The right to insert, for many records: taking it waits until the processor has written what
    /// was written before, which for each record would cost more than the record.
    pub fn inserting(&self) -> Inserting<'_> {
        Inserting { memtable: self, writer: self.list.writer() }
    }

    // Inlined, and parts handed on by value: an operation that is written to memory and read back
    // in other pieces waits for all the stores to cold memory that came before it.
    #[inline(always)]
    fn insert_by(&self, writer: &mut ListWriter, op: &Op<'_>) -> usize {
        let added = if op.kind == Kind::RangeDelete {
            self.insert_range_delete(RangeTombstone::new(op.key, op.value, op.seq))
        } else {
            let trailer = trailer(op.seq, op.kind);
            self.list.insert(writer, op.key, trailer, op.value, hash(op.key))
        };
        if let Some(bytes) = added {
            // Added up by the writer alone, under its lock: no atomic addition is needed.
            self.bytes.store(self.bytes() + bytes, Ordering::Relaxed);
            self.entries.store(self.entries() + 1, Ordering::Relaxed);
            self.counts.add(op);
        }
        added.unwrap_or(0)
    }

    /// Has records be put in order all at once, for a log that is replayed: between this and
    /// [`Memtable::finish_loading`] nobody finds them. REQUIRES: it is empty.
    pub fn begin_loading(&self) {
        self.list.begin_loading();
    }

    /// Whether it is being loaded, so that not finding a record means nothing.
    pub fn is_loading(&self) -> bool {
        self.list.is_loading()
    }

    /// Puts in order what was loaded. Nothing to do if nothing was.
    pub fn finish_loading(&self) {
        self.list.finish_loading();
    }

    fn insert_range_delete(&self, tombstone: RangeTombstone) -> Option<usize> {
        let mut all = self.range_deletes.write().unwrap_or_else(PoisonError::into_inner);
        // A sequence number names one operation: what covers the start at it is this tombstone.
        let present = all.covering_seq(&tombstone.start, tombstone.seq);
        if tombstone.is_empty() || present == Some(tombstone.seq) {
            return None;
        }
        // What the index over the tombstones takes besides is bounded by their logarithm.
        let bytes = 2 * tombstone.bytes();
        all.add(tombstone);
        self.has_range_deletes.store(true, Ordering::Release);
        Some(bytes)
    }

    /// Shows `visit` the versions of `user_key` not newer than `at`, newest first, until it
    /// returns false; gives whether it never did. Range deletes are not looked at.
    pub fn get(
        &self,
        user_key: &[u8],
        at: Seq,
        visit: &mut dyn FnMut(Seq, Kind, &[u8]) -> bool,
    ) -> bool {
        let Some(newest) = self.list.newest(hash(user_key), user_key) else {
            return true;
        };
        let bound = trailer(at, Kind::MAX);
        // Of a key with many versions an old one is found faster through the levels.
        let mut node = match newest.trailer() <= bound {
            true => Some(newest),
            false => self.list.seek(&Target::new(user_key, bound)),
        };
        while let Some(found) = node.filter(|n| n.user_key() == user_key) {
            let trailer = found.trailer();
            // Only kinds given by an `Op` are ever stored.
            let kind = Kind::from_u8(trailer as u8).unwrap_or(Kind::Delete);
            if !visit(Seq(trailer >> 8), kind, found.value()) {
                return false;
            }
            node = self.list.next(found);
        }
        true
    }

    /// A cursor over the point records. It keeps the memtable alive, and sees records added
    /// while it lives.
    pub fn cursor(self: &Arc<Self>) -> MemtableCursor {
        MemtableCursor::new(Arc::clone(self))
    }

    /// The range deletes so far.
    pub fn range_deletes(&self) -> RangeDeletes {
        if !self.has_range_deletes.load(Ordering::Acquire) {
            return RangeDeletes::default();
        }
        self.range_deletes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest range delete not newer than `at` that covers `user_key`. Costs one load where
    /// there are none.
    pub fn covering_seq(&self, user_key: &[u8], at: Seq) -> Option<Seq> {
        if !self.has_range_deletes.load(Ordering::Acquire) {
            return None;
        }
        let all = self.range_deletes.read().unwrap_or_else(PoisonError::into_inner);
        all.covering_seq(user_key, at)
    }

    /// Memory its records take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Records, range deletes included.
    pub fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.entries() == 0
    }

    /// How its records change the family's counts.
    pub fn counts(&self) -> CountsDelta {
        CountsDelta {
            keys: self.counts.keys.load(Ordering::Relaxed),
            expires: self.counts.expires.load(Ordering::Relaxed),
            exact: !self.counts.inexact.load(Ordering::Relaxed),
        }
    }
}

/// A memtable whose writer the holder is.
pub struct Inserting<'a> {
    memtable: &'a Memtable,
    writer: SpinGuard<'a, ListWriter>,
}

impl Inserting<'_> {
    /// As [`Memtable::insert`].
    #[inline(always)]
    pub fn insert(&mut self, op: &Op<'_>) -> usize {
        self.memtable.insert_by(&mut self.writer, op)
    }
}

impl std::fmt::Debug for Memtable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memtable({} entries, {} bytes)", self.entries(), self.bytes())
    }
}

impl CountsSum {
    fn add(&self, op: &Op<'_>) {
        let Counts::Change { keys, expires } = op.counts else {
            if !self.inexact.load(Ordering::Relaxed) {
                self.inexact.store(true, Ordering::Relaxed);
            }
            return;
        };
        let (gone, expires_gone) = op.range;
        let keys = i64::from(keys) - gone.min(i64::MAX as u64) as i64;
        let expires = i64::from(expires) - expires_gone.min(i64::MAX as u64) as i64;
        if keys != 0 {
            self.keys.fetch_add(keys, Ordering::Relaxed);
        }
        if expires != 0 {
            self.expires.fetch_add(expires, Ordering::Relaxed);
        }
    }
}

fn hash(user_key: &[u8]) -> u32 {
    xxh3_64(user_key) as u32
}

#[cfg(test)]
mod tests;

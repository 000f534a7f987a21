//! What pending batches will change, by key.
//!
//! At `always`, and under Raft, a batch is placed some time before it is committed and applied.
//! Later evaluations must see it (or a counter would be read twice), so each pending write of a
//! key is kept here from placing to applying. Range deletes are not: whoever places one holds
//! every latch until it is applied.

use crate::base::{CfId, Seq};
use crate::lsm::batch::BatchView;
use crate::lsm::key::{Kind, Meta, split_value};
use crate::shard::two_phase::locks::concerns;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One pending write of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pending {
    /// A value.
    Put(Bytes, Meta),
    /// No value.
    Delete,
    /// An operand, with its operator's number before it.
    Merge(Bytes),
}

type Keys = HashMap<(CfId, Bytes), VecDeque<(Seq, Pending)>>;

/// Pending writes by key, oldest first.
#[derive(Default)]
pub(crate) struct Overlay {
    keys: Mutex<Keys>,
    batches: AtomicUsize,
    /// Those of them that change what transactions over several shards have locked.
    locking: AtomicUsize,
}

impl Overlay {
    /// Whether nothing is pending. A batch placed before the call and not yet applied makes it
    /// false.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.load(Ordering::Acquire) == 0
    }

    /// Whether a key may be locked, or unlocked, by what is pending.
    pub(crate) fn has_locks(&self) -> bool {
        self.locking.load(Ordering::Acquire) != 0
    }

    /// Adds a placed batch.
    pub(crate) fn add(&self, batch: &BatchView<'_>) {
        let mut keys = self.lock();
        self.batches.fetch_add(1, Ordering::Release);
        if concerns(batch) {
            self.locking.fetch_add(1, Ordering::Release);
        }
        for op in batch.ops() {
            let pending = match op.kind {
                Kind::Put | Kind::PutMeta => match split_value(op.kind, op.value) {
                    Some((meta, value)) => Pending::Put(Bytes::copy_from_slice(value), meta),
                    // A batch is checked whole when it is read.
                    None => continue,
                },
                Kind::Delete => Pending::Delete,
                Kind::Merge => Pending::Merge(Bytes::copy_from_slice(op.value)),
                Kind::RangeDelete => continue,
            };
            let key = (op.cf, Bytes::copy_from_slice(op.key));
            keys.entry(key).or_default().push_back((op.seq, pending));
        }
    }

    /// Takes out a batch that has been applied, or that never will be.
    pub(crate) fn remove(&self, batch: &BatchView<'_>) {
        let mut keys = self.lock();
        for op in batch.ops() {
            let key = (op.cf, Bytes::copy_from_slice(op.key));
            if let Some(writes) = keys.get_mut(&key) {
                // They go in the order in which they came, but for those that never are applied.
                match writes.front() {
                    Some((seq, _)) if *seq == op.seq => _ = writes.pop_front(),
                    _ => writes.retain(|(seq, _)| *seq != op.seq),
                }
                if writes.is_empty() {
                    keys.remove(&key);
                }
            }
        }
        self.batches.fetch_sub(1, Ordering::Release);
        if concerns(batch) {
            self.locking.fetch_sub(1, Ordering::Release);
        }
    }

    /// The pending writes of a key, newest first, as far as they count: up to the first that is no
    /// merge.
    pub(crate) fn of(&self, cf: CfId, key: &[u8]) -> Vec<(Seq, Pending)> {
        if self.is_empty() {
            return Vec::new();
        }
        let keys = self.lock();
        let Some(writes) = keys.get(&(cf, Bytes::copy_from_slice(key))) else { return Vec::new() };
        let merges =
            writes.iter().rev().take_while(|(_, w)| matches!(w, Pending::Merge(_))).count();
        writes.iter().rev().take(merges + 1).cloned().collect()
    }

    /// The oldest pending write of a key.
    pub(crate) fn oldest_of(&self, cf: CfId, key: &[u8]) -> Option<Seq> {
        let keys = self.lock();
        let writes = keys.get(&(cf, Bytes::copy_from_slice(key)))?;
        writes.front().map(|(seq, _)| *seq)
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
use std::collections::hash_map::Entry;
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

/// Families that are kept though nothing of them is pending: families come and go.
const FAMILIES_KEPT: usize = 16;
/// Bytes of batches that may be kept for a key that is cut from them.
const KEPT_MAX: usize = 64 << 10;

/// The pending writes of a key; mostly one.
struct Writes {
    oldest: (Seq, Pending),
    newer: VecDeque<(Seq, Pending)>,
}

/// The keys of each family that have some.
type Keys = Vec<(CfId, HashMap<Bytes, Writes>)>;

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

    /// Adds a placed batch, which is a part of `bytes`: these are kept as long as it is pending, and
    /// small ones as long as any write of their keys is.
    pub(crate) fn add(&self, batch: &BatchView<'_>, bytes: &Bytes) {
        let mut keys = self.lock();
        self.batches.fetch_add(1, Ordering::Release);
        if concerns(batch) {
            self.locking.fetch_add(1, Ordering::Release);
        }
        for op in batch.ops() {
            let pending = match op.kind {
                Kind::Put | Kind::PutMeta => match split_value(op.kind, op.value) {
                    Some((meta, value)) => Pending::Put(bytes.slice_ref(value), meta),
                    // A batch is checked whole when it is read.
                    None => continue,
                },
                Kind::Delete => Pending::Delete,
                Kind::Merge => Pending::Merge(bytes.slice_ref(op.value)),
                Kind::RangeDelete => continue,
            };
            let key = match bytes.len() > KEPT_MAX {
                true => Bytes::copy_from_slice(op.key),
                false => bytes.slice_ref(op.key),
            };
            match of_family(&mut keys, op.cf).entry(key) {
                Entry::Vacant(vacant) => {
                    let newer = VecDeque::new();
                    vacant.insert(Writes { oldest: (op.seq, pending), newer });
                }
                Entry::Occupied(mut writes) => {
                    writes.get_mut().newer.push_back((op.seq, pending));
                }
            }
        }
    }

    /// Takes out a batch that has been applied, or that never will be.
    pub(crate) fn remove(&self, batch: &BatchView<'_>) {
        let mut keys = self.lock();
        for op in batch.ops() {
            let family = of_family(&mut keys, op.cf);
            let Some(writes) = family.get_mut(op.key) else { continue };
            // They go in the order in which they came, but for those that never are applied.
            if writes.oldest.0 != op.seq {
                writes.newer.retain(|(seq, _)| *seq != op.seq);
            } else if let Some(next) = writes.newer.pop_front() {
                writes.oldest = next;
            } else {
                family.remove(op.key);
            }
        }
        if keys.len() > FAMILIES_KEPT {
            keys.retain(|(_, writes)| !writes.is_empty());
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
        let Some(writes) = find(&keys, cf, key) else { return Vec::new() };
        let all = || writes.newer.iter().rev().chain([&writes.oldest]);
        let merges = all().take_while(|(_, w)| matches!(w, Pending::Merge(_))).count();
        all().take(merges + 1).cloned().collect()
    }

    /// The oldest pending write of a key.
    pub(crate) fn oldest_of(&self, cf: CfId, key: &[u8]) -> Option<Seq> {
        find(&self.lock(), cf, key).map(|writes| writes.oldest.0)
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys of a family; there are few families.
fn of_family(keys: &mut Keys, cf: CfId) -> &mut HashMap<Bytes, Writes> {
    let at = keys.iter().position(|(family, _)| *family == cf).unwrap_or_else(|| {
        keys.push((cf, HashMap::new()));
        keys.len() - 1
    });
    &mut keys[at].1
}

fn find<'k>(keys: &'k Keys, cf: CfId, key: &[u8]) -> Option<&'k Writes> {
    keys.iter().find(|(family, _)| *family == cf)?.1.get(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsm::batch::WriteBatch;
    use crate::op::kv::MergeOp;

    /// A batch of one put, or of one merge, of key `k` of a family, placed.
    fn batch(cf: u32, seq: u64, merges: bool) -> WriteBatch {
        let mut batch = WriteBatch::new();
        match merges {
            true => batch.merge_with(
                CfId(cf),
                b"k",
                MergeOp::Append,
                b"+",
                crate::lsm::batch::Counts::Unknown,
            ),
            false => batch.put_cf(CfId(cf), b"k", &seq.to_le_bytes()),
        }
        batch.place(Seq(seq), 1);
        batch
    }

    fn add(overlay: &Overlay, batch: &WriteBatch) {
        let bytes = Bytes::copy_from_slice(batch.bytes());
        overlay.add(&batch.view().within(&bytes), &bytes);
    }

    fn seqs(overlay: &Overlay) -> Vec<u64> {
        overlay.of(CfId(0), b"k").iter().map(|(seq, _)| seq.0).collect()
    }

    #[test]
    fn pending_writes_of_a_key_go_in_any_order() {
        let overlay = Overlay::default();
        let all: Vec<WriteBatch> = (1..=4).map(|seq| batch(0, seq, seq != 2)).collect();
        all.iter().for_each(|batch| add(&overlay, batch));
        assert_eq!(seqs(&overlay), [4, 3, 2], "merges down to the first that is none");
        assert_eq!(overlay.oldest_of(CfId(0), b"k"), Some(Seq(1)));
        overlay.remove(&all[2].view());
        assert_eq!(seqs(&overlay), [4, 2]);
        overlay.remove(&all[0].view());
        assert_eq!(overlay.oldest_of(CfId(0), b"k"), Some(Seq(2)));
        overlay.remove(&all[1].view());
        assert_eq!(seqs(&overlay), [4]);
        overlay.remove(&all[3].view());
        assert!(seqs(&overlay).is_empty() && overlay.is_empty());
    }

    #[test]
    fn families_that_come_and_go_leave_nothing() {
        let overlay = Overlay::default();
        for cf in 0..100 {
            let one = batch(cf, u64::from(cf) + 1, false);
            add(&overlay, &one);
            overlay.remove(&one.view());
        }
        assert!(overlay.lock().len() <= FAMILIES_KEPT);
    }
}

//! Sequence numbers that are kept readable.

use crate::base::Seq;
use crate::lsm::compaction::Readers;
use crate::lsm::engine::tree::Tree;
use crate::lsm::engine::{Engine, Inner, lock};
use std::sync::Arc;

/// Keeps what was visible at one moment readable, in all families, until it is dropped.
pub struct Snapshot {
    inner: Arc<Inner>,
    seq: Seq,
}

impl Snapshot {
    /// The sequence number to read at.
    pub fn seq(&self) -> Seq {
        self.seq
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let mut all = lock(&self.inner.snapshots);
        if let Some(count) = all.get_mut(&self.seq) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.seq);
            }
        }
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({})", self.seq)
    }
}

impl Engine {
    /// A snapshot of what is visible now. Cheap; one that lives long keeps old versions on disk.
    pub fn snapshot(&self) -> Snapshot {
        let mut all = lock(&self.inner.snapshots);
        // Read under the lock, so that no compaction sees the number without the snapshot.
        let seq = self.inner.visible_seq();
        *all.entry(seq).or_default() += 1;
        drop(all);
        Snapshot { inner: self.inner.clone(), seq }
    }
}

impl Inner {
    /// Who may read old versions of a family from now on.
    pub(super) fn readers(&self, tree: &Tree) -> Readers {
        let all = lock(&self.snapshots);
        let visible = self.visible_seq().0;
        let floor = Seq(visible.saturating_sub(tree.options.retain_seqs));
        Readers { snapshots: all.keys().copied().collect(), floor }
    }

    /// Whether a snapshot holds `seq`.
    pub(super) fn is_pinned(&self, seq: Seq) -> bool {
        lock(&self.snapshots).contains_key(&seq)
    }
}

//! A batch into memtables, visible as a whole.

use crate::base::{CfId, LogIndex, Result};
use crate::lsm::batch::BatchView;
use crate::lsm::engine::tree::{Seal, Tree, View};
use crate::lsm::engine::{Engine, Inner, lock};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A tree that takes records, and its present view.
type Taking = (Arc<Tree>, Arc<View>);

impl Engine {
    /// Adds a batch's records to memtables, then makes them visible all at once.
    ///
    /// What is in sstables already (the family's flushed index is not below `index`) is left out,
    /// and so are records of families that do not exist; both happen in replay. Full memtables
    /// are sealed and their flush is scheduled.
    ///
    /// REQUIRES: called in the order of the log, one call at a time.
    ///
    /// # Errors
    /// `Poisoned` after a failed sync of the manifest. Nothing else: what a batch does was decided
    /// before it was logged.
    pub fn apply(&self, index: LogIndex, batch: &BatchView<'_>) -> Result<()> {
        let inner = &self.inner;
        let _one = lock(&inner.apply);
        inner.check_poison()?;
        let mut current: Option<(CfId, Option<Taking>)> = None;
        let mut touched: Vec<Arc<Tree>> = Vec::new();
        let mut grown = 0;
        for op in batch.ops() {
            if current.as_ref().is_none_or(|(cf, _)| *cf != op.cf) {
                let found = inner.tree_for(op.cf, index);
                if let Some((tree, _)) = &found
                    && !touched.iter().any(|t| t.id == tree.id)
                {
                    touched.push(tree.clone());
                }
                current = Some((op.cf, found));
            }
            if let Some((_, Some((tree, view)))) = &current {
                tree.dead.note(op.kind, op.key);
                let active = &view.active;
                let before = active.table.bytes();
                active.table.insert(&op);
                let added = active.table.bytes() - before;
                // A range delete of no key leaves no record to flush.
                if added > 0 {
                    active.first_index.fetch_min(index.0, Ordering::AcqRel);
                }
                grown += added;
            }
        }
        inner.memtable_bytes.fetch_add(grown as u64, Ordering::Relaxed);
        inner.committed_ms.fetch_max(batch.commit_ms, Ordering::AcqRel);
        inner.visible_seq.fetch_max(batch.last_seq().0, Ordering::AcqRel);
        inner.applied_index.fetch_max(index.0, Ordering::AcqRel);
        inner.rotate_full(&touched);
        Ok(())
    }
}

impl Inner {
    /// The tree that takes records of `cf` at `index`, if any does.
    fn tree_for(&self, cf: CfId, index: LogIndex) -> Option<Taking> {
        let tree = self.tree(cf).ok()?;
        if tree.flushed.load(Ordering::Acquire) >= index.0 {
            return None;
        }
        let view = tree.view();
        Some((tree, view))
    }

    /// Seals memtables that are full, and the largest if all together are too large.
    /// REQUIRES: the apply lock.
    fn rotate_full(self: &Arc<Self>, touched: &[Arc<Tree>]) {
        let full = |tree: &&Arc<Tree>| {
            tree.view().active.table.bytes() as u64 >= self.options.write_buffer_bytes
        };
        for tree in touched.iter().filter(|tree| tree.dead.take_due()) {
            self.queue_dead(tree);
        }
        let mut sealed = false;
        for tree in touched.iter().filter(full) {
            self.rotate(tree);
            self.schedule(tree);
            sealed = true;
        }
        if self.memtable_bytes.load(Ordering::Relaxed) > self.options.memtable_budget_bytes {
            let trees = self.all_trees();
            let waiting = trees.iter().any(|tree| !tree.view().sealed.is_empty());
            let largest = trees.iter().max_by_key(|tree| tree.view().active.table.bytes());
            if let Some(largest) = largest.filter(|_| !waiting) {
                self.rotate(largest);
            }
            trees.iter().for_each(|tree| self.schedule(tree));
            sealed = true;
        }
        if sealed {
            self.refresh_pressure();
        }
    }

    /// Seals a tree's memtable; false if it is empty. REQUIRES: the apply lock.
    pub(super) fn rotate(&self, tree: &Tree) -> bool {
        tree.rotate(self.seal_now(), &self.arena)
    }

    /// What is known of the log now. REQUIRES: the apply lock.
    pub(super) fn seal_now(&self) -> Seal {
        Seal {
            last_index: LogIndex(self.applied_index.load(Ordering::Acquire)),
            last_seq: self.visible_seq(),
            committed_ms: self.committed_ms.load(Ordering::Acquire),
        }
    }
}

//! A batch into memtables, visible as a whole.

use crate::base::{CfId, LogIndex, Result};
use crate::env::SpinGuard;
use crate::lsm::batch::BatchView;
use crate::lsm::engine::tree::{Buffer, Seal, Tree};
use crate::lsm::engine::{Engine, Inner};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the apply lock guards: where the records of the families written last go, so that a batch
/// need not ask for each family's view.
#[derive(Default)]
pub(super) struct Applying {
    taking: Vec<Taking>,
    /// Whether the log is being replayed and nobody reads.
    replaying: bool,
}

/// What inserting a batch has done.
#[derive(Default)]
struct Inserted {
    /// Bytes that memtables have grown by.
    bytes: u64,
    /// Whether a search for dead spans may be due.
    suspects: bool,
}

/// Families that are remembered: a batch rarely touches more.
const TAKING_MAX: usize = 8;

/// A tree and the memtable that takes its records. Holds until the memtable is sealed.
struct Taking {
    tree: Arc<Tree>,
    active: Arc<Buffer>,
    /// The log index of the last batch that wrote to it.
    index: LogIndex,
}

impl Taking {
    fn is_full(&self, index: LogIndex, bytes: u64) -> bool {
        self.index == index && self.active.table.bytes() as u64 >= bytes
    }
}

impl Applying {
    /// Where records of `cf` go at `index`, if there is such a family and its tables do not have
    /// them already.
    #[inline]
    fn find(&mut self, inner: &Inner, cf: CfId, index: LogIndex) -> Option<&Taking> {
        let at = match self.taking.iter().position(|taking| taking.tree.id == cf) {
            Some(at) => at,
            None => self.remember(inner, cf, index)?,
        };
        let taking = &mut self.taking[at];
        if taking.tree.is_dropped() || taking.tree.flushed.load(Ordering::Acquire) >= index.0 {
            return None;
        }
        taking.index = index;
        Some(taking)
    }

    #[cold]
    fn remember(&mut self, inner: &Inner, cf: CfId, index: LogIndex) -> Option<usize> {
        let tree = inner.tree(cf).ok()?;
        if self.taking.len() >= TAKING_MAX {
            self.taking.retain(|taking| taking.index == index);
        }
        let active = tree.view().active.clone();
        self.taking.push(Taking { tree, active, index: LogIndex(0) });
        Some(self.taking.len() - 1)
    }

    /// Puts a batch's records into memtables.
    #[inline]
    fn insert(&mut self, inner: &Inner, index: LogIndex, batch: &BatchView<'_>) -> Inserted {
        let mut done = Inserted::default();
        let replaying = self.replaying;
        let mut ops = batch.cursor();
        let mut next = ops.next();
        while let Some(mut op) = next {
            let cf = op.cf;
            let Some(taking) = self.find(inner, cf, index) else {
                next = ops.next();
                continue;
            };
            // One memtable is let go of before the next is taken.
            let mut memtable = taking.active.table.inserting();
            let mut bytes = 0;
            loop {
                // In replay there are no spans yet, and a search would not find what is loaded.
                done.suspects |= !replaying && taking.tree.dead.note(op.seq, op.kind, op.key);
                bytes += memtable.insert(&op) as u64;
                next = ops.next();
                match next {
                    Some(following) if following.cf == cf => op = following,
                    _ => break,
                }
            }
            // A range delete of no key leaves no record to flush.
            if bytes > 0 && taking.active.first_index.load(Ordering::Relaxed) > index.0 {
                taking.active.first_index.store(index.0, Ordering::Release);
            }
            done.bytes += bytes;
        }
        done
    }

    /// Whether a memtable that got records at `index` is full.
    fn is_full(&self, index: LogIndex, bytes: u64) -> bool {
        self.taking.iter().any(|taking| taking.is_full(index, bytes))
    }

    /// The trees whose memtables are.
    fn full(&self, index: LogIndex, bytes: u64) -> Vec<Arc<Tree>> {
        let full = self.taking.iter().filter(|taking| taking.is_full(index, bytes));
        full.map(|taking| taking.tree.clone()).collect()
    }

    /// Forgets a tree whose memtable changes.
    fn forget(&mut self, tree: &Tree) {
        self.taking.retain(|taking| taking.tree.id != tree.id);
    }

    /// Forgets all, so that nothing is kept alive for it.
    pub(super) fn forget_all(&mut self) {
        self.taking.clear();
    }
}

impl Engine {
    /// Says that batches of the log follow that nobody reads before [`Engine::end_replay`]: they
    /// are put in order together, which is several times faster. REQUIRES: nothing was applied.
    pub fn begin_replay(&self) {
        let mut applying = self.inner.apply.lock();
        applying.replaying = true;
        self.inner.all_trees().iter().for_each(|tree| tree.view().active.table.begin_loading());
    }

    /// Makes what was replayed readable.
    pub fn end_replay(&self) {
        let mut applying = self.inner.apply.lock();
        applying.replaying = false;
        self.inner.all_trees().iter().for_each(|tree| tree.view().active.table.finish_loading());
    }

    /// Adds a batch's records to memtables, then makes them visible all at once.
    ///
    /// What is in sstables already (the family's flushed index is not below `index`) is left out,
    /// and so are records of families that do not exist; both happen in replay. Full memtables
    /// are sealed and their flush is scheduled.
    ///
    /// REQUIRES: called in the order of the log, one call at a time.
    ///
    /// # Errors
    /// `Poisoned` after a failed sync of the manifest; of a batch that creates or drops families,
    /// what the disk answers. Nothing else: what a batch does was decided before it was logged.
    pub fn apply(&self, index: LogIndex, batch: &BatchView<'_>) -> Result<()> {
        self.apply_all(index, std::slice::from_ref(batch))
    }

    /// As [`Engine::apply`] for an entry of the log that carries several batches, or none: a family
    /// has all of the entry in sstables or nothing of it, since no memtable is sealed between two.
    pub fn apply_all(&self, index: LogIndex, batches: &[BatchView<'_>]) -> Result<()> {
        let inner = &self.inner;
        for batch in batches.iter().filter(|batch| batch.changes_families) {
            self.change_families(batch)?;
        }
        let mut applying = inner.apply.lock();
        inner.check_poison()?;
        let mut done = Inserted::default();
        // Changed under the apply lock alone: no atomic maximum is needed.
        let raise = |value: &AtomicU64, to: u64| {
            if value.load(Ordering::Relaxed) < to {
                value.store(to, Ordering::Release);
            }
        };
        for batch in batches {
            let Inserted { bytes, suspects } = applying.insert(inner, index, batch);
            done.bytes += bytes;
            done.suspects |= suspects;
            raise(&inner.committed_ms, batch.commit_ms);
            raise(&inner.visible_seq, batch.last_seq().0);
        }
        raise(&inner.applied_index, index.0);
        let memtable_bytes = inner.memtable_bytes.add(done.bytes);
        if done.suspects
            || memtable_bytes > inner.options.memtable_soft_bytes()
            || applying.is_full(index, inner.options.write_buffer_bytes)
        {
            inner.follow_up(applying, index, done.suspects, memtable_bytes);
        }
        Ok(())
    }
}

impl Inner {
    /// What a batch makes necessary now and then: searches for dead spans, and room.
    #[cold]
    fn follow_up(
        self: &Arc<Self>,
        mut applying: SpinGuard<'_, Applying>,
        index: LogIndex,
        suspects: bool,
        memtable_bytes: u64,
    ) {
        let mut lagging: Vec<Arc<Tree>> = Vec::new();
        if suspects {
            let due = applying.taking.iter().filter(|taking| taking.tree.dead.take_due());
            due.for_each(|taking| self.queue_dead(&taking.tree));
            let behind = applying.taking.iter().filter(|taking| taking.tree.dead.is_lagging());
            lagging.extend(behind.map(|taking| taking.tree.clone()));
        }
        let full = applying.full(index, self.options.write_buffer_bytes);
        if !full.is_empty() || memtable_bytes > self.options.memtable_soft_bytes() {
            self.rotate_full(&mut applying, &full);
        }
        drop(applying);
        if self.options.background {
            lagging.iter().for_each(|tree| self.catch_up(tree));
        }
    }

    /// Seals memtables that are full, and the largest if all together are too large.
    fn rotate_full(self: &Arc<Self>, applying: &mut Applying, full: &[Arc<Tree>]) {
        let mut sealed = false;
        for tree in full {
            self.rotate(applying, tree);
            self.schedule(tree);
            sealed = true;
        }
        if self.memtable_bytes.get() > self.options.memtable_soft_bytes() {
            let trees = self.all_trees();
            let waiting = trees.iter().any(|tree| !tree.view().sealed.is_empty());
            let largest = trees.iter().max_by_key(|tree| tree.view().active.table.bytes());
            if let Some(largest) = largest.filter(|_| !waiting) {
                self.rotate(applying, largest);
                self.schedule(largest);
            }
            sealed = true;
        }
        if sealed {
            self.refresh_pressure();
        }
    }

    /// Seals a tree's memtable; false if it is empty.
    pub(super) fn rotate(&self, applying: &mut Applying, tree: &Tree) -> bool {
        applying.forget(tree);
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

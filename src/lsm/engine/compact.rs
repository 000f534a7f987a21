//! Compactions: picked in the background, or asked for.

use crate::base::{CfId, Result};
use crate::lsm::compaction::pick::pick_range;
use crate::lsm::compaction::run::{Inputs, Rules, rewrite};
use crate::lsm::compaction::{Compaction, pick};
use crate::lsm::engine::install::Change;
use crate::lsm::engine::tree::Tree;
use crate::lsm::engine::work::{Held, Slot};
use crate::lsm::engine::{Engine, Inner, lock};
use crate::lsm::manifest::State;
use crate::lsm::version::{KeyRange, TableFile, Version};
use crate::op::route::SlotRange;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Engine {
    /// Flushes a family, then rewrites all that lies between the bounds down to one level, and
    /// waits for that. What nobody can read any more is gone from it afterwards.
    ///
    /// # Errors
    /// As [`Engine::flush`]; `Corruption` of an input, with nothing changed.
    pub fn compact_range(&self, cf: CfId, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Result<()> {
        self.flush(cf)?;
        let inner = &self.inner;
        let tree = inner.tree(cf)?;
        let start = match start {
            Bound::Unbounded => Vec::new(),
            Bound::Included(key) | Bound::Excluded(key) => key.to_vec(),
        };
        let end = match end {
            Bound::Unbounded => None,
            Bound::Included(key) => Some((key.to_vec(), false)),
            Bound::Excluded(key) => Some((key.to_vec(), true)),
        };
        let range = KeyRange { start, end };
        let held = inner.take(cf, Slot::Compact)?;
        let done = inner.compact_down(&tree, &range);
        drop(held);
        let done = inner.settle(done);
        inner.schedule(&tree);
        done
    }

    /// Runs the compactions that are due until none is, and waits for them.
    ///
    /// # Errors
    /// As [`Engine::compact_range`].
    pub fn compact_due(&self, cf: CfId) -> Result<()> {
        let inner = &self.inner;
        inner.check_writable()?;
        let tree = inner.tree(cf)?;
        loop {
            let held = inner.take(cf, Slot::Compact)?;
            let done = inner.compact_once(&tree, &held);
            drop(held);
            if !inner.settle(done)? {
                return Ok(());
            }
        }
    }
}

impl Inner {
    /// Whether a compaction is due.
    pub(super) fn is_compaction_due(&self, tree: &Tree) -> bool {
        pick(&tree.view().version, &self.options, tree.is_idle()).is_some()
    }

    /// Runs the compaction that is due, if one is.
    pub(super) fn compact_once(&self, tree: &Arc<Tree>, _slot: &Held<'_>) -> Result<bool> {
        self.check_writable()?;
        let version = self.version_for_compaction(tree);
        let Some(choice) = pick(&version, &self.options, tree.is_idle()) else {
            return Ok(false);
        };
        match self.run_compaction(tree, &version, &choice) {
            Err(_) if tree.is_dropped() => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// The version a compaction works on. Under the manifest's lock, since a flush that saw the
    /// slot free may be placing files deep down.
    fn version_for_compaction(&self, tree: &Tree) -> Arc<Version> {
        let _manifest = lock(&self.manifest);
        tree.view().version.clone()
    }

    /// Compacts `range` level by level, and the deepest level that holds any of it in place.
    fn compact_down(&self, tree: &Tree, range: &KeyRange) -> Result<()> {
        let deepest = {
            let version = self.version_for_compaction(tree);
            version.files().filter(|(_, f)| range.overlaps(&f.meta)).map(|(level, _)| level).max()
        };
        let Some(deepest) = deepest else {
            return Ok(());
        };
        let last = deepest.max(1);
        for level in 0..last {
            let version = self.version_for_compaction(tree);
            if let Some(choice) = pick_range(&version, level, range, last) {
                self.run_compaction(tree, &version, &choice)?;
            }
        }
        let version = self.version_for_compaction(tree);
        match pick_range(&version, last, range, last) {
            Some(choice) => self.run_compaction(tree, &version, &choice),
            None => Ok(()),
        }
    }

    /// REQUIRES: the compaction slot, and `version` from under the manifest's lock since.
    fn run_compaction(&self, tree: &Tree, version: &Version, choice: &Compaction) -> Result<()> {
        if choice.is_move(&self.options) {
            return self.move_file(tree, version, choice);
        }
        let inputs = Inputs::of(version, choice);
        let read = inputs.bytes;
        let readers = self.readers(tree);
        let collected = readers.floor;
        let files = {
            let levels = choice.level.max(1);
            let newer_holds = |key: &[u8]| tree.view().newer_holds(key, &[], levels, &choice.upper);
            let rules = Rules {
                readers,
                committed_ms: self.committed_ms.load(Ordering::Acquire),
                older: version,
                older_from: choice.output + 1,
                newer_holds: &newer_holds,
                cancelled: &|| {
                    self.lend(tree);
                    self.closing.load(Ordering::Acquire) || tree.is_dropped()
                },
            };
            rewrite(inputs, rules, self.target(tree, choice.output))?
        };
        let written: u64 = files.iter().map(|f| f.meta.size).sum();
        let removed = choice.upper.iter().chain(&choice.lower).copied().collect();
        self.install_compaction(tree, version, removed, (choice.output, files), collected)?;
        self.counters.compactions.fetch_add(1, Ordering::Relaxed);
        self.counters.compaction_bytes_read.fetch_add(read, Ordering::Relaxed);
        self.counters.compaction_bytes_written.fetch_add(written, Ordering::Relaxed);
        Ok(())
    }

    fn move_file(&self, tree: &Tree, version: &Version, choice: &Compaction) -> Result<()> {
        let moved: Vec<Arc<TableFile>> = version
            .files()
            .filter(|(_, f)| choice.upper.contains(&f.meta.number))
            .map(|(_, f)| f.clone())
            .collect();
        let removed = choice.upper.clone();
        self.install_compaction(tree, version, removed, (choice.output, moved), version.collected)?;
        self.counters.moves.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn install_compaction(
        &self,
        tree: &Tree,
        read: &Version,
        removed: Vec<u64>,
        (level, files): (usize, Vec<Arc<TableFile>>),
        collected: crate::base::Seq,
    ) -> Result<()> {
        let mut manifest = lock(&self.manifest);
        let slots = split_since(manifest.state(), tree.id, read, &removed);
        let added = files.into_iter().map(|file| match slots {
            None => (level, file),
            slots => (level, file.with_slots(slots)),
        });
        let added = added.collect();
        let change = Change { removed, added, collected, ..Change::default() };
        self.install(&mut manifest, tree, Vec::new(), change)
    }
}

/// What a split since `read` was taken has left to the shard: of the files that a compaction puts in
/// the place of `removed` no more counts.
fn split_since(now: &State, cf: CfId, read: &Version, removed: &[u64]) -> Option<SlotRange> {
    let part = now.part?;
    let files = &now.families.get(&cf)?.files;
    let mut inputs = read.files().filter(|(_, file)| removed.contains(&file.meta.number));
    let was_split = inputs.any(|(_, file)| {
        files.get(&file.meta.number).is_some_and(|(_, meta)| meta.slots != file.meta.slots)
    });
    was_split.then_some(part.slots)
}

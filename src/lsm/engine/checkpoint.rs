//! A copy of the database that shares its files.

use crate::base::{CfId, Error, ErrorKind, LogIndex, Result, Seq};
use crate::lsm::engine::tree::{Seal, Tree};
use crate::lsm::engine::work::Slot;
use crate::lsm::engine::{Engine, Inner, lock};
use crate::lsm::manifest::State;
use crate::lsm::manifest::store::write_snapshot;
use crate::lsm::version::file::file_name;
use std::path::Path;
use std::sync::Arc;

/// What a checkpoint holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// It holds exactly what was applied up to this log index.
    pub index: LogIndex,
    /// The greatest sequence number in it.
    pub seq: Seq,
    /// Its sstables: name and size in bytes.
    pub files: Vec<(String, u64)>,
}

impl Engine {
    /// Makes `target` a database of its own, one that [`Engine::open`] opens, with exactly what was
    /// applied at the call, in all families. The sstables are hard links; writes go on meanwhile,
    /// except that the flush at the beginning seals the memtables. Durable on return.
    ///
    /// # Errors
    /// `AlreadyExists` if `target` has files in it; as [`Engine::flush`]. What was made of
    /// `target` by then has no `CURRENT` and is no database.
    pub fn checkpoint(&self, target: &Path) -> Result<CheckpointInfo> {
        self.checkpoint_with(target, |_| {})
    }

    /// As [`Engine::checkpoint`], with the manifest as `change` leaves it.
    pub(super) fn checkpoint_with(
        &self,
        target: &Path,
        change: impl FnOnce(&mut State),
    ) -> Result<CheckpointInfo> {
        let inner = &self.inner;
        inner.check_writable()?;
        if inner.disk.exists(target) && !inner.disk.list(target)?.is_empty() {
            let message = format!("{} is not empty", target.display());
            return Err(Error::new(ErrorKind::AlreadyExists, message));
        }
        inner.disk.create_dir_all(target)?;
        let (families, seal, _ceiling) = inner.seal_all()?;
        for tree in &families.trees {
            let held = inner.take(tree.id, Slot::Flush)?;
            let done = inner.flush_sealed(tree, &held);
            drop(held);
            inner.settle(done)?;
        }
        inner.link_all(&families, seal, target, change)
    }
}

/// The families at one log index.
struct Families {
    trees: Vec<Arc<Tree>>,
    /// One that the log creates later must not be taken for one that is gone by then.
    next: CfId,
}

/// Lets memtables sealed later be flushed again.
struct Ceiling<'a>(&'a Arc<Inner>);

impl Drop for Ceiling<'_> {
    fn drop(&mut self) {
        lock(&self.0.work).ceiling = None;
        self.0.work_changed.notify_all();
        self.0.schedule_all();
    }
}

impl Inner {
    /// Seals all memtables at one log index, and keeps later ones from being flushed.
    fn seal_all(self: &Arc<Self>) -> Result<(Families, Seal, Ceiling<'_>)> {
        let mut applying = self.apply.lock();
        let seal = self.seal_now();
        {
            let mut work = lock(&self.work);
            if work.ceiling.is_some() {
                return Err(Error::new(ErrorKind::Busy, "another checkpoint is being taken"));
            }
            work.ceiling = Some(seal.last_index);
        }
        let ceiling = Ceiling(self);
        let families = {
            let manifest = lock(&self.manifest);
            Families { trees: self.all_trees(), next: manifest.state().next_cf }
        };
        families.trees.iter().for_each(|tree| _ = self.rotate(&mut applying, tree));
        Ok((families, seal, ceiling))
    }

    fn link_all(
        &self,
        families: &Families,
        seal: Seal,
        target: &Path,
        change: impl FnOnce(&mut State),
    ) -> Result<CheckpointInfo> {
        let trees = &families.trees;
        // The views keep the files of this moment alive until they are linked.
        let (mut state, views): (State, Vec<_>) = {
            let manifest = lock(&self.manifest);
            (manifest.state().clone(), trees.iter().map(|tree| tree.view()).collect())
        };
        let wanted = |cf: &CfId| trees.iter().any(|tree| tree.id == *cf);
        state.families.retain(|cf, _| wanted(cf));
        state.next_cf = families.next;
        state.last_seq = seal.last_seq;
        state.committed_ms = seal.committed_ms;
        let mut files = Vec::new();
        for family in state.families.values_mut() {
            family.flushed = seal.last_index;
            for (number, (_, meta)) in &family.files {
                let name = file_name(*number);
                self.disk.hard_link(&self.options.dir.join(&name), &target.join(&name))?;
                files.push((name, meta.size));
            }
        }
        self.disk.sync_dir(target)?;
        let number = state.next_file;
        state.next_file += 1;
        change(&mut state);
        write_snapshot(self.disk.as_ref(), target, number, &state)?;
        drop(views);
        Ok(CheckpointInfo { index: seal.last_index, seq: seal.last_seq, files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{Pool, SimDisk};
    use crate::lsm::batch::{Counts, WriteBatch};
    use crate::lsm::{BlockCache, EngineOptions};

    /// The job for it found nothing to do, and queued itself again, until the checkpoint was taken.
    #[test]
    fn a_memtable_that_a_checkpoint_holds_up_keeps_no_job_busy() {
        let (disk, pool) = (SimDisk::new().shared(), Pool::manual());
        let options = EngineOptions { write_buffer_bytes: 16 << 10, ..EngineOptions::new("/db") };
        let engine = Engine::open(disk, pool.clone(), BlockCache::new(0), options).unwrap();
        let (_, _, ceiling) = engine.inner.seal_all().unwrap();
        let mut written = 0;
        while engine.stats().memtables_sealed == 0 {
            written += 1;
            let mut batch = WriteBatch::new();
            let key = u64::to_be_bytes(written);
            batch.put_with(CfId::DEFAULT, &key, &[7; 1000], Default::default(), Counts::NONE);
            batch.place(Seq(written), 1);
            engine.apply(LogIndex(written), &batch.view()).unwrap();
            assert!(written < 100);
        }
        for second in 0..3 {
            engine.tend_at(second * 1_000_000);
            for _ in 0..10 {
                pool.run_one();
            }
            assert_eq!(pool.pending(), 0, "after {second} s");
        }
        assert_eq!(engine.stats().memtables_sealed, 1);
        drop(ceiling);
        pool.wait_idle();
        assert_eq!(engine.stats().memtables_sealed, 0);
    }
}

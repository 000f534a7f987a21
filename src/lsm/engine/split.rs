//! One engine becomes two, each with the records of its own slots.
//!
//! No record is copied: the part that leaves gets hard links to all sstables, and the manifests say
//! of each file which slots of it still count ([`FileMeta::slots`]). Compactions write them anew
//! without the rest.
//!
//! [`FileMeta::slots`]: crate::lsm::manifest::FileMeta::slots

use crate::base::{CfId, LogIndex, Result};
use crate::lsm::engine::{Engine, lock};
use crate::lsm::manifest::{Edit, Field, FileMeta, Part, State};
use crate::lsm::version::TableFile;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Engine {
    /// What the last split left; `None` before any.
    pub fn part(&self) -> Option<Part> {
        lock(&self.inner.manifest).state().part
    }

    /// The version of its slots that the last split gave it; 0 before any. Takes no lock. As long as
    /// it stays, no record has gone.
    pub fn part_epoch(&self) -> u64 {
        self.inner.part_epoch.load(Ordering::Acquire)
    }

    /// Makes `target` a database with the records of one part, as of log index `index`. The counts
    /// of keys are no longer exact there. REQUIRES: what is applied ends before `index`, nothing is
    /// applied meanwhile, and the log is durable up to `index`.
    ///
    /// # Errors
    /// As [`Engine::checkpoint`].
    pub fn copy_part(&self, target: &Path, part: Part, index: LogIndex) -> Result<()> {
        let change = |state: &mut State| {
            state.part = Some(part);
            for family in state.families.values_mut() {
                family.flushed = index;
                family.exact = false;
                family.files.values_mut().for_each(|(_, meta)| meta.slots = Some(part.slots));
            }
        };
        self.checkpoint_with(target, change).map(|_| ())
    }

    /// Keeps the records of one part alone, as of log index `index`, durably. The counts of keys
    /// are no longer exact. Readers that began before may see the others until they end.
    /// REQUIRES: as [`Engine::copy_part`].
    ///
    /// # Errors
    /// As [`Engine::flush`].
    pub fn keep_part(&self, part: Part, index: LogIndex) -> Result<()> {
        // Only files know of slots.
        self.flush_all()?;
        let inner = &self.inner;
        inner.sync_log(index)?;
        {
            let mut manifest = lock(&inner.manifest);
            let mut fields = Vec::new();
            for (cf, family) in &manifest.state().families {
                for (number, (level, meta)) in &family.files {
                    let file = FileMeta { slots: Some(part.slots), ..meta.clone() };
                    fields.push(Field::RemoveFile { cf: *cf, number: *number });
                    fields.push(Field::AddFile { cf: *cf, level: *level, file });
                }
                let (keys, expires) = (family.keys, family.expires);
                fields.push(Field::Counts { cf: *cf, keys, expires, exact: false });
                fields.push(Field::Flushed(*cf, index));
            }
            fields.push(Field::Part(part));
            inner.append(&mut manifest, Edit { fields }, &[])?;
            // First: who finds records gone can see that there was a split.
            inner.part_epoch.store(part.epoch, Ordering::Release);
            for tree in inner.all_trees() {
                let version = tree.view().version.clone();
                let (removed, added): (Vec<u64>, Vec<(usize, Arc<TableFile>)>) = version
                    .files()
                    .map(|(level, f)| (f.meta.number, (level, f.with_slots(Some(part.slots)))))
                    .unzip();
                let next = version.with(&removed, &added, version.collected);
                tree.update(|view| {
                    view.version = Arc::new(next);
                    view.totals.exact = false;
                });
                // Whoever counts may have taken the new epoch for that of the old view.
                tree.inexact.fetch_add(1, Ordering::Release);
            }
            inner.applied_index.fetch_max(index.0, Ordering::AcqRel);
        }
        inner.announce();
        Ok(())
    }

    /// Whether a file still holds records that a split has left to another shard.
    pub fn has_foreign_records(&self, cf: CfId) -> Result<bool> {
        let view = self.inner.tree(cf)?.view();
        let is_partial = view.version.files().any(|(_, file)| file.meta.slots.is_some());
        Ok(is_partial)
    }
}

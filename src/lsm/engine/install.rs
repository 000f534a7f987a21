//! An edit made durable, then seen.

use crate::base::{CfId, Error, ErrorKind, LogIndex, Result};
use crate::lsm::engine::tree::{Buffer, Tree};
use crate::lsm::engine::{Inner, lock};
use crate::lsm::manifest::{Edit, Field, Manifest};
use crate::lsm::version::TableFile;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A change to the files of one tree.
#[derive(Default)]
pub(super) struct Change {
    /// File numbers that leave. Their files are removed, unless they are in `added` too.
    pub(super) removed: Vec<u64>,
    /// Files that join, with their level.
    pub(super) added: Vec<(usize, Arc<TableFile>)>,
    /// Memtables that are now in files.
    pub(super) flushed: Vec<Arc<Buffer>>,
    /// Versions below this may be gone.
    pub(super) collected: crate::base::Seq,
}

impl Inner {
    /// Makes `change` durable, with the `fields` that go with it, and then shows it to readers.
    /// REQUIRES: `manifest` is locked.
    ///
    /// # Errors
    /// `NotFound` if the family was dropped meanwhile; as [`Manifest::append`].
    pub(super) fn install(
        &self,
        manifest: &mut Manifest,
        tree: &Tree,
        mut fields: Vec<Field>,
        change: Change,
    ) -> Result<()> {
        let cf = tree.id;
        if tree.is_dropped() {
            change.added.iter().for_each(|(_, file)| file.set_obsolete());
            let message = format!("the family {} was dropped", tree.name);
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        fields.extend(change.removed.iter().map(|&number| Field::RemoveFile { cf, number }));
        fields.extend(change.added.iter().map(|(level, file)| Field::AddFile {
            cf,
            level: *level as u8,
            file: file.meta.clone(),
        }));
        fields.push(Field::Collected(cf, change.collected));
        let totals = tree.view().totals.plus(change.flushed.iter());
        if change.flushed.iter().any(|buffer| !buffer.table.counts().exact) {
            tree.inexact.fetch_add(1, Ordering::AcqRel);
        }
        if !change.flushed.is_empty() {
            let (keys, expires, exact) = (totals.keys, totals.expires, totals.exact);
            fields.push(Field::Counts { cf, keys, expires, exact });
        }
        let added = |number: u64| change.added.iter().any(|(_, f)| f.meta.number == number);
        let new: Vec<PathBuf> = change
            .added
            .iter()
            .filter(|(_, file)| !change.removed.contains(&file.meta.number))
            .map(|(_, file)| file.path().to_path_buf())
            .collect();
        self.append(manifest, Edit { fields }, &new)?;
        let version = tree.view().version.clone();
        let next = version.with(&change.removed, &change.added, change.collected);
        debug_assert!(is_disjoint(&next), "files of a level overlap");
        tree.update(|view| {
            view.version = Arc::new(next);
            view.totals = totals;
            view.sealed.retain(|b| !change.flushed.iter().any(|f| Arc::ptr_eq(f, b)));
        });
        for (_, file) in version.files() {
            if change.removed.contains(&file.meta.number) && !added(file.meta.number) {
                file.set_obsolete();
            }
        }
        let freed: usize = change.flushed.iter().map(|b| b.table.bytes()).sum();
        self.memtable_bytes.free(freed as u64);
        Ok(())
    }

    /// Appends an edit, and brings the flushed indexes up to date.
    pub(super) fn append(
        &self,
        manifest: &mut Manifest,
        edit: Edit,
        new_files: &[PathBuf],
    ) -> Result<()> {
        let done = manifest.append(edit, new_files);
        if manifest.poison().is_some() {
            self.poisoned.store(true, Ordering::Release);
        }
        done?;
        for tree in self.all_trees() {
            if let Some(family) = manifest.state().families.get(&tree.id) {
                tree.flushed.store(family.flushed.0, Ordering::Release);
            }
        }
        Ok(())
    }

    /// Tells the owner if the log is needed less than before. REQUIRES: no lock is held.
    pub(super) fn announce(&self) {
        let now = lock(&self.manifest).state().replay_from();
        if self.replay_from.fetch_max(now.0, Ordering::AcqRel) < now.0 {
            let listener = lock(&self.on_flush).clone();
            if let Some(listener) = listener {
                listener(now);
            }
        }
    }

    /// Has the log made durable up to `index`.
    pub(super) fn sync_log(&self, index: LogIndex) -> Result<()> {
        let barrier = lock(&self.log_barrier).clone();
        barrier.map_or(Ok(()), |barrier| barrier(index))
    }

    /// Fields that say of every family but `except` how far it is in sstables, as far as that is
    /// more than the manifest says, and up to `durable` at most: what is in tables or in a durable
    /// log.
    pub(super) fn idle_fields(
        &self,
        manifest: &Manifest,
        durable: LogIndex,
        except: Option<CfId>,
    ) -> Vec<Field> {
        // Read before the trees: of what is applied up to here nothing can be missed below.
        let applied = LogIndex(self.applied_index.load(Ordering::Acquire));
        let mut fields = Vec::new();
        for tree in self.all_trees() {
            let first = tree.first_unflushed(&[]).map(|i| LogIndex(i.0.saturating_sub(1)));
            let flushed = first.unwrap_or(applied).min(applied).min(durable);
            let known = manifest.state().families.get(&tree.id).map(|f| f.flushed);
            if except != Some(tree.id) && known.is_some_and(|known| known < flushed) {
                fields.push(Field::Flushed(tree.id, flushed));
            }
        }
        fields
    }
}

fn is_disjoint(version: &crate::lsm::version::Version) -> bool {
    version
        .levels
        .iter()
        .skip(1)
        .all(|files| files.windows(2).all(|pair| pair[0].meta.ends_before(&pair[1].meta.smallest)))
}

//! Sstables made elsewhere, taken in whole.
//!
//! The files hold one record for a user key, each at sequence number 0. They count as written at
//! a sequence number that the caller takes from the log, the newest so far: what they hold wins
//! over what the family has. The family is flushed first where it overlaps, so that everything
//! older lies in sstables below the new ones.

use crate::base::{CfId, Error, LogIndex, Result, Seq};
use crate::lsm::cursor::Cursor;
use crate::lsm::engine::install::Change;
use crate::lsm::engine::tree::Tree;
use crate::lsm::engine::work::Slot;
use crate::lsm::engine::{Engine, Inner, lock};
use crate::lsm::key::{parse, user_key};
use crate::lsm::manifest::{Field, FileMeta};
use crate::lsm::sstable::Table;
use crate::lsm::version::TableFile;
use crate::lsm::version::file::file_name;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes copied at a time where a file cannot be linked.
const COPY_BYTES: usize = 1 << 20;

impl Engine {
    /// Takes sstables into a family, all or none, durably, as the write at `index` in the log with
    /// sequence number `seq`. As with [`Engine::apply`], it does nothing in replay if it was done
    /// before, or if the family does not exist. The files are linked, or
    /// copied where that cannot be; the caller may remove them afterwards. Each is read whole
    /// to be checked.
    ///
    /// The family's counts are no longer exact.
    ///
    /// REQUIRES: in the order of the log, as [`Engine::apply`]; the files synced.
    ///
    /// # Errors
    /// `InvalidArgument` if a file is empty, has a sequence number other than 0 or two records of a
    /// key, if two files overlap, or if `seq` is not above all that is visible; `Corruption`;
    /// as [`Engine::flush`].
    pub fn ingest(&self, cf: CfId, index: LogIndex, seq: Seq, paths: &[PathBuf]) -> Result<()> {
        let inner = &self.inner;
        inner.check_writable()?;
        let tree = inner.tree(cf).ok();
        let is_due = |tree: &Arc<Tree>| tree.flushed.load(Ordering::Acquire) < index.0;
        let Some(tree) = tree.filter(|tree| is_due(tree) && !paths.is_empty()) else {
            let _one = inner.apply.lock();
            inner.pass(index, seq);
            return Ok(());
        };
        if seq <= inner.visible_seq() || seq > Seq::MAX {
            return Err(Error::invalid(
                "the sequence number of an ingest is not above all visible",
            ));
        }
        let mut metas = Vec::new();
        for path in paths {
            metas.push(inner.inspect(path, seq)?);
        }
        metas.sort_by(|a, b| a.1.smallest.cmp(&b.1.smallest));
        if metas.windows(2).any(|pair| pair[0].1.overlaps(&pair[1].1)) {
            return Err(Error::invalid("two sstables to ingest have keys in common"));
        }
        {
            let mut applying = inner.apply.lock();
            inner.rotate(&mut applying, &tree);
            tree.dead.forget();
            let held = inner.take(cf, Slot::Flush)?;
            let done = inner.flush_sealed(&tree, &held).and_then(|_| {
                let files = inner.bring_in(cf, metas)?;
                inner.install_ingested(&tree, index, seq, files)
            });
            drop(held);
            inner.settle(done)?;
            inner.pass(index, seq);
        }
        inner.announce();
        inner.schedule(&tree);
        Ok(())
    }
}

impl Inner {
    /// Counts a place in the log as applied. REQUIRES: the apply lock.
    fn pass(&self, index: LogIndex, seq: Seq) {
        self.visible_seq.fetch_max(seq.0, Ordering::AcqRel);
        self.applied_index.fetch_max(index.0, Ordering::AcqRel);
    }

    /// Reads an outside table whole and says what the manifest will know of it.
    fn inspect(&self, path: &Path, seq: Seq) -> Result<(PathBuf, FileMeta)> {
        let table = Table::open(self.disk.as_ref(), path, 0, self.cache.clone())?;
        let mut cursor = table.cursor(false);
        let mut last: Option<Vec<u8>> = None;
        let mut first = None;
        cursor.first()?;
        while cursor.valid() {
            let key = user_key(cursor.key());
            let zero = parse(cursor.key()).is_some_and(|record| record.seq == Seq(0));
            if !zero || last.as_deref() == Some(key) {
                let message = "has a key twice or with a sequence number other than 0";
                return Err(Error::invalid(format!("{} {message}", path.display())));
            }
            first.get_or_insert_with(|| key.to_vec());
            last = Some(key.to_vec());
            cursor.next()?;
        }
        let mut bounds = first.zip(last).map(|(first, last)| (first, last, false));
        for t in table.range_deletes().iter() {
            let (start, end) = (t.start.to_vec(), t.end.to_vec());
            bounds = Some(match bounds {
                None => (start, end, true),
                Some((first, last, excluded)) if last < end => {
                    _ = excluded;
                    (first.min(start), end, true)
                }
                Some((first, last, excluded)) => (first.min(start), last, excluded),
            });
        }
        let Some((smallest, largest, largest_is_excluded)) = bounds else {
            return Err(Error::invalid(format!("{} holds nothing", path.display())));
        };
        let properties = table.properties();
        let meta = FileMeta {
            number: 0,
            size: table.file_bytes(),
            entries: properties.entries,
            deletes: properties.deletes,
            range_deletes: properties.range_deletes,
            seq_min: seq,
            seq_max: seq,
            smallest,
            largest,
            largest_is_excluded,
            global_seq: Some(seq),
            slots: None,
        };
        Ok((path.to_path_buf(), meta))
    }

    /// Gives outside tables names in the engine's folder, durably.
    fn bring_in(&self, cf: CfId, metas: Vec<(PathBuf, FileMeta)>) -> Result<Vec<Arc<TableFile>>> {
        let dir = &self.options.dir;
        let mut named = Vec::new();
        for (path, meta) in metas {
            let number = lock(&self.manifest).new_file_number();
            let inside = dir.join(file_name(number));
            if self.disk.exists(&inside) {
                self.disk.remove(&inside)?;
            }
            if self.disk.hard_link(&path, &inside).is_err() {
                self.copy(&path, &inside)?;
            }
            named.push(FileMeta { number, ..meta });
        }
        self.disk.sync_dir(dir)?;
        let open = |meta| TableFile::open(&self.disk, dir, (cf, meta), &self.cache);
        named.into_iter().map(open).collect()
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let (source, copy) = (self.disk.open(from)?, self.disk.create(to)?);
        let mut buf = vec![0; COPY_BYTES];
        let mut at = 0;
        loop {
            let n = source.read_at(&mut buf, at)?;
            if n == 0 {
                return copy.sync_data();
            }
            copy.write_at(&buf[..n], at)?;
            at += n as u64;
        }
    }

    fn install_ingested(
        &self,
        tree: &Tree,
        index: LogIndex,
        seq: Seq,
        files: Vec<Arc<TableFile>>,
    ) -> Result<()> {
        self.sync_log(index)?;
        let mut manifest = lock(&self.manifest);
        tree.inexact.fetch_add(1, Ordering::AcqRel);
        let level = tree.view().version.levels.len();
        let level = (1..level).rev().find(|l| self.level_for(tree, *l, &files) == *l).unwrap_or(0);
        let totals = tree.view().totals;
        let fields = vec![
            Field::Flushed(tree.id, index),
            Field::LastSeq(seq),
            Field::CommittedMs(self.committed_ms.load(Ordering::Acquire)),
            Field::Counts { cf: tree.id, keys: totals.keys, expires: totals.expires, exact: false },
        ];
        let added = files.into_iter().map(|file| (level, file)).collect();
        let collected = tree.view().version.collected;
        let change = Change { added, collected, ..Change::default() };
        self.install(&mut manifest, tree, fields, change)?;
        tree.update(|view| view.totals.exact = false);
        Ok(())
    }
}

//! One sstable of a tree.

use crate::base::{CfId, Result, Seq};
use crate::env::Disk;
use crate::lsm::cache::BlockCache;
use crate::lsm::cursor::Cursor;
use crate::lsm::key::Kind;
use crate::lsm::manifest::FileMeta;
use crate::lsm::sstable::{Table, TableCursor};
use crate::lsm::stored::Stored;
use crate::lsm::tombstone::{RangeDeletes, RangeTombstone, TombstoneSet};
use crate::lsm::version::part::{Kept, Partial};
use crate::lsm::version::stamp::Stamped;
use crate::op::route::SlotRange;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The name of sstable `number`.
pub fn file_name(number: u64) -> String {
    format!("{number:06}.sst")
}

/// An open sstable with what the manifest knows of it. When it is obsolete, the last reader to
/// let go of it removes the file.
pub struct TableFile {
    /// What the manifest knows.
    pub meta: FileMeta,
    /// The family it is of.
    cf: CfId,
    table: Arc<Table>,
    range_deletes: RangeDeletes,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    obsolete: AtomicBool,
}

impl TableFile {
    /// Opens the sstable `meta` of family `cf` in folder `dir`.
    ///
    /// # Errors
    /// As [`Table::open`].
    pub fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        (cf, meta): (CfId, FileMeta),
        cache: &Arc<BlockCache>,
    ) -> Result<Arc<TableFile>> {
        let path = dir.join(file_name(meta.number));
        let table = Table::open(disk.as_ref(), &path, meta.number, cache.clone())?;
        let set = match meta.global_seq {
            None => table.range_deletes().clone(),
            Some(seq) => {
                let stamp = |t: &RangeTombstone| RangeTombstone { seq, ..t.clone() };
                let all = table.range_deletes().iter().map(stamp);
                Arc::new(TombstoneSet::new(all.collect()))
            }
        };
        let (range_deletes, disk) = (RangeDeletes::of(set), disk.clone());
        let obsolete = AtomicBool::new(false);
        Ok(Arc::new(TableFile { meta, cf, table, range_deletes, disk, path, obsolete }))
    }

    /// The same file, of which only records of `slots` count.
    pub fn with_slots(&self, slots: Option<SlotRange>) -> Arc<TableFile> {
        Arc::new(TableFile {
            meta: FileMeta { slots, ..self.meta.clone() },
            cf: self.cf,
            table: self.table.clone(),
            range_deletes: self.range_deletes.clone(),
            disk: self.disk.clone(),
            path: self.path.clone(),
            obsolete: AtomicBool::new(false),
        })
    }

    fn kept(&self) -> Option<Kept> {
        self.meta.slots.map(|slots| Kept { cf: self.cf, slots })
    }

    /// As [`Table::get`], with the sequence numbers the records count as having.
    pub fn get(
        &self,
        user_key: &[u8],
        at: Seq,
        visit: &mut dyn FnMut(Seq, Kind, Stored<'_>) -> bool,
    ) -> Result<bool> {
        if self.kept().is_some_and(|kept| !kept.has(user_key)) {
            return Ok(true);
        }
        match self.meta.global_seq {
            None => self.table.get(user_key, at, visit),
            Some(seq) if seq > at => Ok(true),
            Some(seq) => self.table.get(user_key, Seq::MAX, &mut |_, kind, v| visit(seq, kind, v)),
        }
    }

    /// The newest range delete not newer than `at` that covers `user_key`.
    pub fn covering_seq(&self, user_key: &[u8], at: Seq) -> Option<Seq> {
        self.range_deletes.covering_seq(user_key, at)
    }

    /// The range deletes.
    pub fn range_deletes(&self) -> &RangeDeletes {
        &self.range_deletes
    }

    /// A cursor over the point records.
    pub fn cursor(&self, fill_cache: bool) -> FileCursor {
        let cursor = self.table.cursor(fill_cache);
        let cursor = match self.meta.global_seq {
            None => Walk::Plain(cursor),
            Some(seq) => Walk::Stamped(Stamped::new(cursor, seq)),
        };
        let (newest, whole) = (self.newest(), FileCursor { newest: self.newest(), cursor });
        match self.kept() {
            None => whole,
            Some(kept) => {
                FileCursor { newest, cursor: Walk::Partial(Box::new(Partial::new(whole, kept))) }
            }
        }
    }

    /// The sequence number above which there is no record that a range delete at it leaves alive:
    /// in a file with one sequence number for all, its own range deletes do not cover its records.
    pub fn newest(&self) -> Seq {
        match self.meta.global_seq {
            Some(seq) => Seq(seq.0 + 1),
            None => self.meta.seq_max,
        }
    }

    /// The open table.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the file be removed once nobody reads it. REQUIRES: the manifest no longer names it,
    /// durably.
    pub fn set_obsolete(&self) {
        self.obsolete.store(true, Ordering::Release);
    }
}

/// A cursor over a file's point records.
pub struct FileCursor {
    newest: Seq,
    cursor: Walk,
}

enum Walk {
    Plain(TableCursor),
    Stamped(Stamped<TableCursor>),
    Partial(Box<Partial<FileCursor>>),
}

impl FileCursor {
    /// Goes over to another file and stands on no record of it.
    pub fn set_file(&mut self, file: &TableFile, fill_cache: bool) {
        match (&mut self.cursor, file.meta.global_seq) {
            (Walk::Plain(cursor), None) if file.meta.slots.is_none() => {
                cursor.set_table(file.table.clone());
                self.newest = file.newest();
            }
            _ => *self = file.cursor(fill_cache),
        }
    }

    /// The sequence number above which the file has no record.
    pub fn newest(&self) -> Seq {
        self.newest
    }
}

macro_rules! with {
    ($walk:expr, $cursor:ident => $do:expr) => {
        match $walk {
            Walk::Plain($cursor) => $do,
            Walk::Stamped($cursor) => $do,
            Walk::Partial($cursor) => $do,
        }
    };
}

impl Cursor for FileCursor {
    #[inline]
    fn valid(&self) -> bool {
        with!(&self.cursor, cursor => cursor.valid())
    }

    fn first(&mut self) -> Result<()> {
        with!(&mut self.cursor, cursor => cursor.first())
    }

    fn last(&mut self) -> Result<()> {
        with!(&mut self.cursor, cursor => cursor.last())
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        with!(&mut self.cursor, cursor => cursor.seek(target))
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        with!(&mut self.cursor, cursor => cursor.seek_for_prev(target))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        with!(&mut self.cursor, cursor => cursor.next())
    }

    fn prev(&mut self) -> Result<()> {
        with!(&mut self.cursor, cursor => cursor.prev())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        with!(&self.cursor, cursor => cursor.key())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        with!(&self.cursor, cursor => cursor.value())
    }
}

impl Drop for TableFile {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire) {
            self.table.evict();
            // What cannot be removed now is removed as an orphan by the next open.
            _ = self.disk.remove(&self.path);
        }
    }
}

impl std::fmt::Debug for TableFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TableFile({})", self.meta.number)
    }
}

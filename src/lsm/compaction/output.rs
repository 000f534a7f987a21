//! Records to sstables: where to cut, and range tombstones cut to fit.
//!
//! Outputs share the key space between them: each takes a slot that begins where the one before
//! ended. A cut falls only between two user keys, so all versions of a key stay together, and
//! a range tombstone that spans a cut is written to both sides, each part within its slot.
//!
//! ```text
//! points        a b c | f g | m n
//! tombstone         [c       .    z)
//! files         a b c   f g     m n
//!                   [c f) [f m)  [m z)
//! ```

use crate::base::{CfId, Result, Seq};
use crate::env::Disk;
use crate::lsm::cache::BlockCache;
use crate::lsm::key::{Kind, put_internal};
use crate::lsm::manifest::FileMeta;
use crate::lsm::sstable::{TableOptions, TableWriter};
use crate::lsm::tombstone::RangeTombstone;
use crate::lsm::version::TableFile;
use crate::lsm::version::file::file_name;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where and how outputs are written.
pub struct Target<'a> {
    /// The disk.
    pub disk: &'a Arc<dyn Disk>,
    /// The engine's folder.
    pub dir: &'a Path,
    /// The cache that the outputs' blocks will live in.
    pub cache: &'a Arc<BlockCache>,
    /// Family.
    pub cf: CfId,
    /// How tables are written.
    pub table: TableOptions,
    /// Size in bytes at which a file is cut.
    pub file_bytes: u64,
    /// Bytes of blocks that go straight to the cache, if they are not packed.
    pub keep_bytes: usize,
    /// Gives the next file number.
    pub new_number: Box<dyn Fn() -> u64 + 'a>,
}

/// Writes records into as many files as they need.
pub struct Output<'a> {
    target: Target<'a>,
    /// By start; those behind the present slot's end are still to come.
    tombstones: Vec<RangeTombstone>,
    /// Where the present slot begins; `None` for the beginning of all keys.
    slot: Option<Vec<u8>>,
    writer: Option<Writing>,
    last_key: Vec<u8>,
    internal: Vec<u8>,
    done: Vec<Arc<TableFile>>,
    paths: Vec<PathBuf>,
}

struct Writing {
    number: u64,
    path: PathBuf,
    table: TableWriter,
    bounds: Option<Bounds>,
}

struct Bounds {
    smallest: Vec<u8>,
    largest: Vec<u8>,
    largest_is_excluded: bool,
    seq_min: Seq,
    seq_max: Seq,
}

impl<'a> Output<'a> {
    /// An output that will also write `tombstones`, sorted by start.
    pub fn new(target: Target<'a>, tombstones: Vec<RangeTombstone>) -> Output<'a> {
        Output {
            target,
            tombstones,
            slot: None,
            writer: None,
            last_key: Vec::new(),
            internal: Vec::new(),
            done: Vec::new(),
            paths: Vec::new(),
        }
    }

    /// Adds a record. REQUIRES: internal order.
    pub fn add(&mut self, user_key: &[u8], seq: Seq, kind: Kind, stored: &[u8]) -> Result<()> {
        if let Some(writing) = &self.writer
            && writing.table.bytes_so_far() >= self.target.file_bytes
            && self.last_key != user_key
        {
            self.cut(Some(user_key))?;
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(user_key);
        self.internal.clear();
        put_internal(&mut self.internal, user_key, seq, kind);
        let internal = std::mem::take(&mut self.internal);
        let writing = self.writing()?;
        writing.note(user_key, user_key, false, seq);
        writing.table.add(&internal, stored)?;
        self.internal = internal;
        Ok(())
    }

    /// Ends the last file, syncs all names, and opens the files.
    pub fn finish(mut self) -> Result<Vec<Arc<TableFile>>> {
        self.cut(None)?;
        if !self.done.is_empty() {
            self.target.disk.sync_dir(self.target.dir)?;
        }
        self.paths.clear();
        Ok(std::mem::take(&mut self.done))
    }

    fn writing(&mut self) -> Result<&mut Writing> {
        if self.writer.is_none() {
            let number = (self.target.new_number)();
            let path = self.target.dir.join(file_name(number));
            self.paths.push(path.clone());
            let (disk, options) = (self.target.disk.as_ref(), self.target.table);
            let mut table = TableWriter::create(disk, &path, options, self.target.cf)?;
            table.keep_blocks(std::mem::take(&mut self.target.keep_bytes));
            self.writer = Some(Writing { number, path, table, bounds: None });
        }
        match &mut self.writer {
            Some(writing) => Ok(writing),
            None => Err(crate::base::Error::new(
                crate::base::ErrorKind::Internal,
                "an output was not opened",
            )),
        }
    }

    /// Ends the present slot at `end` (`None` is the end of all keys) with the tombstones in it.
    fn cut(&mut self, end: Option<&[u8]>) -> Result<()> {
        let tombstones = std::mem::take(&mut self.tombstones);
        let slot = std::mem::take(&mut self.slot);
        for t in &tombstones {
            let start = slot.as_deref().map_or(&*t.start, |slot| slot.max(&t.start));
            let stop = end.map_or(&*t.end, |end| end.min(&t.end));
            if start < stop {
                let writing = self.writing()?;
                writing.note(start, stop, true, t.seq);
                writing.table.add_range_delete(&RangeTombstone::new(start, stop, t.seq));
            }
        }
        self.tombstones = tombstones;
        if let Some(end) = end {
            self.tombstones.retain(|t| &*t.end > end);
            self.slot = Some(end.to_vec());
        }
        match self.writer.take() {
            None => Ok(()),
            Some(writing) => self.close(writing),
        }
    }

    fn close(&mut self, writing: Writing) -> Result<()> {
        let Some(bounds) = writing.bounds else {
            return Ok(());
        };
        let (info, kept) = writing.table.finish_with_blocks()?;
        let meta = FileMeta {
            number: writing.number,
            size: info.file_bytes,
            entries: info.properties.entries,
            deletes: info.properties.deletes,
            range_deletes: info.properties.range_deletes,
            seq_min: bounds.seq_min,
            seq_max: bounds.seq_max,
            smallest: bounds.smallest,
            largest: bounds.largest,
            largest_is_excluded: bounds.largest_is_excluded,
            global_seq: None,
            slots: None,
        };
        debug_assert_eq!(writing.path, self.target.dir.join(file_name(meta.number)));
        let target = &self.target;
        let file = TableFile::open(target.disk, target.dir, (target.cf, meta), target.cache)?;
        file.table().take_in(kept);
        self.done.push(file);
        Ok(())
    }
}

impl Drop for Output<'_> {
    /// Removes the files of an output that did not finish.
    fn drop(&mut self) {
        for path in &self.paths {
            _ = self.target.disk.remove(path);
        }
    }
}

impl Writing {
    /// Widens the bounds to cover what runs from `start` to `end`.
    fn note(&mut self, start: &[u8], end: &[u8], end_is_excluded: bool, seq: Seq) {
        let bounds = self.bounds.get_or_insert_with(|| Bounds {
            smallest: start.to_vec(),
            largest: end.to_vec(),
            largest_is_excluded: end_is_excluded,
            seq_min: seq,
            seq_max: seq,
        });
        bounds.seq_min = bounds.seq_min.min(seq);
        bounds.seq_max = bounds.seq_max.max(seq);
        if start < bounds.smallest.as_slice() {
            bounds.smallest = start.to_vec();
        }
        let farther = bounds.largest.as_slice() < end
            || (bounds.largest == end && bounds.largest_is_excluded && !end_is_excluded);
        if farther {
            bounds.largest.clear();
            bounds.largest.extend_from_slice(end);
            bounds.largest_is_excluded = end_is_excluded;
        }
    }
}

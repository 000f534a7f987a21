//! A version: the sstables of one tree at one moment. It never changes; readers share it.
//!
//! In reading order:
//! - [`mod@file`]: one sstable of a tree, removed from disk when the last reader lets go of it.
//! - [`stamp`]: a cursor that gives the records of an ingested file their sequence number.
//! - `part`: the part of a file that a split has left to its shard.
//! - this file: [`Version`], its levels and what overlaps what.
//!
//! Invariants owed to readers:
//! - Of one user key, every record in a source is newer than every record in the sources behind
//!   it. The sources are, in order: the memtable, the immutable ones from the newest, the files of
//!   level 0 from the newest, level 1, level 2...
//! - From level 1 on the files of a level are in key order and their bounds have no key in
//!   common; all versions of a user key at a level are in one file.
//! - A file's bounds cover its range tombstones, which are cut to fit them.

pub mod file;
mod part;
pub mod stamp;

pub use file::{FileCursor, TableFile};

use crate::base::Seq;
use crate::lsm::heads::Heads;
use crate::lsm::manifest::FileMeta;
use std::ops::Range;
use std::sync::Arc;

/// The files of one tree.
#[derive(Debug, Default)]
pub struct Version {
    /// Level 0 from the newest file, the others in key order.
    pub levels: Vec<Vec<Arc<TableFile>>>,
    /// Versions of keys below this sequence number may be gone.
    pub collected: Seq,
    /// Whether a file has range deletes.
    pub has_range_deletes: bool,
    /// Of each level from 1 on, where files end.
    ends: Vec<Heads>,
}

/// A range of user keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub start: Vec<u8>,
    /// The last key and whether it is excluded; `None` for no bound.
    pub end: Option<(Vec<u8>, bool)>,
}

impl KeyRange {
    /// All keys.
    pub fn all() -> KeyRange {
        KeyRange { start: Vec::new(), end: None }
    }

    /// A file's bounds.
    pub fn of(file: &FileMeta) -> KeyRange {
        let end = (file.largest.clone(), file.largest_is_excluded);
        KeyRange { start: file.smallest.clone(), end: Some(end) }
    }

    /// Whether it has a key in common with a file's bounds.
    pub fn overlaps(&self, file: &FileMeta) -> bool {
        !file.ends_before(&self.start) && !self.ends_before(&file.smallest)
    }

    fn ends_before(&self, key: &[u8]) -> bool {
        match &self.end {
            None => false,
            Some((end, true)) => end.as_slice() <= key,
            Some((end, false)) => end.as_slice() < key,
        }
    }

    /// Widens the range to cover another.
    pub fn extend(&mut self, other: &KeyRange) {
        if other.start < self.start {
            self.start.clone_from(&other.start);
        }
        let farther = match (&self.end, &other.end) {
            (None, _) => false,
            (_, None) => true,
            (Some((a, a_out)), Some((b, b_out))) => a < b || (a == b && *a_out && !*b_out),
        };
        if farther {
            self.end.clone_from(&other.end);
        }
    }
}

impl Version {
    /// A version of `levels` empty levels.
    pub fn empty(levels: usize) -> Version {
        Version { levels: vec![Vec::new(); levels], ..Version::default() }
    }

    /// This version without the files of the numbers in `removed`, and with those `added`.
    pub fn with(
        &self,
        removed: &[u64],
        added: &[(usize, Arc<TableFile>)],
        collected: Seq,
    ) -> Version {
        let mut levels = self.levels.clone();
        for level in &mut levels {
            level.retain(|file| !removed.contains(&file.meta.number));
        }
        for (level, file) in added {
            if levels.len() <= *level {
                levels.resize(*level + 1, Vec::new());
            }
            levels[*level].push(file.clone());
        }
        for (n, level) in levels.iter_mut().enumerate() {
            match n {
                0 => level.sort_by_key(|f| std::cmp::Reverse((f.meta.seq_max, f.meta.number))),
                _ => level.sort_by(|a, b| a.meta.smallest.cmp(&b.meta.smallest)),
            }
        }
        let has_range_deletes = levels.iter().flatten().any(|f| !f.range_deletes().is_empty());
        let ends = |(n, files): (usize, &Vec<Arc<TableFile>>)| match n {
            0 => Heads::default(),
            _ => Heads::new(files.len(), |i| &files[i].meta.largest),
        };
        let ends = levels.iter().enumerate().map(ends).collect();
        Version { levels, collected: self.collected.max(collected), has_range_deletes, ends }
    }

    /// All files with their level.
    pub fn files(&self) -> impl Iterator<Item = (usize, &Arc<TableFile>)> {
        self.levels.iter().enumerate().flat_map(|(n, level)| level.iter().map(move |f| (n, f)))
    }

    /// The files of a level that have a key in common with `range`, as places in the level; of
    /// level 0, whose files are in no order of keys, all.
    pub fn overlapping(&self, level: usize, range: &KeyRange) -> Range<usize> {
        let files = self.levels.get(level).map_or(&[][..], |files| files.as_slice());
        if level == 0 {
            return 0..files.len();
        }
        let from = files.partition_point(|f| f.meta.ends_before(&range.start));
        let behind = files.partition_point(|f| !range.ends_before(&f.meta.smallest));
        from..behind.max(from)
    }

    /// Whether a file of a level at or below `level` has a key in common with `range`.
    pub fn overlaps_from(&self, level: usize, range: &KeyRange) -> bool {
        self.levels.iter().skip(level).flatten().any(|f| range.overlaps(&f.meta))
    }

    /// Whether a file of a level at or below `level` may hold `key`.
    pub fn may_hold_from(&self, level: usize, key: &[u8]) -> bool {
        self.levels.iter().enumerate().skip(level).any(|(n, files)| match n {
            0 => files.iter().any(|f| f.meta.covers(key)),
            _ => self.find(n, key).is_some(),
        })
    }

    /// The file of a level below 0 whose bounds cover `key`.
    #[inline]
    pub fn find(&self, level: usize, key: &[u8]) -> Option<&Arc<TableFile>> {
        let (files, ends) = (self.levels.get(level)?, self.ends.get(level)?);
        let Range { start, end } = ends.narrow(key);
        let at = start + files[start..end].partition_point(|f| f.meta.ends_before(key));
        files.get(at).filter(|f| f.meta.smallest.as_slice() <= key)
    }

    /// The deepest level into which new files of `range` can go without lying below or beside
    /// older records; `None` if level 0 itself is all that is left.
    pub fn deepest_free(&self, range: &KeyRange, levels: usize) -> Option<usize> {
        let free = |level: usize| {
            self.levels
                .get(level)
                .is_none_or(|files| !files.iter().any(|f| range.overlaps(&f.meta)))
        };
        (0..levels).take_while(|level| free(*level)).last().filter(|level| *level > 0)
    }
}

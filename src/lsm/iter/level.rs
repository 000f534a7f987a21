//! The files of a level below 0 as one cursor. It opens one file at a time.

use crate::base::{Result, Seq};
use crate::lsm::cursor::Cursor;
use crate::lsm::key::{Kind, TRAILER_BYTES, put_internal, user_key};
use crate::lsm::version::{FileCursor, TableFile, Version};
use std::ops::Range;
use std::sync::Arc;

/// Walks files whose bounds have no key in common, given in key order.
pub struct LevelCursor {
    files: Files,
    fill_cache: bool,
    at: usize,
    /// Whether `open` is of file `at`; else it is memory to be used again.
    inside: bool,
    open: Option<FileCursor>,
}

/// Files in key order.
enum Files {
    Some(Vec<Arc<TableFile>>),
    /// Part of a level, without a copy.
    Of(Arc<Version>, usize, Range<usize>),
}

impl Files {
    #[inline]
    fn get(&self) -> &[Arc<TableFile>] {
        match self {
            Files::Some(files) => files,
            Files::Of(version, level, range) => &version.levels[*level][range.clone()],
        }
    }
}

impl LevelCursor {
    /// A cursor over `files`.
    pub fn new(files: Vec<Arc<TableFile>>, fill_cache: bool) -> LevelCursor {
        LevelCursor { files: Files::Some(files), fill_cache, at: 0, inside: false, open: None }
    }

    /// A cursor over some files of a level, by their places there.
    /// REQUIRES: a level of `version`, and a range within it.
    pub fn of(
        version: &Arc<Version>,
        level: usize,
        range: Range<usize>,
        fill_cache: bool,
    ) -> LevelCursor {
        let files = Files::Of(version.clone(), level, range);
        LevelCursor { files, fill_cache, at: 0, inside: false, open: None }
    }

    /// Opens file `at` unless it is open, and moves its cursor by `step`. An error closes it.
    fn go(&mut self, at: usize, step: impl FnOnce(&mut FileCursor) -> Result<()>) -> Result<()> {
        let was_inside = std::mem::replace(&mut self.inside, false) && self.at == at;
        self.at = at;
        let Some(file) = self.files.get().get(at) else {
            return Ok(());
        };
        match &mut self.open {
            Some(cursor) => {
                if !was_inside {
                    cursor.set_file(file, self.fill_cache);
                }
                step(cursor)?;
            }
            empty => step(empty.insert(file.cursor(self.fill_cache)))?,
        }
        self.inside = true;
        Ok(())
    }

    fn step(&mut self, step: impl FnOnce(&mut FileCursor) -> Result<()>) -> Result<()> {
        match self.open.as_mut().filter(|_| self.inside).map(step) {
            Some(Err(error)) => {
                self.inside = false;
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Goes on to the next file while the present one is at its end.
    fn skip_forward(&mut self) -> Result<()> {
        while !self.valid() && self.at + 1 < self.files.get().len() {
            self.go(self.at + 1, |c| c.first())?;
        }
        Ok(())
    }

    /// Goes back to the file before while the present one is at its beginning.
    fn skip_back(&mut self) -> Result<()> {
        while !self.valid() && self.at > 0 {
            self.go(self.at - 1, |c| c.last())?;
        }
        Ok(())
    }

    /// Goes to the first record at or behind the user key `until`, or stops before that in a file
    /// that may have records newer than `seq`. REQUIRES: valid, and before `until`.
    pub fn skip_older(&mut self, until: &[u8], seq: Seq) -> Result<()> {
        let files = self.files.get();
        let inside = |f: &&Arc<TableFile>| f.newest() <= seq && f.meta.ends_before(until);
        let at = self.at + files[self.at..].iter().take_while(inside).count();
        match files.get(at) {
            None => self.inside = false,
            Some(f) if f.newest() <= seq && f.meta.smallest.as_slice() < until => {
                let target = before_all_of(until);
                self.go(at, |c| c.seek(&target))?;
            }
            Some(_) if at > self.at => self.go(at, |c| c.first())?,
            Some(_) => return Ok(()),
        }
        if self.inside { self.skip_forward() } else { Ok(()) }
    }

    /// Goes to the last record before the user key `since`, or stops behind that in a file that
    /// may have records newer than `seq`. REQUIRES: valid, and not before `since`.
    pub fn skip_older_back(&mut self, since: &[u8], seq: Seq) -> Result<()> {
        let files = self.files.get();
        let inside = |f: &&Arc<TableFile>| f.newest() <= seq && f.meta.smallest.as_slice() >= since;
        let left = self.at + 1 - files[..=self.at].iter().rev().take_while(inside).count();
        let Some(at) = left.checked_sub(1) else {
            self.inside = false;
            return Ok(());
        };
        if files[at].newest() <= seq && !files[at].meta.ends_before(since) {
            let target = before_all_of(since);
            self.go(at, |c| c.seek_for_prev(&target))?;
        } else if at < self.at {
            self.go(at, |c| c.last())?;
        } else {
            return Ok(());
        }
        self.skip_back()
    }
}

/// An internal key that stands before all records of a user key.
pub(super) fn before_all_of(user_key: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(user_key.len() + TRAILER_BYTES);
    put_internal(&mut key, user_key, Seq::MAX, Kind::MAX);
    key
}

impl Cursor for LevelCursor {
    #[inline]
    fn valid(&self) -> bool {
        self.inside && self.open.as_ref().is_some_and(|c| c.valid())
    }

    fn first(&mut self) -> Result<()> {
        self.go(0, |c| c.first())?;
        self.skip_forward()
    }

    fn last(&mut self) -> Result<()> {
        self.go(self.files.get().len().saturating_sub(1), |c| c.last())?;
        self.skip_back()
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        let at = self.files.get().partition_point(|f| f.meta.ends_before(user_key(target)));
        self.go(at, |c| c.seek(target))?;
        self.skip_forward()
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        let key = user_key(target);
        let behind = self.files.get().partition_point(|f| f.meta.smallest.as_slice() <= key);
        let Some(at) = behind.checked_sub(1) else {
            self.inside = false;
            return Ok(());
        };
        self.go(at, |c| c.seek_for_prev(target))?;
        self.skip_back()
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.step(|c| c.next())?;
        if self.valid() { Ok(()) } else { self.skip_forward() }
    }

    fn prev(&mut self) -> Result<()> {
        self.step(|c| c.prev())?;
        self.skip_back()
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.open.as_ref().map_or(&[], |c| c.key())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.open.as_ref().map_or(&[], |c| c.value())
    }
}

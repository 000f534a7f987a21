//! The files of a level below 0 as one cursor. It opens one file at a time.

use crate::base::Result;
use crate::lsm::cursor::Cursor;
use crate::lsm::iter::BoxCursor;
use crate::lsm::key::user_key;
use crate::lsm::version::TableFile;
use std::sync::Arc;

/// Walks files whose bounds have no key in common, given in key order.
pub struct LevelCursor {
    files: Vec<Arc<TableFile>>,
    fill_cache: bool,
    at: usize,
    open: Option<BoxCursor>,
}

impl LevelCursor {
    /// A cursor over `files`.
    pub fn new(files: Vec<Arc<TableFile>>, fill_cache: bool) -> LevelCursor {
        LevelCursor { files, fill_cache, at: 0, open: None }
    }

    /// Opens file `at` unless it is open, and moves its cursor by `step`. An error closes it.
    fn go(&mut self, at: usize, step: impl FnOnce(&mut BoxCursor) -> Result<()>) -> Result<()> {
        let kept = if self.at == at { self.open.take() } else { None };
        self.open = None;
        self.at = at;
        let Some(file) = self.files.get(at) else {
            return Ok(());
        };
        let mut cursor = kept.unwrap_or_else(|| file.cursor(self.fill_cache));
        step(&mut cursor)?;
        self.open = Some(cursor);
        Ok(())
    }

    /// Goes on to the next file while the present one is at its end.
    fn skip_forward(&mut self) -> Result<()> {
        while !self.valid() && self.at + 1 < self.files.len() {
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
}

impl Cursor for LevelCursor {
    fn valid(&self) -> bool {
        self.open.as_ref().is_some_and(|c| c.valid())
    }

    fn first(&mut self) -> Result<()> {
        self.go(0, |c| c.first())?;
        self.skip_forward()
    }

    fn last(&mut self) -> Result<()> {
        self.go(self.files.len().saturating_sub(1), |c| c.last())?;
        self.skip_back()
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        let at = self.files.partition_point(|f| f.meta.ends_before(user_key(target)));
        self.go(at, |c| c.seek(target))?;
        self.skip_forward()
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        let key = user_key(target);
        let behind = self.files.partition_point(|f| f.meta.smallest.as_slice() <= key);
        let Some(at) = behind.checked_sub(1) else {
            self.open = None;
            return Ok(());
        };
        self.go(at, |c| c.seek_for_prev(target))?;
        self.skip_back()
    }

    fn next(&mut self) -> Result<()> {
        self.go(self.at, |c| c.next())?;
        self.skip_forward()
    }

    fn prev(&mut self) -> Result<()> {
        self.go(self.at, |c| c.prev())?;
        self.skip_back()
    }

    fn key(&self) -> &[u8] {
        self.open.as_ref().map_or(&[], |c| c.key())
    }

    fn value(&self) -> &[u8] {
        self.open.as_ref().map_or(&[], |c| c.value())
    }
}

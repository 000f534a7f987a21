//! A cursor over records in a vector, for tests.

use crate::base::Result;
use crate::lsm::cursor::Cursor;
use crate::lsm::key::compare;
use std::cmp::Ordering;

/// Records, sorted by internal key.
pub struct VecCursor {
    records: Vec<(Vec<u8>, Vec<u8>)>,
    at: Option<usize>,
}

impl VecCursor {
    /// The records in order.
    pub fn new(mut records: Vec<(Vec<u8>, Vec<u8>)>) -> VecCursor {
        records.sort_by(|a, b| compare(&a.0, &b.0));
        VecCursor { records, at: None }
    }

    fn go(&mut self, at: Option<usize>) -> Result<()> {
        self.at = at.filter(|at| *at < self.records.len());
        Ok(())
    }

    fn here(&self) -> usize {
        self.at.unwrap()
    }
}

impl Cursor for VecCursor {
    fn valid(&self) -> bool {
        self.at.is_some()
    }

    fn first(&mut self) -> Result<()> {
        self.go(Some(0))
    }

    fn last(&mut self) -> Result<()> {
        self.go(self.records.len().checked_sub(1))
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.go(Some(self.records.partition_point(|r| compare(&r.0, target) == Ordering::Less)))
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        let behind = self.records.partition_point(|r| compare(&r.0, target) != Ordering::Greater);
        self.go(behind.checked_sub(1))
    }

    fn next(&mut self) -> Result<()> {
        self.go(Some(self.here() + 1))
    }

    fn prev(&mut self) -> Result<()> {
        self.go(self.here().checked_sub(1))
    }

    fn key(&self) -> &[u8] {
        &self.records[self.here()].0
    }

    fn value(&self) -> &[u8] {
        &self.records[self.here()].1
    }
}

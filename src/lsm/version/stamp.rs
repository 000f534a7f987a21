//! A cursor that gives every record of a file one sequence number.
//!
//! An ingested file was written without knowing its place in the history: each of its user keys
//! has one record, with sequence number 0. The manifest knows the number they count as having.

use crate::base::{Result, Seq};
use crate::lsm::cursor::Cursor;
use crate::lsm::key::{Kind, compare, parse, put_internal, user_key};
use std::cmp::Ordering;

/// Walks `inner` as if its records had the given sequence number. REQUIRES of `inner`: one record
/// for a user key.
pub struct Stamped<C> {
    inner: C,
    seq: Seq,
    key: Vec<u8>,
}

impl<C: Cursor> Stamped<C> {
    /// The records of `inner` at `seq`.
    pub fn new(inner: C, seq: Seq) -> Stamped<C> {
        Stamped { inner, seq, key: Vec::new() }
    }

    fn stamp(&mut self) {
        self.key.clear();
        if self.inner.valid() {
            let kind = parse(self.inner.key()).map_or(Kind::Delete, |k| k.kind);
            put_internal(&mut self.key, user_key(self.inner.key()), self.seq, kind);
        }
    }
}

impl<C: Cursor> Cursor for Stamped<C> {
    fn valid(&self) -> bool {
        self.inner.valid()
    }

    fn first(&mut self) -> Result<()> {
        self.inner.first()?;
        self.stamp();
        Ok(())
    }

    fn last(&mut self) -> Result<()> {
        self.inner.last()?;
        self.stamp();
        Ok(())
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        let mut newest = Vec::with_capacity(target.len());
        put_internal(&mut newest, user_key(target), Seq::MAX, Kind::MAX);
        self.inner.seek(&newest)?;
        self.stamp();
        if self.valid() && compare(&self.key, target) == Ordering::Less {
            self.next()?;
        }
        Ok(())
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        let mut oldest = Vec::with_capacity(target.len());
        put_internal(&mut oldest, user_key(target), Seq(0), Kind::Delete);
        self.inner.seek_for_prev(&oldest)?;
        self.stamp();
        if self.valid() && compare(&self.key, target) == Ordering::Greater {
            self.prev()?;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.inner.next()?;
        self.stamp();
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.inner.prev()?;
        self.stamp();
        Ok(())
    }

    fn key(&self) -> &[u8] {
        &self.key
    }

    fn value(&self) -> &[u8] {
        self.inner.value()
    }
}

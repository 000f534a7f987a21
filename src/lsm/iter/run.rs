//! One sorted run among those that are merged. An enum, so that a step is not a call through a
//! table: a scan takes millions of them.

use crate::base::{Result, Seq};
use crate::lsm::cursor::Cursor;
use crate::lsm::iter::LevelCursor;
use crate::lsm::iter::level::before_all_of;
use crate::lsm::memtable::MemtableCursor;
use crate::lsm::version::FileCursor;

/// A cursor over one source.
pub enum Run {
    /// A memtable.
    Memtable(MemtableCursor),
    /// A file of level 0.
    File(FileCursor),
    /// A level below 0.
    Level(LevelCursor),
    /// Records in a vector.
    #[cfg(test)]
    Vec(super::vec::VecCursor),
}

macro_rules! with {
    ($run:expr, $cursor:ident => $do:expr) => {
        match $run {
            Run::Memtable($cursor) => $do,
            Run::File($cursor) => $do,
            Run::Level($cursor) => $do,
            #[cfg(test)]
            Run::Vec($cursor) => $do,
        }
    };
}

impl Run {
    /// Goes to the first record at or behind the user key `until`, as far as it is known without
    /// looking that those passed over are not newer than `seq`; perhaps not at all.
    /// REQUIRES: valid, and before `until`.
    pub fn skip_older(&mut self, until: &[u8], seq: Seq) -> Result<()> {
        match self {
            Run::Level(cursor) => cursor.skip_older(until, seq),
            Run::File(cursor) if cursor.newest() <= seq => cursor.seek(&before_all_of(until)),
            _ => Ok(()),
        }
    }

    /// Goes to the last record before the user key `since`, as far as it is known without looking
    /// that those passed over are not newer than `seq`. REQUIRES: valid, and not before `since`.
    pub fn skip_older_back(&mut self, since: &[u8], seq: Seq) -> Result<()> {
        match self {
            Run::Level(cursor) => cursor.skip_older_back(since, seq),
            Run::File(cursor) if cursor.newest() <= seq => {
                cursor.seek_for_prev(&before_all_of(since))
            }
            _ => Ok(()),
        }
    }
}

impl Cursor for Run {
    #[inline]
    fn valid(&self) -> bool {
        with!(self, cursor => cursor.valid())
    }

    fn first(&mut self) -> Result<()> {
        with!(self, cursor => cursor.first())
    }

    fn last(&mut self) -> Result<()> {
        with!(self, cursor => cursor.last())
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        with!(self, cursor => cursor.seek(target))
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        with!(self, cursor => cursor.seek_for_prev(target))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        with!(self, cursor => cursor.next())
    }

    fn prev(&mut self) -> Result<()> {
        with!(self, cursor => cursor.prev())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        with!(self, cursor => cursor.key())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        with!(self, cursor => cursor.value())
    }
}

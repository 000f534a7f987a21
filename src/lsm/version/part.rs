//! The part of a file that a split has left to its shard.
//!
//! A split copies no records: both parts name the same files, and each counts only the records of
//! its own slots. A compaction writes what it reads through here, so the others go with it.

use crate::base::{CfId, Result};
use crate::lsm::cursor::Cursor;
use crate::lsm::key::user_key;
use crate::op::route::{SlotRange, slot_of_record};

/// Which records of a file count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) cf: CfId,
    pub(super) slots: SlotRange,
}

impl Kept {
    /// Whether records of a key do.
    pub(super) fn has(self, user_key: &[u8]) -> bool {
        slot_of_record(self.cf, user_key).is_none_or(|slot| self.slots.contains(slot))
    }
}

/// A cursor over the records that count.
pub(super) struct Partial<C> {
    cursor: C,
    kept: Kept,
}

impl<C: Cursor> Partial<C> {
    pub(super) fn new(cursor: C, kept: Kept) -> Partial<C> {
        Partial { cursor, kept }
    }

    fn stands_outside(&self) -> bool {
        self.cursor.valid() && !self.kept.has(user_key(self.cursor.key()))
    }

    fn go_on(&mut self) -> Result<()> {
        while self.stands_outside() {
            self.cursor.next()?;
        }
        Ok(())
    }

    fn go_back(&mut self) -> Result<()> {
        while self.stands_outside() {
            self.cursor.prev()?;
        }
        Ok(())
    }
}

impl<C: Cursor> Cursor for Partial<C> {
    fn valid(&self) -> bool {
        self.cursor.valid()
    }

    fn first(&mut self) -> Result<()> {
        self.cursor.first()?;
        self.go_on()
    }

    fn last(&mut self) -> Result<()> {
        self.cursor.last()?;
        self.go_back()
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.cursor.seek(target)?;
        self.go_on()
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        self.cursor.seek_for_prev(target)?;
        self.go_back()
    }

    fn next(&mut self) -> Result<()> {
        self.cursor.next()?;
        self.go_on()
    }

    fn prev(&mut self) -> Result<()> {
        self.cursor.prev()?;
        self.go_back()
    }

    fn key(&self) -> &[u8] {
        self.cursor.key()
    }

    fn value(&self) -> &[u8] {
        self.cursor.value()
    }
}

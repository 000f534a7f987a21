//! A walk over a table that the cursor keeps open.

use super::block::{Block, Malformed};
use super::block_cursor::BlockCursor;
use super::read_ahead::ReadAhead;
use super::table::Table;
use crate::base::Result;
use crate::lsm::cursor::Cursor;
use crate::lsm::key::compare;
use std::sync::Arc;

/// A cursor over a table's point records.
pub struct TableCursor {
    table: Arc<Table>,
    /// What was read ahead; `None` for a cursor that fills the cache.
    ahead: Option<ReadAhead>,
    /// Number of the block that `block` walks.
    at: usize,
    /// Whether `block` is of block `at` of `table`; else it is memory to be used again.
    inside: bool,
    block: Option<BlockCursor>,
}

impl TableCursor {
    pub(super) fn new(table: Arc<Table>, fill_cache: bool) -> TableCursor {
        let ahead = (!fill_cache).then(ReadAhead::default);
        TableCursor { table, ahead, at: 0, inside: false, block: None }
    }

    /// Goes over to another table and stands on no record of it.
    pub fn set_table(&mut self, table: Arc<Table>) {
        self.inside = false;
        self.table = table;
        if let Some(ahead) = &mut self.ahead {
            ahead.forget();
        }
    }

    fn read(&mut self, i: usize) -> Result<Arc<Block>> {
        match &mut self.ahead {
            Some(ahead) => self.table.block_ahead(i, ahead),
            None => self.table.block(i),
        }
    }

    /// Enters block `i` by `enter`; block numbers out of range leave the cursor invalid.
    fn enter(
        &mut self,
        i: usize,
        enter: impl FnOnce(&mut BlockCursor) -> Result<(), Malformed>,
    ) -> Result<()> {
        self.inside = false;
        if i >= self.table.blocks() {
            return Ok(());
        }
        let block = self.read(i)?;
        let entered = match &mut self.block {
            Some(cursor) => {
                cursor.set_block(block);
                enter(cursor)
            }
            empty => enter(empty.insert(BlockCursor::new(block))),
        };
        entered.map_err(|_| self.table.malformed(i))?;
        self.at = i;
        self.inside = true;
        Ok(())
    }

    /// Goes on behind the end of a block.
    #[inline]
    fn skip_forward(&mut self) -> Result<()> {
        while self.inside && !self.valid() {
            self.enter(self.at + 1, BlockCursor::first)?;
        }
        Ok(())
    }

    /// Goes on before the start of a block.
    fn skip_backward(&mut self) -> Result<()> {
        while self.inside && !self.valid() {
            self.enter(self.at.wrapping_sub(1), BlockCursor::last)?;
        }
        Ok(())
    }

    #[inline]
    fn step(&mut self, step: impl FnOnce(&mut BlockCursor) -> Result<(), Malformed>) -> Result<()> {
        if let Some(block) = self.block.as_mut().filter(|_| self.inside)
            && step(block).is_err()
        {
            self.inside = false;
            return Err(self.table.malformed(self.at));
        }
        Ok(())
    }
}

impl Cursor for TableCursor {
    #[inline]
    fn valid(&self) -> bool {
        self.inside && self.block.as_ref().is_some_and(BlockCursor::valid)
    }

    fn first(&mut self) -> Result<()> {
        self.enter(0, BlockCursor::first)?;
        self.skip_forward()
    }

    fn last(&mut self) -> Result<()> {
        self.enter(self.table.blocks().wrapping_sub(1), BlockCursor::last)?;
        self.skip_backward()
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        let i = self.table.find_block(target);
        if self.inside && i == self.at {
            self.step(|block| block.seek(target))?;
        } else {
            self.enter(i, |block| block.seek(target))?;
        }
        self.skip_forward()
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        self.seek(target)?;
        if !self.valid() {
            return self.last();
        }
        if compare(self.key(), target).is_gt() { self.prev() } else { Ok(()) }
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.step(BlockCursor::next)?;
        self.skip_forward()
    }

    fn prev(&mut self) -> Result<()> {
        self.step(BlockCursor::prev)?;
        self.skip_backward()
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], BlockCursor::key)
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], BlockCursor::value)
    }
}

//! A walk over a table that the cursor keeps open.

use super::block::Malformed;
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
    block: Option<BlockCursor>,
    /// The memory of the last block's cursor.
    spare: Option<BlockCursor>,
}

impl TableCursor {
    pub(super) fn new(table: Arc<Table>, fill_cache: bool) -> TableCursor {
        let ahead = (!fill_cache).then(ReadAhead::default);
        TableCursor { table, ahead, at: 0, block: None, spare: None }
    }

    /// Enters block `i` by `enter`; block numbers out of range leave the cursor invalid.
    fn enter(
        &mut self,
        i: usize,
        enter: impl FnOnce(&mut BlockCursor) -> Result<(), Malformed>,
    ) -> Result<()> {
        let old = self.block.take().or(self.spare.take());
        if i >= self.table.blocks() {
            self.spare = old;
            return Ok(());
        }
        let block = match &mut self.ahead {
            Some(ahead) => self.table.block_ahead(i, ahead)?,
            None => self.table.block(i)?,
        };
        let mut cursor = match old {
            Some(old) => old.reuse(block),
            None => BlockCursor::new(block),
        };
        enter(&mut cursor).map_err(|_| self.table.malformed(i))?;
        self.at = i;
        self.block = Some(cursor);
        Ok(())
    }

    /// Goes on behind the end of a block.
    fn skip_forward(&mut self) -> Result<()> {
        while self.block.as_ref().is_some_and(|b| !b.valid()) {
            self.enter(self.at + 1, BlockCursor::first)?;
        }
        Ok(())
    }

    /// Goes on before the start of a block.
    fn skip_backward(&mut self) -> Result<()> {
        while self.block.as_ref().is_some_and(|b| !b.valid()) {
            self.enter(self.at.wrapping_sub(1), BlockCursor::last)?;
        }
        Ok(())
    }

    fn step(&mut self, step: fn(&mut BlockCursor) -> Result<(), Malformed>) -> Result<()> {
        let Some(block) = &mut self.block else { return Ok(()) };
        if step(block).is_err() {
            self.spare = self.block.take();
            return Err(self.table.malformed(self.at));
        }
        Ok(())
    }
}

impl Cursor for TableCursor {
    fn valid(&self) -> bool {
        self.block.as_ref().is_some_and(BlockCursor::valid)
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
        self.enter(self.table.find_block(target), |block| block.seek(target))?;
        self.skip_forward()
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        self.seek(target)?;
        if !self.valid() {
            return self.last();
        }
        if compare(self.key(), target).is_gt() { self.prev() } else { Ok(()) }
    }

    fn next(&mut self) -> Result<()> {
        self.step(BlockCursor::next)?;
        self.skip_forward()
    }

    fn prev(&mut self) -> Result<()> {
        self.step(BlockCursor::prev)?;
        self.skip_backward()
    }

    fn key(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], BlockCursor::key)
    }

    fn value(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], BlockCursor::value)
    }
}

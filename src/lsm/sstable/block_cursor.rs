//! A walk over a data block that the cursor keeps alive.

use super::block::{Block, Malformed};
use crate::lsm::key::{TRAILER_BYTES, compare, user_key};
use std::sync::Arc;

/// Stands on an entry of a block, before the first call on none.
pub(super) struct BlockCursor {
    block: Arc<Block>,
    /// Offset of the entry; the end of the entries if there is none.
    at: usize,
    /// Offset of the one behind it.
    next: usize,
    value: usize,
    /// The internal key.
    key: Vec<u8>,
    /// The restart that the entry stands behind, or an earlier one.
    restart: usize,
}

impl BlockCursor {
    pub(super) fn new(block: Arc<Block>) -> BlockCursor {
        let at = block.entries_end();
        BlockCursor { block, at, next: at, value: at, key: Vec::new(), restart: 0 }
    }

    /// As `new`, with the memory of a cursor that is no longer needed.
    pub(super) fn reuse(mut self, block: Arc<Block>) -> BlockCursor {
        self.at = block.entries_end();
        self.next = self.at;
        self.value = self.at;
        self.restart = 0;
        self.key.clear();
        self.block = block;
        self
    }

    pub(super) fn valid(&self) -> bool {
        self.at < self.block.entries_end()
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.block.data()[self.value..self.next]
    }

    pub(super) fn first(&mut self) -> Result<(), Malformed> {
        self.start(0)?;
        self.next()
    }

    pub(super) fn last(&mut self) -> Result<(), Malformed> {
        self.start(self.block.restarts() - 1)?;
        self.next()?;
        while self.next < self.block.entries_end() {
            self.next()?;
        }
        Ok(())
    }

    /// Goes to the first entry at or behind `target`.
    pub(super) fn seek(&mut self, target: &[u8]) -> Result<(), Malformed> {
        let trailer = target.last_chunk::<TRAILER_BYTES>().map_or(0, |t| u64::from_le_bytes(*t));
        self.start(self.block.restart_before(user_key(target), trailer)?)?;
        loop {
            self.next()?;
            if !self.valid() || compare(&self.key, target).is_ge() {
                return Ok(());
            }
        }
    }

    /// Goes to the next entry, to none behind the last.
    pub(super) fn next(&mut self) -> Result<(), Malformed> {
        self.at = self.next;
        if !self.valid() {
            return Ok(());
        }
        let entry = match self.block.entry(self.at) {
            Ok(entry) => entry,
            Err(e) => {
                self.invalidate();
                return Err(e);
            }
        };
        let user_len = self.key.len().saturating_sub(TRAILER_BYTES);
        if entry.shared > user_len {
            self.invalidate();
            return Err(Malformed);
        }
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(&self.block.data()[entry.suffix..entry.value]);
        self.key.extend_from_slice(&entry.trailer.to_le_bytes());
        self.value = entry.value;
        self.next = entry.end;
        Ok(())
    }

    /// Goes to the entry before, to none before the first. REQUIRES: valid.
    pub(super) fn prev(&mut self) -> Result<(), Malformed> {
        let here = self.at;
        // The cursor may have walked over restarts since it last took one.
        while self.restart + 1 < self.block.restarts()
            && self.block.restart(self.restart + 1) < here
        {
            self.restart += 1;
        }
        while self.block.restart(self.restart) >= here {
            if self.restart == 0 {
                self.invalidate();
                return Ok(());
            }
            self.restart -= 1;
        }
        self.start(self.restart)?;
        loop {
            self.next()?;
            if self.next >= here || !self.valid() {
                return if self.next == here { Ok(()) } else { Err(Malformed) };
            }
        }
    }

    fn start(&mut self, restart: usize) -> Result<(), Malformed> {
        self.restart = restart;
        self.key.clear();
        self.next = self.block.restart(restart);
        if self.next < self.block.entries_end() {
            return Ok(());
        }
        self.invalidate();
        Err(Malformed)
    }

    fn invalidate(&mut self) {
        self.at = self.block.entries_end();
        self.next = self.at;
        self.value = self.at;
    }
}

//! A walk over a data block that the cursor keeps alive.

use super::block::{Block, Malformed};
use crate::lsm::key::{TRAILER_BYTES, user_key};
use std::sync::Arc;

/// Stands on an entry of a block, before the first call on none. After an error it stands on none.
pub(super) struct BlockCursor {
    block: Arc<Block>,
    /// Number of the entry; that of entries if it stands on none.
    at: usize,
    /// The internal key.
    key: Vec<u8>,
    /// The restart whose key the first `shared` bytes of `key` are from.
    restart: usize,
    shared: usize,
    value: (usize, usize),
}

impl BlockCursor {
    pub(super) fn new(block: Arc<Block>) -> BlockCursor {
        let at = block.entries();
        BlockCursor { block, at, key: Vec::new(), restart: 0, shared: 0, value: (0, 0) }
    }

    /// As `new`, with the memory of a cursor that is no longer needed.
    pub(super) fn reuse(mut self, block: Arc<Block>) -> BlockCursor {
        self.at = block.entries();
        self.shared = 0;
        self.block = block;
        self
    }

    pub(super) fn valid(&self) -> bool {
        self.at < self.block.entries()
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.block.data()[self.value.0..self.value.1]
    }

    pub(super) fn first(&mut self) -> Result<(), Malformed> {
        self.enter(0)
    }

    pub(super) fn last(&mut self) -> Result<(), Malformed> {
        self.enter(self.block.entries() - 1)
    }

    /// Goes to the first entry at or behind `target`.
    pub(super) fn seek(&mut self, target: &[u8]) -> Result<(), Malformed> {
        let trailer = target.last_chunk::<TRAILER_BYTES>().map_or(0, |t| u64::from_le_bytes(*t));
        match self.block.find(user_key(target), trailer) {
            Ok(i) => self.enter(i),
            Err(e) => self.fail(e),
        }
    }

    /// Goes to the next entry, to none behind the last. REQUIRES: valid.
    pub(super) fn next(&mut self) -> Result<(), Malformed> {
        self.enter(self.at + 1)
    }

    /// Goes to the entry before, to none before the first. REQUIRES: valid.
    pub(super) fn prev(&mut self) -> Result<(), Malformed> {
        self.enter(self.at.checked_sub(1).unwrap_or(self.block.entries()))
    }

    /// Goes to entry `i`, to none if there is no such entry.
    #[inline]
    fn enter(&mut self, i: usize) -> Result<(), Malformed> {
        self.at = i.min(self.block.entries());
        if i >= self.block.entries() {
            return Ok(());
        }
        match self.read(i) {
            Some(()) => Ok(()),
            None => self.fail(Malformed),
        }
    }

    fn read(&mut self, i: usize) -> Option<()> {
        let entry = self.block.entry(i).ok()?;
        let restart = self.block.restart_of(i);
        // What an earlier entry shared with the same restart is in the buffer already.
        let kept = if self.restart == restart { self.shared.min(entry.shared) } else { 0 };
        self.key.truncate(kept);
        if kept < entry.shared {
            let key = self.block.restart_key(restart).ok()?;
            self.key.extend_from_slice(key.get(kept..entry.shared)?);
        }
        self.key.extend_from_slice(&self.block.data()[entry.suffix..entry.value]);
        self.key.extend_from_slice(&entry.trailer.to_le_bytes());
        // Of a restart's own key all may be kept.
        self.shared = if i == restart { entry.value - entry.suffix } else { entry.shared };
        self.restart = restart;
        self.value = (entry.value, entry.end);
        Some(())
    }

    fn fail(&mut self, e: Malformed) -> Result<(), Malformed> {
        self.at = self.block.entries();
        self.shared = 0;
        Err(e)
    }
}

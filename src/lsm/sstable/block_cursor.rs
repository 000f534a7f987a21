//! A walk over a data block that the cursor keeps alive.

use super::block::{Block, Malformed, RawEntry};
use crate::lsm::heads::common_prefix;
use crate::lsm::key::{TRAILER_BYTES, compare_user, user_key};
use std::cmp::Ordering;
use std::sync::Arc;

/// Suffixes of keys up to this long are copied as one piece of this size.
const COPY_BYTES: usize = 16;

/// Stands on an entry of a block, before the first call on none. After an error it stands on none.
pub(super) struct BlockCursor {
    block: Arc<Block>,
    /// Number of the entry; that of entries if it stands on none.
    at: usize,
    entries: usize,
    /// The internal key.
    key: Vec<u8>,
    /// The restart whose key the first `shared` bytes of `key` are from, and the one behind it.
    restart: usize,
    next_restart: usize,
    shared: usize,
    value: (usize, usize),
}

impl BlockCursor {
    pub(super) fn new(block: Arc<Block>) -> BlockCursor {
        let entries = block.entries();
        let key = Vec::new();
        let (restart, next_restart) = (0, 0);
        BlockCursor {
            block,
            at: entries,
            entries,
            key,
            restart,
            next_restart,
            shared: 0,
            value: (0, 0),
        }
    }

    /// Goes over to another block and stands on no entry of it.
    pub(super) fn set_block(&mut self, block: Arc<Block>) {
        self.entries = block.entries();
        self.at = self.entries;
        self.shared = 0;
        self.block = block;
    }

    #[inline]
    pub(super) fn valid(&self) -> bool {
        self.at < self.entries
    }

    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    #[inline]
    pub(super) fn value(&self) -> &[u8] {
        &self.block.data()[self.value.0..self.value.1]
    }

    pub(super) fn first(&mut self) -> Result<(), Malformed> {
        self.enter(0)
    }

    pub(super) fn last(&mut self) -> Result<(), Malformed> {
        self.enter(self.entries - 1)
    }

    /// Goes to the first entry at or behind `target`.
    pub(super) fn seek(&mut self, target: &[u8]) -> Result<(), Malformed> {
        let trailer = target.last_chunk::<TRAILER_BYTES>().map_or(0, |t| u64::from_le_bytes(*t));
        match self.find(user_key(target), trailer) {
            Ok(i) => self.enter(i),
            Err(e) => self.fail(e),
        }
    }

    /// The first entry at or behind the target; `entries` if there is none.
    fn find(&self, user_key: &[u8], trailer: u64) -> Result<usize, Malformed> {
        let interval = self.block.restart_interval();
        // First among the restarts, whose keys are whole, then behind the last one before it.
        let (mut low, mut high) = (0, self.entries.div_ceil(interval));
        while low < high {
            let middle = low.midpoint(high);
            let entry = self.block.entry(middle * interval)?;
            let order = compare_user(self.suffix(&entry), user_key);
            if entry.shared != 0 {
                return Err(Malformed);
            }
            match order.then_with(|| trailer.cmp(&entry.trailer)) {
                Ordering::Less => low = middle + 1,
                _ => high = middle,
            }
        }
        let Some(restart) = low.checked_sub(1).map(|n| n * interval) else { return Ok(0) };
        let restart_key = self.block.restart_key(restart)?;
        // What an entry shares with the restart is compared once for all of them.
        let common = common_prefix(restart_key, user_key);
        let behind = restart_key.get(common).cmp(&user_key.get(common));
        let (mut low, mut high) = (restart + 1, self.entries.min(restart + interval));
        while low < high {
            let middle = low.midpoint(high);
            let entry = self.block.entry(middle)?;
            let order = match user_key.get(entry.shared..).filter(|_| entry.shared <= common) {
                Some(rest) => compare_user(self.suffix(&entry), rest),
                None => behind,
            };
            match order.then_with(|| trailer.cmp(&entry.trailer)) {
                Ordering::Less => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    fn suffix(&self, entry: &RawEntry) -> &[u8] {
        &self.block.data()[entry.suffix..entry.value]
    }

    /// Goes to the next entry, to none behind the last. REQUIRES: valid.
    #[inline]
    pub(super) fn next(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        if self.at >= self.entries {
            return Ok(());
        }
        if self.at == self.next_restart {
            self.restart = self.at;
            self.next_restart += self.block.restart_interval();
            self.shared = 0;
        }
        // Entries lie behind one another.
        match self.block.entry_at(self.value.1) {
            Ok(entry) => self.read(&entry),
            Err(e) => self.fail(e),
        }
    }

    /// Goes to the entry before, to none before the first. REQUIRES: valid.
    pub(super) fn prev(&mut self) -> Result<(), Malformed> {
        self.enter(self.at.checked_sub(1).unwrap_or(self.entries))
    }

    /// Goes to entry `i`, to none if there is no such entry.
    fn enter(&mut self, i: usize) -> Result<(), Malformed> {
        self.at = i.min(self.entries);
        if i >= self.entries {
            return Ok(());
        }
        let restart = self.block.restart_of(i);
        if restart != self.restart {
            self.restart = restart;
            self.shared = 0;
        }
        self.next_restart = restart + self.block.restart_interval();
        match self.block.entry(i) {
            Ok(entry) => self.read(&entry),
            Err(e) => self.fail(e),
        }
    }

    /// Takes over the entry `self.at`, whose restart is `self.restart`.
    #[inline]
    fn read(&mut self, entry: &RawEntry) -> Result<(), Malformed> {
        // What an earlier entry shared with the same restart is in the buffer already.
        let kept = self.shared.min(entry.shared);
        self.key.truncate(kept);
        if kept < entry.shared {
            let key = self.block.restart_key(self.restart);
            match key.ok().and_then(|key| key.get(kept..entry.shared)) {
                Some(part) => self.key.extend_from_slice(part),
                None => return self.fail(Malformed),
            }
        }
        let len = entry.value - entry.suffix;
        match self.block.data()[entry.suffix..].first_chunk::<COPY_BYTES>() {
            Some(piece) if len <= COPY_BYTES => {
                self.key.extend_from_slice(piece);
                self.key.truncate(entry.shared + len);
            }
            _ => self.key.extend_from_slice(&self.block.data()[entry.suffix..entry.value]),
        }
        self.key.extend_from_slice(&entry.trailer.to_le_bytes());
        // Of a restart's own key all may be kept.
        self.shared = if self.at == self.restart { len } else { entry.shared };
        self.value = (entry.value, entry.end);
        Ok(())
    }

    fn fail(&mut self, e: Malformed) -> Result<(), Malformed> {
        self.at = self.entries;
        self.shared = 0;
        Err(e)
    }
}

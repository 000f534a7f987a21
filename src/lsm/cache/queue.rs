//! Which block goes when one must: S3-FIFO (Yang et al., "FIFO queues are all you need for cache
//! eviction", SOSP 2023).
//!
//! A block enters a small queue. Reaching its end it goes, unless it was read meanwhile: then it
//! enters the main queue, at whose end blocks that were read go round once more for each read, up
//! to three. What went from the small queue is remembered for a while: coming back, it enters the
//! main queue. So a scan passes through without driving out what is read often.

use crate::lsm::cache::TableBlocks;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// The part of the bytes in queues that the small one may have.
const SMALL_PART: u64 = 10;
/// Entries without a block that are put up with before all are looked through.
const STALE_MIN: usize = 1024;

/// Blocks in the order in which they go.
pub(super) struct Queue {
    small: VecDeque<Entry>,
    main: VecDeque<Entry>,
    small_bytes: u64,
    main_bytes: u64,
    gone: Gone,
}

/// A block's place in the queue. The block may be gone, and even be there again with an entry of
/// its own.
pub(super) struct Entry {
    table: Weak<TableBlocks>,
    block: u32,
    bytes: u32,
    name: u64,
}

/// Blocks that went lately: a table of names in which each has one place.
struct Gone(Box<[u64]>);

impl Entry {
    pub(super) fn new(table: &Arc<TableBlocks>, block: usize, bytes: u64) -> Entry {
        // An odd factor: no two blocks of a table, or of one number, have the same name.
        let name = (table.id << 32 ^ block as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // A table has fewer than 2^32 blocks, each of less than 4 GiB.
        let (block, bytes) = (block as u32, bytes as u32);
        Entry { table: Arc::downgrade(table), block, bytes, name }
    }
}

impl Gone {
    fn place(&self, name: u64) -> usize {
        (name >> 32) as usize % self.0.len()
    }

    fn remember(&mut self, name: u64) {
        let place = self.place(name);
        self.0[place] = name;
    }

    fn take(&mut self, name: u64) -> bool {
        let place = self.place(name);
        let found = self.0[place] == name;
        if found {
            self.0[place] = 0;
        }
        found
    }
}

impl Queue {
    pub(super) fn new(capacity_bytes: u64) -> Queue {
        // As many as there are blocks of 4 KiB.
        let places = (capacity_bytes / 4096).clamp(16, 1 << 20) as usize;
        Queue {
            small: VecDeque::new(),
            main: VecDeque::new(),
            small_bytes: 0,
            main_bytes: 0,
            gone: Gone(vec![0; places].into()),
        }
    }

    /// Adds a block that has entered.
    pub(super) fn push(&mut self, entry: Entry) {
        if self.gone.take(entry.name) { self.push_main(entry) } else { self.push_small(entry) }
    }

    /// Entries without a block that are put up with.
    pub(super) fn stale_max(&self) -> usize {
        STALE_MIN.max(self.small.len().midpoint(self.main.len()))
    }

    /// Takes out the entries whose block is gone.
    pub(super) fn forget_stale(&mut self) {
        for (queue, bytes) in
            [(&mut self.small, &mut self.small_bytes), (&mut self.main, &mut self.main_bytes)]
        {
            let is_held = |entry: &Entry| {
                let table = entry.table.upgrade();
                table.is_some_and(|table| table.slots[entry.block as usize].load().is_some())
            };
            queue.retain(is_held);
            *bytes = queue.iter().map(|entry| u64::from(entry.bytes)).sum();
        }
    }

    /// Lets go of one block, or of an entry without one; false if there are none.
    pub(super) fn let_one_go(&mut self) -> bool {
        let all = self.small_bytes + self.main_bytes;
        if self.small_bytes > all / SMALL_PART || self.main.is_empty() {
            let Some(entry) = self.small.pop_front() else { return false };
            self.small_bytes -= u64::from(entry.bytes);
            match entry.look() {
                Look::Gone => {}
                Look::Read => self.push_main(entry),
                Look::Unread(table) => {
                    _ = table.let_go(entry.block as usize);
                    self.gone.remember(entry.name);
                }
            }
            return true;
        }
        let Some(entry) = self.main.pop_front() else { return false };
        self.main_bytes -= u64::from(entry.bytes);
        match entry.look() {
            Look::Gone => {}
            Look::Read => self.push_main(entry),
            Look::Unread(table) => _ = table.let_go(entry.block as usize),
        }
        true
    }

    fn push_small(&mut self, entry: Entry) {
        self.small_bytes += u64::from(entry.bytes);
        self.small.push_back(entry);
    }

    fn push_main(&mut self, entry: Entry) {
        self.main_bytes += u64::from(entry.bytes);
        self.main.push_back(entry);
    }
}

/// What became of a block in the queue.
enum Look {
    Gone,
    Read,
    Unread(Arc<TableBlocks>),
}

impl Entry {
    /// Looks at the block, and takes one read off it.
    fn look(&self) -> Look {
        let Some(table) = self.table.upgrade() else { return Look::Gone };
        let was_read = match &*table.slots[self.block as usize].load() {
            None => return Look::Gone,
            Some(block) => block.take_read(),
        };
        if was_read { Look::Read } else { Look::Unread(table) }
    }
}

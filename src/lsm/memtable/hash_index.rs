//! From a user key straight to its newest node, for point reads.
//!
//! A table of node pointers with linear probing, at most half full. Only the writer changes it;
//! readers take no lock. When it is full the writer publishes one of twice the size and keeps
//! the old one until the index is dropped, as a reader may still be in it: such a reader misses
//! only what was inserted after it began.

#![expect(unsafe_code, reason = "publishes tables and nodes to readers without locks")]

use super::node::{Node, NodeRef};
use std::sync::atomic::{AtomicPtr, Ordering};

const SLOTS_MIN: usize = 64;

pub(super) struct HashIndex {
    table: AtomicPtr<Table>,
}

struct Table {
    /// A power of two of them, or none.
    slots: Box<[AtomicPtr<Node>]>,
    older: *mut Table,
}

/// What only the writer knows of the index.
#[derive(Debug, Default)]
pub(super) struct HashWriter {
    keys: usize,
}

// SAFETY: tables are reached through atomics, and freed only when the index is dropped; the
// nodes belong to the skiplist, which is shared in the same way.
unsafe impl Send for HashIndex {}
// SAFETY: as above.
unsafe impl Sync for HashIndex {}

impl Table {
    fn new(slots: usize, older: *mut Table) -> *mut Table {
        let slots = (0..slots).map(|_| AtomicPtr::default()).collect();
        Box::into_raw(Box::new(Table { slots, older }))
    }

    /// The slot that holds a node for which `is_it` holds, or the empty one where it would go.
    fn find<'a>(&self, hash: u32, is_it: impl Fn(NodeRef<'a>) -> bool) -> &AtomicPtr<Node> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = &self.slots[at];
            // SAFETY: slots hold null or nodes published by the writer, whose arena outlives the
            // index (`HashIndex::get` and `insert` demand it).
            match unsafe { NodeRef::new(slot.load(Ordering::Acquire)) } {
                Some(node) if node.hash() != hash || !is_it(node) => at = (at + 1) & mask,
                _ => return slot,
            }
        }
    }
}

impl HashIndex {
    pub(super) fn new() -> HashIndex {
        HashIndex { table: AtomicPtr::new(Table::new(0, std::ptr::null_mut())) }
    }

    fn table(&self) -> &Table {
        // SAFETY: never null, and no table is freed before the index is dropped.
        unsafe { &*self.table.load(Ordering::Acquire) }
    }

    /// The newest node of `user_key`.
    ///
    /// # Safety
    /// The arena of the nodes given to `insert` lives for `'a`.
    pub(super) unsafe fn get<'a>(&self, hash: u32, user_key: &[u8]) -> Option<NodeRef<'a>> {
        let table = self.table();
        if table.slots.is_empty() {
            return None;
        }
        let slot = table.find(hash, |node| node.user_key() == user_key);
        // SAFETY: as the caller promises; published because it stands in a slot.
        unsafe { NodeRef::new(slot.load(Ordering::Acquire)) }
    }

    /// Takes note of a node that is linked into the list; gives the bytes the index has grown by.
    ///
    /// # Safety
    /// The node's arena outlives the index, and no other call of `insert` runs.
    pub(super) unsafe fn insert(&self, writer: &mut HashWriter, node: NodeRef<'_>) -> usize {
        let grown = if (writer.keys + 1) * 2 > self.table().slots.len() { self.grow() } else { 0 };
        let slot = self.table().find(node.hash(), |other| other.user_key() == node.user_key());
        // SAFETY: as the caller promises.
        match unsafe { NodeRef::new(slot.load(Ordering::Relaxed)) } {
            Some(present) if present.trailer() > node.trailer() => return grown,
            Some(_) => {}
            None => writer.keys += 1,
        }
        slot.store(node.as_ptr(), Ordering::Release);
        grown
    }

    fn grow(&self) -> usize {
        let old = self.table();
        let slots = (old.slots.len() * 2).max(SLOTS_MIN);
        let new = Table::new(slots, self.table.load(Ordering::Relaxed));
        // SAFETY: just made, and not yet seen by others.
        let table = unsafe { &*new };
        for slot in &old.slots {
            let node = slot.load(Ordering::Relaxed);
            // SAFETY: slots hold null or published nodes of a living arena.
            if let Some(moved) = unsafe { NodeRef::new(node) } {
                // Each key stands in the old table once: no need to compare.
                table.find(moved.hash(), |_| false).store(node, Ordering::Relaxed);
            }
        }
        self.table.store(new, Ordering::Release);
        slots * size_of::<AtomicPtr<Node>>()
    }
}

impl Drop for HashIndex {
    fn drop(&mut self) {
        let mut table = *self.table.get_mut();
        while !table.is_null() {
            // SAFETY: made by `Table::new`, linked once, and nobody reads any more.
            table = unsafe { Box::from_raw(table) }.older;
        }
    }
}

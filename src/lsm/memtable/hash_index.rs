//! From a user key straight to its newest node, for point reads.
//!
//! A table of hashes with linear probing, at most half full, and one of the nodes they stand for.
//! A search touches a node only where the hash is right, and growing touches none. Only the writer
//! changes them, the node before its hash, so that a reader that sees the hash finds the node;
//! readers take no lock. When it is full the writer publishes one of twice the size and keeps
//! the old one until the index is dropped, as a reader may still be in it: such a reader misses
//! only what was inserted after it began.

#![expect(unsafe_code, reason = "publishes tables and nodes to readers without locks")]

use super::node::{Node, NodeRef};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

const SLOTS_MIN: usize = 64;

pub(super) struct HashIndex {
    table: AtomicPtr<Table>,
}

struct Table {
    /// A power of two of them, or none; 0 where there is no node.
    hashes: Box<[AtomicU32]>,
    nodes: Box<[AtomicPtr<Node>]>,
    older: *mut Table,
}

/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = size_of::<AtomicU32>() + size_of::<AtomicPtr<Node>>();

/// The hash as it stands in a table: never 0.
#[inline]
fn stored(hash: u32) -> u32 {
    hash.max(1)
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
        let hashes = (0..slots).map(|_| AtomicU32::default()).collect();
        let nodes = (0..slots).map(|_| AtomicPtr::default()).collect();
        Box::into_raw(Box::new(Table { hashes, nodes, older }))
    }

    /// The slot of a node for which `is_it` holds, and the node, or the empty slot where it would
    /// go. REQUIRES: there are slots.
    #[inline]
    fn find<'a>(
        &self,
        hash: u32,
        is_it: impl Fn(NodeRef<'a>) -> bool,
    ) -> (usize, Option<NodeRef<'a>>) {
        let (hash, mask) = (stored(hash), self.hashes.len() - 1);
        let mut at = hash as usize & mask;
        loop {
            match self.hashes[at].load(Ordering::Acquire) {
                0 => return (at, None),
                found if found == hash => {
                    // SAFETY: slots hold null or nodes published by the writer, whose arena
                    // outlives the index (`HashIndex::get` and `insert` demand it).
                    let node = unsafe { NodeRef::new(self.nodes[at].load(Ordering::Acquire)) };
                    if node.is_some_and(&is_it) {
                        return (at, node);
                    }
                }
                _ => {}
            }
            at = (at + 1) & mask;
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
        if table.hashes.is_empty() {
            return None;
        }
        table.find(hash, |node| node.user_key() == user_key).1
    }

    /// Has the processor fetch the slot of a hash, for a search or an insert some moments later.
    #[inline]
    pub(super) fn prefetch(&self, hash: u32) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let table = self.table();
            if let Some(mask) = table.hashes.len().checked_sub(1) {
                let at = stored(hash) as usize & mask;
                // SAFETY: a hint about addresses within the table; nothing is read.
                unsafe {
                    _mm_prefetch::<_MM_HINT_T0>((&raw const table.hashes[at]).cast());
                    _mm_prefetch::<_MM_HINT_T0>((&raw const table.nodes[at]).cast());
                }
            }
        }
    }

    /// Takes note of a node that is linked into the list; gives the bytes the index has grown by.
    ///
    /// # Safety
    /// The node's arena outlives the index, and no other call of `insert` runs.
    pub(super) unsafe fn insert(&self, writer: &mut HashWriter, node: NodeRef<'_>) -> usize {
        let grown = if (writer.keys + 1) * 2 > self.table().hashes.len() { self.grow() } else { 0 };
        let (table, hash) = (self.table(), node.hash());
        let (at, present) = table.find(hash, |other| other.user_key() == node.user_key());
        match present {
            Some(present) if present.trailer() > node.trailer() => {}
            Some(_) => table.nodes[at].store(node.as_ptr(), Ordering::Release),
            None => {
                writer.keys += 1;
                table.nodes[at].store(node.as_ptr(), Ordering::Release);
                table.hashes[at].store(stored(hash), Ordering::Release);
            }
        }
        grown
    }

    fn grow(&self) -> usize {
        let old = self.table();
        let slots = (old.hashes.len() * 2).max(SLOTS_MIN);
        let new = Table::new(slots, self.table.load(Ordering::Relaxed));
        // SAFETY: just made, and not yet seen by others.
        let table = unsafe { &*new };
        for (hash, node) in old.hashes.iter().zip(&old.nodes) {
            let hash = hash.load(Ordering::Relaxed);
            if hash != 0 {
                // Each key stands in the old table once: no need to compare.
                let mut at = hash as usize & (slots - 1);
                while table.hashes[at].load(Ordering::Relaxed) != 0 {
                    at = (at + 1) & (slots - 1);
                }
                table.nodes[at].store(node.load(Ordering::Relaxed), Ordering::Relaxed);
                table.hashes[at].store(hash, Ordering::Relaxed);
            }
        }
        self.table.store(new, Ordering::Release);
        slots * SLOT_BYTES
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

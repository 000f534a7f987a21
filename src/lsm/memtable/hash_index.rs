//! From a user key straight to its newest node, for point reads.
//!
//! A table of hashes with linear probing, at most half full, and one of the nodes they stand for.
//! A search touches a node only where the hash is right, and growing touches none. Only the writer
//! changes them, the node before its hash, so that a reader that sees the hash finds the node;
//! readers take no lock. When it is full the writer publishes one of twice the size and leaves
//! the old one in the arena, as a reader may still be in it: such a reader misses only what was
//! inserted after it began.

#![expect(unsafe_code, reason = "publishes tables and nodes to readers without locks")]

use super::arena::Arena;
use super::node::{Node, NodeRef};
use crate::env::prefetch_for_read;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

const SLOTS_MIN: usize = 64;

#[derive(Default)]
pub(super) struct HashIndex {
    /// Null as long as it holds nothing.
    table: AtomicPtr<Table>,
}

/// In the arena, with `slots` hashes behind it and as many pointers to nodes behind those.
#[repr(C)]
struct Table {
    /// A power of two, not below [`SLOTS_MIN`].
    slots: usize,
}

/// A published table.
#[derive(Clone, Copy)]
struct TableRef<'a> {
    /// 0 where there is no node.
    hashes: &'a [AtomicU32],
    /// As many; initialised where there is a hash, which is stored after the node.
    nodes: &'a [MaybeUninit<AtomicPtr<Node>>],
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
    /// Keys in it.
    keys: usize,
    /// Keys at which it grows.
    keys_max: usize,
}

// SAFETY: tables are reached through atomics and never changed but by atomics; the nodes belong to
// the skiplist, which is shared in the same way.
unsafe impl Send for HashIndex {}
// SAFETY: as above.
unsafe impl Sync for HashIndex {}

impl Table {
    /// A table without nodes, and the memory it takes.
    fn new(arena: &mut Arena, slots: usize) -> (NonNull<Table>, usize) {
        let (at, bytes) = arena.alloc_table(size_of::<Table>() + slots * SLOT_BYTES);
        let table = at.cast::<Table>();
        // SAFETY: the arena gave at least so much memory, aligned to 8, that nobody else has. The
        // hashes are zeros, of empty slots.
        unsafe {
            table.write(Table { slots });
            table.add(1).cast::<AtomicU32>().write_bytes(0, slots);
        }
        (table, bytes)
    }
}

impl<'a> TableRef<'a> {
    /// Has the slot stand for another node, or for its first one. REQUIRES: the writer.
    #[inline]
    fn set(self, at: usize, node: *mut Node) {
        let slot = self.nodes[at].as_ptr();
        // SAFETY: an atomic pointer has the layout of a pointer, aligned by `Table::new`; nobody
        // reads the slot otherwise than as an atomic.
        unsafe { AtomicPtr::from_ptr(slot.cast_mut().cast()) }.store(node, Ordering::Release);
    }

    /// # Safety
    /// `table` was made by [`Table::new`] in an arena that lives for `'a`.
    #[inline]
    unsafe fn new(table: NonNull<Table>) -> TableRef<'a> {
        // SAFETY: as `Table::new` laid it out: the slots are a multiple of 64, so that the
        // pointers behind the hashes are aligned.
        unsafe {
            let slots = table.as_ref().slots;
            let hashes = table.add(1).cast::<AtomicU32>();
            let nodes = hashes.add(slots).cast::<MaybeUninit<AtomicPtr<Node>>>();
            TableRef {
                hashes: NonNull::slice_from_raw_parts(hashes, slots).as_ref(),
                nodes: NonNull::slice_from_raw_parts(nodes, slots).as_ref(),
            }
        }
    }

    /// The slot of a node for which `is_it` holds, and the node, or the empty slot where it would
    /// go.
    #[inline]
    fn find(self, hash: u32, is_it: impl Fn(NodeRef<'a>) -> bool) -> (usize, Option<NodeRef<'a>>) {
        let (hash, mask) = (stored(hash), self.hashes.len() - 1);
        let mut at = hash as usize & mask;
        loop {
            match self.hashes[at].load(Ordering::Acquire) {
                0 => return (at, None),
                found if found == hash => {
                    // SAFETY: where there is a hash the writer has published a node, whose arena
                    // is that of the table.
                    let node = unsafe {
                        NodeRef::new(self.nodes[at].assume_init_ref().load(Ordering::Acquire))
                    };
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
    /// # Safety
    /// The arena given to `insert` lives for `'a`.
    #[inline]
    unsafe fn table<'a>(&self) -> Option<TableRef<'a>> {
        let table = NonNull::new(self.table.load(Ordering::Acquire))?;
        // SAFETY: made by `grow`, in that arena.
        Some(unsafe { TableRef::new(table) })
    }

    /// The newest node of `user_key`.
    ///
    /// # Safety
    /// The arena given to `insert` lives for `'a`.
    pub(super) unsafe fn get<'a>(&self, hash: u32, user_key: &[u8]) -> Option<NodeRef<'a>> {
        // SAFETY: as the caller promises.
        let table = unsafe { self.table() }?;
        table.find(hash, |node| node.user_key() == user_key).1
    }

    /// Has the processor fetch the slot of a hash, for a search or an insert some moments later.
    ///
    /// # Safety
    /// The arena given to `insert` is alive.
    #[inline]
    pub(super) unsafe fn prefetch(&self, hash: u32) {
        // SAFETY: as the caller promises.
        if let Some(table) = unsafe { self.table() } {
            let at = stored(hash) as usize & (table.hashes.len() - 1);
            prefetch_for_read((&raw const table.hashes[at]).cast(), 1);
            prefetch_for_read((&raw const table.nodes[at]).cast(), 1);
        }
    }

    /// Takes note of a node that is linked into the list; gives the bytes the index has grown by.
    ///
    /// # Safety
    /// The node is in `arena`, which is the same at every call, and no other call of `insert`
    /// runs.
    #[inline]
    pub(super) unsafe fn insert(
        &self,
        writer: &mut HashWriter,
        arena: &mut Arena,
        node: NodeRef<'_>,
    ) -> usize {
        // SAFETY: as the caller promises.
        let grown =
            if writer.keys == writer.keys_max { unsafe { self.grow(writer, arena) } } else { 0 };
        // SAFETY: the arena is borrowed.
        let Some(table) = (unsafe { self.table() }) else { return grown };
        let hash = node.hash();
        let (at, present) = table.find(hash, |other| other.user_key() == node.user_key());
        match present {
            Some(present) if present.trailer() > node.trailer() => {}
            Some(_) => table.set(at, node.as_ptr()),
            None => {
                writer.keys += 1;
                table.set(at, node.as_ptr());
                table.hashes[at].store(stored(hash), Ordering::Release);
            }
        }
        grown
    }

    /// # Safety
    /// As for `insert`.
    #[cold]
    unsafe fn grow(&self, writer: &mut HashWriter, arena: &mut Arena) -> usize {
        // SAFETY: the arena is borrowed.
        let old = unsafe { self.table() };
        let slots = old.map_or(SLOTS_MIN, |old| old.hashes.len() * 2);
        let (new, bytes) = Table::new(arena, slots);
        if let Some(old) = old {
            // SAFETY: just made in the arena.
            let table = unsafe { TableRef::new(new) };
            for (hashes, nodes) in old.hashes.chunks(64).zip(old.nodes.chunks(64)) {
                // Which slots are taken is anybody's guess: found out without a branch for each.
                let bit = |(i, hash): (usize, &AtomicU32)| {
                    u64::from(hash.load(Ordering::Relaxed) != 0) << i
                };
                let mut taken = hashes.iter().enumerate().map(bit).fold(0, |all, bit| all | bit);
                while taken != 0 {
                    let i = taken.trailing_zeros() as usize;
                    taken &= taken - 1;
                    let hash = hashes[i].load(Ordering::Relaxed);
                    // Each key stands in the old table once: no need to compare.
                    let mut at = hash as usize & (slots - 1);
                    while table.hashes[at].load(Ordering::Relaxed) != 0 {
                        at = (at + 1) & (slots - 1);
                    }
                    // SAFETY: there is a hash, so there is a node.
                    let node = unsafe { nodes[i].assume_init_ref() };
                    table.set(at, node.load(Ordering::Relaxed));
                    table.hashes[at].store(hash, Ordering::Relaxed);
                }
            }
        }
        writer.keys_max = slots / 2;
        self.table.store(new.as_ptr(), Ordering::Release);
        bytes
    }
}

//! A node of the skiplist: one record in one piece of arena memory.
//!
//! ```text
//! [Header: head u64, key_len u32, value_len u32, hash u32, height u32]
//! [next: AtomicPtr; height]  [internal key][value]
//! ```
//! `head` is the first 8 bytes of the user key, big-endian and padded with zeros, so that most
//! comparisons are of one integer. All but `next` is written before the node is published and
//! never again.

#![expect(unsafe_code, reason = "reads records through raw pointers into the arena")]

use super::arena::Arena;
use crate::env::prefetch_for_read;
use crate::lsm::heads::head;
use crate::lsm::key::{TRAILER_BYTES, user_key};
use std::cmp::Ordering;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::AtomicPtr;

/// Levels of the tallest node: with a quarter of each level going on, enough for 16M records.
pub(super) const HEIGHT_MAX: usize = 12;

#[repr(C)]
pub(super) struct Node {
    head: u64,
    key_len: u32,
    value_len: u32,
    hash: u32,
    height: u32,
}

type Link = AtomicPtr<Node>;

/// What a node is made of.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) user_key: &'a [u8],
    pub(super) trailer: u64,
    pub(super) value: &'a [u8],
    pub(super) hash: u32,
}

/// A published node, readable for `'a`.
#[derive(Clone, Copy)]
pub(super) struct NodeRef<'a> {
    node: NonNull<Node>,
    list: PhantomData<&'a Node>,
}

/// Bytes that a node takes in the arena.
#[inline]
pub(super) fn node_bytes(record: &Record<'_>, height: usize) -> usize {
    size_of::<Node>()
        + height * size_of::<Link>()
        + record.user_key.len()
        + TRAILER_BYTES
        + record.value.len()
}

/// Writes a node whose links are all null; nobody else sees it yet.
/// REQUIRES: lengths below 4 GiB, and `height` from 1 to `HEIGHT_MAX`.
#[inline(always)]
pub(super) fn write_node(arena: &mut Arena, record: &Record<'_>, height: usize) -> NonNull<Node> {
    let key_len = record.user_key.len() + TRAILER_BYTES;
    assert!(key_len <= u32::MAX as usize && record.value.len() <= u32::MAX as usize);
    assert!((1..=HEIGHT_MAX).contains(&height));
    let node = arena.alloc(node_bytes(record, height)).cast::<Node>();
    // SAFETY: the arena gave `node_bytes` bytes, aligned to 8, that nobody else has; the writes
    // below follow the layout drawn above and together fill exactly these bytes.
    unsafe {
        node.write(Node {
            head: head(record.user_key),
            key_len: key_len as u32,
            value_len: record.value.len() as u32,
            hash: record.hash,
            height: height as u32,
        });
        let links = node.add(1).cast::<Link>();
        for level in 0..height {
            links.add(level).write(Link::default());
        }
        let bytes = links.add(height).cast::<u8>().as_ptr();
        let user_len = record.user_key.len();
        bytes.copy_from_nonoverlapping(record.user_key.as_ptr(), user_len);
        let trailer = record.trailer.to_le_bytes();
        bytes.add(user_len).copy_from_nonoverlapping(trailer.as_ptr(), TRAILER_BYTES);
        bytes.add(key_len).copy_from_nonoverlapping(record.value.as_ptr(), record.value.len());
    }
    node
}

impl<'a> NodeRef<'a> {
    /// The node at `node`; `None` if that is null.
    ///
    /// # Safety
    /// `node` is null, or was written by [`write_node`] in an arena that lives for `'a`, and
    /// whoever gave the pointer saw it published.
    pub(super) unsafe fn new(node: *mut Node) -> Option<NodeRef<'a>> {
        NonNull::new(node).map(|node| NodeRef { node, list: PhantomData })
    }

    pub(super) fn as_ptr(self) -> *mut Node {
        self.node.as_ptr()
    }

    fn node(self) -> &'a Node {
        // SAFETY: `new` demands a whole node that lives for 'a; the header never changes.
        unsafe { self.node.as_ref() }
    }

    pub(super) fn height(self) -> usize {
        self.node().height as usize
    }

    pub(super) fn hash(self) -> u32 {
        self.node().hash
    }

    /// Has the processor fetch the node's beginning.
    #[inline]
    pub(super) fn prefetch(self) {
        prefetch_for_read(self.node.as_ptr().cast(), 128);
    }

    fn bytes(self) -> NonNull<u8> {
        // SAFETY: `write_node` allocated `height` links behind the header, and bytes behind those.
        unsafe { self.node.add(1).cast::<Link>().add(self.node().height as usize).cast::<u8>() }
    }

    /// The link to the next node on `level`; `None` if the node is not so tall.
    pub(super) fn link(self, level: usize) -> Option<&'a Link> {
        if level >= self.node().height as usize {
            return None;
        }
        // SAFETY: below the height, so within the links that `write_node` initialised; they are
        // atomics, and live for 'a.
        Some(unsafe { self.node.add(1).cast::<Link>().add(level).as_ref() })
    }

    /// The internal key.
    pub(super) fn key(self) -> &'a [u8] {
        // SAFETY: `key_len` bytes were initialised there before publication and never change.
        unsafe {
            NonNull::slice_from_raw_parts(self.bytes(), self.node().key_len as usize).as_ref()
        }
    }

    /// The stored value.
    pub(super) fn value(self) -> &'a [u8] {
        let node = self.node();
        // SAFETY: `value_len` bytes behind the key were initialised before publication and never
        // change.
        unsafe {
            let at = self.bytes().add(node.key_len as usize);
            NonNull::slice_from_raw_parts(at, node.value_len as usize).as_ref()
        }
    }

    pub(super) fn user_key(self) -> &'a [u8] {
        user_key(self.key())
    }

    pub(super) fn trailer(self) -> u64 {
        self.key().last_chunk::<TRAILER_BYTES>().map_or(0, |t| u64::from_le_bytes(*t))
    }

    /// How the node's internal key compares with one given in parts.
    pub(super) fn compare(self, head: u64, user_key: &[u8], trailer: u64) -> Ordering {
        self.node()
            .head
            .cmp(&head)
            .then_with(|| self.user_key().cmp(user_key))
            .then_with(|| trailer.cmp(&self.trailer()))
    }
}

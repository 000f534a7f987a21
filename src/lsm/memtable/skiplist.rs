//! Internal keys in order: a skiplist that one writer at a time adds to while readers walk it
//! without locks (Pugh 1990; nodes are never removed).
//!
//! The writer is whoever holds the lock. A node is whole before a link to it is stored with
//! `Release`; readers load links with `Acquire`. The bottom level is linked first, so that a node
//! found on any level is found on the bottom one.

#![expect(unsafe_code, reason = "links nodes in an arena that lives as long as the list")]

use super::arena::{Arena, ArenaPool};
use super::hash_index::{HashIndex, HashWriter, SLOT_BYTES};
use super::loading::Loading;
use super::node::{HEIGHT_MAX, Node, NodeRef, Record, node_bytes, write_node};
use super::samples::{SAMPLE_BYTES, Samples};
use crate::env::{Rng, Spin, SpinGuard};
use crate::lsm::heads::head;
use std::cmp::Ordering as Order;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

pub(super) struct SkipList {
    links: [AtomicPtr<Node>; HEIGHT_MAX],
    /// Levels in use.
    height: AtomicUsize,
    index: HashIndex,
    /// Whether there may be nodes that are not linked.
    is_loading: AtomicBool,
    /// Owns the memory of all nodes; dropped with the list.
    writer: Spin<ListWriter>,
}

/// The right to insert, and what only the writer needs.
pub(super) struct ListWriter {
    arena: Arena,
    rng: Rng,
    hash: HashWriter,
    samples: Samples,
    /// Nodes that wait to be linked all at once, if that is how it is filled.
    loading: Option<Loading>,
    /// The last node of each level: where a key above all others goes.
    tail: [*mut Node; HEIGHT_MAX],
}

// SAFETY: the pointers in `tail` and `samples` lead into the arena of the same struct.
unsafe impl Send for ListWriter {}

/// A place in the list that outlives no list: kept by cursors beside an `Arc` of it.
#[derive(Clone, Copy)]
pub(super) struct Position(*mut Node);

// SAFETY: a position is only a pointer; who follows it must hold the list, which is Sync.
unsafe impl Send for Position {}
// SAFETY: as above.
unsafe impl Sync for Position {}

impl Position {
    /// No place.
    pub(super) const NONE: Position = Position(ptr::null_mut());

    pub(super) fn of(node: Option<NodeRef<'_>>) -> Position {
        Position(node.map_or(ptr::null_mut(), NodeRef::as_ptr))
    }

    pub(super) fn is_none(self) -> bool {
        self.0.is_null()
    }
}

/// An internal key in parts, as a target of a search.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    head: u64,
    user_key: &'a [u8],
    trailer: u64,
}

impl<'a> Target<'a> {
    pub(super) fn new(user_key: &'a [u8], trailer: u64) -> Target<'a> {
        Target { head: head(user_key), user_key, trailer }
    }

    pub(super) fn user_key(&self) -> &'a [u8] {
        self.user_key
    }

    pub(super) fn is_above(&self, node: NodeRef<'_>) -> bool {
        self.compare(node) == Order::Less
    }

    fn compare(&self, node: NodeRef<'_>) -> Order {
        node.compare(self.head, self.user_key, self.trailer)
    }
}

impl SkipList {
    pub(super) fn new(pool: &ArenaPool) -> SkipList {
        let writer = ListWriter {
            arena: Arena::new(pool),
            rng: Rng::new(0x5EED),
            hash: HashWriter::default(),
            samples: Samples::default(),
            loading: None,
            tail: [ptr::null_mut(); HEIGHT_MAX],
        };
        SkipList {
            links: Default::default(),
            height: AtomicUsize::new(1),
            index: HashIndex::default(),
            is_loading: AtomicBool::new(false),
            writer: Spin::new(writer),
        }
    }

    /// Becomes the writer; waits for another one to finish.
    pub(super) fn writer(&self) -> SpinGuard<'_, ListWriter> {
        self.writer.lock()
    }

    /// Adds a record; gives the bytes it takes, or `None` if its internal key is there already.
    /// REQUIRES: `writer` is this list's.
    pub(super) fn insert(
        &self,
        writer: &mut ListWriter,
        user_key: &[u8],
        trailer: u64,
        value: &[u8],
        hash: u32,
    ) -> Option<usize> {
        let record = Record { user_key, trailer, value, hash };
        if writer.loading.is_some() {
            return self.load(writer, &record);
        }
        // SAFETY: the arena is the list's.
        unsafe { self.index.prefetch(record.hash) };
        let target = Target::new(record.user_key, record.trailer);
        let height = writer.random_height();
        let mut before = writer.tail;
        // SAFETY: `tail` holds null or nodes of this list.
        let last = unsafe { NodeRef::new(before[0]) };
        let in_order = last.is_none_or(|last| target.is_above(last));
        let place = if in_order {
            writer.samples.end()
        } else {
            before = [ptr::null_mut(); HEIGHT_MAX];
            if height > 2 {
                self.search(&target, 2, |level, node| before[level] = Position::of(node).0);
            }
            // SAFETY: the samples are nodes of this list.
            let place = unsafe { writer.samples.place(&target) };
            if height >= 2 {
                before[1] = writer.samples.tall_before(place);
            }
            let next = self.walk_bottom(writer.samples.before(place), &target, &mut before[0]);
            if next.is_some_and(|next| target.compare(next) == Order::Equal) {
                return None;
            }
            place
        };
        if height > self.height.load(Ordering::Relaxed) {
            self.height.store(height, Ordering::Relaxed);
        }
        let new = write_node(&mut writer.arena, &record, height).as_ptr();
        // SAFETY: just written, in the arena of this list.
        let node = unsafe { NodeRef::new(new) }?;
        for (level, before) in before.iter().enumerate().take(height) {
            // SAFETY: null, or a node of this list.
            let link = self.link_of(unsafe { NodeRef::new(*before) }, level)?;
            let next = link.load(Ordering::Relaxed);
            node.link(level)?.store(next, Ordering::Relaxed);
            link.store(new, Ordering::Release);
            if next.is_null() {
                writer.tail[level] = new;
            }
        }
        let is_sampled = height >= 2 || !in_order;
        if is_sampled {
            // SAFETY: all samples are nodes of this list.
            unsafe { writer.samples.insert(node, place) }
        }
        // SAFETY: the list has one arena; the lock admits one writer.
        let index_bytes = unsafe { self.index.insert(&mut writer.hash, &mut writer.arena, node) };
        let sample_bytes = if is_sampled { SAMPLE_BYTES } else { 0 };
        Some(node_bytes(&record, height) + index_bytes + sample_bytes)
    }

    /// Writes a record's node and leaves it for [`SkipList::finish_loading`] to link.
    fn load(&self, writer: &mut ListWriter, record: &Record<'_>) -> Option<usize> {
        let height = writer.random_height();
        let new = write_node(&mut writer.arena, record, height).as_ptr();
        // SAFETY: just written, in the arena of this list.
        let node = unsafe { NodeRef::new(new) }?;
        writer.loading.as_mut()?.push(node);
        let sample_bytes = if height >= 2 { SAMPLE_BYTES } else { 0 };
        // The index takes, once it is there, two to four slots a key.
        Some(node_bytes(record, height) + size_of::<*mut Node>() + 4 * SLOT_BYTES + sample_bytes)
    }

    /// Has records be written and not linked from now on: nobody finds them before
    /// [`SkipList::finish_loading`]. REQUIRES: the list is empty.
    pub(super) fn begin_loading(&self) {
        self.writer().loading = Some(Loading::default());
        self.is_loading.store(true, Ordering::Release);
    }

    /// Whether there may be records that are not linked.
    pub(super) fn is_loading(&self) -> bool {
        self.is_loading.load(Ordering::Acquire)
    }

    /// Links all that was written since [`SkipList::begin_loading`], if it was called.
    pub(super) fn finish_loading(&self) {
        let writer = &mut *self.writer();
        let Some(loading) = writer.loading.take() else { return };
        let link = |node: NodeRef<'_>| {
            // SAFETY: the arena is the list's.
            unsafe { self.index.prefetch(node.hash()) };
            let height = node.height();
            if height > self.height.load(Ordering::Relaxed) {
                self.height.store(height, Ordering::Relaxed);
            }
            for level in 0..height {
                // SAFETY: `tail` holds null or nodes of this list.
                let before = unsafe { NodeRef::new(writer.tail[level]) };
                if let Some(link) = self.link_of(before, level) {
                    link.store(node.as_ptr(), Ordering::Release);
                }
                writer.tail[level] = node.as_ptr();
            }
            if height >= 2 {
                let end = writer.samples.end();
                // SAFETY: all samples are nodes of this list.
                unsafe { writer.samples.insert(node, end) }
            }
            // SAFETY: as in `insert`.
            unsafe { self.index.insert(&mut writer.hash, &mut writer.arena, node) };
        };
        // SAFETY: the nodes are in the arena of this list.
        unsafe { loading.finish(link) }
        self.is_loading.store(false, Ordering::Release);
    }

    /// Walks the bottom level from `start` (null: the start of the list), a node before the
    /// target, to the first node at or behind it; leaves the one before that in `before`.
    fn walk_bottom(
        &self,
        start: *mut Node,
        target: &Target<'_>,
        before: &mut *mut Node,
    ) -> Option<NodeRef<'_>> {
        // SAFETY: null, or a node of this list.
        let mut at = unsafe { NodeRef::new(start) };
        loop {
            let next = self.link_of(at, 0).and_then(|link| self.follow(link));
            if !next.is_some_and(|next| target.is_above(next)) {
                *before = Position::of(at).0;
                return next;
            }
            at = next;
        }
    }

    /// The newest node of `user_key`, by its hash.
    pub(super) fn newest(&self, hash: u32, user_key: &[u8]) -> Option<NodeRef<'_>> {
        // SAFETY: the arena lives as long as the list, which is borrowed.
        unsafe { self.index.get(hash, user_key) }
    }

    pub(super) fn first(&self) -> Option<NodeRef<'_>> {
        self.follow(&self.links[0])
    }

    pub(super) fn next<'a>(&'a self, node: NodeRef<'a>) -> Option<NodeRef<'a>> {
        self.follow(node.link(0)?)
    }

    /// The first node at or behind the target.
    pub(super) fn seek(&self, target: &Target<'_>) -> Option<NodeRef<'_>> {
        self.search(target, 0, |_, _| {})
    }

    /// The last node before the target.
    pub(super) fn before(&self, target: &Target<'_>) -> Option<NodeRef<'_>> {
        let mut last = None;
        self.search(target, 0, |_, node| last = node);
        last
    }

    pub(super) fn last(&self) -> Option<NodeRef<'_>> {
        let mut at = None;
        for level in (0..self.height.load(Ordering::Relaxed)).rev() {
            while let Some(next) = self.link_of(at, level).and_then(|link| self.follow(link)) {
                at = Some(next);
            }
        }
        at
    }

    /// The node at a position that was taken from this list.
    ///
    /// # Safety
    /// `at` is of this list.
    pub(super) unsafe fn at(&self, at: Position) -> Option<NodeRef<'_>> {
        // SAFETY: nodes are never removed while the list lives.
        unsafe { NodeRef::new(at.0) }
    }

    /// Walks down to level `lowest`, to the first node there at or behind the target; tells
    /// `passed` of the last node before it on each level, from the top (`None`: the start of the
    /// list).
    fn search<'a>(
        &'a self,
        target: &Target<'_>,
        lowest: usize,
        mut passed: impl FnMut(usize, Option<NodeRef<'a>>),
    ) -> Option<NodeRef<'a>> {
        let mut at = None;
        let mut next = None;
        let mut known_behind = ptr::null_mut();
        for level in (lowest..self.height.load(Ordering::Relaxed)).rev() {
            loop {
                next = self.link_of(at, level).and_then(|link| self.follow(link));
                match next {
                    // A node found behind the target one level up need not be compared again.
                    Some(n) if n.as_ptr() != known_behind && target.is_above(n) => at = next,
                    _ => break,
                }
            }
            known_behind = Position::of(next).0;
            passed(level, at);
        }
        next
    }

    fn link_of<'a>(
        &'a self,
        node: Option<NodeRef<'a>>,
        level: usize,
    ) -> Option<&'a AtomicPtr<Node>> {
        match node {
            Some(node) => node.link(level),
            None => self.links.get(level),
        }
    }

    fn follow(&self, link: &AtomicPtr<Node>) -> Option<NodeRef<'_>> {
        // SAFETY: links hold null or nodes of this list, stored with Release when whole.
        unsafe { NodeRef::new(link.load(Ordering::Acquire)) }
    }
}

impl ListWriter {
    /// One level, and each further one with a chance of one in four.
    fn random_height(&mut self) -> usize {
        let zeros = self.rng.next_u64().trailing_zeros() as usize / 2;
        (zeros + 1).min(HEIGHT_MAX)
    }
}

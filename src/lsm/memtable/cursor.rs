//! A walk over a memtable that the cursor keeps alive.

#![expect(unsafe_code, reason = "follows a position that an Arc of the same memtable keeps valid")]

use super::Memtable;
use super::node::NodeRef;
use super::skiplist::{Position, Target};
use crate::base::Result;
use crate::lsm::cursor::Cursor;
use crate::lsm::key::{TRAILER_BYTES, user_key};
use std::sync::Arc;

/// A cursor over a memtable's point records; none of its calls fails.
pub struct MemtableCursor {
    memtable: Arc<Memtable>,
    /// Always of `memtable`.
    at: Position,
}

impl MemtableCursor {
    pub(super) fn new(memtable: Arc<Memtable>) -> MemtableCursor {
        MemtableCursor { memtable, at: Position::NONE }
    }

    fn node(&self) -> Option<NodeRef<'_>> {
        // SAFETY: `at` was taken from this memtable's list, and `memtable` keeps that alive.
        unsafe { self.memtable.list.at(self.at) }
    }
}

fn target(internal: &[u8]) -> Target<'_> {
    let trailer = internal.last_chunk::<TRAILER_BYTES>().map_or(0, |t| u64::from_le_bytes(*t));
    Target::new(user_key(internal), trailer)
}

impl Cursor for MemtableCursor {
    fn valid(&self) -> bool {
        !self.at.is_none()
    }

    fn first(&mut self) -> Result<()> {
        self.at = Position::of(self.memtable.list.first());
        Ok(())
    }

    fn last(&mut self) -> Result<()> {
        self.at = Position::of(self.memtable.list.last());
        Ok(())
    }

    fn seek(&mut self, internal: &[u8]) -> Result<()> {
        self.at = Position::of(self.memtable.list.seek(&target(internal)));
        Ok(())
    }

    fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()> {
        let list = &self.memtable.list;
        let target = target(internal);
        let at = list.seek(&target).filter(|n| n.key() == internal);
        self.at = Position::of(at.or_else(|| list.before(&target)));
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        let list = &self.memtable.list;
        let next = self.node().and_then(|node| list.next(node));
        // Where keys came in any order their nodes lie anywhere: the one behind is fetched while
        // this one is looked at.
        if let Some(behind) = next.and_then(|next| list.next(next)) {
            behind.prefetch();
        }
        self.at = Position::of(next);
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        let before = self.node().and_then(|node| self.memtable.list.before(&target(node.key())));
        self.at = Position::of(before);
        Ok(())
    }

    fn key(&self) -> &[u8] {
        self.node().map_or(&[], NodeRef::key)
    }

    fn value(&self) -> &[u8] {
        self.node().map_or(&[], NodeRef::value)
    }
}

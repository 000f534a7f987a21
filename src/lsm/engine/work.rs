//! Who flushes and compacts what, and what becomes of their errors.
//!
//! A tree has one *slot* for flushing and one for compacting. Background jobs take a free slot or
//! leave; whoever waits for a flush takes the slot and does the work on its own thread. So
//! nobody depends on the pool having a free thread, or any.
//!
//! An error of background work is kept. While it stands nothing is scheduled, until a caller asks
//! for a flush or compaction in so many words; only a full device is tried again by itself.

use crate::base::{CfId, Error, ErrorKind, LogIndex, Result};
use crate::lsm::engine::tree::Tree;
use crate::lsm::engine::{Engine, Inner, lock};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// What is being done, and what went wrong.
#[derive(Default)]
pub(super) struct Work {
    /// Slots taken.
    pub(super) running: usize,
    pub(super) taken: BTreeSet<(CfId, Slot)>,
    /// Jobs waiting in the pool.
    queued: BTreeSet<(CfId, Slot)>,
    pub(super) error: Option<Error>,
    /// The last sequence number seen by [`Engine::tend`], and when it was first seen, in µs.
    written: (u64, u64),
    /// When that was last done which is done at rest, in µs.
    rested: Option<u64>,
    /// While a checkpoint is taken: memtables sealed behind this are not flushed.
    pub(super) ceiling: Option<LogIndex>,
}

/// Microseconds without a write after which work is done that pays only where nobody waits.
pub(super) const IDLE_US: u64 = 1_000_000;
/// Microseconds without a write after which memtables are flushed, if of one a part of so many is used: a
/// start has little to replay then, and the log can be cut. Not more often than in so many: many small
/// tables would be merged again and again.
const REST_US: u64 = 10_000_000;
const REST_PARTS: u64 = 16;
const REST_EVERY_US: u64 = 300_000_000;

/// The kinds of work on a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    Flush,
    Compact,
    /// Looking for a dead span. Reads only.
    Dead,
    /// Setting the counts right: done where it is asked for, never queued.
    Count,
}

/// A slot that is held.
pub(super) struct Held<'a> {
    inner: &'a Inner,
    key: (CfId, Slot),
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut work = lock(&self.inner.work);
        work.taken.remove(&self.key);
        work.running -= 1;
        self.inner.work_changed.notify_all();
    }
}

impl Engine {
    /// Looks after what no write brings about; to be called about ten times a second. What walks
    /// over many deleted keys have told is looked into, so that others need not walk there. Where
    /// nothing was written for a second, level 0 is merged if that gives space back; for ten, what is in
    /// memory is flushed, if it is more than a little.
    pub fn tend(&self) {
        self.tend_at(self.inner.monotonic_us());
    }

    /// As [`Engine::tend`], by a clock of the caller's, which never goes back.
    pub fn tend_at(&self, now_us: u64) {
        let inner = &self.inner;
        if !inner.options.background || inner.closing.load(Ordering::Acquire) {
            return;
        }
        let (seq, now) = (inner.visible_seq().0, now_us);
        let since = {
            let mut work = lock(&inner.work);
            if work.written.0 != seq {
                work.written = (seq, now);
            }
            work.written.1
        };
        for tree in inner.all_trees() {
            if tree.dead.has_suspect() {
                // Looked at before what it came with was visible, or while the slot was lent.
                inner.queue_dead(&tree);
                continue;
            }
            if !tree.dead.has_hint() {
                continue;
            }
            {
                let _one = inner.apply.lock();
                tree.dead.take_hint();
            }
            inner.queue_dead(&tree);
        }
        // One that failed for want of space is tried again.
        for tree in inner.all_trees().iter().filter(|tree| inner.may_flush(tree)) {
            inner.queue(tree, Slot::Flush);
        }
        let rest_us = now.saturating_sub(since);
        if rest_us >= REST_US {
            inner.flush_at_rest(now);
        }
        let idle = rest_us >= IDLE_US;
        for tree in inner.all_trees() {
            if tree.idle.swap(idle, Ordering::AcqRel) != idle && idle {
                inner.schedule(&tree);
            }
        }
    }

    /// The error that stopped background work, if one did. A later success clears it.
    pub fn background_error(&self) -> Option<Error> {
        lock(&self.inner.work).error.clone()
    }
}

impl Inner {
    /// Takes a slot if it is free.
    pub(super) fn try_take(&self, cf: CfId, slot: Slot) -> Option<Held<'_>> {
        let mut work = lock(&self.work);
        if self.closing.load(Ordering::Acquire) || !work.taken.insert((cf, slot)) {
            return None;
        }
        work.running += 1;
        Some(Held { inner: self, key: (cf, slot) })
    }

    /// Takes a slot, waiting until it is free.
    pub(super) fn take(&self, cf: CfId, slot: Slot) -> Result<Held<'_>> {
        loop {
            if let Some(held) = self.try_take(cf, slot) {
                return Ok(held);
            }
            self.check_writable()?;
            let work = lock(&self.work);
            if work.taken.contains(&(cf, slot)) {
                drop(self.work_changed.wait(work).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    /// Whether a slot is taken.
    pub(super) fn is_taken(&self, cf: CfId, slot: Slot) -> bool {
        lock(&self.work).taken.contains(&(cf, slot))
    }

    /// Schedules what is due, for every tree.
    pub(super) fn schedule_all(self: &Arc<Self>) {
        self.all_trees().iter().for_each(|tree| self.schedule(tree));
    }

    /// Schedules the flush and the compaction that a tree is due.
    pub(super) fn schedule(self: &Arc<Self>, tree: &Arc<Tree>) {
        if !self.options.background || self.options.read_only || tree.is_dropped() {
            return;
        }
        if self.may_flush(tree) {
            self.queue(tree, Slot::Flush);
        }
        if self.is_compaction_due(tree) {
            self.queue(tree, Slot::Compact);
        }
    }

    /// Whether a memtable is sealed that no checkpoint holds up: a job for one that is held up would
    /// find nothing to do, and be queued again, without end.
    pub(super) fn may_flush(&self, tree: &Tree) -> bool {
        let view = tree.view();
        // The oldest stands last.
        let Some(oldest) = view.sealed.last() else { return false };
        lock(&self.work).ceiling.is_none_or(|ceiling| oldest.seal().last_index <= ceiling)
    }

    /// Has all that is in memory flushed, if a family has more than a little there: the log is kept for
    /// the least of them. Not while flushes fail or are held up: what is sealed would only pile up.
    fn flush_at_rest(self: &Arc<Self>, now_us: u64) {
        let trees = self.all_trees();
        let least = self.options.write_buffer_bytes / REST_PARTS;
        let is_more = |tree: &Arc<Tree>| tree.view().active.table.bytes() as u64 > least;
        let waits = trees.iter().any(|tree| !tree.view().sealed.is_empty());
        if self.options.read_only || waits || !trees.iter().any(is_more) {
            return;
        }
        {
            let mut work = lock(&self.work);
            let is_soon = work.rested.is_some_and(|at| now_us.saturating_sub(at) < REST_EVERY_US);
            if is_soon || work.error.is_some() || work.ceiling.is_some() {
                return;
            }
            work.rested = Some(now_us);
        }
        let mut applying = self.apply.lock();
        for tree in &trees {
            self.rotate(&mut applying, tree);
            self.schedule(tree);
        }
    }

    /// Queues a job unless it is queued or running, or an error stands in its way.
    pub(super) fn queue(self: &Arc<Self>, tree: &Arc<Tree>, slot: Slot) {
        let key = (tree.id, slot);
        let mut work = lock(&self.work);
        let stopped = work.error.as_ref().is_some_and(|e| e.kind() != ErrorKind::OutOfSpace);
        let closing = self.closing.load(Ordering::Acquire);
        if stopped || closing || work.taken.contains(&key) || !work.queued.insert(key) {
            return;
        }
        drop(work);
        // A job that waits must not keep alive what keeps the pool alive.
        let (inner, tree) = (Arc::downgrade(self), tree.clone());
        let job = move || {
            if let Some(inner) = inner.upgrade() {
                inner.run_job(&tree, slot);
            }
        };
        match slot {
            Slot::Flush | Slot::Dead => self.pool.spawn_pressing(job),
            Slot::Compact | Slot::Count => self.pool.spawn(job),
        }
    }

    /// Queues the search for a dead span.
    pub(super) fn queue_dead(self: &Arc<Self>, tree: &Arc<Tree>) {
        if self.options.background {
            self.queue(tree, Slot::Dead);
        }
    }

    fn run_job(self: &Arc<Self>, tree: &Arc<Tree>, slot: Slot) {
        lock(&self.work).queued.remove(&(tree.id, slot));
        let Some(held) = self.try_take(tree.id, slot) else {
            return;
        };
        let done = match slot {
            Slot::Dead => {
                // An error comes again to whoever reads there; it is none of background work.
                _ = self.find_dead_span(tree);
                return;
            }
            Slot::Count => return,
            Slot::Flush => self.flush_sealed(tree, &held),
            Slot::Compact => self.compact_once(tree, &held),
        };
        drop(held);
        // What came while the slot was held found it taken. After an error that waits.
        if self.settle(done).is_ok() {
            self.schedule(tree);
        }
    }

    /// Keeps the error of work, or forgets the last one after a success.
    pub(super) fn settle<T>(&self, done: Result<T>) -> Result<T> {
        let mut work = lock(&self.work);
        match &done {
            Ok(_) => work.error = None,
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            Err(error) => work.error = Some(error.clone()),
        }
        self.work_changed.notify_all();
        drop(work);
        self.refresh_pressure();
        done
    }
}

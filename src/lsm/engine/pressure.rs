//! When writers slow down and stop.
//!
//! Two debts press on writers: memory in memtables near the budget, and files in level 0, each
//! of which every read pays for. Between the soft and the hard limit of either a writer is
//! delayed, the longer the nearer the hard limit, so that it slows to the pace of the work that
//! pays the debt off instead of running into a wall.

use crate::base::{ErrorKind, Result};
use crate::lsm::engine::work::Slot;
use crate::lsm::engine::{Engine, Inner, lock};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

/// Memtables of a family that wait to be flushed when writers stop and help: more would only be
/// more memory that is touched for the first time, and a longer wait later.
const SEALED_MAX: u64 = 4;
/// The longest delay before the stop, in microseconds.
const DELAY_US_MAX: u64 = 20_000;
const STOP: u64 = u64::MAX;

/// Bytes in memtables: what was ever added, less what was ever freed. Who adds holds the apply
/// lock, so that adding needs no atomic addition, which would wait for the records just written.
#[derive(Debug, Default)]
pub(super) struct MemtableBytes {
    added: AtomicU64,
    freed: AtomicU64,
}

impl MemtableBytes {
    /// Adds `bytes`; gives how many there are. REQUIRES: the apply lock.
    pub(super) fn add(&self, bytes: u64) -> u64 {
        let added = self.added.load(Ordering::Relaxed).wrapping_add(bytes);
        self.added.store(added, Ordering::Relaxed);
        added.wrapping_sub(self.freed.load(Ordering::Relaxed))
    }

    /// Takes `bytes` off, which were added.
    pub(super) fn free(&self, bytes: u64) {
        self.freed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Says how many there are. REQUIRES: the apply lock and the manifest's.
    fn set(&self, bytes: u64) {
        self.added.store(self.freed.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        let freed = self.freed.load(Ordering::Relaxed);
        self.added.load(Ordering::Relaxed).wrapping_sub(freed)
    }
}

/// What a writer does before it proposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// Go on.
    None,
    /// Wait so many microseconds first.
    Slow {
        /// Microseconds.
        delay_us: u64,
    },
    /// Wait for [`Engine::wait_for_room`].
    Stop,
}

impl Engine {
    /// What a writer does before it proposes. Costs one load.
    pub fn pressure(&self) -> Pressure {
        match self.inner.pressure.load(Ordering::Relaxed) {
            0 => Pressure::None,
            STOP => Pressure::Stop,
            delay_us => Pressure::Slow { delay_us },
        }
    }

    /// Waits as long as the pressure asks for, and helps with the work meanwhile.
    ///
    /// # Errors
    /// What stopped background work, if it cannot go on: `OutOfSpace` after one more try;
    /// `Poisoned`, `Corruption`, `Io`. `Unavailable` if the engine is closed.
    pub fn wait_for_room(&self) -> Result<()> {
        let inner = &self.inner;
        match self.pressure() {
            Pressure::None => return Ok(()),
            Pressure::Slow { delay_us } => {
                inner.clock.wait_until((inner.monotonic_us() + delay_us) * 1000);
                return Ok(());
            }
            Pressure::Stop => {}
        }
        let began = inner.monotonic_us();
        let done = inner.wait_for_room();
        let waited = inner.monotonic_us().saturating_sub(began);
        inner.counters.stall_us.fetch_add(waited, Ordering::Relaxed);
        done
    }
}

impl Inner {
    /// Works out the pressure anew.
    pub(super) fn refresh_pressure(&self) {
        let options = &self.options;
        let budget = options.memtable_budget_bytes;
        let memory = share(self.memtable_bytes.get(), budget / 4 * 3, budget);
        let files = |tree: &Arc<_>| l0_files(tree) as u64;
        let most = self.all_trees().iter().map(files).max().unwrap_or(0);
        let level0 = share(most, options.l0_slow_files as u64, options.l0_stop_files as u64);
        let waiting = |tree: &Arc<super::tree::Tree>| tree.view().sealed.len();
        let sealed = self.all_trees().iter().map(waiting).max().unwrap_or(0);
        let sealed = share(sealed as u64, SEALED_MAX - 1, SEALED_MAX);
        let pressure = match memory.max(level0).max(sealed) {
            full if full >= 1.0 => STOP,
            part => (part * DELAY_US_MAX as f64) as u64,
        };
        self.pressure.store(pressure, Ordering::Relaxed);
    }

    fn wait_for_room(self: &Arc<Self>) -> Result<()> {
        loop {
            self.refresh_pressure();
            if self.pressure.load(Ordering::Relaxed) != STOP {
                return Ok(());
            }
            self.check_writable()?;
            let failed = lock(&self.work).error.clone();
            if let Some(error) = failed.filter(|e| e.kind() != ErrorKind::OutOfSpace) {
                return Err(error);
            }
            if self.help()? {
                continue;
            }
            let work = lock(&self.work);
            if work.running == 0 && work.ceiling.is_none() {
                // Nobody works and nothing can be done: memory is in active memtables only.
                drop(work);
                self.rotate_largest();
                continue;
            }
            drop(self.work_changed.wait(work).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Does one piece of work that is due and that nobody does; false if there is none.
    fn help(self: &Arc<Self>) -> Result<bool> {
        for tree in self.all_trees() {
            if !tree.view().sealed.is_empty()
                && let Some(held) = self.try_take(tree.id, Slot::Flush)
            {
                let done = self.flush_sealed(&tree, &held);
                drop(held);
                if self.settle(done)? {
                    return Ok(true);
                }
            }
            if l0_files(&tree) >= self.options.l0_slow_files
                && let Some(held) = self.try_take(tree.id, Slot::Compact)
            {
                let done = self.compact_once(&tree, &held);
                drop(held);
                return self.settle(done);
            }
        }
        Ok(false)
    }

    fn rotate_largest(&self) {
        let mut applying = self.apply.lock();
        let trees = self.all_trees();
        if let Some(tree) = trees.iter().max_by_key(|tree| tree.view().active.table.bytes()) {
            self.rotate(&mut applying, tree);
        }
        self.count_memtables();
    }

    /// Counts the memory in memtables anew. REQUIRES: the apply lock.
    pub(super) fn count_memtables(&self) {
        // A flush that ends takes its memtables off the count: not between the sum and the store.
        let _manifest = lock(&self.manifest);
        let bytes = self.all_trees().iter().map(|tree| tree.view().memtable_bytes()).sum();
        self.memtable_bytes.set(bytes);
    }
}

fn l0_files(tree: &super::tree::Tree) -> usize {
    tree.view().version.levels.first().map_or(0, Vec::len)
}

/// How far `now` is on the way from `soft` to `hard`.
fn share(now: u64, soft: u64, hard: u64) -> f64 {
    now.saturating_sub(soft) as f64 / hard.saturating_sub(soft).max(1) as f64
}

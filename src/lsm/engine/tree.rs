//! One column family: its memtables and its version, as one value that readers share.

use crate::base::{CfId, LogIndex, Result, Seq};
use crate::lsm::dead::DeadSpans;
use crate::lsm::memtable::{ArenaPool, Memtable};
use crate::lsm::options::CfOptions;
use crate::lsm::version::Version;
use arc_swap::{ArcSwap, Guard};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A family.
pub(super) struct Tree {
    pub(super) id: CfId,
    pub(super) name: String,
    pub(super) options: CfOptions,
    /// All records up to this log index are in sstables, durably.
    pub(super) flushed: AtomicU64,
    pub(super) dropped: AtomicBool,
    /// Whether nobody writes to the engine; see [`Engine::tend`](super::Engine::tend).
    pub(super) idle: AtomicBool,
    pub(super) dead: Arc<DeadSpans>,
    /// How often records came into tables that do not say how they change the counts.
    pub(super) inexact: AtomicU64,
    view: ArcSwap<View>,
    /// Held by whoever replaces the view.
    updating: Mutex<()>,
}

/// Everything a read of a family needs. It never changes; writes go into `active`.
#[derive(Clone)]
pub(super) struct View {
    pub(super) active: Arc<Buffer>,
    /// Memtables that wait to be flushed, newest first.
    pub(super) sealed: Vec<Arc<Buffer>>,
    pub(super) version: Arc<Version>,
    /// The family's counts, without those of the memtables.
    pub(super) totals: Totals,
}

/// Counts of a family as of its flushed index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) keys: u64,
    pub(super) expires: u64,
    pub(super) exact: bool,
}

impl Totals {
    /// With the changes of memtables. They are added up first: one alone may take away more than
    /// is there without those before it.
    pub(super) fn plus<'a>(self, buffers: impl Iterator<Item = &'a Arc<Buffer>>) -> Totals {
        let (mut keys, mut expires, mut exact) = (0i64, 0i64, self.exact);
        for delta in buffers.map(|buffer| buffer.table.counts()) {
            keys += delta.keys;
            expires += delta.expires;
            exact &= delta.exact;
        }
        Totals {
            keys: self.keys.saturating_add_signed(keys),
            expires: self.expires.saturating_add_signed(expires),
            exact,
        }
    }
}

/// A memtable and the part of the log that is in it.
pub(super) struct Buffer {
    pub(super) table: Arc<Memtable>,
    /// Log index of its first record; `u64::MAX` if it has none.
    pub(super) first_index: AtomicU64,
    seal: OnceLock<Seal>,
}

/// What was known when a memtable was closed to writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seal {
    /// The family's records up to here are in this memtable or older.
    pub(super) last_index: LogIndex,
    pub(super) last_seq: Seq,
    pub(super) committed_ms: u64,
}

impl Buffer {
    fn new(arena: &ArenaPool) -> Arc<Buffer> {
        Arc::new(Buffer {
            table: Arc::new(Memtable::new(arena)),
            first_index: AtomicU64::new(u64::MAX),
            seal: OnceLock::new(),
        })
    }

    /// What was known when it was sealed. REQUIRES: sealed; one that is not covers nothing.
    pub(super) fn seal(&self) -> Seal {
        let nothing = Seal { last_index: LogIndex(0), last_seq: Seq(0), committed_ms: 0 };
        self.seal.get().copied().unwrap_or(nothing)
    }
}

impl Tree {
    pub(super) fn new(
        (id, name): (CfId, String),
        options: CfOptions,
        flushed: LogIndex,
        version: Version,
        totals: Totals,
        (arena, dead_span_after): (&ArenaPool, u64),
    ) -> Arc<Tree> {
        let view = View {
            active: Buffer::new(arena),
            sealed: Vec::new(),
            version: Arc::new(version),
            totals,
        };
        Arc::new(Tree {
            id,
            name,
            options,
            flushed: AtomicU64::new(flushed.0),
            dropped: AtomicBool::new(false),
            idle: AtomicBool::new(false),
            dead: Arc::new(DeadSpans::new(dead_span_after)),
            inexact: AtomicU64::new(0),
            view: ArcSwap::from_pointee(view),
            updating: Mutex::new(()),
        })
    }

    /// The family as it is now.
    pub(super) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The family as it is now, for a read that is over soon: counts no references.
    pub(super) fn view_for_read(&self) -> Guard<Arc<View>> {
        self.view.load()
    }

    /// Replaces the view by what `change` makes of it.
    pub(super) fn update(&self, change: impl FnOnce(&mut View)) {
        let updating = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = View::clone(&self.view.load());
        change(&mut next);
        let old = self.view.swap(Arc::new(next));
        drop(updating);
        // The last reader of an old view may remove files: not under the lock.
        drop(old);
    }

    /// Closes the active memtable to writes and begins a new one; false if it is empty.
    /// REQUIRES: the apply lock, and that all it holds is visible.
    pub(super) fn rotate(&self, seal: Seal, arena: &ArenaPool) -> bool {
        let active = self.view().active.clone();
        if active.table.is_empty() {
            return false;
        }
        let next = Buffer::new(arena);
        if active.table.is_loading() {
            active.table.finish_loading();
            next.table.begin_loading();
        }
        _ = active.seal.set(seal);
        self.update(|view| {
            view.sealed.insert(0, active);
            view.active = next;
        });
        true
    }

    /// The log index of the family's first record that is not in sstables; `None` if all are.
    pub(super) fn first_unflushed(&self, except: &[Arc<Buffer>]) -> Option<LogIndex> {
        let view = self.view();
        let all = view.sealed.iter().chain(std::iter::once(&view.active));
        let first = all
            .filter(|buffer| !except.iter().any(|e| Arc::ptr_eq(e, buffer)))
            .map(|buffer| buffer.first_index.load(Ordering::Acquire))
            .min()?;
        (first != u64::MAX).then_some(LogIndex(first))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire)
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }
}

impl View {
    /// Whether a memtable not in `except`, or a file of the first `levels` levels whose number is
    /// not in `files`, holds a record of `key`.
    pub(super) fn newer_holds(
        &self,
        key: &[u8],
        except: &[Arc<Buffer>],
        levels: usize,
        files: &[u64],
    ) -> Result<bool> {
        let mut found = false;
        let buffers = self.sealed.iter().chain(std::iter::once(&self.active));
        for buffer in buffers.filter(|b| !except.iter().any(|e| Arc::ptr_eq(e, b))) {
            if buffer.table.is_loading() {
                return Ok(true);
            }
            found |= !buffer.table.get(key, Seq::MAX, &mut |_, _, _| false);
        }
        let above = self.version.levels.iter().take(levels).flatten();
        for file in above.filter(|f| !files.contains(&f.meta.number) && f.meta.covers(key)) {
            found |= !file.get(key, Seq::MAX, &mut |_, _, _| false)?;
        }
        Ok(found)
    }

    /// Bytes in memtables.
    pub(super) fn memtable_bytes(&self) -> u64 {
        let sealed: usize = self.sealed.iter().map(|b| b.table.bytes()).sum();
        (sealed + self.active.table.bytes()) as u64
    }

    /// The family's counts.
    pub(super) fn counts(&self) -> Totals {
        self.totals.plus(self.sealed.iter().chain(std::iter::once(&self.active)))
    }
}

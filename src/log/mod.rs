//! Floor 2: the node's one append-only log, the write-ahead log of everything.
//!
//! Words: a **record** belongs to a **group** (a shard, the catalog) and is an entry, a
//! truncation or a state. A **batch** is what one call appends. A **segment** is a file of fixed,
//! reserved size; a **frame** is a record, or a part of one, in a segment. **Written** means in
//! the page cache: it survives the death of the process. **Durable** means on the device. A
//! group's **floor** is the last entry it no longer needs.
//!
//! In reading order:
//! - [`record`]: records and positions.
//! - [`options`]: sync levels and settings.
//! - `format`: the bytes of a segment, drawn.
//! - `segment`: files by name, and the supply of fresh ones.
//! - `writer`: appending.
//! - `sync`: group commit, poison, callbacks, and the syncer thread.
//! - `retention` and `collect`: who still needs which segment, and giving segments back.
//! - `read`: one record by its position.
//! - `scan` and `walk`: the frames of one file, the frames of all.
//! - [`recover`]: opening a log; torn tails, damage, and how they are told apart.
//! - [`inspect`]: the same for the offline tools, read-only.
//!
//! Invariants owed to the floors above:
//! - The order of calls to [`Log::append`] is the order of the log, and what is recovered is a
//!   prefix of it that ends between two batches and holds everything that was durable.
//! - A batch that was acknowledged survives `kill -9` at every sync level.
//! - What replay has shown is durable before [`Log::open`] returns.
//! - A torn tail is cut; damage before what was known to be durable refuses the log, with file
//!   and offset, before anything is changed.
//! - After a failed write or sync no write succeeds until the process is restarted. A full device
//!   is not such a failure: the append is refused whole and works again when there is room.
//! - The latest state of a slot is never lost with a segment.

mod collect;
mod format;
pub mod inspect;
pub mod options;
mod read;
pub mod record;
pub mod recover;
mod retention;
mod scan;
mod segment;
mod sync;
mod walk;
mod writer;

pub use options::{LogOptions, SyncLevel};
pub use record::{Position, Record, RecordKind, RecordRef};
pub use recover::{Cut, Recovery, Replay};
pub use sync::DurableFn;

use crate::base::{Error, ErrorKind, GroupId, LogIndex, Result};
use crate::env::{Disk, RealClock, Spin, rng, wake_promptly};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The log of a node. All methods may be called from many threads. Dropping it syncs what has
/// been written, answers all who wait, and ends its threads.
#[derive(Debug)]
pub struct Log {
    inner: Arc<Inner>,
    recovery: Recovery,
}

/// What the log's handle and its threads share. Locks are taken in the order `collecting`,
/// `writer`, then any one of the others.
#[derive(Debug)]
struct Inner {
    options: LogOptions,
    supply: segment::Supply,
    writer: Spin<writer::Writer>,
    segments: read::Segments,
    written: AtomicU64,
    durable: AtomicU64,
    clock: RealClock,
    /// How long a sync has taken of late, in ns; 0 as long as there was none.
    sync_ns: AtomicU64,
    sync: Mutex<sync::SyncState>,
    synced: Condvar,
    wake: Condvar,
    collecting: Mutex<()>,
    poison: OnceLock<Error>,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    syncer: Option<JoinHandle<()>>,
    supplier: Option<JoinHandle<()>>,
    closed: bool,
}

impl Log {
    /// Opens the log in `dir`, which is created if need be, and shows `replay` every record that
    /// is there, in log order, with its position. Truncated entries are shown too, and then the
    /// `Truncate` that voids them: one pass in bounded memory, and a group that keeps an index of
    /// its entries drops them as it did when it truncated. Records of a group that was removed
    /// may be shown as long as their segment lives; call [`Log::remove_group`] again.
    ///
    /// The caller holds the lock of the data folder.
    ///
    /// # Errors
    /// `Corruption` with file and offset if something durable is damaged; nothing is changed then,
    /// though a part may have been replayed. Whatever `replay` returns. `Io`. A full device is no
    /// error here.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LogOptions,
        replay: &mut Replay<'_>,
    ) -> Result<Log> {
        options.check()?;
        disk.create_dir_all(dir)?;
        let found = recover::recover(&*disk, dir, &options, replay)?;
        let key = found.key.unwrap_or_else(|| options.seed.unwrap_or_else(rng::entropy) as u32);
        let supply =
            segment::Supply::new(disk, dir, options.clone(), key, found.next, found.spares);
        let segments = found.segments.into_iter().map(|s| (s.number, s)).collect();
        let inner = Inner {
            options,
            supply,
            writer: Spin::new(writer::Writer::new(found.retention, found.end)),
            segments: std::sync::RwLock::new(segments),
            written: AtomicU64::new(found.end.0),
            durable: AtomicU64::new(found.end.0),
            clock: RealClock::new(),
            sync_ns: AtomicU64::new(0),
            sync: Mutex::default(),
            synced: Condvar::new(),
            wake: Condvar::new(),
            collecting: Mutex::new(()),
            poison: OnceLock::new(),
            threads: Mutex::default(),
        };
        let log = Log { inner: Arc::new(inner), recovery: found.report };
        if log.inner.options.threads {
            // The first append need not wait for it. A full device is told to whoever writes.
            match log.inner.supply.ensure(1) {
                Err(e) if e.kind() != ErrorKind::OutOfSpace => return Err(e),
                _ => {
                    log.inner.supply.warm();
                    log.inner.start_supplier();
                }
            }
            if matches!(log.inner.options.sync, SyncLevel::Interval { .. }) {
                log.inner.start_syncer();
            }
        }
        Ok(log)
    }

    /// What opening found.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Appends a batch; gives the position of its last record. On return it is written; see
    /// [`Log::commit`] for what the sync level asks for besides. Recovery finds all of it or
    /// nothing. One record takes no allocation.
    ///
    /// # Errors
    /// `InvalidArgument` for a state slot above 255 or more than 1 GiB; `OutOfSpace` if there is
    /// no room for it, in which case nothing has happened; `Poisoned` after a failure.
    pub fn append(&self, records: &[RecordRef<'_>]) -> Result<Position> {
        self.inner.append(records, None)
    }

    /// As [`Log::append`], and adds the position of each record to `positions`. After an error
    /// `positions` may have grown.
    pub fn append_each(
        &self,
        records: &[RecordRef<'_>],
        positions: &mut Vec<Position>,
    ) -> Result<Position> {
        self.inner.append(records, Some(positions))
    }

    /// Waits until everything up to `position` is durable. One sync serves all who wait.
    pub fn sync_to(&self, position: Position) -> Result<()> {
        self.inner.sync_to(position)
    }

    /// Does what the sync level asks for before the record at `position` may be acknowledged.
    pub fn commit(&self, position: Position) -> Result<()> {
        match self.inner.options.sync {
            SyncLevel::Always => self.inner.sync_to(position),
            SyncLevel::Interval { .. } | SyncLevel::Os => self.inner.check_poison(),
        }
    }

    /// Has `position` made durable, whatever the sync level, and calls `f` then, from the log's
    /// syncer thread, or with `Poisoned`. If it is durable already `f` is called before this
    /// returns, and so it is in a log without threads. `f` must not wait for the log.
    pub fn on_durable(&self, position: Position, f: DurableFn) {
        self.inner.on_durable(position, f);
    }

    /// Where the log ends: everything before it survives `kill -9`.
    pub fn written(&self) -> Position {
        self.inner.written()
    }

    /// Everything up to here survives power loss.
    pub fn durable(&self) -> Position {
        self.inner.durable()
    }

    /// The record at a position that [`Log::append`] or replay gave.
    ///
    /// # Errors
    /// `Compacted` if its segment is gone, `InvalidArgument` if no record has this position,
    /// `Corruption` if its bytes are damaged.
    pub fn read(&self, position: Position) -> Result<Record> {
        self.inner.read(position)
    }

    /// Says that `group` needs its entries up to `index` no more, and gives back the segments
    /// that nobody needs. That takes a few changes of names when there are such segments, a sync
    /// of the log besides if states or truncations stand in it that are not durable, and nothing
    /// otherwise. The floor is not kept over a restart.
    pub fn set_floor(&self, group: GroupId, index: LogIndex) -> Result<()> {
        self.inner.writer.lock().retention.set_floor(group, index);
        self.inner.collect()
    }

    /// Says that nothing of `group` is needed any more, its states included.
    pub fn remove_group(&self, group: GroupId) -> Result<()> {
        self.inner.writer.lock().retention.remove_group(group);
        self.inner.collect()
    }

    /// How long a sync has taken of late; nothing before the first one.
    pub fn sync_time(&self) -> Option<Duration> {
        match self.inner.sync_ns.load(Ordering::Relaxed) {
            0 => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }

    /// Bytes of all files of the log, those ready for use included.
    pub fn bytes_on_disk(&self) -> u64 {
        self.inner.bytes_of_oldest(usize::MAX) + self.inner.supply.idle_bytes()
    }

    /// Which group keeps the oldest segment alive, the index up to which it would have to flush
    /// to release it, and how many bytes its doing so would free (0 if another group needs the
    /// segment as well). `None` if nothing but the segment being written is there.
    pub fn pinned_by(&self) -> Option<(GroupId, LogIndex, u64)> {
        let pin = self.inner.writer.lock().retention.pinned_by()?;
        Some((pin.group, pin.index, self.inner.bytes_of_oldest(pin.segments)))
    }

    /// Why the log refuses all writes, if it does.
    pub fn poisoned(&self) -> Option<Error> {
        self.inner.check_poison().err()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.inner.supply.close();
        self.inner.close_syncer();
        let (syncer, supplier) = {
            let mut threads = lock(&self.inner.threads);
            threads.closed = true;
            (threads.syncer.take(), threads.supplier.take())
        };
        for thread in [syncer, supplier].into_iter().flatten() {
            // A callback may hold the last handle: the syncer does not wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                _ = thread.join();
            }
        }
        // Errors have nobody left to go to; what was promised has been synced before.
        if self.inner.check_poison().is_ok() && self.inner.sync_to(self.inner.written()).is_ok() {
            _ = self.inner.write_parting_link();
        }
    }
}

impl Inner {
    /// Sees to it that the syncer runs; false if no thread can be had.
    fn start_syncer(self: &Arc<Self>) -> bool {
        let mut threads = lock(&self.threads);
        if threads.syncer.is_none() && !threads.closed {
            let inner = self.clone();
            let body = move || {
                // Who waits for a sync waits for this thread too.
                wake_promptly();
                inner.run_syncer();
            };
            threads.syncer = std::thread::Builder::new().name("log-sync".into()).spawn(body).ok();
        }
        threads.syncer.is_some()
    }

    fn start_supplier(self: &Arc<Self>) {
        let mut threads = lock(&self.threads);
        let inner = self.clone();
        let body = move || {
            if let Err(e) = inner.supply.run() {
                inner.poison(&e);
            }
        };
        // Without the thread segments are made when they are needed.
        threads.supplier = std::thread::Builder::new().name("log-supply".into()).spawn(body).ok();
    }
}

/// A panic while one of the log's locks was held is a bug that has been told already; the state
/// behind it changes by single steps and stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

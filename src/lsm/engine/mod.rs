//! The engine: all column families of one shard, in one folder with one manifest.
//!
//! Its owner keeps the log. It appends a batch there, then calls [`Engine::apply`], in order;
//! after a restart it replays what lies behind [`Engine::replay_from`].
//!
//! In reading order:
//! - this file: [`Engine`], what is shared, opening and closing.
//! - `open`: from the manifest to trees; what a crash left is cleared away.
//! - `tree`: one family: memtables and version, shared with readers as one value.
//! - `apply`: a batch into memtables, visible as a whole.
//! - `read`: point reads and iterators.
//! - `snapshot`: sequence numbers that are kept readable.
//! - `work`: who flushes and compacts what, and what becomes of their errors.
//! - `flush`, `compact`: the work itself.
//! - `install`: an edit made durable, then seen.
//! - `pressure`: when writers slow down and stop.
//! - `families`, `checkpoint`, `ingest`, `stats`: what their names say.
//! - `recount`: counts set right beside those who write.
//! - `split`: one engine becomes two, each with the records of its own slots.
//! - `checkup`: the slow check of [`crate::lsm::check`], of an engine that is open.
//!
//! Locks, in the order in which they may be taken: apply, manifest, a tree's view; snapshots and
//! work are leaves. Reads take none: the list of trees, changed under the manifest's lock, and each
//! tree's view are replaced as a whole. Background work never takes the apply lock, so one may
//! wait for it under that.
//!
//! Invariants owed to the owner:
//! - A batch is seen whole or not at all, also by readers of several families at one snapshot.
//! - The order of a flush: sstable synced, folder synced, the log synced up to there unless no
//!   other family needs it ([`Engine::set_log_barrier`]), the manifest's edit synced; only then is
//!   the memtable let go, the flushed index advanced, an old file removed.
//! - Applying depends on the batch and its index alone: never on time, timing or what was read.
//! - A read never waits for a write to disk.

mod apply;
mod checkpoint;
mod checkup;
mod compact;
mod families;
mod flush;
mod ingest;
mod install;
mod open;
mod pressure;
mod read;
mod recount;
mod snapshot;
mod split;
mod stats;
mod tree;
mod work;

pub use checkpoint::CheckpointInfo;
pub use families::{CfInfo, CountsNow};
pub use pressure::Pressure;
pub use read::Found;
pub use snapshot::Snapshot;
pub use stats::{EngineStats, LevelStats};

use crate::base::{CfId, Error, ErrorKind, LogIndex, Result, Seq};
use crate::env::{Clock, Disk, FileLock, Pool, RealClock, Spin};
use crate::lsm::cache::BlockCache;
use crate::lsm::manifest::Manifest;
use crate::lsm::memtable::ArenaPool;
use crate::lsm::options::EngineOptions;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The trees of one shard. Dropping it waits for background work and flushes nothing.
pub struct Engine {
    inner: Arc<Inner>,
}

type FlushListener = Arc<dyn Fn(LogIndex) + Send + Sync>;
type LogBarrier = Arc<dyn Fn(LogIndex) -> Result<()> + Send + Sync>;

struct Inner {
    disk: Arc<dyn Disk>,
    pool: Pool,
    cache: Arc<BlockCache>,
    arena: ArenaPool,
    options: EngineOptions,
    clock: RealClock,
    /// Held by whoever adds to memtables or seals them.
    apply: Spin<apply::Applying>,
    manifest: Mutex<Manifest>,
    trees: ArcSwap<BTreeMap<CfId, Arc<tree::Tree>>>,
    snapshots: Mutex<BTreeMap<Seq, usize>>,
    work: Mutex<work::Work>,
    work_changed: Condvar,
    closing: AtomicBool,
    poisoned: AtomicBool,
    visible_seq: AtomicU64,
    applied_index: AtomicU64,
    committed_ms: AtomicU64,
    replay_from: AtomicU64,
    memtable_bytes: pressure::MemtableBytes,
    pressure: AtomicU64,
    on_flush: Mutex<Option<FlushListener>>,
    log_barrier: Mutex<Option<LogBarrier>>,
    barrier_always: AtomicBool,
    /// [`Part::epoch`](crate::lsm::manifest::Part); 0 before any split.
    part_epoch: AtomicU64,
    counters: stats::Counters,
    lock: Mutex<Option<Box<dyn FileLock>>>,
}

impl Engine {
    /// Opens the database in `options.dir`, or begins one there.
    ///
    /// Family 0 (`default`) and the system's families always exist. The caller then replays its
    /// log from behind [`Engine::replay_from`].
    ///
    /// # Errors
    /// `InvalidArgument` for an option out of bounds; `Refused` if it is open elsewhere;
    /// `Corruption` if the manifest or an sstable is damaged or missing, with nothing changed;
    /// `NotFound` if it is to be read only and is not there; what the disk answers.
    pub fn open(
        disk: Arc<dyn Disk>,
        pool: Pool,
        cache: Arc<BlockCache>,
        options: EngineOptions,
    ) -> Result<Arc<Engine>> {
        let inner = open::open(disk, pool, cache, options)?;
        inner.refresh_pressure();
        inner.schedule_all();
        Ok(Arc::new(Engine { inner }))
    }

    /// All records of the family up to this log index are in sstables.
    ///
    /// # Errors
    /// `NotFound` if there is no such family.
    pub fn flushed_index(&self, cf: CfId) -> Result<LogIndex> {
        Ok(LogIndex(self.inner.tree(cf)?.flushed.load(Ordering::Acquire)))
    }

    /// Every record up to this log index is in sstables, for all families: the log is needed only
    /// behind it.
    pub fn replay_from(&self) -> LogIndex {
        LogIndex(self.inner.replay_from.load(Ordering::Acquire))
    }

    /// The log index applied last; at open that of [`Engine::replay_from`].
    pub fn applied_index(&self) -> LogIndex {
        LogIndex(self.inner.applied_index.load(Ordering::Acquire))
    }

    /// The greatest sequence number known: flushed, at open, then applied.
    pub fn last_seq(&self) -> Seq {
        self.visible_seq()
    }

    /// Reads without a sequence number see everything up to here.
    pub fn visible_seq(&self) -> Seq {
        self.inner.visible_seq()
    }

    /// The greatest commit time applied, Unix ms. What expires up to then is gone for good.
    pub fn committed_ms(&self) -> u64 {
        self.inner.committed_ms.load(Ordering::Acquire)
    }

    /// Has `listener` called when [`Engine::replay_from`] advances, by the thread that flushed.
    pub fn on_flush(&self, listener: Box<dyn Fn(LogIndex) + Send + Sync>) {
        *lock(&self.inner.on_flush) = Some(Arc::from(listener));
    }

    /// Has `barrier` called before records up to a log index are made durable in sstables, if
    /// another family has records up to there in memory only; it returns when the log is durable up
    /// to there. Without it, after power is lost, one family could hold a batch that the log has
    /// lost for another. Not needed where every batch is durable in the log before it is applied.
    pub fn set_log_barrier(&self, barrier: Box<dyn Fn(LogIndex) -> Result<()> + Send + Sync>) {
        *lock(&self.inner.log_barrier) = Some(Arc::from(barrier));
    }

    /// Has the barrier of [`Engine::set_log_barrier`] called before every such edit, whoever needs
    /// the log: for an owner whose log may not end before what the tables hold, because it names
    /// what stands there.
    pub fn always_call_log_barrier(&self) {
        self.inner.barrier_always.store(true, Ordering::Release);
    }

    /// The disk that it is on, and its folder.
    pub fn place(&self) -> (&Arc<dyn Disk>, &std::path::Path) {
        (&self.inner.disk, &self.inner.options.dir)
    }

    /// The cache of its blocks, which others may share.
    pub fn cache(&self) -> &Arc<BlockCache> {
        &self.inner.cache
    }

    /// Where its background work is done.
    pub fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    /// Waits until the log is durable up to an index, by the barrier of
    /// [`Engine::set_log_barrier`]: for what is derived from records and must not outlive them.
    ///
    /// # Errors
    /// What the barrier gives.
    pub fn sync_log(&self, index: LogIndex) -> Result<()> {
        self.inner.sync_log(index)
    }

    /// Ends background work and lets the folder go. Nothing is flushed: what is in memtables
    /// is in the log. Reads, iterators and snapshots still work; all else is refused.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.inner.close();
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({}, at {})", self.inner.options.dir.display(), self.visible_seq())
    }
}

impl Inner {
    fn tree(&self, cf: CfId) -> Result<Arc<tree::Tree>> {
        self.trees.load().get(&cf).cloned().ok_or_else(|| no_such_family(cf))
    }

    fn all_trees(&self) -> Vec<Arc<tree::Tree>> {
        self.trees.load().values().cloned().collect()
    }

    fn visible_seq(&self) -> Seq {
        Seq(self.visible_seq.load(Ordering::Acquire))
    }

    /// Fails unless the engine may change what is on disk.
    fn check_writable(&self) -> Result<()> {
        if self.options.read_only {
            return Err(Error::new(ErrorKind::Refused, "the database is open for reading only"));
        }
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Unavailable, "the engine is closed"));
        }
        self.check_poison()
    }

    fn check_poison(&self) -> Result<()> {
        if !self.poisoned.load(Ordering::Acquire) {
            return Ok(());
        }
        let why = lock(&self.manifest).poison().map(|e| e.message().to_string());
        Err(Error::new(ErrorKind::Poisoned, why.unwrap_or_default()))
    }

    fn monotonic_us(&self) -> u64 {
        self.clock.monotonic_ns() / 1000
    }

    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        let mut work = lock(&self.work);
        self.work_changed.notify_all();
        while work.running > 0 {
            work = self.work_changed.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
        drop(work);
        *lock(&self.lock) = None;
    }
}

fn no_such_family(cf: CfId) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no family {cf}"))
}

/// A poisoned mutex means that a thread panicked; what these guard is whole between statements.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! [`Shard`], and the way of a request through it.

use crate::base::{CfId, Error, Result};
use crate::env::{Clock, RealClock, Rng};
use crate::lsm::Engine;
use crate::op::kv::{RedisCall, RequestId, Write};
use crate::op::txn::TxnCall;
use crate::op::vector::VectorCall;
use crate::op::{Request, Response};
use crate::shard::commit::{Commits, Log, Ticket};
use crate::shard::cursors::Cursors;
use crate::shard::latch::Latches;
use crate::shard::overlay::Overlay;
use crate::shard::slots::Slots;
use crate::shard::two_phase::locks::Locks;
use crate::shard::vectors::{VectorLimits, Vectors};
use crate::shard::{kv, redis_calls, two_phase, vectors, writes};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

/// Settings of a shard.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// Keeps exact counts of the default family's live and expiring keys, at the cost of a read
    /// before each write. The Redis door wants it; without it DBSIZE scans.
    pub count_keys: bool,
    /// Seed of what is drawn at random (RANDOMKEY).
    pub seed: u64,
    /// SCAN's first cursor is the number behind this, modulo 2^31. Where a client may bring a
    /// cursor to another start of this shard, or to another replica, drawn at random: one of before
    /// is then told from one of now.
    pub last_cursor: u64,
    /// By what searches and the background's turns are measured.
    pub clock: Arc<dyn Clock>,
}

impl Default for ShardOptions {
    fn default() -> ShardOptions {
        ShardOptions {
            count_keys: false,
            seed: 0,
            last_cursor: 0,
            clock: Arc::new(RealClock::new()),
        }
    }
}

/// Counters since start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) expired: AtomicU64,
}

/// An answer, and what it rests on: it may be given once the ticket is committed.
#[derive(Debug)]
pub struct Answer {
    /// The response.
    pub response: Response,
    /// What it rests on.
    pub rests_on: Ticket,
}

/// The state machine of one range of keys, on one engine and one log.
pub struct Shard {
    pub(crate) engine: Arc<Engine>,
    pub(crate) log: Box<dyn Log>,
    pub(crate) latches: Latches,
    pub(crate) overlay: Overlay,
    pub(crate) locks: Locks,
    pub(crate) vectors: Arc<Vectors>,
    pub(crate) commits: Commits,
    pub(crate) cursors: Cursors,
    pub(crate) counters: Counters,
    pub(crate) rng: Mutex<Rng>,
    /// Held while a sweep's deletes take effect, so that a count sees all of them or none.
    pub(crate) sweeping: RwLock<()>,
    /// Held for the whole of a sweep: two at once would log the same deletes twice.
    pub(crate) one_sweep: Mutex<()>,
    pub(crate) slots: Slots,
    options: ShardOptions,
    now_ms: AtomicU64,
}

impl Shard {
    /// See [`Shard::may_share`].
    pub const TOGETHER_MAX: usize = redis_calls::TOGETHER_MAX;
    /// See [`Shard::may_write_together`].
    pub(crate) const WRITES_MAX: usize = writes::TOGETHER_MAX;

    /// A shard on an engine and the log its batches go to. What the log holds beyond the engine
    /// is replayed by [`Shard::apply`]; then [`Shard::start`] makes it ready.
    pub fn new(engine: Arc<Engine>, log: Box<dyn Log>, options: ShardOptions) -> Arc<Shard> {
        let shard = Shard {
            latches: Latches::new(),
            overlay: Overlay::default(),
            locks: Locks::default(),
            vectors: Vectors::new(engine.clone(), options.clock.clone()),
            commits: Commits::default(),
            cursors: Cursors::behind(options.last_cursor),
            counters: Counters::default(),
            sweeping: RwLock::new(()),
            one_sweep: Mutex::new(()),
            slots: Slots::default(),
            rng: Mutex::new(Rng::new(options.seed)),
            now_ms: AtomicU64::new(engine.committed_ms()),
            engine,
            log,
            options,
        };
        shard.commits.begin(shard.engine.last_seq());
        Arc::new(shard)
    }

    /// Makes the shard ready for requests, after replay. Waits until all indexes of vectors are: who
    /// opens a database and searches it at once is answered.
    ///
    /// # Errors
    /// What reading the engine gives, and a damaged record of an index.
    pub fn start(&self) -> Result<()> {
        self.start_with(true)
    }

    /// As [`Shard::start`], without waiting for indexes of which much is still to be built: searches
    /// of these are `Unavailable` until then. For a replica, whose keys are waited for.
    ///
    /// # Errors
    /// As [`Shard::start`].
    pub fn start_soon(&self) -> Result<()> {
        self.start_with(false)
    }

    fn start_with(&self, with_indexes: bool) -> Result<()> {
        self.now_ms.fetch_max(self.engine.committed_ms(), Ordering::Relaxed);
        self.locks.load(&self.engine)?;
        self.vectors.load(with_indexes)?;
        self.vectors.kick();
        if self.options.count_keys { self.recount() } else { Ok(()) }
    }

    /// The engine, to read figures from, flush, check or copy.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Sets the limits of indexes of vectors. Call it before [`Shard::start`]; of what is set later
    /// the memory that all may take holds at once, the sizes of parts for indexes that are new.
    pub fn limit_vectors(&self, limits: VectorLimits) {
        self.vectors.limit(limits);
    }

    /// The limits of indexes of vectors as they are now.
    pub fn vector_limits(&self) -> VectorLimits {
        self.vectors.limits()
    }

    /// A turn of the upkeep that indexes of vectors need, ten times a second or so.
    pub fn tend_vectors(&self) {
        self.vectors.tend();
    }

    /// Does all that the background has to do for indexes of vectors, on this thread.
    pub fn settle_vectors(&self) {
        self.vectors.settle();
    }

    /// Ends the background work on indexes of vectors, and keeps what it has built.
    pub fn close_vectors(&self) {
        self.vectors.close();
    }

    /// Whether writers are to be slowed, for a request.
    pub fn pressure(&self, request: &Request) -> crate::lsm::Pressure {
        let pressure = self.engine.pressure();
        match vectors_of(request) > 0 {
            true if pressure == crate::lsm::Pressure::None => self.vectors.pressure(),
            _ => pressure,
        }
    }

    /// Waits until a request may be executed. Calls of it help the background.
    ///
    /// # Errors
    /// As [`Engine::wait_for_room`].
    pub fn wait_for_room(&self, request: &Request) -> Result<()> {
        match vectors_of(request) {
            0 => {}
            vectors => self.vectors.wait_for_room(vectors),
        }
        self.engine.wait_for_room()
    }

    /// Whether so many vectors wait to be linked that [`Shard::keep_up`] takes a while.
    pub(crate) fn is_overrun(&self) -> bool {
        self.vectors.is_overrun()
    }

    /// Has as many vectors linked as keep the others few, where nobody asks for room before writing:
    /// a replica applies what its leader had room for.
    pub(crate) fn keep_up(&self) {
        self.vectors.keep_up();
    }

    /// Whether a column family exists.
    pub fn has_family(&self, cf: crate::base::CfId) -> bool {
        self.engine.flushed_index(cf).is_ok()
    }

    /// Whether exact counts of keys are kept.
    pub fn counts_keys(&self) -> bool {
        self.options.count_keys
    }

    /// The shard's time, given the clock's: the later of that and what it was.
    pub fn advance_now(&self, clock_ms: u64) -> u64 {
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        if clock_ms <= now_ms {
            return now_ms;
        }
        self.now_ms.fetch_max(clock_ms, Ordering::Relaxed).max(clock_ms)
    }

    /// A committed batch's time is the shard's too, wherever it was placed.
    pub(crate) fn note_committed_ms(&self, commit_ms: u64) {
        self.now_ms.fetch_max(commit_ms, Ordering::Relaxed);
    }

    /// Executes a request at the clock's time. Reads and writes take effect at once for later
    /// requests; the answer may be given when what it rests on is committed.
    ///
    /// # Errors
    /// If nothing was written: a request out of bounds, a refused or failed log, a failed read.
    /// May wait for the disk; see [`Shard::is_quick`].
    pub fn execute(self: &Arc<Self>, request: Request, clock_ms: u64) -> Result<Answer> {
        let now_ms = self.advance_now(clock_ms);
        match request {
            Request::Redis(call) => redis_calls::one(self, &call, now_ms),
            Request::RedisTransaction { watched, calls, reply_bytes_max } => {
                redis_calls::transaction(self, &watched, &calls, reply_bytes_max, now_ms)
            }
            Request::Watch { keys } => redis_calls::watch(self, keys, now_ms),
            Request::Txn(call) => two_phase::execute(self, *call, now_ms),
            Request::Vector(call) => {
                if !is_quick_call(&call) {
                    self.barrier()?;
                }
                vectors::execute(self, *call, now_ms)
            }
            other => kv::execute(self, other, now_ms),
        }
    }

    /// As [`Shard::execute`] of a scan, for whoever has waited until [`Shard::placed`] was
    /// committed: this waits for no commit.
    ///
    /// # Errors
    /// As [`Shard::execute`].
    pub fn scan_committed(&self, scan: &crate::op::kv::Scan, clock_ms: u64) -> Result<Answer> {
        kv::committed_page(self, scan, self.advance_now(clock_ms))
    }

    /// As [`Shard::execute`] of a call about vectors that only reads, for whoever has waited until
    /// [`Shard::placed`] was committed: this waits for no commit.
    ///
    /// # Errors
    /// As [`Shard::execute`].
    pub fn vectors_committed(self: &Arc<Self>, call: VectorCall, clock_ms: u64) -> Result<Answer> {
        vectors::execute(self, call, self.advance_now(clock_ms))
    }

    /// Executes calls that [`Shard::may_share`], in order and each as if alone, and places what
    /// they write as one batch.
    pub fn execute_together<'c>(
        self: &Arc<Self>,
        calls: impl Iterator<Item = &'c RedisCall> + Clone,
        clock_ms: u64,
    ) -> Vec<Result<Answer>> {
        redis_calls::together(self, calls, self.advance_now(clock_ms))
    }

    /// The call that gains from [`Shard::execute_together`], if the request is one. More than
    /// [`Shard::TOGETHER_MAX`] gain nothing more.
    pub fn may_share(request: &Request) -> Option<&RedisCall> {
        match request {
            Request::Redis(call) if redis_calls::may_share(call) => Some(call),
            _ => None,
        }
    }

    /// Executes the first of some writes of which each [`Shard::may_write_together`], in order and
    /// each as if alone, as few batches: one request at least. It ends with one that meets a lock,
    /// which those behind must not overtake.
    pub(crate) fn write_together(
        self: &Arc<Self>,
        writes: &[(&[Write], Option<RequestId>)],
        clock_ms: u64,
    ) -> Vec<Result<Answer>> {
        writes::together(self, writes, self.advance_now(clock_ms))
    }

    /// The writes that gain from [`Shard::write_together`], if the request is such: few keys without
    /// vectors. More than [`Shard::WRITES_MAX`] gain nothing more.
    pub(crate) fn may_write_together(request: &Request) -> Option<(&[Write], Option<RequestId>)> {
        writes::may_share(request)
    }

    /// Whether a request touches few keys, so that it may run where waiting is unwelcome. The
    /// others may read a whole family.
    pub fn is_quick(request: &Request) -> bool {
        match request {
            Request::Get { .. } | Request::PutIf { .. } | Request::Watch { .. } => true,
            Request::Write { writes, .. } => writes.len() <= 64,
            Request::Vector(call) => is_quick_call(call),
            Request::Redis(call) => redis_calls::is_quick(call),
            Request::RedisTransaction { calls, .. } => calls.iter().all(redis_calls::is_quick),
            Request::Txn(call) => match &**call {
                TxnCall::Prepare { keys, .. } => keys.len() <= 64,
                TxnCall::Finish { writes, .. } => writes.len() <= 64,
                TxnCall::Decide { request, locked, .. } => {
                    locked.len() <= 64 && Shard::is_quick(request)
                }
                TxnCall::Resolve { .. } | TxnCall::Forget { .. } | TxnCall::Stamp { .. } => true,
                TxnCall::Unfinished { .. } => false,
            },
            Request::Scan(_)
            | Request::DeleteByPrefix { .. }
            | Request::CreateCf { .. }
            | Request::DropCf { .. }
            | Request::ListCfs
            | Request::Stats => false,
        }
    }

    /// Whether a request waits for commits while it holds latches. It must not run beside requests
    /// that sleep on latches where commits are brought about.
    pub fn waits_with_latches(request: &Request) -> bool {
        match request {
            Request::DeleteByPrefix { .. } | Request::DropCf { .. } => true,
            Request::Vector(call) => call.is_for_catalog(),
            Request::Redis(call) => call.spec.is_write() && !redis_calls::is_quick(call),
            Request::RedisTransaction { calls, .. } => !calls.iter().all(redis_calls::is_quick),
            Request::Txn(call) => match &**call {
                TxnCall::Decide { request, .. } => Shard::waits_with_latches(request),
                _ => false,
            },
            _ => false,
        }
    }

    /// Figures of the shard; those of its log are its owner's to add.
    pub fn stats(&self, clock_ms: u64) -> Result<crate::op::kv::Stats> {
        let now_ms = self.advance_now(clock_ms);
        let engine = self.engine.stats();
        let counts = self.engine.counts(crate::base::CfId::DEFAULT)?;
        let keys =
            if self.counts_keys() && counts.exact { self.live_keys(now_ms)? } else { counts.keys };
        Ok(crate::op::kv::Stats {
            keys,
            expires: counts.expires,
            avg_ttl_ms: self.mean_ttl_ms(now_ms)?,
            expired_keys: self.counters.expired.load(Ordering::Relaxed),
            keyspace_hits: self.counters.hits.load(Ordering::Relaxed),
            keyspace_misses: self.counters.misses.load(Ordering::Relaxed),
            last_seq: self.engine.visible_seq().0,
            memtable_bytes: engine.memtable_bytes,
            cache_bytes: engine.cache.bytes,
            table_bytes: engine.table_bytes,
            ..crate::op::kv::Stats::default()
        })
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.vectors.close();
    }
}

/// Whether a call about vectors touches few records and no index.
fn is_quick_call(call: &VectorCall) -> bool {
    matches!(call, VectorCall::Get { ids, .. } if ids.len() <= 64)
}

/// How many vectors a request writes.
fn vectors_of(request: &Request) -> usize {
    let is_one = |write: &&Write| matches!(write, Write::PutVector { .. });
    match request {
        Request::Write { writes, .. } => writes.iter().filter(is_one).count(),
        Request::Txn(call) => match &**call {
            TxnCall::Prepare { keys, removes: false, .. } => {
                keys.iter().filter(|(cf, _)| *cf == CfId::VECTORS).count()
            }
            TxnCall::Decide { request, .. } => vectors_of(request),
            _ => 0,
        },
        _ => 0,
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("visible_seq", &self.engine.visible_seq()).finish()
    }
}

impl Answer {
    /// Whether a lock stood in the way, so that what came behind must not be executed.
    pub fn is_locked(&self) -> bool {
        matches!(self.response, Response::Locked(_))
    }

    /// An answer that rests on nothing that is pending.
    pub(crate) fn settled(response: Response) -> Answer {
        Answer { response, rests_on: Ticket::default() }
    }
}

/// The error for a column family that is not there.
pub(crate) fn no_such_family(cf: crate::base::CfId) -> Error {
    Error::new(
        crate::base::ErrorKind::NotFound,
        format!("column family {cf} does not exist; list the families to see which do"),
    )
}

//! Opening, recovery, upkeep and closing of a node's data.

use crate::base::{Error, ErrorKind, GroupId, LogIndex, Result};
use crate::env::disk::{FileLock, read_exact_at, write_atomic};
use crate::env::{Disk, Pool, rng};
use crate::log::{Log, LogOptions, RecordKind};
use crate::lsm::{BlockCache, Engine, EngineOptions};
use crate::node::Options;
use crate::node::gate::Gate;
use crate::node::local_log::LocalLog;
use crate::shard::{self, Placed, Shard, ShardOptions, Ticket, VectorLimits};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// The group of the standalone shard.
pub(crate) const GROUP: GroupId = GroupId(1);

const FORMAT: &[u8] = b"arqondb 1\n";
const UPKEEP_EVERY: Duration = Duration::from_millis(100);
/// Sweeps of one turn of the upkeep, so that a flood of expiries leaves room for writers.
const SWEEPS_A_TURN: usize = 64;

/// A node's data, open.
pub(crate) struct Core {
    pub(crate) shard: Arc<Shard>,
    pub(crate) log: Arc<Log>,
    /// That of the doors.
    pub(crate) gate: Arc<Gate>,
    pub(crate) options: Options,
    pub(crate) dir: PathBuf,
    upkeep: Mutex<Option<Upkeep>>,
    _lock: Box<dyn FileLock>,
}

struct Upkeep {
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Stop {
    asked: Mutex<bool>,
    wake: Condvar,
}

/// The shard's log, named before it can be: the shard must exist for the log's records to be
/// replayed into it, and the log knows where it ends only then.
struct LateLog(Arc<OnceLock<LocalLog>>);

impl shard::Log for LateLog {
    fn place(&self, batch: &[u8]) -> Result<Placed> {
        match self.0.get() {
            Some(log) => log.place(batch),
            None => Err(Error::new(ErrorKind::Unavailable, "the log is still being read")),
        }
    }

    fn drive(&self, shard: &Arc<Shard>) {
        if let Some(log) = self.0.get() {
            log.drive(shard);
        }
    }

    fn drive_until(&self, shard: &Arc<Shard>, ticket: Ticket) {
        if let Some(log) = self.0.get() {
            log.drive_until(shard, ticket);
        }
    }
}

/// The log as a flush waits for it: it may be asked for before it is open.
#[derive(Default)]
struct Opened {
    log: Mutex<Option<Result<Weak<Log>>>>,
    told: Condvar,
}

/// Sees to it that whoever waits for the log hears something, also when opening it panics.
struct Teller(Arc<Opened>);

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.tell(Err(Error::new(ErrorKind::Unavailable, "the log could not be opened")));
    }
}

impl Opened {
    /// Tells whoever waits; the first word counts.
    fn tell(&self, log: Result<Weak<Log>>) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(log);
        self.told.notify_all();
    }

    /// Makes everything in the log durable, once it is open.
    fn sync(&self) -> Result<()> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let log = loop {
            match &*log {
                Some(log) => break log.clone()?,
                None => log = self.told.wait(log).unwrap_or_else(PoisonError::into_inner),
            }
        };
        match log.upgrade() {
            Some(log) => log.sync_to(log.written()),
            None => Err(Error::new(ErrorKind::Unavailable, "the log is closed")),
        }
    }
}

impl Core {
    /// Opens the data in `dir`, creating it if need be, and recovers what the log holds.
    pub(crate) fn open(dir: &Path, options: Options) -> Result<Core> {
        let disk = options.disk.clone();
        let lock = claim(&*disk, dir, options.create_if_missing)?;
        let engine = open_engine(&disk, dir, &options)?;
        let late = Arc::new(OnceLock::new());
        let shard_options = ShardOptions {
            count_keys: options.count_keys,
            seed: rng::entropy(),
            clock: options.clock.clone(),
            ..ShardOptions::default()
        };
        let shard = Shard::new(engine.clone(), Box::new(LateLog(late.clone())), shard_options);

        // A memtable filled by replay may be flushed before the log is open; where other families
        // need the log as well, it must not be durable before what the log holds is.
        let opened: Arc<Opened> = Arc::default();
        let barrier = opened.clone();
        let teller = Teller(opened.clone());
        engine.set_log_barrier(Box::new(move |_| barrier.sync()));

        engine.begin_replay();
        let mut last = engine.replay_from();
        let mut replay = Replay { shard: &shard, from: last, last: &mut last };
        let log_options = LogOptions {
            sync: options.sync,
            segment_bytes: options.log_segment_bytes,
            ..LogOptions::default()
        };
        let log =
            Log::open(disk, &dir.join("log"), log_options, &mut |_, record| replay.take(&record))
                .map(Arc::new);
        opened.tell(log.as_ref().map(Arc::downgrade).map_err(Error::clone));
        drop(teller);
        let log = log?;
        engine.end_replay();
        must_reach(&engine, dir, last)?;
        let local = LocalLog::new(log.clone(), GROUP, options.sync, last);
        // The cell was made empty above and nobody else holds it.
        _ = late.set(local);
        log.set_floor(GROUP, engine.replay_from())?;
        let flushed = Arc::downgrade(&log);
        engine.on_flush(Box::new(move |index| {
            if let Some(log) = flushed.upgrade() {
                // A log that cannot let go of a segment says so at the next append.
                _ = log.set_floor(GROUP, index);
            }
        }));
        shard.limit_vectors(VectorLimits {
            bytes_max: options.memory_budget_bytes / 2,
            threads: options.background_threads,
            segment_rows: options.vector_segment_rows.max(1),
        });
        shard.start()?;
        let core = Core {
            shard,
            log,
            gate: Arc::default(),
            options,
            dir: dir.to_path_buf(),
            upkeep: Mutex::new(None),
            _lock: lock,
        };
        core.start_upkeep();
        Ok(core)
    }

    /// Copies the data into the new folder `dir`, so that it opens by itself.
    pub(crate) fn checkpoint(&self, dir: &Path) -> Result<()> {
        let disk = &*self.options.disk;
        if disk.exists(dir) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("{} is there already; name a new folder", dir.display()),
            ));
        }
        disk.create_dir_all(dir)?;
        self.shard.engine().checkpoint(&dir.join("shard-1"))?;
        write_atomic(disk, &dir.join("FORMAT"), FORMAT)
    }

    /// Stops the upkeep; the log and the engine stop when the last holder lets go of them.
    pub(crate) fn stop(&self) {
        let upkeep = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(upkeep) = upkeep {
            *upkeep.stop.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
            upkeep.stop.wake.notify_all();
            _ = upkeep.thread.join();
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.options.clock.unix_ms()
    }

    pub(crate) fn rough_now_ms(&self) -> u64 {
        self.options.clock.rough_unix_ms()
    }

    fn start_upkeep(&self) {
        let (shard, log) = (self.shard.clone(), self.log.clone());
        let (clock, log_bytes_max) = (self.options.clock.clone(), self.options.log_bytes_max);
        let stop = Arc::new(Stop::default());
        let stopped = stop.clone();
        let turn = move || {
            shard.engine().tend();
            shard.tend_vectors();
            for _ in 0..SWEEPS_A_TURN {
                // A failed sweep is tried again next turn; a log that has stopped says so to
                // whoever writes.
                if !matches!(shard.sweep_expired(clock.unix_ms()), Ok(n) if n > 0) {
                    break;
                }
            }
            // A client may go away between placing a write and waiting for it.
            if shard.has_pending() {
                _ = shard.settle();
            }
            if log.bytes_on_disk() > log_bytes_max
                && let Some((GROUP, through, _)) = log.pinned_by()
            {
                // What could not be flushed now is tried again next turn.
                _ = shard.engine().flush_below(through);
            }
        };
        let thread = std::thread::Builder::new().name("arqon-upkeep".into()).spawn(move || {
            let mut asked = stopped.asked.lock().unwrap_or_else(PoisonError::into_inner);
            while !*asked {
                drop(asked);
                turn();
                let locked = stopped.asked.lock().unwrap_or_else(PoisonError::into_inner);
                asked = stopped
                    .wake
                    .wait_timeout_while(locked, UPKEEP_EVERY, |asked| !*asked)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
        });
        // Without the thread expired keys are still hidden, and the log only grows longer.
        if let Ok(thread) = thread {
            *self.upkeep.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(Upkeep { stop, thread });
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.stop();
        // What clients that went away left pending is committed before the lock is let go.
        _ = self.shard.settle();
        self.shard.close_vectors();
        self.shard.engine().close();
    }
}

/// Takes the records of the shard's group, in order and without holes.
struct Replay<'a> {
    shard: &'a Arc<Shard>,
    from: LogIndex,
    last: &'a mut LogIndex,
}

impl Replay<'_> {
    fn take(&mut self, record: &crate::log::RecordRef<'_>) -> Result<()> {
        if record.group != GROUP || record.kind != RecordKind::Entry || record.index <= self.from {
            return Ok(());
        }
        if record.index != self.last.next() {
            return Err(Error::new(
                ErrorKind::Corruption,
                format!(
                    "the log lacks entries: {} follows {}; restore the folder from a backup",
                    record.index, self.last
                ),
            ));
        }
        self.shard.apply(record.index, record.payload)?;
        *self.last = record.index;
        Ok(())
    }
}

/// Refuses a log that ends before what the tables hold: its newest segments are missing, and what
/// was written next would be taken for something the tables have already.
fn must_reach(engine: &Engine, dir: &Path, last: LogIndex) -> Result<()> {
    for family in engine.list_cfs() {
        let flushed = engine.flushed_index(family.id)?;
        if flushed > last {
            return Err(Error::corruption(
                dir.join("log"),
                0,
                format!("entries up to {flushed}, which the tables of `{}` hold", family.name),
                format!("entries up to {last}: segments are missing; restore them from a backup"),
            ));
        }
    }
    Ok(())
}

/// Makes sure that `dir` is ours to open, and takes its lock.
fn claim(disk: &dyn Disk, dir: &Path, create: bool) -> Result<Box<dyn FileLock>> {
    let format = dir.join("FORMAT");
    if !disk.exists(&format) {
        if !create {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{} holds no database", dir.display()),
            ));
        }
        disk.create_dir_all(dir)?;
        let foreign =
            disk.list(dir)?.into_iter().find(|e| !matches!(e.name.as_str(), "LOCK" | "FORMAT.tmp"));
        if let Some(entry) = foreign {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "{} is not empty (it holds {}) and is not a database; name another folder",
                    dir.display(),
                    entry.name
                ),
            ));
        }
    }
    let lock = disk.lock(&dir.join("LOCK"))?;
    if !disk.exists(&format) {
        write_atomic(disk, &format, FORMAT)?;
    }
    check_format(disk, dir)?;
    Ok(lock)
}

/// Checks that the data in `dir` is of a format that this program opens.
///
/// # Errors
/// `NotFound` if `dir` does not say, being no database; `Corruption` if it is of another.
pub fn check_format(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let format = dir.join("FORMAT");
    let file = disk.open(&format)?;
    let mut found = [0; FORMAT.len()];
    read_exact_at(&*file, &format, &mut found, 0)?;
    if found != FORMAT {
        return Err(Error::corruption(
            format,
            0,
            "\"arqondb 1\"",
            format!("\"{}\": written by another program or a newer version", found.escape_ascii()),
        ));
    }
    Ok(())
}

fn open_engine(disk: &Arc<dyn Disk>, dir: &Path, options: &Options) -> Result<Arc<Engine>> {
    if options.memory_budget_bytes < 8 << 20 {
        return Err(Error::invalid(format!(
            "the memory budget is {} bytes; at least 8 MiB are needed",
            options.memory_budget_bytes
        )));
    }
    let pool = Pool::background("arqon-bg", options.background_threads.max(1));
    // Of sixteen parts seven are for what is being written, six for what is being read, filters and
    // indexes among it, and three for all else: the mapped part of the log, the buffers of flushes
    // and compactions, connections, the program itself.
    let part = options.memory_budget_bytes / 16;
    let cache = BlockCache::new(6 * part);
    let mut engine_options = EngineOptions::new(dir.join("shard-1")).with_memtable_budget(7 * part);
    engine_options.table.codec = options.compression;
    if let Some(bytes) = options.write_buffer_bytes {
        if bytes > 7 * part {
            return Err(Error::invalid(format!(
                "the write buffer is {bytes} bytes; of a memory budget of {} memtables have {}",
                options.memory_budget_bytes,
                7 * part
            )));
        }
        engine_options.write_buffer_bytes = bytes;
    }
    Engine::open(disk.clone(), pool, cache, engine_options)
}

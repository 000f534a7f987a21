//! The work itself. A scenario runs in a process of its own on a fresh database and gives figures
//! for one or more workloads.

use crate::data::{Rng, Values, absent16, key16, key20, shuffled};
use crate::measure::{self, Cost, cost};
use crate::store::{Engine, Result, Setup, Store};
use hdrhistogram::Histogram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A figure: workload, metric, value.
pub type Figure = (String, &'static str, f64);

/// All scenarios, in the order in which they run.
pub const ALL: [&str; 10] = [
    "small",
    "batch",
    "flush",
    "flush_raw",
    "batch_flush",
    "durable",
    "recovery",
    "million",
    "overwrites",
    "kill",
];

/// Runs a scenario. `share` cuts its size: 1.0 is whole.
pub fn run(name: &str, engine: Engine, dir: &Path, share: f64) -> Result<Vec<Figure>> {
    let mut run = Run { engine, dir, share, values: Values::new(), figures: Vec::new() };
    match name {
        "small" => run.small()?,
        "batch" => run.batch()?,
        "flush" => run.flush(true)?,
        "flush_raw" => run.flush(false)?,
        "batch_flush" => run.batch_flush()?,
        "durable" => run.durable()?,
        "million" => run.million()?,
        "overwrites" => run.overwrites()?,
        other => return Err(format!("there is no scenario {other}").into()),
    }
    Ok(run.figures)
}

struct Run<'a> {
    engine: Engine,
    dir: &'a Path,
    share: f64,
    values: Values,
    figures: Vec<Figure>,
}

impl Run<'_> {
    fn n(&self, whole: u64) -> u64 {
        ((whole as f64 * self.share) as u64).max(10)
    }

    /// For single writes of which redb, where each is a transaction, would take minutes.
    fn n_single(&self, whole: u64) -> u64 {
        self.n(if self.engine == Engine::Redb { whole / 10 } else { whole })
    }

    fn open(&self, setup: Setup) -> Result<Box<dyn Store>> {
        self.engine.open(&self.dir.join("db"), setup)
    }

    fn note(&mut self, workload: &str, metric: &'static str, value: f64) {
        self.figures.push((workload.to_string(), metric, value));
    }

    fn note_cost(&mut self, workload: &str, n: u64, cost: Cost) {
        self.note(workload, "cpu_us_per_op", cost.cpu_s * 1e6 / n as f64);
        self.note(workload, "wall_us_per_op", cost.wall_s * 1e6 / n as f64);
    }

    fn small(&mut self) -> Result<()> {
        let n = self.n(10_000);
        let db = self.open(Setup::default())?;
        // Made beforehand: only the engine's work is measured.
        let mut keys: Vec<_> = (0..n).map(key20).collect();
        let (done, c) = cost(|| {
            let rows = keys.iter().enumerate();
            rows.into_iter().try_for_each(|(i, key)| db.put(key, self.values.get(i as u64, 100)))
        });
        done?;
        self.note_cost("seq_put", n, c);
        let (done, c) = cost(|| all_there(&*db, keys.iter().copied()));
        done?;
        self.note_cost("seq_get", n, c);
        keys = shuffled(n, 1).into_iter().map(key20).collect();
        let (done, c) = cost(|| all_there(&*db, keys.iter().copied()));
        done?;
        self.note_cost("rand_get", n, c);
        Ok(())
    }

    fn batch(&mut self) -> Result<()> {
        let n = self.n(10_000);
        let db = self.open(Setup::default())?;
        let (done, c) = cost(|| put_batches(&*db, &self.values, 0..n, key20, 100));
        done?;
        self.note_cost("batch_put", n, c);
        Ok(())
    }

    fn flush(&mut self, compress: bool) -> Result<()> {
        let n = self.n(100_000);
        let setup = Setup {
            write_buffer_bytes: Some(4 << 20),
            cache_bytes: Some(256 << 20),
            compress,
            ..Setup::default()
        };
        let db = self.open(setup)?;
        let (done, c) = cost(|| {
            (0..n).try_for_each(|i| db.put(&key20(i), self.values.get(i, 1024)))?;
            db.flush()
        });
        done?;
        self.note_cost(if compress { "put_flush" } else { "put_flush_raw" }, n, c);
        db.settle()?;
        let order = shuffled(n, 2);
        let (done, c) = cost(|| all_there(&*db, order.iter().map(|i| key20(*i))));
        done?;
        let name = if compress { "rand_get_after_flush" } else { "rand_get_after_flush_raw" };
        self.note_cost(name, n, c);
        let (done, c) = cost(|| all_there(&*db, (0..n).map(key20)));
        done?;
        let name = if compress { "seq_get_after_flush" } else { "seq_get_after_flush_raw" };
        self.note_cost(name, n, c);
        Ok(())
    }

    fn batch_flush(&mut self) -> Result<()> {
        let n = self.n(100_000);
        let setup = Setup { write_buffer_bytes: Some(4 << 20), ..Setup::default() };
        let db = self.open(setup)?;
        let (done, c) = cost(|| {
            put_batches(&*db, &self.values, 0..n, key20, 1024)?;
            db.flush()
        });
        done?;
        self.note_cost("batch_flush", n, c);
        Ok(())
    }

    fn durable(&mut self) -> Result<()> {
        for writers in [1u64, 8, 32] {
            let dir = self.dir.join(format!("db{writers}"));
            let db = self.engine.open(&dir, Setup { sync: true, ..Setup::default() })?;
            let stop = AtomicBool::new(false);
            let done = AtomicU64::new(0);
            let time = Duration::from_secs_f64((2.0 * self.share).max(0.1));
            let (db, values) = (&*db, &self.values);
            let (outcome, c) = cost(|| -> Result<()> {
                std::thread::scope(|scope| {
                    let work: Vec<_> = (0..writers)
                        .map(|w| {
                            let (stop, done) = (&stop, &done);
                            scope.spawn(move || -> Result<()> {
                                let mut i = 0;
                                while !stop.load(Ordering::Relaxed) {
                                    db.put(&key20(w << 40 | i), values.get(i, 100))?;
                                    i += 1;
                                    done.fetch_add(1, Ordering::Relaxed);
                                }
                                Ok(())
                            })
                        })
                        .collect();
                    // tidy: sleeps because time itself is what is measured over
                    std::thread::sleep(time);
                    stop.store(true, Ordering::Relaxed);
                    work.into_iter().try_for_each(|w| match w.join() {
                        Ok(done) => done,
                        Err(_) => Err("a writer panicked".into()),
                    })
                })
            });
            outcome?;
            let n = done.load(Ordering::Relaxed);
            let workload = format!("durable_put_{writers}");
            self.note(&workload, "ops_per_s", n as f64 / c.wall_s);
            self.note(&workload, "cpu_us_per_op", c.cpu_s * 1e6 / n.max(1) as f64);
        }
        Ok(())
    }

    fn million(&mut self) -> Result<()> {
        let n = self.n(1_000_000);
        let setup = Setup { cache_bytes: Some(512 << 20), ..Setup::default() };
        let db = self.open(setup)?;
        let order = shuffled(n, 3);
        let ids = order.iter().copied();
        put_batches(&*db, &self.values, ids, key16, 100)?;
        db.flush()?;
        db.settle()?;

        let m = self.n_single(1_000_000);
        let mut rng = Rng::new(4);
        let (done, c) = cost(|| -> Result<()> {
            for i in 0..m {
                db.put(&key16(rng.below(n)), self.values.get(i, 100))?;
            }
            db.flush()?;
            db.settle()
        });
        done?;
        self.note_cost("overwrite_1m", m, c);
        self.note("rss", "loaded_bytes", measure::peak_rss_bytes() as f64);

        all_there(&*db, (0..n).map(key16))?;
        // What an engine does when writes end is done before reads are measured.
        // tidy: sleeps because time itself is what an idle engine waits for
        std::thread::sleep(Duration::from_secs(3));
        db.settle()?;
        all_there(&*db, (0..n).map(key16))?;
        let m = self.n(500_000);
        let mut rng = Rng::new(5);
        let keys: Vec<_> = (0..m).map(|_| key16(rng.below(n))).collect();
        let (done, c) = cost(|| all_there(&*db, keys.iter().copied()));
        done?;
        self.note_cost("get_cached_1m", m, c);
        let keys: Vec<_> = (0..m).map(|_| absent16(rng.below(n))).collect();
        let (found, c) = cost(|| count_there(&*db, keys.iter().copied()));
        self.note_cost("get_absent_1m", m, c);
        expect("absent keys", found?, 0)?;

        let mut bytes = 0;
        let (rows, c) = cost(|| db.scan(b"", usize::MAX, &mut |k, v| bytes += k.len() + v.len()));
        self.note_cost("scan_1m", n, c);
        expect("rows of the scan", rows?, n)?;
        expect("bytes of the scan", bytes, n * 116)?;
        self.note("rss", "scanned_bytes", measure::peak_rss_bytes() as f64);

        let m = self.n(20_000);
        let last = n - 50.min(n);
        let (done, c) = cost(|| -> Result<u64> {
            let mut rows = 0;
            for _ in 0..m {
                rows += db.scan(&key16(rng.below(last + 1)), 50, &mut |_, v| {
                    std::hint::black_box(v);
                })? as u64;
            }
            Ok(rows)
        });
        expect("rows of the seeks", done?, m * 50.min(n))?;
        self.note_cost("seek_50", m, c);

        self.read_while_write(&*db, n)?;
        self.delete_most(&*db, n)?;
        self.note("rss", "peak_bytes", measure::peak_rss_bytes() as f64);
        Ok(())
    }

    fn read_while_write(&mut self, db: &dyn Store, n: u64) -> Result<()> {
        let stop = AtomicBool::new(false);
        let time = Duration::from_secs_f64((3.0 * self.share).max(0.1));
        let values = &self.values;
        let (reads, writes) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| -> Result<u64> {
                let (mut rng, mut done) = (Rng::new(6), 0);
                while !stop.load(Ordering::Relaxed) {
                    db.get(&key16(rng.below(n)), &mut |v| _ = std::hint::black_box(v))?;
                    done += 1;
                }
                Ok(done)
            });
            let writer = scope.spawn(|| -> Result<u64> {
                let (mut rng, mut done) = (Rng::new(7), 0);
                while !stop.load(Ordering::Relaxed) {
                    db.put(&key16(rng.below(n)), values.get(done, 100))?;
                    done += 1;
                }
                Ok(done)
            });
            // tidy: sleeps because time itself is what is measured over
            std::thread::sleep(time);
            stop.store(true, Ordering::Relaxed);
            (reader.join(), writer.join())
        });
        let gone = |_| "a thread panicked";
        let (reads, writes) = (reads.map_err(gone)??, writes.map_err(gone)??);
        self.note("read_while_write", "reads_per_s", reads as f64 / time.as_secs_f64());
        self.note("read_while_write", "writes_per_s", writes as f64 / time.as_secs_f64());
        db.flush()?;
        db.settle()
    }

    fn delete_most(&mut self, db: &dyn Store, n: u64) -> Result<()> {
        let gone = n * 9 / 10;
        let (done, c) = cost(|| (0..gone).try_for_each(|i| db.delete(&key16(i))));
        done?;
        self.note_cost("delete_900k", gone, c);
        let mut first = Vec::new();
        let (found, c) = cost(|| db.scan(b"", 1, &mut |k, _| first = k.to_vec()));
        expect("first rows", found?, 1)?;
        if first != key16(gone) {
            return Err("the first key is not the first that was left".into());
        }
        self.note("first_after_delete", "cpu_ms", c.cpu_s * 1e3);
        self.note("first_after_delete", "wall_ms", c.wall_s * 1e3);
        Ok(())
    }

    fn overwrites(&mut self) -> Result<()> {
        let (n, m) = (self.n(1_000_000), self.n_single(3_000_000));
        let db = self.open(Setup::default())?;
        put_batches(&*db, &self.values, shuffled(n, 3).into_iter(), key16, 100)?;
        db.flush()?;
        db.settle()?;
        let before = measure::dirtied_bytes();
        let mut rng = Rng::new(8);
        for i in 0..m {
            db.put(&key16(rng.below(n)), self.values.get(i, 100))?;
        }
        db.flush()?;
        db.settle()?;
        // What an engine does when nobody writes for a while belongs to it, in bytes and in space.
        // tidy: sleeps because time itself is what is measured over
        std::thread::sleep(Duration::from_secs(4));
        db.settle()?;
        let written = measure::dirtied_bytes() - before;
        let engine = self.engine;
        let (log, tables) = measure::folder_bytes(&self.dir.join("db"), &|p| engine.is_log(p));
        let user = |rows: u64| (rows * 116) as f64;
        self.note("amplification", "write", written as f64 / user(m));
        self.note("amplification", "space", tables as f64 / user(n));
        self.note("amplification", "space_with_log", (tables + log) as f64 / user(n));
        self.note("amplification", "peak_rss_bytes", measure::peak_rss_bytes() as f64);
        Ok(())
    }
}

/// The memtable of the recovery scenario: larger than its log.
const RECOVERY: Setup =
    Setup { sync: false, write_buffer_bytes: Some(1 << 30), cache_bytes: None, compress: true };

/// Rows of the recovery scenario: with 16 bytes of key and 100 of value and what a log adds to
/// them, 256 MB.
pub fn recovery_rows(share: f64) -> u64 {
    (1_900_000.0 * share) as u64
}

/// Fills a log, then says so and waits to be killed.
pub fn recovery_load(engine: Engine, dir: &Path, share: f64) -> Result<()> {
    let (db, values) = (engine.open(dir, RECOVERY)?, Values::new());
    for i in shuffled(recovery_rows(share), 9) {
        db.put(&key16(i), values.get(i, 100))?;
    }
    println!("loaded");
    // tidy: sleeps because time itself is what is measured over
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}

/// Opens what a killed process left, and reads from it.
pub fn recovery_open(engine: Engine, dir: &Path, share: f64) -> Result<Vec<Figure>> {
    let n = recovery_rows(share);
    let (db, c) = cost(|| -> Result<_> {
        let db = engine.open(dir, RECOVERY)?;
        all_there(&*db, [key16(0), key16(n - 1)].into_iter())?;
        Ok(db)
    });
    let db = db?;
    let values = Values::new();
    for i in (0..n).step_by(997) {
        let mut right = false;
        db.get(&key16(i), &mut |v| right = v == values.get(i, 100))?;
        if !right {
            return Err(format!("row {i} was lost or is wrong").into());
        }
    }
    let workload = || "recovery".to_string();
    Ok(vec![
        (workload(), "wall_s", c.wall_s),
        (workload(), "cpu_s", c.cpu_s),
        (workload(), "peak_rss_bytes", measure::peak_rss_bytes() as f64),
    ])
}

/// Overwrites at 80 % of the highest rate for `time`. Latencies count from when a write was due;
/// beside them stands the longest that one call took.
pub fn latency(engine: Engine, dir: &Path, time: Duration) -> Result<Vec<Figure>> {
    let n = 1_000_000;
    let (db, values) = (engine.open(dir, Setup::default())?, Values::new());
    put_batches(&*db, &values, shuffled(n, 3).into_iter(), key16, 100)?;
    let mut rng = Rng::new(10);
    let mut i = 0;
    // The highest rate that lasts: with flushes and compactions, not the first seconds'.
    let (began, warm) = (Instant::now(), time.mul_f64(0.1).min(Duration::from_secs(30)));
    while began.elapsed() < warm {
        db.put(&key16(rng.below(n)), values.get(i, 100))?;
        i += 1;
    }
    let rate = 0.8 * i as f64 / began.elapsed().as_secs_f64();
    // Not one figure a write: to touch gigabytes of fresh memory would be what is measured.
    let mut micros = Histogram::<u64>::new(3)?;
    let (began, mut done, mut longest) = (Instant::now(), 0u64, Duration::ZERO);
    while began.elapsed() < time {
        let due = Duration::from_secs_f64(done as f64 / rate);
        let mut called = began.elapsed();
        while called < due {
            std::hint::spin_loop();
            called = began.elapsed();
        }
        db.put(&key16(rng.below(n)), values.get(i + done, 100))?;
        done += 1;
        let ended = began.elapsed();
        longest = longest.max(ended - called);
        micros.record((ended - due).as_micros() as u64)?;
    }
    let at = |q: f64| micros.value_at_quantile(q) as f64;
    let workload = || "latency_80".to_string();
    Ok(vec![
        (workload(), "ops_per_s", rate),
        (workload(), "p50_us", at(0.5)),
        (workload(), "p99_us", at(0.99)),
        (workload(), "p999_us", at(0.999)),
        (workload(), "max_us", micros.max() as f64),
        (workload(), "longest_call_us", longest.as_micros() as f64),
        (workload(), "peak_rss_bytes", measure::peak_rss_bytes() as f64),
    ])
}

fn put_batches<const N: usize>(
    db: &dyn Store,
    values: &Values,
    ids: impl Iterator<Item = u64>,
    key: fn(u64) -> [u8; N],
    value_bytes: usize,
) -> Result<()> {
    let (mut keys, mut ids) = (Vec::with_capacity(100), ids.peekable());
    while ids.peek().is_some() {
        keys.clear();
        keys.extend(ids.by_ref().take(100).map(|i| (key(i), i)));
        let rows: Vec<(&[u8], &[u8])> =
            keys.iter().map(|(k, i)| (&k[..], values.get(*i, value_bytes))).collect();
        db.put_batch(&rows)?;
    }
    Ok(())
}

fn count_there<const N: usize>(
    db: &dyn Store,
    keys: impl Iterator<Item = [u8; N]>,
) -> Result<usize> {
    let mut n = 0;
    for key in keys {
        n += usize::from(db.get(&key, &mut |v| _ = std::hint::black_box(v))?);
    }
    Ok(n)
}

fn all_there<const N: usize>(db: &dyn Store, keys: impl Iterator<Item = [u8; N]>) -> Result<()> {
    let mut asked = 0u64;
    let found = count_there(db, keys.inspect(|_| asked += 1))?;
    expect("keys", found, asked)
}

fn expect(what: &str, found: impl TryInto<u64>, wanted: u64) -> Result<()> {
    match found.try_into() {
        Ok(n) if n == wanted => Ok(()),
        Ok(n) => Err(format!("{n} {what} where {wanted} must be").into()),
        Err(_) => Err(format!("too many {what}").into()),
    }
}

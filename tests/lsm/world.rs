//! An engine on a simulated disk, the log it replays, and the oracle beside them.

use super::oracle::{Event, Oracle, Row};
use arqondb::base::{CfId, LogIndex, Result, Seq};
use arqondb::env::{Disk, Pool, Rng, SimDisk};
use arqondb::lsm::batch::{BatchView, Counts, WriteBatch};
use arqondb::lsm::cache::BlockCache;
use arqondb::lsm::engine::{Engine, Snapshot};
use arqondb::lsm::key::{Kind, Meta, put_internal};
use arqondb::lsm::options::{CfOptions, EngineOptions, IterOptions, ReadOptions};
use arqondb::lsm::sstable::{TableOptions, TableWriter};
use arqondb::op::kv::MergeOp;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const DIR: &str = "/db";

/// What the log holds.
#[derive(Debug, Clone)]
pub(super) enum Logged {
    Batch(Vec<u8>),
    Ingest(CfId, Seq, PathBuf),
}

/// An outside file and what it holds.
pub(super) struct Prepared {
    cf: CfId,
    path: PathBuf,
    events: Vec<(Vec<u8>, Event)>,
}

pub(super) struct World {
    pub(super) disk: SimDisk,
    pub(super) pool: Pool,
    pub(super) engine: Arc<Engine>,
    pub(super) oracle: Oracle,
    pub(super) log: Vec<Logged>,
    pub(super) seq: u64,
    pub(super) now_ms: u64,
    pub(super) families: Vec<CfId>,
    pub(super) snapshots: Vec<(Snapshot, u64)>,
    pub(super) rng: Rng,
    pub(super) names: u64,
    pub(super) threads: bool,
}

pub(super) fn options() -> EngineOptions {
    EngineOptions {
        write_buffer_bytes: 4 << 10,
        memtable_budget_bytes: 16 << 10,
        levels: 4,
        level1_bytes: 8 << 10,
        level_multiplier: 2,
        l0_compact_files: 2,
        l0_slow_files: 4,
        l0_stop_files: 6,
        file_bytes: 4 << 10,
        dead_span_after: 3,
        table: TableOptions { block_bytes: 256, restart_interval: 4, ..TableOptions::default() },
        ..EngineOptions::new(DIR)
    }
}

pub(super) fn open_at(disk: &SimDisk, pool: &Pool, dir: &Path) -> Result<Arc<Engine>> {
    let cache = BlockCache::new(64 << 10);
    let options = EngineOptions { dir: dir.to_path_buf(), ..options() };
    Engine::open(disk.shared(), pool.clone(), cache, options)
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let (disk, pool) = (SimDisk::new(), Pool::manual());
        let engine = open_at(&disk, &pool, Path::new(DIR)).unwrap();
        disk.create_dir_all(Path::new("/ingest")).unwrap();
        World {
            disk,
            pool,
            engine,
            oracle: Oracle::default(),
            log: Vec::new(),
            seq: 0,
            now_ms: 1_000_000,
            families: vec![CfId::DEFAULT, CfId::EXPIRY],
            snapshots: Vec::new(),
            rng: Rng::new(seed),
            names: 0,
            threads: false,
        }
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.rng.below(n)
    }

    pub(super) fn family(&mut self) -> CfId {
        let at = self.below(self.families.len() as u64) as usize;
        self.families[at]
    }

    pub(super) fn key(&mut self) -> Vec<u8> {
        let len = self.below(3) as usize;
        (0..len).map(|_| b'a' + self.below(6) as u8).collect()
    }

    pub(super) fn value(&mut self) -> Vec<u8> {
        if self.below(3) == 0 {
            return (self.below(100) as i64).to_le_bytes().to_vec();
        }
        let most = if self.below(4) == 0 { 600 } else { 30 };
        let mut value = vec![0; self.below(most) as usize];
        self.rng.fill(&mut value);
        value
    }

    /// Makes a batch, logs it, tells the oracle, and applies it.
    pub(super) fn write(&mut self) {
        let bytes = self.log_batch();
        self.apply(&bytes).unwrap();
    }

    pub(super) fn apply(&self, bytes: &[u8]) -> Result<()> {
        let index = LogIndex(self.log.len() as u64);
        self.engine.apply(index, &BatchView::read(bytes).unwrap())
    }

    /// Makes a batch, logs it and tells the oracle.
    pub(super) fn log_batch(&mut self) -> Vec<u8> {
        self.now_ms += self.below(20);
        let mut batch = WriteBatch::new();
        let mut seq = self.seq;
        for _ in 0..self.below(5) + 1 {
            let (cf, key) = (self.family(), self.key());
            let value = self.value();
            let at = Seq(seq + 1);
            let present = self.oracle.raw(cf, &key, Seq::MAX);
            let expired = present.as_ref().is_some_and(|row| row.meta.is_expired(self.now_ms));
            let was = (present.is_some(), present.is_some_and(|r| r.meta.expire_at_ms.is_some()));
            let change = |is: (bool, bool)| Counts::Change {
                keys: is.0 as i8 - was.0 as i8,
                expires: is.1 as i8 - was.1 as i8,
            };
            match self.below(12) {
                0..=4 => {
                    batch.put_with(cf, &key, &value, Meta::default(), change((true, false)));
                    self.oracle.add(cf, &key, at, Event::Put(Meta::default(), value));
                }
                5 | 6 => {
                    let expire_at_ms = Some(self.now_ms + self.below(100) + 1);
                    let meta = Meta { tag: self.below(3) as u8, expire_at_ms };
                    batch.put_with(cf, &key, &value, meta, change((true, true)));
                    self.oracle.add(cf, &key, at, Event::Put(meta, value));
                }
                7 | 8 if !expired => {
                    let ops = [MergeOp::Append, MergeOp::Add, MergeOp::Max];
                    let op = ops[self.below(3) as usize];
                    batch.merge_with(cf, &key, op, &value, change((true, was.1)));
                    self.oracle.add(cf, &key, at, Event::Merge(op, value));
                }
                9 => {
                    let other = self.key();
                    let (start, end) = if key < other { (key, other) } else { (other, key) };
                    let inside: Vec<Row> = self.rows_between(cf, &start, &end);
                    let expires =
                        inside.iter().filter(|r| r.meta.expire_at_ms.is_some()).count() as u64;
                    batch.delete_range_with(cf, &start, &end, inside.len() as u64, expires);
                    self.oracle.delete_range(cf, &start, &end, at);
                }
                _ => {
                    batch.delete_with(cf, &key, change((false, false)));
                    self.oracle.add(cf, &key, at, Event::Delete);
                }
            }
            seq += 1;
        }
        batch.place(Seq(self.seq + 1), self.now_ms);
        self.seq = seq;
        let bytes = batch.encoded().to_vec();
        self.log.push(Logged::Batch(bytes.clone()));
        bytes
    }

    fn rows_between(&self, cf: CfId, start: &[u8], end: &[u8]) -> Vec<Row> {
        let all = self.oracle.scan(cf, Seq::MAX, 0);
        let inside = |key: &[u8]| start <= key && key < end;
        all.into_iter().filter(|(key, _)| inside(key)).map(|(_, row)| row).collect()
    }

    /// Opens the database on `disk` and replays the log.
    pub(super) fn reopen_on(&mut self, disk: SimDisk) {
        self.snapshots.clear();
        self.engine.close();
        self.pool = if self.threads { Pool::threads("lsm", 2) } else { Pool::manual() };
        self.disk = disk;
        self.engine = open_at(&self.disk, &self.pool, Path::new(DIR)).unwrap();
        self.replay(&self.engine.clone());
    }

    pub(super) fn replay(&self, engine: &Engine) {
        let from = engine.replay_from().0;
        for (i, logged) in self.log.iter().enumerate().skip(from as usize) {
            let index = LogIndex(i as u64 + 1);
            match logged {
                Logged::Batch(bytes) => {
                    engine.apply(index, &BatchView::read(bytes).unwrap()).unwrap();
                }
                Logged::Ingest(cf, seq, path) => {
                    engine.ingest(*cf, index, *seq, std::slice::from_ref(path)).unwrap();
                }
            }
        }
    }

    pub(super) fn reopen(&mut self) {
        self.reopen_on(self.disk.clone());
    }

    /// Logs an ingest of a new outside file and tells the oracle; gives what to do.
    pub(super) fn log_ingest(&mut self) -> (CfId, Seq, PathBuf) {
        let prepared = self.prepare_ingest();
        self.log_prepared(prepared)
    }

    /// Writes an outside file, durably.
    pub(super) fn prepare_ingest(&mut self) -> Prepared {
        let cf = self.family();
        self.names += 1;
        let path = PathBuf::from(format!("/ingest/{}.sst", self.names));
        let disk = self.disk.clone();
        let options = TableOptions::default();
        let mut table = TableWriter::create(&disk, &path, options, cf).unwrap();
        let mut keys: Vec<Vec<u8>> = (0..self.below(6) + 1).map(|_| self.key()).collect();
        keys.sort();
        keys.dedup();
        let mut events = Vec::new();
        for key in keys {
            let mut internal = Vec::new();
            let kind = if self.below(5) == 0 { Kind::Delete } else { Kind::Put };
            put_internal(&mut internal, &key, Seq(0), kind);
            let value = if kind == Kind::Put { self.value() } else { Vec::new() };
            table.add(&internal, &value).unwrap();
            let event = match kind {
                Kind::Put => Event::Put(Meta::default(), value),
                _ => Event::Delete,
            };
            events.push((key, event));
        }
        table.finish().unwrap();
        disk.sync_dir(Path::new("/ingest")).unwrap();
        Prepared { cf, path, events }
    }

    /// Logs the ingest of a file and tells the oracle.
    pub(super) fn log_prepared(&mut self, prepared: Prepared) -> (CfId, Seq, PathBuf) {
        let Prepared { cf, path, events } = prepared;
        self.seq += 1;
        let seq = Seq(self.seq);
        for (key, event) in events {
            self.oracle.add(cf, &key, seq, event);
        }
        self.log.push(Logged::Ingest(cf, seq, path.clone()));
        (cf, seq, path)
    }

    pub(super) fn create_cf(&mut self) -> Result<()> {
        self.names += 1;
        let cf = self.engine.create_cf(&format!("cf{}", self.names), CfOptions::default())?;
        self.families.push(cf);
        Ok(())
    }

    pub(super) fn drop_cf(&mut self) -> Result<()> {
        if self.families.len() > 2 {
            let cf = self.families[self.families.len() - 1];
            // Whether a drop that failed is found done after a crash is open.
            self.families.pop();
            self.oracle.drop_cf(cf);
            self.engine.drop_cf(cf)?;
        }
        Ok(())
    }

    pub(super) fn check_key(&self, cf: CfId, key: &[u8], at: Option<Seq>, now_ms: u64) {
        let read = ReadOptions { at, now_ms, fill_cache: true };
        let found = self.engine.get(cf, key, &read).unwrap();
        let found = found.map(|f| Row { value: f.value.to_vec(), meta: f.meta, seq: f.seq });
        let at = at.unwrap_or(Seq::MAX);
        assert_eq!(found, self.oracle.get(cf, key, at, now_ms), "key {key:?} at {at} now {now_ms}");
    }

    /// Compares everything, by iterator both ways and by gets.
    pub(super) fn check_all(&self) {
        let report = self.engine.check().unwrap();
        assert!(report.is_sound(), "{:?}", report.problems);
        self.check_engine(&self.engine, None, self.now_ms);
        for (snapshot, now_ms) in &self.snapshots {
            self.check_engine(&self.engine, Some(snapshot.seq()), *now_ms);
        }
    }

    pub(super) fn check_engine(&self, engine: &Engine, at: Option<Seq>, now_ms: u64) {
        for &cf in &self.families {
            let counts = engine.counts(cf).unwrap();
            if at.is_none() && counts.exact {
                let all = self.oracle.scan(cf, Seq::MAX, 0);
                let expire = all.iter().filter(|(_, row)| row.meta.expire_at_ms.is_some());
                let want = (all.len() as u64, expire.count() as u64);
                assert_eq!((counts.keys, counts.expires), want, "counts of family {cf}");
            }
            let want = self.oracle.scan(cf, at.unwrap_or(Seq::MAX), now_ms);
            let mut iter =
                engine.iter(cf, IterOptions { at, now_ms, ..Default::default() }).unwrap();
            let mut got = Vec::new();
            iter.first().unwrap();
            while iter.valid() {
                got.push((iter.key().to_vec(), row(&iter)));
                iter.next().unwrap();
            }
            assert_eq!(got, want, "family {cf} at {at:?}");
            let mut back = Vec::new();
            iter.last().unwrap();
            while iter.valid() {
                back.push((iter.key().to_vec(), row(&iter)));
                iter.prev().unwrap();
            }
            back.reverse();
            assert_eq!(back, want, "family {cf} at {at:?}, backwards");
            for (key, want) in &want {
                let read = ReadOptions { at, now_ms, fill_cache: false };
                let found = engine.get(cf, key, &read).unwrap().unwrap();
                assert_eq!((found.value.as_ref(), found.seq), (want.value.as_slice(), want.seq));
            }
        }
    }

    /// Walks an iterator with random bounds at random, against a vector.
    pub(super) fn walk(&mut self) {
        let cf = self.family();
        let pick = |world: &mut World| match world.below(3) {
            0 => Bound::Unbounded,
            1 => Bound::Included(world.key()),
            _ => Bound::Excluded(world.key()),
        };
        let (lower, upper) = (pick(self), pick(self));
        let prefix = if self.below(3) == 0 { self.key() } else { Vec::new() };
        let held = self.below(self.snapshots.len() as u64 + 1) as usize;
        let (at, now_ms) = match self.snapshots.get(held) {
            Some((snapshot, now_ms)) => (Some(snapshot.seq()), *now_ms),
            None => (None, self.now_ms),
        };
        let mut rows = self.oracle.scan(cf, at.unwrap_or(Seq::MAX), now_ms);
        rows.retain(|(key, _)| {
            key.starts_with(&prefix)
                && match &lower {
                    Bound::Unbounded => true,
                    Bound::Included(b) => key >= b,
                    Bound::Excluded(b) => key > b,
                }
                && match &upper {
                    Bound::Unbounded => true,
                    Bound::Included(b) => key <= b,
                    Bound::Excluded(b) => key < b,
                }
        });
        let options = IterOptions { lower, upper, prefix, at, now_ms, ..Default::default() };
        let mut iter = self.engine.iter(cf, options.clone()).unwrap();
        let mut pos: Option<usize> = None;
        for _ in 0..self.below(20) + 2 {
            let target = self.key();
            match self.below(8) {
                0 => {
                    iter.first().unwrap();
                    pos = Some(0);
                }
                1 => {
                    iter.last().unwrap();
                    pos = rows.len().checked_sub(1);
                }
                2 => {
                    iter.seek(&target).unwrap();
                    pos = Some(rows.partition_point(|(key, _)| *key < target));
                }
                3 => {
                    iter.seek_for_prev(&target).unwrap();
                    pos = rows.partition_point(|(key, _)| *key <= target).checked_sub(1);
                }
                4 | 5 if iter.valid() => {
                    iter.next().unwrap();
                    pos = pos.map(|p| p + 1);
                }
                6 | 7 if iter.valid() => {
                    iter.prev().unwrap();
                    pos = pos.and_then(|p| p.checked_sub(1));
                }
                _ => {}
            }
            pos = pos.filter(|p| *p < rows.len());
            let got = iter.valid().then(|| (iter.key().to_vec(), row(&iter)));
            assert_eq!(got, pos.map(|p| rows[p].clone()), "{options:?}");
        }
    }
}

fn row(iter: &arqondb::lsm::iter::Iter) -> Row {
    Row { value: iter.value().to_vec(), meta: iter.meta(), seq: iter.seq() }
}

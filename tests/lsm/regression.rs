//! Faults that were found and mended, each with what showed it.

use super::world::{DIR, World, open_at, options};
use arqondb::base::{CfId, LogIndex, Seq};
use arqondb::env::{Pool, SimDisk};
use arqondb::lsm::batch::{BatchView, Counts, WriteBatch};
use arqondb::lsm::key::{Kind, Meta, put_internal};
use arqondb::lsm::sstable::{Codec, TableOptions, TableWriter};
use arqondb::lsm::tombstone::RangeTombstone;
use arqondb::lsm::{
    BlockCache, CfOptions, Engine, EngineOptions, IterOptions, Pressure, ReadOptions,
};
use arqondb::op::kv::MergeOp;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Writes batches that the test makes itself, one log entry each.
struct Writer {
    world: World,
    index: u64,
}

impl Writer {
    fn new() -> Writer {
        Writer { world: World::new(1), index: 0 }
    }

    fn write(&mut self, now_ms: u64, fill: impl FnOnce(&mut WriteBatch)) {
        self.index += 1;
        let bytes = batch(self.index, now_ms, fill);
        let view = BatchView::read(&bytes).unwrap();
        self.world.engine.apply(LogIndex(self.index), &view).unwrap();
    }

    fn rewrite(&self, cf: CfId) {
        self.world.engine.flush(cf).unwrap();
        self.world.engine.compact_range(cf, Bound::Unbounded, Bound::Unbounded).unwrap();
    }
}

fn batch(seq: u64, now_ms: u64, fill: impl FnOnce(&mut WriteBatch)) -> Vec<u8> {
    let mut batch = WriteBatch::new();
    fill(&mut batch);
    batch.place(Seq(seq), now_ms);
    batch.encoded().to_vec()
}

#[test]
fn an_expired_key_stays_counted_and_readable_as_such_until_it_is_deleted() {
    let mut writer = Writer::new();
    let meta = Meta { tag: 2, expire_at_ms: Some(1_000) };
    let one_more = Counts::Change { keys: 1, expires: 1 };
    let one_less = Counts::Change { keys: -1, expires: -1 };
    let cf = CfId::DEFAULT;
    writer.write(1, |b| b.put_with(cf, b"k", b"value", meta, one_more));
    writer.write(2, |b| b.put_with(CfId::DEDUP, b"k", b"value", meta, Counts::NONE));
    writer.write(2_000, |b| b.put_with(CfId::EXPIRY, b"x", b"", Meta::default(), Counts::NONE));
    let engine = writer.world.engine.clone();
    let (raw, now) =
        (ReadOptions::default(), ReadOptions { now_ms: 2_000, ..ReadOptions::default() });
    for _ in 0..2 {
        writer.rewrite(cf);
        let husk = engine.get(cf, b"k", &raw).unwrap().unwrap();
        assert_eq!((husk.meta, &husk.value[..]), (meta, &b""[..]));
        assert_eq!(engine.get(cf, b"k", &now).unwrap(), None);
        let counts = engine.counts(cf).unwrap();
        assert_eq!((counts.keys, counts.expires), (1, 1));
    }
    writer.rewrite(CfId::DEDUP);
    assert_eq!(engine.get(CfId::DEDUP, b"k", &raw).unwrap(), None);

    // An operand that was decided on before the key expired expires with it.
    writer.write(2_001, |b| b.merge_with(cf, b"k", MergeOp::Append, b"+", Counts::NONE));
    for _ in 0..2 {
        assert_eq!(engine.get(cf, b"k", &raw).unwrap().unwrap().meta, meta);
        assert_eq!(engine.get(cf, b"k", &now).unwrap(), None);
        writer.rewrite(cf);
    }

    writer.write(2_002, |b| b.delete_with(cf, b"k", one_less));
    writer.rewrite(cf);
    assert_eq!(engine.get(cf, b"k", &raw).unwrap(), None);
    let counts = engine.counts(cf).unwrap();
    assert_eq!((counts.keys, counts.expires), (0, 0));
}

#[test]
fn a_family_created_while_others_are_flushed_does_not_ask_for_log_that_was_cut() {
    let mut writer = Writer::new();
    let put =
        |b: &mut WriteBatch| b.put_with(CfId::DEFAULT, b"k", b"v", Meta::default(), Counts::NONE);
    writer.write(1, put);
    let engine = &writer.world.engine;
    let (later, weak, once) = (batch(2, 2, put), Arc::downgrade(engine), AtomicBool::new(false));
    engine.set_log_barrier(Box::new(move |_| {
        if let (Some(engine), false) = (weak.upgrade(), once.swap(true, Ordering::AcqRel)) {
            engine.apply(LogIndex(2), &BatchView::read(&later)?)?;
            engine.flush_all()?;
        }
        Ok(())
    }));
    let cf = engine.create_cf("new", CfOptions::default()).unwrap();
    assert_eq!(engine.replay_from(), LogIndex(2));
    assert_eq!(engine.flushed_index(cf).unwrap(), LogIndex(2));
    engine.close();
    let again = open_at(&writer.world.disk, &Pool::manual(), Path::new(DIR)).unwrap();
    assert_eq!(again.replay_from(), LogIndex(2));
}

#[test]
fn sequence_numbers_and_time_outlive_the_only_family_written_to() {
    for below in [false, true] {
        let mut writer = Writer::new();
        let engine = writer.world.engine.clone();
        let cf = engine.create_cf("gone", CfOptions::default()).unwrap();
        writer.write(7_000, |b| b.put_with(cf, b"k", b"v", Meta::default(), Counts::NONE));
        engine.drop_cf(cf).unwrap();
        if below {
            engine.flush_below(LogIndex(1)).unwrap();
            writer.world.pool.wait_idle();
        } else {
            engine.flush_all().unwrap();
        }
        assert_eq!(engine.replay_from(), LogIndex(1));
        engine.close();
        let again = open_at(&writer.world.disk, &Pool::manual(), Path::new(DIR)).unwrap();
        assert_eq!(again.replay_from(), LogIndex(1));
        assert_eq!((again.last_seq(), again.committed_ms()), (Seq(1), 7_000));
    }
}

#[test]
fn families_dropped_while_another_is_flushed_leave_no_pressure() {
    let mut writer = Writer::new();
    let engine = writer.world.engine.clone();
    for round in 0..300 {
        let cf = engine.create_cf(&format!("cf{round}"), CfOptions::default()).unwrap();
        writer.write(1, |b| {
            b.put_with(CfId::DEFAULT, b"k", &[7; 300], Meta::default(), Counts::NONE);
            b.put_with(cf, b"k", &[7; 300], Meta::default(), Counts::NONE);
        });
        std::thread::scope(|scope| {
            scope.spawn(|| engine.flush(CfId::DEFAULT).unwrap());
            scope.spawn(|| engine.drop_cf(cf).unwrap());
        });
        writer.rewrite(CfId::DEFAULT);
        assert_eq!(engine.pressure(), Pressure::None, "round {round}");
    }
}

/// What was written last stayed in memory alone for as long as nothing else was written: each start
/// replayed it, and the log kept it.
#[test]
fn what_is_in_memory_is_flushed_where_nothing_is_written_for_long() {
    let mut writer = Writer::new();
    let (disk, pool) = (writer.world.disk.clone(), writer.world.pool.clone());
    let options =
        EngineOptions { write_buffer_bytes: 16 << 10, dir: "/larger".into(), ..options() };
    let engine = Engine::open(disk.shared(), pool.clone(), BlockCache::new(0), options).unwrap();
    writer.world.engine = engine.clone();
    let tend = |at_s: u64| {
        engine.tend_at(at_s * 1_000_000);
        pool.wait_idle();
        engine.replay_from()
    };
    assert_eq!(tend(0), LogIndex(0));
    // Little is worth no table.
    writer.write(1, |b| b.put_with(CfId::EXPIRY, b"a", b"v", Meta::default(), Counts::NONE));
    assert_eq!((tend(1), tend(60)), (LogIndex(0), LogIndex(0)));
    for n in 2..=5 {
        writer.write(n, |b| {
            b.put_with(CfId::DEFAULT, b"k", &[7; 300], Meta::default(), Counts::NONE)
        });
        assert_eq!(tend(60 + 9 * n), LogIndex(0), "{n}");
    }
    assert_eq!((tend(114), tend(115)), (LogIndex(0), LogIndex(5)));
    assert_eq!(tend(200), LogIndex(5));
    assert_eq!(engine.stats().memtable_bytes, 0);
    // Not again and again: each would be a small table.
    for n in 6..=9 {
        writer.write(n, |b| {
            b.put_with(CfId::DEFAULT, b"k", &[7; 300], Meta::default(), Counts::NONE)
        });
    }
    assert_eq!((tend(201), tend(414)), (LogIndex(5), LogIndex(5)));
    assert_eq!(tend(415), LogIndex(9));
}

/// Keys and values of the default family, forwards, and that backwards gives the same.
fn rows(engine: &arqondb::lsm::Engine, at: Option<Seq>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let options = IterOptions { at, ..IterOptions::default() };
    let mut iter = engine.iter(CfId::DEFAULT, options).unwrap();
    let (mut ahead, mut back) = (Vec::new(), Vec::new());
    iter.first().unwrap();
    while iter.valid() {
        ahead.push((iter.key().to_vec(), iter.value().to_vec()));
        iter.next().unwrap();
    }
    iter.last().unwrap();
    while iter.valid() {
        back.push((iter.key().to_vec(), iter.value().to_vec()));
        iter.prev().unwrap();
    }
    back.reverse();
    assert_eq!(ahead, back);
    ahead
}

fn row(key: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (key.as_bytes().to_vec(), value.as_bytes().to_vec())
}

#[test]
fn what_is_written_into_a_dead_span_is_seen_and_older_readers_see_what_was_there() {
    let mut writer = Writer::new();
    let cf = CfId::DEFAULT;
    for key in ["a", "b", "c", "d", "e", "f"] {
        writer.write(1, |b| b.put_with(cf, key.as_bytes(), b"old", Meta::default(), Counts::NONE));
    }
    let engine = writer.world.engine.clone();
    engine.flush(cf).unwrap();
    let before = engine.snapshot();
    for key in ["b", "c", "d"] {
        writer.write(1, |b| b.delete(key.as_bytes()));
    }
    writer.world.pool.wait_idle();
    let live = [row("a", "old"), row("e", "old"), row("f", "old")];
    assert_eq!(rows(&engine, None), live);
    let while_dead = engine.snapshot();
    writer.write(1, |b| b.merge(b"c", MergeOp::Append, b"new"));
    let now = [row("a", "old"), row("c", "new"), row("e", "old"), row("f", "old")];
    assert_eq!(rows(&engine, None), now);
    assert_eq!(rows(&engine, Some(while_dead.seq())), live);
    assert_eq!(rows(&engine, Some(before.seq())).len(), 6);
}

#[test]
fn an_iterator_skips_what_a_range_delete_covers_and_nothing_else() {
    let mut writer = Writer::new();
    let cf = CfId::DEFAULT;
    for n in 0..400 {
        let key = format!("k{n:03}");
        writer.write(1, |b| b.put_with(cf, key.as_bytes(), b"old", Meta::default(), Counts::NONE));
    }
    let engine = writer.world.engine.clone();
    writer.rewrite(cf);
    let before = engine.snapshot();
    // Newer than the range delete, older, and beside it in one file.
    writer.write(1, |b| b.put_with(cf, b"k050", b"gone", Meta::default(), Counts::NONE));
    writer.write(1, |b| b.delete_range_cf(cf, b"k010", b"k390"));
    writer.write(1, |b| b.put_with(cf, b"k200", b"new", Meta::default(), Counts::NONE));
    for flushed in [false, true] {
        if flushed {
            engine.flush(cf).unwrap();
        }
        let seen = rows(&engine, None);
        assert_eq!(seen.len(), 10 + 1 + 10);
        assert_eq!(seen[10], row("k200", "new"));
        assert_eq!(seen[11], row("k390", "old"));
        assert_eq!(rows(&engine, Some(before.seq())).len(), 400);
    }
}

#[test]
fn flushes_of_the_same_keys_do_not_each_take_a_level_of_their_own() {
    let mut writer = Writer::new();
    let cf = CfId::DEFAULT;
    let engine = writer.world.engine.clone();
    for _ in 0..4 {
        for n in 0..20 {
            let key = format!("k{n:03}");
            writer
                .write(1, |b| b.put_with(cf, key.as_bytes(), b"v", Meta::default(), Counts::NONE));
        }
        engine.flush(cf).unwrap();
        let middle = &engine.stats().levels[1..3];
        assert!(middle.iter().all(|level| level.files == 0), "{middle:?}");
    }
    writer.world.pool.wait_idle();
    engine.compact_due(cf).unwrap();
    let levels = engine.stats().levels;
    assert!(levels[0].files < 4 && levels[3].files == 1, "{levels:?}");
}

/// The records of an ingested file and its range deletes have one sequence number, and a record
/// dies only by a newer delete: neither walks nor skips may take it for covered.
#[test]
fn a_key_under_the_range_delete_of_its_own_ingested_file_is_walked() {
    let mut w = Writer::new();
    w.write(5, |b| b.put(b"k1", b"old"));
    w.world.engine.flush(CfId::DEFAULT).unwrap();
    let (disk, path) = (w.world.disk.shared(), Path::new("/in/1.sst"));
    disk.create_dir_all(Path::new("/in")).unwrap();
    let mut table =
        TableWriter::create(&*disk, path, TableOptions::default(), CfId::DEFAULT).unwrap();
    let mut key = Vec::new();
    put_internal(&mut key, b"k2", Seq(0), Kind::Put);
    table.add(&key, b"new").unwrap();
    table.add_range_delete(&RangeTombstone::new(b"k1", b"k9", Seq(0)));
    table.finish().unwrap();
    disk.sync_dir(Path::new("/in")).unwrap();
    let engine = &w.world.engine;
    engine.ingest(CfId::DEFAULT, LogIndex(2), Seq(10), &[path.to_path_buf()]).unwrap();
    let mut iter = engine.iter(CfId::DEFAULT, IterOptions::default()).unwrap();
    iter.first().unwrap();
    assert!(iter.valid() && iter.key() == b"k2");
    iter.last().unwrap();
    assert!(iter.valid() && iter.key() == b"k2");
    iter.seek(b"k").unwrap();
    assert!(iter.valid() && iter.key() == b"k2");
}

#[test]
fn what_a_flush_writes_unpacked_is_read_from_the_cache_at_once() {
    let (disk, pool) = (SimDisk::new(), Pool::manual());
    let table = TableOptions { codec: Codec::None, ..options().table };
    let options = EngineOptions {
        write_buffer_bytes: 1 << 20,
        memtable_budget_bytes: 4 << 20,
        table,
        ..options()
    };
    let cache = BlockCache::new(1 << 20);
    let engine = Engine::open(disk.shared(), pool, cache.clone(), options).unwrap();
    for i in 0..100u64 {
        let bytes = batch(i + 1, 1, |b| {
            let one_more = Counts::Change { keys: 1, expires: 0 };
            b.put_with(CfId::DEFAULT, &i.to_be_bytes(), b"value", Meta::default(), one_more);
        });
        engine.apply(LogIndex(i + 1), &BatchView::read(&bytes).unwrap()).unwrap();
    }
    engine.flush(CfId::DEFAULT).unwrap();
    assert!(cache.stats().blocks > 1, "{:?}", cache.stats());
    for i in 0..100u64 {
        let found = engine.get(CfId::DEFAULT, &i.to_be_bytes(), &ReadOptions::default()).unwrap();
        assert_eq!(found.unwrap().value, "value");
    }
    assert_eq!((cache.stats().hits, cache.stats().misses), (100, 0));
}

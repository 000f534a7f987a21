//! Faults that were found and mended, each with what showed it.

use super::world::{DIR, World, open_at};
use arqondb::base::{CfId, LogIndex, Seq};
use arqondb::env::Pool;
use arqondb::lsm::batch::{BatchView, Counts, WriteBatch};
use arqondb::lsm::key::Meta;
use arqondb::lsm::{CfOptions, Pressure, ReadOptions};
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

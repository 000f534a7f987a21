//! Entries of several batches in the engine: applied as a whole, also over a restart; and tables
//! that never know more than the log.

use arqondb::base::{CfId, LogIndex, Seq};
use arqondb::env::sim_disk::Crash;
use arqondb::env::{Pool, Rng, SimDisk};
use arqondb::lsm::batch::{BatchView, WriteBatch};
use arqondb::lsm::{BlockCache, Engine, EngineOptions, IterOptions, ReadOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn open(disk: &SimDisk, pool: &Pool) -> Arc<Engine> {
    let options = EngineOptions {
        write_buffer_bytes: 4 << 10,
        memtable_budget_bytes: 1 << 20,
        ..EngineOptions::new("/shard")
    };
    Engine::open(disk.shared(), pool.clone(), BlockCache::new(1 << 20), options).unwrap()
}

fn batch(seq: u64, key: &str, bytes: usize) -> Vec<u8> {
    let mut batch = WriteBatch::new();
    let value = vec![b'v'; bytes];
    batch.put(key.as_bytes(), &value);
    batch.place(Seq(seq), 1);
    batch.bytes().to_vec()
}

fn apply(engine: &Engine, index: u64, batches: &[Vec<u8>]) {
    let views: Vec<BatchView<'_>> = batches.iter().map(|b| BatchView::read(b).unwrap()).collect();
    engine.apply_all(LogIndex(index), &views).unwrap();
}

/// Memtables fill up within entries all the time. Whatever of an entry is in tables, all of it is:
/// a replay that begins behind what they hold leaves nothing out.
#[test]
fn no_memtable_is_sealed_between_two_batches_of_an_entry() {
    for seed in 0..20 {
        let (mut rng, mut disk, mut seq) = (Rng::new(seed), SimDisk::new(), 0);
        let mut log: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
        for _ in 0..6 {
            let pool = Pool::manual();
            let engine = open(&disk, &pool);
            for index in engine.replay_from().0..log.len() as u64 {
                apply(&engine, index + 1, &log[index as usize]);
            }
            for _ in 0..rng.below(30) {
                let batches: Vec<Vec<u8>> = (0..rng.below(5))
                    .map(|_| {
                        seq += 1;
                        let key = format!("key-{}", rng.below(50));
                        let bytes = rng.below(3000) as usize;
                        wanted.insert(key.clone(), seq);
                        batch(seq, &key, bytes)
                    })
                    .collect();
                log.push(batches);
                apply(&engine, log.len() as u64, log.last().unwrap());
                assert_eq!(engine.applied_index(), LogIndex(log.len() as u64));
                if rng.one_in(3) {
                    while pool.run_one() {}
                }
            }
            let mut found = BTreeMap::new();
            let mut iter = engine.iter(CfId::DEFAULT, IterOptions::default()).unwrap();
            iter.first().unwrap();
            while iter.valid() {
                found.insert(String::from_utf8(iter.key().to_vec()).unwrap(), iter.seq().0);
                iter.next().unwrap();
            }
            assert_eq!(found, wanted, "seed {seed}");
            drop(iter);
            engine.close();
            disk = disk.crash(Crash::PowerLost(rng.next_u64()));
        }
    }
}

#[test]
fn an_entry_without_batches_is_held_by_a_flush_like_any_other() {
    let (disk, pool) = (SimDisk::new(), Pool::manual());
    let engine = open(&disk, &pool);
    apply(&engine, 1, &[batch(1, "a", 10)]);
    apply(&engine, 2, &[]);
    apply(&engine, 3, &[]);
    engine.flush_all().unwrap();
    assert_eq!(engine.replay_from(), LogIndex(3));
    engine.close();
    let engine = open(&disk.crash(Crash::PowerLostClean), &pool);
    assert_eq!(engine.replay_from(), LogIndex(3));
    assert!(engine.get(CfId::DEFAULT, b"a", &ReadOptions::default()).unwrap().is_some());
}

/// A flush waits for the log even where no other family needs it, if its owner says so.
#[test]
fn the_log_is_durable_before_tables_hold_what_it_says() {
    for always in [false, true] {
        let (disk, pool) = (SimDisk::new(), Pool::manual());
        let engine = open(&disk, &pool);
        let called = Arc::new(AtomicU64::new(0));
        let seen = called.clone();
        engine.set_log_barrier(Box::new(move |index| {
            seen.store(index.0, Ordering::Relaxed);
            Ok(())
        }));
        if always {
            engine.always_call_log_barrier();
        }
        apply(&engine, 1, &[batch(1, "a", 10)]);
        engine.flush(CfId::DEFAULT).unwrap();
        assert_eq!(called.load(Ordering::Relaxed), u64::from(always));
    }
}

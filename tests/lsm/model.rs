//! Random operations against the oracle.

use super::world::{World, open_at};
use arqondb::base::{ErrorKind, LogIndex, Seq};
use arqondb::env::Pool;
use arqondb::lsm::{CfOptions, ReadOptions};
use std::ops::Bound;
use std::path::PathBuf;

/// Seeds of a run; `ARQON_LSM_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("ARQON_LSM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

const STEPS: u64 = 120;

fn step(world: &mut World) {
    match world.below(40) {
        0..=17 => world.write(),
        18..=20 => {
            let (cf, key) = (world.family(), world.key());
            world.check_key(cf, &key, None, world.now_ms);
        }
        21..=23 => world.walk(),
        24 => {
            let snapshot = world.engine.snapshot();
            world.snapshots.push((snapshot, world.now_ms));
        }
        25 => {
            if !world.snapshots.is_empty() {
                let at = world.below(world.snapshots.len() as u64) as usize;
                world.snapshots.swap_remove(at);
            }
        }
        26 => {
            let cf = world.family();
            world.engine.flush(cf).unwrap();
        }
        27 => {
            world.engine.flush_all().unwrap();
            assert_eq!(world.engine.replay_from(), LogIndex(world.log.len() as u64));
        }
        28 => {
            let index = LogIndex(world.log.len() as u64 / 2);
            world.engine.flush_below(index).unwrap();
            world.pool.wait_idle();
            assert!(world.engine.replay_from() >= index);
        }
        29 => {
            let (cf, key) = (world.family(), world.key());
            world.engine.compact_range(cf, Bound::Included(&key), Bound::Unbounded).unwrap();
        }
        30 => {
            let cf = world.family();
            world.engine.compact_due(cf).unwrap();
            world.engine.tend();
        }
        31 => {
            let cf = world.family();
            world.engine.compact_range(cf, Bound::Unbounded, Bound::Unbounded).unwrap();
        }
        32 => world.reopen(),
        33 => {
            let (cf, seq, path) = world.log_ingest();
            let index = LogIndex(world.log.len() as u64);
            world.engine.ingest(cf, index, seq, &[path]).unwrap();
        }
        34 => checkpoint(world),
        35 if world.below(3) == 0 => world.check_all(),
        35 if world.families.len() < 4 => world.create_cf().unwrap(),
        36 => world.drop_cf().unwrap(),
        37 => world.now_ms += 50,
        _ => {
            world.pool.run_one();
            world.engine.wait_for_room().unwrap();
        }
    }
}

fn checkpoint(world: &mut World) {
    world.names += 1;
    let dir = PathBuf::from(format!("/checkpoint{}", world.names));
    let info = world.engine.checkpoint(&dir).unwrap();
    assert_eq!(info.index, LogIndex(world.log.len() as u64));
    let copy = open_at(&world.disk, &Pool::manual(), &dir).unwrap();
    assert_eq!(copy.replay_from(), info.index);
    world.check_engine(&copy, None, world.now_ms);
}

#[test]
fn random_operations_answer_as_the_oracle_does() {
    for seed in 0..seeds() {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..STEPS {
                step(&mut world);
            }
            world.check_all();
            world.reopen();
            world.check_all();
        });
        assert!(run.is_ok(), "failed with seed {seed}");
    }
}

#[test]
fn retained_versions_read_as_they_were_and_older_ones_are_refused() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        let options = CfOptions { retain_seqs: 40 };
        world.families = vec![world.engine.create_cf("kept", options).unwrap()];
        let cf = world.families[0];
        for _ in 0..60 {
            world.write();
            match world.below(6) {
                0 => world.engine.flush(cf).unwrap(),
                1 => {
                    world.engine.compact_range(cf, Bound::Unbounded, Bound::Unbounded).unwrap();
                }
                2 => world.reopen(),
                _ => {}
            }
            let at = Seq(world.below(world.seq + 1));
            let key = world.key();
            if at.0 + 40 >= world.seq {
                world.check_key(cf, &key, Some(at), world.now_ms);
                continue;
            }
            let read = ReadOptions { at: Some(at), ..ReadOptions::default() };
            if let Err(error) = world.engine.get(cf, &key, &read) {
                assert_eq!(error.kind(), ErrorKind::Compacted);
            } else {
                world.check_key(cf, &key, Some(at), world.now_ms);
            }
        }
    }
}

//! A crash at every change to the disk: whatever is found afterwards, opening and replaying the
//! log gives exactly what was acknowledged.

use super::world::{DIR, World, open_at};
use arqondb::base::{ErrorKind, LogIndex};
use arqondb::env::sim_disk::Crash;
use arqondb::env::{Disk, Pool, SimDisk};
use arqondb::lsm::check::check_dir;
use std::ops::Bound;
use std::path::Path;

/// Histories whose every change is crashed at; `ARQON_LSM_CRASH_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("ARQON_LSM_CRASH_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4)
}

const CHECKPOINT: &str = "/checkpoint";

/// A history with everything that writes in it. Errors end an operation, not the history: the
/// disk may have stopped.
fn history(seed: u64, stop_at: Option<u64>) -> World {
    let mut world = World::new(seed);
    let mut outside: Vec<_> = (0..4).map(|_| world.prepare_ingest()).collect();
    world.disk.stop_at(stop_at);
    for _ in 0..24 {
        for _ in 0..world.below(6) + 1 {
            let bytes = world.log_batch();
            if world.apply(&bytes).is_err() {
                return world;
            }
        }
        let cf = world.family();
        let done = match world.below(10) {
            6 => world.create_cf(),
            7 => world.drop_cf(),
            8 => match outside.pop() {
                None => Ok(()),
                Some(prepared) => {
                    let (cf, seq, path) = world.log_prepared(prepared);
                    let index = LogIndex(world.log.len() as u64);
                    world.engine.ingest(cf, index, seq, &[path])
                }
            },
            9 => {
                let target = Path::new(CHECKPOINT).join(world.log.len().to_string());
                world.engine.checkpoint(&target).map(|_| ())
            }

            0 => world.engine.flush(cf),
            1 => world.engine.flush_all(),
            2 => world.engine.compact_range(cf, Bound::Unbounded, Bound::Unbounded),
            3 => {
                world.pool.wait_idle();
                Ok(())
            }
            4 => world.engine.compact_due(cf),
            _ => world.engine.flush_below(LogIndex(world.log.len() as u64)),
        };
        if done.is_err() {
            return world;
        }
    }
    world
}

#[test]
fn a_crash_at_any_change_loses_nothing_that_the_log_holds() {
    for seed in 0..seeds() {
        let changes = {
            let world = history(seed, None);
            world.engine.close();
            world.disk.changes()
        };
        for stop in 0..changes {
            let mut world = history(seed, Some(stop));
            for crash in
                [Crash::Process, Crash::PowerLostClean, Crash::PowerLost(seed * 7919 + stop)]
            {
                let found = world.disk.crash(crash);
                // What was found is whole before anything mends it.
                let report = check_dir(&found.shared(), Path::new(DIR)).unwrap();
                assert!(report.is_sound(), "seed {seed} stop {stop}: {:?}", report.problems);
                check_checkpoints(&found);
                let kept = std::mem::replace(&mut world.disk, found.clone());
                world.reopen_on(found);
                world.check_all();
                world.disk = kept;
            }
        }
    }
}

/// A checkpoint that has a `CURRENT` is whole.
fn check_checkpoints(disk: &SimDisk) {
    let parts = disk.list(Path::new(CHECKPOINT)).unwrap_or_default();
    for dir in parts.iter().map(|entry| Path::new(CHECKPOINT).join(&entry.name)) {
        match check_dir(&disk.shared(), &dir) {
            Ok(report) => assert!(report.is_sound(), "{dir:?}: {:?}", report.problems),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{dir:?}"),
        }
    }
}

#[test]
fn a_crash_while_the_database_is_created_leaves_one_that_opens() {
    let dir = Path::new(DIR);
    for stop in 0..20 {
        let disk = SimDisk::new();
        disk.stop_at(Some(stop));
        let opened = open_at(&disk, &Pool::manual(), dir);
        for crash in [Crash::Process, Crash::PowerLostClean, Crash::PowerLost(stop)] {
            let engine = open_at(&disk.crash(crash), &Pool::manual(), dir).unwrap();
            assert_eq!(engine.replay_from(), LogIndex(0));
        }
        if opened.is_ok() {
            return;
        }
    }
    panic!("creation takes more changes than were tried");
}

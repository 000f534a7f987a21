//! A disk that fails once: what was acknowledged stays, the error is told, and what can go on
//! goes on.

use super::world::World;
use arqondb::base::ErrorKind;
use arqondb::env::SimDisk;
use arqondb::env::sim_disk::{Crash, Fault};
use std::ops::Bound;

const SEEDS: u64 = 400;

#[test]
fn after_a_failed_operation_answers_are_right_or_errors_and_a_restart_mends_all() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..20 {
            world.write();
        }
        world.engine.flush_all().unwrap();
        let faults = [Fault::WriteError, Fault::NoSpace, Fault::SyncError, Fault::ReadError];
        let fault = faults[world.below(4) as usize];
        let skip = world.below(30);
        world.disk.fail(fault, skip);
        let mut failed = Vec::new();
        for _ in 0..25 {
            let bytes = world.log_batch();
            if let Err(error) = world.apply(&bytes) {
                assert_eq!(error.kind(), ErrorKind::Poisoned, "seed {seed}");
                break;
            }
            let cf = world.family();
            let done = match world.below(4) {
                0 => world.engine.flush(cf),
                1 => world.engine.compact_range(cf, Bound::Unbounded, Bound::Unbounded),
                2 => world.engine.compact_due(cf),
                _ => Ok(()),
            };
            failed.extend(done.err());
        }
        world.disk.heal();
        if failed.iter().all(|error| error.kind() == ErrorKind::OutOfSpace) {
            // A full device is no reason to stop once it has room again.
            world.engine.flush_all().unwrap();
            assert!(world.engine.background_error().is_none());
            world.check_all();
        }
        for crash in [Crash::Process, Crash::PowerLostClean, Crash::PowerLost(seed)] {
            let found = world.disk.crash(crash);
            let kept: SimDisk = std::mem::replace(&mut world.disk, found.clone());
            world.reopen_on(found);
            world.check_all();
            world.disk = kept;
        }
    }
}

#[test]
fn a_full_device_stops_writers_with_its_error_until_there_is_room() {
    let mut world = World::new(1);
    world.write();
    world.engine.flush_all().unwrap();
    world.disk.set_capacity(Some(world.disk.used_bytes()));
    while world.engine.pressure() != arqondb::lsm::Pressure::Stop {
        world.write();
        while world.pool.run_one() {}
    }
    let error = world.engine.wait_for_room().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfSpace);
    assert_eq!(world.engine.background_error().map(|e| e.kind()), Some(ErrorKind::OutOfSpace));
    world.check_all();
    world.disk.set_capacity(None);
    world.engine.wait_for_room().unwrap();
    assert_eq!(world.engine.background_error().map(|e| e.kind()), None);
    world.check_all();
}

#[test]
fn threads_in_the_background_change_no_answer() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.threads = true;
        world.reopen();
        for i in 0..300 {
            world.engine.wait_for_room().unwrap();
            world.write();
            if i % 20 == 0 {
                let snapshot = world.engine.snapshot();
                world.snapshots.truncate(2);
                world.snapshots.push((snapshot, world.now_ms));
            }
            if i % 10 == 0 {
                world.walk();
            }
        }
        world.check_all();
        world.reopen();
        world.check_all();
    }
}

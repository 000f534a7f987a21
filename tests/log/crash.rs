//! A crash at every change of a workload: what is found afterwards is a prefix of what was
//! appended, whole batches only, with all that was durable (after a kill: all that was
//! acknowledged), and the log goes on from there through further crashes.

use crate::driver::{Driver, Kinds, entry, open, options, record};
use arqondb::base::{GroupId, LogIndex};
use arqondb::env::sim_disk::Crash;
use arqondb::env::{Rng, SimDisk};
use arqondb::log::{RecordKind, SyncLevel};

const WORKLOADS: u64 = 80;
const STEPS: usize = 25;

fn at_every_change(seeds: std::ops::Range<u64>, level: SyncLevel, kinds: Kinds) {
    for seed in seeds {
        let mut changes = 0;
        loop {
            let disk = SimDisk::new();
            disk.stop_at(Some(changes));
            let mut driver = Driver::new(seed, disk.clone(), options(level));
            driver.kinds = kinds;
            let ended = driver.work(STEPS).is_ok();
            // Dropped while the disk stands still: as if it had never been.
            driver.log = None;
            for crash in [
                Crash::Process,
                Crash::PowerLostClean,
                Crash::PowerLost(seed * 1000 + changes),
                Crash::PowerLost(seed * 7777 + changes),
            ] {
                after(&driver, crash, seed, changes);
            }
            if ended {
                break;
            }
            changes += 1;
        }
    }
}

fn after(before: &Driver, crash: Crash, seed: u64, changes: u64) {
    let what = format!("seed {seed}, change {changes}, {crash:?}");
    let disk = before.disk.crash(crash);
    let mut driver = before.twin(disk.clone());
    // A crash during recovery, then another.
    let mut rng = Rng::new(seed ^ (changes << 20));
    for _ in 0..rng.below(3) {
        disk.stop_at(Some(rng.below(6)));
        _ = open(&disk, driver.options.clone());
        driver.disk = disk.crash(if crash == Crash::Process {
            Crash::Process
        } else {
            Crash::PowerLost(rng.next_u64())
        });
    }
    let must = if crash == Crash::Process { driver.acked } else { driver.durable };
    driver.reopen().unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(driver.acked >= must, "{what}: {} batches of {must}", driver.acked);
    // It goes on: what is appended now survives the next crash if it was synced.
    for _ in 0..3 {
        driver.append().unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    let log = driver.log.as_ref().unwrap();
    log.sync_to(log.written()).unwrap();
    let all = driver.history.len();
    driver.append().unwrap_or_else(|e| panic!("{what}: {e}"));
    driver.disk = driver.disk.crash(Crash::PowerLost(rng.next_u64()));
    driver.reopen().unwrap_or_else(|e| panic!("{what}, again: {e}"));
    assert!(driver.acked >= all, "{what}, again: {} batches of {all}", driver.acked);
}

#[test]
fn at_every_change_with_syncs_left_to_the_caller() {
    at_every_change(0..WORKLOADS / 2, SyncLevel::Os, Kinds::All);
}

#[test]
fn at_every_change_of_other_workloads() {
    at_every_change(WORKLOADS / 2..WORKLOADS, SyncLevel::default(), Kinds::All);
}

#[test]
fn at_every_change_where_segments_go_back_before_what_follows_is_durable() {
    at_every_change(WORKLOADS..WORKLOADS * 3 / 2, SyncLevel::Os, Kinds::Entries);
    at_every_change(WORKLOADS..WORKLOADS * 3 / 2, SyncLevel::Os, Kinds::NoStates);
}

#[test]
fn a_state_outlives_its_segment_though_the_newer_one_was_not_durable() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, options(SyncLevel::Os)).unwrap();
    let state = |value: &[u8]| record(2, RecordKind::State, 0, value);
    log.append(&[state(b"older").as_ref()]).unwrap();
    log.sync_to(log.written()).unwrap();
    // Into the next segment.
    for index in 1..=4 {
        log.append(&[entry(1, index, &[7; 1200]).as_ref()]).unwrap();
    }
    log.append(&[state(b"newer").as_ref()]).unwrap();
    log.set_floor(GroupId(1), LogIndex(4)).unwrap();
    let (_, seen) = open(&disk.crash(Crash::PowerLostClean), options(SyncLevel::Os)).unwrap();
    let states = seen.iter().filter(|(_, r)| r.kind == RecordKind::State);
    assert!(states.count() >= 1, "no state is left of two");
}

#[test]
fn a_batch_over_several_segments_is_there_whole_or_not_at_all() {
    for changes in 0..40 {
        let disk = SimDisk::new();
        let (log, _) = open(&disk, options(SyncLevel::Os)).unwrap();
        log.append(&[entry(1, 1, b"before").as_ref()]).unwrap();
        disk.stop_at(Some(changes));
        let (big, small) = (entry(1, 2, &[5; 9000]), entry(1, 3, b"small"));
        let acked = log.append(&[big.as_ref(), small.as_ref()]).is_ok();
        drop(log);
        for crash in [Crash::Process, Crash::PowerLost(changes)] {
            let (_, seen) = open(&disk.crash(crash), options(SyncLevel::Os)).unwrap();
            assert!(matches!(seen.len(), 0 | 1 | 3), "{}", seen.len());
            assert!(crash != Crash::Process || (seen.len() == 3) == acked);
        }
        if acked {
            return;
        }
    }
    panic!("the append never came through");
}

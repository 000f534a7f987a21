//! Random work and reopening against the driver's memory, without faults.

use crate::driver::{DIR, Driver, entry, open, options};
use arqondb::base::{ErrorKind, GroupId, LogIndex};
use arqondb::env::{Disk, SimDisk};
use arqondb::log::{Log, LogOptions, Position, Record, RecordKind, RecordRef, SyncLevel};
use std::path::Path;

const SEEDS: u64 = 3000;

#[test]
fn random_work_and_reopening_lose_nothing_that_is_needed() {
    for seed in 0..SEEDS {
        let level = [SyncLevel::Always, SyncLevel::Os, SyncLevel::default()][seed as usize % 3];
        let mut driver = Driver::new(seed, SimDisk::new(), options(level));
        driver.work(60).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        driver.reopen().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(driver.acked, driver.history.len());
        let log = driver.log.take().unwrap();
        assert_eq!(log.recovery().cut, None, "seed {seed}");
    }
}

#[test]
fn segments_are_released_recycled_and_counted() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, options(SyncLevel::Os)).unwrap();
    assert_eq!(log.pinned_by(), None);
    let state = RecordRef {
        group: GroupId(7),
        kind: RecordKind::State,
        index: LogIndex(3),
        payload: b"vote",
    };
    log.append(&[state]).unwrap();
    let payload = [9u8; 1000];
    for index in 1..=40 {
        log.append(&[entry(1, index, &payload).as_ref()]).unwrap();
    }
    let full = log.bytes_on_disk();
    assert!(full >= 40_000);
    let (group, index, bytes) = log.pinned_by().unwrap();
    assert_eq!((group, bytes), (GroupId(1), 4096));
    log.set_floor(GroupId(1), index).unwrap();
    assert_eq!(log.bytes_on_disk(), full, "the segment waits to be used again");
    log.set_floor(GroupId(1), LogIndex(40)).unwrap();
    assert!(log.bytes_on_disk() <= 5 * 4096, "{}", log.bytes_on_disk());
    let names = disk.list(Path::new(DIR)).unwrap();
    assert_eq!(names.iter().filter(|e| e.name.ends_with(".spare")).count(), 2);
    assert_eq!(disk.used_bytes(), log.bytes_on_disk());
    // Spares are used before new files are made.
    for index in 41..=48 {
        log.append(&[entry(1, index, &payload).as_ref()]).unwrap();
    }
    let names = disk.list(Path::new(DIR)).unwrap();
    assert_eq!(names.iter().filter(|e| e.name.ends_with(".spare")).count(), 0);
    drop(log);
    let (log, seen) = open(&disk, options(SyncLevel::Os)).unwrap();
    let states: Vec<&Record> =
        seen.iter().map(|(_, r)| r).filter(|r| r.kind == RecordKind::State).collect();
    assert!(states.iter().all(|r| r.payload == b"vote") && !states.is_empty());
    log.remove_group(GroupId(1)).unwrap();
    assert_eq!(log.pinned_by(), None);
}

#[test]
fn a_position_that_is_no_record_or_gone_is_told_so() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, options(SyncLevel::Os)).unwrap();
    let first = log.append(&[entry(1, 1, &[1; 3000]).as_ref()]).unwrap();
    for index in 2..9 {
        log.append(&[entry(1, index, &[1; 3000]).as_ref()]).unwrap();
    }
    let kind = |position| log.read(position).unwrap_err().kind();
    assert_eq!(kind(Position(0)), ErrorKind::InvalidArgument);
    assert_eq!(kind(Position(log.written().0 + 1)), ErrorKind::InvalidArgument);
    assert!(log.read(Position(first.0 + 1)).is_err());
    log.set_floor(GroupId(1), LogIndex(8)).unwrap();
    assert_eq!(kind(first), ErrorKind::Compacted);
    assert_eq!(
        log.sync_to(Position(log.written().0 + 1)).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
}

#[test]
fn what_cannot_be_appended_is_refused_and_does_no_harm() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, options(SyncLevel::Os)).unwrap();
    let state = RecordRef {
        group: GroupId(1),
        kind: RecordKind::State,
        index: LogIndex(256),
        payload: b"",
    };
    assert_eq!(log.append(&[state]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(log.append(&[]).unwrap(), log.written());
    log.append(&[entry(1, 1, b"").as_ref()]).unwrap();
    for segment_bytes in [0, 4095, (1 << 30) + 1] {
        let bad = LogOptions { segment_bytes, ..LogOptions::default() };
        assert!(Log::open(disk.shared(), Path::new("/x"), bad, &mut |_, _| Ok(())).is_err());
    }
}

#[test]
fn a_replay_that_fails_fails_the_opening() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, options(SyncLevel::Os)).unwrap();
    log.append(&[entry(1, 1, b"x").as_ref()]).unwrap();
    drop(log);
    let opened = Log::open(disk.shared(), Path::new(DIR), options(SyncLevel::Os), &mut |_, _| {
        Err(arqondb::base::Error::invalid("enough"))
    });
    assert_eq!(opened.unwrap_err().message(), "enough");
}

#[test]
fn restarting_without_writing_leaves_no_files_behind() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, options(SyncLevel::Os)).unwrap();
    log.append(&[entry(1, 1, b"x").as_ref()]).unwrap();
    drop(log);
    for _ in 0..20 {
        let (log, seen) = open(&disk, options(SyncLevel::Os)).unwrap();
        assert_eq!(seen.len(), 1);
        drop(log);
    }
    assert_eq!(disk.list(Path::new(DIR)).unwrap().len(), 1);
}

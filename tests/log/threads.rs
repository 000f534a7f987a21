//! Many threads, the syncer, callbacks, and real files.

use crate::driver::{entry, record};
use arqondb::base::{GroupId, LogIndex, Result};
use arqondb::env::sim_disk::{Crash, Fault};
use arqondb::env::{Disk, RealDisk, SimDisk};
use arqondb::log::{Log, LogOptions, Position, Record, RecordKind, SyncLevel};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, mpsc};

fn options(sync: SyncLevel) -> LogOptions {
    LogOptions { segment_bytes: 64 << 10, sync, ..LogOptions::default() }
}

fn open(disk: Arc<dyn Disk>, dir: &Path, sync: SyncLevel) -> Result<(Log, Vec<Record>)> {
    let mut seen = Vec::new();
    let log = Log::open(disk, dir, options(sync), &mut |_, r| {
        let payload = r.payload.to_vec();
        seen.push(Record { group: r.group, kind: r.kind, index: r.index, payload });
        Ok(())
    })?;
    Ok((log, seen))
}

#[test]
fn many_writers_on_real_files_keep_their_orders_and_share_syncs() {
    const WRITERS: u64 = 8;
    const EACH: u64 = 300;
    for level in [SyncLevel::Always, SyncLevel::Interval { ms: 1 }, SyncLevel::Os] {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = open(RealDisk::shared(), dir.path(), level).unwrap();
        std::thread::scope(|scope| {
            for group in 1..=WRITERS {
                let log = &log;
                scope.spawn(move || {
                    for index in 1..=EACH {
                        let payload = vec![group as u8; (index * 7 % 400) as usize];
                        let wanted = entry(group, index, &payload);
                        let position = log.append(&[wanted.as_ref()]).unwrap();
                        log.commit(position).unwrap();
                        assert!(level != SyncLevel::Always || log.durable() >= position);
                        assert_eq!(log.read(position).unwrap(), wanted);
                        if index % 50 == 0 {
                            let state = record(group, RecordKind::State, 0, &payload);
                            log.append(&[state.as_ref()]).unwrap();
                            log.set_floor(GroupId(group), LogIndex(index)).unwrap();
                        }
                    }
                });
            }
        });
        drop(log);
        let (log, seen) = open(RealDisk::shared(), dir.path(), level).unwrap();
        let mut last: BTreeMap<GroupId, u64> = BTreeMap::new();
        let mut states = BTreeMap::new();
        for record in seen {
            match record.kind {
                RecordKind::State => _ = states.insert(record.group, record.payload),
                _ => {
                    let before = last.insert(record.group, record.index.0);
                    assert!(before.is_none_or(|b| b + 1 == record.index.0), "{level}");
                }
            }
        }
        assert_eq!(states.len(), WRITERS as usize);
        assert!(states.values().all(|state| state.len() == (EACH * 7 % 400) as usize));
        assert!(last.values().all(|index| *index == EACH), "{level}: {last:?}");
        // Two sealed segments' worth of floors were passed: most of the log has been given back.
        assert!(log.bytes_on_disk() < 12 * (64 << 10), "{}", log.bytes_on_disk());
    }
}

#[test]
fn a_callback_comes_when_its_record_is_durable_and_not_before() {
    for level in [SyncLevel::Always, SyncLevel::Os] {
        let disk = SimDisk::new();
        let (log, _) = open(disk.shared(), Path::new("/log"), level).unwrap();
        let log = Arc::new(log);
        let (told, heard) = mpsc::channel();
        for index in 1..=100 {
            let position = log.append(&[entry(1, index, b"x").as_ref()]).unwrap();
            let (told, weak) = (told.clone(), Arc::downgrade(&log));
            let check = move |outcome: Result<()>| {
                outcome.unwrap();
                if let Some(log) = weak.upgrade() {
                    assert!(log.durable() >= position);
                }
                told.send(index).unwrap();
            };
            log.on_durable(position, Box::new(check));
        }
        let mut all: Vec<u64> = heard.iter().take(100).collect();
        all.sort();
        assert_eq!(all, (1..=100).collect::<Vec<u64>>());
        let durable = disk.crash(Crash::PowerLostClean);
        drop(log);
        let (_, seen) = open(durable.shared(), Path::new("/log"), level).unwrap();
        assert_eq!(seen.len(), 100);
    }
}

#[test]
fn everyone_who_waits_is_told_of_a_failed_sync() {
    let disk = SimDisk::new();
    let (log, _) = open(disk.shared(), Path::new("/log"), SyncLevel::Always).unwrap();
    let mut position = Position(0);
    for index in 1..=20 {
        position = log.append(&[entry(1, index, b"x").as_ref()]).unwrap();
    }
    // The segment prepared ahead may take a sync of its own; both fail.
    for _ in 0..2 {
        disk.fail(Fault::SyncError, 0);
    }
    let (told, heard) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(log.sync_to(position).is_err()));
        }
        for _ in 0..4 {
            let told = told.clone();
            log.on_durable(position, Box::new(move |outcome| told.send(outcome.is_err()).unwrap()));
        }
    });
    assert!(heard.iter().take(4).all(|failed| failed));
    assert!(log.poisoned().is_some());
}

#[test]
fn dropping_the_log_syncs_it_and_answers_all_who_wait() {
    let disk = SimDisk::new();
    let level = SyncLevel::Interval { ms: SyncLevel::INTERVAL_MS_MAX };
    let (log, _) = open(disk.shared(), Path::new("/log"), level).unwrap();
    let position = log.append(&[entry(1, 1, b"x").as_ref()]).unwrap();
    let (told, heard) = mpsc::channel();
    log.on_durable(position, Box::new(move |outcome| told.send(outcome).unwrap()));
    log.append(&[entry(1, 2, b"y").as_ref()]).unwrap();
    drop(log);
    heard.recv().unwrap().unwrap();
    let disk = disk.crash(Crash::PowerLostClean);
    let (_, seen) = open(disk.shared(), Path::new("/log"), level).unwrap();
    assert_eq!(seen.len(), 2);
}

#[test]
fn the_interval_thread_syncs_without_being_asked() {
    let disk = SimDisk::new();
    let level = SyncLevel::Interval { ms: 1 };
    let (log, _) = open(disk.shared(), Path::new("/log"), level).unwrap();
    let position = log.append(&[entry(1, 1, b"x").as_ref()]).unwrap();
    // The event waited for is the sync itself; if it never came the test would not end.
    while log.durable() < position {
        std::thread::yield_now();
    }
    let disk = disk.crash(Crash::PowerLostClean);
    let (_, seen) = open(disk.shared(), Path::new("/log"), level).unwrap();
    assert_eq!(seen.len(), 1);
}

#[test]
fn the_last_handle_may_be_dropped_by_a_callback() {
    let disk = SimDisk::new();
    let (log, _) = open(disk.shared(), Path::new("/log"), SyncLevel::Always).unwrap();
    let log = Arc::new(log);
    let position = log.append(&[entry(1, 1, b"x").as_ref()]).unwrap();
    let (told, heard) = mpsc::channel();
    let mine = log.clone();
    let last = move |outcome: Result<()>| {
        drop(mine);
        told.send(outcome).unwrap();
    };
    log.on_durable(position, Box::new(last));
    drop(log);
    heard.recv().unwrap().unwrap();
}

#[test]
fn syncs_that_are_turned_by_hand_wait_for_their_turn() {
    let (disk, syncs) = (SimDisk::new(), arqondb::env::Pool::manual());
    let options =
        LogOptions { threads: false, syncs: Some(syncs.clone()), ..options(SyncLevel::Always) };
    let log = Log::open(disk.shared(), Path::new("/log"), options, &mut |_, _| Ok(())).unwrap();
    let said = Arc::new(std::sync::Mutex::new(Vec::new()));
    for n in 1..=3 {
        let at = log.append(&[entry(1, n, b"x").as_ref()]).unwrap();
        let said = said.clone();
        log.on_durable(
            at,
            Box::new(move |outcome| said.lock().unwrap().push((n, outcome.is_ok()))),
        );
        assert!(log.durable() < at);
    }
    assert!(said.lock().unwrap().is_empty());
    // One sync serves all who wait.
    assert!(syncs.run_one());
    assert_eq!(*said.lock().unwrap(), [(1, true), (2, true), (3, true)]);
    assert_eq!(log.durable(), log.written());
    syncs.wait_idle();
    let at = log.append(&[entry(1, 4, b"x").as_ref()]).unwrap();
    let told = said.clone();
    log.on_durable(at, Box::new(move |outcome| told.lock().unwrap().push((4, outcome.is_ok()))));
    disk.fail(Fault::SyncError, 0);
    syncs.wait_idle();
    assert_eq!(said.lock().unwrap().last(), Some(&(4, false)));
}

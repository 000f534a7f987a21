//! Crashes of a whole node on the simulated disk: what was acknowledged is there, whole, and what
//! was deleted stays deleted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use arqondb::base::CfId;
use arqondb::env::sim_disk::{Crash, Fault};
use arqondb::env::{Rng, SimClock, SimDisk};
use arqondb::op::kv::{Expiry, RedisCall, RequestId, Write};
use arqondb::op::{Reply, Request, Response, command};
use arqondb::{Db, ErrorKind, Options, SyncLevel};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const DIR: &str = "/db";
const KEYS: u64 = 12;
/// Every batch writes all keys of one group, so a torn batch shows.
const GROUP: u64 = 3;

fn options(disk: &SimDisk, sync: SyncLevel) -> Options {
    Options {
        sync,
        disk: disk.shared(),
        clock: Arc::new(SimClock::at(1_000_000)),
        memory_budget_bytes: 8 << 20,
        log_segment_bytes: 64 << 10,
        count_keys: true,
        ..Options::default()
    }
}

/// What may stand under each group of keys: the last acknowledged value, and those of attempts
/// behind it whose outcome is not known.
#[derive(Default, Clone)]
struct Model {
    may_be: BTreeMap<u64, BTreeSet<Option<u64>>>,
}

impl Model {
    fn attempted(&mut self, group: u64, value: Option<u64>) {
        self.may_be.entry(group).or_insert_with(|| BTreeSet::from([None])).insert(value);
    }

    fn acknowledged(&mut self, group: u64, value: Option<u64>) {
        self.may_be.insert(group, BTreeSet::from([value]));
    }
}

fn key(group: u64, i: u64) -> Bytes {
    Bytes::from(format!("key-{group}-{i}"))
}

fn write(group: u64, value: Option<u64>, id: Option<RequestId>) -> Request {
    let writes = (0..GROUP)
        .map(|i| match value {
            Some(value) => Write::Put {
                cf: CfId::DEFAULT,
                key: key(group, i),
                value: Bytes::from(vec![b'v'; (value % 700) as usize + 1])
                    .into_iter()
                    .chain(value.to_le_bytes())
                    .collect(),
                expiry: if value % 5 == 0 { Expiry::InMs(1 << 40) } else { Expiry::Never },
            },
            None => Write::Delete { cf: CfId::DEFAULT, key: key(group, i) },
        })
        .collect();
    Request::Write { writes, id }
}

/// Runs random writes, flushes and compactions until `ops` are done or something fails.
fn run(db: &Db, model: &mut Model, rng: &mut Rng, next: &mut u64, ops: u64) {
    for _ in 0..ops {
        match rng.below(20) {
            0 if db.flush().is_err() => return,
            1 if db.compact(CfId::DEFAULT).is_err() => return,
            0 | 1 => {}
            _ => {
                let group = rng.below(KEYS);
                *next += 1;
                let value = (!rng.one_in(4)).then_some(*next);
                let id = RequestId { client: 1, request: *next };
                match db.execute(write(group, value, Some(id))) {
                    Ok(_) => model.acknowledged(group, value),
                    Err(_) => {
                        model.attempted(group, value);
                        return;
                    }
                }
            }
        }
    }
}

/// The value under each group; panics on half a batch.
fn found(db: &Db, what: &str) -> BTreeMap<u64, Option<u64>> {
    (0..KEYS)
        .map(|group| {
            let values: Vec<Option<u64>> = (0..GROUP)
                .map(|i| {
                    let value = db.get(&key(group, i)).unwrap();
                    value.map(|v| u64::from_le_bytes(v[v.len() - 8..].try_into().unwrap()))
                })
                .collect();
            assert!(values.iter().all(|v| *v == values[0]), "{what}: a batch in part: {values:?}");
            (group, values[0])
        })
        .collect()
}

fn verify(db: &Db, model: &mut Model, what: &str) {
    let found = found(db, what);
    let mut live = 0;
    for (group, value) in found {
        let allowed = model.may_be.get(&group).cloned().unwrap_or(BTreeSet::from([None]));
        assert!(allowed.contains(&value), "{what}: group {group} is {value:?}, not {allowed:?}");
        // Once seen, it is settled.
        model.acknowledged(group, value);
        live += if value.is_some() { GROUP } else { 0 };
    }
    assert_eq!(db.stats().unwrap().keys, live, "{what}: the count of keys");
    let report = db.check().unwrap();
    assert!(report.is_sound(), "{what}: {report:?}");
}

/// Runs a workload until the disk stops after so many changes, then crashes, reopens, goes on and
/// crashes once more.
fn crash_after(seed: u64, changes: u64, sync: SyncLevel, crashes: &[Crash]) {
    let mut rng = Rng::new(seed);
    let disk = SimDisk::new();
    let mut model = Model::default();
    let mut next = 0;
    disk.stop_at(Some(changes));
    let Ok(db) = Db::open_with(DIR, options(&disk, sync)) else {
        // Stopped while the database was being created: it must come up empty.
        for crash in crashes {
            reopen_and_go_on(&disk.crash(*crash), &model, next, &mut rng, sync, *crash, seed);
        }
        return;
    };
    run(&db, &mut model, &mut rng, &mut next, 60);
    disk.stop_at(Some(0));
    for crash in crashes {
        reopen_and_go_on(&disk.crash(*crash), &model, next, &mut rng, sync, *crash, seed);
    }
}

fn reopen_and_go_on(
    disk: &SimDisk,
    model: &Model,
    mut next: u64,
    rng: &mut Rng,
    sync: SyncLevel,
    crash: Crash,
    seed: u64,
) {
    let what = format!("seed {seed}, {sync:?}, {crash:?}");
    let mut model = model.clone();
    let db = Db::open_with(DIR, options(disk, sync))
        .unwrap_or_else(|e| panic!("{what}: cannot reopen: {e}"));
    verify(&db, &mut model, &what);
    run(&db, &mut model, rng, &mut next, 12);
    verify(&db, &mut model, &what);
    disk.stop_at(Some(0));
    let twice = disk.crash(crash);
    drop(db);
    let db = Db::open_with(DIR, options(&twice, sync))
        .unwrap_or_else(|e| panic!("{what}: cannot reopen after two crashes: {e}"));
    verify(&db, &mut model, &what);
}

/// Changes that a workload of this seed makes when nothing stops it, its opening included.
fn changes_of(seed: u64, sync: SyncLevel) -> u64 {
    let mut rng = Rng::new(seed);
    let disk = SimDisk::new();
    let db = Db::open_with(DIR, options(&disk, sync)).unwrap();
    run(&db, &mut Model::default(), &mut rng, &mut 0, 60);
    drop(db);
    disk.changes()
}

/// Workloads at random points of which a crash is tried; `ARQON_TEST_SEEDS` sets another number.
fn seeds() -> u64 {
    std::env::var("ARQON_TEST_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(600)
}

#[test]
fn at_always_power_loss_loses_nothing_acknowledged() {
    for seed in 0..seeds() {
        let changes = Rng::new(!seed).below(changes_of(seed, SyncLevel::Always));
        let crashes =
            [Crash::PowerLostClean, Crash::PowerLost(seed), Crash::PowerLost(seed + 1_000_000)];
        crash_after(seed, changes, SyncLevel::Always, &crashes);
    }
}

#[test]
fn at_every_level_a_killed_process_loses_nothing_acknowledged() {
    for sync in [SyncLevel::Always, SyncLevel::Interval { ms: 5 }, SyncLevel::Os] {
        for seed in 0..seeds() / 3 {
            let changes = Rng::new(!seed).below(changes_of(seed, sync));
            crash_after(seed, changes, sync, &[Crash::Process]);
        }
    }
}

#[test]
fn a_crash_at_every_single_change_of_a_workload_loses_nothing_acknowledged() {
    for seed in 0..4 {
        for changes in 0..changes_of(seed, SyncLevel::Always) {
            let crashes = [Crash::PowerLostClean, Crash::PowerLost(changes)];
            crash_after(seed, changes, SyncLevel::Always, &crashes);
        }
    }
}

#[test]
fn a_failed_sync_of_the_log_stops_writes_for_good_and_reads_go_on() {
    let disk = SimDisk::new();
    let db = Db::open_with(DIR, options(&disk, SyncLevel::Always)).unwrap();
    db.put(b"before", b"1").unwrap();
    disk.fail(Fault::SyncError, 0);
    let error = db.put(b"during", b"2").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown);
    assert!(db.put(b"after", b"3").is_err());
    assert_eq!(db.get(b"before").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(db.get(b"after").unwrap(), None);
}

#[test]
fn everyone_who_waits_for_the_disk_hears_of_a_sync_that_failed() {
    let disk = SimDisk::new();
    let db = Db::open_with(DIR, options(&disk, SyncLevel::Always)).unwrap();
    let written = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (db, disk, written) = (&db, &disk, &written);
            scope.spawn(move || {
                for i in 0.. {
                    let key = [thread.to_be_bytes(), u64::to_be_bytes(i)].concat();
                    if db.put(&key, b"v").is_err() {
                        break;
                    }
                    assert_eq!(db.get(&key).unwrap().as_deref(), Some(&b"v"[..]));
                    if written.fetch_add(1, Ordering::Relaxed) == 200 {
                        disk.fail(Fault::SyncError, 0);
                    }
                }
            });
        }
    });
    assert!(written.load(Ordering::Relaxed) > 200);
    assert!(db.put(b"after", b"v").is_err());
}

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_recovers_when_there_is_room() {
    let disk = SimDisk::new();
    let db = Db::open_with(DIR, options(&disk, SyncLevel::Interval { ms: 5 })).unwrap();
    db.put(b"first", b"1").unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    let mut written = 0;
    let error = loop {
        match db.put(format!("filler-{written}").as_bytes(), &[7; 2000]) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 10_000, "a full disk took everything");
    };
    assert_eq!(error.kind(), ErrorKind::OutOfSpace, "{error}");
    assert_eq!(db.get(b"first").unwrap().as_deref(), Some(&b"1"[..]));
    disk.set_capacity(None);
    db.put(b"last", b"2").unwrap();
    drop(db);
    let db = Db::open_with(DIR, options(&disk, SyncLevel::Always)).unwrap();
    assert_eq!(db.get(b"last").unwrap().as_deref(), Some(&b"2"[..]));
    for i in 0..written {
        assert!(db.get(format!("filler-{i}").as_bytes()).unwrap().is_some());
    }
}

#[test]
fn a_retried_request_applies_once_across_a_restart() {
    let disk = SimDisk::new();
    let id = RequestId { client: 9, request: 1 };
    let request = || Request::Write {
        writes: vec![Write::Merge {
            cf: CfId::DEFAULT,
            key: Bytes::from_static(b"list"),
            operand: Bytes::from_static(b"x"),
            op: arqondb::op::kv::MergeOp::Append,
        }],
        id: Some(id),
    };
    let first = {
        let db = Db::open_with(DIR, options(&disk, SyncLevel::Always)).unwrap();
        let first = db.execute(request()).unwrap();
        assert_eq!(db.execute(request()).unwrap(), first);
        first
    };
    let disk = disk.crash(Crash::PowerLostClean);
    let db = Db::open_with(DIR, options(&disk, SyncLevel::Always)).unwrap();
    assert_eq!(db.execute(request()).unwrap(), first);
    assert!(matches!(first, Response::Committed { .. }));
    assert_eq!(db.get(b"list").unwrap().as_deref(), Some(&b"x"[..]));
}

#[test]
fn a_log_without_its_newest_segments_is_refused() {
    let disk = SimDisk::new();
    {
        let db = Db::open_with(DIR, options(&disk, SyncLevel::Always)).unwrap();
        db.put_ttl(CfId::DEFAULT, b"expiring", b"1", 1 << 40).unwrap();
        db.flush().unwrap();
        for i in 0..10u8 {
            db.put(&[i], b"value").unwrap();
        }
        db.flush().unwrap();
        db.put(b"in the log only", b"1").unwrap();
    }
    let files = arqondb::env::Disk::list(&disk, Path::new("/db/log")).unwrap();
    for file in files {
        arqondb::env::Disk::remove(&disk, &Path::new("/db/log").join(file.name)).unwrap();
    }
    let opened = Db::open_with(DIR, options(&disk, SyncLevel::Always));
    // Everything up to the flush is in tables; a log that begins anew may only go on behind it.
    match opened {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption, "{error}"),
        Ok(db) => {
            db.put(b"new", b"2").unwrap();
            assert_eq!(db.get(b"new").unwrap().as_deref(), Some(&b"2"[..]));
        }
    }
}

#[test]
fn writes_behind_a_lost_log_are_never_swallowed() {
    let disk = SimDisk::new();
    {
        let db = Db::open_with(DIR, options(&disk, SyncLevel::Always)).unwrap();
        // The expiry family stays unflushed in the log while the default family's tables move on.
        let engine_only = db.create_cf("other").unwrap();
        for i in 0..20u8 {
            db.put_ttl(CfId::DEFAULT, &[i], b"value", 1 << 40).unwrap();
        }
        db.compact(engine_only).unwrap();
        db.flush_family(CfId::DEFAULT).unwrap();
    }
    let files = arqondb::env::Disk::list(&disk, Path::new("/db/log")).unwrap();
    for file in files {
        arqondb::env::Disk::remove(&disk, &Path::new("/db/log").join(file.name)).unwrap();
    }
    let error = Db::open_with(DIR, options(&disk, SyncLevel::Always)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.message().contains("segments are missing"), "{error}");
}

#[test]
fn a_delete_of_what_is_being_deleted_is_acknowledged_only_when_that_is_durable() {
    // At `always` a batch is pending until its sync: a second delete of the same key has nothing
    // to write, and its answer rests on the first.
    for round in 0..1500u32 {
        let disk = SimDisk::new();
        let db = Db::open_with(DIR, options(&disk, SyncLevel::Always)).unwrap();
        db.put(b"k", &round.to_le_bytes()).unwrap();
        let image = std::thread::scope(|scope| {
            scope.spawn(|| db.delete(b"k").unwrap());
            db.delete(b"k").unwrap();
            disk.crash(Crash::PowerLostClean)
        });
        let db = Db::open_with(DIR, options(&image, SyncLevel::Always)).unwrap();
        assert_eq!(db.get(b"k").unwrap(), None, "round {round}");
    }
}

fn redis(words: &[&str]) -> RedisCall {
    let args: Vec<Bytes> = words.iter().map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
    RedisCall { spec: command::lookup(&args).unwrap(), args }
}

fn exec(db: &Db, calls: &[&[&str]]) -> Reply {
    let calls = calls.iter().map(|words| redis(words)).collect();
    let exec = Request::RedisTransaction { watched: Vec::new(), calls, reply_bytes_max: u64::MAX };
    match db.execute(exec).unwrap() {
        Response::Redis(reply) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn flushall_in_a_transaction_removes_what_it_wrote_before() {
    let disk = SimDisk::new();
    let db = Db::open_with(DIR, options(&disk, SyncLevel::Always)).unwrap();
    exec(&db, &[&["SET", "a", "1"], &["FLUSHALL"]]);
    assert_eq!(db.get(b"a").unwrap(), None);
    exec(&db, &[&["SET", "m", "1"]]);
    exec(&db, &[&["SET", "z", "1"], &["SET", "a", "1"], &["FLUSHALL"], &["SET", "b", "2"]]);
    assert_eq!(db.stats().unwrap().keys, 1);
    assert_eq!(db.get(b"z").unwrap(), None);
    assert_eq!(db.get(b"b").unwrap().as_deref(), Some(&b"2"[..]));
}

#[test]
fn expired_keys_are_collected_and_counted_exactly_even_when_their_family_is_gone() {
    let disk = SimDisk::new();
    let clock = Arc::new(SimClock::at(1_000_000));
    let options = Options { clock: clock.clone(), ..options(&disk, SyncLevel::Always) };
    let db = Db::open_with(DIR, options).unwrap();
    let gone = db.create_cf("gone").unwrap();
    for i in 0..200u16 {
        db.put_ttl(gone, &i.to_be_bytes(), b"x", 10).unwrap();
        db.put_ttl(CfId::DEFAULT, &i.to_be_bytes(), b"x", 10).unwrap();
    }
    db.put(b"stays", b"1").unwrap();
    db.drop_cf(gone).unwrap();
    assert_eq!(db.stats().unwrap().keys, 201);
    clock.advance_ms(20);
    assert_eq!(db.stats().unwrap().keys, 1);
    let before = db.stats().unwrap().last_seq;
    while db.collect_expired().unwrap() > 0 {}
    let stats = db.stats().unwrap();
    assert_eq!((stats.keys, stats.expires), (1, 0));
    // Nothing is due any more, so nothing more is logged.
    assert_eq!(db.collect_expired().unwrap(), 0);
    assert!(stats.last_seq - before <= 2 * 400 + 1, "{} writes", stats.last_seq - before);
    db.compact(CfId::DEFAULT).unwrap();
    assert!(db.check().unwrap().is_sound());
}

#[test]
fn sweeps_at_the_same_time_log_no_delete_twice() {
    const KEYS: u16 = 2_000;
    let disk = SimDisk::new();
    let clock = Arc::new(SimClock::at(1_000_000));
    let options = Options { clock: clock.clone(), ..options(&disk, SyncLevel::Os) };
    let db = Db::open_with(DIR, options).unwrap();
    for i in 0..KEYS {
        db.put_ttl(CfId::DEFAULT, &i.to_be_bytes(), b"x", 10).unwrap();
    }
    let before = db.stats().unwrap().last_seq;
    clock.advance_ms(20);
    // Beside these the database sweeps by itself.
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| while db.collect_expired().unwrap() > 0 {});
        }
    });
    let stats = db.stats().unwrap();
    assert_eq!((stats.keys, stats.expires), (0, 0));
    assert_eq!(stats.last_seq - before, 2 * u64::from(KEYS), "a key and its entry each once");
}

/// The first segments to be used again after an opening are files that the opening found.
#[test]
fn a_log_of_several_segments_goes_on_after_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let options = Options {
            log_segment_bytes: 64 << 10,
            memory_budget_bytes: 64 << 20,
            sync: SyncLevel::Os,
            ..Options::default()
        };
        Db::open_with(dir.path(), options).unwrap()
    };
    let value = [7u8; 1000];
    for _ in 0..3 {
        let db = open();
        db.flush().unwrap();
        for key in 0..300u32 {
            db.put(&key.to_be_bytes(), &value).unwrap();
        }
    }
    let db = open();
    for key in 0..300u32 {
        assert_eq!(db.get(&key.to_be_bytes()).unwrap().as_deref(), Some(&value[..]));
    }
}

/// Where no other family needs the log, a flush does not wait for it to be durable: after a power
/// loss the log may end before what the tables hold, again and again.
#[test]
fn tables_may_outlive_the_end_of_the_log() {
    for seed in 0..6u64 {
        let mut disk = SimDisk::new();
        let (mut written, mut flushed) = (0u32, 0u32);
        for round in 0..6 {
            let sync = SyncLevel::Interval { ms: 3_600_000 };
            let db =
                Db::open_with(DIR, Options { count_keys: false, ..options(&disk, sync) }).unwrap();
            for i in 0..flushed {
                let found = db.get(&i.to_be_bytes()).unwrap();
                assert_eq!(found.as_deref(), Some(&i.to_be_bytes()[..]), "{seed} {round} {i}");
            }
            written = written.max(flushed);
            for _ in 0..150 {
                db.put(&written.to_be_bytes(), &written.to_be_bytes()).unwrap();
                written += 1;
            }
            if seed.is_multiple_of(2) {
                // Another family has a record as well.
                db.put_ttl(CfId::DEFAULT, b"ttl", b"v", 1_000_000).unwrap();
            }
            db.flush_family(CfId::DEFAULT).unwrap();
            flushed = written;
            for i in written..written + 40 {
                db.put(&i.to_be_bytes(), &i.to_be_bytes()).unwrap();
            }
            let image = disk.crash(match (seed + round) % 3 {
                0 => Crash::PowerLostClean,
                1 => Crash::PowerLost(seed * 10 + round),
                _ => Crash::Process,
            });
            drop(db);
            disk = image;
        }
    }
}

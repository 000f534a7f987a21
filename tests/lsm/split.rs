//! A shard that is split: each part has the records of its slots and no other, whatever is read,
//! compacted, reopened or cut short by a crash.

use super::oracle::{Event, Row};
use super::world::{DIR, World, open_at};
use arqondb::base::{CfId, LogIndex, Seq};
use arqondb::env::sim_disk::Crash;
use arqondb::env::{Pool, SimDisk};
use arqondb::lsm::Engine;
use arqondb::lsm::batch::{BatchView, Counts, WriteBatch};
use arqondb::lsm::check::check_dir;
use arqondb::lsm::key::Meta;
use arqondb::lsm::manifest::Part;
use arqondb::lsm::options::{IterOptions, ReadOptions};
use arqondb::op::route::{SlotRange, slot_of};
use std::ops::Bound;
use std::path::Path;

const CHILD: &str = "/child";

fn parts(at: u16) -> (Part, Part) {
    let (lower, upper) = SlotRange::ALL.split(at).unwrap();
    (Part { slots: lower, epoch: 2 }, Part { slots: upper, epoch: 2 })
}

/// What the oracle has of a part, in order.
fn rows(world: &World, part: Part) -> Vec<(Vec<u8>, Row)> {
    let letters = || b'a'..=b'f';
    let mut keys = vec![Vec::new()];
    keys.extend(letters().map(|a| vec![a]));
    keys.extend(letters().flat_map(|a| letters().map(move |b| vec![a, b])));
    keys.sort();
    let inside = keys.into_iter().filter(|key| part.slots.contains(slot_of(key)));
    let row = |key: Vec<u8>| {
        let row = world.oracle.get(CfId::DEFAULT, &key, Seq::MAX, world.now_ms)?;
        Some((key, row))
    };
    inside.filter_map(row).collect()
}

fn now(world: &World) -> IterOptions {
    IterOptions { now_ms: world.now_ms, ..IterOptions::default() }
}

fn check(world: &World, engine: &Engine, part: Part) {
    assert_eq!(engine.part(), Some(part));
    let expected = rows(world, part);
    let mut found = Vec::new();
    let mut iter = engine.iter(CfId::DEFAULT, now(world)).unwrap();
    iter.first().unwrap();
    while iter.valid() {
        found.push((iter.key().to_vec(), iter.value().to_vec()));
        iter.next().unwrap();
    }
    let wanted: Vec<_> = expected.iter().map(|(k, row)| (k.clone(), row.value.clone())).collect();
    assert_eq!(found, wanted);
    found.clear();
    iter.last().unwrap();
    while iter.valid() {
        found.insert(0, (iter.key().to_vec(), iter.value().to_vec()));
        iter.prev().unwrap();
    }
    assert_eq!(found, wanted);
    let options = ReadOptions { now_ms: world.now_ms, ..ReadOptions::default() };
    for a in 0..=255u8 {
        let key = [a];
        let has = engine.get(CfId::DEFAULT, &key, &options).unwrap();
        let row = expected.iter().find(|(k, _)| k == &key).map(|(_, row)| row.value.clone());
        assert_eq!(has.map(|f| f.value.to_vec()), row, "{a}");
    }
}

fn compact(engine: &Engine) {
    engine.compact_range(CfId::DEFAULT, Bound::Unbounded, Bound::Unbounded).unwrap();
}

/// More writes of a part's keys, on its engine.
fn write_on(world: &mut World, engine: &Engine, part: Part) {
    for _ in 0..40 {
        let key = world.key();
        let value = world.value();
        if !part.slots.contains(slot_of(&key)) {
            continue;
        }
        world.seq += 1;
        let mut batch = WriteBatch::new();
        batch.put_with(CfId::DEFAULT, &key, &value, Meta::default(), Counts::Unknown);
        batch.place(Seq(world.seq), world.now_ms);
        world.oracle.add(CfId::DEFAULT, &key, Seq(world.seq), Event::Put(Meta::default(), value));
        let index = LogIndex(engine.applied_index().0 + 1);
        engine.apply(index, &BatchView::read(batch.bytes()).unwrap()).unwrap();
    }
}

#[test]
fn each_part_has_the_records_of_its_slots_and_no_other() {
    for seed in 0..12 {
        let mut world = World::new(seed);
        for _ in 0..60 {
            world.write();
            match world.below(8) {
                0 => world.engine.flush_all().unwrap(),
                1 => compact(&world.engine),
                _ => {}
            }
        }
        let at = world.below(16_383) as u16 + 1;
        let (lower, upper) = parts(at);
        let index = LogIndex(world.log.len() as u64 + 1);
        // A reader from before keeps what it sees; a compaction may be under way.
        let mut before = world.engine.iter(CfId::DEFAULT, now(&world)).unwrap();
        world.engine.copy_part(Path::new(CHILD), upper, index).unwrap();
        world.engine.keep_part(lower, index).unwrap();
        let child = open_at(&world.disk, &Pool::manual(), Path::new(CHILD)).unwrap();
        assert_eq!((child.replay_from(), world.engine.replay_from()), (index, index));
        check(&world, &world.engine, lower);
        check(&world, &child, upper);
        let mut seen = 0;
        before.first().unwrap();
        while before.valid() {
            seen += 1;
            before.next().unwrap();
        }
        let all = Part { slots: SlotRange::ALL, epoch: 0 };
        assert_eq!(seen, rows(&world, all).len());

        let engine = world.engine.clone();
        write_on(&mut world, &engine, lower);
        write_on(&mut world, &child, upper);
        check(&world, &engine, lower);
        check(&world, &child, upper);
        compact(&engine);
        compact(&child);
        assert!(!engine.has_foreign_records(CfId::DEFAULT).unwrap());
        assert!(!child.has_foreign_records(CfId::DEFAULT).unwrap());
        check(&world, &engine, lower);
        check(&world, &child, upper);

        // A part of a part.
        drop(engine);
        drop(child);
        let child = open_at(&world.disk, &Pool::manual(), Path::new(CHILD)).unwrap();
        check(&world, &child, upper);
        if let Some((left, _)) = upper.slots.split(at + (16_383 - at) / 2) {
            let index = LogIndex(child.applied_index().0 + 1);
            let left = Part { slots: left, epoch: 3 };
            child.keep_part(left, index).unwrap();
            check(&world, &child, left);
        }
        drop(child);
        for dir in [DIR, CHILD] {
            let report = check_dir(&world.disk.shared(), Path::new(dir)).unwrap();
            assert!(report.problems.is_empty(), "{:?}", report.problems);
        }
    }
}

/// Splits, with the disk stopping at a change of it.
fn split(world: &World, at: u16) -> arqondb::base::Result<()> {
    let (lower, upper) = parts(at);
    let index = LogIndex(world.log.len() as u64 + 1);
    world.engine.copy_part(Path::new(CHILD), upper, index)?;
    world.engine.keep_part(lower, index)
}

#[test]
fn a_crash_leaves_the_whole_or_the_part() {
    let (mut whole, mut part) = (0, 0);
    for stop in 0.. {
        let mut world = World::new(7);
        for n in 0..40 {
            world.write();
            if n % 9 == 0 {
                world.engine.flush_all().unwrap();
            }
        }
        let at = 9_000;
        world.disk.stop_at(Some(stop));
        let done = split(&world, at);
        for crash in [Crash::Process, Crash::PowerLostClean, Crash::PowerLost(stop)] {
            let disk: SimDisk = world.disk.crash(crash);
            let engine = open_at(&disk, &Pool::manual(), Path::new(DIR)).unwrap();
            match engine.part() {
                Some(found) => {
                    part += 1;
                    assert_eq!(found, parts(at).0);
                    check(&world, &engine, found);
                }
                None => {
                    whole += 1;
                    assert!(done.is_err());
                    let index = LogIndex(world.log.len() as u64 + 1);
                    assert!(engine.replay_from() < index);
                }
            }
        }
        if done.is_ok() {
            break;
        }
    }
    assert!(whole > 0 && part > 0, "{whole} {part}");
}

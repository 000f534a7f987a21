//! Random changes, and whatever the background makes of them, against a model.

use crate::world::{self, Model, NAME, compare, create, delete, info, open, put, spec, vector};
use arqondb::base::CfId;
use arqondb::env::{Disk, Rng, SimDisk};
use arqondb::op::vector::{
    IndexInfo, IndexKind, IndexSpec, Metric, Quantisation, VectorAnswer, VectorCall, VectorId,
};
use std::path::Path;

/// What has happened in a run, so that a test can tell that it tested something.
#[derive(Debug, Default)]
struct Seen {
    segments: u64,
    dead: u64,
    postings: u64,
    reopened: u64,
    rebuilt: u64,
    /// What wide searches missed, and of how many.
    missed: (usize, usize),
}

fn run(spec: IndexSpec, seed: u64, steps: u64, ids: u64) -> Seen {
    let mut rng = Rng::new(seed);
    let mut disk = SimDisk::new();
    let mut db = open(&disk);
    let metric = spec.metric;
    create(&db, spec);
    let (mut model, mut seen, mut copies) = (Model::new(), Seen::default(), 0);
    for step in 0..steps {
        match rng.below(100) {
            0..60 => {
                let (id, vector) = (rng.below(ids), vector(&mut rng));
                db.execute(put(id, &vector, step)).unwrap();
                model.insert(id, (vector, step));
            }
            60..85 => {
                let id = rng.below(ids);
                db.execute(delete(id)).unwrap();
                model.remove(&id);
            }
            85..88 => db.settle_vectors(),
            88..90 => db.flush().unwrap(),
            90 => db.compact(CfId::VECTORS).unwrap(),
            91 => {
                drop(db);
                db = open(&disk);
                seen.reopened += 1;
            }
            92 => {
                // As after kill -9: nothing is written down.
                disk = disk.crash(arqondb::env::sim_disk::Crash::Process);
                drop(std::mem::replace(&mut db, open(&disk)));
                seen.reopened += 1;
            }
            93 if copies < 3 => {
                copies += 1;
                let copy = format!("/copy-{copies}");
                db.checkpoint(Path::new(&copy)).unwrap();
                let options = world::options(&disk, arqondb::SyncLevel::Os);
                let copied = arqondb::Db::open_with(&copy, options).unwrap();
                compare(&copied, &model, metric, &mut rng, "a copy");
            }
            94..97 => {
                let some = compare(&db, &model, metric, &mut rng, &format!("step {step}"));
                seen.missed = (seen.missed.0 + some.0, seen.missed.1 + some.1);
            }
            _ => {
                let ids = [VectorId::new(rng.below(ids)), VectorId::new(1 << 60)];
                let call = VectorCall::Get { index: NAME.into(), ids: ids.to_vec() };
                let VectorAnswer::Vectors(got) = db.vectors(call).unwrap() else { panic!() };
                let got: Vec<_> = got.into_iter().map(|v| v.map(|v| v.vector.to_vec())).collect();
                let expected = model.get(&ids[0].get()).map(|(vector, _)| vector.clone());
                assert_eq!(got, [expected, None]);
            }
        }
        let info = info(&db);
        seen.segments = seen.segments.max(info.segments);
        seen.dead = seen.dead.max(info.dead);
        seen.postings = seen.postings.max(info.postings);
        seen.rebuilt += info.rebuilt;
    }
    db.settle_vectors();
    compare(&db, &model, metric, &mut rng, "the end");
    drop(db);
    compare(&open(&disk), &model, metric, &mut rng, "the end, opened again");
    seen
}

#[test]
fn a_plain_graph_finds_what_the_model_holds() {
    for (seed, metric) in [(1, Metric::L2), (2, Metric::InnerProduct), (3, Metric::L2)] {
        let spec = IndexSpec { kind: IndexKind::Hnsw, ..spec(metric) };
        let seen = run(spec, seed, 3_000, 400);
        assert!(seen.segments > 1 && seen.dead > 4 && seen.reopened > 20, "{seen:?}");
        assert_eq!(seen.rebuilt, 0, "{seen:?}");
    }
}

#[test]
fn product_codes_find_what_the_model_holds() {
    let spec = IndexSpec { kind: IndexKind::PqHnsw, num_sub: 4, ..spec(Metric::L2) };
    let seen = run(spec, 4, 1_500, 300);
    assert!(seen.segments > 0 && seen.reopened > 10 && seen.rebuilt == 0, "{seen:?}");
}

#[test]
fn packed_and_compact_forms_find_what_the_model_holds() {
    for (seed, quantisation) in
        [(5, Quantisation::Packed), (6, Quantisation::Compact4), (7, Quantisation::Compact8)]
    {
        let spec = IndexSpec { kind: IndexKind::Hnsw, quantisation, ..spec(Metric::L2) };
        let seen = run(spec, seed, 1_500, 300);
        assert!(seen.segments > 0 && seen.reopened > 10 && seen.rebuilt == 0, "{seen:?}");
    }
}

#[test]
fn a_packed_segment_is_opened_as_it_was_sealed() {
    let mut rng = Rng::new(12);
    let disk = SimDisk::new();
    let spec = IndexSpec { quantisation: Quantisation::Packed, ..spec(Metric::L2) };
    let spec = IndexSpec { kind: IndexKind::Hnsw, ..spec };
    let db = open(&disk);
    create(&db, spec);
    let mut model = Model::new();
    for number in 0..300 {
        let (id, vector) = (rng.below(250), vector(&mut rng));
        db.execute(put(id, &vector, number)).unwrap();
        model.insert(id, (vector, number));
    }
    db.settle_vectors();
    let files = || -> Vec<String> {
        let folder = Path::new(world::DIR).join("shard-1/vectors/1");
        let names = disk.list(&folder).unwrap().into_iter().map(|entry| entry.name);
        names.filter(|name| name.ends_with(".seg")).collect()
    };
    let (before, files_before) = (info(&db), files());
    assert!(before.segments > 0 && before.sealed >= 64, "{before:?}");
    drop(db);
    let db = open(&disk);
    let after = info(&db);
    let sealed = |info: &IndexInfo| (info.sealed, info.segments, info.rebuilt);
    assert_eq!(sealed(&after), sealed(&before));
    // As plain graphs they would take half of it.
    let near = before.memory_bytes.abs_diff(after.memory_bytes);
    assert!(near * 4 < before.memory_bytes, "{before:?} {after:?}");
    compare(&db, &model, Metric::L2, &mut rng, "opened");
    db.settle_vectors();
    assert_eq!(sealed(&info(&db)), sealed(&after));
    let files_after = files();
    assert!(files_before.iter().all(|file| files_after.contains(file)), "one was made anew");
}

#[test]
fn a_graph_on_disk_finds_what_the_model_holds() {
    for (seed, metric) in [(8, Metric::L2), (9, Metric::InnerProduct)] {
        let spec = IndexSpec { kind: IndexKind::DiskHnsw, ..spec(metric) };
        let seen = run(spec, seed, 1_500, 300);
        assert!(seen.segments > 1 && seen.dead > 4 && seen.reopened > 10, "{seen:?}");
        assert_eq!(seen.rebuilt, 0, "{seen:?}");
        let (missed, asked) = seen.missed;
        assert!(asked > 1_000 && missed * 50 <= asked, "{seen:?}");
    }
}

#[test]
fn postings_find_what_the_model_holds() {
    for (seed, metric) in [(21, Metric::L2), (22, Metric::InnerProduct), (23, Metric::L2)] {
        let spec = IndexSpec { kind: IndexKind::Spfresh, ..spec(metric) };
        let seen = run(spec, seed, 3_000, 400);
        assert!(seen.postings > 3 && seen.dead > 4 && seen.reopened > 20, "{seen:?}");
        assert_eq!(seen.rebuilt, 0, "{seen:?}");
        let (missed, asked) = seen.missed;
        assert!(asked > 1_000 && missed * 50 <= asked, "{seen:?}");
    }
}

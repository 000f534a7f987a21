//! A crash at any change of the disk: no vector without its record or the key beside it, none that
//! was deleted, and all that was acknowledged.

use crate::world::{DIM, DIR, Model, compare, create, delete, options, put, spec, vector};
use arqondb::base::CfId;
use arqondb::env::sim_disk::Crash;
use arqondb::env::{Rng, SimDisk};
use arqondb::op::vector::{IndexKind, IndexSpec, Metric, Quantisation};
use arqondb::{Db, SyncLevel};
use std::collections::BTreeMap;

type Form = (IndexKind, Quantisation);

const GRAPH: Form = (IndexKind::Hnsw, Quantisation::None);
const POSTINGS: Form = (IndexKind::Spfresh, Quantisation::None);

/// What may be there of an id: none, or the numbers of writes.
type MayBe = BTreeMap<u64, Vec<Option<(Vec<f32>, u64)>>>;

fn settle(may_be: &mut MayBe, db: &Db, what: &str) -> Model {
    let mut model = Model::new();
    for vector in crate::world::walk(db) {
        let text = String::from_utf8(vector.payload.to_vec()).unwrap();
        let number = text[6..].split(',').next().unwrap().parse().unwrap();
        model.insert(vector.id, (vector.vector.to_vec(), number));
    }
    for (id, allowed) in may_be.iter_mut() {
        let found = model.get(id).cloned();
        assert!(allowed.contains(&found), "{what}: vector {id} is {found:?}, not {allowed:?}");
        *allowed = vec![found];
    }
    assert!(model.keys().all(|id| may_be.contains_key(id)), "{what}: a vector nobody wrote");
    model
}

fn enumerate(form: Form, sync: SyncLevel, seed: u64, crashes: usize) {
    let mut rng = Rng::new(seed);
    let mut disk = SimDisk::new();
    let mut may_be = MayBe::new();
    let mut number = 0;
    {
        let db = Db::open_with(DIR, options(&disk, sync)).unwrap();
        let (kind, quantisation) = form;
        create(&db, IndexSpec { kind, quantisation, num_sub: 2, ..spec(Metric::L2) });
        db.sync().unwrap();
    }
    let mut stopped = 0;
    for round in 0..crashes {
        let what = format!("seed {seed}, round {round}");
        let db = Db::open_with(DIR, options(&disk, sync)).unwrap();
        let model = settle(&mut may_be, &db, &what);
        compare(&db, &model, Metric::L2, &mut rng, &what);
        disk.stop_at(Some(1 + rng.below(220)));
        for _ in 0..120 {
            let id = rng.below(150);
            number += 1;
            let floats = vector(&mut rng);
            let made = (rng.below(4) > 0).then_some((floats, number));
            let done = match &made {
                Some((floats, number)) => db.execute(put(id, floats, *number)),
                None => db.execute(delete(id)),
            };
            let allowed = may_be.entry(id).or_insert_with(|| vec![None]);
            if done.is_ok() && sync == SyncLevel::Always {
                allowed.clear();
            }
            allowed.push(made);
            if done.is_err() {
                stopped += 1;
                break;
            }
            match rng.below(30) {
                0 => _ = db.flush_family(CfId::VECTORS),
                1 => _ = db.flush(),
                2 | 3 => db.settle_vectors(),
                _ => {}
            }
        }
        let crash = match rng.below(3) {
            0 => Crash::Process,
            1 => Crash::PowerLostClean,
            _ => Crash::PowerLost(rng.next_u64()),
        };
        let process_only = matches!(crash, Crash::Process);
        let next = disk.crash(crash);
        drop(db);
        disk = next;
        if process_only && sync != SyncLevel::Always {
            // What was acknowledged has outlived the process.
            for allowed in may_be.values_mut() {
                let from = allowed.len().saturating_sub(2);
                allowed.drain(..from);
            }
        }
    }
    assert!(stopped > crashes / 4, "{stopped} of {crashes} were stopped by the disk");
    assert_eq!(DIM, 8);
}

#[test]
fn a_crash_at_always_keeps_what_was_acknowledged_and_no_more() {
    for seed in 1..4 {
        enumerate(GRAPH, SyncLevel::Always, seed, 60);
    }
}

#[test]
fn a_crash_at_os_leaves_vectors_and_keys_of_one_moment() {
    for seed in 10..13 {
        enumerate(GRAPH, SyncLevel::Os, seed, 60);
    }
}

#[test]
fn a_crash_leaves_postings_that_agree_with_the_records() {
    for seed in 20..24 {
        enumerate(POSTINGS, SyncLevel::Always, seed, 60);
    }
    for seed in 30..34 {
        enumerate(POSTINGS, SyncLevel::Os, seed, 60);
    }
}

/// What is sealed gets another form, and a file of another number, while vectors come and go.
#[test]
fn a_crash_leaves_forms_of_graphs_that_agree_with_the_records() {
    let forms = [
        (IndexKind::DiskHnsw, Quantisation::None),
        (IndexKind::PqHnsw, Quantisation::None),
        (IndexKind::Hnsw, Quantisation::Packed),
        (IndexKind::Hnsw, Quantisation::Compact8),
    ];
    for (form, seed) in forms.into_iter().zip((40..).step_by(2)) {
        enumerate(form, SyncLevel::Always, seed, 60);
        enumerate(form, SyncLevel::Os, seed + 1, 60);
    }
}

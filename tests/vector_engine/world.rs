//! A database with one index, beside a model of what is in it.

use arqondb::base::CfId;
use arqondb::env::{Rng, SimClock, SimDisk};
use arqondb::op::Request;
use arqondb::op::kv::{Expiry, Write};
use arqondb::op::vector::{
    Floats, IndexInfo, IndexKind, IndexSpec, Metric, StoredVector, VectorAnswer, VectorCall,
    VectorHit, VectorId, VectorSearch,
};
use arqondb::{Db, Options, SyncLevel};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const DIR: &str = "/db";
pub(crate) const NAME: &str = "docs";
pub(crate) const DIM: usize = 8;

/// Vectors by id, and the number of the write that made them.
pub(crate) type Model = BTreeMap<u64, (Vec<f32>, u64)>;

pub(crate) fn options(disk: &SimDisk, sync: SyncLevel) -> Options {
    Options {
        sync,
        disk: disk.shared(),
        clock: Arc::new(SimClock::at(1_000_000)),
        memory_budget_bytes: 32 << 20,
        log_segment_bytes: 64 << 10,
        vector_segment_rows: 64,
        ..Options::default()
    }
}

pub(crate) fn open(disk: &SimDisk) -> Db {
    Db::open_with(DIR, options(disk, SyncLevel::Os)).unwrap()
}

pub(crate) fn spec(metric: Metric) -> IndexSpec {
    IndexSpec { rerank_k: 2_000, ..IndexSpec::new(NAME, DIM as u32, metric) }
}

/// Small whole numbers: distances are exact in every form, and many are equal.
pub(crate) fn vector(rng: &mut Rng) -> Vec<f32> {
    let mut vector: Vec<f32> = (0..DIM).map(|_| rng.below(7) as f32 - 3.0).collect();
    vector[0] += 0.5;
    vector
}

/// A vector, and beside it a key with the same number, in one batch.
pub(crate) fn put(id: u64, vector: &[f32], number: u64) -> Request {
    let writes = vec![
        Write::PutVector {
            index: NAME.into(),
            id: VectorId::new(id),
            vector: Floats::of(vector),
            payload: format!("{{\"n\": {number}, \"even\": {}}}", number.is_multiple_of(2)).into(),
        },
        Write::Put {
            cf: CfId::DEFAULT,
            key: format!("v{id}").into(),
            value: number.to_string().into(),
            expiry: Expiry::Never,
        },
    ];
    Request::Write { writes, id: None }
}

pub(crate) fn delete(id: u64) -> Request {
    let writes = vec![
        Write::DeleteVector { index: NAME.into(), id: VectorId::new(id) },
        Write::Delete { cf: CfId::DEFAULT, key: format!("v{id}").into() },
    ];
    Request::Write { writes, id: None }
}

pub(crate) fn create(db: &Db, spec: IndexSpec) -> IndexInfo {
    match db.vectors(VectorCall::Create(spec)).unwrap() {
        VectorAnswer::Index(info) => *info,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn info(db: &Db) -> IndexInfo {
    match db.vectors(VectorCall::Describe { index: NAME.into() }).unwrap() {
        VectorAnswer::Index(info) => *info,
        other => panic!("{other:?}"),
    }
}

/// All vectors, by a walk in pages.
pub(crate) fn walk(db: &Db) -> Vec<StoredVector> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        match db.vectors(VectorCall::Walk { index: NAME.into(), after, limit: 70 }).unwrap() {
            VectorAnswer::Page { vectors, next } => {
                all.extend(vectors);
                if next.is_none() {
                    return all;
                }
                after = next;
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn search(db: &Db, search: VectorSearch) -> Vec<(u64, f32)> {
    let found = db.search_vectors(search).unwrap();
    found.hits.iter().map(|hit: &VectorHit| (hit.id, hit.distance)).collect()
}

/// The nearest, by comparing with all.
pub(crate) fn nearest(model: &Model, metric: Metric, query: &[f32], k: usize) -> Vec<(u64, f32)> {
    let mut all: Vec<(u64, f32)> =
        model.iter().map(|(id, (vector, _))| (*id, distance(metric, query, vector))).collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}

fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    let pairs = || a.iter().zip(b);
    match metric {
        Metric::L2 => pairs().map(|(a, b)| (a - b) * (a - b)).sum(),
        Metric::InnerProduct => -pairs().map(|(a, b)| a * b).sum::<f32>(),
        Metric::Cosine => panic!("not of whole numbers"),
    }
}

/// Holds everything that can be asked of the database against the model. A walk on disk may miss some
/// however wide it is: tells how many, and of how many.
pub(crate) fn compare(
    db: &Db,
    model: &Model,
    metric: Metric,
    rng: &mut Rng,
    what: &str,
) -> (usize, usize) {
    let is_on_disk = matches!(info(db).spec.kind, IndexKind::DiskHnsw | IndexKind::Spfresh);
    let (mut missed, mut asked_for) = (0, 0);
    let stored = walk(db);
    assert_eq!(stored.len(), model.len(), "{what}");
    for (vector, (id, (floats, number))) in stored.iter().zip(model) {
        assert_eq!((vector.id, &vector.vector.to_vec()), (*id, floats), "{what}");
        assert!(vector.payload.starts_with(format!("{{\"n\": {number},").as_bytes()), "{what}");
        let key = db.get(format!("v{id}").as_bytes()).unwrap().unwrap();
        assert_eq!(key, number.to_string().as_bytes(), "{what}: the key beside vector {id}");
    }
    let query = vector(rng);
    let all = model.len().max(1) as u32;
    for k in [1, 7, all] {
        let expected = nearest(model, metric, &query, k as usize);
        let asked = VectorSearch::new(NAME, &query, k);
        let exact = search(db, VectorSearch { exact: true, ..asked.clone() });
        assert_eq!(exact, expected, "{what}: exact, {k} of {all}");
        // A beam as wide as the index misses nothing.
        let wide = search(db, VectorSearch { ef: 2 * all + 64, ..asked.clone() });
        if is_on_disk {
            missed += expected.iter().filter(|hit| !wide.contains(hit)).count();
            asked_for += expected.len();
        } else {
            assert_eq!(wide, expected, "{what}: wide, {k} of {all}");
        }
        let found = search(db, asked);
        assert_eq!(found.len(), expected.len(), "{what}: {k} of {all}");
    }
    assert_eq!(info(db).vectors as usize, model.len(), "{what}");
    (missed, asked_for)
}

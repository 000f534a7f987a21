//! What a search can be asked for.

use crate::world::{
    DIM, DIR, Model, NAME, create, nearest, open, options, put, search, spec, vector,
};
use arqondb::env::{Rng, SimDisk};
use arqondb::op::vector::{
    Filter, Metric, Quantisation, VectorAnswer, VectorCall, VectorId, VectorQuery, VectorSearch,
    VectorsFound,
};
use arqondb::op::vector::{IndexKind, IndexSpec};
use arqondb::{Db, Options, SyncLevel};

/// Whether a vector of this number matches.
type Holds = fn(u64) -> bool;

fn filled(kind: IndexKind, quantisation: Quantisation) -> (arqondb::Db, Model, Rng) {
    let mut rng = Rng::new(7);
    let db = open(&SimDisk::new());
    create(&db, IndexSpec { kind, quantisation, ..spec(Metric::L2) });
    let mut model = Model::new();
    for number in 0..900 {
        let (id, vector) = (rng.below(600), vector(&mut rng));
        db.execute(put(id, &vector, number)).unwrap();
        model.insert(id, (vector, number));
        if number % 150 == 0 {
            db.settle_vectors();
        }
    }
    (db, model, rng)
}

#[test]
fn filters_give_as_many_as_are_wanted_or_match() {
    for (kind, quantisation) in [
        (IndexKind::Hnsw, Quantisation::None),
        (IndexKind::Hnsw, Quantisation::Packed),
        (IndexKind::Hnsw, Quantisation::Compact8),
        (IndexKind::DiskHnsw, Quantisation::None),
    ] {
        let (db, mut model, mut rng) = filled(kind, quantisation);
        let (mut missed, mut asked_for) = (0, 0);
        let filters: [(&str, Holds); 6] = [
            (r#"{"even": true}"#, |n| n % 2 == 0),
            (r#"{"n": {"gte": 800}}"#, |n| n >= 800),
            (r#"{"n": {"gte": 890}}"#, |n| n >= 890),
            (r#"{"n": {"in": [5, 871, 880]}}"#, |n| [5, 871, 880].contains(&n)),
            (r#"{"not": {"even": true}, "n": {"lt": 500}}"#, |n| n % 2 == 1 && n < 500),
            (r#"{"n": {"lt": 0}}"#, |_| false),
        ];
        for round in 0..4 {
            for (text, holds) in filters {
                let matching: Model = model
                    .iter()
                    .filter(|(_, (_, number))| holds(*number))
                    .map(|(id, v)| (*id, v.clone()))
                    .collect();
                let query = vector(&mut rng);
                for k in [1, 10, 400] {
                    let filter = Some(Filter::parse(text).unwrap());
                    let asked =
                        VectorSearch { filter, ..VectorSearch::new(NAME, &query, k as u32) };
                    let expected = nearest(&matching, Metric::L2, &query, k);
                    let exact = search(&db, VectorSearch { exact: true, ..asked.clone() });
                    assert_eq!(exact, expected, "{text} {k}");
                    let wide = search(&db, VectorSearch { ef: 2_000, ..asked.clone() });
                    if kind == IndexKind::DiskHnsw {
                        missed += expected.iter().filter(|hit| !wide.contains(hit)).count();
                        asked_for += expected.len();
                    } else {
                        assert_eq!(wide, expected, "{text} {k}");
                    }
                    let found = db.search_vectors(asked).unwrap();
                    assert_eq!(found.hits.len(), expected.len(), "{text} {k}");
                    assert_eq!(found.cost.matches as usize, matching.len(), "{text}");
                    assert!(found.hits.iter().all(|hit| matching.contains_key(&hit.id)));
                }
            }
            // The fields are indexed by now: changes are followed.
            for number in 0..60 {
                let (id, number) = (rng.below(600), 850 + number + 10 * round);
                let vector = vector(&mut rng);
                db.execute(put(id, &vector, number)).unwrap();
                model.insert(id, (vector, number));
            }
        }
        assert!(missed * 50 <= asked_for, "{missed} of {asked_for}");
    }
}

/// Each page was searched for more widely than the one before, and found otherwise.
#[test]
fn pages_are_parts_of_few_answers() {
    const EF: u32 = 16;
    // Some forms read no more vectors than it takes to know the nearest few, so that those before a
    // page may come to be known with it alone.
    for (kind, quantisation, one_in) in [
        (IndexKind::Hnsw, Quantisation::None, usize::MAX),
        (IndexKind::Hnsw, Quantisation::Packed, usize::MAX),
        (IndexKind::PqHnsw, Quantisation::None, usize::MAX),
        (IndexKind::Hnsw, Quantisation::Compact8, 20),
        (IndexKind::DiskHnsw, Quantisation::None, 20),
        (IndexKind::Spfresh, Quantisation::None, 20),
    ] {
        let (db, _, mut rng) = filled(kind, quantisation);
        db.settle_vectors();
        let query = vector(&mut rng);
        let base = VectorSearch { ef: EF, ..VectorSearch::new(NAME, &query, 0) };
        for (from, depth) in [(0, EF), (EF, 2 * EF), (2 * EF, 4 * EF), (4 * EF, 8 * EF)] {
            let lacks = || {
                let whole = search(&db, VectorSearch { k: depth, ..base.clone() });
                let page = |offset| search(&db, VectorSearch { k: 4, offset, ..base.clone() });
                let pages: Vec<_> = (from..depth).step_by(4).flat_map(page).collect();
                whole[from as usize..].iter().filter(|hit| !pages.contains(hit)).count()
            };
            // The background may put a part of the index together between two answers.
            let least = (0..5).map(|_| lacks()).min().unwrap();
            let what = format!("{kind:?} {quantisation:?} {depth}: {least} are in no page");
            assert!(least <= (depth - from) as usize / one_in + usize::from(one_in < 99), "{what}");
        }
    }
}

/// As many as an answer may have were wanted, so all were compared. Some ranges hold many times the
/// candidates that a search begins with.
#[test]
fn all_within_a_distance_are_found_without_comparing_all() {
    for (kind, quantisation) in [
        (IndexKind::Hnsw, Quantisation::None),
        (IndexKind::Hnsw, Quantisation::Packed),
        (IndexKind::Hnsw, Quantisation::Compact4),
        (IndexKind::Hnsw, Quantisation::Compact8),
        (IndexKind::DiskHnsw, Quantisation::None),
        (IndexKind::Spfresh, Quantisation::None),
    ] {
        let (mut rng, mut model) = (Rng::new(8), Model::new());
        let few = options(&SimDisk::new(), SyncLevel::Os);
        let db = Db::open_with(DIR, Options { vector_segment_rows: 1_024, ..few }).unwrap();
        create(&db, IndexSpec { kind, quantisation, ..spec(Metric::L2) });
        for id in 0..1_100 {
            let vector = vector(&mut rng);
            db.execute(put(id, &vector, id)).unwrap();
            model.insert(id, (vector, id));
        }
        db.settle_vectors();
        let (mut missed, mut wanted, mut compared) = (0, 0, 0);
        for round in 0..60 {
            let query = vector(&mut rng);
            let all = nearest(&model, Metric::L2, &query, model.len());
            let is_far = round % 2 == 1;
            let limit = all[rng.below(if is_far { 120 } else { 8 }) as usize].1;
            let within: Vec<_> = all.iter().copied().filter(|(_, d)| *d <= limit).collect();
            let base = VectorSearch { ef: 10, ..VectorSearch::new(NAME, &query, 0) };
            let asked = VectorSearch { distance_max: Some(limit), ..base };
            let found = db.search_vectors(asked).unwrap();
            assert!(found.hits.iter().all(|hit| within.contains(&(hit.id, hit.distance))));
            missed += within.len() - found.hits.len();
            wanted += within.len();
            // A range of a tenth of so few is not worth a walk.
            compared += if is_far { 0 } else { found.cost.distances };
        }
        let all = 30 * model.len() as u64;
        let what = format!("{missed} of {wanted} missed, {compared} of {all} compared");
        assert!(missed * 20 <= wanted && compared * 2 <= all, "{kind:?} {quantisation:?}: {what}");
    }
}

#[test]
fn ranges_scores_pages_and_stored_queries() {
    let (db, model, mut rng) = filled(IndexKind::Hnsw, Quantisation::None);
    for _ in 0..20 {
        let query = vector(&mut rng);
        let all = nearest(&model, Metric::L2, &query, model.len());
        let limit = all[rng.below(40) as usize].1;
        let within: Vec<_> = all.iter().copied().filter(|(_, d)| *d <= limit).collect();
        let base = VectorSearch { exact: true, ..VectorSearch::new(NAME, &query, 0) };
        let by_distance = VectorSearch { distance_max: Some(limit), ..base.clone() };
        assert_eq!(search(&db, by_distance.clone()), within);
        assert_eq!(search(&db, VectorSearch { exact: false, ef: 900, ..by_distance }), within);
        let by_score = VectorSearch { score_min: Some(-limit), ..base.clone() };
        assert_eq!(search(&db, by_score), within);
        let mut pages = Vec::new();
        for offset in (0..60).step_by(20) {
            pages.extend(search(&db, VectorSearch { k: 20, offset, ..base.clone() }));
        }
        assert_eq!(pages, all[..60]);
        let beyond = VectorSearch { k: 10, offset: 9_000, ..base };
        assert_eq!(search(&db, beyond), []);
    }
    let (id, (vector, _)) = model.iter().next().unwrap();
    let stored = VectorSearch {
        query: VectorQuery::Stored(VectorId::new(*id)),
        exact: true,
        with_payload: true,
        with_vector: true,
        ..VectorSearch::new(NAME, &[], 5)
    };
    let VectorsFound { hits, cost, .. } = db.search_vectors(stored).unwrap();
    let expected = nearest(&model, Metric::L2, vector, 6);
    let expected: Vec<u64> =
        expected.iter().map(|(id, _)| *id).filter(|found| found != id).take(5).collect();
    assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), expected);
    for hit in hits {
        let (vector, number) = &model[&hit.id];
        assert_eq!(hit.vector.unwrap().to_vec(), *vector);
        assert!(hit.payload.unwrap().starts_with(format!("{{\"n\": {number},").as_bytes()));
    }
    assert!(
        cost.exact && cost.distances > 0 && cost.fetched == 5 && cost.matches == model.len() as u64
    );
    assert_eq!(DIM, 8);
}

#[test]
fn pages_read_are_told_and_vectors_on_disk_take_little_memory() {
    let (db, model, mut rng) = filled(IndexKind::DiskHnsw, Quantisation::None);
    db.settle_vectors();
    let VectorAnswer::Index(info) =
        db.vectors(VectorCall::Describe { index: NAME.into() }).unwrap()
    else {
        panic!();
    };
    assert!(info.sealed >= 64 && info.disk_bytes > 4096, "{info:?}");
    let found = db.search_vectors(VectorSearch::new(NAME, &vector(&mut rng), 5)).unwrap();
    assert!(found.cost.pages > 0 && found.hits.len() == 5, "{:?}", found.cost);
    let exact = VectorSearch { exact: true, ..VectorSearch::new(NAME, &vector(&mut rng), 5) };
    // Pages hold 16 bits of each number: what is certain is read from records.
    let cost = db.search_vectors(exact).unwrap().cost;
    assert!(cost.exact && cost.pages == 0 && cost.fetched == info.sealed, "{cost:?}");
    assert_eq!(info.vectors as usize, model.len());
}

/// Forms that keep 16 bits of each number compared with those, and called it certain.
#[test]
fn exact_is_exact_whatever_the_form_keeps() {
    for (kind, quantisation) in [
        (IndexKind::Hnsw, Quantisation::None),
        (IndexKind::Hnsw, Quantisation::Packed),
        (IndexKind::Hnsw, Quantisation::Compact4),
        (IndexKind::Hnsw, Quantisation::Compact8),
        (IndexKind::PqHnsw, Quantisation::None),
        (IndexKind::DiskHnsw, Quantisation::None),
        (IndexKind::Spfresh, Quantisation::None),
    ] {
        let (db, mut rng, mut model) = (open(&SimDisk::new()), Rng::new(8), Model::new());
        let num_sub = if kind == IndexKind::PqHnsw { 4 } else { 0 };
        create(&db, IndexSpec { kind, quantisation, num_sub, ..spec(Metric::L2) });
        // 13 bits each; their squares and sums are whole all the same.
        let mut vector =
            || -> Vec<f32> { (0..DIM).map(|_| 4096.0 + rng.below(500) as f32).collect() };
        for number in 0..400 {
            let vector = vector();
            db.execute(put(number, &vector, number)).unwrap();
            model.insert(number, (vector, number));
        }
        db.settle_vectors();
        let what = format!("{kind:?} {quantisation:?}");
        assert!(crate::world::info(&db).sealed > 200, "{what}");
        let query = vector();
        let last: Model =
            model.iter().filter(|v| v.1.1 >= 300).map(|v| (*v.0, v.1.clone())).collect();
        let filter = Some(Filter::parse(r#"{"n": {"gte": 300}}"#).unwrap());
        for k in [1, 20, 400] {
            let asked = VectorSearch { exact: true, ..VectorSearch::new(NAME, &query, k) };
            let expected = nearest(&model, Metric::L2, &query, k as usize);
            assert_eq!(search(&db, asked.clone()), expected, "{what}");
            let expected = nearest(&last, Metric::L2, &query, k as usize);
            let filter = filter.clone();
            assert_eq!(search(&db, VectorSearch { filter, ..asked }), expected, "{what}");
        }
        for (id, (vector, _)) in model.iter().step_by(40) {
            let asked = VectorSearch { exact: true, ..VectorSearch::new(NAME, vector, 5) };
            let same = VectorSearch { distance_max: Some(0.0), ..asked };
            let found = db.search_vectors(same.clone()).unwrap();
            assert!(found.cost.exact);
            assert_eq!(search(&db, same), [(*id, 0.0)], "{what}");
        }
    }
}

/// One scale for the 16 bits of all numbers of a segment made zeros of all vectors beside a huge one.
#[test]
fn one_huge_vector_makes_no_others_vanish() {
    for (kind, quantisation) in
        [(IndexKind::Hnsw, Quantisation::Packed), (IndexKind::DiskHnsw, Quantisation::None)]
    {
        let (disk, mut rng) = (SimDisk::new(), Rng::new(9));
        let db = open(&disk);
        create(&db, IndexSpec { kind, quantisation, ..spec(Metric::L2) });
        let all: Vec<Vec<f32>> = (0..300)
            .map(|n| if n == 7 { vec![1e10; DIM] } else { vector(&mut rng) })
            .map(|all| all.iter().map(|x| x * 0.01).collect())
            .collect();
        for (number, vector) in (0..).zip(&all) {
            db.execute(put(number, vector, number)).unwrap();
        }
        let check = |db: &arqondb::Db| {
            for vector in all.iter().step_by(23) {
                let hit =
                    search(db, VectorSearch { ef: 400, ..VectorSearch::new(NAME, vector, 1) })[0];
                let near =
                    all[hit.0 as usize].iter().zip(vector).all(|(a, b)| (a - b).abs() < 1e-4);
                assert!(near && hit.1 < 1e-3, "{kind:?}: {hit:?}");
            }
        };
        db.settle_vectors();
        assert!(crate::world::info(&db).sealed > 200);
        check(&db);
        drop(db);
        let db = open(&disk);
        check(&db);
        db.settle_vectors();
        check(&db);
    }
}

/// Each name that a filter asked for was kept, also those that no vector has.
#[test]
fn misspelt_fields_leave_room_for_others() {
    let (db, model, mut rng) = filled(IndexKind::Hnsw, Quantisation::None);
    let query = vector(&mut rng);
    let matches = |text: String| {
        let filter = Some(Filter::parse(&text).unwrap());
        let asked = VectorSearch { filter, ..VectorSearch::new(NAME, &query, 3) };
        db.search_vectors(asked).unwrap().cost.matches
    };
    for number in 0..150 {
        assert_eq!(matches(format!(r#"{{"m{number}": 1}}"#)), 0);
    }
    let even = model.values().filter(|(_, number)| number % 2 == 0).count() as u64;
    assert_eq!(matches(r#"{"even": true}"#.into()), even);
    let either = matches(r#"{"or": [{"even": true}, {"m3": 1}, {"new": 2}]}"#.into());
    assert_eq!(either, even);
}

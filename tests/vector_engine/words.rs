//! Searches by a vector and by words, against the definition.

use crate::world::{DIM, NAME, create, open, spec, vector};
use arqondb::engine::vector::words;
use arqondb::env::{Rng, SimDisk};
use arqondb::op::vector::{
    Filter, IndexKind, IndexSpec, Metric, TextQuery, VectorHit, VectorId, VectorQuery, VectorSearch,
};
use arqondb::{Db, ErrorKind};
use std::collections::BTreeMap;

/// Vectors, and what stands beside them.
type Model = BTreeMap<u64, (Vec<f32>, String, u64)>;

fn text(rng: &mut Rng) -> String {
    let word = |rng: &mut Rng| format!("w{}", rng.below(9) * rng.below(9));
    (0..rng.below(12)).map(|_| word(rng)).collect::<Vec<_>>().join(" ")
}

fn put(db: &Db, model: &mut Model, id: u64, rng: &mut Rng, number: u64) {
    let (vector, text) = (vector(rng), text(rng));
    let payload = serde_json::json!({"n": number, "doc": {"body": text}}).to_string();
    db.put_vector(NAME, id, &vector, payload.as_bytes()).unwrap();
    model.insert(id, (vector, text, number));
}

fn l2(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// BM25 of all texts, by the definition.
fn rated(model: &Model, query: &str) -> BTreeMap<u64, f64> {
    let texts: BTreeMap<u64, Vec<String>> = model
        .iter()
        .map(|(id, (_, text, _))| (*id, words(text)))
        .filter(|(_, words)| !words.is_empty())
        .collect();
    let mean = texts.values().map(Vec::len).sum::<usize>() as f64 / texts.len().max(1) as f64;
    let mut asked = words(query);
    asked.sort();
    asked.dedup();
    let rate = |own: &Vec<String>| -> f64 {
        let of = |word: &String| {
            let having = texts.values().filter(|text| text.contains(word)).count() as f64;
            let times = own.iter().filter(|other| *other == word).count() as f64;
            let rarity = (1.0 + (texts.len() as f64 - having + 0.5) / (having + 0.5)).ln();
            rarity * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * own.len() as f64 / mean.max(1.0)))
        };
        asked.iter().map(of).sum()
    };
    let all = texts.iter().map(|(id, own)| (*id, rate(own)));
    all.filter(|(_, rate)| *rate > 0.0).collect()
}

/// What an exact search by both has to give: ids with their scores, the first `k`.
fn expected(
    model: &Model,
    query: &[f32],
    asked: &str,
    k: usize,
    holds: &dyn Fn(u64) -> bool,
) -> Vec<(u64, f32)> {
    let ranked = k.max(100);
    let matches = || model.iter().filter(|(_, (_, _, n))| holds(*n));
    let mut near: Vec<(f32, u64)> = matches().map(|(id, (v, ..))| (l2(query, v), *id)).collect();
    near.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let rates = rated(model, asked);
    let mut fit: Vec<(f64, u64)> =
        matches().filter_map(|(id, _)| Some((*rates.get(id)?, *id))).collect();
    fit.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut scores: BTreeMap<u64, f64> = BTreeMap::new();
    for ranking in [
        near.iter().map(|(_, id)| *id).collect::<Vec<_>>(),
        fit.iter().map(|(_, id)| *id).collect(),
    ] {
        for (rank, id) in ranking.into_iter().take(ranked).enumerate() {
            *scores.entry(id).or_default() += 1.0 / (61.0 + rank as f64);
        }
    }
    let place: BTreeMap<u64, usize> = near.iter().zip(0..).map(|((_, id), at)| (*id, at)).collect();
    let mut all: Vec<(u64, f64)> = scores.into_iter().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(place[&a.0].cmp(&place[&b.0])));
    all.truncate(k);
    all.into_iter().map(|(id, score)| (id, score as f32)).collect()
}

fn search(query: &[f32], asked: &str, k: u32) -> VectorSearch {
    let text = TextQuery { field: "doc.body".into(), text: asked.into(), is_part: false };
    VectorSearch { text: Some(text), exact: true, ..VectorSearch::new(NAME, query, k) }
}

fn found(db: &Db, search: VectorSearch) -> Vec<(u64, f32)> {
    let hits = db.search_vectors(search).unwrap().hits;
    hits.iter().map(|hit: &VectorHit| (hit.id, hit.score.unwrap())).collect()
}

#[test]
fn random_histories_are_ranked_by_the_definition() {
    for kind in [IndexKind::Hnsw, IndexKind::DiskHnsw] {
        let mut rng = Rng::new(31);
        let disk = SimDisk::new();
        let mut db = open(&disk);
        create(&db, IndexSpec { kind, ..spec(Metric::L2) });
        let mut model = Model::new();
        for step in 0..900 {
            let id = rng.below(220);
            match rng.below(20) {
                0..12 => put(&db, &mut model, id, &mut rng, step),
                12..15 => {
                    db.delete_vector(NAME, id).unwrap();
                    model.remove(&id);
                }
                15 => db.settle_vectors(),
                16 if rng.one_in(6) => {
                    drop(db);
                    db = open(&disk);
                }
                _ => {
                    let (query, asked) = (vector(&mut rng), text(&mut rng));
                    let k = 1 + rng.below(130) as u32;
                    let one = search(&query, &asked, k);
                    let expect = expected(&model, &query, &asked, k as usize, &|_| true);
                    assert_eq!(found(&db, one.clone()), expect, "{asked:?} {k}");
                    let filter = Some(Filter::parse(r#"{"n": {"gte": 300}}"#).unwrap());
                    let expect = expected(&model, &query, &asked, k as usize, &|n| n >= 300);
                    assert_eq!(found(&db, VectorSearch { filter, ..one.clone() }), expect);
                    let page = VectorSearch { offset: 5, k: 7, ..one };
                    let expect = expected(&model, &query, &asked, 12, &|_| true);
                    assert_eq!(found(&db, page), expect[5.min(expect.len())..]);
                }
            }
        }
    }
}

#[test]
fn words_are_found_where_vectors_are_far() {
    let db = open(&SimDisk::new());
    create(&db, spec(Metric::L2));
    for id in 0..500u64 {
        let body = if id == 400 { "a rare marmot" } else { "nothing of note" };
        let payload = serde_json::json!({"body": body}).to_string();
        db.put_vector(NAME, id, &[id as f32 + 1.0; DIM], payload.as_bytes()).unwrap();
    }
    let text = |field: &str, text: &str| {
        Some(TextQuery { field: field.into(), text: text.into(), is_part: false })
    };
    let base = VectorSearch {
        text: text("body", "Marmot!"),
        with_payload: true,
        ..VectorSearch::new(NAME, &[1.0; DIM], 3)
    };
    let hits = db.search_vectors(base.clone()).unwrap().hits;
    let ids: Vec<u64> = hits.iter().map(|hit| hit.id).collect();
    // Both are first in one of the rankings, and the nearer stands before the other.
    assert_eq!(ids, [0, 400, 1]);
    assert!(hits[1].distance > 1e5 && hits[1].score == hits[0].score);
    assert!(hits[1].payload.as_ref().unwrap().starts_with(b"{\"body\":\"a rare"));
    let near = VectorSearch { distance_max: Some(100.0), ..base.clone() };
    assert!(db.search_vectors(near).unwrap().hits.iter().all(|hit| hit.id < 4));
    let stored = VectorQuery::Stored(VectorId::new(400));
    let like = VectorSearch { query: stored, ..base.clone() };
    assert!(db.search_vectors(like).unwrap().hits.iter().all(|hit| hit.id != 400));
    for wrong in [
        VectorSearch { k: 0, distance_max: Some(1.0), ..base.clone() },
        VectorSearch { text: text("", "x"), ..base.clone() },
        VectorSearch { text: text("body", &"x ".repeat(9_000)), ..base.clone() },
    ] {
        let error = db.search_vectors(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    for n in 1..8 {
        let other = VectorSearch { text: text(&format!("f{n}"), "x"), ..base.clone() };
        assert_eq!(db.search_vectors(other).unwrap().hits.len(), 3);
    }
    // Fields without texts make room for others, and then those that were not asked for longest.
    let other = VectorSearch { text: text("f8", "x"), ..base.clone() };
    assert_eq!(db.search_vectors(other).unwrap().hits.len(), 3);
    for n in 0..8 {
        let body = format!("{{\"t{n}\":\"some text\"}}");
        db.put_vector(NAME, 1_000 + n, &[9.0; DIM], body.as_bytes()).unwrap();
        let other = VectorSearch { text: text(&format!("t{n}"), "text"), ..base.clone() };
        assert_eq!(db.search_vectors(other).unwrap().hits.len(), 3);
    }
    let many: String = (0..65).map(|n| format!("w{n} ")).collect();
    let error = db.search_vectors(VectorSearch { text: text("body", &many), ..base }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

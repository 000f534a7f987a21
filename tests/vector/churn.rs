//! Deleting and inserting without end: what was found at first is found at last.

use crate::data::{clustered, normals};
use crate::oracle::Oracle;
use crate::recall::built;
use arqondb::engine::vector::{DistanceMetric, HnswConfig, HnswIndex};
use arqondb::env::Rng;

const K: usize = 10;
const EF: usize = 40;

fn recall(index: &HnswIndex, oracle: &Oracle, queries: &[Vec<f32>]) -> f64 {
    let each = queries.iter().map(|query| {
        let hits = index.search(query, K, Some(EF)).unwrap();
        oracle.judge(DistanceMetric::L2, query, K, |_| true, &hits)
    });
    each.sum::<f64>() / queries.len() as f64
}

#[test]
fn twenty_rounds_of_replacing_a_tenth_cost_no_recall_and_no_memory() {
    let set = clustered(21, 24, 6000);
    let rows: Vec<Vec<f32>> = set.rows().map(<[f32]>::to_vec).collect();
    let queries: Vec<Vec<f32>> = set.queries().map(<[f32]>::to_vec).collect();
    let mut rng = Rng::new(21);
    let mut index = HnswIndex::new(HnswConfig::new(24, DistanceMetric::L2));
    let mut oracle = Oracle::default();
    let mut waiting: Vec<(u64, &Vec<f32>)> = (0..).zip(&rows).collect();
    let mut insert = |count: usize, index: &mut HnswIndex, oracle: &mut Oracle| {
        let new: Vec<_> = waiting.drain(..count).collect();
        let ids: Vec<u64> = new.iter().map(|(id, _)| *id).collect();
        let floats: Vec<f32> = new.iter().flat_map(|(_, row)| row.iter().copied()).collect();
        index.insert_many(&ids, &floats, 2).unwrap();
        oracle.vectors.extend(new.into_iter().map(|(id, row)| (id, row.clone())));
    };
    insert(2000, &mut index, &mut oracle);
    let (at_first, bytes) = (recall(&index, &oracle, &queries), index.memory_bytes());
    let mut worst = at_first;
    for _ in 0..20 {
        let live: Vec<u64> = oracle.vectors.keys().copied().collect();
        for _ in 0..200 {
            let id = live[rng.below(live.len() as u64) as usize];
            assert_eq!(index.remove(id), oracle.vectors.remove(&id).is_some());
        }
        let gone = 2000 - oracle.vectors.len();
        insert(gone, &mut index, &mut oracle);
        worst = worst.min(recall(&index, &oracle, &queries));
        assert!(index.memory_bytes() as f64 <= 1.15 * bytes as f64);
    }
    assert!(worst >= at_first - 0.01, "from {at_first} to {worst}");
}

/// New vectors come from ever another place, and the oldest go: none of the first is left.
#[test]
fn a_drifting_distribution_is_followed() {
    let mut rng = Rng::new(22);
    let mut index = HnswIndex::new(HnswConfig::new(16, DistanceMetric::L2));
    let mut oracle = Oracle::default();
    let mut each = Vec::new();
    for round in 0..30u64 {
        for at in 0..100 {
            let mut vector = normals(&mut rng, 16);
            vector[round as usize % 16] += 4.0 * round as f32;
            index.insert(round * 100 + at, &vector).unwrap();
            oracle.vectors.insert(round * 100 + at, vector);
        }
        for id in (round.saturating_sub(8) * 100..).take(if round < 8 { 0 } else { 100 }) {
            assert!(index.remove(id));
            oracle.vectors.remove(&id);
        }
        let queries: Vec<Vec<f32>> = oracle.vectors.values().step_by(37).cloned().collect();
        each.push(recall(&index, &oracle, &queries));
    }
    // Nine clusters far from each other, each larger than the beam: a walk that comes down in
    // another cluster than the query's may stay there.
    let mean = each.iter().sum::<f64>() / each.len() as f64;
    assert!(mean >= 0.98 && each.iter().all(|found| *found >= 0.85), "{mean}: {each:?}");
}

/// A whole cluster goes, the entry among it, and comes back.
#[test]
fn a_cluster_may_vanish_and_return() {
    let set = clustered(23, 16, 1000);
    let mut index = built(&set, DistanceMetric::L2);
    let rows: Vec<Vec<f32>> = set.rows().map(<[f32]>::to_vec).collect();
    let mut oracle = Oracle::of((0..).zip(rows.iter().cloned()));
    for _ in 0..3 {
        let center = &rows[0];
        let near = oracle.nearest(DistanceMetric::L2, center, 700, |_| true);
        for (_, id) in &near {
            assert!(index.remove(*id));
            oracle.vectors.remove(id);
        }
        let queries: Vec<Vec<f32>> = rows.iter().step_by(29).cloned().collect();
        assert!(recall(&index, &oracle, &queries) >= 0.99);
        for (_, id) in &near {
            index.insert(*id, &rows[*id as usize]).unwrap();
            oracle.vectors.insert(*id, rows[*id as usize].clone());
        }
        assert!(recall(&index, &oracle, &queries) >= 0.99);
    }
}

#[test]
fn all_vectors_may_be_replaced_in_one_call() {
    let set = clustered(24, 24, 3000);
    let mut index = HnswIndex::new(HnswConfig::new(24, DistanceMetric::L2));
    let ids: Vec<u64> = (0..1000).collect();
    index.insert_many(&ids, &set.base[..1000 * 24], 2).unwrap();
    let bytes = index.memory_bytes();
    let queries: Vec<Vec<f32>> = set.queries().map(<[f32]>::to_vec).collect();
    for round in [1, 2] {
        let rows = &set.base[round * 1000 * 24..][..1000 * 24];
        index.insert_many(&ids, rows, 2).unwrap();
        let oracle = Oracle::of((0..).zip(rows.chunks(24).map(<[f32]>::to_vec)));
        let found = recall(&index, &oracle, &queries);
        assert!(found >= 0.99, "{found}");
        assert!(index.memory_bytes() as f64 <= 1.05 * bytes as f64, "{}", index.memory_bytes());
    }
}

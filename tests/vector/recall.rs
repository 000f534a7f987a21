//! Recall on real embeddings, for each kind of index, with floors that leave little room.

use crate::data::{Set, clustered, real};
use crate::oracle::Oracle;
use arqondb::engine::vector::{DistanceMetric, Hit, HnswConfig, HnswIndex};

const K: usize = 10;

/// The mean recall of `search` over a set's queries.
pub(crate) fn recall(
    set: &Set,
    metric: DistanceMetric,
    search: impl FnMut(&[f32]) -> Vec<Hit>,
) -> f64 {
    recall_within(set, metric, 0.0, search)
}

/// As [`recall`], where distances may be off by `slack`.
pub(crate) fn recall_within(
    set: &Set,
    metric: DistanceMetric,
    slack: f64,
    mut search: impl FnMut(&[f32]) -> Vec<Hit>,
) -> f64 {
    let rows = set.rows().map(<[f32]>::to_vec);
    let mut oracle = Oracle::of(rows.enumerate().map(|(id, row)| (id as u64, row)));
    oracle.slack = slack;
    let each = set.queries().map(|query| {
        let hits = search(query);
        oracle.judge(metric, query, K, |_| true, &hits)
    });
    each.sum::<f64>() / set.queries().len() as f64
}

pub(crate) fn built(set: &Set, metric: DistanceMetric) -> HnswIndex {
    let mut index = HnswIndex::new(HnswConfig::new(set.dim, metric));
    index.insert_many(&set.ids(), &set.base, 2).unwrap();
    index
}

#[test]
fn a_graph_finds_the_neighbours_of_real_embeddings() {
    let set = real();
    for (metric, floor_at_16, floor_at_64) in [
        (DistanceMetric::Cosine, 0.9, 0.99),
        (DistanceMetric::L2, 0.9, 0.99),
        (DistanceMetric::InnerProduct, 0.9, 0.99),
    ] {
        let index = built(&set, metric);
        for (ef, floor) in [(16, floor_at_16), (64, floor_at_64)] {
            let found = recall(&set, metric, |query| index.search(query, K, Some(ef)).unwrap());
            assert!(found >= floor, "{metric:?} with ef {ef}: {found}");
        }
        assert_eq!(recall(&set, metric, |query| index.exact(query, K).unwrap()), 1.0);
    }
}

#[test]
fn one_by_one_is_as_good_as_many_at_once() {
    let set = clustered(9, 32, 2000);
    let mut one_by_one = HnswIndex::new(HnswConfig::new(32, DistanceMetric::L2));
    for (id, row) in set.rows().enumerate() {
        one_by_one.insert(id as u64, row).unwrap();
    }
    for index in [one_by_one, built(&set, DistanceMetric::L2)] {
        let found =
            recall(&set, DistanceMetric::L2, |query| index.search(query, K, Some(32)).unwrap());
        assert!(found >= 0.985, "{found}");
    }
}

#[test]
fn a_group_far_from_all_others_is_found_when_it_comes_in_one_batch() {
    let mut set = clustered(11, 16, 1500);
    for value in &mut set.base[1400 * 16..] {
        *value += 50.0;
    }
    set.queries = set.base[1400 * 16..].to_vec();
    let index = built(&set, DistanceMetric::L2);
    let found = recall(&set, DistanceMetric::L2, |query| index.search(query, K, Some(32)).unwrap());
    assert!(found >= 0.99, "{found}");
}

/// Tenants, languages, drifting clients: each a group of its own, far from all others.
#[test]
fn every_vector_of_groups_far_apart_is_found_by_itself() {
    const GROUPS: u64 = 4;
    const EACH: u64 = 400;
    for seed in 0..6 {
        let config = HnswConfig { seed, ..HnswConfig::new(8, DistanceMetric::L2) };
        let mut index = HnswIndex::new(config);
        let row = |id: u64| {
            let (group, place) = ((id % GROUPS) as f32, (id / GROUPS) as f32);
            [group * 1e4, place, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        };
        for id in 0..GROUPS * EACH {
            index.insert(id, row(id)).unwrap();
        }
        let ids = 0..GROUPS * EACH;
        let missed =
            ids.filter(|id| index.search(&row(*id), 1, None).unwrap()[0].id != *id).count();
        assert_eq!(missed, 0, "seed {seed}");
    }
}

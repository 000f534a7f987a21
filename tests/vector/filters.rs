//! Filters that match much and little: recall, rows and cost.

use crate::data::{Set, clustered};
use crate::oracle::Oracle;
use crate::recall::built;
use arqondb::engine::vector::{
    Answer, CompactIndex, DiskHnswIndex, DistanceMetric, Filter, HnswIndex, PackedIndex,
    SearchRequest, SpfreshConfig, SpfreshIndex,
};

const ROWS: usize = 4000;
const K: usize = 10;

#[test]
fn every_share_of_matches_gives_all_rows_at_a_bounded_cost() {
    let metric = DistanceMetric::L2;
    let set = clustered(5, 24, ROWS);
    let index = built(&set, metric);
    let oracle =
        Oracle::of(set.rows().map(<[f32]>::to_vec).enumerate().map(|(i, r)| (i as u64, r)));
    // One in so many matches, and in one case those far from the query.
    for one_in in [1, 2, 10, 100, 1000, 5000] {
        let accept = |id: u64| id.wrapping_mul(0x9E37_79B9) >> 7 & 0xffff < 0x1_0000 / one_in;
        let ids: Vec<u64> = (0..ROWS as u64).filter(|id| accept(*id)).collect();
        let mut found = 0.0;
        for query in set.queries() {
            for filter in [Filter::Where(&accept), Filter::Ids(&ids)] {
                let request =
                    SearchRequest { filter, ef: Some(80), ..SearchRequest::new(query, K) };
                let answer = index.answer(&request).unwrap();
                found += oracle.judge(metric, query, K, accept, &answer.hits);
                let bound = 2 * ids.len() as u64 + 200;
                let cost = answer.stats.distances;
                assert!(cost <= bound.max(2600), "1 in {one_in}: {cost} distances, {}", ids.len());
            }
        }
        let found = found / 100.0;
        assert!(found >= 0.97, "1 in {one_in}: {found}");
    }
}

type Search<'a> = Box<dyn Fn(&SearchRequest<'_>) -> Answer + 'a>;

/// Each kind, and whether it reads what it compares with: then its cost is counted in reads.
fn kinds<'a>(set: &'a Set, graph: impl Fn() -> HnswIndex) -> Vec<(&'static str, bool, Search<'a>)> {
    let (hnsw, packed) = (graph(), PackedIndex::from_hnsw(graph(), 2).unwrap());
    let compact = CompactIndex::from_hnsw(graph(), 4, 2).unwrap();
    let pages = crate::disk::Memory::of(graph());
    let disk = DiskHnswIndex::open(&pages).unwrap();
    let mut postings = crate::spfresh::Map::default();
    let config =
        SpfreshConfig { posting_bytes: 1024, ..SpfreshConfig::new(set.dim, DistanceMetric::L2) };
    let spfresh = SpfreshIndex::build(config, &set.ids(), &set.base, 2, &mut postings).unwrap();
    let row = |id: u64| &set.base[id as usize * set.dim..][..set.dim];
    let show = move |ids: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
        ids.iter().for_each(|id| show(*id, row(*id)));
        Ok(())
    };
    vec![
        ("hnsw", false, Box::new(move |request| hnsw.answer(request).unwrap())),
        ("packed", false, Box::new(move |request| packed.answer(request).unwrap())),
        ("compact", true, Box::new(move |r| compact.answer(r, &mut { show }).unwrap())),
        ("disk", true, Box::new(move |request| disk.answer(request, &pages).unwrap())),
        ("spfresh", true, Box::new(move |r| spfresh.answer(r, &mut { show }, &postings).unwrap())),
    ]
}

#[test]
fn no_kind_costs_twice_as_much_as_comparing_with_all_that_match() {
    const QUERIES: usize = 20;
    let metric = DistanceMetric::L2;
    let set = clustered(8, 48, 8000);
    let graph = built(&set, metric).to_bytes();
    let rows = set.rows().map(<[f32]>::to_vec);
    let mut oracle = Oracle::of((0..).zip(rows));
    oracle.slack = 1e-3;
    for (kind, reads, search) in kinds(&set, || HnswIndex::from_bytes(&graph).unwrap()) {
        for one_in in [2, 10, 30, 100, 1000] {
            let accept =
                |id: u64| (id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33).is_multiple_of(one_in);
            let ids: Vec<u64> = (0..8000).filter(|id| accept(*id)).collect();
            let cost = |answer: &Answer| match (reads, kind) {
                // Nodes of a page are compared once it is read.
                (true, "disk") => answer.stats.pages_read,
                (true, _) => answer.stats.pages_read + answer.stats.distances,
                (false, _) => answer.stats.distances,
            };
            for filter in [Filter::Ids(&ids), Filter::Where(&accept)] {
                let (mut found, mut costs, mut exact_costs) = (0.0, 0, 0);
                for query in set.queries().take(QUERIES) {
                    let request =
                        SearchRequest { filter, ef: Some(64), ..SearchRequest::new(query, K) };
                    let answer = search(&request);
                    found += oracle.judge(metric, query, K, accept, &answer.hits) / QUERIES as f64;
                    costs += cost(&answer);
                    let filter = Filter::Ids(&ids);
                    exact_costs += cost(&search(&SearchRequest { filter, exact: true, ..request }));
                }
                let text = format!("{kind}, 1 in {one_in}, {filter:?}: recall {found}");
                assert!(found >= 0.95, "{text}");
                // Who has to ask about each vector reads where each one's id stands.
                let asked = match (kind, filter) {
                    ("disk", Filter::Where(_)) => QUERIES as u64 * 8000 / 340,
                    ("spfresh", Filter::Where(_)) => QUERIES as u64 * 8000 / 20,
                    _ => 0,
                };
                assert!(
                    costs <= 3 * exact_costs / 2 + asked,
                    "{text} for {costs}, exact {exact_costs}"
                );
            }
        }
    }
}

/// Matches in a few places that are far from each other, and from most queries.
#[test]
fn matches_that_lie_in_pockets_are_found() {
    let metric = DistanceMetric::L2;
    let set = clustered(9, 32, 8000);
    let index = built(&set, metric);
    let rows = set.rows().map(<[f32]>::to_vec);
    let oracle = Oracle::of((0..).zip(rows));
    for (pockets, each) in [(3, 300), (12, 70), (50, 20)] {
        let mut taken = std::collections::BTreeSet::new();
        for pocket in 0..pockets {
            let center = set.rows().nth(pocket * 155 + 7).unwrap();
            taken.extend(oracle.nearest(metric, center, each, |_| true).iter().map(|n| n.1));
        }
        let accept = |id: u64| taken.contains(&id);
        let (mut found, mut walks) = (0.0, 0);
        for query in set.queries() {
            let filter = Filter::Where(&accept);
            let request = SearchRequest { filter, ef: Some(10), ..SearchRequest::new(query, K) };
            let answer = index.answer(&request).unwrap();
            found += oracle.judge(metric, query, K, accept, &answer.hits) / 50.0;
            walks += u32::from(!answer.stats.exact);
        }
        assert!(walks >= 10, "{pockets} pockets: {walks} walks");
        assert!(found >= 0.95, "{pockets} pockets: {found}");
    }
}

#[test]
fn matches_far_from_the_query_are_found() {
    let metric = DistanceMetric::L2;
    let set = clustered(6, 24, ROWS);
    let index = built(&set, metric);
    let oracle =
        Oracle::of(set.rows().map(<[f32]>::to_vec).enumerate().map(|(i, r)| (i as u64, r)));
    for query in set.queries() {
        let far: Vec<u64> =
            oracle.nearest(metric, query, ROWS, |_| true)[ROWS / 2..].iter().map(|n| n.1).collect();
        let mut far = far;
        far.sort_unstable();
        let accept = |id: u64| far.binary_search(&id).is_ok();
        for filter in [Filter::Where(&accept), Filter::Ids(&far)] {
            let request = SearchRequest { filter, ..SearchRequest::new(query, K) };
            let answer = index.answer(&request).unwrap();
            let found = oracle.judge(metric, query, K, accept, &answer.hits);
            assert!(found >= 0.9, "{found}: {:?}", answer.stats);
        }
    }
}

#[test]
fn a_range_gives_all_within_it() {
    let metric = DistanceMetric::L2;
    let set = clustered(7, 24, ROWS);
    let mut index = built(&set, metric);
    let rows = set.rows().map(<[f32]>::to_vec);
    let mut oracle = Oracle::of(rows.enumerate().map(|(i, r)| (i as u64, r)));
    let all = |_: u64| true;
    let half = |id: u64| id.is_multiple_of(2);
    for has_dead in [false, true] {
        if has_dead {
            for id in 0..50 {
                assert!(index.remove(id) && oracle.vectors.remove(&id).is_some());
            }
        }
        for (filter, accept) in [
            (Filter::All, &all as &(dyn Fn(u64) -> bool + Sync)),
            (Filter::Where(&all), &all),
            (Filter::Where(&half), &half),
        ] {
            for within in [0, 1, 17, 300, 1500] {
                let (mut expected, mut found) = ([0u32; 2], [0u32; 2]);
                for query in set.queries() {
                    let truth = oracle.nearest(metric, query, ROWS, accept);
                    let limit = (truth[within].0 * 0.999_99) as f32;
                    let plain = SearchRequest::new(query, ROWS);
                    let request = SearchRequest { distance_max: Some(limit), filter, ..plain };
                    let hits = index.answer(&request).unwrap().hits;
                    assert!(hits.iter().all(|hit| hit.distance <= limit && accept(hit.id)));
                    assert!(hits.len() <= within);
                    expected[0] += within as u32;
                    found[0] += hits.len() as u32;
                    let hits = index.answer(&SearchRequest { k: 5, ..request }).unwrap().hits;
                    assert!(hits.iter().all(|hit| hit.distance <= limit));
                    assert!(hits.len() <= within.min(5));
                    expected[1] += within.min(5) as u32;
                    found[1] += hits.len() as u32;
                }
                for (found, expected) in found.into_iter().zip(expected) {
                    let text = format!("{filter:?}, {within}: {found} of {expected}");
                    assert!(f64::from(found) >= 0.97 * f64::from(expected), "{text}");
                }
            }
        }
    }
}

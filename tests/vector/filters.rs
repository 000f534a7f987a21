//! Filters that match much and little: recall, rows and cost.

use crate::data::clustered;
use crate::oracle::Oracle;
use crate::recall::built;
use arqondb::engine::vector::{DistanceMetric, Filter, SearchRequest};

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

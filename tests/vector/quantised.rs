//! Graphs that are walked by codes: recall on real embeddings with stated floors, the promises of
//! every answer, filters, and what is refused.

use crate::data::{Set, clustered, normals, real};
use crate::oracle::Oracle;
use crate::recall::{built, recall, recall_within};
use arqondb::engine::vector::{
    Answer, CompactIndex, DiskHnswIndex, DistanceMetric, FetchLive, Filter, Hit, HnswConfig,
    HnswIndex, PackedIndex, PqConfig, PqHnswConfig, PqHnswIndex, SearchRequest,
};
use arqondb::{Error, ErrorKind, Result};

const K: usize = 10;

/// Shows vectors of a set whose ids are row numbers.
pub(crate) fn fetch_from(set: &Set) -> Box<FetchLive<'_>> {
    Box::new(|ids, show| {
        ids.iter().for_each(|id| show(*id, &set.base[*id as usize * set.dim..][..set.dim]));
        Ok(())
    })
}

/// What the nodes take that walks through a graph of 384 dimensions begin at.
fn doors_bytes(len: usize) -> usize {
    ((2.0 * (len as f64).sqrt()) as usize + 64) * 112
}

#[test]
fn a_packed_graph_finds_the_neighbours_of_real_embeddings() {
    let set = real();
    for metric in DistanceMetric::ALL {
        let packed = PackedIndex::from_hnsw(built(&set, metric), 2).unwrap();
        // Under the inner product distances are negative, and "clearly nearer" means only nearer.
        let floor_at_24 = if metric == DistanceMetric::InnerProduct { 0.83 } else { 0.88 };
        for (ef, floor) in [(24, floor_at_24), (64, 0.96), (200, 0.99)] {
            let found =
                recall_within(&set, metric, 3e-5, |q| packed.search(q, K, Some(ef)).unwrap());
            assert!(found >= floor, "{metric:?} with ef {ef}: {found}");
        }
        assert!(packed.memory_bytes() <= packed.len() * 2696 + doors_bytes(packed.len()));
    }
}

#[test]
fn a_compact_graph_finds_them_in_340_bytes_a_vector() {
    let set = real();
    for metric in DistanceMetric::ALL {
        for (bits, bytes) in [(4, 340), (8, 540)] {
            let compact = CompactIndex::from_hnsw(built(&set, metric), bits, 2).unwrap();
            for (ef, floor) in [(24, 0.92), (64, 0.985)] {
                let found = recall(&set, metric, |query| {
                    let request = SearchRequest { ef: Some(ef), ..SearchRequest::new(query, K) };
                    let answer = compact.answer(&request, &mut fetch_from(&set)).unwrap();
                    assert!(answer.stats.distances <= ef as u64);
                    answer.hits
                });
                assert!(found >= floor, "{metric:?}, {bits} bits, ef {ef}: {found}");
            }
            assert!(compact.memory_bytes() <= compact.len() * bytes + doors_bytes(compact.len()));
        }
    }
}

/// Tenants, languages: a walk that begins in one group does not come to another.
#[test]
fn every_vector_of_a_hundred_groups_far_apart_is_found_in_sealed_graphs() {
    const GROUPS: usize = 100;
    const EACH: usize = 100;
    const DIM: usize = 32;
    for (metric, is_mixed) in
        [(DistanceMetric::L2, true), (DistanceMetric::L2, false), (DistanceMetric::Cosine, true)]
    {
        let mut rng = arqondb::env::Rng::new(5);
        let groups: Vec<Vec<f32>> = (0..GROUPS).map(|_| normals(&mut rng, DIM)).collect();
        let mut base = Vec::new();
        for at in 0..GROUPS * EACH {
            let group = &groups[if is_mixed { at % GROUPS } else { at / EACH }];
            base.extend(normals(&mut rng, DIM).iter().zip(group).map(|(x, g)| 20.0 * g + x));
        }
        let set = Set { dim: DIM, queries: base.clone(), base };
        let missed = |search: &dyn Fn(&SearchRequest<'_>) -> Vec<Hit>| {
            let all = set.queries().enumerate();
            let is_missed = |(id, query): &(usize, &[f32])| {
                let request = SearchRequest { ef: Some(64), ..SearchRequest::new(query, 1) };
                search(&request).first().is_none_or(|hit| hit.id != *id as u64)
            };
            all.filter(is_missed).count()
        };
        let what = format!("{metric:?}, mixed: {is_mixed}");
        let packed = PackedIndex::from_hnsw(built(&set, metric), 2).unwrap();
        assert_eq!(missed(&|request| packed.answer(request).unwrap().hits), 0, "{what}");
        for (bits, most) in [(4, 5), (8, 0)] {
            let compact = CompactIndex::from_hnsw(built(&set, metric), bits, 2).unwrap();
            let found = |request: &SearchRequest<'_>| {
                compact.answer(request, &mut fetch_from(&set)).unwrap().hits
            };
            let missed = missed(&found);
            assert!(missed <= most, "{what}, {bits} bits: {missed}");
        }
    }
}

#[test]
fn product_codes_of_32_bytes_and_a_hundred_comparisons_find_them() {
    let (real, flat) = (real(), clustered(31, 128, 2000));
    for (set, num_sub, floor) in [(&flat, 32, 0.95), (&real, 48, 0.97)] {
        for metric in DistanceMetric::ALL {
            let pq = PqConfig { num_sub, max_iter: 4, ..PqConfig::new(set.dim, metric) };
            let mut index = PqHnswIndex::from_hnsw(built(set, metric), pq, 100).unwrap();
            let found = recall(set, metric, |query| index.search(query, K, None).unwrap());
            assert!(found >= floor, "{metric:?} in {num_sub} bytes: {found}");
            // What comes and goes afterwards is found and not found.
            index.insert(9_000, &set.queries[..set.dim]).unwrap();
            assert!(index.remove(3));
            let hits = index.search(&set.queries[..set.dim], 50, None).unwrap();
            assert!(hits.iter().any(|hit| hit.id == 9_000) && hits.iter().all(|hit| hit.id != 3));
        }
    }
}

#[test]
fn codes_trained_twice_are_the_same() {
    let set = clustered(32, 24, 700);
    let metric = DistanceMetric::L2;
    let config = PqHnswConfig {
        hnsw: HnswConfig::new(24, metric),
        pq: PqConfig { dim: 24, num_sub: 6, num_centroids: 64, metric, max_iter: 10 },
        rerank_k: 20,
    };
    let mut one = PqHnswIndex::new(config);
    one.insert_many(&set.ids(), &set.base, 1).unwrap();
    one.train().unwrap();
    let mut two = PqHnswIndex::new(config);
    two.insert_many(&set.ids(), &set.base, 2).unwrap();
    two.train_on(2).unwrap();
    for query in set.queries() {
        let request = SearchRequest { ef: Some(20), ..SearchRequest::new(query, K) };
        assert_eq!(one.answer(&request).unwrap(), two.answer(&request).unwrap());
    }
}

/// An index as what it answers.
type Search<'a> = Box<dyn Fn(&SearchRequest<'_>) -> Answer + 'a>;

/// Every kind of sealed graph under every kind of request.
fn answers(set: &Set, metric: DistanceMetric) -> Vec<(&'static str, Search<'_>)> {
    let mut graph = built(set, metric);
    // A hole where something was removed must not come back.
    graph.insert(77_777, &set.base[..set.dim]).unwrap();
    assert!(graph.remove(77_777));
    let packed = PackedIndex::from_hnsw(graph, 2).unwrap();
    let compact = CompactIndex::from_hnsw(built(set, metric), 4, 1).unwrap();
    let pq = PqConfig { max_iter: 4, ..PqConfig::new(set.dim, metric) };
    let pq = PqHnswIndex::from_hnsw(built(set, metric), pq, 100).unwrap();
    let disk = crate::disk::Memory::of(built(set, metric));
    let opened = DiskHnswIndex::open(&disk).unwrap();
    vec![
        ("disk", Box::new(move |request| opened.answer(request, &disk).unwrap())),
        ("packed", Box::new(move |request| packed.answer(request).unwrap())),
        (
            "compact",
            Box::new(move |request| compact.answer(request, &mut fetch_from(set)).unwrap()),
        ),
        ("pq", Box::new(move |request| pq.answer(request).unwrap())),
    ]
}

#[test]
fn filters_ranges_and_exact_searches_keep_their_promises() {
    let mut set = clustered(33, 32, 1500);
    // Numbers that 16 bits hold exactly, so that all kinds have the same distances.
    set.base.iter_mut().chain(&mut set.queries).for_each(|x| *x = (*x * 64.0).round());
    let oracle = Oracle::of((0..).zip(set.rows().map(<[f32]>::to_vec)));
    for metric in [DistanceMetric::L2, DistanceMetric::InnerProduct] {
        for (name, answer) in answers(&set, metric) {
            let mut found = Vec::new();
            for query in set.queries().take(20) {
                let plain = SearchRequest { ef: Some(64), ..SearchRequest::new(query, K) };
                for one_in in [1u64, 3, 40, 400, 5000] {
                    let accept = |id: u64| id % one_in == 1 % one_in && id < 1500;
                    let ids: Vec<u64> = (0..1600).filter(|id| accept(*id)).collect();
                    for filter in [Filter::Where(&accept), Filter::Ids(&ids)] {
                        let exact = SearchRequest { filter, exact: true, ..plain };
                        let hits = answer(&exact).hits;
                        assert_eq!(oracle.judge(metric, query, K, accept, &hits), 1.0, "{name}");
                        let hits = answer(&SearchRequest { filter, ..plain }).hits;
                        found.push(oracle.judge(metric, query, K, accept, &hits));
                    }
                }
                let within = oracle.nearest(metric, query, 31, |_| true);
                // Between the 30th and the 31st.
                let limit = ((within[29].0 + within[30].0) / 2.0) as f32;
                let all_within =
                    SearchRequest { distance_max: Some(limit), k: 200, ef: Some(256), ..plain };
                let hits = answer(&all_within).hits;
                assert!(hits.len() <= 30 && hits.iter().all(|hit| hit.distance <= limit), "{name}");
                assert!(hits.len() >= 27, "{name}: {} of 30", hits.len());
                let all = answer(&SearchRequest { k: 2000, ef: None, ..plain }).hits;
                assert_eq!(oracle.judge(metric, query, 2000, |_| true, &all), 1.0, "{name}");
            }
            let mean = found.iter().sum::<f64>() / found.len() as f64;
            assert!(mean >= 0.97, "{name} {metric:?}: {mean}");
        }
    }
}

/// Filters that match little, of a set so large that a walk alone would meet none or bad ones.
#[test]
fn filters_of_every_share_find_the_nearest_that_match() {
    let mut set = clustered(36, 16, 6000);
    set.base.iter_mut().chain(&mut set.queries).for_each(|x| *x = (*x * 64.0).round());
    let metric = DistanceMetric::L2;
    let oracle = Oracle::of((0..).zip(set.rows().map(<[f32]>::to_vec)));
    for (name, answer) in answers(&set, metric) {
        for one_in in [2u64, 10, 100, 1000] {
            let accept = |id: u64| id.wrapping_mul(0x9E37_79B9) >> 7 & 0xffff < 0x1_0000 / one_in;
            let ids: Vec<u64> = (0..6000).filter(|id| accept(*id)).collect();
            let mut found = 0.0;
            for query in set.queries().take(25) {
                for filter in [Filter::Where(&accept), Filter::Ids(&ids)] {
                    let request = SearchRequest { filter, ..SearchRequest::new(query, K) };
                    found += oracle.judge(metric, query, K, accept, &answer(&request).hits) / 50.0;
                }
            }
            assert!(found >= 0.95, "{name}, 1 in {one_in}: {found}");
        }
    }
}

/// Vectors whose squares are far from what 16 bits hold, and queries far longer than any of them.
#[test]
fn packed_vectors_of_any_size_have_their_distances() {
    for size in [1e-18f32, 1e-6, 1e6, 1e17] {
        let mut set = clustered(37, 6, 200);
        set.base.iter_mut().chain(&mut set.queries).for_each(|x| *x *= size);
        let packed = PackedIndex::from_hnsw(built(&set, DistanceMetric::L2), 1).unwrap();
        let truth = Oracle::of((0..).zip(set.rows().map(<[f32]>::to_vec)));
        for far in [1.0f32, 1e15] {
            let far = if size * far < 1e18 { far } else { 1.0 };
            let query: Vec<f32> = set.queries[..6].iter().map(|x| x * far).collect();
            let hits = packed.search(&query, 5, None).unwrap();
            let truth = truth.nearest(DistanceMetric::L2, &query, 5, |_| true);
            assert_eq!(hits.len(), 5);
            for (hit, (distance, _)) in hits.iter().zip(truth) {
                let off = (f64::from(hit.distance) / distance - 1.0).abs();
                assert!(off < 0.05, "{size} {far}: {hit:?} where {distance} is right");
            }
        }
    }
}

#[test]
fn small_and_odd_indexes_work() {
    for count in [0, 1, 2, 40] {
        for dim in [1, 3, 5, 64, 65] {
            let mut set = clustered(34, dim, 40);
            set.base.truncate(count * dim);
            for metric in DistanceMetric::ALL {
                let packed = PackedIndex::from_hnsw(built(&set, metric), 1).unwrap();
                let compact = CompactIndex::from_hnsw(built(&set, metric), 8, 1).unwrap();
                assert_eq!((packed.len(), compact.len()), (count, count));
                for query in set.queries().take(3) {
                    let request = SearchRequest::new(query, 7);
                    let fetched = compact.answer(&request, &mut fetch_from(&set)).unwrap();
                    for hits in [packed.search(query, 7, None).unwrap(), fetched.hits] {
                        assert_eq!(hits.len(), count.min(7));
                    }
                }
            }
        }
    }
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let metric = DistanceMetric::L2;
    let kind = |result: Result<PqHnswIndex>| result.unwrap_err().kind();
    let graph = |count: usize| {
        let mut set = clustered(35, 12, 40);
        set.base.truncate(count * 12);
        built(&set, metric)
    };
    let good = PqConfig::new(12, metric);
    assert_eq!(good.num_sub, 12);
    for bad in [
        PqConfig { num_sub: 5, ..good },
        PqConfig { num_sub: 0, ..good },
        PqConfig { num_centroids: 257, ..good },
        PqConfig { num_centroids: 0, ..good },
        PqConfig { max_iter: 0, ..good },
        PqConfig { dim: 24, ..good },
        PqConfig { metric: DistanceMetric::Cosine, ..good },
    ] {
        let refused = kind(PqHnswIndex::from_hnsw(graph(40), bad, 100));
        assert_eq!(refused, ErrorKind::InvalidArgument, "{bad:?}");
    }
    assert_eq!(kind(PqHnswIndex::from_hnsw(graph(40), good, 0)), ErrorKind::InvalidArgument);
    assert_eq!(kind(PqHnswIndex::from_hnsw(graph(0), good, 100)), ErrorKind::Refused);
    let wide = HnswIndex::new(HnswConfig { m: 32, ..HnswConfig::new(12, metric) });
    assert_eq!(PackedIndex::from_hnsw(wide, 1).unwrap_err().kind(), ErrorKind::Unsupported);
    let compact = CompactIndex::from_hnsw(graph(40), 5, 1);
    assert_eq!(compact.unwrap_err().kind(), ErrorKind::InvalidArgument);
    // What the owner of the vectors says is passed on, and too few floats are noticed.
    let compact = CompactIndex::from_hnsw(graph(40), 4, 1).unwrap();
    let request = SearchRequest::new(&[1.0; 12], 3);
    let gone = compact.answer(&request, &mut |_, _| Err(Error::new(ErrorKind::Io, "gone")));
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::Io);
    let short = compact.answer(&request, &mut |ids, show| {
        show(ids[0], &[1.0]);
        Ok(())
    });
    assert_eq!(short.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// A beam of a million places over a few thousand vectors was kept in order, place by place.
#[test]
fn a_beam_that_would_hold_most_of_an_index_is_not_walked() {
    let set = clustered(31, 8, 3_000);
    let metric = DistanceMetric::L2;
    let exact = built(&set, metric);
    for ef in [1 << 11, 1 << 20] {
        for (kind, search) in answers(&set, metric).iter().filter(|(kind, _)| *kind != "disk") {
            for query in set.queries().take(5) {
                let request = SearchRequest { ef: Some(ef), ..SearchRequest::new(query, K) };
                let answer = search(&request);
                assert_eq!(answer.stats.hops, 0, "{kind}");
                assert!(answer.stats.distances + answer.stats.estimates <= 2 * 3_000, "{kind}");
                let expected = exact.answer(&SearchRequest { exact: true, ..request }).unwrap();
                let ids = |answer: &Answer| answer.hits.iter().map(|h| h.id).collect::<Vec<_>>();
                assert!(*kind == "packed" || ids(&answer) == ids(&expected), "{kind}");
                assert_eq!(answer.hits.len(), K);
            }
        }
    }
}

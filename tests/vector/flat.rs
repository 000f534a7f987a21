//! Exact search through bytes: the same answer as comparing with all, under random histories.

use crate::data::{clustered, normals, real};
use crate::oracle::Oracle;
use arqondb::ErrorKind;
use arqondb::engine::vector::{
    DistanceMetric, Filter, FlatIndex, HnswConfig, HnswIndex, SearchRequest,
};
use arqondb::env::Rng;

#[test]
fn random_histories_are_answered_exactly() {
    for seed in 0..12 {
        let mut rng = Rng::new(seed);
        let metric = DistanceMetric::ALL[rng.below(3) as usize];
        let dim = [1, 5, 32][rng.below(3) as usize];
        let size = [1.0, 1e-15, 1e12][rng.below(3) as usize];
        let mut index = FlatIndex::new(dim, metric).unwrap();
        let mut oracle = Oracle::default();
        for _ in 0..400 {
            let id = rng.below(150);
            let vector: Vec<f32> = normals(&mut rng, dim).iter().map(|x| x * size).collect();
            match rng.below(5) {
                0 => assert_eq!(index.remove(id), oracle.vectors.remove(&id).is_some()),
                1 => {
                    let k = 1 + rng.below(12) as usize;
                    let accept = |id: u64| id % 3 != seed % 3;
                    let ids: Vec<u64> = (0..200).filter(|id| accept(*id)).collect();
                    for filter in [Filter::Where(&accept), Filter::Ids(&ids)] {
                        let request = SearchRequest { filter, ..SearchRequest::new(&vector, k) };
                        let hits = index.answer(&request).unwrap().hits;
                        assert_eq!(oracle.judge(metric, &vector, k, accept, &hits), 1.0);
                    }
                    let hits = index.search(&vector, k).unwrap();
                    assert_eq!(oracle.judge(metric, &vector, k, |_| true, &hits), 1.0);
                    if let Some(hit) = hits.last() {
                        let within = SearchRequest {
                            distance_max: Some(hit.distance),
                            ..SearchRequest::new(&vector, 1000)
                        };
                        let found = index.answer(&within).unwrap().hits;
                        assert!(found.len() >= hits.len() && found[..hits.len()] == hits);
                    }
                }
                _ => {
                    index.insert(id, &vector).unwrap();
                    oracle.vectors.insert(id, vector);
                }
            }
            assert_eq!(index.len(), oracle.vectors.len());
        }
    }
}

#[test]
fn it_gives_the_bits_that_a_graph_s_exact_search_gives_and_compares_few() {
    for (metric, set) in [
        (DistanceMetric::Cosine, real()),
        (DistanceMetric::InnerProduct, real()),
        (DistanceMetric::L2, clustered(51, 40, 1500)),
    ] {
        let mut graph =
            HnswIndex::new(HnswConfig { ef_construction: 8, ..HnswConfig::new(set.dim, metric) });
        graph.insert_many(&set.ids(), &set.base, 2).unwrap();
        let mut flat = FlatIndex::new(set.dim, metric).unwrap();
        for (id, row) in set.rows().enumerate() {
            flat.insert(id as u64, row).unwrap();
        }
        let mut compared = 0;
        for query in set.queries() {
            let answer = flat.answer(&SearchRequest::new(query, 10)).unwrap();
            assert_eq!(answer.hits, graph.exact(query, 10).unwrap());
            compared += answer.stats.distances;
        }
        let each = compared / set.queries().len() as u64;
        assert!(each <= 60, "{metric:?}: {each} compared for 10");
    }
}

#[test]
fn what_has_no_distance_is_refused() {
    assert_eq!(
        FlatIndex::new(0, DistanceMetric::L2).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    let mut index = FlatIndex::new(2, DistanceMetric::Cosine).unwrap();
    for bad in [&[0.0, 0.0][..], &[1.0], &[f32::NAN, 1.0]] {
        assert_eq!(index.insert(1, bad).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(index.search(bad, 1).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(index.search(&[1.0, 1.0], 0).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(index.is_empty() && index.search(&[1.0, 1.0], 3).unwrap().is_empty());
}

/// The product of two scales was nothing, and with it that of the vectors: the farther one was found.
#[test]
fn the_nearest_of_very_small_vectors_is_found() {
    let mut index = FlatIndex::new(1, DistanceMetric::L2).unwrap();
    index.insert(1, [1.0e-20]).unwrap();
    index.insert(2, [1.3e-20]).unwrap();
    for (query, nearest) in [(1.0e-20, 1), (1.3e-20, 2), (1.0e-19, 2), (-1.0e-20, 1)] {
        assert_eq!(index.search(&[query], 1).unwrap()[0].id, nearest, "{query}");
    }
}

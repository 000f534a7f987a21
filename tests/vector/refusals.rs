//! What is refused, and that it changes nothing.

use arqondb::ErrorKind;
use arqondb::engine::vector::{
    CompactIndex, DiskHnswIndex, DistanceMetric, FlatIndex, HnswConfig, HnswIndex, PackedIndex,
    PqConfig, PqHnswConfig, PqHnswIndex, SpfreshIndex,
};

fn kind<T: std::fmt::Debug>(result: arqondb::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn bad_vectors_and_settings_are_typed_errors() {
    for metric in DistanceMetric::ALL {
        let mut index = HnswIndex::new(HnswConfig::new(2, metric));
        index.insert(7, [1.0, 2.0]).unwrap();
        let mut bad = vec![
            vec![],
            vec![1.0],
            vec![1.0; 3],
            vec![f32::NAN, 0.0],
            vec![0.0, f32::INFINITY],
            vec![f32::MAX, 1.0],
        ];
        if metric == DistanceMetric::Cosine {
            bad.push(vec![0.0, -0.0]);
        }
        for vector in &bad {
            assert_eq!(kind(index.insert(7, vector)), ErrorKind::InvalidArgument, "{vector:?}");
            assert_eq!(kind(index.search(vector, 1, None)), ErrorKind::InvalidArgument);
            assert_eq!(kind(index.exact(vector, 1)), ErrorKind::InvalidArgument);
        }
        // The last of three is bad: none is inserted, and the error names it.
        let refused = index.insert_many(&[1, 2, 3], &[1.0, 1.0, 2.0, 1.0, 1.0, f32::NAN], 2);
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains("vector 3"), "{error}");
        assert_eq!(kind(index.insert_many(&[1, 2], &[1.0; 3], 1)), ErrorKind::InvalidArgument);
        assert_eq!(index.ids().collect::<Vec<_>>(), [7]);
        let query = [1.0, 0.5];
        for (k, ef) in [(0, None), (1, Some(0)), (1 << 21, None), (1, Some(1 << 21))] {
            assert_eq!(kind(index.search(&query, k, ef)), ErrorKind::InvalidArgument);
        }
        assert_eq!(index.search(&query, 5, None).unwrap().len(), 1);
    }
}

#[test]
fn settings_out_of_bounds_are_refused_at_first_use() {
    let good = HnswConfig::new(2, DistanceMetric::L2);
    for bad in [
        HnswConfig { dim: 0, ..good },
        HnswConfig { dim: 1 << 20, ..good },
        HnswConfig { dim: usize::MAX, ..good },
        HnswConfig { m: 1, ..good },
        HnswConfig { m: usize::MAX, ..good },
        HnswConfig { ef_construction: 0, ..good },
        HnswConfig { ef_search: 0, ..good },
    ] {
        let mut index = HnswIndex::new(bad);
        assert_eq!(kind(index.insert(1, vec![1.0; bad.dim.min(9)])), ErrorKind::InvalidArgument);
        assert_eq!(kind(index.search(&[1.0, 2.0], 1, None)), ErrorKind::InvalidArgument);
    }
}

#[test]
fn an_empty_index_answers_with_nothing() {
    let mut index = HnswIndex::new(HnswConfig::new(2, DistanceMetric::L2));
    assert!(index.search(&[1.0, 2.0], 3, None).unwrap().is_empty());
    assert!(index.exact(&[1.0, 2.0], 3).unwrap().is_empty());
    assert!(!index.remove(1));
    index.repair(2);
    index.insert_many(&[], &[], 2).unwrap();
    index.insert(1, [0.0, 0.0]).unwrap();
    assert!(index.remove(1) && index.is_empty());
    assert!(index.search(&[1.0, 2.0], 3, None).unwrap().is_empty());
    index.repair(1);
    index.insert(2, [5.0, 0.0]).unwrap();
    let hits = index.search(&[1.0, 0.0], 3, None).unwrap();
    assert_eq!((hits.len(), hits[0].id, hits[0].distance), (1, 2, 16.0));
}

#[test]
fn equal_vectors_are_answered_in_order_of_their_ids() {
    let mut index = HnswIndex::new(HnswConfig::new(3, DistanceMetric::L2));
    let ids: Vec<u64> = (0..200).map(|n| (n * 77) % 200).collect();
    index.insert_many(&ids, &[0.5; 600], 1).unwrap();
    for ef in [20, 200] {
        let hits = index.search(&[0.5, 0.0, 0.5], 20, Some(ef)).unwrap();
        assert!(hits.windows(2).all(|pair| pair[0].id < pair[1].id));
    }
    let hits = index.exact(&[0.0; 3], 20).unwrap();
    assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
}

#[test]
fn the_settings_that_users_are_told_are_accepted() {
    let l2 = DistanceMetric::L2;
    for (dim, metric, m, ef_construction, ef_search, num_sub, rerank_k) in [
        (1536, DistanceMetric::Cosine, 16, 200, 100, 192, 200),
        (384, DistanceMetric::Cosine, 16, 200, 64, 48, 100),
        (512, DistanceMetric::InnerProduct, 24, 300, 128, 64, 200),
        (96, l2, 8, 100, 32, 24, 50),
        (128, l2, 16, 200, 64, 32, 100),
    ] {
        let hnsw = HnswConfig { m, ef_construction, ef_search, ..HnswConfig::new(dim, metric) };
        let pq = PqConfig { num_sub, ..PqConfig::new(dim, metric) };
        PqHnswConfig { hnsw, pq, rerank_k }.check().unwrap();
    }
    let defaults = PqHnswConfig::new(128, l2);
    let HnswConfig { m, ef_construction, ef_search, .. } = defaults.hnsw;
    assert_eq!((m, ef_construction, ef_search), (16, 200, 64));
    let PqConfig { num_sub, num_centroids, max_iter, .. } = defaults.pq;
    assert_eq!((num_sub, num_centroids, max_iter, defaults.rerank_k), (32, 256, 20, 100));
}

/// Many threads may search one index.
#[test]
fn indexes_may_be_shared() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<HnswIndex>();
    is_shared::<PqHnswIndex>();
    is_shared::<PackedIndex>();
    is_shared::<CompactIndex>();
    is_shared::<FlatIndex>();
    is_shared::<DiskHnswIndex>();
    is_shared::<SpfreshIndex>();
}

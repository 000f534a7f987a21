//! What is asked of indexes on disk at the ends of what they take: numbers of any size, and searches
//! as wide as may be.

use crate::data::{clustered, normals};
use crate::disk::Memory;
use crate::recall::built;
use crate::spfresh::World;
use arqondb::engine::vector::{
    DiskHnswIndex, DistanceMetric, Filter, HnswConfig, HnswIndex, PAGE_BYTES, SearchRequest,
    SpfreshConfig, SpfreshIndex,
};
use arqondb::env::Rng;

const EF_MAX: usize = 1 << 20;

/// Vectors that lie together so closely that others, measured by their spread, are at no number.
fn near_and_far(metric: DistanceMetric) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let mut rng = Rng::new(81);
    let mut draw = |count: usize, size: f32| -> Vec<Vec<f32>> {
        (0..count).map(|_| normals(&mut rng, 8).iter().map(|x| x * size).collect()).collect()
    };
    if metric != DistanceMetric::Cosine {
        return (draw(300, 1e-25), draw(60, 1e17));
    }
    let (mut near, far) = (draw(300, 1e-30), draw(60, 1.0));
    near.iter_mut().for_each(|vector| vector[0] = 1.0);
    (near, far)
}

/// Their estimates were no numbers, at which the search ended: it found nothing.
#[test]
fn vectors_that_codes_say_nothing_of_are_found() {
    for metric in [DistanceMetric::L2, DistanceMetric::Cosine] {
        let (near, far) = near_and_far(metric);
        let config = SpfreshConfig { posting_bytes: 1024, ..SpfreshConfig::new(8, metric) };
        let mut world = World::new(config, (0..).zip(near));
        for (id, vector) in (1_000..).zip(&far) {
            world.insert(id, vector.clone());
        }
        for (id, vector) in (1_000..).zip(&far) {
            let hits = world.answer(&SearchRequest::new(vector, 1)).hits;
            assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), [id], "{metric:?}");
            // As many as there are, and those that are right.
            let (recall, _) = world.recall(&SearchRequest::new(vector, 40));
            assert!(recall > 0.9, "{metric:?}: {recall}");
            let even = |id: u64| id.is_multiple_of(2);
            let filter = Filter::Where(&even);
            let hits = world.answer(&SearchRequest { filter, ..SearchRequest::new(vector, 5) });
            assert_eq!(hits.hits.len(), 5);
        }
        // How little codes tell was no number either, and could not be read back.
        let bytes = world.index.to_bytes();
        assert_eq!(SpfreshIndex::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    }
}

/// How far their estimates are off was measured with the vectors that they were learnt from, each of
/// which may be a centroid: by next to nothing. Ranges lacked what was estimated to be just outside.
#[test]
fn codes_that_are_learnt_from_few_vectors_tell_how_little_they_say() {
    let few = [1, 2, 3, 4, 5, 8, 16, 32];
    for (dim, few) in [8, 16, 32].iter().flat_map(|dim| few.map(|few| (*dim, few))) {
        let (mut found, mut wanted) = (0, 0);
        let mut rng = Rng::new(few);
        let mut row = || normals(&mut rng, dim);
        let config = SpfreshConfig::new(dim, DistanceMetric::L2);
        let config = SpfreshConfig { posting_bytes: 1024, ..config };
        let mut world = World::new(config, (0..few).map(|id| (id, row())));
        for id in few..5 * few {
            world.insert(id, row());
        }
        for _ in 0..100 {
            let query = row();
            let all = world.oracle.nearest(DistanceMetric::L2, &query, 20, |_| true);
            let asked = SearchRequest {
                distance_max: all.last().map(|hit| hit.0 as f32 + 1e-4),
                ..SearchRequest::new(&query, 200)
            };
            found += world.answer(&asked).hits.len();
            wanted += all.len();
        }
        assert!(found * 100 >= 95 * wanted, "{few} of {dim}: {found} of {wanted}");
    }
}

/// Their distance from each other is none but zero: nothing may be measured by it.
#[test]
fn vectors_that_differ_by_the_least_there_is_come_back() {
    let vector = |id: u64| vec![f32::from_bits(id as u32 % 7), f32::from_bits(1), 0.0, 0.0];
    for metric in [DistanceMetric::L2, DistanceMetric::InnerProduct] {
        let world = World::new(SpfreshConfig::new(4, metric), (0..100).map(|id| (id, vector(id))));
        let bytes = world.index.to_bytes();
        assert_eq!(SpfreshIndex::from_bytes(&bytes).unwrap().to_bytes(), bytes);
        let mut graph = HnswIndex::new(HnswConfig::new(4, metric));
        (0..100).for_each(|id| graph.insert(id, vector(id)).unwrap());
        let pages = Memory::of(graph);
        let index = DiskHnswIndex::open(&pages).unwrap();
        let hits = index.answer(&SearchRequest::new(&[1.0; 4], 10), &pages).unwrap().hits;
        assert_eq!(hits.len(), 10);
    }
}

/// A walk went from page to page, and remembered all of an index, to end with all of its pages.
#[test]
fn a_search_on_disk_that_is_as_wide_as_the_index_reads_it_from_end_to_end() {
    let set = clustered(82, 24, 3_000);
    let metric = DistanceMetric::L2;
    let pages = Memory::of(built(&set, metric));
    let index = DiskHnswIndex::open(&pages).unwrap();
    let all = (pages.bytes.len() / PAGE_BYTES) as u64;
    for ef in [3_000, EF_MAX] {
        for query in set.queries().take(5) {
            let request = SearchRequest { ef: Some(ef), ..SearchRequest::new(query, 10) };
            let answer = index.answer(&request, &pages).unwrap();
            assert_eq!((answer.stats.hops, answer.stats.estimates), (0, 0));
            assert!(answer.stats.pages_read < all && answer.stats.distances == 3_000);
            let exact = SearchRequest { exact: true, ..request };
            assert_eq!(answer, index.answer(&exact, &pages).unwrap());
            // Few that match are looked for by their ids.
            let few = |id: u64| id.is_multiple_of(300);
            let filter = Filter::Where(&few);
            let hits = index.answer(&SearchRequest { filter, ..request }, &pages).unwrap();
            let exact = index.answer(&SearchRequest { filter, ..exact }, &pages).unwrap();
            assert_eq!(hits.hits, exact.hits);
            assert!(hits.hits.len() == 10 && hits.stats.pages_read < all / 4, "{:?}", hits.stats);
        }
    }
}

#[test]
fn a_search_of_postings_that_is_as_wide_as_may_be_reads_each_once() {
    let set = clustered(83, 16, 4_000);
    let config =
        SpfreshConfig { posting_bytes: 1024, ..SpfreshConfig::new(16, DistanceMetric::L2) };
    let world = World::new(config, (0..).zip(set.rows().map(<[f32]>::to_vec)));
    let postings = world.index.postings();
    for ef in [postings - 1, postings, EF_MAX] {
        let mut found = 0.0;
        for query in set.queries() {
            let request = SearchRequest { ef: Some(ef), ..SearchRequest::new(query, 10) };
            let (recall, answer) = world.recall(&request);
            assert_eq!(answer.stats.hops, ef.min(postings) as u64);
            assert!(answer.stats.estimates <= world.index.entries());
            assert!(answer.stats.distances < 400, "{:?}", answer.stats);
            found += recall / 50.0;
        }
        assert!(found >= 0.95, "{found}");
    }
}

//! Recall on many real embeddings, for each kind of index, form and metric, with floors; and with
//! ceilings what it costs: vectors compared, or pages read.
//!
//! `ARQON_TEST_VECTORS` names a folder with `debvec384.f16`, 61,436 embeddings of 384 16-bit floats, and
//! with `queries_dev.f16`, queries of the same form; where it is not set nothing is looked at. It takes
//! some minutes.

use crate::data::{REAL_DIM, Set, read_halves};
use crate::disk::Memory;
use crate::quantised::fetch_from;
use crate::recall::built;
use crate::spfresh::World;
use arqondb::engine::vector::{
    Answer, CompactIndex, DiskHnswIndex, DistanceMetric, HnswIndex, PackedIndex, PqConfig,
    PqHnswIndex, SearchRequest, SpfreshConfig,
};
use std::cell::RefCell;
use std::path::PathBuf;

const K: usize = 10;
const FOLDER: &str = "ARQON_TEST_VECTORS";

/// A set, and which rows are nearest to its queries.
struct Judge {
    set: Set,
    metric: DistanceMetric,
    truth: Vec<Vec<u64>>,
    /// What is not as good as it has to be.
    short: RefCell<Vec<String>>,
}

impl Judge {
    fn new(set: Set, metric: DistanceMetric, graph: &HnswIndex) -> Judge {
        let of = |query: &[f32]| graph.exact(query, K).unwrap().iter().map(|hit| hit.id).collect();
        let truth = set.queries().map(of).collect();
        Judge { set, metric, truth, short: RefCell::default() }
    }

    /// The mean recall of `search` at some `ef`s, each of which has a floor, and the mean of what `cost`
    /// gives, which has a ceiling.
    fn judge(
        &self,
        what: &str,
        floors: &[(usize, f64, f64)],
        cost: impl Fn(&Answer) -> u64,
        search: &mut dyn FnMut(&SearchRequest<'_>) -> Answer,
    ) {
        for (ef, floor, ceiling) in floors {
            let (mut found, mut costs) = (0, 0);
            for (query, truth) in self.set.queries().zip(&self.truth) {
                let answer =
                    search(&SearchRequest { ef: Some(*ef), ..SearchRequest::new(query, K) });
                found += answer.hits.iter().filter(|hit| truth.contains(&hit.id)).count();
                costs += cost(&answer);
            }
            let queries = self.truth.len() as f64;
            let (recall, costs) = (found as f64 / (queries * K as f64), costs as f64 / queries);
            println!("{:?} {what} at {ef}: {recall:.4}, {costs:.1}", self.metric);
            if recall < *floor || costs > *ceiling {
                self.short.borrow_mut().push(format!("{what} at {ef}: {recall} at {costs}"));
            }
        }
    }
}

fn large(folder: &str) -> Set {
    let read = |name: &str| {
        let path = PathBuf::from(folder).join(name);
        read_halves(&path).unwrap_or_else(|| panic!("{FOLDER}: {} is not there", path.display()))
    };
    Set { dim: REAL_DIM, base: read("debvec384.f16"), queries: read("queries_dev.f16") }
}

#[test]
fn recall_on_many_real_embeddings_has_floors() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    for metric in DistanceMetric::ALL {
        let set = large(&folder);
        let graph = built(&set, metric);
        let judge = Judge::new(set, metric, &graph);
        let set = &judge.set;
        let bytes = graph.to_bytes();
        let copy = || HnswIndex::from_bytes(&bytes).unwrap();
        let distances = |answer: &Answer| answer.stats.distances;
        let pages = |answer: &Answer| answer.stats.pages_read;

        let floors = [(32, 0.918, 690.0), (64, 0.963, 1_100.0), (200, 0.988, 2_650.0)];
        judge.judge("hnsw", &floors, distances, &mut |r| graph.answer(r).unwrap());

        // Under the inner product distances are negative, and "clearly nearer" means only nearer.
        let of_packed = match metric {
            DistanceMetric::InnerProduct => {
                [(32, 0.88, 36.0), (64, 0.937, 54.0), (200, 0.974, 120.0)]
            }
            _ => [(32, 0.90, 38.0), (64, 0.952, 58.0), (200, 0.984, 135.0)],
        };
        let packed = PackedIndex::from_hnsw(copy(), 2).unwrap();
        judge.judge("packed", &of_packed, distances, &mut |r| packed.answer(r).unwrap());
        drop(packed);

        let floors = [(32, 0.918, 16.0), (64, 0.958, 16.0), (200, 0.985, 16.0)];
        for bits in [4, 8] {
            let compact = CompactIndex::from_hnsw(copy(), bits, 2).unwrap();
            let mut search =
                |r: &SearchRequest<'_>| compact.answer(r, &mut *fetch_from(set)).unwrap();
            let what = format!("compact{bits}");
            judge.judge(&what, &floors, distances, &mut search);
        }

        let pq = PqConfig { num_sub: 48, max_iter: 6, ..PqConfig::new(REAL_DIM, metric) };
        let pq = PqHnswIndex::from_hnsw(copy(), pq, 100).unwrap();
        let floors = [(64, 0.918, 175.0), (200, 0.963, 215.0)];
        judge.judge("pq_hnsw", &floors, distances, &mut |r| pq.answer(r).unwrap());
        drop(pq);

        let on_disk = Memory::of(copy());
        let disk = DiskHnswIndex::open(&on_disk).unwrap();
        // The ceilings are of pages that are read.
        let floors = [(16, 0.955, 22.0), (64, 0.972, 29.0), (200, 0.983, 44.0)];
        judge.judge("disk_hnsw", &floors, pages, &mut |r| disk.answer(r, &on_disk).unwrap());
        drop((disk, on_disk));

        let rows = set.rows().map(<[f32]>::to_vec);
        let mut world = World::new(SpfreshConfig::new(REAL_DIM, metric), (0..).zip(rows));
        world.steps(usize::MAX);
        judge.judge("spfresh", &[(64, 0.88, 64.0), (128, 0.918, 128.0)], pages, &mut |r| {
            world.answer(r)
        });
        judge.judge("spfresh", &[(64, 0.88, 25.0)], distances, &mut |r| world.answer(r));
        let short = judge.short.take();
        assert!(short.is_empty(), "{metric:?}: {short:#?}");
    }
}

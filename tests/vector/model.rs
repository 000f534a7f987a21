//! Random histories of insertions, replacements, removals, repairs and searches, beside exact
//! search.

use crate::data::normals;
use crate::oracle::Oracle;
use arqondb::engine::vector::{DistanceMetric, Filter, HnswConfig, HnswIndex, SearchRequest};
use arqondb::env::Rng;

/// Operations of one history.
const OPERATIONS: usize = 600;

struct World {
    rng: Rng,
    metric: DistanceMetric,
    dim: usize,
    index: HnswIndex,
    oracle: Oracle,
    recall: Vec<f64>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let metric = DistanceMetric::ALL[rng.below(3) as usize];
        let dim = [1, 3, 16, 33][rng.below(4) as usize];
        let m = [2, 4, 16][rng.below(3) as usize];
        let config = HnswConfig { m, ef_construction: 60, seed, ..HnswConfig::new(dim, metric) };
        let (index, oracle) = (HnswIndex::new(config), Oracle::default());
        World { rng, metric, dim, index, oracle, recall: Vec::new() }
    }

    /// One of few ids, so that replacements are common.
    fn id(&mut self) -> u64 {
        self.rng.below(300) * 1_000_003
    }

    /// A vector, now and then one that is there already.
    fn vector(&mut self) -> Vec<f32> {
        if self.rng.one_in(10) && !self.oracle.vectors.is_empty() {
            let at = self.rng.below(self.oracle.vectors.len() as u64) as usize;
            return self.oracle.vectors.values().nth(at).unwrap().clone();
        }
        normals(&mut self.rng, self.dim)
    }

    fn step(&mut self) {
        match self.rng.below(20) {
            0..8 => {
                let (id, vector) = (self.id(), self.vector());
                self.index.insert(id, &vector).unwrap();
                self.oracle.vectors.insert(id, vector);
            }
            8 => {
                let count = self.rng.below(40) as usize;
                let ids: Vec<u64> = (0..count).map(|_| self.id()).collect();
                let rows: Vec<Vec<f32>> = (0..count).map(|_| self.vector()).collect();
                let threads = 1 + self.rng.below(2) as usize;
                self.index.insert_many(&ids, &rows.concat(), threads).unwrap();
                self.oracle.vectors.extend(ids.into_iter().zip(rows));
            }
            9..14 => {
                let id = self.id();
                assert_eq!(self.index.remove(id), self.oracle.vectors.remove(&id).is_some());
            }
            14 if self.rng.one_in(4) => self.index.repair(1),
            15 if self.rng.one_in(30) => {
                for id in std::mem::take(&mut self.oracle.vectors).into_keys() {
                    assert!(self.index.remove(id));
                }
            }
            _ => self.search(),
        }
        assert_eq!(self.index.len(), self.oracle.vectors.len());
    }

    fn search(&mut self) {
        let query = self.vector();
        let k = 1 + self.rng.below(20) as usize;
        let remainder = self.rng.below(3);
        let accept = |id: u64| id % 3 == remainder;
        let ids: Vec<u64> = (0..900).filter(|id| accept(*id)).map(|id| id * 1_000_003).collect();
        let matching = |id: u64| (id / 1_000_003).is_multiple_of(3) == accept(0) || accept(id);
        let plain = SearchRequest { ef: Some(100), ..SearchRequest::new(&query, k) };
        let is_listed = |id: u64| ids.binary_search(&id).is_ok();
        for (filter, accept) in [
            (Filter::All, &(|_| true) as &(dyn Fn(u64) -> bool + Sync)),
            (Filter::Where(&matching), &matching),
            (Filter::Ids(&ids), &is_listed),
        ] {
            let exact = SearchRequest { filter, exact: true, ..plain };
            let answer = self.index.answer(&exact).unwrap();
            let recall = self.oracle.judge(self.metric, &query, k, accept, &answer.hits);
            assert_eq!(recall, 1.0);
            let answer = self.index.answer(&SearchRequest { filter, ..plain }).unwrap();
            self.recall.push(self.oracle.judge(self.metric, &query, k, accept, &answer.hits));
            assert_eq!(self.index.answer(&SearchRequest { filter, ..plain }).unwrap(), answer);
        }
    }
}

#[test]
fn random_histories_answer_as_exact_search_does() {
    for seed in 0..24 {
        let mut world = World::new(seed);
        for _ in 0..OPERATIONS {
            world.step();
        }
        let mean = world.recall.iter().sum::<f64>() / world.recall.len() as f64;
        // With the fewest links and inner products the graph is as bad as it can be.
        let floor = match (world.index.config().m, world.metric) {
            (2, DistanceMetric::InnerProduct) => 0.9,
            (2, _) | (_, DistanceMetric::InnerProduct) => 0.97,
            _ => 0.99,
        };
        let config = world.index.config();
        assert!(mean >= floor, "seed {seed}: {mean} with {config:?}");
        for (id, vector) in &world.oracle.vectors {
            let kept = world.index.get(*id).unwrap();
            let distance = crate::oracle::distance(DistanceMetric::Cosine, kept, vector);
            assert!(distance < 1e-6, "{id} is kept as it was inserted");
        }
    }
}

#[test]
fn threads_and_calls_make_no_difference() {
    let set = crate::data::clustered(3, 24, 1200);
    let config = HnswConfig::new(24, DistanceMetric::L2);
    let build = |threads: usize| {
        let mut index = HnswIndex::new(config);
        index.insert_many(&set.ids(), &set.base, threads).unwrap();
        index
    };
    let (one, three) = (build(1), build(3));
    let requests: Vec<_> = set.queries().map(|query| SearchRequest::new(query, 10)).collect();
    let answers = one.answer_many(&requests, 1).unwrap();
    assert_eq!(answers, three.answer_many(&requests, 2).unwrap());
    for (query, answer) in set.queries().zip(answers) {
        assert_eq!(one.search(query, 10, None).unwrap(), answer.hits);
    }
}

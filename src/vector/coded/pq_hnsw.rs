//! A graph with product codes.

use crate::base::{Error, ErrorKind, Result};
use crate::vector::beam::{Key, Scratch, Scratches, WIDE, key, slot_of, walk_cost};
use crate::vector::code::pq::{Pq, PqConfig};
use crate::vector::filter::{EF_MAX, Filter, SearchRequest};
use crate::vector::hit::{Answer, Hit, nearest};
use crate::vector::hnsw::{HnswConfig, HnswIndex};
use crate::vector::kernel::{Kernels, kernels};
use crate::vector::rows::Rows;

/// Estimates that a walk makes for each candidate it keeps, roughly.
const ESTIMATES_PER_EF: u64 = 12;
/// Vectors compared for each that is wanted, at least: codes order the nearest only roughly.
const RERANKED_PER_HIT: usize = 4;

/// The settings of a [`PqHnswIndex`].
///
/// Settings to begin with:
///
/// | vectors | dim | metric | m | ef_construction | ef_search | num_sub | rerank_k |
/// |---|---|---|---|---|---|---|---|
/// | large text embeddings | 1536 | cosine | 16 | 200 | 100 | 192 | 200 |
/// | sentence embeddings | 384 | cosine | 16 | 200 | 64 | 48 | 100 |
/// | images and text | 512 | inner product | 24 | 300 | 128 | 64 | 200 |
/// | quick answers | any | L2 | 8 | 100 | 32 | dim / 4 | 50 |
/// | a million and more | 128 | L2 | 16 | 200 | 64 | 32 | 100 |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PqHnswConfig {
    /// Those of the graph.
    pub hnsw: HnswConfig,
    /// Those of the codes.
    pub pq: PqConfig,
    /// Candidates that are compared exactly at the end; by default 100.
    pub rerank_k: usize,
}

impl PqHnswConfig {
    /// The default settings for vectors of `dim` floats.
    pub fn new(dim: usize, metric: crate::vector::DistanceMetric) -> PqHnswConfig {
        let (hnsw, pq) = (HnswConfig::new(dim, metric), PqConfig::new(dim, metric));
        PqHnswConfig { hnsw, pq, rerank_k: 100 }
    }

    /// Whether all settings are within their bounds and agree.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] with what is wrong.
    pub fn check(&self) -> Result<()> {
        self.hnsw.check()?;
        self.pq.check()?;
        if (self.hnsw.dim, self.hnsw.metric) != (self.pq.dim, self.pq.metric) {
            return Err(Error::invalid("the graph and the codes differ in dim or metric"));
        }
        if self.rerank_k == 0 || self.rerank_k > EF_MAX {
            return Err(Error::invalid("rerank_k is out of bounds; it may be from 1 to 2^20"));
        }
        Ok(())
    }
}

/// A graph built on exact distances and walked by product codes of a few bytes a vector; the
/// nearest by their codes are compared exactly.
///
/// Until [`PqHnswIndex::train`] it is a plain graph.
///
/// ```
/// use arqondb::engine::vector::{
///     DistanceMetric, HnswConfig, PqConfig, PqHnswConfig, PqHnswIndex,
/// };
///
/// # fn main() -> arqondb::Result<()> {
/// let metric = DistanceMetric::L2;
/// let config = PqHnswConfig {
///     hnsw: HnswConfig::new(16, metric),
///     pq: PqConfig { dim: 16, num_sub: 4, num_centroids: 256, metric, max_iter: 20 },
///     rerank_k: 100,
/// };
/// let mut index = PqHnswIndex::new(config);
/// for id in 0..300 {
///     index.insert(id, vec![id as f32; 16])?;
/// }
/// index.train()?;
/// assert_eq!(index.search(&[7.2; 16], 10, None)?[0].id, 7);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PqHnswIndex {
    config: PqHnswConfig,
    pub(in crate::vector) index: HnswIndex,
    pub(in crate::vector) codes: Option<Codes>,
    scratches: Scratches,
    kernels: &'static Kernels,
}

/// Trained centroids and the code of each slot.
#[derive(Debug)]
pub(in crate::vector) struct Codes {
    pub(in crate::vector) pq: Pq,
    pub(in crate::vector) rows: Rows<u8>,
}

impl PqHnswIndex {
    /// An empty index. Settings out of bounds are refused by the first insertion and search.
    pub fn new(config: PqHnswConfig) -> PqHnswIndex {
        PqHnswIndex::with(config, HnswIndex::new(config.hnsw))
    }

    /// An index of a graph's vectors, with trained codes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] if a setting is out of bounds or `pq` does not agree with the
    /// graph, [`ErrorKind::Refused`] if the graph is empty.
    pub fn from_hnsw(hnsw: HnswIndex, pq: PqConfig, rerank_k: usize) -> Result<PqHnswIndex> {
        PqHnswIndex::from_hnsw_on(hnsw, pq, rerank_k, 1)
    }

    /// As [`PqHnswIndex::from_hnsw`], trained on up to `threads` threads, with the same outcome.
    ///
    /// # Errors
    ///
    /// As [`PqHnswIndex::from_hnsw`].
    pub fn from_hnsw_on(
        hnsw: HnswIndex,
        pq: PqConfig,
        rerank_k: usize,
        threads: usize,
    ) -> Result<PqHnswIndex> {
        let config = PqHnswConfig { hnsw: *hnsw.config(), pq, rerank_k };
        let mut index = PqHnswIndex::with(config, hnsw);
        index.train_on(threads)?;
        Ok(index)
    }

    pub(in crate::vector) fn with(config: PqHnswConfig, index: HnswIndex) -> PqHnswIndex {
        let (scratches, kernels) = (Scratches::default(), kernels());
        PqHnswIndex { config, index, codes: None, scratches, kernels }
    }

    /// The graph without its codes.
    pub fn into_hnsw(self) -> HnswIndex {
        self.index
    }

    /// The settings.
    pub fn config(&self) -> &PqHnswConfig {
        &self.config
    }

    /// Vectors in the index.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether the codes are trained.
    pub fn is_trained(&self) -> bool {
        self.codes.is_some()
    }

    /// Inserts a vector; one that had the id before is replaced.
    ///
    /// # Errors
    ///
    /// As [`HnswIndex::insert`].
    pub fn insert(&mut self, id: u64, vector: impl AsRef<[f32]>) -> Result<()> {
        self.insert_many(&[id], vector.as_ref(), 1)
    }

    /// Inserts many vectors, as [`HnswIndex::insert_many`].
    ///
    /// # Errors
    ///
    /// As [`HnswIndex::insert_many`].
    pub fn insert_many(&mut self, ids: &[u64], vectors: &[f32], threads: usize) -> Result<()> {
        self.config.check()?;
        self.index.insert_many(ids, vectors, threads)?;
        let Some(codes) = &mut self.codes else { return Ok(()) };
        let graph = &self.index.graph;
        codes.rows.extend_to(graph.slot_count(), 0);
        for slot in ids.iter().filter_map(|id| graph.slot(*id)) {
            let code = codes.pq.encode(graph.vector(slot));
            codes.rows.row_mut(slot).copy_from_slice(&code);
        }
        Ok(())
    }

    /// Removes a vector, as [`HnswIndex::remove`].
    pub fn remove(&mut self, id: u64) -> bool {
        self.index.remove(id)
    }

    /// Trains the codes on the vectors there are, 16,384 of them at most, and encodes all. Worth
    /// repeating when the vectors have changed much. On one thread; costs about
    /// `16384 * 256 * dim * max_iter` multiplications.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] if a setting is out of bounds, [`ErrorKind::Refused`] if
    /// there is no vector.
    pub fn train(&mut self) -> Result<()> {
        self.train_on(1)
    }

    /// As [`PqHnswIndex::train`], on up to `threads` threads, with the same outcome.
    ///
    /// # Errors
    ///
    /// As [`PqHnswIndex::train`].
    pub fn train_on(&mut self, threads: usize) -> Result<()> {
        self.config.check()?;
        let graph = &self.index.graph;
        let slots = 0..graph.slot_count() as u32;
        let live: Vec<u32> = slots.filter(|slot| graph.is_live(*slot)).collect();
        if live.is_empty() {
            return Err(Error::new(ErrorKind::Refused, "there is no vector to train codes on"));
        }
        let pq = Pq::train(self.config.pq, live.len(), |row| graph.vector(live[row]), threads);
        let codes = crate::vector::parallel::map(threads, live.len(), |row| {
            pq.encode(graph.vector(live[row]))
        });
        let mut rows = Rows::new(self.config.pq.num_sub);
        rows.extend_to(graph.slot_count(), 0);
        for (slot, code) in live.iter().zip(codes) {
            rows.row_mut(*slot).copy_from_slice(&code);
        }
        self.codes = Some(Codes { pq, rows });
        Ok(())
    }

    /// The `k` vectors nearest to `query`, or all if there are fewer. `ef` overrides the number of
    /// candidates, which is else the largest one of `ef_search`, `rerank_k` and four times `k`.
    ///
    /// # Errors
    ///
    /// As [`HnswIndex::search`].
    pub fn search(&self, query: &[f32], k: usize, ef: Option<usize>) -> Result<Vec<Hit>> {
        Ok(self.answer(&SearchRequest { ef, ..SearchRequest::new(query, k) })?.hits)
    }

    /// Answers a request with all its options, and says what it cost. With a filter, a greatest
    /// distance or `exact`, vectors are compared themselves all the way.
    ///
    /// # Errors
    ///
    /// As [`HnswIndex::search`].
    pub fn answer(&self, request: &SearchRequest<'_>) -> Result<Answer> {
        self.config.check()?;
        let is_plain = matches!(request.filter, Filter::All)
            && request.distance_max.is_none()
            && !request.exact;
        let Some(codes) = self.codes.as_ref().filter(|_| is_plain) else {
            return self.index.answer(request);
        };
        let query = self.config.hnsw.metric.prepare(request.query, self.config.hnsw.dim)?;
        let rerank = self.config.rerank_k.max(RERANKED_PER_HIT * request.k.min(EF_MAX));
        let ef = request.width(self.config.hnsw.ef_search.max(rerank).min(EF_MAX))?;
        let ef = ef.max(request.k).min(self.index.graph.slot_count()).max(1);
        if ef > WIDE && walk_cost(ef, ESTIMATES_PER_EF) >= self.len() as u64 {
            return self.index.answer(&SearchRequest { exact: true, ..*request });
        }
        let answer = self.scratches.with(|scratch| {
            self.walk(codes, &query, ef, scratch);
            let mut hits = self.compare(&query, rerank, scratch);
            nearest(&mut hits, request.k);
            Answer { hits, stats: scratch.stats }
        });
        // Removed ones may have taken the places of others.
        if answer.hits.len() < request.k.min(self.len()) {
            return self.index.answer(request);
        }
        Ok(answer)
    }

    /// Fills the beam with the nearest nodes by their codes.
    fn walk(&self, codes: &Codes, query: &[f32], ef: usize, scratch: &mut Scratch) {
        let graph = &self.index.graph;
        let mut table = std::mem::take(&mut scratch.table);
        codes.pq.table(query, &mut table);
        let distance = |slot: u32| (self.kernels.lookup)(&table, codes.rows.row(slot));
        scratch.seen.begin(graph.slot_count());
        scratch.beam.reset(ef);
        if let Some(start) = graph.descend(query, 0, scratch).map(slot_of) {
            scratch.seen.insert(start);
            scratch.beam.offer(key(distance(start), start));
        }
        while let Some(next) = scratch.beam.next() {
            scratch.fresh.clear();
            for link in graph.neighbours(slot_of(next), 0) {
                if scratch.seen.insert(*link) {
                    codes.rows.prefetch(*link, codes.rows.stride());
                    scratch.fresh.push(*link);
                }
            }
            for slot in &scratch.fresh {
                scratch.beam.offer(key(distance(*slot), *slot));
            }
            scratch.stats.estimates += scratch.fresh.len() as u64;
            scratch.stats.hops += 1;
        }
        scratch.table = table;
    }

    /// The exact distances of the nearest `rerank` nodes of the beam.
    fn compare(&self, query: &[f32], rerank: usize, scratch: &mut Scratch) -> Vec<Hit> {
        let graph = &self.index.graph;
        let near = scratch.beam.keys().iter().map(|key: &Key| slot_of(*key));
        scratch.fresh.clear();
        scratch.fresh.extend(near.filter(|slot| graph.is_live(*slot)).take(rerank));
        graph.measure.rows(query, &graph.vectors, &scratch.fresh, &mut scratch.distances);
        scratch.stats.distances += scratch.fresh.len() as u64;
        let hits = scratch.fresh.iter().zip(&scratch.distances);
        hits.map(|(slot, distance)| Hit { id: graph.ids[*slot as usize], distance: *distance })
            .collect()
    }

    /// Bytes of memory that its vectors, links, ids and codes take.
    pub fn memory_bytes(&self) -> usize {
        let codes = self.codes.as_ref().map_or(0, |codes| codes.rows.memory_bytes());
        self.index.memory_bytes() + codes
    }
}

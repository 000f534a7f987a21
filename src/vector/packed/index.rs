//! The index as its users see it.

use super::lists::full_list;
use super::row::{Layout, Neighbours};
use super::walk::Walk;
use crate::base::{Error, ErrorKind, Result};
use crate::vector::beam::{WIDE, distance_of, slot_of, walk_cost};
use crate::vector::code::rotation::Rotation;
use crate::vector::doors::{self, Doors};
use crate::vector::filter::{EF_MAX, Filter, SearchRequest};
use crate::vector::hit::{Answer, Hit, nearest};
use crate::vector::hnsw::{Graph, HnswConfig, HnswIndex};
use crate::vector::kernel::{Kernels, SCAN_WIDTH, half, kernels};
use crate::vector::measure::{Measure, ScaledQuery};
use crate::vector::parallel;
use crate::vector::rows::Rows;
use std::sync::{Mutex, PoisonError};

/// Rows made at once before they are written.
const ROWS_AT_ONCE: usize = 512;
/// Vectors that can be compared with in the time of a hop, roughly.
const DISTANCES_PER_HOP: usize = 4;
/// Candidates kept for each hit, where the farthest hit tells the end of a range: of as many as are kept
/// too many near ones are missed.
const KEPT_PER_HIT: usize = 3;
/// How many times a filter can be asked in the time of one distance, roughly.
const QUESTIONS_PER_DISTANCE: usize = 8;
/// Seed of the rotation.
const SEED: u64 = 0x7061_636b;

/// Vectors that are found by their nearness, several times as fast as by a [`HnswIndex`], and that
/// do not change: the graph of one, with short codes of each node's neighbours beside it.
///
/// Vectors are kept as floats of 16 bits, which are exact for embeddings of that precision and for
/// small integers; distances are computed from these. A vector takes 6 bytes for each dimension, two
/// for the vector and four for the codes of 32 neighbours, and 392 bytes: 2,696 at 384 dimensions, and
/// one more for where walks begin.
///
/// ```
/// use arqondb::engine::vector::{DistanceMetric, HnswConfig, HnswIndex, PackedIndex};
///
/// # fn main() -> arqondb::Result<()> {
/// let mut index = HnswIndex::new(HnswConfig::new(64, DistanceMetric::Cosine));
/// index.insert(1, vec![0.1; 64])?;
/// let packed = PackedIndex::from_hnsw(index, 1)?;
/// assert_eq!(packed.search(&[0.2; 64], 5, None)?[0].id, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PackedIndex {
    pub(super) config: HnswConfig,
    measure: Measure,
    pub(super) kernels: &'static Kernels,
    pub(super) layout: Layout,
    pub(super) rows: Rows<u8>,
    pub(super) doors: Doors,
    rotation: Rotation,
    /// In ascending order: a node's number is the rank of its id.
    pub(super) ids: Vec<u64>,
    /// By what vectors were multiplied, a power of two, so that 16 bits hold them well.
    pub(super) scale: f32,
    walks: Mutex<Vec<Walk>>,
}

impl PackedIndex {
    /// Packs a graph on up to `threads` threads; what was removed from it is left out. Costs about
    /// half as much as building the graph, and while it runs the memory of both and of a copy of
    /// all vectors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the graph's `m` is above 31: a row has 32 neighbours.
    pub fn from_hnsw(mut index: HnswIndex, threads: usize) -> Result<PackedIndex> {
        let config = *index.config();
        config.check()?;
        if config.m >= SCAN_WIDTH {
            let message = format!("m is {}; a graph that is packed has 31 at most", config.m);
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        index.repair(threads);
        let graph = &index.graph;
        let slots = 0..graph.slot_count() as u32;
        let mut live: Vec<u32> = slots.filter(|slot| graph.is_live(*slot)).collect();
        live.sort_unstable_by_key(|slot| graph.ids[*slot as usize]);
        let rows = Rows::new(Layout::new(config.dim).stride);
        let ids = live.iter().map(|slot| graph.ids[*slot as usize]).collect();
        let mut packed = PackedIndex::of(config, rows, ids, scale(graph, &live));
        packed.fill(graph, &live, threads);
        packed.open(doors::choose(graph, &live));
        Ok(packed)
    }

    /// One without doors.
    pub(super) fn of(config: HnswConfig, rows: Rows<u8>, ids: Vec<u64>, scale: f32) -> PackedIndex {
        let layout = Layout::new(config.dim);
        PackedIndex {
            config,
            measure: Measure::new(config.metric),
            kernels: kernels(),
            layout,
            rows,
            doors: Doors::new(config.metric, layout.code_dim, Vec::new(), |_, _| {}),
            rotation: Rotation::new(layout.code_dim, SEED),
            ids,
            scale,
            walks: Mutex::default(),
        }
    }

    /// Has walks begin at these nodes.
    pub(super) fn open(&mut self, doors: Vec<u32>) {
        let mut vector = Vec::new();
        self.doors = Doors::new(self.config.metric, self.layout.code_dim, doors, |rank, out| {
            vector.clear();
            let halves = self.layout.vector(&self.rows, rank).iter();
            vector.extend(halves.map(|half| half::to_f32(*half) / self.scale));
            self.rotation.apply(&vector, out);
        });
    }

    fn fill(&mut self, graph: &Graph, live: &[u32], threads: usize) {
        let layout = self.layout;
        self.rows.extend_to(live.len(), 0);
        let mut rotated = Rows::new(layout.code_dim);
        rotated.reserve(live.len());
        let mut out = Vec::new();
        let mut places = vec![0; graph.slot_count()];
        for (place, slot) in live.iter().enumerate() {
            places[*slot as usize] = place as u32;
            let vector = graph.vector(*slot);
            layout.put_vector(&mut self.rows, place as u32, vector, self.scale);
            self.rotation.apply(vector, &mut out);
            rotated.push(&out);
        }
        let metric = self.config.metric;
        for (round, slots) in live.chunks(ROWS_AT_ONCE).enumerate() {
            let from = round * ROWS_AT_ONCE;
            let parts = parallel::map(threads, slots.len(), |i| {
                let mut list = full_list(graph, slots[i]);
                list.iter_mut().for_each(|link| *link = places[*link as usize]);
                Neighbours::new(layout, metric, &rotated, (from + i) as u32, &list)
            });
            for (i, part) in parts.iter().enumerate() {
                layout.put_links(&mut self.rows, (from + i) as u32, part);
            }
        }
    }

    /// The settings of the graph it was made of.
    pub fn config(&self) -> &HnswConfig {
        &self.config
    }

    /// Vectors in the index.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Whether a vector with this id is in the index.
    pub fn contains(&self, id: u64) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// The `k` vectors nearest to `query`, or all if there are fewer. `ef` overrides the setting
    /// `ef_search`.
    ///
    /// # Errors
    ///
    /// As [`HnswIndex::search`].
    pub fn search(&self, query: &[f32], k: usize, ef: Option<usize>) -> Result<Vec<Hit>> {
        Ok(self.answer(&SearchRequest { ef, ..SearchRequest::new(query, k) })?.hits)
    }

    /// Answers a request with all its options, and says what it cost.
    ///
    /// # Errors
    ///
    /// As [`HnswIndex::search`].
    pub fn answer(&self, request: &SearchRequest<'_>) -> Result<Answer> {
        let query = self.measure.metric.prepare(request.query, self.config.dim)?;
        let ef = request.width(self.config.ef_search)?;
        // A poisoned list means that a push or a pop panicked, which leaves it whole.
        let kept = self.walks.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut walk = kept.unwrap_or_default();
        walk.stats = Default::default();
        self.rotation.apply(&query, &mut walk.rotated);
        walk.tables.fill(&walk.rotated);
        walk.query.set(&query, self.scale);
        let mut hits = self.by_best_way(&mut walk, ef, request);
        if let Some(limit) = request.distance_max {
            hits.retain(|hit| hit.distance <= limit);
        }
        nearest(&mut hits, request.k);
        let stats = walk.stats;
        walk.give_back();
        self.walks.lock().unwrap_or_else(PoisonError::into_inner).push(walk);
        Ok(Answer { hits, stats })
    }

    /// By a walk, by wider ones if it finds too few, and in the end by comparing with all.
    fn by_best_way(&self, walk: &mut Walk, ef: usize, request: &SearchRequest<'_>) -> Vec<Hit> {
        let matches = request.filter.estimated_matches(self.len(), |at| self.ids[at]);
        let is_asked = matches!(request.filter, Filter::Where(_));
        let questions = if is_asked { self.len() / QUESTIONS_PER_DISTANCE } else { 0 };
        let is_filtered = !matches!(request.filter, Filter::All);
        let width = (ef as u64 * self.len() as u64 / matches as u64).min(EF_MAX as u64) as usize;
        let is_few = is_filtered
            && (matches + questions) as u64 <= walk_cost(width, DISTANCES_PER_HOP as u64);
        // Within a distance it begins with few.
        let widest = if request.distance_max.is_some() { ef } else { ef.max(request.k) };
        let cost = walk_cost(widest, DISTANCES_PER_HOP as u64);
        let is_wide = !is_filtered && widest > WIDE && self.len() as u64 <= cost;
        if request.exact || is_few || is_wide {
            return self.exact(walk, request);
        }
        let ef = if is_filtered { width.max(ef) } else { ef };
        let takes = request.filter.test();
        let accept = |slot: u32| takes(self.ids[slot as usize]);
        let wanted = request.k.min(self.len());
        let (mut k, mut ef) = match request.distance_max {
            // The nearest few tell whether more lie within the distance.
            Some(_) => (request.k.min((ef / KEPT_PER_HIT).max(1)), ef),
            None => (request.k, ef.max(request.k)),
        };
        loop {
            self.walk(walk, k, ef, &accept);
            let hits = self.hits(walk);
            let farthest = hits.last().map_or(f32::INFINITY, |hit| hit.distance);
            let has_all = match request.distance_max {
                Some(limit) => hits.len() >= k.min(wanted) && (k >= wanted || farthest > limit),
                None => hits.len() >= wanted,
            };
            if has_all {
                return hits;
            }
            (k, ef) = (wanted.min(k * 4), (ef * 4).min(EF_MAX));
            if walk.stats.hops as usize + ef > self.len() / DISTANCES_PER_HOP {
                return self.exact(walk, request);
            }
        }
    }

    /// All that match, or the nearest of them.
    fn exact(&self, walk: &mut Walk, request: &SearchRequest<'_>) -> Vec<Hit> {
        walk.stats.exact = true;
        let mut compare = |slot: u32| {
            let distance = self.distance(&walk.query, slot);
            walk.stats.distances += 1;
            walk.exact.push(Hit { id: self.ids[slot as usize], distance });
        };
        match request.filter {
            Filter::Ids(ids) => {
                let slot = |id| self.ids.binary_search(id).ok().map(|rank| rank as u32);
                let mut slots: Vec<u32> = ids.iter().filter_map(slot).collect();
                slots.sort_unstable();
                slots.dedup();
                slots.into_iter().for_each(&mut compare);
            }
            filter => {
                let takes = filter.test();
                let slots = 0..self.len() as u32;
                slots.filter(|slot| takes(self.ids[*slot as usize])).for_each(&mut compare);
            }
        }
        let mut hits = std::mem::take(&mut walk.exact);
        nearest(&mut hits, request.k);
        hits
    }

    fn hits(&self, walk: &Walk) -> Vec<Hit> {
        let hit =
            |key: &u64| Hit { id: self.ids[slot_of(*key) as usize], distance: distance_of(*key) };
        walk.found.keys().iter().map(hit).collect()
    }

    /// The distance of a query and a node.
    #[inline(always)]
    pub(super) fn distance(&self, query: &ScaledQuery, slot: u32) -> f32 {
        query.distance(self.measure, self.layout.vector(&self.rows, slot))
    }

    /// Bytes of memory that its rows, ids and doors take.
    pub fn memory_bytes(&self) -> usize {
        let ids = self.ids.len() * size_of::<u64>();
        self.rows.memory_bytes() + ids + self.doors.memory_bytes()
    }
}

/// The power of two that brings the largest number to between 512 and 1024.
fn scale(graph: &Graph, live: &[u32]) -> f32 {
    let largest_of = |slot: &u32| graph.vector(*slot).iter().fold(0.0f32, |m, x| m.max(x.abs()));
    half::scale(live.iter().map(largest_of).fold(0.0f32, f32::max))
}

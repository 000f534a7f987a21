//! Links and codes in memory, and the vectors wherever their owner keeps them.

use crate::base::{Error, Result};
use crate::vector::beam::{Scratch, Scratches, WIDE, distance_of, key, slot_of, walk_cost};
use crate::vector::code::rabitq::{RabitCodes, RabitQuery};
use crate::vector::doors::{self, BEGINNINGS, Doors};
use crate::vector::filter::{EF_MAX, Filter, SearchRequest};
use crate::vector::hit::{Answer, Hit, nearest};
use crate::vector::hnsw::{HnswConfig, HnswIndex};
use crate::vector::kernel::{Kernels, kernels};
use crate::vector::measure::Measure;
use crate::vector::parallel;
use crate::vector::rows::Rows;
use crate::vector::spfresh::FetchLive;

/// How much wider a walk is made that has not come to the end of a range.
const WIDER: usize = 4;
/// Vectors fetched at once.
const FETCHED_AT_ONCE: usize = 16;
/// Estimates that a walk makes for each candidate it keeps, roughly.
const ESTIMATES_PER_EF: u64 = 12;
/// How many times a filter can be asked in the time of one estimate, roughly.
const QUESTIONS_PER_ESTIMATE: usize = 8;
/// Seed of the rotation.
const SEED: u64 = 0x636f_6d70;
/// Fills up a list of links.
const NONE: u32 = u32::MAX;

/// A sealed graph in little memory: codes of 4 or 8 bits for each dimension, links and ids. A
/// search walks by the codes and then fetches the vectors that may belong to the answer, as far as
/// the error bound of their codes says so, from wherever their owner keeps them.
///
/// At 384 dimensions, 4 bits and `m` 16 it takes 341 bytes a vector: 204 of code, 128 of links, 8
/// of id, and 1 for where walks begin.
#[derive(Debug)]
pub struct CompactIndex {
    config: HnswConfig,
    measure: Measure,
    kernels: &'static Kernels,
    codes: RabitCodes,
    links: Rows<u32>,
    /// In ascending order: a node's number is the rank of its id.
    ids: Vec<u64>,
    doors: Doors,
    scratches: Scratches,
}

impl CompactIndex {
    /// Seals a graph on up to `threads` threads, with codes of `bits` a dimension, 4 or 8.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::base::ErrorKind::InvalidArgument) for other bits.
    pub fn from_hnsw(mut index: HnswIndex, bits: u8, threads: usize) -> Result<CompactIndex> {
        let config = *index.config();
        config.check()?;
        if !matches!(bits, 4 | 8) {
            return Err(Error::invalid(format!("a code has 4 or 8 bits a dimension, not {bits}")));
        }
        index.repair(threads);
        let graph = &index.graph;
        let slots = 0..graph.slot_count() as u32;
        let mut live: Vec<u32> = slots.filter(|slot| graph.is_live(*slot)).collect();
        live.sort_unstable_by_key(|slot| graph.ids[*slot as usize]);
        let mut sums = vec![0.0f64; config.dim];
        for slot in &live {
            let sums = sums.iter_mut().zip(graph.vector(*slot));
            sums.for_each(|(sum, value)| *sum += f64::from(*value));
        }
        let count = live.len().max(1) as f64;
        let center = sums.iter().map(|sum| (sum / count) as f32).collect();
        let mut codes = RabitCodes::new(config.metric, bits, center, SEED);
        codes.reserve(live.len());
        let encoded = parallel::map(threads, live.len(), |i| codes.encode(graph.vector(live[i])));
        encoded.iter().for_each(|row| codes.push(row));
        let mut ranks = vec![NONE; graph.slot_count()];
        live.iter().zip(0..).for_each(|(slot, rank)| ranks[*slot as usize] = rank);
        let mut links = Rows::new(2 * config.m);
        links.extend_to(live.len(), NONE);
        for (slot, rank) in live.iter().zip(0..) {
            let list = graph.neighbours(*slot, 0).iter().map(|link| ranks[*link as usize]);
            links.row_mut(rank).iter_mut().zip(list).for_each(|(place, link)| *place = link);
        }
        let ranks = doors::choose(graph, &live);
        let doors = Doors::new(config.metric, codes.dim(), ranks, |rank, out| {
            codes.rotate(graph.vector(live[rank as usize]), out);
        });
        Ok(CompactIndex {
            config,
            measure: graph.measure,
            kernels: kernels(),
            codes,
            links,
            ids: live.iter().map(|slot| graph.ids[*slot as usize]).collect(),
            doors,
            scratches: Scratches::default(),
        })
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

    /// Answers a request; `fetch` shows the vectors that are compared. One that it does not show is
    /// gone, and no other is looked for in its place unless the walk had met it.
    ///
    /// With a filter it walks, or estimates all that match, whichever takes fewer estimates, and
    /// fetches only the nearest of them: what it costs is counted in estimates, of which some fifty
    /// take as long as fetching a vector from a file.
    ///
    /// # Errors
    ///
    /// As [`HnswIndex::search`], those of `fetch`, and if what it brings is no vector.
    pub fn answer(&self, request: &SearchRequest<'_>, fetch: &mut FetchLive<'_>) -> Result<Answer> {
        let query = self.measure.metric.prepare(request.query, self.config.dim)?;
        let ef = request.width(self.config.ef_search)?;
        // Within a distance it begins with few, and goes on until the last of them lies beyond.
        let ef = if request.distance_max.is_some() { ef } else { ef.max(request.k) };
        // No beam holds more than there are.
        let ef = ef.min(self.len().max(1));
        self.scratches.with(|scratch| {
            let mut ready = std::mem::take(&mut scratch.rabit);
            self.codes.prepare(&query, &mut ready);
            // No fewer than these are compared in any case.
            let is_few = match request.filter {
                Filter::Ids(ids) => ids.len() <= request.k,
                _ => false,
            };
            let mut compared = Compared { query: &query, hits: Vec::new(), gone: 0 };
            let limit = request.distance_max.unwrap_or(f32::INFINITY);
            let is_short = request.exact
                || is_few
                || self.compare_near(&ready, ef, request, &mut compared, fetch, scratch)?;
            if is_short {
                self.compare_all(request, &mut compared, fetch, scratch)?;
            }
            let mut hits = compared.hits;
            hits.retain(|hit| hit.distance <= limit);
            nearest(&mut hits, request.k);
            scratch.rabit = ready;
            Ok(Answer { hits, stats: scratch.stats })
        })
    }

    /// Compares the nearest, of which a walk finds `ef`, within a distance ever more. Whether there may
    /// be others that are wanted.
    fn compare_near(
        &self,
        query: &RabitQuery,
        mut ef: usize,
        request: &SearchRequest<'_>,
        compared: &mut Compared<'_>,
        fetch: &mut FetchLive<'_>,
        scratch: &mut Scratch,
    ) -> Result<bool> {
        let limit = request.distance_max.unwrap_or(f32::INFINITY);
        loop {
            compared.begin();
            let is_whole = self.find(query, ef, request, scratch);
            let is_beyond = self.compare(query, request, compared, fetch, scratch)?;
            let found = compared.hits.iter().filter(|hit| hit.distance <= limit).count();
            let is_short =
                !is_whole && !is_beyond && found + compared.gone < request.k.min(self.len());
            if !is_short || request.distance_max.is_none() || ef >= self.len() {
                return Ok(is_short);
            }
            ef = ef.saturating_mul(WIDER).min(self.len());
        }
    }

    /// Fills `scratch.found` with the `ef` nearest nodes that match, by their codes: by a walk, the
    /// wider the fewer match, or by the codes of all that match if that is less. True if there are
    /// no others that match.
    fn find(
        &self,
        query: &RabitQuery,
        ef: usize,
        request: &SearchRequest<'_>,
        scratch: &mut Scratch,
    ) -> bool {
        let matches = request.filter.estimated_matches(self.len(), |at| self.ids[at]);
        let is_asked = matches!(request.filter, Filter::Where(_));
        let questions = if is_asked { self.len() / QUESTIONS_PER_ESTIMATE } else { 0 };
        let width = (ef as u64 * self.len() as u64 / matches as u64).min(EF_MAX as u64) as usize;
        let is_filtered = !matches!(request.filter, Filter::All);
        let is_cheap = walk_cost(width, ESTIMATES_PER_EF) < (matches + questions) as u64;
        if is_cheap || (!is_filtered && ef <= WIDE) {
            self.walk(query, width.max(ef), ef, request, scratch);
            return false;
        }
        let mut keys = Vec::new();
        let mut look_at = |rank: usize| {
            let estimate = self.codes.estimate(self.kernels, query, rank as u32);
            keys.push(key(estimate, rank as u32));
        };
        self.for_each_match(&request.filter, &mut look_at);
        scratch.stats.estimates += keys.len() as u64;
        let is_whole = keys.len() < ef;
        scratch.found.fill(ef, keys);
        is_whole
    }

    /// Calls `look_at` with the rank of each vector that a filter takes, in ascending order.
    fn for_each_match(&self, filter: &Filter<'_>, look_at: &mut dyn FnMut(usize)) {
        match filter {
            Filter::Ids(ids) => {
                let rank = |id: &u64| self.ids.binary_search(id).ok();
                let mut ranks: Vec<usize> = ids.iter().filter_map(rank).collect();
                ranks.sort_unstable();
                ranks.dedup();
                ranks.into_iter().for_each(look_at);
            }
            Filter::Where(accepts) => {
                (0..self.len()).filter(|rank| accepts(self.ids[*rank])).for_each(look_at);
            }
            Filter::All => (0..self.len()).for_each(look_at),
        }
    }

    /// Fills `scratch.found` with the `ef` nearest nodes that match of those that a walk with a beam
    /// of `width` meets.
    fn walk(
        &self,
        query: &RabitQuery,
        width: usize,
        ef: usize,
        request: &SearchRequest<'_>,
        scratch: &mut Scratch,
    ) {
        let takes = request.filter.test();
        let is_filtered = !matches!(request.filter, Filter::All);
        scratch.seen.begin(self.len());
        scratch.beam.reset(width);
        scratch.found.reset(ef);
        scratch.fresh.clear();
        self.begin(query, scratch);
        loop {
            for slot in &scratch.fresh {
                let key = key(self.codes.estimate(self.kernels, query, *slot), *slot);
                scratch.beam.offer(key);
                if is_filtered && takes(self.ids[*slot as usize]) {
                    scratch.found.offer(key);
                }
            }
            scratch.stats.estimates += scratch.fresh.len() as u64;
            let Some(next) = scratch.beam.next() else { break };
            scratch.stats.hops += 1;
            scratch.fresh.clear();
            for link in self.links.row(slot_of(next)) {
                if *link == NONE {
                    break;
                }
                if scratch.seen.insert(*link) {
                    self.codes.prefetch(*link);
                    scratch.fresh.push(*link);
                }
            }
            if let Some(later) = scratch.beam.peek() {
                self.links.prefetch(slot_of(later), self.links.stride() * 4);
            }
        }
        if !is_filtered {
            std::mem::swap(&mut scratch.beam, &mut scratch.found);
        }
    }

    /// Puts the nodes that the walk begins at into `scratch.fresh`.
    fn begin(&self, query: &RabitQuery, scratch: &mut Scratch) {
        scratch.doors.reset(BEGINNINGS);
        scratch.tables.fill(query.rotated());
        self.doors.nearest(self.kernels, query.rotated(), &scratch.tables, &mut scratch.doors);
        scratch.stats.estimates += self.doors.ranks().len() as u64;
        let doors = scratch.doors.keys().iter().map(|door| slot_of(*door));
        scratch.fresh.extend(doors.filter(|door| scratch.seen.insert(*door)));
    }

    /// Compares those that may be among the `k` nearest within the distance, from the nearest estimate
    /// on. Whether the last of them lies beyond it: then so do those that were not met.
    fn compare(
        &self,
        query: &RabitQuery,
        request: &SearchRequest<'_>,
        compared: &mut Compared<'_>,
        fetch: &mut FetchLive<'_>,
        scratch: &mut Scratch,
    ) -> Result<bool> {
        let within = request.distance_max.unwrap_or(f32::INFINITY);
        let (mut limit, mut is_beyond) = (within, false);
        let mut wanted: Vec<u64> = Vec::new();
        let found = scratch.found.keys();
        for (at, key) in found.iter().enumerate() {
            let slot = slot_of(*key);
            let least = distance_of(*key) - self.codes.error(query, slot);
            if least <= limit {
                wanted.push(self.ids[slot as usize]);
            }
            is_beyond = least > within;
            // The first `k` tell how near the others have to be.
            let at_once = match compared.hits.len() < request.k {
                true => (request.k - compared.hits.len()).min(FETCHED_AT_ONCE),
                false => FETCHED_AT_ONCE,
            };
            if wanted.len() >= at_once || at + 1 == found.len() {
                scratch.stats.distances += wanted.len() as u64;
                compared.fetch(self, &wanted, fetch)?;
                wanted.clear();
                if compared.hits.len() >= request.k {
                    nearest(&mut compared.hits, request.k);
                    limit = compared.hits[request.k - 1].distance.min(within);
                }
            }
        }
        Ok(is_beyond)
    }

    /// Compares with all that match.
    fn compare_all(
        &self,
        request: &SearchRequest<'_>,
        compared: &mut Compared<'_>,
        fetch: &mut FetchLive<'_>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        scratch.stats.exact = true;
        compared.hits.clear();
        let mut matching = Vec::new();
        self.for_each_match(&request.filter, &mut |rank| matching.push(self.ids[rank]));
        for ids in matching.chunks(FETCHED_AT_ONCE) {
            scratch.stats.distances += ids.len() as u64;
            compared.fetch(self, ids, fetch)?;
            if compared.hits.len() > 4 * request.k {
                nearest(&mut compared.hits, request.k);
            }
        }
        Ok(())
    }

    /// Bytes of memory that its codes, links, ids and doors take.
    pub fn memory_bytes(&self) -> usize {
        let ids = self.ids.len() * size_of::<u64>();
        self.codes.memory_bytes() + self.links.memory_bytes() + ids + self.doors.memory_bytes()
    }
}

/// Vectors that were fetched, and their distances.
struct Compared<'a> {
    query: &'a [f32],
    hits: Vec<Hit>,
    /// How many there are not any more.
    gone: usize,
}

impl Compared<'_> {
    /// Forgets what was found.
    fn begin(&mut self) {
        self.hits.clear();
        self.gone = 0;
    }

    fn fetch(
        &mut self,
        index: &CompactIndex,
        ids: &[u64],
        fetch: &mut FetchLive<'_>,
    ) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let Measure { metric, .. } = index.measure;
        let (before, mut refused) = (self.hits.len(), None);
        fetch(ids, &mut |id, vector| match metric.prepare(vector, index.config.dim) {
            Ok(vector) => {
                let distance = index.measure.pair(self.query, &vector);
                self.hits.push(Hit { id, distance });
            }
            Err(e) => refused = Some(e.context(format!("vector {id}"))),
        })?;
        self.gone += ids.len().saturating_sub(self.hits.len() - before);
        refused.map_or(Ok(()), Err)
    }
}

//! How a search is done: by a walk, by a walk that keeps only what matches, or by comparing with
//! all that matches.
//!
//! A walk meets a match only now and then if few vectors match, and in the end sees more vectors
//! than there are matches. So the matches are counted, or estimated from a sample, before the way
//! is chosen: that which costs least, counted in distances computed. A walk that has cost as much as
//! the exact way gives up and the exact way is taken, which bounds the cost at twice that. With fewer
//! than `k` matches all are returned.

use super::graph::Graph;
use crate::base::Result;
use crate::vector::beam::{Beam, Scratch, distance_of, slot_of, walk_cost};
use crate::vector::filter::{EF_MAX, Filter, SearchRequest};
use crate::vector::hit::{Answer, Hit, nearest};

/// Slots at which a filter is tried to estimate how many match.
const SAMPLE: usize = 400;
/// Distances that a walk computes for each candidate it keeps, roughly.
const DISTANCES_PER_EF: u64 = 12;
/// A walk goes from match to match if a smaller share matches, with more a plain walk finds more in
/// the same time,
const AMONG_BELOW: f64 = 0.15;
/// and if so many matches are within two links of a node, or there are hardly any ways between them.
const AMONG_MATCHES: f64 = 20.0;
/// Such a walk keeps so many times `ef` over the root of the share: it meets fewer of the nodes near
/// the query, and so needs more to find as many of the nearest. Measured on embeddings of text.
const AMONG_WIDTH: f64 = 0.63;
/// What it takes for each candidate it keeps, in the time of a distance: about a third are
/// distances, the rest is asking for matches among neighbours of neighbours.
const DISTANCES_AMONG: u64 = 36;
/// How many times a filter can be asked in the time of one distance: 60 if the answer is a bit in
/// memory, 8 if it is looked up in a map.
const QUESTIONS_PER_DISTANCE: u64 = 32;
/// With one dead of so many a walk keeps as many more nodes as are dead among all; with more it asks
/// each whether it is.
const LIVE_PER_DEAD: usize = 4;
/// Rows compared at once by an exact search.
const BLOCK: usize = 64;

impl Graph {
    pub(super) fn search(
        &self,
        request: &SearchRequest<'_>,
        scratch: &mut Scratch,
    ) -> Result<Answer> {
        let query = self.measure.metric.prepare(request.query, self.config.dim)?;
        let ef = request.width(self.config.ef_search)?;
        let mut hits = match request.distance_max {
            _ if request.exact => self.exact(&query, request, scratch),
            Some(limit) => self.within(&query, ef, limit, request, scratch),
            None => self.by_best_way(&query, ef.max(request.k), request.k, request, scratch),
        };
        if let Some(limit) = request.distance_max {
            hits.retain(|hit| hit.distance <= limit);
        }
        nearest(&mut hits, request.k);
        Ok(Answer { hits, stats: scratch.stats })
    }

    /// All within a distance, or the `k` nearest of them: with ever more candidates, until the
    /// farthest lies beyond it.
    fn within(
        &self,
        query: &[f32],
        ef: usize,
        limit: f32,
        request: &SearchRequest<'_>,
        scratch: &mut Scratch,
    ) -> Vec<Hit> {
        let mut ef = ef;
        loop {
            let hits = self.by_best_way(query, ef, ef.min(request.k), request, scratch);
            // A filter may match fewer than are kept.
            let has_all = hits.len() >= request.k || hits.iter().any(|hit| hit.distance > limit);
            if has_all || scratch.stats.exact {
                return hits;
            }
            ef = ef.saturating_mul(2).min(EF_MAX);
            if ef > self.live() || ef == EF_MAX {
                return self.exact(query, request, scratch);
            }
        }
    }

    /// The `ef` nearest that match, or so; at least `wanted` if as many match. An exact search
    /// gives as many as the request says.
    fn by_best_way(
        &self,
        query: &[f32],
        ef: usize,
        wanted: usize,
        request: &SearchRequest<'_>,
        scratch: &mut Scratch,
    ) -> Vec<Hit> {
        // How many vectors match, and what comparing with all of them costs, in distances.
        let (matches, exact_cost) = match request.filter {
            Filter::All => (self.live() as u64, self.live() as u64),
            // They need not be looked for.
            Filter::Ids(ids) => (ids.len() as u64, ids.len() as u64),
            Filter::Where(accepts) => {
                let matches = self.estimated_matches(accepts);
                (matches, matches + self.live() as u64 / QUESTIONS_PER_DISTANCE)
            }
        };
        let share = matches.max(1) as f64 / self.live().max(1) as f64;
        let within_two_links = (2.0 * self.config.m as f64).powi(2);
        let among = share < AMONG_BELOW && share * within_two_links >= AMONG_MATCHES;
        let width = match among {
            true => (ef as f64 * AMONG_WIDTH / share.sqrt()) as usize,
            false => ef,
        };
        let walk_cost = match among {
            true => (width as u64 * DISTANCES_AMONG) as f64,
            false => walk_cost(width, DISTANCES_PER_EF) as f64 / share,
        };
        if exact_cost as f64 <= walk_cost {
            return self.exact(query, request, scratch);
        }
        if matches!(request.filter, Filter::All) && self.dead * LIVE_PER_DEAD <= self.live() {
            // As many more as are dead among all.
            let spare = (ef * self.dead).div_ceil(self.live().max(1));
            let hits = self.by_walk(query, ef + spare, scratch);
            match hits.len() < wanted.min(self.live()) {
                true if self.dead == 0 => return self.exact(query, request, scratch),
                false if self.dead == 0 || hits.len() * 4 >= ef.min(self.live()) * 3 => {
                    return hits;
                }
                // Those near the query are dead.
                _ => {}
            }
        }
        let Some(start) = self.descend(query, 0, scratch) else { return Vec::new() };
        let mut listed = Vec::new();
        if let Filter::Ids(ids) = request.filter {
            listed.resize(self.slot_count(), false);
            let slots = ids.iter().filter_map(|id| self.slots.get(*id));
            slots.for_each(|slot| listed[slot as usize] = true);
        }
        let accept = |slot: u32| match request.filter {
            Filter::Ids(_) => listed[slot as usize],
            Filter::Where(accepts) => self.is_live(slot) && accepts(self.ids[slot as usize]),
            Filter::All => self.is_live(slot),
        };
        let is_done = match among {
            true => self.walk_among(query, start, width, exact_cost, &accept, scratch),
            false => self.walk_where(query, start, width, exact_cost, &accept, scratch),
        };
        if !is_done || scratch.found.keys().len() < wanted {
            return self.exact(query, request, scratch);
        }
        self.hits(&scratch.found)
    }

    fn by_walk(&self, query: &[f32], ef: usize, scratch: &mut Scratch) -> Vec<Hit> {
        let Some(start) = self.descend(query, 0, scratch) else { return Vec::new() };
        self.walk(query, &[start], 0, ef, scratch);
        self.hits(&scratch.beam)
    }

    fn hits(&self, beam: &Beam) -> Vec<Hit> {
        let hit =
            |key: &u64| Hit { id: self.ids[slot_of(*key) as usize], distance: distance_of(*key) };
        let is_live = |key: &&u64| self.is_live(slot_of(**key));
        beam.keys().iter().filter(is_live).map(hit).collect()
    }

    /// How many live vectors a filter takes, judged by slots all over the table.
    fn estimated_matches(&self, accepts: &dyn Fn(u64) -> bool) -> u64 {
        let slots = self.slot_count();
        let step = slots.div_ceil(SAMPLE).max(1);
        let sample = (0..slots).step_by(step).filter(|slot| self.is_live(*slot as u32));
        let (mut asked, mut taken) = (0, 0);
        for slot in sample {
            asked += 1;
            taken += u64::from(accepts(self.ids[slot]));
        }
        (self.live() as u64 * taken).checked_div(asked).unwrap_or(0)
    }

    /// Every live vector that may be returned, with its distance; of many only the nearest.
    fn exact(&self, query: &[f32], request: &SearchRequest<'_>, scratch: &mut Scratch) -> Vec<Hit> {
        scratch.stats.exact = true;
        let mut kept = Kept { hits: Vec::new(), k: request.k, limit: f32::INFINITY };
        let mut block: Vec<u32> = Vec::with_capacity(BLOCK);
        let mut take = |slot: u32, scratch: &mut Scratch| {
            block.push(slot);
            if block.len() == BLOCK {
                self.compare(query, &block, &mut kept, scratch);
                block.clear();
            }
        };
        match request.filter {
            Filter::Ids(ids) => {
                let mut slots: Vec<u32> = ids.iter().filter_map(|id| self.slots.get(*id)).collect();
                slots.sort_unstable();
                slots.dedup();
                slots.into_iter().for_each(|slot| take(slot, scratch));
            }
            filter => {
                let accepts = |id| match filter {
                    Filter::Where(accepts) => accepts(id),
                    _ => true,
                };
                for slot in 0..self.slot_count() as u32 {
                    if self.is_live(slot) && accepts(self.ids[slot as usize]) {
                        take(slot, scratch);
                    }
                }
            }
        }
        self.compare(query, &block, &mut kept, scratch);
        kept.hits
    }

    fn compare(&self, query: &[f32], block: &[u32], kept: &mut Kept, scratch: &mut Scratch) {
        self.measure.rows(query, &self.vectors, block, &mut scratch.distances);
        scratch.stats.distances += block.len() as u64;
        for (distance, slot) in scratch.distances.iter().zip(block) {
            if *distance <= kept.limit {
                kept.hits.push(Hit { id: self.ids[*slot as usize], distance: *distance });
            }
        }
        kept.shrink();
    }
}

/// The nearest hits of an exact search, and now and then some more.
struct Kept {
    hits: Vec<Hit>,
    k: usize,
    /// What lies beyond is not among the nearest.
    limit: f32,
}

impl Kept {
    fn shrink(&mut self) {
        if self.hits.len() > 2 * self.k + BLOCK {
            self.hits.select_nth_unstable_by(self.k - 1, Hit::order);
            self.hits.truncate(self.k);
            self.limit = self.hits[self.k - 1].distance;
        }
    }
}

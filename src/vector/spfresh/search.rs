//! Answers: postings near the query, then the vectors nearest by their codes.

use super::index::SpfreshIndex;
use super::postings::{FetchLive, Postings, entries, pages};
use crate::base::Result;
use crate::vector::beam::{Key, distance_of, key, slot_of};
use crate::vector::code::spectral::SpectralQuery;
use crate::vector::filter::{EF_MAX, Filter, SearchRequest};
use crate::vector::hit::{Answer, Hit, SearchStats, nearest};
use crate::vector::ids::Mix;
use crate::vector::kernel::kernels;
use crate::vector::measure::Measure;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// Vectors fetched at once when there are `k`, which few more will displace.
const FETCHED_AT_ONCE: usize = 2;
/// Vectors fetched at once when all are.
const MANY_AT_ONCE: usize = 256;
/// Deviations beyond the `k`th hit within which an estimate is fetched.
const DEVIATIONS: f32 = 0.4;
/// The same with a filter: beside the postings that are read for it, some more vectors cost little.
const FILTER_DEVIATIONS: f32 = 0.8;
/// Vectors that are fetched of those nearest by their codes for each hit, roughly.
const FETCHED_PER_HIT: usize = 3;
/// The same beyond the border of a range.
const RANGE_DEVIATIONS: f32 = 2.0;

/// A search on its way.
struct Search<'a> {
    index: &'a SpfreshIndex,
    request: &'a SearchRequest<'a>,
    query: Vec<f32>,
    codes: SpectralQuery,
    /// The same for postings with codes of the model before.
    old_codes: SpectralQuery,
    accept: &'a dyn Fn(u64) -> bool,
    /// Ids that were met, by rank, and the rank of each. One may have entries of vectors that it had
    /// before: it stands in `ahead` for each that is nearer than those met before, and is fetched
    /// once.
    ids: Vec<u64>,
    met: HashMap<u64, u32, Mix>,
    /// The nearest estimate of each, by rank; what was fetched has none that could be nearer.
    nearest: Vec<f32>,
    /// Entries that were read.
    scanned: u64,
    ahead: BinaryHeap<Reverse<Key>>,
    hits: Vec<Hit>,
    stats: SearchStats,
}

impl SpfreshIndex {
    /// Answers a request with all its options, and says what it cost: `pages_read` of postings, and
    /// `distances` of vectors fetched. `ef` is the number of postings that are read, more with a
    /// filter. Of vectors named by their ids all are fetched, if these are fewer reads than those of
    /// postings and of the nearest by their codes: so it reads about as much as the cheaper of both.
    ///
    /// # Errors
    ///
    /// As [`HnswIndex::search`](crate::vector::HnswIndex::search), those of reading and fetching,
    /// and [`ErrorKind::Corruption`](crate::base::ErrorKind::Corruption) if a posting is damaged.
    pub fn answer(
        &self,
        request: &SearchRequest<'_>,
        fetch: &mut FetchLive<'_>,
        postings: &dyn Postings,
    ) -> Result<Answer> {
        let query = self.config.metric.prepare(request.query, self.config.dim)?;
        let ef = request.width(self.config.ef_search)?;
        let accept = request.filter.test();
        let mut search = Search {
            index: self,
            request,
            codes: SpectralQuery::default(),
            old_codes: SpectralQuery::default(),
            query,
            accept: &accept,
            ids: Vec::new(),
            met: HashMap::default(),
            nearest: Vec::new(),
            scanned: 0,
            ahead: BinaryHeap::new(),
            hits: Vec::new(),
            stats: SearchStats::default(),
        };
        search.run(ef, fetch, postings)?;
        nearest(&mut search.hits, request.k);
        Ok(Answer { hits: search.hits, stats: search.stats })
    }
}

impl SpfreshIndex {
    /// Postings that are read where one vector in `1 / share` matches: the nearest matches are
    /// farther away than the nearest vectors, but not by as much as there are fewer of them. On
    /// embeddings of text so many find more of the nearest than `ef` do without a filter.
    fn postings_for(&self, ef: usize, share: f64) -> usize {
        ((ef as f64 * share.powf(-0.7)) as usize).min(self.held.len())
    }

    /// About how many reads it takes to find the nearest of `matches` by postings, and to fetch them.
    fn reads_by_postings(&self, ef: usize, k: usize, matches: usize) -> usize {
        let share = (matches.max(1) as f64 / self.len().max(1) as f64).min(1.0);
        self.postings_for(ef, share) + k.saturating_mul(FETCHED_PER_HIT)
    }
}

impl Search<'_> {
    fn run(&mut self, ef: usize, fetch: &mut FetchLive<'_>, postings: &dyn Postings) -> Result<()> {
        if let Filter::Ids(ids) = self.request.filter
            && (self.request.exact
                || ids.len() <= self.index.reads_by_postings(ef, self.request.k, ids.len()))
        {
            // They need not be looked for.
            self.stats.exact = true;
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids.dedup();
            return ids.chunks(MANY_AT_ONCE).try_for_each(|some| self.fetch(some, fetch));
        }
        self.index.model.prepare(&self.query, &mut self.codes);
        if let Some(retired) = &self.index.retired {
            retired.model.prepare(&self.query, &mut self.old_codes);
        }
        let is_filtered = !matches!(self.request.filter, Filter::All);
        let all = self.index.held.len();
        let mut count = if self.request.exact { all } else { ef.min(all) };
        let mut read: HashSet<u64> = HashSet::new();
        loop {
            let probes = match count < all {
                true => self.index.probes(&self.query, count)?,
                false => self.index.posting_numbers(),
            };
            let fresh: Vec<u64> = probes.into_iter().filter(|n| read.insert(*n)).collect();
            self.scan(&fresh, postings)?;
            // The fewer match, the farther away the nearest of them are.
            let scanned = self.scanned.max(1) as f64;
            let share = (self.ids.len() as f64 + 1.0) / (scanned + 1.0);
            let wider = self.index.postings_for(ef, share);
            if is_filtered && count < wider {
                count = wider;
                continue;
            }
            let before = self.hits.len();
            self.compare(fetch)?;
            // Within a distance, as long as more postings bring more.
            let is_done = match self.request.distance_max {
                Some(_) => self.hits.len() >= self.request.k || self.hits.len() == before,
                None => self.hits.len() >= self.request.k,
            };
            if is_done || count >= all {
                self.stats.exact = self.request.exact;
                return Ok(());
            }
            let more = count.saturating_mul(2).min(EF_MAX).min(all);
            if more == count {
                // As many postings as a search may read: what they have is the answer.
                return Ok(());
            }
            count = more;
        }
    }

    /// Estimates all entries of postings that match.
    fn scan(&mut self, numbers: &[u64], postings: &dyn Postings) -> Result<()> {
        postings.read(numbers, &mut |number, bytes| {
            self.stats.pages_read += pages(bytes);
            let model = self.index.model_of(number);
            let codes = match self.index.is_latest(number) {
                true => &self.codes,
                false => &self.old_codes,
            };
            for (id, row) in entries(number, bytes, model.row_bytes())? {
                self.scanned += 1;
                if !(self.accept)(id) {
                    continue;
                }
                // One that is no number, or below all, tells nothing: the vector has to be looked at.
                let estimate = model.estimate(kernels(), codes, row).max(f32::MIN);
                self.stats.estimates += 1;
                let rank = *self.met.entry(id).or_insert(self.ids.len() as u32);
                let is_new = rank as usize == self.ids.len();
                if is_new {
                    self.ids.push(id);
                    self.nearest.push(estimate);
                }
                if is_new || estimate < self.nearest[rank as usize] {
                    self.nearest[rank as usize] = estimate;
                    self.ahead.push(Reverse(key(estimate, rank)));
                }
            }
            Ok(())
        })?;
        self.stats.hops += numbers.len() as u64;
        Ok(())
    }

    /// Fetches those nearest by their codes until none that is left is likely to be near enough.
    fn compare(&mut self, fetch: &mut FetchLive<'_>) -> Result<()> {
        let k = self.request.k;
        let is_filtered = !matches!(self.request.filter, Filter::All);
        let deviations = match self.request.distance_max {
            Some(_) => RANGE_DEVIATIONS,
            None if is_filtered => FILTER_DEVIATIONS,
            None => DEVIATIONS,
        };
        // A vector that is the query itself is among those fetched, however little codes tell.
        let margin = (deviations * self.index.error_now() * self.codes.length)
            .max(self.codes.rounding)
            .max(self.old_codes.rounding);
        let mut wanted = Vec::new();
        loop {
            nearest(&mut self.hits, k);
            let max = self.request.distance_max.unwrap_or(f32::INFINITY);
            let limit = match self.hits.len() >= k {
                true => self.hits[k - 1].distance.min(max),
                false => max,
            };
            let missing = k.saturating_sub(self.hits.len()).min(MANY_AT_ONCE);
            let at_once = match self.request.exact {
                true => MANY_AT_ONCE,
                false => missing.max(FETCHED_AT_ONCE),
            };
            wanted.clear();
            while wanted.len() < at_once
                && let Some(Reverse(next)) = self.ahead.peek().copied()
                && (self.request.exact || distance_of(next) <= limit + margin)
            {
                self.ahead.pop();
                let nearest = &mut self.nearest[slot_of(next) as usize];
                if *nearest != f32::NEG_INFINITY {
                    *nearest = f32::NEG_INFINITY;
                    wanted.push(self.ids[slot_of(next) as usize]);
                }
            }
            if wanted.is_empty() {
                return Ok(());
            }
            self.fetch(&wanted, fetch)?;
        }
    }

    /// The exact distances of vectors that there are.
    fn fetch(&mut self, ids: &[u64], fetch: &mut FetchLive<'_>) -> Result<()> {
        let (metric, dim) = (self.index.config.metric, self.index.config.dim);
        let measure = Measure::new(metric);
        self.stats.distances += ids.len() as u64;
        let mut refused = None;
        fetch(ids, &mut |id, vector| match metric.prepare(vector, dim) {
            Ok(vector) => {
                let distance = measure.pair(&self.query, &vector);
                if self.request.distance_max.is_none_or(|max| distance <= max) {
                    self.hits.push(Hit { id, distance });
                }
            }
            Err(e) => refused = Some(e.context(format!("vector {id}"))),
        })?;
        refused.map_or(Ok(()), Err)
    }
}

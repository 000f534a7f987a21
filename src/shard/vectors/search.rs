//! A search over all parts of an index, and how it is done.
//!
//! Without a filter each part is walked. With one the matches are known by their number before
//! anything is compared: where comparing with all of them costs less than a walk that meets them
//! only now and then, they are compared; else the walk keeps what matches. Either way there are as
//! many hits as are wanted, or as match.

use crate::base::{Error, ErrorKind, Result};
use crate::env::Clock;
use crate::lsm::Engine;
use crate::op;
use crate::op::vector::search::{EF_MAX, HITS_MAX, depth};
use crate::op::vector::text::ranked;
use crate::op::vector::{Metric, SearchCost, VectorHit, VectorQuery, VectorSearch, VectorsFound};
use crate::shard::vectors::attributes::Matching;
use crate::shard::vectors::compare::Apart;
use crate::shard::vectors::form::{Form, metric};
use crate::shard::vectors::hybrid::{self, Words};
use crate::shard::vectors::index::{State, VectorIndex};
use crate::shard::vectors::posted::Posted;
use crate::shard::vectors::reads::Reads;
use crate::shard::vectors::record;
use crate::shard::vectors::segment::Segment;
use crate::vector::{Answer, Filter, Hit, SearchRequest};
use std::collections::HashMap;
use std::sync::atomic::Ordering;

/// Distances that a walk computes for each candidate it keeps, roughly.
const DISTANCES_PER_EF: u64 = 12;

/// One of so many vectors of a segment that lives makes a walk worth while.
const NODES_PER_LIVE: usize = 8;

/// Searches that are made, if what was found is gone or another before it is read.
const TRIES: usize = 3;
/// Searches for which the fields of a filter are indexed again because others had them forgotten.
const INDEXED_TRIES: usize = 16;

/// What a search comes to, once it was looked at.
pub(super) struct Plan<'a> {
    pub(super) search: &'a VectorSearch,
    pub(super) query: Vec<f32>,
    pub(super) take: usize,
    skip: usize,
    /// So many more are looked for, in place of those that change before they are read.
    spare: usize,
    /// As many are looked for at least.
    depth: usize,
    ef: usize,
    pub(super) distance_max: Option<f32>,
    pub(super) without: Option<u64>,
    exact: bool,
}

impl VectorIndex {
    /// Searches; sees everything that was applied before the call.
    ///
    /// # Errors
    /// `InvalidArgument` for a query that is no vector of the index, and for numbers out of bounds;
    /// `NotFound` for a stored one that is not there; what reading records gives.
    pub(super) fn search(
        &self,
        engine: &Engine,
        search: &VectorSearch,
        clock: &dyn Clock,
    ) -> Result<VectorsFound> {
        let began = clock.monotonic_ns();
        self.searches.fetch_add(1, Ordering::Relaxed);
        search.filter.iter().try_for_each(op::vector::Filter::check)?;
        let mut plan = self.plan(engine, search)?;
        if let Some(text) = &search.text {
            hybrid::check(search, text)?;
            (plan.skip, plan.take) = (0, ranked(search.k, search.offset) as usize);
            plan.depth = plan.take;
        }
        self.index_search(engine, search)?;
        let (mut found, mut seqs): (VectorsFound, Searched) = Default::default();
        for turn in 1..=TRIES {
            (found, seqs) = self.find(engine, &plan)?;
            let (skip, take) = (search.offset as usize, search.k as usize);
            if search.text.as_ref().is_some_and(|text| !text.is_part) {
                let take = take + plan.spare;
                found = VectorsFound::ranked(vec![found], plan.take, skip, take);
            } else if search.text.is_none() {
                found.hits.drain(..plan.skip.min(found.hits.len()));
            }
            let most = match &search.text {
                None => plan.take,
                Some(text) if text.is_part => usize::MAX,
                Some(_) => take,
            };
            let lost = self.add_stored(engine, &plan, (&seqs, turn == TRIES), most, &mut found)?;
            if lost == 0 {
                break;
            }
            // Others take the places of those that are gone or others by now, the next time with some
            // to spare.
            plan.spare += 2 * lost;
        }
        if search.with_seq {
            let seq_of = |id: u64| seqs.get(&id).copied().unwrap_or_default();
            found.hits.iter_mut().for_each(|hit| hit.seq = seq_of(hit.id));
        }
        found.cost.micros = (clock.monotonic_ns() - began) / 1000;
        Ok(found)
    }

    /// What all parts have, the nearest first, and which records of them were searched.
    pub(super) fn find(
        &self,
        engine: &Engine,
        plan: &Plan<'_>,
    ) -> Result<(VectorsFound, Searched)> {
        let search = plan.search;
        let mut turn = 0;
        loop {
            turn += 1;
            let state = self.read();
            let Some(matching) = matching(&state, search)? else {
                drop(state);
                if turn > INDEXED_TRIES {
                    let message = "other searches have this one's fields forgotten as soon as they \
                                   are indexed; ask for fewer fields at a time, or try again";
                    return Err(Error::new(ErrorKind::Busy, message));
                }
                self.index_search(engine, search)?;
                continue;
            };
            let mut looked = self.run(engine, &state, plan, matching.as_ref())?;
            if !looked.damaged.is_empty() {
                drop(matching);
                drop(state);
                self.give_up(engine, &looked.damaged)?;
                continue;
            }
            if looked.whole.is_short && turn < TRIES {
                continue;
            }
            if looked.apart.is_empty() {
                let (mut found, mut searched) = looked.found(plan);
                if search.text.is_some() {
                    let words = Words { state: &state, matching: matching.as_ref() };
                    self.add_by_words(engine, plan, words, &mut found, &mut searched)?;
                }
                return Ok((found, searched));
            }
            // A record is read of each: others search and write meanwhile.
            drop(matching);
            drop(state);
            self.compare_apart(engine, plan, &mut looked)?;
            let (mut found, mut searched) = looked.found(plan);
            if search.text.is_none() {
                return Ok((found, searched));
            }
            let state = self.read();
            if let Some(matching) = self::matching(&state, search)? {
                let words = Words { state: &state, matching: matching.as_ref() };
                self.add_by_words(engine, plan, words, &mut found, &mut searched)?;
                return Ok((found, searched));
            }
        }
    }

    /// Sees to it that the fields of a search's filter are indexed, and that of its words.
    pub(super) fn index_search(&self, engine: &Engine, search: &VectorSearch) -> Result<()> {
        search.filter.iter().try_for_each(|filter| self.index_fields(engine, filter))?;
        search.text.iter().try_for_each(|text| self.index_text(engine, &text.field))
    }

    pub(super) fn plan<'a>(&self, engine: &Engine, search: &'a VectorSearch) -> Result<Plan<'a>> {
        let by_distance = search.distance_max.is_some() || search.score_min.is_some();
        let take = match search.k {
            0 if by_distance => HITS_MAX.saturating_sub(search.offset),
            k => k,
        };
        if take == 0 || u64::from(take) + u64::from(search.offset) > u64::from(HITS_MAX) {
            return Err(Error::invalid(format!(
                "k is {} behind an offset of {}; at least 1 and together at most {HITS_MAX} hits \
                 can be asked for",
                search.k, search.offset
            )));
        }
        if search.ef > EF_MAX {
            return Err(Error::invalid(format!("ef is {}; at most {EF_MAX}", search.ef)));
        }
        let (query, without) = match &search.query {
            VectorQuery::Vector(floats) => (floats.to_vec(), search.without),
            VectorQuery::Stored(id) => {
                let stored = self.stored(engine, id.get())?.ok_or_else(|| {
                    let message =
                        format!("there is no vector {} in index `{}`", id.get(), self.spec.name);
                    Error::new(ErrorKind::NotFound, message)
                })?;
                (stored.vector.to_vec(), Some(id.get()))
            }
        };
        metric(self.spec.metric)
            .check(&query, self.spec.dim as usize)
            .map_err(|e| e.context("the query"))?;
        let by_score = search.score_min.map(|score| match self.spec.metric {
            Metric::Cosine => 1.0 - score,
            Metric::InnerProduct | Metric::L2 => -score,
        });
        let limits = search.distance_max.into_iter().chain(by_score);
        if limits.clone().any(f32::is_nan) {
            return Err(Error::invalid("a greatest distance or least score must be a number"));
        }
        let distance_max = limits.reduce(f32::min);
        let ef = if search.ef == 0 { self.spec.ef_search } else { search.ef } as usize;
        Ok(Plan {
            search,
            query,
            take: take as usize,
            skip: search.offset as usize,
            spare: 0,
            depth: depth(take, search.offset, ef as u32) as usize,
            ef,
            distance_max,
            without,
            exact: search.exact,
        })
    }

    pub(super) fn run(
        &self,
        engine: &Engine,
        state: &State,
        plan: &Plan<'_>,
        matching: Option<&Matching<'_>>,
    ) -> Result<Looked> {
        let all = state.len();
        let matches = matching.map_or(all, Matching::count);
        // The one that is left out may be among the nearest.
        let wanted = plan.wanted() + usize::from(plan.without.is_some());
        let (k, ef) = match plan.distance_max {
            None => {
                let k = wanted.min(matches.max(1));
                (k, plan.ef.max(k))
            }
            // How many lie within it shows.
            Some(_) => (wanted.min(matches.max(1)), plan.ef),
        };
        let mut whole = Gathered { exact: true, ..Gathered::default() };
        let share = matches.max(1) as f64 / all.max(1) as f64;
        let walk_cost = (ef as u64 * DISTANCES_PER_EF) as f64 / share;
        let is_few = matching.is_some() && matches as f64 <= walk_cost;
        let ids = if is_few { matching.map(Matching::ids).unwrap_or_default() } else { Vec::new() };
        let base = SearchRequest {
            query: &plan.query,
            k,
            ef: Some(ef),
            filter: Filter::All,
            distance_max: plan.distance_max,
            exact: plan.exact,
        };
        let passes = |id: u64| matching.is_none_or(|matching| matching.has(id));
        let filter = match matching {
            None => Filter::All,
            Some(_) if is_few => Filter::Ids(&ids),
            Some(_) => Filter::Where(&passes),
        };
        let loose = SearchRequest { exact: plan.exact || is_few, ..base };
        if matches > 0 && !state.tail.is_empty() {
            whole.add(state.tail.answer(&SearchRequest { filter, ..loose })?);
        }
        if matches > 0 && !state.fresh.is_empty() {
            whole.add(state.fresh.answer(&SearchRequest { filter, ..loose })?);
        }
        let of_which = (matching, is_few.then_some(ids.as_slice()));
        let (mut damaged, mut apart) = (Vec::new(), Vec::new());
        if let Some(posted) = state.posted.as_ref().filter(|p| matches > 0 && p.rows.len() > 0)
            && (plan.exact || !self.add_posted(engine, posted, plan, base, of_which, &mut whole)?)
        {
            apart.push(Apart::of_posted(posted, of_which));
        }
        for segment in state.segments.iter().filter(|segment| matches > 0 && segment.live() > 0) {
            if plan.exact && !segment.form.has_floats() {
                apart.push(Apart::of(segment, of_which));
            } else if self.add_segment(engine, segment, plan, base, of_which, &mut whole)? {
                damaged.push(segment.number);
            }
        }
        if plan.reads_records() {
            whole.note_records(|id| state.seq_of(id));
        }
        Ok(Looked { whole, k, matches, apart, damaged })
    }

    /// Adds what a segment has: of all, of what matches, or of `few`; whether it is damaged.
    fn add_segment(
        &self,
        engine: &Engine,
        segment: &Segment,
        plan: &Plan<'_>,
        base: SearchRequest<'_>,
        (matching, few): (Option<&Matching<'_>>, Option<&[u64]>),
        whole: &mut Gathered,
    ) -> Result<bool> {
        let (lost, filter) = (whole.reads.lost, plan.search.filter.as_ref());
        let mut fetch = |wanted: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
            for id in wanted {
                let row = (*id, segment.seq_of(*id).unwrap_or_default());
                if let Some(value) = self.read_record(engine, row, filter, &mut whole.reads)? {
                    show(*id, &record::floats(*id, &value)?);
                }
            }
            Ok(())
        };
        let passes = |id: u64| matching.is_none_or(|matching| matching.has(id));
        // A walk meets only what is in the segment.
        let is_live = |id: u64| !segment.dead.contains(&id) && passes(id);
        let of_segment: Vec<u64>;
        // Where most are dead, a walk would meet the others only now and then.
        let is_hollow =
            segment.live() * NODES_PER_LIVE < segment.rows.len() && !segment.form.is_on_disk();
        let filter = if let Some(few) = few {
            of_segment = few.iter().copied().filter(|id| segment.has(*id)).collect();
            Filter::Ids(&of_segment)
        } else if is_hollow {
            of_segment = segment.live_rows().map(|(id, _)| id).filter(|id| passes(*id)).collect();
            Filter::Ids(&of_segment)
        } else if matching.is_none() && segment.dead.is_empty() {
            Filter::All
        } else {
            Filter::Where(&is_live)
        };
        // Of vectors that are not in memory those are read that are nearest by their codes, however
        // few match.
        let by_codes = segment.form.is_on_disk() || matches!(*segment.form, Form::Compact(_));
        let exact = base.exact || is_hollow || (few.is_some() && !by_codes);
        // Product codes have a default of their own.
        let is_default = plan.search.ef == 0 && matches!(*segment.form, Form::Pq(_));
        let ef = base.ef.filter(|_| !is_default);
        let request = SearchRequest { filter, exact, ef, ..base };
        match segment.form.answer(&request, &mut fetch) {
            Ok(mut answer) => {
                // All were compared, but with 16 bits of each number.
                answer.stats.exact &= !segment.form.keeps_halves();
                whole.is_short |= whole.reads.lost > lost && answer.hits.len() < base.k;
                whole.add(answer);
            }
            Err(e)
                if segment.form.is_on_disk()
                    && matches!(e.kind(), ErrorKind::Corruption | ErrorKind::Io) =>
            {
                return Ok(true);
            }
            Err(e) => return Err(e),
        }
        Ok(false)
    }

    /// Adds what is in postings: of all, of what matches, or of `few`; false if these are lost.
    fn add_posted(
        &self,
        engine: &Engine,
        posted: &Posted,
        plan: &Plan<'_>,
        request: SearchRequest<'_>,
        (matching, few): (Option<&Matching<'_>>, Option<&[u64]>),
        whole: &mut Gathered,
    ) -> Result<bool> {
        let there = few.into_iter().flatten().copied().filter(|id| posted.rows.has(*id));
        let there: Vec<u64> = there.collect();
        let passes = |id: u64| matching.is_none_or(|matching| matching.has(id));
        let is_live = |id: u64| posted.rows.has(id) && passes(id);
        let filter = match (matching, few) {
            // What is gone has no row, and is not fetched.
            (None, _) => Filter::All,
            (Some(_), Some(_)) => Filter::Ids(&there),
            (Some(_), None) => Filter::Where(&is_live),
        };
        let lost = whole.reads.lost;
        let mut fetch = |wanted: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
            let rows = wanted.iter().filter_map(|id| Some((*id, posted.rows.get(*id)?)));
            for row in rows {
                let filter = plan.search.filter.as_ref();
                if let Some(value) = self.read_record(engine, row, filter, &mut whole.reads)? {
                    show(row.0, &record::floats(row.0, &value)?);
                }
            }
            Ok(())
        };
        let answer = posted.answer(&SearchRequest { filter, ..request }, &mut fetch)?;
        let Some(answer) = answer else { return Ok(false) };
        whole.is_short |= whole.reads.lost > lost && answer.hits.len() < request.k;
        whole.add(answer);
        Ok(true)
    }
}

impl Plan<'_> {
    /// How many are looked for in all.
    fn wanted(&self) -> usize {
        self.depth.max(self.take + self.skip) + self.spare
    }

    /// Whether records are read once they were found, and have to be those that were searched.
    fn reads_records(&self) -> bool {
        let search = self.search;
        search.with_payload || search.with_vector || search.with_seq || search.text.is_some()
    }
}

/// The vectors that match a search's filter, if it has one; nothing if a field of the search is not
/// indexed: it may have been forgotten for another since it was.
pub(super) fn matching<'a>(
    state: &'a State,
    search: &VectorSearch,
) -> Result<Option<Option<Matching<'a>>>> {
    if search.text.as_ref().is_some_and(|text| !state.texts.has(&text.field)) {
        return Ok(None);
    }
    let Some(filter) = &search.filter else { return Ok(Some(None)) };
    if !state.attributes.can_answer(filter) {
        return Ok(None);
    }
    state.attributes.matching(filter).map(|matching| Some(Some(matching)))
}

/// What a look at all parts gave.
pub(super) struct Looked {
    pub(super) whole: Gathered,
    /// How many of each part may be among the nearest.
    pub(super) k: usize,
    matches: usize,
    pub(super) apart: Vec<Apart>,
    /// The segments that are damaged.
    damaged: Vec<u64>,
}

impl Looked {
    /// The nearest, and which records of them were searched.
    pub(super) fn found(self, plan: &Plan<'_>) -> (VectorsFound, Searched) {
        let mut whole = self.whole;
        whole.hits.retain(|hit| Some(hit.id) != plan.without);
        let searched = std::mem::take(&mut whole.searched);
        (whole.nearest(plan.wanted(), self.matches), searched)
    }
}

/// The sequence numbers of the records that hits' distances are of.
pub(super) type Searched = HashMap<u64, u64>;

/// What the parts gave.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) hits: Vec<Hit>,
    distances: u64,
    estimates: u64,
    hops: u64,
    pub(super) reads: Reads,
    searched: Searched,
    /// Whether a part has fewer than it could have, for what was lost.
    is_short: bool,
    pages: u64,
    exact: bool,
}

impl Gathered {
    /// The nearest of them, and what all cost.
    fn nearest(self, most: usize, matches: usize) -> VectorsFound {
        let mut hits = self.hits;
        hits.sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance).then(a.id.cmp(&b.id)));
        hits.truncate(most);
        let hit = |hit: Hit| VectorHit::new(hit.id, hit.distance);
        VectorsFound {
            text: None,
            hits: hits.into_iter().map(hit).collect(),
            cost: SearchCost {
                distances: self.distances,
                estimates: self.estimates,
                hops: self.hops,
                fetched: self.reads.fetched,
                pages: self.pages,
                matches: matches as u64,
                micros: 0,
                exact: self.exact,
            },
        }
    }

    /// Keeps of each hit which record was searched: one that was read for it, or else `seq_of`.
    pub(super) fn note_records(&mut self, seq_of: impl Fn(u64) -> Option<u64>) {
        for Hit { id, .. } in &self.hits {
            if !self.searched.contains_key(id)
                && let Some(seq) = self.reads.newer.get(id).copied().or_else(|| seq_of(*id))
            {
                self.searched.insert(*id, seq);
            }
        }
    }

    pub(super) fn add(&mut self, answer: Answer) {
        self.hits.extend(answer.hits);
        self.distances += answer.stats.distances;
        self.estimates += answer.stats.estimates;
        self.hops += answer.stats.hops;
        self.pages += answer.stats.pages_read;
        self.exact &= answer.stats.exact;
    }
}

impl Segment {
    /// Whether most of what it holds does not count any more.
    pub(super) fn is_stale(&self, dead_min: usize, nodes_per_dead: usize) -> bool {
        self.dead.len() > dead_min.max(self.rows.len() / nodes_per_dead)
    }
}

//! A search over all parts of an index, and how it is done.
//!
//! Without a filter each part is walked. With one the matches are known by their number before
//! anything is compared: where comparing with all of them costs less than a walk that meets them
//! only now and then, they are compared; else the walk keeps what matches. Either way there are as
//! many hits as are wanted, or as match.

use crate::base::{CfId, Error, ErrorKind, Result};
use crate::env::{Clock, RealClock};
use crate::lsm::{Engine, ReadOptions};
use crate::op;
use crate::op::vector::search::{EF_MAX, HITS_MAX};
use crate::op::vector::{
    Metric, SearchCost, StoredVector, VectorHit, VectorId, VectorQuery, VectorSearch, VectorsFound,
};
use crate::shard::vectors::attributes::{self, Matching};
use crate::shard::vectors::compare::{Apart, compare};
use crate::shard::vectors::form::{Form, metric};
use crate::shard::vectors::hybrid;
use crate::shard::vectors::index::{State, VectorIndex};
use crate::shard::vectors::limits::AnswerRoom;
use crate::shard::vectors::posted::Posted;
use crate::shard::vectors::record;
use crate::shard::vectors::rows::Rows;
use crate::shard::vectors::segment::Segment;
use crate::vector::{Answer, FetchLive, Filter, Hit, SearchRequest};
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// Distances that a walk computes for each candidate it keeps, roughly.
const DISTANCES_PER_EF: u64 = 12;

/// One of so many vectors of a segment that lives makes a walk worth while.
const NODES_PER_LIVE: usize = 8;

/// Searches that are made, if hits of those before were deleted before they were read.
const TRIES: usize = 3;

/// What a search comes to, once it was looked at.
pub(super) struct Plan {
    pub(super) query: Vec<f32>,
    pub(super) take: usize,
    skip: usize,
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
        clock: &RealClock,
    ) -> Result<VectorsFound> {
        let began = clock.monotonic_ns();
        self.searches.fetch_add(1, Ordering::Relaxed);
        search.filter.iter().try_for_each(op::vector::Filter::check)?;
        let mut plan = self.plan(engine, search)?;
        self.index_search(engine, search)?;
        if let Some(text) = &search.text {
            hybrid::check(search, text)?;
            self.index_text(engine, &text.field)?;
            (plan.skip, plan.take) = (0, hybrid::ranked(search));
        }
        let mut found = VectorsFound::default();
        for _ in 0..TRIES {
            found = self.find(engine, search, &plan)?;
            if search.text.as_ref().is_some_and(|text| !text.is_part) {
                let (skip, take) = (search.offset as usize, search.k as usize);
                found = VectorsFound::ranked(vec![found], plan.take, skip, take);
            } else if search.text.is_none() {
                found.hits.drain(..plan.skip.min(found.hits.len()));
                found.hits.truncate(plan.take);
            }
            // What was deleted since is looked for no more: others take its place.
            if self.add_stored(engine, search, &mut found)? {
                break;
            }
        }
        found.cost.micros = (clock.monotonic_ns() - began) / 1000;
        Ok(found)
    }

    /// What all parts have, the nearest first.
    fn find(&self, engine: &Engine, search: &VectorSearch, plan: &Plan) -> Result<VectorsFound> {
        loop {
            let state = self.read();
            let Some(matching) = matching(&state, search)? else {
                drop(state);
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
            if looked.apart.is_empty() {
                let mut found = looked.found(plan);
                if let Some(text) = &search.text {
                    let matching = matching.as_ref();
                    self.add_by_words(engine, &state, plan, text, matching, &mut found)?;
                }
                return Ok(found);
            }
            // A record is read of each: others search and write meanwhile.
            drop(matching);
            drop(state);
            self.compare_apart(engine, search, plan, &mut looked)?;
            let mut found = looked.found(plan);
            let Some(text) = &search.text else { return Ok(found) };
            let state = self.read();
            if let Some(matching) = self::matching(&state, search)? {
                let matching = matching.as_ref();
                self.add_by_words(engine, &state, plan, text, matching, &mut found)?;
                return Ok(found);
            }
        }
    }

    /// Sees to it that the fields of a search's filter are indexed.
    fn index_search(&self, engine: &Engine, search: &VectorSearch) -> Result<()> {
        search.filter.as_ref().map_or(Ok(()), |filter| self.index_fields(engine, filter))
    }

    /// Adds what is wanted of records, and drops hits that have none any more; whether all have.
    fn add_stored(
        &self,
        engine: &Engine,
        search: &VectorSearch,
        found: &mut VectorsFound,
    ) -> Result<bool> {
        if !search.with_payload && !search.with_vector {
            return Ok(true);
        }
        let (mut room, mut hits) = (AnswerRoom::default(), Vec::with_capacity(found.hits.len()));
        let before = found.hits.len();
        for mut hit in found.hits.drain(..) {
            found.cost.fetched += 1;
            let Some(stored) = self.stored(engine, hit.id)? else { continue };
            room.take(&stored)?;
            hit.payload =
                (search.with_payload && !stored.payload.is_empty()).then_some(stored.payload);
            hit.vector = search.with_vector.then_some(stored.vector);
            hits.push(hit);
        }
        found.hits = hits;
        Ok(found.hits.len() == before)
    }

    /// A vector as it is stored.
    pub(super) fn stored(&self, engine: &Engine, id: u64) -> Result<Option<StoredVector>> {
        let key = record::vector_key(self.id, VectorId::new(id));
        let found = engine.get(CfId::VECTORS, &key, &ReadOptions::default())?;
        found.map(|found| record::decode(id, &found.value)).transpose()
    }

    fn plan(&self, engine: &Engine, search: &VectorSearch) -> Result<Plan> {
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
        let distance_max = limits.reduce(f32::min);
        if distance_max.is_some_and(f32::is_nan) {
            return Err(Error::invalid("a greatest distance or least score must be a number"));
        }
        let ef = if search.ef == 0 { self.spec.ef_search } else { search.ef } as usize;
        Ok(Plan {
            query,
            take: take as usize,
            skip: search.offset as usize,
            ef,
            distance_max,
            without,
            exact: search.exact,
        })
    }

    fn run(
        &self,
        engine: &Engine,
        state: &State,
        plan: &Plan,
        matching: Option<&Matching<'_>>,
    ) -> Result<Looked> {
        let all = state.len();
        let matches = matching.map_or(all, Matching::count);
        // The one that is left out may be among the nearest.
        let wanted = plan.take + plan.skip + usize::from(plan.without.is_some());
        let k = wanted.min(matches.max(1));
        let ef = plan.ef.max(k);
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
        if let Some(posted) = state.posted.as_ref().filter(|p| matches > 0 && p.rows.len() > 0) {
            if plan.exact || posted.is_lost() {
                apart.push(Apart::of_posted(posted, of_which));
            } else {
                self.add_posted(engine, posted, base, of_which, &mut whole)?;
            }
        }
        for segment in state.segments.iter().filter(|segment| matches > 0 && segment.live() > 0) {
            if plan.exact && !segment.form.has_floats() {
                apart.push(Apart::of(segment, of_which));
            } else if self.add_segment(engine, segment, base, of_which, &mut whole)? {
                damaged.push(segment.number);
            }
        }
        Ok(Looked { whole, k, matches, apart, damaged })
    }

    /// Adds what a segment has: of all, of what matches, or of `few`; whether it is damaged.
    fn add_segment(
        &self,
        engine: &Engine,
        segment: &Segment,
        base: SearchRequest<'_>,
        (matching, few): (Option<&Matching<'_>>, Option<&[u64]>),
        whole: &mut Gathered,
    ) -> Result<bool> {
        let (mut fetched, mut gone) = (0, HashSet::new());
        let mut fetch = |wanted: &[u64], floats: &mut Vec<f32>| {
            fetched += wanted.len() as u64;
            for id in wanted {
                if !self.fetch(engine, *id, floats)? {
                    gone.insert(*id);
                }
            }
            Ok(())
        };
        let passes = |id: u64| matching.is_none_or(|matching| matching.has(id));
        let is_live = |id: u64| segment.has(id) && passes(id);
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
        let request = SearchRequest { filter, exact, ..base };
        match segment.form.answer(&request, &mut fetch) {
            Ok(mut answer) => {
                answer.hits.retain(|hit| !gone.contains(&hit.id));
                // All were compared, but with 16 bits of each number.
                answer.stats.exact &= !segment.form.keeps_halves();
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
        whole.fetched += fetched;
        Ok(false)
    }

    /// Adds what segments have, as records have it by now: of one that was written again meanwhile
    /// that counts, if it matches.
    fn compare_apart(
        &self,
        engine: &Engine,
        search: &VectorSearch,
        plan: &Plan,
        looked: &mut Looked,
    ) -> Result<()> {
        let request = SearchRequest {
            distance_max: plan.distance_max,
            exact: true,
            ..SearchRequest::new(&plan.query, looked.k)
        };
        let mut fetched = 0;
        for Apart { segment, ids } in std::mem::take(&mut looked.apart) {
            let _held = self.learning(ids.len() * size_of::<u64>());
            let mut live: Box<dyn Iterator<Item = u64>> = match &segment {
                Some((segment, true)) => Box::new(segment.live_rows().map(|(id, _)| id)),
                _ => Box::new(ids.iter().copied()),
            };
            let mut fetch = |wanted: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
                for id in wanted {
                    fetched += 1;
                    let key = record::vector_key(self.id, VectorId::new(*id));
                    let found = engine.get(CfId::VECTORS, &key, &ReadOptions::default())?;
                    let Some(found) = found else { continue };
                    let known = segment.as_ref().and_then(|(segment, _)| segment.seq_of(*id));
                    let is_known = known == Some(found.seq.0);
                    let matches = |filter: &op::vector::Filter| {
                        filter.matches(&attributes::parse(record::payload(&found.value)))
                    };
                    if is_known || search.filter.as_ref().is_none_or(matches) {
                        show(*id, &record::floats(*id, &found.value)?);
                    }
                }
                Ok(())
            };
            let metric = metric(self.spec.metric);
            looked.whole.add(compare(&request, metric, &mut live, &mut fetch)?);
        }
        looked.whole.fetched += fetched;
        Ok(())
    }

    /// Adds what is in postings: of all, of what matches, or of `few`.
    fn add_posted(
        &self,
        engine: &Engine,
        posted: &Posted,
        request: SearchRequest<'_>,
        (matching, few): (Option<&Matching<'_>>, Option<&[u64]>),
        whole: &mut Gathered,
    ) -> Result<()> {
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
        let mut live = self.fetch_live(engine, Some(&posted.rows), false);
        let mut fetched = 0;
        let mut fetch = |wanted: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
            fetched += wanted.len() as u64;
            live(wanted, show)
        };
        whole.add(posted.answer(&SearchRequest { filter, ..request }, &mut fetch)?);
        whole.fetched += fetched;
        Ok(())
    }

    /// Shows the vectors of those ids that have a row, if `rows` are given, as their records have
    /// them. Of one whose record is gone while its row is not yet: none, or with `stand_in` any, for
    /// whoever rewrites postings.
    /// It may be there again after a crash, if the log was not durable, and must be in a posting then.
    pub(super) fn fetch_live<'a>(
        &'a self,
        engine: &'a Engine,
        rows: Option<&'a Rows>,
        stand_in: bool,
    ) -> Box<FetchLive<'a>> {
        Box::new(move |ids, show| {
            for id in ids.iter().filter(|id| rows.is_none_or(|rows| rows.has(**id))) {
                let key = record::vector_key(self.id, VectorId::new(*id));
                let found = engine.get(CfId::VECTORS, &key, &ReadOptions::default())?;
                match found {
                    Some(found) => show(*id, &record::floats(*id, &found.value)?),
                    None if stand_in => show(*id, &vec![1.0; self.spec.dim as usize]),
                    None => {}
                }
            }
            Ok(())
        })
    }

    /// Appends the floats of a vector's record; of one that is gone by now, any numbers, and false.
    pub(super) fn fetch(&self, engine: &Engine, id: u64, floats: &mut Vec<f32>) -> Result<bool> {
        let key = record::vector_key(self.id, VectorId::new(id));
        let found = engine.get(CfId::VECTORS, &key, &ReadOptions::default())?;
        match &found {
            Some(found) => floats.extend(record::floats(id, &found.value)?),
            None => floats.extend(std::iter::repeat_n(1.0, self.spec.dim as usize)),
        }
        Ok(found.is_some())
    }
}

/// The vectors that match a search's filter, if it has one; nothing if that is not indexed: a field
/// without values may have been forgotten for another since it was.
fn matching<'a>(state: &'a State, search: &VectorSearch) -> Result<Option<Option<Matching<'a>>>> {
    let Some(filter) = &search.filter else { return Ok(Some(None)) };
    if !state.attributes.can_answer(filter) {
        return Ok(None);
    }
    state.attributes.matching(filter).map(|matching| Some(Some(matching)))
}

/// What a look at all parts gave.
struct Looked {
    whole: Gathered,
    /// How many of each part may be among the nearest.
    k: usize,
    matches: usize,
    apart: Vec<Apart>,
    /// The segments that are damaged.
    damaged: Vec<u64>,
}

impl Looked {
    /// The nearest.
    fn found(self, plan: &Plan) -> VectorsFound {
        let mut whole = self.whole;
        whole.hits.retain(|hit| Some(hit.id) != plan.without);
        whole.nearest(plan.take + plan.skip, self.matches)
    }
}

/// What the parts gave.
#[derive(Default)]
struct Gathered {
    hits: Vec<Hit>,
    distances: u64,
    estimates: u64,
    hops: u64,
    fetched: u64,
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
                fetched: self.fetched,
                pages: self.pages,
                matches: matches as u64,
                micros: 0,
                exact: self.exact,
            },
        }
    }

    fn add(&mut self, answer: Answer) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{IndexId, LogIndex, Seq};
    use crate::env::SimDisk;
    use crate::lsm::batch::WriteBatch;
    use crate::op::vector::{Floats, IndexKind, IndexSpec, Quantisation};
    use crate::shard::vectors::VectorLimits;
    use crate::shard::vectors::tests::{apply, create, shard_on};

    /// Whoever asked an index on disk to be certain held up its writers for a read of every record.
    #[test]
    fn an_exact_search_of_records_lets_others_write_meanwhile() {
        let filter = op::vector::Filter::parse(r#"{"not": {"gone": true}}"#).unwrap();
        let kinds = [
            (IndexKind::DiskHnsw, Quantisation::None),
            (IndexKind::Hnsw, Quantisation::Compact4),
            (IndexKind::Spfresh, Quantisation::None),
        ];
        let all = kinds.into_iter().flat_map(|kind| [(kind, None), (kind, Some(filter.clone()))]);
        for ((kind, quantisation), filter) in all {
            let limits = VectorLimits { segment_rows: 64, ..VectorLimits::default() };
            let (shard, id) = (shard_on(&SimDisk::new(), limits), IndexId(3));
            let spec = IndexSpec { kind, quantisation, ..IndexSpec::new("v", 2, Metric::L2) };
            create(&shard, id, 3, spec.with_defaults());
            apply(&shard, id, 4, 0..512);
            shard.vectors.settle();
            let (index, engine) = (shard.vectors.get("v").unwrap(), shard.engine());
            let is_filtered = filter.is_some();
            let base = VectorSearch::new("v", &[0.0, 1.0], 4);
            let search = VectorSearch { exact: true, filter, ..base };
            index.index_search(engine, &search).unwrap();
            let plan = index.plan(engine, &search).unwrap();
            let state = index.read();
            let all = matching(&state, &search).unwrap().unwrap();
            let mut looked = index.run(engine, &state, &plan, all.as_ref()).unwrap();
            let count = |apart: &Apart| match &apart.segment {
                Some((segment, true)) => segment.live(),
                _ => apart.ids.len(),
            };
            let apart = looked.apart.iter().map(count).sum::<usize>();
            assert!(apart > 300, "{apart}");
            drop(all);
            drop(state);
            // Of the nearest one goes, one goes far away, and one does not match any more.
            let mut batch = WriteBatch::new();
            let key = |vector| record::vector_key(id, VectorId::new(vector));
            let value = |x: f32, payload: &[u8]| record::encode(&Floats::of(&[x, 1.0]), payload);
            batch.delete_cf(CfId::VECTORS, &key(0));
            batch.put_cf(CfId::VECTORS, &key(1), &value(900.0, b""));
            batch.put_cf(CfId::VECTORS, &key(2), &value(0.5, br#"{"gone": true}"#));
            batch.place(Seq(9_000), 1);
            shard.apply_entry(LogIndex(9), &[batch.bytes().to_vec()]).unwrap();
            assert_eq!(index.read().seq_of(1), Some(9_001));
            index.compare_apart(engine, &search, &plan, &mut looked).unwrap();
            let ids: Vec<u64> = looked.found(&plan).hits.iter().map(|hit| hit.id).collect();
            let expected = if is_filtered { [3, 4, 5, 6] } else { [2, 3, 4, 5] };
            assert_eq!(ids, expected);
        }
    }
}

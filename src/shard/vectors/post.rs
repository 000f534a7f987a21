//! What the background does for postings. A piece holds an index no longer than it takes to put some
//! vectors into postings, or to mend one of these: searches and writes have their turn in between.
//!
//! What is sealed of the graph that grows is put into postings bit by bit. Where there are none, where
//! they are lost, and where their codes have become unfit, they are built beside those that there are:
//! codes are learnt from some of the vectors, the others are put in, and then what has changed
//! meanwhile; only then do they take the place of the old ones.

use crate::base::{CfId, Error, ErrorKind, Result};
use crate::lsm::ReadOptions;
use crate::op::vector::VectorId;
use crate::shard::vectors::catch_up::interrupted;
use crate::shard::vectors::form::Form;
use crate::shard::vectors::index::{State, VectorIndex, lock};
use crate::shard::vectors::limits::VectorLimits;
use crate::shard::vectors::next::is_idle;
use crate::shard::vectors::pages::{self, PageFile};
use crate::shard::vectors::posted::{self, Finder, Posted};
use crate::shard::vectors::rows::Rows;
use crate::shard::vectors::segment::{self, POSTED, Row};
use crate::shard::vectors::sorted::SortedRows;
use crate::shard::vectors::work::LINKED_AT_ONCE;
use crate::shard::vectors::{Vectors, record};
use crate::vector::{FetchLive, HnswIndex, SpfreshIndex};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

/// Vectors put into postings at once while nobody searches, and while somebody does.
const PUT_AT_ONCE: usize = 256;
const PUT_BETWEEN_SEARCHES: usize = 32;
/// Postings that may wait to be split or dissolved while vectors are put into them.
const STEPS_WAITING: usize = 16;
/// Postings that are written at once.
const WRITTEN_AT_ONCE: usize = 64;
/// One of so many vectors may have gone before all postings are looked through for their entries.
const VECTORS_PER_STALE: usize = 5;
/// A change of one in so many rows has them written down.
const ROWS_PER_CHANGE: usize = 16;
/// Vectors that may be missing in postings built anew when they take the place of the old.
const MISSING_MAX: usize = 64;

/// A piece of work.
pub(super) enum Piece {
    /// Postings are begun with the vectors of a segment.
    Begin(u64),
    /// Vectors of a segment are put into postings.
    Put(u64),
    /// A posting is split, dissolved or centered.
    Step,
    /// A posting is looked through for what is gone.
    Sweep,
    /// Codes are learnt that fit the vectors there are by now.
    Learn,
    /// Changed postings are written.
    Write,
    /// What is in postings is written down.
    Keep,
    /// Postings are built anew.
    Build,
}

/// Postings that are being built beside others.
#[derive(Debug)]
pub(super) struct Building {
    finder: Finder,
    /// Those that codes were learnt from, and are in it.
    learnt: Vec<Row>,
    /// The others that are in it, in the order of ids.
    rest: Vec<Row>,
    /// Up to where all have been put in.
    at: Option<u64>,
    /// All that are in it, once all have been put in that were there when it began.
    rows: Option<Rows>,
    /// Those that are still to be put in then.
    missing: Vec<Row>,
}

impl Building {
    fn memory_bytes(&self) -> usize {
        let rows = self.learnt.len() + self.rest.len() + self.missing.len();
        let there = self.rows.as_ref().map_or(0, Rows::memory_bytes);
        self.finder.memory_bytes() + there + rows * size_of::<Row>()
    }
}

/// What is to be done next for the postings of an index.
pub(super) fn next(index: &VectorIndex, state: &State) -> Option<Piece> {
    let limits = &index.limits;
    let sealed = state.segments.first().map(|segment| segment.number);
    let Some(posted) = &state.posted else { return sealed.map(Piece::Begin) };
    let Some(finder) = posted.finder.as_ref().filter(|_| !posted.is_lost()) else {
        return Some(Piece::Build);
    };
    let (due, rows) = (finder.steps_due(), posted.rows.len());
    if finder.pages.changed_bytes() > limits.posted_bytes() {
        return Some(Piece::Write);
    }
    // Codes that are made anew are in nobody's way meanwhile.
    if finder.index.postings_due() > STEPS_WAITING {
        return Some(Piece::Step);
    }
    let changed = posted.rows.changed();
    if posted.file.is_none()
        || changed >= limits.kept_min().max(posted.rows.written() / ROWS_PER_CHANGE)
    {
        return Some(Piece::Keep);
    }
    if finder.index.is_worn() {
        return Some(Piece::Learn);
    }
    if let Some(sealed) = sealed {
        return Some(Piece::Put(sealed));
    }
    if due > 0 {
        return Some(Piece::Step);
    }
    let learnt_max = limits.learnt_max(index.spec.dim);
    if lock(&index.building).is_some() || finder.is_outgrown(rows, learnt_max) {
        return Some(Piece::Build);
    }
    let stale_max = limits.dead_min().max(rows / VECTORS_PER_STALE);
    let is_stale = !finder.sweep.is_empty() || posted.stale > stale_max as u64;
    if is_stale {
        return Some(Piece::Sweep);
    }
    if finder.pages.is_wasteful() {
        return Some(Piece::Keep);
    }
    // Their memory is of use to others where nobody changes them.
    (is_idle(index) && finder.pages.changed_bytes() > 0).then_some(Piece::Write)
}

/// What has to be done before anything else so that vectors of a segment can be put into postings
/// that are whole: nothing of it is worth much memory. A step reads records, and needs all of them.
fn next_amid_loading(
    finder: &Finder,
    limits: &VectorLimits,
    sealed: u64,
    lacks_records: bool,
) -> Piece {
    if finder.pages.changed_bytes() > limits.posted_bytes() {
        Piece::Write
    } else if finder.index.postings_due() > STEPS_WAITING && !lacks_records {
        Piece::Step
    } else {
        Piece::Put(sealed)
    }
}

impl Vectors {
    /// Links, and puts what is sealed into postings, as long as `waiting_max` wait of those that an
    /// index takes in from records. Nothing where it has no postings that are whole: then those are
    /// told to be in them, see [`State::take_in`].
    pub(super) fn put_what_waits(&self, index: &VectorIndex, waiting_max: usize) -> Result<()> {
        loop {
            if self.control.is_closed() {
                return Err(interrupted());
            }
            let mut state = index.write();
            if state.posted.as_ref().is_none_or(Posted::is_lost) {
                return Ok(());
            }
            if state.is_full(&index.spec) {
                state.seal(&index.spec);
            } else if state.tail.len() >= waiting_max {
                state.link_and_repair(LINKED_AT_ONCE, self.threads())?;
                index.measure(&state);
                continue;
            }
            let sealed = state.segments.first().map(|segment| segment.number);
            let finder = state.posted.as_ref().and_then(|posted| posted.finder.as_ref());
            let Some((sealed, finder)) = sealed.zip(finder) else { return Ok(()) };
            let piece = next_amid_loading(finder, &index.limits, sealed, self.lacks_records(index));
            drop(state);
            // A device may be full; then the background tries again.
            if self.post(index, piece).is_err() {
                return Ok(());
            }
        }
    }

    pub(super) fn post(&self, index: &VectorIndex, piece: Piece) -> Result<()> {
        match piece {
            Piece::Begin(number) => self.begin_postings(index, number),
            Piece::Put(number) => self.put_into_postings(index, number),
            Piece::Step => self.step(index),
            Piece::Sweep => self.sweep(index),
            Piece::Learn => self.learn_anew(index),
            Piece::Write => self.write_postings(index).map(drop),
            Piece::Keep => self.keep_posted(index),
            Piece::Build => self.build(index),
        }
    }

    fn begin_postings(&self, index: &VectorIndex, number: u64) -> Result<()> {
        let found = index.read().segments.iter().find(|s| s.number == number).cloned();
        let Some(segment) = found else { return Ok(()) };
        let Form::Hnsw(graph) = &*segment.form else { return Err(not_a_graph()) };
        let most = index.limits.learnt_max(index.spec.dim);
        let rows: Vec<Row> = segment.live_rows().take(most).collect();
        let finder = match rows.is_empty() {
            true => None,
            false => {
                let (ids, floats) = vectors_of(graph, &rows);
                Some(self.learn(index, &ids, &floats)?)
            }
        };
        let mut state = index.write();
        if let Some(finder) = finder {
            let mut posted = Posted::new(finder, Rows::default(), 0);
            // What was replaced or deleted meanwhile is dead in the segment by now.
            let is_live =
                |row: &Row| state.segments.iter().any(|s| s.number == number && s.has(row.0));
            let live: Vec<Row> = rows.iter().copied().filter(is_live).collect();
            for (id, seq) in &rows {
                posted.rows.push(*id, *seq);
            }
            for (id, _) in rows.iter().filter(|row| !is_live(row)) {
                posted.remove(*id);
            }
            state.posted = Some(posted);
            state.move_out(number, &live);
        } else {
            state.move_out(number, &[]);
        }
        index.measure(&state);
        Ok(())
    }

    /// Postings of vectors in a new file, written.
    fn learn(&self, index: &VectorIndex, ids: &[u64], floats: &[f32]) -> Result<Finder> {
        let number = Vectors::number_for_file(index);
        let (disk, path) = (self.begin_file(index)?, pages::path(&index.dir, number));
        let mut pages = PageFile::new(number, disk.create(&path)?, path, HashMap::new())?;
        let config = posted::config(&index.spec, &index.limits);
        // They are there as they were given and as they are compared.
        let _learning = index.learning(2 * 4 * floats.len() + config.learning_bytes(ids.len()));
        let made = SpfreshIndex::build(config, ids, floats, self.threads(), &mut pages)?;
        while pages.write_some(WRITTEN_AT_ONCE)? {}
        Ok(Finder::new(made, pages, ids.len() as u64))
    }

    fn put_into_postings(&self, index: &VectorIndex, number: u64) -> Result<()> {
        let most = if index.is_searched() { PUT_BETWEEN_SEARCHES } else { PUT_AT_ONCE };
        let mut state = index.write();
        let found = state.segments.iter().find(|s| s.number == number);
        let Some((form, live)) = found.map(|s| (s.form.clone(), s.live_rows())) else {
            return Ok(());
        };
        let rows: Vec<Row> = live.take(most).collect();
        let Form::Hnsw(graph) = &*form else { return Err(not_a_graph()) };
        let (ids, floats) = vectors_of(graph, &rows);
        let Some(posted) = &mut state.posted else { return Ok(()) };
        let Some((Finder { index: made, pages, .. }, there)) = posted.parts() else {
            return Ok(());
        };
        if made.insert_many(&ids, &floats, self.threads(), pages).is_err() {
            posted.give_up();
            return Ok(());
        }
        rows.iter().for_each(|(id, seq)| there.insert(*id, *seq));
        // It heard of none that went.
        made.set_len(there.len());
        state.move_out(number, &rows);
        index.measure(&state);
        Ok(())
    }

    fn step(&self, index: &VectorIndex) -> Result<()> {
        self.mend(index, |Finder { index, pages, .. }, fetch| index.step(fetch, pages).map(drop))
    }

    /// Learns codes while others search and write, and has the next steps make those of each posting
    /// anew.
    fn learn_anew(&self, index: &VectorIndex) -> Result<()> {
        let finder = index.read().posted.as_ref().and_then(|posted| posted.finder.clone());
        let Some(finder) = finder else { return Ok(()) };
        let mut fetch = index.fetch_live(&self.engine, None, false);
        let most = index.limits.learnt_anew_max(index.spec.dim).min(finder.index.learnt_max());
        let config = finder.index.config();
        let learning = index.learning(4 * most * config.dim + config.learning_bytes(most));
        let learnt = finder.index.learn(most, self.threads(), &mut *fetch, &finder.pages);
        drop((finder, learning));
        let mut state = index.write();
        let Some(posted) = &mut state.posted else { return Ok(()) };
        match learnt {
            Ok(codes) => {
                if let Some((finder, _)) = posted.parts() {
                    finder.index.adopt(codes);
                }
            }
            Err(e) if e.kind() == ErrorKind::Corruption => posted.give_up(),
            Err(e) => return Err(e),
        }
        index.measure(&state);
        Ok(())
    }

    fn sweep(&self, index: &VectorIndex) -> Result<()> {
        if let Some(posted) = &mut index.write().posted
            && let Some((finder, _)) = posted.parts()
            && finder.sweep.is_empty()
        {
            finder.sweep = finder.index.posting_numbers();
            posted.stale = 0;
        }
        self.mend(index, |Finder { index, pages, sweep, .. }, fetch| match sweep.pop() {
            Some(number) => index.mend(number, fetch, pages),
            None => Ok(()),
        })
    }

    /// Changes postings. What fails leaves them not as they are known to be: they are built anew.
    fn mend(
        &self,
        index: &VectorIndex,
        change: impl FnOnce(&mut Finder, &mut FetchLive<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut state = index.write();
        let Some(posted) = &mut state.posted else { return Ok(()) };
        let Some((finder, rows)) = posted.parts() else { return Ok(()) };
        if change(finder, &mut *index.fetch_live(&self.engine, Some(rows), true)).is_err() {
            posted.give_up();
        }
        index.measure(&state);
        Ok(())
    }

    /// Writes some postings that have changed; whether there are more.
    fn write_postings(&self, index: &VectorIndex) -> Result<bool> {
        let mut state = index.write();
        let Some(posted) = &mut state.posted else { return Ok(false) };
        let Some((finder, _)) = posted.parts() else { return Ok(false) };
        let written = finder.pages.write_some(WRITTEN_AT_ONCE);
        if written.as_ref().is_err_and(|e| e.kind() == ErrorKind::Corruption) {
            posted.give_up();
            return Ok(false);
        }
        index.measure(&state);
        written
    }

    /// Writes down what is in postings, and where these lie.
    fn keep_posted(&self, index: &VectorIndex) -> Result<()> {
        while self.write_postings(index)? {}
        let number = Vectors::number_for_file(index);
        let (rows, bytes, pages) = {
            let state = index.read();
            let Some(posted) = state.posted.as_ref().filter(|p| !p.is_lost()) else {
                return Ok(());
            };
            let Some((finder, bytes)) = posted.finder.as_ref().zip(posted.to_bytes()) else {
                return Ok(());
            };
            (posted.rows.to_sorted(), bytes, finder.pages.file().clone())
        };
        let (disk, path) = (self.begin_file(index)?, segment::path(&index.dir, number));
        pages.sync_data()?;
        let file_bytes = segment::write(disk, &path, index.id, &rows, (POSTED, &bytes))?;
        if let Some(posted) = &mut index.write().posted {
            posted.file = Some((number, file_bytes));
            posted.rows.rebase(rows);
            posted.parts().into_iter().for_each(|(finder, _)| finder.pages.filed());
        }
        self.save(index)?;
        if let Some(posted) = &mut index.write().posted {
            posted.parts().into_iter().for_each(|(finder, _)| finder.pages.let_go());
        }
        Ok(())
    }

    /// At the end, writes down what it would take long to put into postings again.
    pub(super) fn close_posted(&self, index: &VectorIndex) -> Result<()> {
        *lock(&index.building) = None;
        index.building_bytes.store(0, Ordering::Relaxed);
        let is_worth_it = {
            let state = index.read();
            let posted = state.posted.as_ref().filter(|posted| !posted.is_lost());
            posted.is_some_and(|posted| {
                let is_new = posted.file.is_none();
                is_new || posted.rows.changed() >= index.limits.kept_min() / 4
            })
        };
        if is_worth_it { self.keep_posted(index) } else { Ok(()) }
    }

    /// Goes on building postings anew, or begins to.
    fn build(&self, index: &VectorIndex) -> Result<()> {
        let building = lock(&index.building).take();
        // What it took before is in memory while it is worked on.
        let built = match building {
            None => self.begin_building(index),
            // Where it fails it is begun anew.
            Some(mut building) => self.build_on(index, &mut building).and_then(|rows| match rows {
                Some(rows) => self.end_building(index, building.finder, rows).map(|()| None),
                None => Ok(Some(building)),
            }),
        };
        let bytes =
            built.as_ref().map_or(0, |built| built.as_ref().map_or(0, Building::memory_bytes));
        index.building_bytes.store(bytes as u64, Ordering::Relaxed);
        *lock(&index.building) = built?;
        Ok(())
    }

    fn begin_building(&self, index: &VectorIndex) -> Result<Option<Building>> {
        let most = index.limits.learnt_max(index.spec.dim);
        let mut some: Vec<Row> = {
            let mut state = index.write();
            let Some(posted) = &mut state.posted else { return Ok(None) };
            if posted.is_lost() && posted.finder.take().is_some() {
                index.rebuilt.fetch_add(1, Ordering::Relaxed);
            }
            let step = posted.rows.len().div_ceil(most).max(1);
            let some = posted.rows.iter().step_by(step).collect();
            index.measure(&state);
            some
        };
        some.sort_unstable();
        let (learnt, floats) = self.records_of(index, &some)?;
        if learnt.is_empty() {
            // All of them are others by now, or gone.
            let mut state = index.write();
            for (id, _) in some {
                index.take_anew(&self.engine, &mut state, id)?;
            }
            if state.posted_len() == 0 {
                state.posted = None;
            }
            index.measure(&state);
            return Ok(None);
        }
        let ids: Vec<u64> = learnt.iter().map(|(id, _)| *id).collect();
        let finder = self.learn(index, &ids, &floats)?;
        let (rest, missing) = (Vec::new(), Vec::new());
        Ok(Some(Building { finder, learnt, rest, at: None, rows: None, missing }))
    }

    /// Does some of what is to be done; gives the rows at the end.
    fn build_on(&self, index: &VectorIndex, building: &mut Building) -> Result<Option<Rows>> {
        if index.is_dropped() || self.control.is_closed() {
            return Err(Error::new(ErrorKind::Unavailable, "the index is being closed"));
        }
        let Building { finder, learnt, rest, at, rows, missing } = building;
        if finder.pages.changed_bytes() > index.limits.posted_bytes() {
            finder.pages.write_some(WRITTEN_AT_ONCE)?;
            return Ok(None);
        }
        let due = finder.steps_due();
        let Finder { index: made, pages, .. } = finder;
        let is_done = rows.is_some() && missing.is_empty();
        if due > if is_done { 0 } else { STEPS_WAITING } {
            let state = index.read();
            let Some(posted) = state.posted.as_ref() else { return Ok(None) };
            made.step(&mut *index.fetch_live(&self.engine, Some(&posted.rows), true), pages)?;
            return Ok(None);
        }
        let mut put = |wanted: &[Row]| -> Result<Vec<Row>> {
            let (found, floats) = self.records_of(index, wanted)?;
            let ids: Vec<u64> = found.iter().map(|(id, _)| *id).collect();
            made.insert_many(&ids, &floats, self.threads(), pages)?;
            Ok(found)
        };
        let Some(there) = rows else {
            let state = index.read();
            let posted = state.posted.as_ref();
            let some = posted.map(|posted| posted.rows.sorted_behind(*at, PUT_AT_ONCE));
            drop(state);
            let some = some.unwrap_or_default();
            match some.last() {
                Some(last) => {
                    *at = Some(last.0);
                    let is_new = |row: &Row| learnt.binary_search(row).is_err();
                    let new: Vec<Row> = some.iter().copied().filter(is_new).collect();
                    rest.extend(put(&new)?);
                }
                None => {
                    let mut all = std::mem::take(rest);
                    all.append(learnt);
                    // Of one that was learnt, and read again as another, the later counts.
                    all.sort_unstable_by_key(|(id, seq)| (*id, std::cmp::Reverse(*seq)));
                    all.dedup_by_key(|row| row.0);
                    *rows = Some(Rows::of(SortedRows::of(all), &[]));
                }
            }
            return Ok(None);
        };
        if missing.is_empty() {
            let state = index.read();
            let lacks = state.posted.as_ref().map(|posted| posted.rows.missing_in(there));
            *missing = lacks.unwrap_or_default();
            if missing.len() <= MISSING_MAX {
                return Ok(rows.take());
            }
        }
        let some = missing.split_off(missing.len().saturating_sub(PUT_AT_ONCE));
        let found = put(&some)?;
        found.iter().for_each(|(id, seq)| there.insert(*id, *seq));
        if found.len() < some.len() {
            // They are others by now, or the index has them wrong: they would lack here for ever.
            let found: HashSet<Row> = found.into_iter().collect();
            let mut state = index.write();
            for (id, _) in some.iter().filter(|row| !found.contains(*row)) {
                index.take_anew(&self.engine, &mut state, *id)?;
            }
            index.measure(&state);
        }
        Ok(None)
    }

    /// Has postings that were built take the place of the others.
    fn end_building(&self, index: &VectorIndex, mut finder: Finder, mut rows: Rows) -> Result<()> {
        while finder.pages.write_some(WRITTEN_AT_ONCE)? {}
        let mut state = index.write();
        let Some(posted) = state.posted.as_ref() else { return Ok(()) };
        for (id, _) in posted.rows.missing_in(&rows) {
            index.take_anew(&self.engine, &mut state, id)?;
        }
        let mut stale = 0;
        if let Some(posted) = state.posted.take() {
            for (id, _) in rows.missing_in(&posted.rows) {
                rows.remove(id);
                stale += 1;
            }
        }
        let rows = Rows::of(rows.to_sorted(), &[]);
        finder.index.set_len(rows.len());
        // From now on it is counted where it stands.
        index.building_bytes.store(0, Ordering::Relaxed);
        state.posted = Some(Posted::new(finder, rows, stale));
        index.measure(&state);
        drop(state);
        self.keep_posted(index)
    }

    /// The vectors of rows whose records are still the same.
    fn records_of(&self, index: &VectorIndex, rows: &[Row]) -> Result<(Vec<Row>, Vec<f32>)> {
        let (mut found, mut floats) = (Vec::with_capacity(rows.len()), Vec::new());
        for (id, seq) in rows {
            let key = record::vector_key(index.id, VectorId::new(*id));
            let record = self.engine.get(CfId::VECTORS, &key, &ReadOptions::default())?;
            if let Some(record) = record.filter(|record| record.seq.0 == *seq) {
                floats.extend(record::floats(*id, &record.value)?);
                found.push((*id, *seq));
            }
        }
        Ok((found, floats))
    }
}

impl State {
    /// Takes vectors out of a segment, which is gone with the last.
    fn move_out(&mut self, number: u64, rows: &[Row]) {
        if let Some(segment) = self.segments.iter_mut().find(|s| s.number == number) {
            segment.dead.extend(rows.iter().map(|(id, _)| *id));
        }
        self.segments.retain(|segment| segment.number != number || segment.live() > 0);
    }
}

impl VectorIndex {
    /// The numbers of the files of pages that are in use.
    pub(super) fn page_files(&self) -> Vec<u64> {
        let building = lock(&self.building).as_ref().map(|building| building.finder.pages.number);
        let state = self.read();
        let finder = state.posted.as_ref().and_then(|posted| posted.finder.as_ref());
        building.into_iter().chain(finder.map(|finder| finder.pages.number)).collect()
    }

    /// Whether it was searched since it was last asked so.
    pub(super) fn is_searched(&self) -> bool {
        let searches = self.searches.load(Ordering::Relaxed);
        self.searches_seen.swap(searches, Ordering::Relaxed) != searches
    }
}

/// The vectors of rows, as a graph compares them.
fn vectors_of(graph: &HnswIndex, rows: &[Row]) -> (Vec<u64>, Vec<f32>) {
    let vector = |id: u64| graph.get(id).unwrap_or_default();
    let ids: Vec<u64> = rows.iter().map(|(id, _)| *id).filter(|id| graph.contains(*id)).collect();
    let floats = ids.iter().flat_map(|id| vector(*id)).copied().collect();
    (ids, floats)
}

fn not_a_graph() -> Error {
    Error::new(ErrorKind::Internal, "what is to be put into postings is no graph")
}

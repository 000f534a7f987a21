//! From files and records to indexes.
//!
//! If the files cover all that is in tables, what is newer was told when the log was read: those
//! vectors are looked up one by one. Otherwise, and if a file is damaged or missing, all records are
//! walked: what a file holds of a record with the same sequence number counts, and the rest is taken
//! in as if it had just been written. See `catch_up`.

use crate::base::{CfId, Error, ErrorKind, IndexId, Result};
use crate::lsm::{Engine, ReadOptions};
use crate::op::vector::{NamedIndex, VectorId};
use crate::shard::vectors::form::Form;
use crate::shard::vectors::index::{Change, State, VectorIndex, lock};
use crate::shard::vectors::kept::Kept;
use crate::shard::vectors::posted::{self, Finder, Posted, takes_postings};
use crate::shard::vectors::record;
use crate::shard::vectors::rows::Rows;
use crate::shard::vectors::segment::{self, Segment};
use crate::shard::vectors::state_file::{self, IndexState};
use crate::shard::vectors::stored::stored_indexes;
use crate::shard::vectors::{Registry, Vectors};
use crate::vector::IdSet;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// How many times as many vectors as stop writers may wait when those of damaged segments are taken in.
const GIVEN_UP_WAITING: usize = 4;

impl Vectors {
    /// Loads all indexes. What was applied before is known from the engine, what is applied from now
    /// on is noted. Unless `at_once`, those of which more is to be taken in from records than may wait
    /// to be linked catch up in the background, and answer no search until then.
    ///
    /// # Errors
    /// A record of an index that is damaged or of a newer version. Damaged files are none; an index
    /// whose vectors cannot be read answers no search, and all else does.
    pub(crate) fn load(&self, at_once: bool) -> Result<()> {
        let Some(replayed) = lock(&self.replayed).take() else { return Ok(()) };
        let mut registry = Registry::default();
        for NamedIndex { id, spec } in stored_indexes(&self.engine)? {
            let index = Arc::new(VectorIndex::new(id, spec, self.dir_of(id), self.limits())?);
            self.load_index(&index, replayed.get(&id), at_once)?;
            registry.add(index);
        }
        self.remove_strangers(&registry);
        *self.indexes.write().unwrap_or_else(PoisonError::into_inner) = registry;
        self.due.store(true, Ordering::Release);
        Ok(())
    }

    /// Records are about to go without a word: until [`Vectors::reload`] no file says what there is.
    pub(crate) fn fall_behind(&self) {
        self.behind.store(true, Ordering::Release);
    }

    /// Whether what an index says counts: not while it knows vectors that a split has given away, nor
    /// before it has caught up with the records.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) fn are_told(&self, index: &VectorIndex) -> Result<()> {
        let message = if self.behind.load(Ordering::Acquire) {
            "the shard is being split, and its indexes are still to hear of it; try again".into()
        } else if index.lag.is_behind() {
            let name = &index.spec.name;
            match index.lag.error() {
                None => format!(
                    "the index `{name}` is being brought up to date with its records; try again soon"
                ),
                Some(error) => format!(
                    "the index `{name}` cannot be brought up to date with its records, and is tried \
                     again: {error}"
                ),
            }
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// Has every index compared with the records anew, after records have gone without a word.
    /// Searches are told to come again meanwhile; nobody else is held up.
    pub(crate) fn reload(&self) {
        self.all().iter().for_each(|index| index.lag.begin(None));
        // Behind that: whoever asks for both, this first, is told by one of them.
        self.behind.store(false, Ordering::Release);
        self.due.store(true, Ordering::Release);
    }

    /// Removes what is there of indexes that are not.
    fn remove_strangers(&self, registry: &Registry) {
        let disk = self.engine.place().0;
        let Ok(entries) = disk.list(&self.dir) else { return };
        for entry in entries.iter().filter(|entry| entry.is_dir) {
            let id = entry.name.parse::<u64>().ok().map(IndexId);
            if id.is_none_or(|id| !registry.by_id.contains_key(&id)) {
                self.remove_folder(&self.dir.join(&entry.name));
            }
        }
    }

    /// Loads an index, and has it catch up with the records: `at_once`, or if that is little to do.
    fn load_index(
        &self,
        index: &VectorIndex,
        replayed: Option<&HashSet<u64>>,
        at_once: bool,
    ) -> Result<()> {
        let stored = state_file::read(&**self.engine.place().0, &index.dir, index.id);
        index.rebuilt.fetch_add(u64::from(stored.is_err()), Ordering::Relaxed);
        let is_known = stored.as_ref().map_or_else(|e| e.kind() == ErrorKind::Corruption, |_| true);
        let stored = stored.ok().flatten();
        let is_whole = self.load_files(index, stored.as_ref());
        if is_known {
            self.remove_unnamed(index, stored.as_ref());
        }
        let some = stored.filter(|_| is_whole).map(|stored| {
            *lock(&index.saved) = stored.covered;
            stored.loose.into_iter().chain(replayed.into_iter().flatten().copied()).collect()
        });
        index.lag.begin(some);
        let caught_up = match at_once {
            true => self.catch_up(index, index.stop_at()),
            false => self.catch_up_soon(index),
        };
        match caught_up {
            // All else that the shard holds can be had; the background tries again.
            Err(e) if matches!(e.kind(), ErrorKind::Corruption | ErrorKind::Io) => {
                index.lag.fail(e);
                Ok(())
            }
            caught_up => caught_up,
        }
    }

    /// Loads the files that there are; whether they hold all that is in tables.
    fn load_files(&self, index: &VectorIndex, stored: Option<&IndexState>) -> bool {
        let mut state = index.write();
        // The number of a file that no state names may be taken.
        state.next_file = self.first_free(index);
        let Some(stored) = stored else { return false };
        index.loaded.store(stored.covered.0, Ordering::Release);
        // One that covers nothing was written before all was taken in.
        let mut is_whole = self.flushed_at_open <= stored.covered && stored.covered.0 > 0;
        for file in &stored.files {
            let is_fresh = stored.fresh == Some(file.number);
            if self.load_file(index, &mut state, file, is_fresh).is_err() {
                is_whole = false;
                index.rebuilt.fetch_add(1, Ordering::Relaxed);
            }
        }
        is_whole
    }

    /// Removes the files that no state names: of a start that was cut off before it could write down
    /// that they are there. What cannot be removed is when the next state is written.
    fn remove_unnamed(&self, index: &VectorIndex, stored: Option<&IndexState>) {
        let named = stored.map_or(&[][..], |stored| &stored.files);
        let loaded = index.read().files();
        // Which pages belong to a file that could not be read is not known.
        let pages = named.iter().all(|file| loaded.contains(&file.number));
        let pages = pages.then(|| index.page_files());
        _ = self.remove_files(&index.dir, |name| {
            let number = |end: &str| name.strip_suffix(end).and_then(|n| n.parse::<u64>().ok());
            number(".seg").is_some_and(|n| !named.iter().any(|file| file.number == n))
                || pages.as_ref().zip(number(".pages")).is_some_and(|(all, n)| !all.contains(&n))
        });
    }

    fn first_free(&self, index: &VectorIndex) -> u64 {
        let entries = self.engine.place().0.list(&index.dir).unwrap_or_default();
        let number = |name: &str| name.split_once('.')?.0.parse::<u64>().ok();
        let numbers = entries.iter().filter_map(|entry| number(&entry.name));
        numbers.max().map_or(1, |number| number.saturating_add(1))
    }

    fn load_file(
        &self,
        index: &VectorIndex,
        state: &mut State,
        file: &state_file::FileState,
        is_fresh: bool,
    ) -> Result<()> {
        let disk = &**self.engine.place().0;
        let path = segment::path(&index.dir, file.number);
        let stored = segment::read(disk, &path, index.id)?;
        let dead: IdSet = file.dead.iter().copied().collect();
        if takes_postings(&index.spec)
            && let Some(bytes) = stored.posted(&path)?
        {
            let config = posted::config(&index.spec, &index.limits);
            let finder = Finder::open(disk, (&index.dir, &path), &bytes, config);
            let rows = Rows::of(stored.rows, &file.dead);
            let mut posted = match finder {
                Ok((finder, stale)) => Posted::new(finder, rows, stale),
                Err(_) => {
                    index.rebuilt.fetch_add(1, Ordering::Relaxed);
                    Posted::lost(rows)
                }
            };
            posted.file = Some((file.number, stored.file_bytes));
            state.posted = Some(posted);
            return Ok(());
        }
        if !is_fresh {
            let form = match stored.form(&path, &index.spec)? {
                // At once: the graphs of all that is on disk may be more than there is memory.
                Form::Hnsw(graph) if Form::is_made_of_graphs(&index.spec) => {
                    Form::of_graph(graph, &index.spec, self.threads())?
                }
                form => form,
            };
            let is_final = form.is_final(&index.spec);
            let dead = dead.into_iter().filter(|id| stored.rows.get(*id).is_some());
            state.segments.push(Segment {
                number: file.number,
                form: Arc::new(form),
                dead: dead.collect(),
                rows: Arc::new(stored.rows),
                file_bytes: Some(stored.file_bytes),
                is_final,
            });
            return Ok(());
        }
        let mut graph = stored.graph(&path, &index.spec)?.repaired_by_hand();
        dead.iter().for_each(|id| _ = graph.remove(*id));
        let live = stored.rows.iter().filter(|(id, _)| !dead.contains(id));
        state.seqs.extend(live);
        let slots = graph.slots();
        state.fresh = graph;
        let (rows, file_bytes) = (Arc::new(stored.rows), stored.file_bytes);
        state.kept = Some(Kept { number: file.number, rows, slots, file_bytes, linked: 0 });
        Ok(())
    }
}

impl VectorIndex {
    /// Takes in what the records say of one vector, if that is not what is known.
    ///
    /// # Errors
    /// What reading the record gives.
    pub(super) fn look_up(&self, engine: &Engine, state: &mut State, id: u64) -> Result<()> {
        match self.record_of(engine, id)? {
            Some(change) => state.take_in(&change, &self.spec),
            None => state.remove(id),
        }
        Ok(())
    }

    /// Takes in what the records say of one vector, whatever was known of it.
    ///
    /// # Errors
    /// What reading the record gives; then all is as it was.
    pub(super) fn take_anew(&self, engine: &Engine, state: &mut State, id: u64) -> Result<()> {
        let found = self.record_of(engine, id)?;
        state.remove(id);
        if let Some(change) = found {
            state.apply(&change);
        }
        Ok(())
    }

    fn record_of(&self, engine: &Engine, id: u64) -> Result<Option<Change>> {
        let key = record::vector_key(self.id, VectorId::new(id));
        let found = engine.get(CfId::VECTORS, &key, &ReadOptions::default())?;
        Ok(found.map(|found| Change { id, seq: found.seq.0, value: Some(found.value) }))
    }

    /// Takes the vectors of segments that turned out to be damaged in from the records, some at a
    /// time, and gives the segments up once they have none.
    ///
    /// # Errors
    /// What reading records gives: the segments are there still, and the next search goes on.
    pub(super) fn give_up(&self, engine: &Engine, numbers: &[u64]) -> Result<()> {
        const AT_ONCE: usize = 256;
        let is_damaged = |segment: &&Segment| numbers.contains(&segment.number);
        let damaged: Vec<Segment> =
            self.read().segments.iter().filter(is_damaged).cloned().collect();
        // None is put into a segment: those that live now are all there will be.
        for segment in &damaged {
            let mut ids = segment.live_rows().map(|(id, _)| id);
            loop {
                let mut state = self.write();
                let of_it = |segments: &[Segment], id| {
                    segments.iter().any(|s| s.number == segment.number && s.has(id))
                };
                let mut some = ids.by_ref().take(AT_ONCE).peekable();
                if some.peek().is_none() {
                    break;
                }
                for id in some {
                    if of_it(&state.segments, id) {
                        self.take_anew(engine, &mut state, id)?;
                    }
                }
                // As they were given they take more memory than there may be.
                if state.tail.len() >= GIVEN_UP_WAITING * self.stop_at() {
                    if state.is_full(&self.spec) {
                        state.seal(&self.spec);
                    }
                    state.link_and_repair(AT_ONCE, self.limits.threads.max(1))?;
                }
                self.measure(&state);
            }
        }
        let mut state = self.write();
        let before = state.segments.len();
        state.segments.retain(|segment| !numbers.contains(&segment.number) || segment.live() > 0);
        let gone = before - state.segments.len();
        self.rebuilt.fetch_add(gone as u64, Ordering::Relaxed);
        self.has_dead_files.fetch_or(gone > 0, Ordering::Relaxed);
        self.measure(&state);
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::env::{Disk, SimDisk};
    use crate::op::vector::{
        IndexKind, IndexSpec, Metric, Quantisation, VectorAnswer, VectorCall, VectorSearch,
    };
    use crate::op::{Request, Response};
    use crate::shard::Shard;
    use crate::shard::vectors::VectorLimits;
    use crate::shard::vectors::tests::{apply, create, shard_on};
    use crate::shard::vectors::work::LINKED_AT_ONCE;

    pub(in crate::shard::vectors) const COUNT: usize = 3_000;
    pub(in crate::shard::vectors) const INDEX: IndexId = IndexId(3);

    fn open(disk: &SimDisk) -> (Arc<Shard>, Option<Arc<VectorIndex>>) {
        let limits = VectorLimits { segment_rows: 64, ..VectorLimits::default() };
        let shard = shard_on(disk, limits);
        let index = shard.vectors.get("v").ok();
        (shard, index)
    }

    /// A shard's records, of which no index has heard when it is opened.
    pub(in crate::shard::vectors) fn filled(
        kind: IndexKind,
        quantisation: Quantisation,
    ) -> SimDisk {
        let disk = SimDisk::new();
        let (shard, _) = open(&disk);
        let spec = IndexSpec { kind, quantisation, ..IndexSpec::new("v", 2, Metric::L2) };
        create(&shard, INDEX, 3, spec.with_defaults());
        for part in 0..COUNT as u64 / 1_000 {
            apply(&shard, INDEX, 4 + part, part * 1_000..(part + 1) * 1_000);
        }
        shard.engine().flush_all().unwrap();
        disk
    }

    const FORMS: [(IndexKind, Quantisation); 4] = [
        (IndexKind::DiskHnsw, Quantisation::None),
        (IndexKind::Hnsw, Quantisation::Compact4),
        (IndexKind::Hnsw, Quantisation::Packed),
        (IndexKind::Hnsw, Quantisation::None),
    ];

    /// A replica that was given a copy of a shard held all its vectors as they were given until the
    /// background came to them: one larger than memory could never be joined.
    #[test]
    fn what_is_taken_in_from_records_is_linked_and_gets_its_form_meanwhile() {
        for (kind, quantisation) in FORMS {
            let mut disk = filled(kind, quantisation);
            for _ in 0..2 {
                let (shard, index) = open(&disk);
                let index = index.unwrap();
                let state = index.read();
                assert_eq!(state.len(), COUNT);
                assert!(state.tail.len() < index.stop_at(), "{}", state.tail.len());
                assert!(state.fresh.len() < 64 + LINKED_AT_ONCE && state.segments.len() > 5);
                let has_form = |s: &Segment| s.is_final && s.file_bytes.is_some();
                assert!(state.segments.iter().all(has_form));
                // Not all had been taken in when these files were written.
                let told = told(&shard, &index).unwrap();
                assert_eq!((told.covered.0, told.files.len()), (0, state.segments.len()));
                // What is in memory alone is lost.
                disk = disk.crash(crate::env::sim_disk::Crash::Process);
            }
            let (shard, index) = open(&disk);
            shard.vectors.settle();
            assert_eq!(index.unwrap().rebuilt.load(Ordering::Relaxed), 0);
            drop(shard);
            let (_, index) = open(&disk);
            let index = index.unwrap();
            assert_eq!((index.read().len(), index.rebuilt.load(Ordering::Relaxed)), (COUNT, 0));
        }
    }

    fn told(shard: &Shard, index: &VectorIndex) -> Option<IndexState> {
        state_file::read(&**shard.engine().place().0, &index.dir, INDEX).unwrap()
    }

    /// Files were written that nothing named: each start wrote all of them again behind those of the
    /// one before, until the device was full.
    #[test]
    fn an_opening_that_is_cut_off_goes_on_where_it_was() {
        for (kind, quantisation) in FORMS {
            let mut disk = filled(kind, quantisation);
            let all = {
                let disk = disk.crash(crate::env::sim_disk::Crash::Process);
                let _open = open(&disk);
                disk.changes()
            };
            let (mut named, mut most) = (0, 0);
            for _ in 0..10 {
                disk.stop_at(Some(all / 3));
                let (shard, index) = open(&disk);
                drop(shard);
                disk = disk.crash(crate::env::sim_disk::Crash::Process);
                let dir = &index.unwrap().dir;
                let there = disk.list(dir).unwrap();
                let state = state_file::read(&disk, dir, INDEX).unwrap().unwrap();
                assert!(state.files.len() > named, "{} {named}", state.files.len());
                named = state.files.len();
                most = there.len().saturating_sub(named).max(most);
                if named > COUNT / 256 / 2 {
                    break;
                }
            }
            // The state, and a file that was not named yet.
            assert!(most <= 3, "{most}");
            let (shard, index) = open(&disk);
            let index = index.unwrap();
            assert!(told(&shard, &index).unwrap().files.len() > named);
            assert_eq!((index.read().len(), index.rebuilt.load(Ordering::Relaxed)), (COUNT, 0));
            shard.vectors.settle();
            assert!(told(&shard, &index).unwrap().covered.0 > 0);
        }
    }

    /// All segments of a compact index were plain graphs until the background came to them.
    #[test]
    fn a_compact_index_is_compact_as_soon_as_it_is_opened() {
        for quantisation in [Quantisation::Compact4, Quantisation::Compact8] {
            let disk = filled(IndexKind::Hnsw, quantisation);
            let bytes = {
                let (shard, index) = open(&disk);
                shard.vectors.settle();
                index.unwrap().read().memory_bytes()
            };
            let (_, index) = open(&disk);
            let index = index.unwrap();
            let state = index.read();
            let is_compact = |s: &Segment| s.is_final && matches!(*s.form, Form::Compact(_));
            assert!(!state.segments.is_empty() && state.segments.iter().all(is_compact));
            assert!(state.memory_bytes() <= bytes + 4096, "{} {bytes}", state.memory_bytes());
        }
    }

    #[test]
    fn an_index_that_is_compared_anew_forgets_what_has_no_record_any_more() {
        let disk = filled(IndexKind::Hnsw, Quantisation::None);
        let (shard, index) = open(&disk);
        let index = index.unwrap();
        shard.vectors.settle();
        {
            // Those of another shard's, as if they had never been here.
            let mut state = index.write();
            for id in (5_000..6_000).chain([u64::MAX]) {
                let value = record::encode(&crate::op::vector::Floats::of(&[1.0, 2.0]), b"");
                state.apply(&Change { id, seq: 9, value: Some(value) });
            }
            for id in [0, 7, 2_999] {
                state.remove(id);
            }
        }
        // The nearest of all is one of the other shard's.
        let search = || {
            let search = VectorSearch::new("v", &[1.0, 2.0], 1);
            let call = VectorCall::Search(search);
            shard.execute(Request::Vector(Box::new(call)), 1).map(|answer| answer.response)
        };
        let nearest = |answer| match answer {
            Ok(Response::Vector(answer)) => match *answer {
                VectorAnswer::Found(found) => found.hits[0].id,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        assert!(nearest(search()) >= 5_000);
        shard.vectors.fall_behind();
        assert_eq!(search().unwrap_err().kind(), ErrorKind::Unavailable);
        shard.vectors.reload();
        assert_eq!(search().unwrap_err().kind(), ErrorKind::Unavailable);
        shard.vectors.settle();
        assert!(nearest(search()) < 5_000);
        let mut ids = index.read().ids();
        ids.sort_unstable();
        assert_eq!(ids, (0..COUNT as u64).collect::<Vec<_>>());
    }

    /// One block of vectors that could not be read kept the whole shard from being opened, its keys
    /// included.
    #[test]
    fn records_that_cannot_be_read_cost_their_index_alone() {
        let disk = filled(IndexKind::Hnsw, Quantisation::None);
        let size = |path: &std::path::Path| disk.open(path).unwrap().len().unwrap();
        let tables = || {
            let all = disk.list("/shard".as_ref()).unwrap().into_iter();
            all.filter(|entry| entry.name.ends_with(".sst")).map(|entry| entry.name)
        };
        let largest = tables().map(|name| std::path::Path::new("/shard").join(name));
        let largest = largest.max_by_key(|path| size(path)).unwrap();
        let half = size(&largest) / 2;
        (half..half + 64).for_each(|at| disk.damage(&largest, at, 0xFF).unwrap());
        let (shard, index) = open(&disk);
        let call = |call: VectorCall| shard.execute(Request::Vector(Box::new(call)), 1);
        let search = || call(VectorCall::Search(VectorSearch::new("v", &[1.0, 2.0], 1)));
        for _ in 0..3 {
            let told = search().map(|_| ()).unwrap_err();
            assert_eq!(told.kind(), ErrorKind::Unavailable);
            assert!(told.to_string().contains("cannot be brought up to date"), "{told}");
            shard.vectors.tend();
            shard.vectors.settle();
        }
        // Whatever else is written and read.
        apply(&shard, INDEX, 20, 9_000..9_010);
        assert!(index.unwrap().lag.is_behind());
        // Once it can be read, all is.
        (half..half + 64).for_each(|at| disk.damage(&largest, at, 0xFF).unwrap());
        for _ in 0..10 {
            shard.vectors.tend();
            shard.vectors.settle();
        }
        assert!(search().is_ok());
        assert_eq!(shard.vectors.get("v").unwrap().read().len(), COUNT + 10);
    }
}

//! What the background does, one piece at a time.

use crate::base::{Error, ErrorKind, LogIndex, Result};
use crate::env::Pool;
use crate::shard::vectors::Vectors;
use crate::shard::vectors::form::{Form, Place, graph_bytes, is_plain, making_bytes};
use crate::shard::vectors::index::{VectorIndex, lock};
use crate::shard::vectors::kept::Kept;
use crate::shard::vectors::next::Piece;
use crate::shard::vectors::segment::{self, GRAPH, Segment};
use crate::shard::vectors::sorted::SortedRows;
use crate::shard::vectors::state_file;
use crate::vector::HnswIndex;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Vectors linked at once while nobody searches, and while somebody does: a search waits meanwhile.
pub(super) const LINKED_AT_ONCE: usize = 256;
const LINKED_BETWEEN_SEARCHES: usize = 32;
/// Numbers of a vector times candidates of its insertion that these are meant for: of what costs more
/// fewer are linked.
const LINKED_COST: usize = 512 * 256;

/// How many times as many vectors as stop writers may wait before whoever applies more links some: a
/// follower has no writers that would.
const OVERRUN: usize = 2;

/// How long the background works before it lets others have their turn, in ns.
const TURN_NS: u64 = 1_000_000_000;

impl Vectors {
    /// Has the background go on if there is something to do.
    #[inline]
    pub(crate) fn kick(self: &Arc<Self>) {
        if self.due.load(Ordering::Acquire) {
            self.queue();
        }
    }

    /// A turn of the upkeep: looks for what time alone makes necessary.
    pub(crate) fn tend(self: &Arc<Self>) {
        for index in self.all() {
            let changes = index.changes.load(Ordering::Relaxed);
            let mut rest = lock(&index.rest);
            *rest = if rest.0 == changes { (changes, rest.1 + 1) } else { (changes, 0) };
            lock(&index.failed).turn();
        }
        self.pin();
        // All else that is looked after waits for this: not for one who holds an index for long.
        let is_due = |index: &Arc<VectorIndex>| index.is_held() || self.next(index).is_some();
        if !lock(&self.doomed).is_empty() || self.all().iter().any(is_due) {
            self.due.store(true, Ordering::Release);
        }
        self.kick();
    }

    /// Takes the memory of indexes off that of the cache of blocks: one budget has to do for both.
    fn pin(&self) {
        let (mut pinned, bytes) = (lock(&self.pinned), self.memory_bytes());
        // Closing has given it back, or will with this lock: nobody would after that.
        if self.control.is_closed() {
            return;
        }
        let cache = self.engine.cache();
        match bytes.cmp(&pinned) {
            std::cmp::Ordering::Greater => cache.pin(bytes - *pinned),
            std::cmp::Ordering::Less => cache.unpin(*pinned - bytes),
            std::cmp::Ordering::Equal => {}
        }
        *pinned = bytes;
    }

    /// Where the background works: on a thread of its own, because a piece may take minutes in which
    /// compactions would wait. Where those are turned by hand, beside them.
    fn pool(&self) -> &Pool {
        let beside = self.engine.pool();
        match beside.has_threads() {
            true => self.pool.get_or_init(|| Pool::yielding("arqon-vectors")),
            false => beside,
        }
    }

    #[cold]
    fn queue(self: &Arc<Self>) {
        if !self.control.may_queue() {
            return;
        }
        let (control, vectors) = (self.control.clone(), Arc::downgrade(self));
        self.pool().spawn(move || {
            if !control.begin() {
                return;
            }
            // Also if it panics: whoever closes waits for the end, and holds it until then, so that
            // what is upgraded here is never the last, which would end the pool on one of its own
            // threads.
            let _ended = control.ends();
            if let Some(vectors) = vectors.upgrade() {
                let until = vectors.clock.monotonic_ns() + TURN_NS;
                while vectors.work_once() && vectors.clock.monotonic_ns() < until {}
            }
        });
    }

    /// Does one piece of work; whether there may be more. One that fails is tried again at a later
    /// turn of the upkeep, the next one at first.
    pub(super) fn work_once(&self) -> bool {
        self.due.store(false, Ordering::Release);
        self.remove_doomed();
        if self.control.is_closed() {
            return false;
        }
        let all = self.all();
        // Behind the one that was worked on last, so that one that is always written to does not keep
        // the others waiting.
        let first = self.turn.load(Ordering::Relaxed);
        for at in (0..all.len()).map(|n| (first + n) % all.len()) {
            let Some(piece) = self.next(&all[at]) else { continue };
            // What is done in memory alone goes on beside what fails, and says nothing of it.
            let is_lasting =
                !matches!(piece, Piece::Link | Piece::Seal | Piece::Repair | Piece::Shrink);
            match self.work(&all[at], piece) {
                Ok(()) => {
                    if is_lasting {
                        *lock(&all[at].failed) = Default::default();
                    }
                    self.turn.store(at + 1, Ordering::Relaxed);
                    self.due.store(true, Ordering::Release);
                    return true;
                }
                // Not what was interrupted.
                Err(e) if is_lasting && e.kind() != ErrorKind::Unavailable => {
                    lock(&all[at].failed).once_more();
                }
                Err(_) => {}
            }
        }
        false
    }

    /// Does all that is to be done, on this thread: for whoever waits for room, and for tests.
    pub(crate) fn settle(&self) {
        while self.control.begin_here() {
            let ended = self.control.ends();
            let more = self.work_once();
            drop(ended);
            if !more {
                return;
            }
        }
    }

    /// Links vectors on this thread, for a writer of so many: one piece an index at least, so that
    /// many of them wait about as long as each other, however much a rebuild has left to be linked;
    /// and as many as it writes, so that large batches leave no more and more behind them.
    pub(crate) fn wait_for_room(&self, vectors: usize) {
        self.all().iter().for_each(|index| self.link_some(index, vectors, index.stop_at()));
    }

    /// Whether so many vectors wait somewhere that whoever applies more is to call
    /// [`Vectors::keep_up`].
    pub(crate) fn is_overrun(&self) -> bool {
        let all = self.indexes.read().unwrap_or_else(PoisonError::into_inner);
        all.by_id.values().any(|index| index.waiting() >= OVERRUN * index.stop_at())
    }

    /// Links vectors on this thread until fewer wait.
    pub(crate) fn keep_up(&self) {
        if !self.is_overrun() {
            return;
        }
        self.all().iter().for_each(|i| self.link_some(i, usize::MAX, OVERRUN * i.stop_at()));
    }

    /// Links vectors of an index, as long as `least` wait, and `most` of them or some more.
    fn link_some(&self, index: &VectorIndex, most: usize, least: usize) {
        let mut linked = 0;
        while linked < most && index.waiting() >= least && !self.control.is_closed() {
            // The background may be busy for minutes with what was sealed before.
            let mut state = index.write();
            if state.is_full(&index.spec) {
                state.seal(&index.spec);
            }
            drop(state);
            match self.link(index) {
                Ok(some) if some > 0 => linked += some,
                _ => break,
            }
        }
    }

    fn work(&self, index: &VectorIndex, piece: Piece) -> Result<()> {
        let links = matches!(piece, Piece::Link | Piece::Seal);
        index.has_linked.store(links, Ordering::Relaxed);
        match piece {
            // Writers are not slowed by what it takes in.
            Piece::CatchUp => self.catch_up(index, index.stop_at() / 4).inspect_err(|e| {
                if e.kind() != ErrorKind::Unavailable {
                    index.lag.fail(e.clone());
                }
            }),
            Piece::Link => self.link(index).map(drop),
            Piece::Repair => {
                let mut state = index.write();
                state.repair(linked_at_once(index), self.threads());
                index.measure(&state);
                Ok(())
            }
            Piece::Seal => {
                let mut state = index.write();
                state.seal(&index.spec);
                index.measure(&state);
                Ok(())
            }
            Piece::Shrink => {
                let mut state = index.write();
                // Both are in memory for a moment.
                let _copy = index.learning(graph_bytes(&index.spec, state.fresh.len()));
                let is_gone = state.shrink(&index.spec);
                index.has_dead_files.fetch_or(is_gone, Ordering::Relaxed);
                index.measure(&state);
                Ok(())
            }
            Piece::Finish(number) => self.finish(index, number),
            Piece::Bury => self.bury(index),
            Piece::Make(numbers) => self.make(index, &numbers),
            Piece::Keep => self.keep(index),
            Piece::Save => self.save(index),
            Piece::Post(piece) => self.post(index, piece),
        }
    }

    pub(super) fn threads(&self) -> usize {
        self.limits().threads.max(1)
    }

    fn link(&self, index: &VectorIndex) -> Result<usize> {
        let most = linked_at_once(index);
        let linked = index.write().link(most, self.threads());
        // As in `State::link_and_repair`, with a turn for searches in between.
        let mut state = index.write();
        if let Ok(linked) = linked
            && state.needs_repair(false)
        {
            state.repair(linked, self.threads());
        }
        index.measure(&state);
        linked
    }

    /// Gives a segment the form that the settings ask for, and a file, and writes that down.
    fn finish(&self, index: &VectorIndex, number: u64) -> Result<()> {
        self.give_form(index, number)?;
        self.save(index)
    }

    /// Gives a segment the form that the settings ask for, and a file that counts once it is written
    /// down which there are.
    pub(super) fn give_form(&self, index: &VectorIndex, number: u64) -> Result<()> {
        let found = index.read().segments.iter().find(|s| s.number == number).cloned();
        let Some(segment) = found else { return Ok(()) };
        if is_plain(&index.spec, segment.rows.len()) {
            return self.give_file(index, &segment);
        }
        let _making = index.learning(making_bytes(&index.spec, segment.rows.len()));
        let (disk, path) = (self.engine.place().0, segment::path(&index.dir, number));
        let graph = match segment.form.graph_bytes() {
            Some(bytes) => HnswIndex::from_bytes(&bytes)?,
            None => segment::read(&**disk, &path, index.id)?.graph(&path, &index.spec)?,
        };
        // The file that there is stays until another is named in its place.
        let in_file = match segment.file_bytes {
            Some(_) => Vectors::number_for_file(index),
            None => number,
        };
        let (form, file_bytes) = self.write_form(index, in_file, graph, &segment.rows)?;
        let mut state = index.write();
        if let Some(segment) = state.segments.iter_mut().find(|s| s.number == number) {
            segment.form = Arc::new(form);
            (segment.number, segment.file_bytes) = (in_file, Some(file_bytes));
            segment.is_final = true;
        }
        index.measure(&state);
        Ok(())
    }

    /// Gives a segment that keeps its form a file.
    fn give_file(&self, index: &VectorIndex, segment: &Segment) -> Result<()> {
        let number = segment.number;
        let mut file_bytes = segment.file_bytes;
        if let Some(bytes) = segment.form.graph_bytes() {
            let _writing = index.learning(bytes.len());
            file_bytes = Some(self.write_file(index, number, &segment.rows, &bytes)?);
        }
        if let Some(segment) = index.write().segments.iter_mut().find(|s| s.number == number) {
            segment.file_bytes = file_bytes;
            segment.is_final = true;
        }
        Ok(())
    }

    pub(super) fn number_for_file(index: &VectorIndex) -> u64 {
        let mut state = index.write();
        state.next_file += 1;
        state.next_file - 1
    }

    /// Drops the segments of which nothing counts any more.
    fn bury(&self, index: &VectorIndex) -> Result<()> {
        let mut state = index.write();
        let mut has_files = false;
        state.segments.retain(|segment| {
            has_files |= segment.live() == 0 && segment.file_bytes.is_some();
            segment.live() > 0
        });
        index.measure(&state);
        drop(state);
        // Should that fail, it is known that there are files of nothing.
        index.has_dead_files.fetch_or(has_files, Ordering::Relaxed);
        if has_files { self.save(index) } else { Ok(()) }
    }

    /// Writes the graph that grows down.
    fn keep(&self, index: &VectorIndex) -> Result<()> {
        let number = Vectors::number_for_file(index);
        let (rows, bytes, seals, (slots, linked)) = {
            let state = index.read();
            let numbers = (state.fresh.slots(), state.linked);
            (Arc::new(state.fresh_rows()), state.fresh.to_bytes(), state.seals, numbers)
        };
        let writing = index.learning(bytes.len());
        let file_bytes = self.write_file(index, number, &rows, &bytes)?;
        drop((bytes, writing));
        index.write().set_kept(Kept { number, rows, slots, file_bytes, linked }, seals);
        // Should that fail, it is known that it is due: what is saved names the file before.
        index.has_dead_files.store(true, Ordering::Relaxed);
        self.save(index)
    }

    /// Writes the file of a graph.
    fn write_file(
        &self,
        index: &VectorIndex,
        number: u64,
        rows: &SortedRows,
        bytes: &[u8],
    ) -> Result<u64> {
        let (disk, path) = (self.begin_file(index)?, segment::path(&index.dir, number));
        segment::write(disk, &path, index.id, rows, (GRAPH, bytes))
    }

    /// Brings a graph to the form that the settings ask for, and writes its file.
    pub(super) fn write_form(
        &self,
        index: &VectorIndex,
        number: u64,
        graph: HnswIndex,
        rows: &SortedRows,
    ) -> Result<(Form, u64)> {
        let (disk, path) = (self.begin_file(index)?, segment::path(&index.dir, number));
        let place = Place { disk, path: &path, index: index.id };
        Form::write(graph, &index.spec, self.threads(), rows, place)
    }

    pub(super) fn begin_file(&self, index: &VectorIndex) -> Result<&dyn crate::env::Disk> {
        let disk = self.engine.place().0;
        disk.create_dir_all(&index.dir)?;
        // What is in it must not be durable before its records are.
        self.engine.sync_log(LogIndex(self.noted.load(Ordering::Acquire)))?;
        Ok(&**disk)
    }

    /// Writes down which files there are and which of their vectors count, and removes the others.
    ///
    /// # Errors
    /// What writing gives; `Unavailable` while records of what stands in files are still to come.
    pub(super) fn save(&self, index: &VectorIndex) -> Result<()> {
        if self.lacks_records(index) {
            let message = "records that the files of the index know are still to come from the log";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        // All that was noted up to here is queued, and taken in by the next line.
        let covered = LogIndex(self.noted.load(Ordering::Acquire));
        // After that: a file that covers a split knows what went with it.
        self.are_told(index)?;
        let state = index.read().on_disk(covered);
        let pages = index.page_files();
        let disk = self.engine.place().0;
        if index.is_dropped() {
            return Ok(());
        }
        disk.create_dir_all(&index.dir)?;
        self.engine.sync_log(covered)?;
        state_file::write(&**disk, &index.dir, index.id, &state)?;
        *lock(&index.saved) = covered;
        index.has_dead_files.store(false, Ordering::Relaxed);
        self.remove_files(&index.dir, |name| {
            let number = |end: &str| name.strip_suffix(end).and_then(|n| n.parse::<u64>().ok());
            number(".seg").is_some_and(|n| !state.files.iter().any(|file| file.number == n))
                || number(".pages").is_some_and(|n| !pages.contains(&n))
        })
    }

    /// Writes down which files there are while not all has been taken in: they cover nothing.
    pub(super) fn save_some(&self, index: &VectorIndex) -> Result<()> {
        let state = index.read().on_disk(LogIndex(0));
        *lock(&index.saved) = LogIndex(0);
        state_file::write(&**self.engine.place().0, &index.dir, index.id, &state)
    }

    pub(super) fn remove_files(&self, dir: &Path, is_one: impl Fn(&str) -> bool) -> Result<()> {
        let disk = self.engine.place().0;
        for entry in disk.list(dir)?.iter().filter(|entry| !entry.is_dir && is_one(&entry.name)) {
            disk.remove(&dir.join(&entry.name))?;
        }
        Ok(())
    }

    /// Removes the files of indexes that were dropped.
    fn remove_doomed(&self) {
        let doomed = std::mem::take(&mut *lock(&self.doomed));
        doomed.iter().for_each(|index| self.remove_folder(&index.dir));
    }

    /// Removes an index's folder; what cannot be removed is when the shard is opened.
    pub(super) fn remove_folder(&self, dir: &Path) {
        let disk = self.engine.place().0;
        if disk.exists(dir) && self.remove_files(dir, |_| true).is_ok() {
            _ = disk.remove_dir(dir);
        }
    }

    /// Gives segments that have no file one, as they are: their form is made when they are opened.
    fn write_segments(&self, index: &VectorIndex) {
        let segments: Vec<Segment> = index.read().segments.clone();
        for segment in segments.iter().filter(|segment| segment.file_bytes.is_none()) {
            let Some(bytes) = segment.form.graph_bytes() else { continue };
            let written = self.write_file(index, segment.number, &segment.rows, &bytes);
            // One that cannot be written is built again.
            let Ok(file_bytes) = written else { continue };
            let mut state = index.write();
            if let Some(kept) = state.segments.iter_mut().find(|s| s.number == segment.number) {
                kept.file_bytes = Some(file_bytes);
            }
        }
    }

    /// Ends the work. What is in memory alone is written down, so that it need not be built again.
    pub(crate) fn close(&self) {
        if !self.control.close() {
            return;
        }
        self.engine.cache().unpin(std::mem::take(&mut *lock(&self.pinned)));
        // What one that has not caught up has built is written down already, and what stands in the files
        // of one that lacks records is more than could be said of it.
        let is_whole = |i: &&Arc<VectorIndex>| !i.lag.is_behind() && !self.lacks_records(i);
        for index in self.all().iter().filter(is_whole) {
            self.write_segments(index);
            // What cannot be written down is put into postings again.
            _ = self.close_posted(index);
            let (is_worth_it, has_files) = {
                let state = index.read();
                (state.changed_since_kept() >= index.limits.kept_min() / 4, state.has_files())
            };
            if is_worth_it {
                _ = self.keep(index);
            } else if has_files {
                _ = self.save(index);
            }
        }
    }
}

/// How many vectors are linked while searches of the index wait.
fn linked_at_once(index: &VectorIndex) -> usize {
    let most = if index.is_searched() { LINKED_BETWEEN_SEARCHES } else { LINKED_AT_ONCE };
    let cost = index.spec.dim as usize * index.spec.ef_construction as usize;
    (most * LINKED_COST / cost.max(LINKED_COST)).max(1)
}

//! One index of one shard, in memory: what was written last, the graph that grows, and the segments.
//!
//! ```text
//! apply -> incoming -> tail, compared one by one -> fresh, a graph -> segments, sealed -> postings,
//!          (a queue)   \__________________________ a search looks at all of these __/   of `spfresh`
//! ```
//! A change is queued where it is applied, which costs a copy, and taken in by the next search or by
//! the background, whichever comes first: so a search sees all that was acknowledged before it. An id
//! counts in one place at most.

use crate::base::{IndexId, LogIndex, Result};
use crate::op::vector::{IndexInfo, IndexSpec};
use crate::shard::vectors::attributes::Attributes;
use crate::shard::vectors::catch_up::Lag;
use crate::shard::vectors::control::Failed;
use crate::shard::vectors::form::{graph_config, metric};
use crate::shard::vectors::kept::Kept;
use crate::shard::vectors::limits::VectorLimits;
use crate::shard::vectors::post::Building;
use crate::shard::vectors::posted::Posted;
use crate::shard::vectors::record;
use crate::shard::vectors::segment::Segment;
use crate::shard::vectors::texts::Texts;
use crate::vector::{FlatIndex, HnswIndex};
use bytes::Bytes;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{
    Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};

/// Bytes of the vectors that are compared one by one at which writers are stopped.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Bytes that a vector takes for each of its floats while it is compared one by one.
pub(super) const TAIL_BYTES_PER_FLOAT: usize = 9;
/// Names of vectors to be linked that are not looked through.
const ORDER_MIN: usize = 64;

/// A change of one vector, as it was applied.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) id: u64,
    pub(super) seq: u64,
    /// Its record; `None` if it was removed.
    pub(super) value: Option<Bytes>,
}

impl Change {
    fn bytes(&self) -> u64 {
        64 + self.value.as_ref().map_or(0, |value| value.len() as u64)
    }
}

/// What is searched.
#[derive(Debug)]
pub(super) struct State {
    pub(super) tail: FlatIndex,
    /// The vectors of the tail as they were given: an index brings them to unit length once.
    pub(super) given: HashMap<u64, Vec<f32>>,
    /// The ids of the tail, the oldest first; some may be gone, or there again.
    pub(super) order: VecDeque<u64>,
    pub(super) fresh: HnswIndex,
    /// Vectors that were put into the graph since it was begun or read.
    pub(super) linked: usize,
    /// The sequence numbers of the records in tail and graph.
    pub(super) seqs: HashMap<u64, u64>,
    pub(super) segments: Vec<Segment>,
    /// What is in postings, of kind `spfresh`.
    pub(super) posted: Option<Posted>,
    /// The file that the graph was last kept in.
    pub(super) kept: Option<Kept>,
    /// How often it was sealed.
    pub(super) seals: u64,
    pub(super) attributes: Attributes,
    pub(super) texts: Texts,
    /// The number of the next file.
    pub(super) next_file: u64,
    /// While records are walked, vectors that were changed since.
    pub(super) newer: Option<HashSet<u64>>,
    pub(super) limits: VectorLimits,
}

/// An index.
#[derive(Debug)]
pub(super) struct VectorIndex {
    pub(super) id: IndexId,
    pub(super) spec: IndexSpec,
    pub(super) dir: PathBuf,
    pub(super) limits: VectorLimits,
    incoming: Mutex<Vec<Change>>,
    /// How many changes are queued, and their bytes.
    queued: AtomicUsize,
    queued_bytes: AtomicU64,
    state: RwLock<State>,
    /// Held by whoever indexes a field.
    pub(super) indexing: Mutex<()>,
    pub(super) dropped: AtomicBool,
    /// Its end has been placed in the log: nothing is put into it any more.
    leaving: AtomicBool,
    /// What it may take in memory with the fields that a search has indexed.
    pub(super) bytes_max: AtomicU64,
    /// Searches so far.
    pub(super) searches: AtomicU64,
    /// Changes so far.
    pub(super) changes: AtomicU64,
    /// Vectors that are compared one by one, for whoever wants to know how far the background is.
    pub(super) backlog: AtomicUsize,
    memory_bytes: AtomicU64,
    pub(super) rebuilt: AtomicU64,
    /// Searches when the background last looked.
    pub(super) searches_seen: AtomicU64,
    /// Whether the background linked or sealed when it last worked on it.
    pub(super) has_linked: AtomicBool,
    /// Changes when the upkeep last looked, and for how many turns there has been no other.
    pub(super) rest: Mutex<(u64, u64)>,
    /// Postings that are being built anew.
    pub(super) building: Mutex<Option<Building>>,
    pub(super) building_bytes: AtomicU64,
    /// What is in memory because codes are being learnt.
    learning_bytes: AtomicU64,
    /// Up to where what is on disk goes.
    pub(super) saved: Mutex<LogIndex>,
    /// Up to where the files go that it was loaded from: the records of what is behind those in tables
    /// come from the log after that.
    pub(super) loaded: AtomicU64,
    /// Whether files are left of segments that are gone.
    pub(super) has_dead_files: AtomicBool,
    /// Whether it is still to catch up with the records.
    pub(super) lag: Lag,
    /// What has failed in the background.
    pub(super) failed: Mutex<Failed>,
}

impl State {
    pub(super) fn new(spec: &IndexSpec, limits: VectorLimits) -> Result<State> {
        Ok(State {
            tail: FlatIndex::new(spec.dim as usize, metric(spec.metric))?,
            given: HashMap::new(),
            order: VecDeque::new(),
            fresh: HnswIndex::new(graph_config(spec)).repaired_by_hand(),
            linked: 0,
            seqs: HashMap::new(),
            segments: Vec::new(),
            posted: None,
            kept: None,
            seals: 0,
            attributes: Attributes::default(),
            texts: Texts::default(),
            next_file: 1,
            newer: None,
            limits,
        })
    }

    /// Vectors that count.
    pub(super) fn len(&self) -> usize {
        let sealed: usize = self.segments.iter().map(Segment::live).sum();
        self.seqs.len() + sealed + self.posted_len()
    }

    /// Vectors in postings.
    pub(super) fn posted_len(&self) -> usize {
        self.posted.as_ref().map_or(0, |posted| posted.rows.len())
    }

    /// The ids that count.
    pub(super) fn ids(&self) -> Vec<u64> {
        let sealed = self.segments.iter().flat_map(|s| s.live_rows().map(|(id, _)| id));
        let posted = self.posted.iter().flat_map(|posted| posted.rows.iter().map(|(id, _)| id));
        self.seqs.keys().copied().chain(sealed).chain(posted).collect()
    }

    /// The sequence number of the record that counts, if the id is here.
    pub(super) fn seq_of(&self, id: u64) -> Option<u64> {
        let loose = self.seqs.get(&id).copied();
        loose
            .or_else(|| self.segments.iter().find(|s| s.has(id)).and_then(|s| s.seq_of(id)))
            .or_else(|| self.posted.as_ref().and_then(|posted| posted.rows.get(id)))
    }

    /// Takes a change in. One that is older than what is here is passed over: it comes again when
    /// the log is read again.
    pub(super) fn apply(&mut self, change: &Change) {
        if self.seq_of(change.id).is_some_and(|seq| seq >= change.seq) {
            return;
        }
        self.remove(change.id);
        let Some(value) = &change.value else { return };
        // It was checked when it was written: one that is no vector is not found, and no more.
        let Ok(floats) = record::floats(change.id, value) else { return };
        if self.tail.insert(change.id, &floats).is_err() {
            return;
        }
        self.given.insert(change.id, floats);
        self.order.push_back(change.id);
        if self.order.len() > ORDER_MIN.max(2 * self.given.len()) {
            self.tidy_order();
        }
        self.seqs.insert(change.id, change.seq);
        self.take_payload(change.id, value);
    }

    /// Names each vector that is to be linked once. Few that are written again and again, or deleted,
    /// before they are linked, would be named without end.
    fn tidy_order(&mut self) {
        let mut named = HashSet::with_capacity(self.given.len());
        let given = &self.given;
        self.order.retain(|id| given.contains_key(id) && named.insert(*id));
    }

    pub(super) fn take_payload(&mut self, id: u64, value: &[u8]) {
        if self.attributes.has_begun() {
            self.attributes.set(id, record::payload(value));
        }
        self.texts.set(id, record::payload(value));
    }

    /// Forgets an id.
    pub(super) fn remove(&mut self, id: u64) {
        if self.seqs.remove(&id).is_some() {
            self.given.remove(&id);
            if !self.tail.remove(id) {
                self.fresh.remove(id);
            }
        } else {
            self.bury(id);
        }
        self.attributes.remove(id);
        self.texts.remove(id);
    }

    /// Marks an id of a segment or of postings.
    fn bury(&mut self, id: u64) {
        for segment in &mut self.segments {
            if segment.seq_of(id).is_some() {
                segment.dead.insert(id);
            }
        }
        if let Some(posted) = &mut self.posted {
            posted.remove(id);
        }
    }

    /// Bytes of memory that all of it takes, about.
    pub(super) fn memory_bytes(&self) -> u64 {
        let segments: usize = self.segments.iter().map(Segment::memory_bytes).sum();
        let kept = self.kept.as_ref().map_or(0, |kept| kept.rows.memory_bytes());
        // A map has a byte beside each pair.
        let ids = self.seqs.capacity() * (size_of::<(u64, u64)>() + 1) + self.order.capacity() * 8;
        let given = self.given.capacity() * (size_of::<(u64, Vec<f32>)>() + 1)
            + self.given.len() * 4 * self.fresh.config().dim;
        let tail = self.tail.memory_bytes() + given;
        let graphs = tail + self.fresh.memory_bytes();
        let fields = self.attributes.memory_bytes() + self.texts.memory_bytes();
        let posted = self.posted.as_ref().map_or(0, Posted::memory_bytes);
        (graphs + segments + posted + kept + ids + fields) as u64
    }
}

impl VectorIndex {
    pub(super) fn new(
        id: IndexId,
        spec: IndexSpec,
        dir: PathBuf,
        limits: VectorLimits,
    ) -> Result<VectorIndex> {
        let state = State::new(&spec, limits)?;
        Ok(VectorIndex {
            id,
            spec,
            dir,
            limits,
            incoming: Mutex::default(),
            queued: AtomicUsize::new(0),
            queued_bytes: AtomicU64::new(0),
            state: RwLock::new(state),
            indexing: Mutex::default(),
            dropped: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            bytes_max: AtomicU64::new(u64::MAX),
            searches: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            backlog: AtomicUsize::new(0),
            memory_bytes: AtomicU64::new(0),
            rebuilt: AtomicU64::new(0),
            searches_seen: AtomicU64::new(0),
            has_linked: AtomicBool::new(false),
            rest: Mutex::default(),
            building: Mutex::default(),
            building_bytes: AtomicU64::new(0),
            learning_bytes: AtomicU64::new(0),
            saved: Mutex::default(),
            loaded: AtomicU64::new(0),
            has_dead_files: AtomicBool::new(false),
            lag: Lag::default(),
            failed: Mutex::default(),
        })
    }

    /// Queues changes, which are taken in together.
    pub(super) fn note(&self, changes: Vec<Change>) {
        let (count, bytes) = (changes.len(), changes.iter().map(Change::bytes).sum());
        let mut incoming = lock(&self.incoming);
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        incoming.extend(changes);
        self.changes.fetch_add(count as u64, Ordering::Relaxed);
        self.queued.fetch_add(count, Ordering::Release);
    }

    /// Vectors that are queued or compared one by one.
    pub(super) fn waiting(&self) -> usize {
        self.queued.load(Ordering::Acquire) + self.backlog.load(Ordering::Relaxed)
    }

    /// Vectors that are queued or compared one by one from which on writers are stopped. They take
    /// more memory than those that are linked, and each search looks at all of them.
    pub(super) fn stop_at(&self) -> usize {
        let bytes = TAIL_BYTES_PER_FLOAT * self.spec.dim as usize;
        (WAITING_BYTES_MAX / bytes).clamp(512, 32_768).min(self.limits.waiting_max())
    }

    /// Whether so many wait that writers are slowed, or are about to be.
    pub(super) fn is_hurried(&self) -> bool {
        self.waiting() >= self.stop_at() / 2
    }

    /// What is searched, with all that was queued before the call.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        if self.queued.load(Ordering::Acquire) > 0 {
            drop(self.write());
        }
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether [`VectorIndex::read`] would wait.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.state.try_read(), Err(TryLockError::WouldBlock))
    }

    /// As [`VectorIndex::read`], to be changed.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let changes = std::mem::take(&mut *lock(&self.incoming));
        self.queued.fetch_sub(changes.len(), Ordering::AcqRel);
        let bytes = changes.iter().map(Change::bytes).sum();
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        for change in &changes {
            if let Some(newer) = &mut state.newer {
                newer.insert(change.id);
            }
            state.apply(change);
        }
        if !changes.is_empty() {
            self.measure(&state);
        }
        state
    }

    /// Memory that it takes, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.lasting_bytes() + self.learning_bytes.load(Ordering::Relaxed)
    }

    /// As [`VectorIndex::memory_bytes`], without what learning codes takes for a moment.
    pub(super) fn lasting_bytes(&self) -> u64 {
        // What is queued takes as much again and more once it is taken in.
        let queued = self.queued_bytes.load(Ordering::Relaxed);
        let building = self.building_bytes.load(Ordering::Relaxed);
        self.memory_bytes.load(Ordering::Relaxed) + building + 2 * queued
    }

    /// Counts memory that learning codes takes, as long as what it gives lives.
    pub(super) fn learning(&self, bytes: usize) -> Learning<'_> {
        let learning = Learning { of: &self.learning_bytes, bytes: bytes as u64 };
        self.learning_bytes.fetch_add(learning.bytes, Ordering::Relaxed);
        learning
    }

    /// Takes note of how large it is.
    pub(super) fn measure(&self, state: &State) {
        self.backlog.store(state.tail.len(), Ordering::Relaxed);
        self.memory_bytes.store(state.memory_bytes(), Ordering::Relaxed);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }

    /// What is told of it.
    pub(super) fn info(&self) -> IndexInfo {
        let state = self.read();
        let sealed: usize = state.segments.iter().map(Segment::live).sum();
        let dead: usize = state.segments.iter().map(|segment| segment.dead.len()).sum();
        let stale = state.posted.as_ref().map_or(0, |posted| posted.stale);
        let posted_bytes = state.posted.as_ref().map_or(0, Posted::disk_bytes);
        let kept = state.kept.as_ref().map_or(0, |kept| kept.file_bytes);
        let files: u64 = state.segments.iter().filter_map(|segment| segment.file_bytes).sum();
        IndexInfo {
            id: self.id,
            spec: self.spec.clone(),
            vectors: state.len() as u64,
            waiting: state.tail.len() as u64,
            fresh: state.fresh.len() as u64,
            sealed: (sealed + state.posted_len()) as u64,
            segments: state.segments.len() as u64,
            postings: state.posted.as_ref().map_or(0, Posted::postings),
            dead: (dead + state.fresh.dead()) as u64 + stale,
            memory_bytes: state.memory_bytes()
                + self.building_bytes.load(Ordering::Relaxed)
                + self.learning_bytes.load(Ordering::Relaxed),
            disk_bytes: files + kept + posted_bytes,
            rebuilt: self.rebuilt.load(Ordering::Relaxed),
            nodes: Vec::new(),
        }
    }
}

/// Memory that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Learning<'a> {
    of: &'a AtomicU64,
    bytes: u64,
}

impl Drop for Learning<'_> {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What these guard is whole between statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::vector::{Floats, Metric};
    use crate::shard::vectors::posted;

    #[test]
    fn few_vectors_written_without_end_take_no_more_memory() {
        let spec = IndexSpec::new("v", 4, Metric::L2).with_defaults();
        let limits = VectorLimits::default();
        let index = VectorIndex::new(IndexId(1), spec, PathBuf::new(), limits).unwrap();
        let value = |n: u64| record::encode(&Floats::of(&[n as f32; 4]), b"");
        let mut after_first = 0;
        for seq in 1..=20_000_u64 {
            let value = (seq % 7 != 0).then(|| value(seq));
            index.note(vec![Change { id: seq % 50, seq, value }]);
            if seq == 1_000 {
                after_first = index.read().memory_bytes();
            }
        }
        let state = index.read();
        // A table may grow once more, for the traces of what was taken out.
        assert!(state.memory_bytes() <= 2 * after_first, "{} {after_first}", state.memory_bytes());
        assert!(state.order.len() <= 2 * 64 && !state.tail.is_empty());
        drop(state);
        // All that is left is linked, each once.
        let mut state = index.write();
        let waiting = state.tail.len();
        assert_eq!(state.link(1_000, 1).unwrap(), waiting);
        assert_eq!((state.fresh.len(), state.tail.len(), state.order.len()), (waiting, 0, 0));
    }

    #[test]
    fn what_learning_takes_counts_as_long_as_it_goes_on() {
        for (bytes_max, dim) in [(16 << 20, 384), (64 << 20, 384), (512 << 20, 768), (4 << 30, 64)]
        {
            let spec = IndexSpec::new("v", dim, Metric::Cosine).with_defaults();
            let limits = VectorLimits { bytes_max, ..VectorLimits::default() };
            let index = VectorIndex::new(IndexId(1), spec.clone(), PathBuf::new(), limits).unwrap();
            let before = index.memory_bytes();
            let (most, config) = (limits.learnt_max(dim), posted::config(&spec, &limits));
            // As they were given and as they are compared.
            let bytes = 2 * 4 * most * dim as usize + config.learning_bytes(most);
            let learning = index.learning(bytes);
            assert_eq!(index.memory_bytes(), before + bytes as u64);
            assert_eq!(index.info().memory_bytes, index.memory_bytes());
            // From the smallest of these on it is a share of the budget: below, codes would be learnt
            // from too few to be worth anything.
            assert!(bytes as u64 <= bytes_max / 2, "{bytes} of {bytes_max} at {dim}");
            drop(learning);
            assert_eq!(index.memory_bytes(), before);
        }
    }
}

//! Vectors: records of family VECTORS, and the indexes that find them.
//!
//! The records are the truth: written in the batch of the keys beside them, replicated and recovered
//! as they are. An index is derived from them, by each replica for itself, and kept in files that
//! save the work of deriving it again; they are never needed.
//!
//! In reading order:
//! - this file: [`Vectors`], the indexes of a shard, and what an applied batch tells them.
//! - `record`: the form of the records.
//! - `stored`: what records say, without an index.
//! - `evaluate`: requests, to writes and answers.
//! - `limits`: [`VectorLimits`].
//! - `index`: one index in memory; `grow`: its graph; `kept`: that graph, written down; `attributes`:
//!   which of its vectors match a filter; `texts`: which have the words of a text; `fields`: both, when
//!   they are first asked; `slices`: walks of records.
//! - `search`: a search over all its parts; `reads`: what it reads of records; `compare`: with all of
//!   them one by one; `hybrid`: one for words as well.
//! - `form`: what searches a sealed part; `segment`, `state_file`: the files; `sorted`: which vectors
//!   are in one of them.
//! - `posted`: the part of an index of kind `spfresh` that stands in postings; `rows`: which vectors
//!   are in it; `pages`: the file of its postings.
//! - `work`: what the background does: linking, sealing, making anew, writing down; `next`: what of it
//!   comes next; `made`: which segments are made one; `make`: how; `post`: what it does for postings.
//! - `control`: one job at a time, its end, and when what failed is tried again.
//! - `load`: from files to an index; `catch_up`: from records.
//!
//! Invariants owed to the shard:
//! - Taking note of a batch reads nothing and cannot fail. Twice the same note is as good as one.
//! - A search sees every vector that was applied before it, none that was deleted, and no id twice.
//! - A file is not durable before the log is, up to the last record that the file knows.
//! - A file that is damaged, missing or of another time costs time and changes no answer.

mod attributes;
mod catch_up;
mod compare;
mod control;
mod evaluate;
mod fields;
mod form;
mod grow;
mod hybrid;
mod index;
mod kept;
mod limits;
mod load;
mod made;
mod make;
mod next;
mod pages;
mod post;
mod posted;
mod reads;
mod record;
mod rows;
mod search;
mod segment;
mod slices;
mod sorted;
mod state_file;
mod stored;
mod texts;
mod work;

pub use limits::VectorLimits;
pub use stored::{stored_indexes, stored_vectors};

pub(crate) use evaluate::{
    Resolved, are_written, check_takes, execute, has_index_of, put, resolve, still_there, stripes,
};

use crate::base::{CfId, Error, ErrorKind, IndexId, LogIndex, Result};
use crate::env::{Clock, Pool};
use crate::lsm::batch::BatchView;
use crate::lsm::key::{Kind, split_value};
use crate::lsm::{Engine, Pressure};
use crate::op::vector::no_such_index;
use bytes::Bytes;
use control::Control;
use index::{Change, VectorIndex, lock};
use record::Key;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

/// The indexes of a shard.
pub(crate) struct Vectors {
    engine: Arc<Engine>,
    dir: PathBuf,
    indexes: RwLock<Registry>,
    clock: Arc<dyn Clock>,
    /// The last entry of the log that was taken note of.
    noted: AtomicU64,
    /// How far tables went when the engine was opened: what is newer comes from the log, and what is
    /// older may come again.
    flushed_at_open: LogIndex,
    /// What the log told before the indexes were loaded.
    replayed: Mutex<Option<Replayed>>,
    /// Whether the background has something to do.
    due: AtomicBool,
    control: Arc<Control>,
    /// The place among all indexes that it begins with.
    turn: AtomicUsize,
    /// Where it works, once there is something to do.
    pool: OnceLock<Pool>,
    /// Indexes that were dropped, until their files are gone.
    doomed: Mutex<Vec<Arc<VectorIndex>>>,
    limits: Mutex<VectorLimits>,
    /// Memory that was taken off the cache of blocks.
    pinned: Mutex<u64>,
    /// Whether records have gone of which the indexes are still to hear.
    behind: AtomicBool,
}

/// Vectors that were written, by index.
type Replayed = HashMap<IndexId, HashSet<u64>>;

#[derive(Default)]
struct Registry {
    by_id: BTreeMap<IndexId, Arc<VectorIndex>>,
    by_name: BTreeMap<String, Arc<VectorIndex>>,
}

impl Vectors {
    /// The indexes of an engine's records; they are there once they are [loaded](Vectors::load).
    pub(crate) fn new(engine: Arc<Engine>, clock: Arc<dyn Clock>) -> Arc<Vectors> {
        let dir = engine.place().1.join("vectors");
        let flushed_at_open = engine.flushed_index(CfId::VECTORS).unwrap_or_default();
        Arc::new(Vectors {
            dir,
            indexes: RwLock::default(),
            clock,
            noted: AtomicU64::new(flushed_at_open.0),
            flushed_at_open,
            replayed: Mutex::new(Some(Replayed::new())),
            due: AtomicBool::new(false),
            control: Arc::default(),
            turn: AtomicUsize::new(0),
            pool: OnceLock::new(),
            doomed: Mutex::default(),
            limits: Mutex::default(),
            pinned: Mutex::default(),
            behind: AtomicBool::new(false),
            engine,
        })
    }

    /// Sets the limits; first before the indexes are loaded, for the sizes of their parts.
    pub(crate) fn limit(&self, limits: VectorLimits) {
        *lock(&self.limits) = limits;
    }

    pub(crate) fn limits(&self) -> VectorLimits {
        *lock(&self.limits)
    }

    /// Takes note of a batch of an entry that was applied. Called in the order of the log. One that
    /// the tables have held since the engine was opened comes again, but the indexes know what came
    /// behind it.
    #[inline]
    pub(crate) fn note(&self, index: LogIndex, batch: &BatchView<'_>) {
        if batch.has_vectors && index > self.flushed_at_open {
            self.note_all(batch);
        }
    }

    /// All batches of the log's entries up to `index` have been noted, also of those without any.
    #[inline]
    pub(crate) fn noted_through(&self, index: LogIndex) {
        self.noted.fetch_max(index.0, Ordering::AcqRel);
    }

    fn note_all(&self, batch: &BatchView<'_>) {
        let mut replayed = lock(&self.replayed);
        // Of one index all at once: a search sees all of a batch or nothing.
        let mut changes: BTreeMap<IndexId, Vec<Change>> = BTreeMap::new();
        for op in batch.ops().filter(|op| op.cf == CfId::VECTORS) {
            let value = match op.kind {
                Kind::Put | Kind::PutMeta => split_value(op.kind, op.value).map(|(_, value)| value),
                // The vectors of an index go with the index.
                Kind::RangeDelete => continue,
                Kind::Delete | Kind::Merge => None,
            };
            match (record::parse_key(op.key), &mut *replayed) {
                (Some(Key::Vector(index, id)), Some(replayed)) => {
                    replayed.entry(index).or_default().insert(id);
                }
                (Some(Key::Vector(index, id)), None) => {
                    let value = value.map(Bytes::copy_from_slice);
                    let change = Change { id, seq: op.seq.0, value };
                    changes.entry(index).or_default().push(change);
                }
                (Some(Key::Index(index)), None) => {
                    self.note_vectors(&mut changes);
                    self.note_index(index, value);
                }
                // What there is then is read when they are loaded.
                (Some(Key::Index(_)), Some(_)) | (Some(Key::Next) | None, _) => {}
            }
        }
        self.note_vectors(&mut changes);
    }

    fn note_vectors(&self, changes: &mut BTreeMap<IndexId, Vec<Change>>) {
        let indexes = self.indexes.read().unwrap_or_else(PoisonError::into_inner);
        for (index, changes) in std::mem::take(changes) {
            let Some(index) = indexes.by_id.get(&index) else { continue };
            index.note(changes);
            if index.waiting() >= index.limits.link_at() {
                self.due.store(true, Ordering::Release);
            }
        }
    }

    fn note_index(&self, id: IndexId, value: Option<&[u8]>) {
        let mut indexes = self.indexes.write().unwrap_or_else(PoisonError::into_inner);
        let known = indexes.by_id.get(&id).cloned();
        match (value, known) {
            (Some(value), None) => {
                // It was checked when it was created.
                let Ok(spec) = record::decode_index(value) else { return };
                let index = VectorIndex::new(id, spec, self.dir_of(id), self.limits());
                let Ok(index) = index else { return };
                indexes.add(Arc::new(index));
            }
            (None, Some(known)) => {
                indexes.remove(&known);
                known.dropped.store(true, Ordering::Release);
                lock(&self.doomed).push(known);
                self.due.store(true, Ordering::Release);
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    fn dir_of(&self, id: IndexId) -> PathBuf {
        self.dir.join(id.0.to_string())
    }

    /// The index of a name.
    ///
    /// # Errors
    /// `NotFound`.
    fn get(&self, name: &str) -> Result<Arc<VectorIndex>> {
        let indexes = self.indexes.read().unwrap_or_else(PoisonError::into_inner);
        indexes.by_name.get(name).cloned().ok_or_else(|| no_such_index(name))
    }

    /// Whether there is an index, and it is not about to go.
    fn has(&self, id: IndexId) -> bool {
        let indexes = self.indexes.read().unwrap_or_else(PoisonError::into_inner);
        indexes.by_id.get(&id).is_some_and(|index| !index.is_leaving())
    }

    /// All indexes, by name.
    fn all(&self) -> Vec<Arc<VectorIndex>> {
        let indexes = self.indexes.read().unwrap_or_else(PoisonError::into_inner);
        indexes.by_name.values().cloned().collect()
    }

    /// Memory that all indexes take, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let indexes = self.indexes.read().unwrap_or_else(PoisonError::into_inner);
        indexes.by_id.values().map(|index| index.memory_bytes()).sum()
    }

    /// Fails if no more vectors may be taken in. What learning codes takes for a moment is taken off
    /// the cache of blocks, and refuses none.
    fn check_room(&self) -> Result<()> {
        let (free, most) = (self.free_bytes(), self.limits().bytes_max);
        if free > 0 {
            return Ok(());
        }
        let message = format!(
            "the vector indexes take the {most} bytes of memory that they may, half of the \
             memory budget: wait while indexes are built, raise it, delete vectors, or create indexes \
             of a smaller form"
        );
        Err(Error::new(ErrorKind::Refused, message))
    }

    /// Bytes of the budget of vectors that no index takes.
    fn free_bytes(&self) -> u64 {
        let all = self.indexes.read().unwrap_or_else(PoisonError::into_inner);
        let bytes: u64 = all.by_id.values().map(|index| index.lasting_bytes()).sum();
        drop(all);
        // Those that were dropped are there until what works on them has ended.
        let doomed: u64 = lock(&self.doomed).iter().map(|index| index.lasting_bytes()).sum();
        let bytes = bytes + doomed;
        self.limits().bytes_max.saturating_sub(bytes)
    }

    /// Says how much an index may take with the fields that searches have indexed: together with the
    /// others an eighth more than vectors may, so that it can be asked when these are refused.
    fn leave_room_for_fields(&self, index: &VectorIndex) {
        let all = self.indexes.read().unwrap_or_else(PoisonError::into_inner);
        let others = all.by_id.values().filter(|other| other.id != index.id);
        let others: u64 = others.map(|other| other.lasting_bytes()).sum();
        drop(all);
        let most = self.limits().bytes_max;
        let most = most.saturating_add(most / 8).saturating_sub(others);
        index.bytes_max.store(most, Ordering::Relaxed);
    }

    /// How far the background is behind those who write vectors.
    pub(crate) fn pressure(&self) -> Pressure {
        let mut pressure = Pressure::None;
        for index in self.all() {
            if index.waiting() >= index.stop_at() {
                return Pressure::Stop;
            }
            if index.is_hurried() {
                pressure = Pressure::Slow { delay_us: 2_000 };
            }
        }
        pressure
    }
}

impl Registry {
    fn add(&mut self, index: Arc<VectorIndex>) {
        self.by_name.insert(index.spec.name.clone(), index.clone());
        self.by_id.insert(index.id, index);
    }

    /// Takes an index out, and its name with it unless that is another's by now.
    fn remove(&mut self, index: &VectorIndex) {
        self.by_id.remove(&index.id);
        let name = &index.spec.name;
        if self.by_name.get(name).is_some_and(|named| named.id == index.id) {
            self.by_name.remove(name);
        }
    }
}

impl std::fmt::Debug for Vectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vectors").field("indexes", &self.all().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ErrorKind, Seq};
    use crate::env::{Pool, SimDisk};
    use crate::lsm::batch::WriteBatch;
    use crate::lsm::{BlockCache, EngineOptions};
    use crate::op::kv::Write;
    use crate::op::vector::{Floats, IndexSpec, Metric, NamedIndex, VectorId};
    use crate::op::{Request, Response};
    use crate::shard::{Log, Placed, Shard, ShardOptions};

    /// A log that takes everything and commits nothing by itself.
    struct Slow;

    impl Log for Slow {
        fn place(&self, _: &[u8]) -> Result<Placed> {
            Ok(Placed::Pending(None))
        }

        fn drive(&self, _: &Arc<Shard>) {}
    }

    fn shard() -> Arc<Shard> {
        shard_on(&SimDisk::new(), VectorLimits::default())
    }

    /// The shard on a disk, in which nothing happens by itself.
    pub(super) fn shard_on(disk: &SimDisk, limits: VectorLimits) -> Arc<Shard> {
        let shard = unstarted_on(disk, limits);
        shard.start().unwrap();
        shard
    }

    /// As [`shard_on`], and it is still to be started.
    pub(super) fn unstarted_on(disk: &SimDisk, limits: VectorLimits) -> Arc<Shard> {
        let options = EngineOptions { background: false, ..EngineOptions::new("/shard") };
        let (disk, cache) = (disk.shared(), BlockCache::new(1 << 20));
        let engine = Engine::open(disk, Pool::manual(), cache, options).unwrap();
        let settings = ShardOptions { count_keys: false, seed: 1, ..ShardOptions::default() };
        let shard = Shard::new(engine, Box::new(Slow), settings);
        shard.limit_vectors(limits);
        shard
    }

    /// Puts vectors into an index as an entry of the log does.
    pub(super) fn apply(shard: &Arc<Shard>, index: IndexId, entry: u64, ids: std::ops::Range<u64>) {
        let mut batch = WriteBatch::new();
        for id in ids {
            let value = record::encode(&Floats::of(&[id as f32, 1.0]), b"");
            batch.put_cf(CfId::VECTORS, &record::vector_key(index, VectorId::new(id)), &value);
        }
        batch.place(Seq(entry * 1_000), 1);
        shard.apply_entry(LogIndex(entry), &[batch.bytes().to_vec()]).unwrap();
    }

    pub(super) fn create(shard: &Arc<Shard>, index: IndexId, entry: u64, spec: IndexSpec) {
        let mut batch = WriteBatch::new();
        evaluate::put_index(&mut batch, &NamedIndex { id: index, spec });
        batch.place(Seq(entry * 1_000), 1);
        shard.apply_entry(LogIndex(entry), &[batch.bytes().to_vec()]).unwrap();
    }

    /// Linking came first as long as there was something to link: what was sealed got no file, and
    /// other indexes nothing at all.
    #[test]
    fn writers_in_a_hurry_leave_time_for_what_is_sealed_and_for_other_indexes() {
        let limits = VectorLimits { segment_rows: 64, ..VectorLimits::default() };
        let shard = shard_on(&SimDisk::new(), limits);
        let vectors = &shard.vectors;
        for (name, id) in [("a", 3), ("b", 4)] {
            create(&shard, IndexId(id), id, IndexSpec::new(name, 2, Metric::L2).with_defaults());
        }
        apply(&shard, IndexId(4), 5, 0..10);
        let mut written = 0;
        for turn in 0..20 {
            apply(&shard, IndexId(3), 6 + turn, turn * 600..(turn + 1) * 600);
            assert!(vectors.work_once() && vectors.work_once());
            let a = vectors.get("a").unwrap();
            assert!(a.waiting() >= a.limits.link_at(), "{turn}");
            let files = a.read().segments.iter().filter(|s| s.file_bytes.is_some()).count();
            written = written.max(files);
        }
        assert!(written > 2, "{written} files");
        assert_eq!(vectors.get("b").unwrap().waiting(), 0);
    }

    /// Each batch had as many linked as are linked at once, however many it wrote itself: what waited
    /// grew with each, and every search compared with all of it.
    #[test]
    fn batches_of_many_vectors_leave_no_more_waiting_than_stop_writers() {
        let limits = VectorLimits { segment_rows: 64, ..VectorLimits::default() };
        let shard = shard_on(&SimDisk::new(), limits);
        create(&shard, IndexId(3), 3, IndexSpec::new("v", 2, Metric::L2).with_defaults());
        let index = shard.vectors.get("v").unwrap();
        let put = |id| Write::PutVector {
            index: "v".into(),
            id: VectorId::new(id),
            vector: Floats::of(&[id as f32, 1.0]),
            payload: Bytes::new(),
        };
        let batch = Request::Write { writes: (0..1_000).map(put).collect(), id: None };
        for turn in 0..12 {
            shard.wait_for_room(&batch).unwrap();
            // Searched as well, so that little is linked at a time.
            index.searches.fetch_add(1, Ordering::Relaxed);
            apply(&shard, IndexId(3), 4 + turn, turn * 1_000..(turn + 1) * 1_000);
            assert!(index.waiting() < index.stop_at() + 1_000, "{}", index.waiting());
        }
        let before = index.waiting();
        shard.wait_for_room(&Request::Write { writes: vec![put(0)], id: None }).unwrap();
        assert!(before > index.stop_at() && index.waiting() >= before - 256);
    }

    /// Raft's own entries have no batches; an index that seemed to lack them was saved for ever.
    #[test]
    fn entries_without_batches_are_noted_too() {
        let shard = shard();
        shard.apply_entry(LogIndex(7), &[] as &[Vec<u8>]).unwrap();
        assert_eq!(shard.vectors.noted.load(Ordering::Acquire), 7);
        assert_eq!(shard.engine().applied_index(), LogIndex(7));
    }

    /// A restart applies entries again that tables of vectors have held since, because others still lack
    /// them. That an index was once dropped took the name from the one that was created after it, and
    /// vectors that were deleted since came back.
    #[test]
    fn entries_that_come_again_change_no_index() {
        let spec = |name: &str| IndexSpec::new(name, 2, Metric::L2).with_defaults();
        let placed = |entry: u64, change: &dyn Fn(&mut WriteBatch)| {
            let mut batch = WriteBatch::new();
            change(&mut batch);
            batch.place(Seq(entry * 10), 1);
            batch.bytes().to_vec()
        };
        let made = |entry: u64, index: u64| {
            let index = NamedIndex { id: IndexId(index), spec: spec("v") };
            placed(entry, &|batch| evaluate::put_index(batch, &index))
        };
        let vector = |entry: u64, id: u64, is_there: bool| {
            let key = record::vector_key(IndexId(7), VectorId::new(id));
            let value = record::encode(&Floats::of(&[id as f32, 1.0]), b"");
            placed(entry, &|batch| match is_there {
                true => batch.put_cf(CfId::VECTORS, &key, &value),
                false => batch.delete_cf(CfId::VECTORS, &key),
            })
        };
        let entries = [
            placed(1, &|batch| batch.put_cf(CfId::DEFAULT, b"k", b"v")),
            made(2, 3),
            placed(3, &|batch| evaluate::delete_index(batch, IndexId(3))),
            made(4, 7),
            vector(5, 1, true),
            vector(6, 2, true),
            vector(7, 1, false),
            // Not in tables, this one.
            vector(8, 4, true),
        ];
        let disk = SimDisk::new();
        let shard = shard_on(&disk, VectorLimits::default());
        for (at, entry) in (1..8).zip(&entries) {
            shard.apply_entry(LogIndex(at), std::slice::from_ref(entry)).unwrap();
        }
        shard.engine().flush(CfId::VECTORS).unwrap();
        drop(shard);
        let shard = shard_on(&disk, VectorLimits::default());
        let vectors = &shard.vectors;
        assert!(shard.engine().replay_from() < LogIndex(2));
        let noted = || vectors.noted.load(Ordering::Acquire);
        for (at, entry) in (1..).zip(&entries) {
            assert_eq!(noted(), 7, "{at}");
            shard.apply_entry(LogIndex(at), std::slice::from_ref(entry)).unwrap();
            let index = vectors.get("v").unwrap();
            assert_eq!((index.id, vectors.all().len()), (IndexId(7), 1), "{at}");
            assert_eq!(index.read().len(), if at < 8 { 1 } else { 2 }, "{at}");
        }
        assert_eq!(noted(), 8);
    }

    #[test]
    fn nothing_is_put_behind_the_end_of_an_index() {
        let shard = shard();
        let spec = IndexSpec::new("v", 2, Metric::L2).with_defaults();
        let index = NamedIndex { id: IndexId(3), spec };
        let mut batch = WriteBatch::new();
        evaluate::put_index(&mut batch, &index);
        batch.place(Seq(1), 1);
        shard.apply_entry(LogIndex(1), &[batch.bytes().to_vec()]).unwrap();
        let put = || {
            let (index, id) = ("v".to_string(), VectorId::new(1));
            let (vector, payload) = (Floats::of(&[1.0, 2.0]), Bytes::new());
            let writes = vec![Write::PutVector { index, id, vector, payload }];
            shard.execute(Request::Write { writes, id: None }, 1).map(|answer| answer.response)
        };
        assert!(matches!(put(), Ok(Response::Committed { .. })));
        // Placed, and not yet applied anywhere.
        shard.change_vector_indexes(&[IndexId(3)], &[], 1).unwrap();
        assert_eq!(put().unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// A follower took in whatever its leader had room for, and held all that its background had not
    /// come to: nobody there waits before writing.
    #[test]
    fn a_replica_that_only_applies_has_few_vectors_waiting() {
        let limits = VectorLimits { segment_rows: 64, ..VectorLimits::default() };
        let shard = shard_on(&SimDisk::new(), limits);
        create(&shard, IndexId(3), 3, IndexSpec::new("v", 2, Metric::L2).with_defaults());
        let index = shard.vectors.get("v").unwrap();
        let mut kept_up = 0;
        for turn in 0..20 {
            assert_eq!(shard.is_overrun(), index.waiting() >= 2 * index.stop_at());
            kept_up += u32::from(shard.is_overrun());
            shard.keep_up();
            assert!(index.waiting() < 2 * index.stop_at());
            apply(&shard, IndexId(3), 4 + turn, turn * 300..(turn + 1) * 300);
        }
        assert!(kept_up > 10 && index.read().len() == 6_000, "{kept_up}");
    }
}

//! An index catches up with the records: after a start, and after a split has taken records away.
//!
//! Others write meanwhile, and search once it is done. What is applied from its beginning on is newer
//! than what the walk of records tells of the same vectors, and counts.

use crate::base::{Error, ErrorKind, Result};
use crate::op::vector::IndexSpec;
use crate::shard::vectors::form::metric;
use crate::shard::vectors::grow::POSTED_AT_BYTES;
use crate::shard::vectors::index::{Change, State, TAIL_BYTES_PER_FLOAT, VectorIndex, lock};
use crate::shard::vectors::posted::{Posted, takes_postings};
use crate::shard::vectors::rows::Rows;
use crate::shard::vectors::slices::{SLICE, Told};
use crate::shard::vectors::work::LINKED_AT_ONCE;
use crate::shard::vectors::{Vectors, record};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Records that are looked at before an index answers, at most: beyond these it catches up in the
/// background.
const FEW: usize = 4_096;

/// Whether an index is still to catch up with the records.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// How often it was to, and up to which of these it has.
    asked: AtomicU64,
    done: AtomicU64,
    /// The vectors that are to be looked up; nothing if all records are.
    some: Mutex<Option<Vec<u64>>>,
    /// Why it has not, the last time it tried.
    error: Mutex<Option<Error>>,
}

impl Lag {
    /// It is to look at the records of `some` vectors, or at all, from now on.
    pub(super) fn begin(&self, some: Option<Vec<u64>>) {
        // First: whoever sees the number sees what it is about.
        *lock(&self.some) = some;
        *lock(&self.error) = None;
        self.asked.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn is_behind(&self) -> bool {
        self.done.load(Ordering::Acquire) != self.asked.load(Ordering::Acquire)
    }

    /// It could not catch up.
    pub(super) fn fail(&self, error: Error) {
        *lock(&self.error) = Some(error);
    }

    /// Why it could not, if it could not.
    pub(super) fn error(&self) -> Option<Error> {
        lock(&self.error).clone()
    }

    /// It has caught up with what it was `asked` for.
    fn catches_up(&self, asked: u64) {
        *lock(&self.error) = None;
        self.done.store(asked, Ordering::Release);
    }
}

impl Vectors {
    /// Has an index catch up, and links as long as `waiting_max` wait. What fails, or is interrupted
    /// because records have gone anew, is done again from the beginning.
    ///
    /// # Errors
    /// What reading records gives; `Unavailable` if it is interrupted.
    pub(super) fn catch_up(&self, index: &VectorIndex, waiting_max: usize) -> Result<()> {
        let asked = index.lag.asked.load(Ordering::Acquire);
        let some = lock(&index.lag.some).take();
        match some {
            Some(ids) => self.look_up_some(index, asked, &ids, waiting_max)?,
            None => self.walk(index, asked, &mut |_| self.relieve(index, waiting_max))?,
        }
        index.measure(&index.read());
        index.lag.catches_up(asked);
        Ok(())
    }

    /// As [`Vectors::catch_up`], if that means to look at few records; else it is left as it is.
    ///
    /// # Errors
    /// What reading records gives.
    pub(super) fn catch_up_soon(&self, index: &VectorIndex) -> Result<()> {
        let few = FEW.min(index.stop_at());
        let asked = index.lag.asked.load(Ordering::Acquire);
        let some = lock(&index.lag.some).as_ref().map(Vec::len);
        match some {
            Some(some) if some > few => return Ok(()),
            Some(_) => return self.catch_up(index, index.stop_at()),
            None => {}
        }
        let mut looked_at = 0;
        let walked = self.walk(index, asked, &mut |slice| {
            looked_at += slice;
            if looked_at > few { Err(interrupted()) } else { Ok(()) }
        });
        index.measure(&index.read());
        match walked {
            Err(_) if looked_at > few => Ok(()),
            Err(e) => Err(e),
            Ok(()) => {
                index.lag.catches_up(asked);
                Ok(())
            }
        }
    }

    /// Whether an index that catches up may go on.
    fn check_on(&self, index: &VectorIndex, asked: u64) -> Result<()> {
        let is_anew = index.lag.asked.load(Ordering::Acquire) != asked;
        match is_anew || self.control.is_closed() || index.is_dropped() {
            true => Err(interrupted()),
            false => Ok(()),
        }
    }

    fn look_up_some(
        &self,
        index: &VectorIndex,
        asked: u64,
        ids: &[u64],
        waiting_max: usize,
    ) -> Result<()> {
        for some in ids.chunks(SLICE) {
            let mut state = index.write();
            self.check_on(index, asked)?;
            for id in some {
                index.look_up(&self.engine, &mut state, *id)?;
            }
            drop(state);
            self.relieve(index, waiting_max)?;
        }
        Ok(())
    }

    /// Takes in what the records say of all vectors; tells `between` how many it has just looked at.
    fn walk(
        &self,
        index: &VectorIndex,
        asked: u64,
        between: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let known = {
            let mut state = index.write();
            // What was noted until now is among the records.
            state.newer = Some(HashSet::new());
            state.ids()
        };
        let walked = self.walk_records(index, asked, known, between);
        index.write().newer = None;
        walked
    }

    fn walk_records(
        &self,
        index: &VectorIndex,
        asked: u64,
        mut known: Vec<u64>,
        between: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        known.sort_unstable();
        let mut known = known.into_iter().peekable();
        index.in_slices(&self.engine, |value| value, &mut |slice| {
            let looked_at = slice.len();
            let mut state = index.write();
            self.check_on(index, asked)?;
            for Told { id, seq, value } in slice {
                // Ids rise: those that were passed over have no record.
                while let Some(gone) = known.next_if(|known| *known < id) {
                    state.forget_old(gone);
                }
                known.next_if_eq(&id);
                if !state.has_newer(id) && state.seq_of(id) != Some(seq) {
                    state.remove(id);
                    let value = Some(Bytes::from(value));
                    state.take_in(&Change { id, seq, value }, &index.spec);
                }
            }
            index.measure(&state);
            drop(state);
            between(looked_at)
        })?;
        while known.peek().is_some() {
            let mut state = index.write();
            self.check_on(index, asked)?;
            known.by_ref().take(SLICE).for_each(|gone| state.forget_old(gone));
            index.measure(&state);
        }
        Ok(())
    }

    /// Links and seals as long as `waiting_max` wait: a shard may have more vectors than there is
    /// memory for as they were given. What is sealed gets its form and a file, and that is written
    /// down: a start that is cut off is not made all over again.
    fn relieve(&self, index: &VectorIndex, waiting_max: usize) -> Result<()> {
        if takes_postings(&index.spec) {
            return self.put_what_waits(index, waiting_max);
        }
        loop {
            if self.control.is_closed() {
                return Err(interrupted());
            }
            let mut state = index.write();
            if state.is_full(&index.spec) {
                state.seal(&index.spec);
            } else if state.tail.len() >= waiting_max {
                state.link_and_repair(LINKED_AT_ONCE, self.threads())?;
                index.measure(&state);
                continue;
            } else {
                return Ok(());
            }
            index.measure(&state);
            // Also those that a writer who waited for room has sealed.
            let sealed = state.segments.iter().filter(|s| s.live() > 0);
            let unfinished = sealed.filter(|s| s.file_bytes.is_none() || !s.is_final);
            let unfinished: Vec<u64> = unfinished.map(|segment| segment.number).collect();
            drop(state);
            for number in unfinished {
                // A device may be full; then the background tries again.
                if self.give_form(index, number).is_err() {
                    break;
                }
                // Of files whose records are still to come, what is written down is right as it is.
                if !self.lacks_records(index) && self.save_some(index).is_err() {
                    break;
                }
            }
        }
    }
}

impl State {
    /// Whether a vector was changed since the walk of records began that is under way.
    fn has_newer(&self, id: u64) -> bool {
        self.newer.as_ref().is_some_and(|newer| newer.contains(&id))
    }

    /// As [`State::apply`], of one of many that are loaded. Where they will stand in postings, and
    /// are more than fit into memory until then, they are told to be there, and their postings to be
    /// lost: these are built from their records.
    pub(super) fn take_in(&mut self, change: &Change, spec: &IndexSpec) {
        let value = change.value.as_ref();
        let Some(value) = value.filter(|_| takes_postings(spec) && self.takes_no_more(spec)) else {
            return self.apply(change);
        };
        if self.seq_of(change.id).is_some_and(|seq| seq >= change.seq) {
            return;
        }
        self.remove(change.id);
        let floats = record::floats(change.id, value);
        let is_vector = |floats: Vec<f32>| metric(spec.metric).check(&floats, spec.dim as usize);
        // As in `apply`; one that is none would stop the building of all others.
        if floats.and_then(is_vector).is_err() {
            return;
        }
        let posted = self.posted.get_or_insert_with(|| Posted::lost(Rows::default()));
        // Nothing of it was damaged: there is more than it was made of.
        posted.finder = None;
        match posted.file {
            None => posted.rows.push(change.id, change.seq),
            Some(_) => posted.rows.insert(change.id, change.seq),
        }
        self.take_payload(change.id, value);
    }

    /// Whether so many were taken in by now that those to come are only told to be in postings.
    fn takes_no_more(&self, spec: &IndexSpec) -> bool {
        let most = self.limits.posted_at();
        match self.posted.as_ref().filter(|posted| !posted.is_lost()) {
            // Some are put in again after a crash, and no more.
            Some(posted) => {
                let taken = self.tail.len() + self.fresh.len() + posted.rows.changed();
                taken >= 4 * most + posted.rows.len() / 8
            }
            None => {
                let bytes = TAIL_BYTES_PER_FLOAT * spec.dim as usize;
                self.tail.len() >= most.min(POSTED_AT_BYTES / bytes)
            }
        }
    }

    /// As [`State::remove`], of one that a walk of records did not find.
    fn forget_old(&mut self, id: u64) {
        if !self.has_newer(id) {
            self.remove(id);
        }
    }
}

pub(super) fn interrupted() -> Error {
    Error::new(ErrorKind::Unavailable, "the index is closed, or its records have changed anew")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{CfId, LogIndex, Seq};
    use crate::env::{Rng, SimDisk};
    use crate::lsm::ReadOptions;
    use crate::lsm::batch::WriteBatch;
    use crate::op::vector::{
        Floats, IndexKind, Metric, Quantisation, VectorAnswer, VectorCall, VectorId, VectorSearch,
    };
    use crate::op::{Request, Response};
    use crate::shard::Shard;
    use crate::shard::vectors::load::tests::{COUNT, INDEX, filled};
    use crate::shard::vectors::tests::{apply, unstarted_on};
    use crate::shard::vectors::{VectorLimits, record};
    use std::sync::Arc;

    /// A shard that serves before its index has caught up.
    fn soon(disk: &SimDisk) -> (Arc<Shard>, Arc<VectorIndex>) {
        let limits = VectorLimits { segment_rows: 64, ..VectorLimits::default() };
        let shard = unstarted_on(disk, limits);
        shard.start_soon().unwrap();
        let index = shard.vectors.get("v").unwrap();
        (shard, index)
    }

    /// Puts some vectors, and deletes others, as the next entry of the log does.
    fn change(shard: &Shard, entry: &mut u64, puts: &[u64], deletes: &[u64]) {
        let (mut batch, x) = (WriteBatch::new(), *entry as f32);
        let key = |id: &u64| record::vector_key(INDEX, VectorId::new(*id));
        for id in puts {
            let value = record::encode(&Floats::of(&[x, *id as f32]), b"");
            batch.put_cf(CfId::VECTORS, &key(id), &value);
        }
        deletes.iter().for_each(|id| batch.delete_cf(CfId::VECTORS, &key(id)));
        batch.place(Seq(*entry * 1_000), 1);
        shard.apply_entry(LogIndex(*entry), &[batch.bytes().to_vec()]).unwrap();
        *entry += 1;
    }

    /// What the index knows is what the records are.
    fn agrees(shard: &Shard, index: &VectorIndex) {
        let mut ids = index.read().ids();
        ids.sort_unstable();
        let seq = |id: u64| {
            let key = record::vector_key(INDEX, VectorId::new(id));
            let found = shard.engine().get(CfId::VECTORS, &key, &ReadOptions::default());
            found.unwrap().map(|found| found.seq.0)
        };
        let there: Vec<u64> = (0..2 * COUNT as u64).filter(|id| seq(*id).is_some()).collect();
        assert_eq!(ids, there);
        let state = index.read();
        assert!(ids.iter().all(|id| state.seq_of(*id) == seq(*id)));
    }

    fn search(shard: &Arc<Shard>) -> Result<u64> {
        let call = VectorCall::Search(VectorSearch::new("v", &[7.0, 1.0], 1));
        match shard.execute(Request::Vector(Box::new(call)), 1)?.response {
            Response::Vector(answer) => match *answer {
                VectorAnswer::Found(found) => Ok(found.hits[0].id),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// A replica that was begun on records without an index served nothing, keys included, until it
    /// was built, and neither began any other replica of its node.
    #[test]
    fn a_child_serves_keys_while_its_indexes_are_built() {
        for kind in [IndexKind::Hnsw, IndexKind::DiskHnsw, IndexKind::Spfresh] {
            let disk = filled(kind, Quantisation::None);
            let (shard, index) = soon(&disk);
            assert!(index.lag.is_behind());
            let get = Request::Get { cf: CfId::DEFAULT, key: Bytes::from_static(b"k") };
            assert!(matches!(shard.execute(get, 1).unwrap().response, Response::Entry(None)));
            let error = search(&shard).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(shard.vectors.save(&index).is_err());
            let mut entry = 100;
            change(&shard, &mut entry, &[5_000, 8, 2_999], &[7, 1_000]);
            shard.vectors.settle();
            agrees(&shard, &index);
            assert_eq!(search(&shard).unwrap(), 6);
            shard.engine().flush_all().unwrap();
            shard.vectors.settle();
            // What stands in files is whole when it is begun again, and there is little to do.
            shard.close_vectors();
            drop(shard);
            let (shard, index) = soon(&disk);
            assert!(!index.lag.is_behind());
            agrees(&shard, &index);
        }
    }

    /// What was deleted or replaced while records were walked is told by the walk as it was before.
    #[test]
    fn a_walk_of_records_brings_nothing_back_that_was_changed_meanwhile() {
        let disk = filled(IndexKind::Hnsw, Quantisation::None);
        {
            let (shard, _) = soon(&disk);
            shard.vectors.settle();
        }
        for seed in 0..8 {
            let disk = disk.crash(crate::env::sim_disk::Crash::Process);
            let (shard, index) = soon(&disk);
            index.lag.begin(None);
            let (mut rng, mut entry) = (Rng::new(seed), 100);
            let asked = index.lag.asked.load(Ordering::Acquire);
            let mut id = || rng.next_u64() % (2 * COUNT as u64);
            change(&shard, &mut entry, &[id(), id()], &[id()]);
            let walked = shard.vectors.walk(&index, asked, &mut |_| {
                for _ in 0..20 {
                    change(&shard, &mut entry, &[id(), id()], &[id(), id()]);
                }
                if entry % 3 == 0 { index.write().link(64, 1).map(drop) } else { Ok(()) }
            });
            walked.unwrap();
            assert!(entry > 100 + 10 * 20);
            agrees(&shard, &index);
        }
    }

    /// After a crash all that had come since postings were written down was held as it was given,
    /// whatever memory there was.
    #[test]
    fn what_is_taken_in_beside_whole_postings_is_put_into_them_meanwhile() {
        let disk = filled(IndexKind::Spfresh, Quantisation::None);
        let most = 64;
        let disk = {
            let (shard, index) = soon(&disk);
            shard.vectors.settle();
            for part in 3..6 {
                apply(&shard, INDEX, 4 + part, part * 1_000..(part + 1) * 1_000);
                shard.vectors.settle();
            }
            assert!(index.read().posted_len() > 5_900);
            // What comes now is in tables, and in no file of the index.
            apply(&shard, INDEX, 20, 6_000..6_300);
            shard.engine().flush_all().unwrap();
            disk.crash(crate::env::sim_disk::Crash::Process)
        };
        let (shard, index) = soon(&disk);
        assert!(index.lag.is_behind());
        let asked = index.lag.asked.load(Ordering::Acquire);
        let mut waited = 0;
        let walked = shard.vectors.walk(&index, asked, &mut |_| {
            shard.vectors.relieve(&index, most)?;
            waited = waited.max(index.read().tail.len());
            Ok(())
        });
        walked.unwrap();
        let state = index.read();
        assert!(waited < most, "{waited}");
        assert!(state.segments.is_empty() && state.fresh.len() < 64, "{}", state.fresh.len());
        let posted = state.posted.as_ref().unwrap();
        assert!(!posted.is_lost() && posted.rows.len() > 6_200, "{}", posted.rows.len());
        drop(state);
        index.lag.done.store(asked, Ordering::Release);
        let mut ids = index.read().ids();
        ids.sort_unstable();
        assert_eq!(ids, (0..6_300).collect::<Vec<_>>());
        shard.vectors.settle();
        for id in [6_000, 6_150, 6_299] {
            let call = VectorCall::Search(VectorSearch::new("v", &[id as f32, 1.0], 1));
            let answer = shard.execute(Request::Vector(Box::new(call)), 1).unwrap().response;
            let Response::Vector(answer) = answer else { panic!("{answer:?}") };
            assert!(matches!(*answer, VectorAnswer::Found(found) if found.hits[0].id == id));
        }
        assert_eq!(index.rebuilt.load(Ordering::Relaxed), 0);
    }

    /// So many were held whose floats take more memory than there is for a graph of them.
    #[test]
    fn few_large_vectors_wait_for_their_postings() {
        let kind = IndexKind::Spfresh;
        let spec = IndexSpec { kind, ..IndexSpec::new("v", 4_096, Metric::L2) }.with_defaults();
        let mut state = State::new(&spec, VectorLimits::default()).unwrap();
        let value = |floats: &[f32]| Some(record::encode(&Floats::of(floats), b""));
        for id in 0..2_000 {
            let change = Change { id, seq: id + 1, value: value(&[id as f32; 4_096]) };
            state.take_in(&change, &spec);
        }
        assert!(state.tail.len() < 1_900, "{}", state.tail.len());
        assert_eq!(state.len(), 2_000);
        // One that is no vector of the index is not found, and keeps no other from being found.
        for wrong in [&[1.0; 3][..], &[f32::NAN; 4_096]] {
            for id in [1_999, 7, 3_000] {
                state.take_in(&Change { id, seq: 9_000, value: value(wrong) }, &spec);
                assert_eq!(state.seq_of(id), None);
            }
        }
        assert_eq!(state.len(), 1_998);
    }

    #[test]
    fn a_walk_ends_where_records_go_anew_or_the_shard_is_closed() {
        let disk = filled(IndexKind::Hnsw, Quantisation::None);
        let (shard, index) = soon(&disk);
        let asked = index.lag.asked.load(Ordering::Acquire);
        let mut slices = 0;
        let walked = shard.vectors.walk(&index, asked, &mut |_| {
            slices += 1;
            shard.vectors.reload();
            Ok(())
        });
        assert_eq!((walked.unwrap_err().kind(), slices), (ErrorKind::Unavailable, 1));
        shard.vectors.settle();
        assert!(!index.lag.is_behind());
        agrees(&shard, &index);
        shard.vectors.reload();
        shard.close_vectors();
        assert!(shard.vectors.catch_up(&index, 1).is_err() && index.lag.is_behind());
    }
}

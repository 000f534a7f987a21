//! What keeps requests from locked keys. Where nothing is locked it costs two loads.
//!
//! The engine and the overlay hold the truth; here stands which locks and debts are applied, so
//! that nobody looks where there are none, and so that they are found without a search.

use crate::base::{CfId, Error, ErrorKind, Result, Seq};
use crate::lsm::batch::BatchView;
use crate::lsm::key::Kind;
use crate::lsm::{Engine, Iter, IterOptions, ReadOptions};
use crate::op::Response;
use crate::op::route::slot_in;
use crate::op::txn::{Lock, Txn};
use crate::shard::Shard;
use crate::shard::shard::Answer;
use crate::shard::transaction::Transaction;
use crate::shard::two_phase::state::{self, DEBT, LOCK};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// For how long, and how often at most, new transactions are turned away for the sake of readers.
const HOLD_MS: u64 = 20;
const HOLD_TURNS: u32 = 64;

/// The most keys locked in a shard.
pub(super) const LOCKS_MAX: usize = 200_000;

/// The locks and debts that are applied.
#[derive(Default)]
pub(crate) struct Locks {
    keys: Mutex<Keys>,
    /// How many locks there are.
    count: AtomicUsize,
    /// Rises with every batch that may have changed them, after it is visible.
    version: AtomicU64,
    /// The same of those that lock or unlock vectors.
    vectors: AtomicU64,
    /// The number of the last such batch.
    stamp: AtomicU64,
    /// Until when, and how many, new transactions are turned away.
    held_until_ms: AtomicU64,
    held_left: AtomicU32,
}

/// Keys of family TXN.
#[derive(Default)]
struct Keys {
    locks: BTreeSet<Bytes>,
    debts: BTreeSet<Bytes>,
}

/// Whether a batch changes what transactions over several shards have locked.
pub(crate) fn concerns(batch: &BatchView<'_>) -> bool {
    batch.cursor().next().is_some_and(|op| op.cf == CfId::TXN)
}

impl Locks {
    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many keys are locked.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Learns from a batch that has been applied.
    pub(crate) fn note(&self, batch: &BatchView<'_>) {
        if concerns(batch) {
            self.note_all(batch);
        }
    }

    fn note_all(&self, batch: &BatchView<'_>) {
        let (mut keys, mut of_vectors) = (self.lock(), false);
        for op in batch.ops().filter(|op| op.cf == CfId::TXN) {
            of_vectors |= state::locked_by_key(op.key).is_some_and(|(cf, _)| cf == CfId::VECTORS);
            let set = match op.key.first() {
                Some(&LOCK) => &mut keys.locks,
                Some(&DEBT) => &mut keys.debts,
                _ => continue,
            };
            if op.kind == Kind::Delete {
                set.remove(op.key);
            } else {
                set.insert(Bytes::copy_from_slice(op.key));
            }
        }
        self.count.store(keys.locks.len(), Ordering::Release);
        self.version.fetch_add(1, Ordering::Release);
        self.vectors.fetch_add(u64::from(of_vectors), Ordering::Release);
        self.stamp.fetch_max(batch.last_seq().0, Ordering::Release);
    }

    /// Turns new transactions away for a moment.
    pub(crate) fn hold(&self, now_ms: u64) {
        self.held_until_ms.store(now_ms + HOLD_MS, Ordering::Relaxed);
        self.held_left.store(HOLD_TURNS, Ordering::Relaxed);
    }

    /// Whether a new transaction is to be turned away.
    pub(super) fn holds(&self, now_ms: u64) -> bool {
        now_ms < self.held_until_ms.load(Ordering::Relaxed)
            && self
                .held_left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
    }

    /// Learns what an engine holds, once it holds all.
    pub(crate) fn load(&self, engine: &Engine) -> Result<()> {
        let part = engine.part();
        // A split has left the other half a copy of each debt, where it stays: the home's alone counts.
        // One that cannot be read is told of by whoever comes to it.
        let is_ours = |value: &[u8]| {
            let debt = || state::read_debt(&Bytes::copy_from_slice(value));
            part.is_none_or(|part| debt().map_or(true, |debt| part.slots.contains(debt.txn.home)))
        };
        let mut keys = self.lock();
        for (kind, set) in [(LOCK, 0), (DEBT, 1)] {
            let set = if set == 0 { &mut keys.locks } else { &mut keys.debts };
            set.clear();
            let options = IterOptions { prefix: vec![kind], ..IterOptions::default() };
            let mut iter = engine.iter(CfId::TXN, options)?;
            iter.first()?;
            while iter.valid() {
                if kind == LOCK || is_ours(iter.value()) {
                    set.insert(Bytes::copy_from_slice(iter.key()));
                }
                iter.next()?;
            }
        }
        self.count.store(keys.locks.len(), Ordering::Release);
        self.version.fetch_add(1, Ordering::Release);
        self.vectors.fetch_add(1, Ordering::Release);
        // Which of its batches was the last such one is not known any more.
        self.stamp.fetch_max(engine.last_seq().0, Ordering::Release);
        Ok(())
    }

    /// Some locks, as keys of family TXN.
    pub(super) fn some_locks(&self, max: usize) -> Vec<Bytes> {
        self.lock().locks.iter().take(max).cloned().collect()
    }

    /// Some debts, as keys of family TXN.
    pub(super) fn some_debts(&self, max: usize) -> Vec<Bytes> {
        self.lock().debts.iter().take(max).cloned().collect()
    }
}

impl Shard {
    /// Whether a key may be locked.
    #[inline]
    pub(crate) fn may_have_locks(&self) -> bool {
        self.locks.count.load(Ordering::Acquire) != 0 || self.overlay.has_locks()
    }

    /// A moment, to ask whether there was a lock since.
    pub(crate) fn unlocked_since(&self) -> u64 {
        self.locks.version.load(Ordering::Acquire)
    }

    /// A moment, to ask whether a vector was locked or unlocked since.
    pub(crate) fn vectors_unlocked_since(&self) -> u64 {
        self.locks.vectors.load(Ordering::Acquire)
    }

    /// Whether no lock has been visible from that moment on. REQUIRES: what was pending then is
    /// applied.
    pub(crate) fn is_unlocked_since(&self, moment: u64) -> bool {
        self.locks.count.load(Ordering::Acquire) == 0
            && self.locks.version.load(Ordering::Acquire) == moment
    }

    /// The number of the last batch that changed what is locked or decided, of those that reads
    /// ended by now can have seen.
    pub(super) fn stamp(&self) -> u64 {
        self.commits.between_applies(|| self.locks.stamp.load(Ordering::Acquire))
    }

    /// The first lock among keys of a family, as of a sequence number (or now).
    pub(crate) fn first_lock(
        &self,
        cf: CfId,
        (lower, upper): (Bound<&[u8]>, Bound<&[u8]>),
        at: Option<Seq>,
    ) -> Result<Option<Lock>> {
        let first = state::lock_key(cf, b"");
        let lower = match lower {
            Bound::Unbounded => Bound::Included(first.clone()),
            bound => bound.map(|key| state::lock_key(cf, key)),
        };
        let upper = upper.map(|key| state::lock_key(cf, key));
        let options = IterOptions { lower, upper, prefix: first, at, ..IterOptions::default() };
        let mut iter = self.engine.iter(CfId::TXN, options)?;
        iter.first()?;
        lock_at(&iter)
    }

    /// As [`Shard::first_lock`] for every key that begins with `prefix`.
    pub(crate) fn first_lock_of_prefix(&self, cf: CfId, prefix: &[u8]) -> Result<Option<Lock>> {
        let options = IterOptions { prefix: state::lock_key(cf, prefix), ..IterOptions::default() };
        let mut iter = self.engine.iter(CfId::TXN, options)?;
        iter.first()?;
        lock_at(&iter)
    }
}

fn lock_at(iter: &Iter) -> Result<Option<Lock>> {
    if !iter.valid() {
        return Ok(None);
    }
    let txn = state::read_lock(&Bytes::copy_from_slice(iter.value()))?;
    let slot = state::locked_by_key(iter.key()).map_or(0, |(cf, key)| slot_in(cf, key));
    Ok(Some(Lock { txn, slot }))
}

/// What a transaction has to do with locks.
#[derive(Default)]
pub(crate) struct Standing {
    /// Whose locks do not stop it: its own.
    pub(crate) own: Option<Txn>,
    /// The lock that stopped it.
    pub(crate) met: Option<Lock>,
}

impl Transaction<'_> {
    /// Stops at a key that another has locked. Looked at before the key is: a key that is locked
    /// after that has its present value at least until then.
    #[inline]
    pub(crate) fn pass(&mut self, cf: CfId, key: &[u8]) -> Result<()> {
        match self.shard.may_have_locks() && (!cf.is_system() || cf == CfId::VECTORS) {
            true => self.pass_lock(cf, key),
            false => Ok(()),
        }
    }

    fn pass_lock(&mut self, cf: CfId, key: &[u8]) -> Result<()> {
        match self.lock_of(cf, key)? {
            Some(txn) if self.standing.own != Some(txn) && !self.knows_foreign(cf, key) => {
                Err(self.stop_at(Lock { txn, slot: slot_in(cf, key) }))
            }
            _ => Ok(()),
        }
    }

    /// Whether a key is locked, by whomever.
    pub(crate) fn is_locked(&mut self, cf: CfId, key: &[u8]) -> Result<bool> {
        Ok(self.shard.may_have_locks() && self.lock_of(cf, key)?.is_some())
    }

    /// Whose lock a key has.
    pub(super) fn lock_of(&mut self, cf: CfId, key: &[u8]) -> Result<Option<Txn>> {
        let held = self.read(CfId::TXN, &state::lock_key(cf, key))?;
        held.map(|held| state::read_lock(&held.value)).transpose()
    }

    /// The error of an evaluation that met a lock; see [`Transaction::turned_away`].
    pub(crate) fn stop_at(&mut self, lock: Lock) -> Error {
        self.standing.met = Some(lock);
        Error::new(ErrorKind::Busy, "a transaction over several shards has locked the key")
    }

    /// The answer to an evaluation that ended with `error`: if a lock stopped it, whose.
    pub(crate) fn turned_away(&self, error: Error) -> Result<Answer> {
        match self.standing.met {
            Some(lock) => {
                Ok(Answer { response: Response::Locked(lock), rests_on: self.rests_on() })
            }
            None => Err(error),
        }
    }
}

/// An answer to what comes behind a request that met a lock.
pub(crate) fn behind_a_lock() -> Error {
    let message = "a request before this one waits for a transaction over several shards";
    Error::new(ErrorKind::Unavailable, message)
}

impl Shard {
    /// An answer to what comes behind a request that met a lock: it is not begun, so that it does
    /// not overtake.
    pub fn behind_a_lock() -> Error {
        behind_a_lock()
    }

    /// Some record of family TXN, as it is applied.
    pub(super) fn txn_record(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let found = self.engine.get(CfId::TXN, key, &ReadOptions::default())?;
        Ok(found.map(|found| found.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LogIndex;
    use crate::env::{Pool, SimDisk};
    use crate::lsm::batch::WriteBatch;
    use crate::lsm::manifest::Part;
    use crate::lsm::{BlockCache, EngineOptions};
    use crate::op::kv::RequestId;
    use crate::op::route::SlotRange;
    use crate::shard::two_phase::state::Debt;

    #[test]
    fn debts_that_a_split_left_to_the_other_half_are_in_nobodys_way() {
        let disk = SimDisk::new();
        let options = EngineOptions { background: false, ..EngineOptions::new("/shard") };
        let cache = BlockCache::new(1 << 20);
        let engine = Engine::open(disk.shared(), Pool::manual(), cache, options).unwrap();
        let mut batch = WriteBatch::new();
        for (request, home) in [(1, 3), (2, 9_000), (3, 16_000)] {
            let txn = Txn { id: RequestId { client: 1, request }, attempt: 0, home };
            let debt = Debt { txn, since_ms: 1, slots: vec![5, 10_000], writes: Vec::new() };
            state::put_debt(&mut batch, &debt);
        }
        batch.place(Seq(1), 1);
        engine.apply(LogIndex(1), &batch.view()).unwrap();
        let locks = Locks::default();
        locks.load(&engine).unwrap();
        assert_eq!(locks.some_debts(10).len(), 3);
        let part = Part { slots: SlotRange { first: 0, last: 8_191 }, epoch: 2 };
        engine.keep_part(part, LogIndex(2)).unwrap();
        locks.load(&engine).unwrap();
        let [ours] = &locks.some_debts(10)[..] else { panic!("the others' are there too") };
        assert_eq!(ours[9..], 1u64.to_be_bytes());
    }
}

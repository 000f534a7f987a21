//! A transaction as Redis commands see it: the default family's live keys.

use crate::base::{CfId, ErrorKind, Result, Seq};
use crate::env::Rng;
use crate::lsm::key::Meta;
use crate::lsm::{Iter, IterOptions, ReadOptions, Snapshot};
use crate::op::kv::MergeOp;
use crate::redis::{Keyspace, Stored};
use crate::shard::transaction::{Held, Transaction};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// Up to this many keys, a random one is drawn from a full scan.
const RANDOM_SCAN_MAX: u64 = 256;

/// A transaction with what only Redis commands need.
pub(crate) struct RedisKeys<'t, 'a> {
    pub(crate) txn: &'t mut Transaction<'a>,
    /// Whether lookups count as keyspace hits and misses.
    pub(crate) count_lookups: bool,
    /// Whether the command reads one key once and writes nothing, so that there is nothing to
    /// remember.
    pub(crate) reads_once: bool,
}

impl RedisKeys<'_, '_> {
    fn note_lookup(&self, found: bool) {
        if self.count_lookups {
            let counters = &self.txn.shard.counters;
            let counter = if found { &counters.hits } else { &counters.misses };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An iterator over the engine's live keys, once nothing is pending. Where some may be locked
    /// it is over a snapshot, for [`RedisKeys::pass_range`].
    fn engine_iter(&mut self, lower: Bound<&[u8]>) -> Result<(Iter, Option<Snapshot>)> {
        let shard = self.txn.shard;
        shard.barrier()?;
        let mut options = IterOptions {
            lower: lower.map(<[u8]>::to_vec),
            now_ms: self.txn.now_ms,
            ..IterOptions::default()
        };
        let moment = shard.unlocked_since();
        let iter = shard.engine.iter(CfId::DEFAULT, options.clone())?;
        if shard.is_unlocked_since(moment) {
            return Ok((iter, None));
        }
        let snapshot = shard.engine.snapshot();
        options.at = Some(snapshot.seq());
        Ok((shard.engine.iter(CfId::DEFAULT, options)?, Some(snapshot)))
    }

    /// Stops if a key in the range was locked.
    fn pass_range(&mut self, range: (Bound<&[u8]>, Bound<&[u8]>), at: Option<Seq>) -> Result<()> {
        match self.txn.shard.first_lock(CfId::DEFAULT, range, at)? {
            Some(lock) => {
                self.txn.shard.locks.hold(self.txn.now_ms);
                Err(self.txn.stop_at(lock))
            }
            None => Ok(()),
        }
    }

    /// Counts and checks that no key was locked meanwhile.
    fn unlocked<T>(&mut self, count: impl Fn(&mut Self) -> Result<T>) -> Result<T> {
        loop {
            let moment = self.txn.shard.unlocked_since();
            let counted = count(self)?;
            if self.txn.shard.is_unlocked_since(moment) {
                return Ok(counted);
            }
            self.pass_range((Bound::Unbounded, Bound::Unbounded), None)?;
            if self.txn.shard.unlocked_since() == moment {
                // What is locked is of another family.
                return Ok(counted);
            }
        }
    }

    fn count_live(&mut self) -> Result<u64> {
        let now_ms = self.txn.now_ms;
        let mut live = 0;
        if !self.txn.is_cleared() {
            live = self.txn.shard.live_keys(now_ms)?;
        }
        let shard = self.txn.shard;
        for (key, held) in self.txn.written(CfId::DEFAULT)? {
            let before = !self.txn.is_cleared()
                && shard
                    .engine
                    .get(CfId::DEFAULT, &key, &ReadOptions::default())?
                    .is_some_and(|f| !f.meta.is_expired(now_ms));
            live = (live + u64::from(held.is_some())).saturating_sub(u64::from(before));
        }
        Ok(live)
    }
}

impl Keyspace for RedisKeys<'_, '_> {
    fn now_ms(&self) -> u64 {
        self.txn.now_ms
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Stored>> {
        let held = match self.reads_once {
            true => self.txn.glance(CfId::DEFAULT, key)?,
            false => self.txn.get(CfId::DEFAULT, key)?,
        };
        self.note_lookup(held.is_some());
        Ok(held.map(stored))
    }

    fn check_value(&self, bytes: usize) -> Result<()> {
        self.txn.shard.check_value(bytes)
    }

    fn put(&mut self, key: &[u8], value: Bytes, tag: u8, expire_at_ms: Option<u64>) -> Result<()> {
        self.txn.put(CfId::DEFAULT, key, value, Meta { tag, expire_at_ms })
    }

    fn append(&mut self, key: &[u8], suffix: &[u8]) -> Result<()> {
        self.txn.merge(CfId::DEFAULT, key, MergeOp::Append, Bytes::copy_from_slice(suffix))
    }

    fn delete(&mut self, key: &[u8]) -> Result<bool> {
        let present = self.txn.get(CfId::DEFAULT, key)?.is_some();
        self.txn.delete(CfId::DEFAULT, key)?;
        Ok(present)
    }

    fn clear(&mut self) -> Result<u64> {
        let removed = self.count()?;
        let mut iter = self
            .txn
            .shard
            .barrier()
            .and_then(|()| self.txn.shard.engine.iter(CfId::DEFAULT, IterOptions::default()))?;
        iter.first()?;
        let first = iter.valid().then(|| Bytes::copy_from_slice(iter.key()));
        iter.last()?;
        let end = iter.valid().then(|| {
            let mut end = iter.key().to_vec();
            end.push(0);
            Bytes::from(end)
        });
        let counts = self.txn.shard.engine.counts(CfId::DEFAULT)?;
        self.txn.clear(
            first.unwrap_or_default(),
            end.unwrap_or_default(),
            counts.keys,
            counts.expires,
        );
        Ok(removed)
    }

    fn count(&mut self) -> Result<u64> {
        self.txn.shard.barrier()?;
        self.unlocked(RedisKeys::count_live)
    }

    fn scan(
        &mut self,
        start: &[u8],
        visit: &mut dyn FnMut(&[u8], &Stored) -> bool,
    ) -> Result<bool> {
        let written = self.txn.written(CfId::DEFAULT)?;
        let mut own: BTreeMap<Bytes, Option<Held>> =
            written.into_iter().filter(|(key, _)| &key[..] >= start).collect();
        if !self.txn.is_cleared() {
            let (mut iter, snapshot) = self.engine_iter(Bound::Included(start))?;
            iter.first()?;
            if let Some(snapshot) = snapshot {
                self.pass_range((Bound::Included(start), Bound::Unbounded), Some(snapshot.seq()))?;
            }
            while iter.valid() {
                while let Some(entry) = own.first_entry() {
                    if &entry.key()[..] >= iter.key() {
                        break;
                    }
                    if !visit_own(entry.remove_entry(), visit) {
                        return Ok(false);
                    }
                }
                // The transaction's own write stands in for what the engine holds.
                if own.first_key_value().is_some_and(|(key, _)| &key[..] == iter.key()) {
                    if let Some(entry) = own.pop_first()
                        && !visit_own(entry, visit)
                    {
                        return Ok(false);
                    }
                } else {
                    let value = Stored {
                        value: Bytes::copy_from_slice(iter.value()),
                        tag: iter.meta().tag,
                        expire_at_ms: iter.meta().expire_at_ms,
                        seq: iter.seq(),
                    };
                    if !visit(iter.key(), &value) {
                        return Ok(false);
                    }
                }
                iter.next()?;
            }
        }
        while let Some(entry) = own.pop_first() {
            if !visit_own(entry, visit) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn random_key(&mut self) -> Result<Option<Bytes>> {
        let count = self.count()?;
        if count == 0 {
            return Ok(None);
        }
        let mut rng = self.txn.shard.rng.lock().unwrap_or_else(PoisonError::into_inner).fork();
        if count <= RANDOM_SCAN_MAX || !self.txn.is_read_only() {
            let mut left = rng.below(count.min(RANDOM_SCAN_MAX));
            let mut chosen = None;
            self.scan(&[], &mut |key, _| {
                chosen = Some(Bytes::copy_from_slice(key));
                let go_on = left > 0;
                left = left.saturating_sub(1);
                go_on
            })?;
            return Ok(chosen);
        }
        let (mut iter, _) = self.engine_iter(Bound::Unbounded)?;
        random_position(&mut iter, &mut rng)
    }

    fn save_cursor(&mut self, key: Bytes) -> u64 {
        self.txn.shard.cursors.save(key)
    }

    fn load_cursor(&mut self, cursor: u64) -> Option<Bytes> {
        self.txn.shard.cursors.load(cursor)
    }
}

fn visit_own(
    (key, held): (Bytes, Option<Held>),
    visit: &mut dyn FnMut(&[u8], &Stored) -> bool,
) -> bool {
    match held {
        Some(held) => visit(&key, &stored(held)),
        None => true,
    }
}

fn stored(held: Held) -> Stored {
    Stored {
        value: held.value,
        tag: held.meta.tag,
        expire_at_ms: held.meta.expire_at_ms,
        seq: held.seq,
    }
}

/// Draws a key by its bytes: a random point between the first and the last key behind their
/// common prefix, then a few steps on, so that a key behind a gap is not drawn far too often.
fn random_position(iter: &mut Iter, rng: &mut Rng) -> Result<Option<Bytes>> {
    iter.last()?;
    if !iter.valid() {
        return Ok(None);
    }
    let last = iter.key().to_vec();
    iter.first()?;
    if !iter.valid() {
        return Ok(None);
    }
    let first = iter.key().to_vec();
    let common = first.iter().zip(&last).take_while(|(a, b)| a == b).count();
    let number = |key: &[u8]| {
        let mut head = [0u8; 8];
        let tail = &key[common..];
        let n = tail.len().min(8);
        head[..n].copy_from_slice(&tail[..n]);
        u64::from_be_bytes(head)
    };
    let (low, high) = (number(&first), number(&last));
    let point = low + rng.below(high.saturating_sub(low).saturating_add(1));
    let mut target = first[..common].to_vec();
    target.extend_from_slice(&point.to_be_bytes());
    iter.seek(&target)?;
    for _ in 0..rng.below(64) {
        if !iter.valid() {
            break;
        }
        iter.next()?;
    }
    if !iter.valid() {
        iter.first()?;
    }
    Ok(iter.valid().then(|| Bytes::copy_from_slice(iter.key())))
}

/// Keys that an iterator comes to, and those of them that expire.
fn count(mut iter: Iter) -> Result<(u64, u64)> {
    let (mut keys, mut expires) = (0, 0);
    iter.first()?;
    while iter.valid() {
        keys += 1;
        expires += u64::from(iter.meta().expire_at_ms.is_some());
        iter.next()?;
    }
    Ok((keys, expires))
}

impl crate::shard::Shard {
    /// Live keys of the default family at `now_ms`, exact. REQUIRES: nothing pending.
    pub(crate) fn live_keys(&self, now_ms: u64) -> Result<u64> {
        if self.counts_keys() && self.engine.counts(CfId::DEFAULT)?.exact {
            // A sweep between the two would be counted twice.
            let _still = self.sweeping.read().unwrap_or_else(PoisonError::into_inner);
            let due = self.due_keys(now_ms)?;
            return Ok(self.engine.counts(CfId::DEFAULT)?.keys.saturating_sub(due));
        }
        let options = IterOptions { now_ms, ..IterOptions::default() };
        let mut iter = self.engine.iter(CfId::DEFAULT, options)?;
        let mut count = 0;
        iter.first()?;
        while iter.valid() {
            count += 1;
            iter.next()?;
        }
        Ok(count)
    }

    /// As `recount`, beside those who write; whether the counts are exact
    /// then.
    ///
    /// # Errors
    /// What reading and writing the engine gives.
    pub(crate) fn recount_beside(&self) -> Result<bool> {
        if !self.counts_keys() || self.engine.counts(CfId::DEFAULT)?.exact {
            return Ok(true);
        }
        self.engine.recount(CfId::DEFAULT, count)
    }

    /// Counts the default family anew if its counts are not exact. Cost: a scan of the family.
    pub(crate) fn recount(&self) -> Result<()> {
        let counts = self.engine.counts(CfId::DEFAULT)?;
        if counts.exact {
            return Ok(());
        }
        let iter = self.engine.iter(CfId::DEFAULT, IterOptions::default())?;
        let (keys, expires) = count(iter)?;
        match self.engine.set_counts(CfId::DEFAULT, keys, expires) {
            // A read-only engine cannot keep the figure; it is counted again next time.
            Err(e) if e.kind() == ErrorKind::Refused => Ok(()),
            other => other,
        }
    }
}

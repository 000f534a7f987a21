//! Collecting what has expired, as logged deletes.
//!
//! The expiry index orders keys by the time at which they expire. A sweep takes the entries that
//! are due, checks each against what its key holds now, and deletes the key and the entry in one
//! batch: so replicas, watchers and the counts agree, and an entry left behind by an overwritten
//! key is discarded rather than chased (what happens otherwise: KeyDB issue 748).

use crate::base::{CfId, Result};
use crate::lsm::batch::{Counts, WriteBatch};
use crate::lsm::{IterOptions, ReadOptions};
use crate::shard::Shard;
use crate::shard::latch;
use crate::shard::transaction::Transaction;
use bytes::Bytes;
use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Entries one sweep takes at most, so that latches are held for a short time.
const SWEEP_MAX: usize = 128;

/// An entry of the expiry index.
struct Due {
    at_ms: u64,
    cf: CfId,
    key: Bytes,
    entry: Bytes,
}

impl Shard {
    /// Deletes keys that have expired at `now_ms`, a bounded number of them; gives how many
    /// entries it dealt with. 0 means that none is due.
    pub fn sweep_expired(self: &Arc<Self>, now_ms: u64) -> Result<usize> {
        let _alone = self.one_sweep.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = self.advance_now(now_ms);
        let due = self.due(now_ms, SWEEP_MAX)?;
        if due.is_empty() {
            return Ok(0);
        }
        let stripes = due.iter().map(|d| latch::stripe(d.cf, &d.key)).collect();
        let held = self.latches.many(stripes);
        let mut txn = Transaction::new(self, now_ms);
        let mut stale = Vec::new();
        let (mut expired, mut locked) = (0, 0);
        for d in &due {
            if d.cf != CfId::DEFAULT && !self.has_family(d.cf) {
                stale.push(&d.entry);
                continue;
            }
            if txn.is_locked(d.cf, &d.key)? {
                locked += 1;
                continue;
            }
            let holds = txn.held(d.cf, &d.key)?;
            if holds.is_some_and(|h| h.meta.expire_at_ms == Some(d.at_ms)) {
                txn.delete(d.cf, &d.key)?;
                expired += 1;
            } else {
                stale.push(&d.entry);
            }
        }
        let began = txn.began();
        let mut batch = WriteBatch::new();
        txn.fill(&mut batch)?;
        for entry in stale {
            batch.delete_with(CfId::EXPIRY, entry, Counts::Unknown);
        }
        let gate = self.sweeping.write().unwrap_or_else(PoisonError::into_inner);
        let ticket = self.place(&mut batch, now_ms, began)?;
        drop(held);
        // The next sweep reads the index from the engine, and must not find these again.
        self.wait_committed(ticket)?;
        drop(gate);
        self.counters.expired.fetch_add(expired, Ordering::Relaxed);
        // What is locked is for a later sweep.
        Ok(due.len() - locked)
    }

    /// Keys of the default family that have expired at `now_ms` and are still counted.
    pub(crate) fn due_keys(&self, now_ms: u64) -> Result<u64> {
        let mut count = 0;
        self.each_due(now_ms, |d| {
            let counted = d.cf == CfId::DEFAULT
                && self
                    .engine
                    .get(d.cf, &d.key, &ReadOptions::default())?
                    .is_some_and(|f| f.meta.expire_at_ms == Some(d.at_ms));
            count += u64::from(counted);
            Ok(true)
        })?;
        Ok(count)
    }

    /// The first `max` entries of the index that are due.
    fn due(&self, now_ms: u64, max: usize) -> Result<Vec<Due>> {
        let mut due = Vec::new();
        self.each_due(now_ms, |d| {
            due.push(d);
            Ok(due.len() < max)
        })?;
        Ok(due)
    }

    /// Visits the entries of the index that are due, in order, until `visit` says false.
    fn each_due(&self, now_ms: u64, mut visit: impl FnMut(Due) -> Result<bool>) -> Result<()> {
        let end = now_ms.saturating_add(1).to_be_bytes();
        let options =
            IterOptions { upper: Bound::Excluded(end.to_vec()), ..IterOptions::default() };
        let mut iter = self.engine.iter(CfId::EXPIRY, options)?;
        iter.first()?;
        while iter.valid() {
            let entry = Bytes::copy_from_slice(iter.key());
            if let (Some(at), Some(cf)) = (entry.first_chunk::<8>(), entry.get(8..12)) {
                let at_ms = u64::from_be_bytes(*at);
                let cf = CfId(cf.iter().fold(0, |n, b| (n << 8) | u32::from(*b)));
                let go_on = visit(Due { at_ms, cf, key: entry.slice(12..), entry })?;
                if !go_on {
                    break;
                }
            }
            iter.next()?;
        }
        Ok(())
    }

    /// Mean time to live of the first keys to expire, in ms; 0 if none expires.
    pub(crate) fn mean_ttl_ms(&self, now_ms: u64) -> Result<u64> {
        let lower = now_ms.saturating_add(1).to_be_bytes();
        let options =
            IterOptions { lower: Bound::Included(lower.to_vec()), ..IterOptions::default() };
        let mut iter = self.engine.iter(CfId::EXPIRY, options)?;
        let (mut sum, mut count) = (0u64, 0u64);
        iter.first()?;
        while iter.valid() && count < 16 {
            if let Some(at) = iter.key().first_chunk::<8>() {
                sum = sum.saturating_add(u64::from_be_bytes(*at).saturating_sub(now_ms));
                count += 1;
            }
            iter.next()?;
        }
        Ok(sum.checked_div(count).unwrap_or(0))
    }
}

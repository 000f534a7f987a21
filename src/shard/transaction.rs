//! Reads and writes of one evaluation, and the batch they become.
//!
//! A transaction reads through its own writes, then the overlay, then the engine, and keeps one
//! final effect per key. What a key was before the transaction (its *base*) decides how the
//! counts of live and expiring keys change and which entry of the expiry index goes.
//!
//! The expiry index is a family of its own: `[expire_at_ms u64 BE][cf u32 BE][key]` with empty
//! values, written in the same batch as the key. An entry counts only if the key still expires at
//! that very time; a blind write may leave an old entry behind, which the sweep discards.

use crate::base::{CfId, Error, Result, Seq};
use crate::lsm::batch::{Counts, WriteBatch};
use crate::lsm::key::Meta;
use crate::lsm::{ReadOptions, merge};
use crate::op::kv::{BATCH_OPS_MAX, KEY_BYTES_MAX, MergeOp, VALUE_BYTES_MAX};
use crate::op::txn::{TxnValue, TxnWrite};
use crate::shard::Shard;
use crate::shard::commit::{Epoch, Ticket};
use crate::shard::dedup::Requests;
use crate::shard::overlay::Pending;
use crate::shard::touched::{Effect, Plan, Touched, TouchedKeys};
use crate::shard::two_phase::locks::Standing;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

/// What a key holds physically: an expired value is still held until it is collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) value: Bytes,
    pub(crate) meta: Meta,
    pub(crate) seq: Seq,
}

/// One evaluation. REQUIRES, for writing: the latches of every key written, held until it is
/// placed.
pub(crate) struct Transaction<'a> {
    pub(crate) shard: &'a Arc<Shard>,
    pub(crate) now_ms: u64,
    touched: TouchedKeys,
    /// Requests that it has looked for, and those that it executes.
    pub(crate) requests: Requests,
    /// The range that was cleared before the effects, with the counts it held.
    cleared: Option<Cleared>,
    /// What the reads rest on.
    rests_on: Ticket,
    /// See [`Transaction::written_bytes`].
    written_bytes: usize,
    /// When the evaluation began.
    began: Epoch,
    /// What it has to do with locks.
    pub(crate) standing: Standing,
    /// Keys of other shards and what they hold there, as long as they are locked.
    foreign: Option<Box<Foreign>>,
}

type Foreign = HashMap<(CfId, Bytes), Option<Held>>;

struct Cleared {
    first: Bytes,
    end: Bytes,
    keys: u64,
    expires: u64,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(shard: &'a Arc<Shard>, now_ms: u64) -> Transaction<'a> {
        Transaction::with_room(shard, now_ms, 0)
    }

    /// One that will touch about so many keys.
    pub(crate) fn with_room(shard: &'a Arc<Shard>, now_ms: u64, keys: usize) -> Transaction<'a> {
        Transaction {
            shard,
            now_ms,
            touched: TouchedKeys::with_capacity(keys),
            requests: Requests::default(),
            cleared: None,
            rests_on: Ticket::default(),
            written_bytes: 0,
            began: shard.commits.epoch(),
            standing: Standing::default(),
            foreign: None,
        }
    }

    /// Reads keys of other shards from what is told of them, and keeps what is written to them.
    pub(crate) fn set_foreign(
        &mut self,
        held: impl Iterator<Item = ((CfId, Bytes), Option<Held>)>,
    ) {
        self.foreign = Some(Box::new(held.collect()));
    }

    /// Takes out what the transaction makes of keys of other shards.
    pub(crate) fn take_foreign(&mut self) -> Result<Vec<TxnWrite>> {
        let mut writes = Vec::new();
        for at in 0..self.touched.len() {
            let (cf, key) = (self.touched[at].cf, self.touched[at].key.clone());
            if self.touched[at].effect == Effect::None || !self.is_foreign(cf, &key) {
                continue;
            }
            let becomes = self.held(cf, &key)?.map(|Held { value, meta, .. }| TxnValue {
                value,
                tag: meta.tag,
                expire_at_ms: meta.expire_at_ms,
            });
            self.touched[at].effect = Effect::None;
            let stood = self.touched[at].base.as_ref().is_none_or(Option::is_some);
            if stood || becomes.is_some() {
                writes.push(TxnWrite { cf, key, becomes });
            }
        }
        Ok(writes)
    }

    /// Whether a key is one of another shard.
    pub(crate) fn knows_foreign(&self, cf: CfId, key: &[u8]) -> bool {
        self.foreign.is_some() && self.is_foreign(cf, &Bytes::copy_from_slice(key))
    }

    fn is_foreign(&self, cf: CfId, key: &Bytes) -> bool {
        self.foreign.as_ref().is_some_and(|foreign| foreign.contains_key(&(cf, key.clone())))
    }

    /// The live value of a key, and the sequence number of its last commit (that of the
    /// transaction's own write is not known yet: `Seq(0)`).
    pub(crate) fn get(&mut self, cf: CfId, key: &[u8]) -> Result<Option<Held>> {
        let now_ms = self.now_ms;
        Ok(self.held(cf, key)?.filter(|held| !held.meta.is_expired(now_ms)))
    }

    /// As [`Transaction::get`], of a key that this transaction has not touched and will not.
    pub(crate) fn glance(&mut self, cf: CfId, key: &[u8]) -> Result<Option<Held>> {
        let now_ms = self.now_ms;
        self.pass(cf, key)?;
        Ok(self.read(cf, key)?.filter(|held| !held.meta.is_expired(now_ms)))
    }

    /// What a key holds, expired or not.
    pub(crate) fn held(&mut self, cf: CfId, key: &[u8]) -> Result<Option<Held>> {
        let at = self.look(cf, key)?;
        let touched = &self.touched[at];
        let base = touched.base.as_ref().and_then(Option::as_ref);
        Ok(match &touched.effect {
            Effect::None => base.cloned(),
            Effect::Delete => None,
            Effect::Put(value, meta) => {
                Some(Held { value: value.clone(), meta: *meta, seq: Seq(0) })
            }
            Effect::Merge(op, operand) => Some(Held {
                value: fold(*op, base.map(|b| &b.value[..]), operand),
                meta: base.map(|b| b.meta).unwrap_or_default(),
                seq: Seq(0),
            }),
        })
    }

    /// Sets a key; a time of expiry that has come removes it.
    pub(crate) fn put(&mut self, cf: CfId, key: &[u8], value: Bytes, meta: Meta) -> Result<()> {
        check_sizes(key, &value)?;
        if meta.is_expired(self.now_ms) {
            return self.delete(cf, key);
        }
        self.set(cf, key, Effect::Put(value, meta))
    }

    /// Removes a key.
    pub(crate) fn delete(&mut self, cf: CfId, key: &[u8]) -> Result<()> {
        check_sizes(key, &[])?;
        self.set(cf, key, Effect::Delete)
    }

    /// Merges an operand into a key. One that is already written, or has expired, becomes a put.
    pub(crate) fn merge(
        &mut self,
        cf: CfId,
        key: &[u8],
        op: MergeOp,
        operand: Bytes,
    ) -> Result<()> {
        check_sizes(key, &operand)?;
        let at = self.look(cf, key)?;
        let base = self.touched[at].base.as_ref().and_then(Option::as_ref);
        let base_live = base.is_some_and(|b| !b.meta.is_expired(self.now_ms));
        let effect = match &self.touched[at].effect {
            Effect::None if base_live || base.is_none() => Effect::Merge(op, operand),
            _ => {
                let present = self.get(cf, key)?;
                let value = present.as_ref().map(|h| &h.value[..]);
                check_operand(op, value, &operand)?;
                let value = fold(op, value, &operand);
                Effect::Put(value, present.map(|h| h.meta).unwrap_or_default())
            }
        };
        if let Effect::Merge(op, operand) = &effect {
            let base = self.touched[at].base.as_ref().and_then(Option::as_ref);
            check_operand(*op, base.map(|b| &b.value[..]), operand)?;
        }
        self.note_write(at, effect);
        Ok(())
    }

    /// Removes every key of the default family: those in the engine lie from `first` up to and
    /// without `end`, `keys` of them, `expires` with an expiry. REQUIRES: every latch, and nothing pending.
    pub(crate) fn clear(&mut self, first: Bytes, end: Bytes, keys: u64, expires: u64) {
        self.touched.retain(|t| t.cf != CfId::DEFAULT);
        self.cleared = Some(Cleared { first, end, keys, expires });
    }

    /// The keys of a family that the transaction has written, with what they now hold.
    pub(crate) fn written(&mut self, cf: CfId) -> Result<Vec<(Bytes, Option<Held>)>> {
        let keys: Vec<Bytes> = self
            .touched
            .iter()
            .filter(|t| t.cf == cf && t.effect != Effect::None)
            .map(|t| t.key.clone())
            .collect();
        keys.into_iter()
            .map(|key| {
                let held = self.get(cf, &key)?;
                Ok((key, held))
            })
            .collect()
    }

    /// Whether the default family was cleared in this transaction.
    pub(crate) fn is_cleared(&self) -> bool {
        self.cleared.is_some()
    }

    /// Whether the transaction writes anything.
    pub(crate) fn is_read_only(&self) -> bool {
        self.cleared.is_none() && self.touched.iter().all(|t| t.effect == Effect::None)
    }

    /// Bytes that its writes take in a batch at most, without the expiry index; a key counts as
    /// often as it was written.
    pub(crate) fn written_bytes(&self) -> usize {
        self.written_bytes
    }

    /// When the evaluation began.
    pub(crate) fn began(&self) -> Epoch {
        self.began
    }

    /// What the reads so far rest on.
    pub(crate) fn rests_on(&self) -> Ticket {
        self.rests_on
    }

    /// How many keys it has touched.
    pub(crate) fn touched(&self) -> usize {
        self.touched.len()
    }

    /// Whether it has touched a key.
    pub(crate) fn has_touched(&self, cf: CfId, key: &[u8]) -> bool {
        self.touched.find(cf, key).is_some()
    }

    /// Forgets the keys touched since there were `touched`, none of which a request before touched.
    pub(crate) fn go_back(&mut self, touched: usize) {
        self.touched.truncate(touched);
    }

    /// The writes as a batch of their own; see [`Transaction::fill`].
    pub(crate) fn into_batch(self) -> Result<(WriteBatch, Ticket)> {
        let mut batch = WriteBatch::with_capacity(self.touched.iter().map(Touched::bytes).sum());
        let read = self.fill(&mut batch)?;
        Ok((batch, read))
    }

    /// Adds the writes to `batch`: first what the shard keeps beside the keys, then the keys, so
    /// that the batch's last sequence number is that of the last key written. Gives what all reads
    /// rest on, those made here among them.
    pub(crate) fn fill(mut self, batch: &mut WriteBatch) -> Result<Ticket> {
        self.fill_all(batch)?;
        Ok(self.rests_on)
    }

    /// As [`Transaction::fill`], and gives how many of the first `n` keys touched are written, for
    /// each `n`.
    pub(crate) fn fill_all(&mut self, batch: &mut WriteBatch) -> Result<Vec<usize>> {
        let mut through = Vec::with_capacity(self.touched.len() + 1);
        let mut writes = 0;
        through.push(0);
        for at in 0..self.touched.len() {
            self.plan(at)?;
            writes += usize::from(self.touched[at].plan.is_some());
            through.push(writes);
        }
        if writes > BATCH_OPS_MAX {
            return Err(Error::invalid(format!(
                "the request writes {writes} keys; at most {BATCH_OPS_MAX} can be written \
                 together: split it"
            )));
        }
        if let Some(c) = &self.cleared
            && c.first < c.end
        {
            batch.delete_range_with(CfId::DEFAULT, &c.first, &c.end, c.keys, c.expires);
        }
        let planned = || self.touched.iter().filter_map(|t| Some((t, t.plan.as_ref()?)));
        for (touched, plan) in planned() {
            plan.fill_index(touched, batch);
        }
        self.requests.fill(batch, self.now_ms, &|keys| through[keys]);
        for (t, plan) in planned() {
            match &t.effect {
                Effect::None => {}
                Effect::Delete => batch.delete_with(t.cf, &t.key, plan.counts),
                Effect::Put(value, meta) => {
                    batch.put_with(t.cf, &t.key, value, *meta, plan.counts);
                }
                Effect::Merge(op, operand) => {
                    batch.merge_with(t.cf, &t.key, *op, operand, plan.counts);
                }
            }
        }
        Ok(through)
    }

    /// Decides what writing a touched key entails.
    fn plan(&mut self, at: usize) -> Result<()> {
        if self.touched[at].effect == Effect::None {
            return Ok(());
        }
        let counted = self.touched[at].cf == CfId::DEFAULT && self.shard.counts_keys();
        let before = match &self.touched[at].base {
            Some(base) => Some(base.as_ref().map(|held| held.meta)),
            None if counted => Some(self.meta_of(at)?),
            None => None,
        };
        let touched = &mut self.touched[at];
        // Nothing stood there, so nothing need be said.
        if touched.effect == Effect::Delete && before == Some(None) {
            return Ok(());
        }
        let before = before.flatten();
        let old_expiry = before.and_then(|meta| meta.expire_at_ms);
        let new_expiry = match &touched.effect {
            Effect::Put(_, meta) => meta.expire_at_ms,
            Effect::Merge(..) => old_expiry,
            Effect::Delete | Effect::None => None,
        };
        let present = touched.effect != Effect::Delete;
        let counts = if counted {
            Counts::Change {
                keys: i8::from(present) - i8::from(before.is_some()),
                expires: i8::from(new_expiry.is_some()) - i8::from(old_expiry.is_some()),
            }
        } else {
            Counts::Unknown
        };
        touched.plan = Some(Plan { counts, old_expiry, new_expiry });
        Ok(())
    }

    /// What stands beside the value of a touched key of which nobody asked the value.
    fn meta_of(&mut self, at: usize) -> Result<Option<Meta>> {
        if self.is_gone(self.touched[at].cf) {
            return Ok(None);
        }
        // Taken out meanwhile: a clone of it would cost an allocation.
        let key = std::mem::take(&mut self.touched[at].key);
        let held = self.read(self.touched[at].cf, &key);
        self.touched[at].key = key;
        Ok(held?.map(|held| held.meta))
    }

    fn set(&mut self, cf: CfId, key: &[u8], effect: Effect) -> Result<()> {
        let at = match self.touched.find(cf, key) {
            Some(at) => at,
            None => {
                self.pass(cf, key)?;
                let (base, key) = (self.is_gone(cf).then_some(None), Bytes::copy_from_slice(key));
                self.touched.push(Touched { cf, key, base, effect: Effect::None, plan: None })
            }
        };
        self.note_write(at, effect);
        Ok(())
    }

    fn note_write(&mut self, at: usize, effect: Effect) {
        let touched = &mut self.touched[at];
        touched.effect = effect;
        self.written_bytes += touched.bytes();
    }

    /// Whether the family was cleared, so that nothing stood there before.
    fn is_gone(&self, cf: CfId) -> bool {
        cf == CfId::DEFAULT && self.cleared.is_some()
    }

    /// The place of a key whose base is known.
    fn look(&mut self, cf: CfId, key: &[u8]) -> Result<usize> {
        let at = match self.touched.find(cf, key) {
            Some(at) => at,
            None => {
                self.pass(cf, key)?;
                let key = Bytes::copy_from_slice(key);
                self.touched.push(Touched { cf, key, base: None, effect: Effect::None, plan: None })
            }
        };
        if self.touched[at].base.is_none() {
            let base = if self.is_gone(cf) { None } else { self.read(cf, key)? };
            self.touched[at].base = Some(base);
        }
        Ok(at)
    }

    /// Reads what a key holds in the overlay and the engine, expired or not, locked or not.
    pub(crate) fn read(&mut self, cf: CfId, key: &[u8]) -> Result<Option<Held>> {
        if let Some(foreign) = &self.foreign
            && let Some(held) = foreign.get(&(cf, Bytes::copy_from_slice(key)))
        {
            return Ok(held.clone());
        }
        loop {
            let pending = self.shard.overlay.of(cf, key);
            let Some(newest) = pending.first().map(|(seq, _)| *seq) else {
                return self.read_engine(cf, key);
            };
            let oldest = pending.last().map(|(seq, _)| *seq);
            self.rests_on = self.rests_on.and(Ticket::at(self.began, newest));
            let mut operands: Vec<(Seq, Bytes)> = Vec::new();
            for (seq, write) in pending {
                match write {
                    Pending::Delete => return finish(None, operands, newest),
                    Pending::Put(value, meta) => {
                        return finish(Some(Held { value, meta, seq }), operands, newest);
                    }
                    Pending::Merge(operand) => operands.push((seq, operand)),
                }
            }
            let base = self.read_engine(cf, key)?;
            // Between the two looks batches may have moved from the overlay to the engine. As
            // long as the oldest operand has not left the overlay, nothing behind it has been
            // applied, and the base's sequence number tells which operands it holds already.
            if self.shard.overlay.oldest_of(cf, key) == oldest {
                let held = base.as_ref().map_or(Seq(0), |base| base.seq);
                operands.retain(|(seq, _)| *seq > held);
                return finish(base, operands, newest);
            }
        }
    }

    fn read_engine(&self, cf: CfId, key: &[u8]) -> Result<Option<Held>> {
        let found = self.shard.engine.get(cf, key, &ReadOptions::default())?;
        Ok(found.map(|f| Held { value: f.value, meta: f.meta, seq: f.seq }))
    }
}

/// Folds pending operands (newest first) onto a base.
fn finish(base: Option<Held>, operands: Vec<(Seq, Bytes)>, seq: Seq) -> Result<Option<Held>> {
    if operands.is_empty() {
        return Ok(base);
    }
    let meta = base.as_ref().map(|b| b.meta).unwrap_or_default();
    let mut value = base.map(|b| b.value);
    for (_, stored) in operands.iter().rev() {
        let (op, operand) = merge::split(stored).ok_or_else(|| {
            Error::new(crate::base::ErrorKind::Internal, "a pending operand has no operator")
        })?;
        value = Some(fold(op, value.as_deref(), operand));
    }
    Ok(value.map(|value| Held { value, meta, seq }))
}

fn fold(op: MergeOp, base: Option<&[u8]>, operand: &[u8]) -> Bytes {
    merge::fold(base, std::iter::once((op, operand))).into()
}

/// An operand that does not suit the value is refused here and not found out later.
fn check_operand(op: MergeOp, base: Option<&[u8]>, operand: &[u8]) -> Result<()> {
    let base_len = base.map(<[u8]>::len);
    match op {
        MergeOp::Append if base_len.unwrap_or(0) + operand.len() > VALUE_BYTES_MAX => {
            Err(too_long_value())
        }
        MergeOp::Add if operand.len() != 8 || base_len.is_some_and(|n| n != 8) => {
            Err(Error::invalid(format!(
                "`add` merges 8-byte little-endian integers; the operand has {} bytes and the \
                 value {}",
                operand.len(),
                base_len.unwrap_or(0)
            )))
        }
        _ => Ok(()),
    }
}

/// The expiry index's key for a key that expires at `at_ms`.
pub(crate) fn expiry_key(at_ms: u64, cf: CfId, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + key.len());
    out.extend_from_slice(&at_ms.to_be_bytes());
    out.extend_from_slice(&cf.0.to_be_bytes());
    out.extend_from_slice(key);
    out
}

pub(crate) fn check_sizes(key: &[u8], value: &[u8]) -> Result<()> {
    if key.len() > KEY_BYTES_MAX {
        return Err(Error::invalid(format!(
            "the key has {} bytes; at most {KEY_BYTES_MAX} are allowed",
            key.len()
        )));
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(too_long_value());
    }
    Ok(())
}

fn too_long_value() -> Error {
    Error::invalid(format!("the value would have more than {VALUE_BYTES_MAX} bytes"))
}

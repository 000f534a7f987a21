//! Batches that an embedding program built itself.

use crate::base::{CfId, Error, Result};
use crate::lsm::batch::{Op, WriteBatch};
use crate::lsm::key::{Kind, split_value};
use crate::op::kv::{BATCH_OPS_MAX, KEY_BYTES_MAX, MergeOp, VALUE_BYTES_MAX};
use crate::shard::Shard;
use crate::shard::commit::Ticket;
use crate::shard::latch;
use crate::shard::shard::no_such_family;
use crate::shard::transaction::Transaction;
use bytes::Bytes;
use std::sync::Arc;

impl Shard {
    /// Writes a batch, all or nothing.
    ///
    /// Plain puts and deletes are placed as they are, without a read, where keys are not counted.
    /// Merges, expiries and counted keys need to know what stands there and go through a
    /// transaction. A range delete latches every key and is waited for.
    pub fn write_batch(self: &Arc<Self>, batch: &mut WriteBatch, clock_ms: u64) -> Result<Ticket> {
        let now_ms = self.advance_now(clock_ms);
        if batch.len() > BATCH_OPS_MAX {
            return Err(Error::invalid(format!(
                "the batch has {} operations; at most {BATCH_OPS_MAX} are allowed: split it",
                batch.len()
            )));
        }
        let view = batch.view();
        let (mut ranges, mut blind) = (false, !self.counts_keys());
        let (mut only, mut stripes) = (None, Vec::new());
        if view.len() > 1 {
            stripes.reserve_exact(view.len());
        }
        let mut ops = view.cursor();
        while let Some(op) = ops.next() {
            self.check(&op)?;
            ranges |= op.kind == Kind::RangeDelete;
            blind &= matches!(op.kind, Kind::Put | Kind::Delete);
            let stripe = latch::stripe(op.cf, op.key);
            if view.len() > 1 {
                stripes.push(stripe);
            } else {
                only = Some(stripe);
            }
        }
        let began = self.commits.epoch();
        if ranges {
            if view.ops().any(|op| matches!(op.kind, Kind::Merge | Kind::PutMeta)) {
                return Err(Error::invalid(
                    "a batch that deletes a range cannot merge or set an expiry too: write two",
                ));
            }
            let _held = self.latches.all();
            self.barrier()?;
            if self.may_have_locks() {
                let message = "a transaction over several shards has locked keys; try again";
                return Err(Error::new(crate::base::ErrorKind::Busy, message));
            }
            let ticket = self.place(batch, now_ms, began)?;
            self.wait_committed(ticket)?;
            if self.counts_keys() {
                // Committed already; without exact counts DBSIZE scans.
                _ = self.recount();
            }
            return Ok(ticket);
        }
        let _held = match only {
            Some(only) => self.latches.one(only),
            None if stripes.is_empty() => return Ok(Ticket::default()),
            None => self.latches.many(stripes),
        };
        if blind && !self.may_have_locks() {
            return self.place(batch, now_ms, began);
        }
        let mut txn = Transaction::new(self, now_ms);
        for op in batch.view().ops() {
            write(&mut txn, &op)?;
        }
        let mut evaluated = WriteBatch::new();
        let read = txn.fill(&mut evaluated)?;
        Ok(self.place(&mut evaluated, now_ms, began)?.and(read))
    }

    fn check(&self, op: &Op<'_>) -> Result<()> {
        if op.cf != CfId::DEFAULT && (op.cf.is_system() || !self.has_family(op.cf)) {
            return Err(no_such_family(op.cf));
        }
        if op.key.len() > KEY_BYTES_MAX || op.value.len() > VALUE_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a key has at most {KEY_BYTES_MAX} bytes and a value {VALUE_BYTES_MAX}; got {} \
                 and {}",
                op.key.len(),
                op.value.len()
            )));
        }
        if op.kind == Kind::RangeDelete && op.key >= op.value {
            return Err(Error::invalid("a range's end must lie behind its start"));
        }
        Ok(())
    }
}

fn write(txn: &mut Transaction<'_>, op: &Op<'_>) -> Result<()> {
    match op.kind {
        Kind::Delete | Kind::RangeDelete => txn.delete(op.cf, op.key),
        Kind::Put | Kind::PutMeta => match split_value(op.kind, op.value) {
            Some((meta, value)) => txn.put(op.cf, op.key, Bytes::copy_from_slice(value), meta),
            None => Err(Error::invalid("a value in the batch is malformed")),
        },
        Kind::Merge => match op.value.split_first() {
            Some((operator, operand)) => match MergeOp::from_u8(*operator) {
                Some(operator) => {
                    txn.merge(op.cf, op.key, operator, Bytes::copy_from_slice(operand))
                }
                None => Err(Error::invalid("a merge in the batch has an unknown operator")),
            },
            None => Err(Error::invalid("a merge in the batch has no operator")),
        },
    }
}

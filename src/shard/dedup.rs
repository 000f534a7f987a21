//! Requests that were applied, so that a retry applies once.
//!
//! ```text
//! family DEDUP:  [client u64 BE][request u64 BE] -> [version u8 = 1][ahead u64 LE]
//! ```
//! `ahead` is how many operations of the batch follow the record; the last of them has the
//! sequence number that the request was answered with.
//! The record is written in the batch of the request itself and expires [`KEEP_MS`] later, by the
//! shard's time. It is replicated and part of every snapshot, like any key. A retry after that
//! is applied again: clients retry within seconds.

use crate::base::codec::Reader;
use crate::base::{CfId, Error, ErrorKind, Result, Seq};
use crate::lsm::batch::{Counts, WriteBatch};
use crate::lsm::key::Meta;
use crate::op::kv::RequestId;
use crate::shard::latch::{self, Stripe};
use crate::shard::transaction::Transaction;

/// How long a request is remembered: ten minutes.
pub(crate) const KEEP_MS: u64 = 10 * 60 * 1000;

const VERSION: u8 = 1;

fn key(id: RequestId) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&id.client.to_be_bytes());
    key[8..].copy_from_slice(&id.request.to_be_bytes());
    key
}

/// The latch that keeps two attempts of one request apart.
pub(crate) fn stripe(id: RequestId) -> Stripe {
    latch::stripe(CfId::DEDUP, &key(id))
}

/// Whether the request was applied: the sequence number it was answered with then.
pub(crate) fn applied(txn: &mut Transaction<'_>, id: RequestId) -> Result<Option<Seq>> {
    let Some(record) = txn.get(CfId::DEDUP, &key(id))? else { return Ok(None) };
    let mut r = Reader::new(&record.value);
    match (r.u8(), r.u64()) {
        (Some(VERSION), Some(ahead)) => Ok(Some(Seq(record.seq.0.saturating_add(ahead)))),
        _ => Err(Error::new(ErrorKind::Corruption, "a record of an applied request is malformed")),
    }
}

/// Records in the request's own batch that it was applied; `ahead` operations follow.
pub(crate) fn record(batch: &mut WriteBatch, id: RequestId, now_ms: u64, ahead: u64) {
    let mut value = vec![VERSION];
    value.extend_from_slice(&ahead.to_le_bytes());
    let meta = Meta { tag: 0, expire_at_ms: Some(now_ms.saturating_add(KEEP_MS)) };
    batch.put_with(CfId::DEDUP, &key(id), &value, meta, Counts::Unknown);
}

//! Requests that were applied, so that a retry applies once; and some that were refused, so that a
//! copy that comes late is refused too.
//!
//! ```text
//! family DEDUP:  [client u64 BE][request u64 BE] -> [1 u8][ahead u64 LE]   applied
//!                                                   [2 u8]                 refused
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

const APPLIED: u8 = 1;
const REFUSED: u8 = 2;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was applied, and answered with this sequence number.
    Applied(Seq),
    /// It was not, and never will be.
    Refused,
}

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

/// What became of the request, if it is remembered.
pub(crate) fn fate(txn: &mut Transaction<'_>, id: RequestId) -> Result<Option<Fate>> {
    let Some(record) = txn.get(CfId::DEDUP, &key(id))? else { return Ok(None) };
    let mut r = Reader::new(&record.value);
    match (r.u8(), r.u64()) {
        (Some(APPLIED), Some(ahead)) => {
            Ok(Some(Fate::Applied(Seq(record.seq.0.saturating_add(ahead)))))
        }
        (Some(REFUSED), None) => Ok(Some(Fate::Refused)),
        _ => Err(Error::new(ErrorKind::Corruption, "a record of an applied request is malformed")),
    }
}

/// Whether the request was applied: the sequence number it was answered with then.
///
/// # Errors
/// `InvalidArgument` if it was refused: only a conditional write is, and this is none.
pub(crate) fn applied(txn: &mut Transaction<'_>, id: RequestId) -> Result<Option<Seq>> {
    match fate(txn, id)? {
        Some(Fate::Applied(seq)) => Ok(Some(seq)),
        Some(Fate::Refused) => Err(Error::invalid(
            "the request's id was another's, whose condition did not hold; each request needs one \
             of its own",
        )),
        None => Ok(None),
    }
}

/// Records in the request's own batch that it was applied; `ahead` operations follow.
pub(crate) fn record(batch: &mut WriteBatch, id: RequestId, now_ms: u64, ahead: u64) {
    let mut value = vec![APPLIED];
    value.extend_from_slice(&ahead.to_le_bytes());
    put(batch, id, now_ms, &value);
}

/// Records that the request was refused, and that no copy of it may be applied any more.
pub(crate) fn refuse(batch: &mut WriteBatch, id: RequestId, now_ms: u64) {
    put(batch, id, now_ms, &[REFUSED]);
}

fn put(batch: &mut WriteBatch, id: RequestId, now_ms: u64, value: &[u8]) {
    let meta = Meta { tag: 0, expire_at_ms: Some(now_ms.saturating_add(KEEP_MS)) };
    batch.put_with(CfId::DEDUP, &key(id), value, meta, Counts::Unknown);
}

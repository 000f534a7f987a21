//! Requests that were applied, so that a retry applies once; and some that were refused, so that a
//! copy that comes late is refused too.
//!
//! ```text
//! family DEDUP:  [client u64 BE][block u64 BE] -> [3 u8][base u64] then, for each request,
//!                [0 + number u8][seq - base: varint]     applied, answered with this sequence number
//!                [64 + number u8][ahead: varint]         applied by the batch of this record
//!                [128 + number u8]                       refused
//! ```
//! A client numbers its requests from some number on, so 64 that follow each other are a *block* and
//! have one record: requests that are executed together share it mostly. It is written anew, in the
//! batch of the requests that it comes to tell of, and expires [`KEEP_MS`] after the last, by the
//! shard's time. `ahead` is how many operations of the batch follow the record up to the request's
//! last one, whose sequence number it was answered with. The record is replicated and part of every
//! snapshot, like any key. A retry after it has expired is applied again: clients retry within
//! seconds.

use crate::base::codec::{Reader, put_varint};
use crate::base::{CfId, Error, ErrorKind, Result, Seq};
use crate::lsm::batch::{Counts, WriteBatch};
use crate::lsm::key::Meta;
use crate::op::kv::RequestId;
use crate::shard::latch::{self, Stripe};
use crate::shard::transaction::Transaction;

/// How long a request is remembered: ten minutes.
pub(crate) const KEEP_MS: u64 = 10 * 60 * 1000;

const VERSION: u8 = 3;
/// Records of one request, as before there were blocks: of which, their keys do not say any more.
const ONE_REQUEST: [u8; 2] = [1, 2];
/// Requests of a block.
const BLOCK: u64 = 64;
const NUMBER: u8 = BLOCK as u8 - 1;
const AHEAD: u8 = 64;
const REFUSED: u8 = 128;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was applied, and answered with this sequence number.
    Applied(Seq),
    /// It was not, and never will be.
    Refused,
}

/// What a transaction knows of requests, and what will be recorded of those it executes.
#[derive(Default)]
pub(crate) struct Requests {
    blocks: Vec<Block>,
}

/// The requests of a block.
struct Block {
    key: [u8; 16],
    /// What was recorded before.
    told: Vec<(u8, Fate)>,
    /// What comes to it.
    new: Vec<(u8, Ends)>,
}

/// How a request ends that a transaction executes.
#[derive(Clone, Copy)]
enum Ends {
    /// With the keys that it touched, from the first number up to and without the second.
    Applied(usize, usize),
    Refused,
}

fn key(id: RequestId) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&id.client.to_be_bytes());
    key[8..].copy_from_slice(&(id.request / BLOCK).to_be_bytes());
    key
}

fn number(id: RequestId) -> u8 {
    (id.request % BLOCK) as u8
}

/// The latch that keeps two attempts of one request apart, and two that write one record.
pub(crate) fn stripe(id: RequestId) -> Stripe {
    latch::stripe(CfId::DEDUP, &key(id))
}

/// What became of the request, if it is remembered. The answer rests on what is pending of its block,
/// other requests of it included.
pub(crate) fn fate(txn: &mut Transaction<'_>, id: RequestId) -> Result<Option<Fate>> {
    let block = block(txn, id)?;
    Ok(block.told.iter().find(|told| told.0 == number(id)).map(|told| told.1))
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

/// Has it recorded that the request was applied, with what the transaction has touched from its
/// key `from` on. REQUIRES: it has no fate; its latch.
pub(crate) fn record(txn: &mut Transaction<'_>, id: RequestId, from: usize) -> Result<()> {
    let through = txn.touched();
    block(txn, id)?.new.push((number(id), Ends::Applied(from, through)));
    Ok(())
}

/// Has it recorded that the request was refused, and that no copy of it may be applied any more.
/// REQUIRES: as [`record`].
pub(crate) fn refuse(txn: &mut Transaction<'_>, id: RequestId) -> Result<()> {
    block(txn, id)?.new.push((number(id), Ends::Refused));
    Ok(())
}

/// The block of a request, read if it was not.
fn block<'t>(txn: &'t mut Transaction<'_>, id: RequestId) -> Result<&'t mut Block> {
    let key = key(id);
    // Requests come in the order of their numbers, mostly.
    let at = match txn.requests.blocks.iter().rposition(|block| block.key == key) {
        Some(at) => at,
        None => {
            let told = match txn.glance(CfId::DEDUP, &key)? {
                Some(record) => read(&record.value, record.seq)?,
                None => Vec::new(),
            };
            txn.requests.blocks.push(Block { key, told, new: Vec::new() });
            txn.requests.blocks.len() - 1
        }
    };
    Ok(&mut txn.requests.blocks[at])
}

impl Requests {
    /// Whether the transaction itself executes the request.
    pub(crate) fn executes(&self, id: RequestId) -> bool {
        let (key, number) = (key(id), number(id));
        let is_it = |block: &&Block| block.key == key;
        let block = self.blocks.iter().rfind(is_it);
        block.is_some_and(|block| block.new.iter().any(|new| new.0 == number))
    }

    /// How many records of a batch stand behind that of a request which the transaction executes.
    pub(crate) fn records_behind(&self, id: RequestId) -> Option<usize> {
        let changed = self.blocks.iter().filter(|block| !block.new.is_empty());
        changed.rev().position(|block| block.key == key(id))
    }

    /// Adds the records of what was executed to a batch, behind which the operations of the keys
    /// touched follow: `ops_of(n)` of the first `n`. REQUIRES: nothing else is added between.
    pub(crate) fn fill(
        &self,
        batch: &mut WriteBatch,
        now_ms: u64,
        ops_of: &dyn Fn(usize) -> usize,
    ) {
        let changed = || self.blocks.iter().filter(|block| !block.new.is_empty());
        let mut records = changed().count();
        let meta = Meta { tag: 0, expire_at_ms: Some(now_ms.saturating_add(KEEP_MS)) };
        for block in changed() {
            records -= 1;
            let ahead = |from, through| match ops_of(through) {
                // It wrote nothing, and is answered with the number of its record.
                ops if ops == ops_of(from) => 0,
                ops => records + ops,
            };
            batch.put_with(CfId::DEDUP, &block.key, &block.write(&ahead), meta, Counts::Unknown);
        }
    }
}

impl Block {
    fn write(&self, ahead: &dyn Fn(usize, usize) -> usize) -> Vec<u8> {
        let seqs = self.told.iter().filter_map(|told| match told.1 {
            Fate::Applied(seq) => Some(seq.0),
            Fate::Refused => None,
        });
        let base = seqs.min().unwrap_or(0);
        let mut value = Vec::with_capacity(16 + 4 * (self.told.len() + self.new.len()));
        value.push(VERSION);
        value.extend_from_slice(&base.to_le_bytes());
        for (number, fate) in &self.told {
            match fate {
                Fate::Applied(seq) => {
                    value.push(*number);
                    put_varint(&mut value, seq.0 - base);
                }
                Fate::Refused => value.push(REFUSED | number),
            }
        }
        for (number, ends) in &self.new {
            match ends {
                Ends::Applied(from, through) => {
                    value.push(AHEAD | number);
                    put_varint(&mut value, ahead(*from, *through) as u64);
                }
                Ends::Refused => value.push(REFUSED | number),
            }
        }
        value
    }
}

/// Reads a record that has sequence number `at`.
fn read(value: &[u8], at: Seq) -> Result<Vec<(u8, Fate)>> {
    if value.first().is_some_and(|version| ONE_REQUEST.contains(version)) {
        return Ok(Vec::new());
    }
    let mut r = Reader::new(value);
    let fates = (|| {
        let base = (r.u8()? == VERSION).then(|| r.u64())??;
        let mut fates = Vec::new();
        while let Some(tag) = r.u8() {
            let fate = match tag & !NUMBER {
                0 => Fate::Applied(Seq(base.checked_add(r.varint()?)?)),
                AHEAD => Fate::Applied(Seq(at.0.checked_add(r.varint()?)?)),
                REFUSED => Fate::Refused,
                _ => return None,
            };
            fates.push((tag & NUMBER, fate));
        }
        Some(fates)
    })();
    let malformed = "a record of requests that were applied is malformed";
    fates.ok_or_else(|| Error::new(ErrorKind::Corruption, malformed))
}

#[cfg(test)]
pub(super) mod tests {
    /// How many requests a record tells of.
    pub(in crate::shard) fn read(value: &[u8]) -> crate::base::Result<usize> {
        super::read(value, crate::base::Seq(100)).map(|fates| fates.len())
    }
}

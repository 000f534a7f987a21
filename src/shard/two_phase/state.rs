//! The records of transactions over several shards; drawn in the folder's own words.

use crate::base::codec::put_varint;
use crate::base::{CfId, Error, ErrorKind, Result};
use crate::lsm::batch::{Counts, WriteBatch};
use crate::lsm::key::Meta;
use crate::op::Reply;
use crate::op::kv::RequestId;
use crate::op::txn::{Txn, TxnWrite};
use crate::op::wire::txn::{
    put_keys, put_slots, put_txn, put_writes, read_keys, read_slots, read_txn, read_writes,
};
use crate::op::wire::{Cut, put_reply, read_reply};
use crate::shard::dedup::KEEP_MS;
use crate::shard::latch::{self, Stripe};
use crate::shard::transaction::Transaction;
use bytes::Bytes;

pub(super) const LOCK: u8 = 1;
const ENDING: u8 = 2;
const STAKE: u8 = 3;
pub(super) const DEBT: u8 = 4;

const VERSION: u8 = 1;

/// How an attempt ended, at its home.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ending {
    pub(super) attempt: u32,
    pub(super) how: How,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum How {
    Aborted,
    /// It was a batch of writes: that it was applied, and with which number, is remembered beside.
    Wrote,
    Replied(Reply),
}

/// What a shard that is not the home has in a transaction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stake {
    pub(super) txn: Txn,
    /// Since when it has had these keys locked; none if it is over.
    pub(super) locked: Option<(u64, Vec<(CfId, Bytes)>)>,
}

/// What a home owes to other shards.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Debt {
    pub(super) txn: Txn,
    pub(super) since_ms: u64,
    pub(super) slots: Vec<u16>,
    pub(super) writes: Vec<TxnWrite>,
}

/// The key of a lock.
pub(super) fn lock_key(cf: CfId, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + key.len());
    out.push(LOCK);
    out.extend_from_slice(&cf.0.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// What a lock's key locks.
pub(super) fn locked_by_key(lock: &[u8]) -> Option<(CfId, &[u8])> {
    let (cf, key) = lock.strip_prefix(&[LOCK])?.split_first_chunk()?;
    Some((CfId(u32::from_be_bytes(*cf)), key))
}

fn key_of(kind: u8, id: RequestId) -> [u8; 17] {
    let mut key = [kind; 17];
    key[1..9].copy_from_slice(&id.client.to_be_bytes());
    key[9..].copy_from_slice(&id.request.to_be_bytes());
    key
}

/// The latch of what a home keeps of a transaction.
pub(super) fn home_stripe(id: RequestId) -> Stripe {
    latch::stripe(CfId::TXN, &key_of(ENDING, id))
}

/// The latch of what another shard keeps of it.
pub(super) fn stake_stripe(id: RequestId) -> Stripe {
    latch::stripe(CfId::TXN, &key_of(STAKE, id))
}

fn put(batch: &mut WriteBatch, key: &[u8], value: &[u8], expire_at_ms: Option<u64>) {
    batch.put_with(CfId::TXN, key, value, Meta { tag: 0, expire_at_ms }, Counts::Unknown);
}

fn named(txn: &Txn) -> Vec<u8> {
    let mut value = vec![VERSION];
    put_txn(&mut value, txn);
    value
}

/// Reads a record; what is not one is damage.
fn parse<T>(value: &Bytes, read: impl FnOnce(&mut Cut<'_>) -> Result<T>) -> Result<T> {
    let mut cut = Cut::new(value, "a record of a transaction");
    let parsed = match cut.u8()? {
        VERSION => read(&mut cut).and_then(|parsed| cut.end().map(|()| parsed)),
        version => Err(cut.unknown(version.into())),
    };
    parsed.map_err(|error| match error.kind() {
        // A newer version wrote it: nothing is lost.
        ErrorKind::Unsupported => error,
        _ => {
            Error::new(ErrorKind::Corruption, "a record of a transaction over shards is malformed")
        }
    })
}

/// Locks a key.
pub(super) fn put_lock(batch: &mut WriteBatch, cf: CfId, key: &[u8], txn: &Txn) {
    put(batch, &lock_key(cf, key), &named(txn), None);
}

/// Unlocks a key.
pub(super) fn delete_lock(batch: &mut WriteBatch, cf: CfId, key: &[u8]) {
    batch.delete_with(CfId::TXN, &lock_key(cf, key), Counts::Unknown);
}

/// Whose lock a stored value is.
pub(super) fn read_lock(value: &Bytes) -> Result<Txn> {
    parse(value, read_txn)
}

/// Records how an attempt ended.
pub(super) fn put_ending(batch: &mut WriteBatch, id: RequestId, ending: &Ending, now_ms: u64) {
    let mut value = vec![VERSION];
    put_varint(&mut value, ending.attempt.into());
    match &ending.how {
        How::Aborted => value.push(0),
        How::Wrote => value.push(1),
        How::Replied(reply) => {
            value.push(2);
            put_reply(&mut value, reply);
        }
    }
    put(batch, &key_of(ENDING, id), &value, Some(now_ms.saturating_add(KEEP_MS)));
}

/// How the last attempt known ended.
pub(super) fn ending(txn: &mut Transaction<'_>, id: RequestId) -> Result<Option<Ending>> {
    let Some(held) = txn.get(CfId::TXN, &key_of(ENDING, id))? else { return Ok(None) };
    let ending = parse(&held.value, |cut| {
        let attempt = cut.varint32()?;
        let how = match cut.u8()? {
            0 => How::Aborted,
            1 => How::Wrote,
            2 => How::Replied(read_reply(cut)?),
            kind => return Err(cut.unknown(kind.into())),
        };
        Ok(Ending { attempt, how })
    });
    ending.map(Some)
}

/// Records a stake.
pub(super) fn put_stake(batch: &mut WriteBatch, stake: &Stake, now_ms: u64) {
    let mut value = named(&stake.txn);
    let mut expire_at_ms = None;
    match &stake.locked {
        None => {
            value.push(0);
            expire_at_ms = Some(now_ms.saturating_add(KEEP_MS));
        }
        Some((since_ms, keys)) => {
            value.push(1);
            put_varint(&mut value, *since_ms);
            put_keys(&mut value, keys);
        }
    }
    put(batch, &key_of(STAKE, stake.txn.id), &value, expire_at_ms);
}

/// The stake in a transaction.
pub(super) fn stake(txn: &mut Transaction<'_>, id: RequestId) -> Result<Option<Stake>> {
    let Some(held) = txn.get(CfId::TXN, &key_of(STAKE, id))? else { return Ok(None) };
    let stake = parse(&held.value, |cut| {
        let txn = read_txn(cut)?;
        let locked = match cut.u8()? {
            0 => None,
            1 => Some((cut.varint()?, read_keys(cut)?)),
            kind => return Err(cut.unknown(kind.into())),
        };
        Ok(Stake { txn, locked })
    });
    stake.map(Some)
}

/// Records a debt.
pub(super) fn put_debt(batch: &mut WriteBatch, debt: &Debt) {
    let mut value = named(&debt.txn);
    put_varint(&mut value, debt.since_ms);
    put_slots(&mut value, &debt.slots);
    put_writes(&mut value, &debt.writes);
    put(batch, &key_of(DEBT, debt.txn.id), &value, None);
}

/// The debt of a transaction.
pub(super) fn debt(txn: &mut Transaction<'_>, id: RequestId) -> Result<Option<Debt>> {
    let held = txn.get(CfId::TXN, &key_of(DEBT, id))?;
    held.map(|held| read_debt(&held.value)).transpose()
}

/// A stored debt.
pub(super) fn read_debt(value: &Bytes) -> Result<Debt> {
    parse(value, |cut| {
        let (txn, since_ms) = (read_txn(cut)?, cut.varint()?);
        Ok(Debt { txn, since_ms, slots: read_slots(cut)?, writes: read_writes(cut)? })
    })
}

/// Drops a debt.
pub(super) fn delete_debt(batch: &mut WriteBatch, id: RequestId) {
    batch.delete_with(CfId::TXN, &key_of(DEBT, id), Counts::Unknown);
}

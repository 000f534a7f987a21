//! Prepare and Finish, at the shards that are not the transaction's home.

use crate::base::{CfId, Error, ErrorKind, Result};
use crate::lsm::batch::WriteBatch;
use crate::lsm::key::Meta;
use crate::op::route::slot_in;
use crate::op::txn::{
    Holds, Lock, Locked, TXN_BYTES_MAX, TXN_KEYS_MAX, Txn, TxnAnswer, TxnValue, TxnWrite,
};
use crate::shard::commit::Ticket;
use crate::shard::kv::check_family;
use crate::shard::latch;
use crate::shard::shard::{Answer, Shard};
use crate::shard::transaction::{Held, Transaction, check_sizes};
use crate::shard::two_phase::answer;
use crate::shard::two_phase::locks::LOCKS_MAX;
use crate::shard::two_phase::state::{self, Stake};
use crate::shard::vectors;
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;

/// Locks keys and tells what they hold, with their values if these are wanted. Where vectors among them
/// are only removed they need no memory.
pub(super) fn prepare(
    shard: &Arc<Shard>,
    txn: Txn,
    keys: &[(CfId, Bytes)],
    (values, removes): (bool, bool),
    now_ms: u64,
) -> Result<Answer> {
    if keys.len() > TXN_KEYS_MAX {
        return Err(too_many_keys(keys.len()));
    }
    let mut stripes = Vec::with_capacity(keys.len() + 1);
    for (cf, key) in keys {
        match *cf {
            CfId::VECTORS => vectors::check_takes(shard, key, removes)?,
            cf => check_family(shard, cf)?,
        }
        check_sizes(key, &[])?;
        stripes.push(latch::stripe(*cf, key));
    }
    stripes.push(state::stake_stripe(txn.id));
    let _held = shard.latches.many(stripes);
    let mut reads = Transaction::new(shard, now_ms);
    reads.standing.own = Some(txn);
    match lock(shard, &mut reads, txn, keys, values) {
        Ok(locked) => locked,
        Err(error) => reads.turned_away(error),
    }
}

/// REQUIRES: the latches of the keys and of the stake. An error in the place of the answer may have
/// a lock behind it.
fn lock(
    shard: &Arc<Shard>,
    reads: &mut Transaction<'_>,
    txn: Txn,
    keys: &[(CfId, Bytes)],
    values: bool,
) -> Result<Result<Answer>> {
    let (mut since_ms, mut all) = (reads.now_ms, Vec::new());
    match state::stake(reads, txn.id)? {
        // It, or a later attempt, is over here.
        Some(Stake { txn: known, locked: None }) if known.attempt >= txn.attempt => {
            return Ok(answer(TxnAnswer::Done, reads.rests_on()));
        }
        Some(Stake { txn: known, locked: Some((since, keys)) }) => {
            if known != txn {
                let slot = keys.first().map_or(0, |(cf, key)| slot_in(*cf, key));
                return Err(reads.stop_at(Lock { txn: known, slot }));
            }
            (since_ms, all) = (since, keys);
        }
        _ if shard.locks.holds(reads.now_ms) => {
            let message = "readers of many keys go first for a moment; try again";
            return Err(Error::new(ErrorKind::Busy, message));
        }
        _ => {}
    }
    let (mut locked, mut new, mut bytes) = (Vec::with_capacity(keys.len()), Vec::new(), 0);
    for (cf, key) in keys {
        let held = reads.held(*cf, key)?;
        if reads.lock_of(*cf, key)?.is_none() {
            new.push((*cf, key.clone()));
        }
        let holds = held.map(|held| holds(held, values));
        bytes += key.len() + holds.as_ref().map_or(0, |holds| holds.value.len());
        locked.push(Locked { cf: *cf, key: key.clone(), holds });
    }
    if bytes > TXN_BYTES_MAX {
        return Err(too_many_bytes("read"));
    }
    if new.is_empty() {
        return Ok(answer(TxnAnswer::Prepared(locked), reads.rests_on()));
    }
    if shard.locks.count() + new.len() > LOCKS_MAX {
        let message = "too many keys are locked by transactions over several shards; try again";
        return Err(Error::new(ErrorKind::Busy, message));
    }
    all.extend(new.iter().cloned());
    let mut batch = WriteBatch::new();
    state::put_stake(&mut batch, &Stake { txn, locked: Some((since_ms, all)) }, reads.now_ms);
    new.iter().for_each(|(cf, key)| state::put_lock(&mut batch, *cf, key, &txn));
    let placed = shard.place(&mut batch, reads.now_ms, reads.began())?;
    Ok(answer(TxnAnswer::Prepared(locked), placed.and(reads.rests_on())))
}

fn holds(held: Held, values: bool) -> Holds {
    let Held { value, meta, seq } = held;
    let value = if values { value } else { Bytes::new() };
    Holds { value, tag: meta.tag, expire_at_ms: meta.expire_at_ms, seq }
}

/// Stores the transaction's writes, if it was committed, and unlocks.
pub(super) fn finish(
    shard: &Arc<Shard>,
    txn: Txn,
    committed: bool,
    writes: &[TxnWrite],
    now_ms: u64,
) -> Result<Answer> {
    loop {
        let Some(keys) = open_stake(&mut Transaction::new(shard, now_ms), txn)? else {
            // What says so may be pending.
            return answer(TxnAnswer::Done, shard.commits.placed());
        };
        let mut stripes: Vec<_> = keys.iter().map(|(cf, key)| latch::stripe(*cf, key)).collect();
        stripes.push(state::stake_stripe(txn.id));
        let _held = shard.latches.many(stripes);
        let mut all = Transaction::with_room(shard, now_ms, writes.len());
        all.standing.own = Some(txn);
        // More may have been locked before the latches were.
        if open_stake(&mut all, txn)?.is_none_or(|now| now != keys) {
            continue;
        }
        let ticket = unlock(shard, all, txn, &keys, if committed { writes } else { &[] })?;
        return answer(TxnAnswer::Done, ticket);
    }
}

/// The keys that this very attempt has locked.
fn open_stake(reads: &mut Transaction<'_>, txn: Txn) -> Result<Option<Vec<(CfId, Bytes)>>> {
    let stake = state::stake(reads, txn.id)?;
    let locked = stake.filter(|stake| stake.txn == txn).and_then(|stake| stake.locked);
    Ok(locked.map(|(_, keys)| keys))
}

/// REQUIRES: the latches of the keys and of the stake.
fn unlock(
    shard: &Arc<Shard>,
    mut all: Transaction<'_>,
    txn: Txn,
    keys: &[(CfId, Bytes)],
    writes: &[TxnWrite],
) -> Result<Ticket> {
    if !writes.is_empty() {
        let locked: HashSet<(CfId, &Bytes)> = keys.iter().map(|(cf, key)| (*cf, key)).collect();
        if writes.iter().any(|write| !locked.contains(&(write.cf, &write.key))) {
            let message = "a transaction is to be finished with a key that it has not locked";
            return Err(Error::new(ErrorKind::Internal, message));
        }
    }
    for TxnWrite { cf, key, becomes } in writes {
        match becomes {
            // A family or an index that was dropped meanwhile took it along.
            _ if !is_there(shard, *cf, key) => {}
            Some(TxnValue { value, tag, expire_at_ms }) => {
                let meta = Meta { tag: *tag, expire_at_ms: *expire_at_ms };
                all.put(*cf, key, value.clone(), meta)?;
            }
            None => all.delete(*cf, key)?,
        }
    }
    let (began, now_ms) = (all.began(), all.now_ms);
    let mut batch = WriteBatch::new();
    state::put_stake(&mut batch, &Stake { txn, locked: None }, now_ms);
    keys.iter().for_each(|(cf, key)| state::delete_lock(&mut batch, *cf, key));
    let read = all.fill(&mut batch)?;
    Ok(shard.place(&mut batch, now_ms, began)?.and(read))
}

/// Whether there is a key's family, or a vector's index.
fn is_there(shard: &Shard, cf: CfId, key: &[u8]) -> bool {
    match cf {
        CfId::VECTORS => vectors::has_index_of(shard, key),
        cf => check_family(shard, cf).is_ok(),
    }
}

/// The error of a transaction of too many keys.
pub(super) fn too_many_keys(keys: usize) -> Error {
    Error::invalid(format!(
        "the request touches {keys} keys of several shards; at most {TXN_KEYS_MAX} can be taken \
         together: split it, or give them one {{hash tag}}"
    ))
}

/// The error of a transaction of too many bytes.
pub(super) fn too_many_bytes(what: &str) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!(
            "a request over several shards would {what} more than {TXN_BYTES_MAX} bytes at once, \
             so nothing of it was done: split it, or give its keys one {{hash tag}}"
        ),
    )
}

//! Decide, Resolve and Forget, at the transaction's home.

use crate::base::{CfId, Error, ErrorKind, Result};
use crate::lsm::batch::WriteBatch;
use crate::lsm::key::Meta;
use crate::op::kv::RequestId;
use crate::op::route::{is_read, slot_in, visit_keys};
use crate::op::txn::{
    Holds, Locked, TXN_BYTES_MAX, TXN_KEYS_MAX, Txn, TxnAnswer, TxnCommitted, TxnWrite,
};
use crate::op::{Request, Response};
use crate::shard::dedup;
use crate::shard::latch;
use crate::shard::shard::{Answer, Shard};
use crate::shard::transaction::{Held, Transaction};
use crate::shard::two_phase::answer;
use crate::shard::two_phase::participant::{too_many_bytes, too_many_keys};
use crate::shard::two_phase::state::{self, Debt, Ending, How};
use crate::shard::vectors::Resolved;
use crate::shard::{kv, redis_calls, vectors};
use bytes::Bytes;
use std::sync::Arc;

/// Evaluates and commits a transaction, unless that is done or it is aborted.
pub(super) fn decide(
    shard: &Arc<Shard>,
    txn: Txn,
    request: &Request,
    locked: Vec<Locked>,
    now_ms: u64,
) -> Result<Answer> {
    if locked.len() > TXN_KEYS_MAX {
        return Err(too_many_keys(locked.len()));
    }
    let mut stripes = vec![state::home_stripe(txn.id), dedup::stripe(txn.id)];
    // What was committed once has been, whatever has become of its indexes since.
    let mut vectors = Ok(Vec::new());
    match request {
        Request::Write { writes, .. } => {
            vectors = vectors::resolve(shard, writes);
            stripes.extend(vectors.iter().flat_map(|resolved| vectors::stripes(resolved)));
            let targets = writes.iter().filter_map(kv::target);
            stripes.extend(targets.map(|(cf, key)| latch::stripe(cf, key)));
        }
        Request::Redis(_) | Request::RedisTransaction { .. } => {
            visit_keys(request, &mut |key| stripes.push(latch::stripe(CfId::DEFAULT, key)));
        }
        _ => {
            let message = "a request that is not one for several shards came as one";
            return Err(Error::new(ErrorKind::Internal, message));
        }
    }
    let _held = shard.latches.many(stripes);
    let mut all = Transaction::with_room(shard, now_ms, locked.len());
    match ended(&mut all, txn.id)? {
        Some(ended @ TxnAnswer::Committed(_)) => return answer(ended, all.rests_on()),
        Some(TxnAnswer::Aborted { through }) if txn.attempt <= through => {
            return answer(TxnAnswer::Aborted { through }, all.rests_on());
        }
        _ => {}
    }
    let mut slots: Vec<u16> = locked.iter().map(|locked| slot_in(locked.cf, &locked.key)).collect();
    slots.sort_unstable();
    slots.dedup();
    all.standing.own = Some(txn);
    let far_vectors: Vec<Bytes> = locked
        .iter()
        .filter(|locked| locked.cf == CfId::VECTORS)
        .map(|locked| locked.key.clone())
        .collect();
    all.set_foreign(locked.into_iter().map(|Locked { cf, key, holds }| {
        let held = holds.map(|Holds { value, tag, expire_at_ms, seq }| Held {
            value,
            meta: Meta { tag, expire_at_ms },
            seq,
        });
        ((cf, key), held)
    }));
    let mut committed = TxnCommitted { attempt: txn.attempt, answer: None, slots, writes: vec![] };
    // It was applied when all its keys lay in one shard.
    if let Some(seq) = dedup::applied(&mut all, txn.id)? {
        committed.answer = Some(Response::Committed { seq });
        return answer(TxnAnswer::Committed(Box::new(committed)), all.rests_on());
    }
    let vectors = vectors?;
    vectors::still_there(&vectors)?;
    vectors::are_written(&vectors, &far_vectors)?;
    let how = match evaluate(shard, &mut all, request, &vectors) {
        Ok(how) => how,
        Err(error) => return all.turned_away(error),
    };
    if is_read(request) {
        committed.answer = Some(response(&mut all, txn.id, how)?);
        return answer(TxnAnswer::Committed(Box::new(committed)), all.rests_on());
    }
    committed.writes = all.take_foreign()?;
    commit(shard, all, txn, how, committed)
}

/// Executes the request, without placing what it writes.
fn evaluate(
    shard: &Arc<Shard>,
    all: &mut Transaction<'_>,
    request: &Request,
    vectors: &[Resolved],
) -> Result<How> {
    let reply = match request {
        Request::Write { writes, .. } => {
            kv::evaluate(shard, all, writes, vectors)?;
            return Ok(How::Wrote);
        }
        Request::RedisTransaction { watched, calls, reply_bytes_max } => {
            redis_calls::evaluate(all, watched, calls, *reply_bytes_max)?
        }
        Request::Redis(call) => redis_calls::evaluate_one(all, call)?,
        _ => return Err(Error::new(ErrorKind::Internal, "no request for several shards")),
    };
    if reply.bytes() > TXN_BYTES_MAX {
        return Err(too_many_bytes("answer"));
    }
    Ok(How::Replied(reply))
}

fn commit(
    shard: &Arc<Shard>,
    mut all: Transaction<'_>,
    txn: Txn,
    how: How,
    mut committed: TxnCommitted,
) -> Result<Answer> {
    let bytes = |write: &TxnWrite| {
        write.key.len() + write.becomes.as_ref().map_or(0, |becomes| becomes.value.len())
    };
    if committed.writes.iter().map(bytes).sum::<usize>() > TXN_BYTES_MAX {
        return Err(too_many_bytes("write"));
    }
    let (began, now_ms) = (all.began(), all.now_ms);
    let mut batch = WriteBatch::new();
    let ending = Ending { attempt: txn.attempt, how };
    state::put_ending(&mut batch, txn.id, &ending, now_ms);
    if !committed.writes.is_empty() {
        let (slots, writes) = (committed.slots.clone(), committed.writes.clone());
        state::put_debt(&mut batch, &Debt { txn, since_ms: now_ms, slots, writes });
    }
    if matches!(ending.how, How::Wrote) {
        dedup::record(&mut all, txn.id, 0)?;
    }
    let read = all.fill(&mut batch)?;
    let placed = shard.place(&mut batch, now_ms, began)?;
    committed.answer = Some(match ending.how {
        How::Replied(reply) => Response::Redis(reply),
        How::Wrote | How::Aborted => Response::Committed { seq: placed.seq },
    });
    answer(TxnAnswer::Committed(Box::new(committed)), placed.and(read))
}

/// What is recorded of a request: that it is committed, or which attempts are aborted.
fn ended(reads: &mut Transaction<'_>, id: RequestId) -> Result<Option<TxnAnswer>> {
    let debt = state::debt(reads, id)?;
    let (attempt, answer) = match (state::ending(reads, id)?, &debt) {
        (Some(Ending { attempt, how: How::Aborted }), None) => {
            return Ok(Some(TxnAnswer::Aborted { through: attempt }));
        }
        (Some(Ending { attempt, how }), _) => (attempt, Some(response(reads, id, how)?)),
        (None, Some(debt)) => (debt.txn.attempt, None),
        (None, None) => return Ok(None),
    };
    let (slots, writes) = debt.map(|debt| (debt.slots, debt.writes)).unwrap_or_default();
    Ok(Some(TxnAnswer::Committed(Box::new(TxnCommitted { attempt, answer, slots, writes }))))
}

fn response(reads: &mut Transaction<'_>, id: RequestId, how: How) -> Result<Response> {
    Ok(match how {
        How::Replied(reply) => Response::Redis(reply),
        How::Wrote | How::Aborted => {
            Response::Committed { seq: dedup::applied(reads, id)?.unwrap_or_default() }
        }
    })
}

/// Tells what became of a transaction, and aborts it if asked to and nothing is decided.
pub(super) fn resolve(shard: &Arc<Shard>, txn: Txn, abort: bool, now_ms: u64) -> Result<Answer> {
    let _held = shard.latches.one(state::home_stripe(txn.id));
    let mut reads = Transaction::new(shard, now_ms);
    match ended(&mut reads, txn.id)? {
        Some(ended @ TxnAnswer::Committed(_)) => return answer(ended, reads.rests_on()),
        Some(TxnAnswer::Aborted { through }) if txn.attempt <= through => {
            return answer(TxnAnswer::Aborted { through }, reads.rests_on());
        }
        _ if !abort => return answer(TxnAnswer::Open, reads.rests_on()),
        _ => {}
    }
    let ending = Ending { attempt: txn.attempt, how: How::Aborted };
    let mut batch = WriteBatch::new();
    state::put_ending(&mut batch, txn.id, &ending, now_ms);
    let placed = shard.place(&mut batch, now_ms, reads.began())?;
    answer(TxnAnswer::Aborted { through: txn.attempt }, placed.and(reads.rests_on()))
}

/// Drops the debts of transactions that all shards have finished.
pub(super) fn forget(shard: &Arc<Shard>, txns: &[Txn], now_ms: u64) -> Result<Answer> {
    let stripes = txns.iter().map(|txn| state::home_stripe(txn.id)).collect();
    let _held = shard.latches.many(stripes);
    let mut reads = Transaction::new(shard, now_ms);
    let mut batch = WriteBatch::new();
    for txn in txns {
        if state::debt(&mut reads, txn.id)?.is_some_and(|debt| debt.txn == *txn) {
            state::delete_debt(&mut batch, txn.id);
        }
    }
    let placed = shard.place(&mut batch, now_ms, reads.began())?;
    answer(TxnAnswer::Done, placed.and(reads.rests_on()))
}

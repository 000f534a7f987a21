//! Evaluation of Redis commands: one, or several as a transaction.

use crate::base::{CfId, Error, ErrorKind, Result, Seq};
use crate::op::kv::{RedisCall, Watched};
use crate::op::{Reply, Response, command};
use crate::redis;
use crate::shard::commit::Ticket;
use crate::shard::keyspace::RedisKeys;
use crate::shard::latch::{self, Held, Stripe};
use crate::shard::shard::{Answer, Shard};
use crate::shard::transaction::Transaction;
use crate::shard::two_phase::locks::behind_a_lock;
use bytes::Bytes;
use std::sync::Arc;

/// The most calls that are placed together. A transaction finds so few keys without an index,
/// and others wait for their latches no longer than for an MSET.
pub(crate) const TOGETHER_MAX: usize = 16;

/// Bytes of writes after which no further call joins those that are placed together: they share
/// the limits of one batch.
const TOGETHER_BYTES: usize = 1 << 20;

/// Whether a call names its keys, so that it touches only those.
pub(crate) fn is_quick(call: &RedisCall) -> bool {
    !call.spec.key_specs.is_empty()
}

/// Whether a call may be placed together with its neighbours: it writes keys that it names.
pub(crate) fn may_share(call: &RedisCall) -> bool {
    is_quick(call) && call.spec.is_write()
}

/// Executes one command.
pub(crate) fn one(shard: &Arc<Shard>, call: &RedisCall, now_ms: u64) -> Result<Answer> {
    let reads_once = call.spec.only_key().is_some() && !call.spec.is_write();
    // One read of one key sees one version of it, latched or not.
    let held = if reads_once { None } else { latches(shard, std::iter::once(call), &[]) };
    let mut txn = Transaction::new(shard, now_ms);
    let reply = redis::execute(call, &mut RedisKeys { reads_once, ..keys(&mut txn, call) });
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => return txn.turned_away(error),
    };
    let rests_on = finish(shard, txn, matches!(held, Some(Held::All { .. })))?;
    Ok(Answer { response: Response::Redis(reply), rests_on })
}

/// Executes commands in order, each as if alone, and places what they write in few batches: one
/// place in the log and one apply serve many.
pub(crate) fn together<'c>(
    shard: &Arc<Shard>,
    calls: impl Iterator<Item = &'c RedisCall>,
    now_ms: u64,
) -> Vec<Result<Answer>> {
    let calls: Vec<&RedisCall> = calls.collect();
    let mut answers = Vec::with_capacity(calls.len());
    while answers.len() < calls.len() {
        let rest = &calls[answers.len()..];
        match first_together(shard, rest, now_ms) {
            Some(first) => answers.extend(first),
            // Nothing has been placed, and one that fails must not take the others with it.
            None => one_by_one(shard, rest, now_ms, &mut answers),
        }
    }
    answers
}

/// Executes calls alone, up to one that meets a lock: those behind it must not overtake it.
fn one_by_one(
    shard: &Arc<Shard>,
    calls: &[&RedisCall],
    now_ms: u64,
    answers: &mut Vec<Result<Answer>>,
) {
    let mut is_stopped = false;
    for call in calls {
        let answer = if is_stopped { Err(behind_a_lock()) } else { one(shard, call, now_ms) };
        is_stopped |= matches!(&answer, Ok(answer) if answer.is_locked());
        answers.push(answer);
    }
}

/// The first of the calls, as many as fit a batch; `None` if one of them fails, or all together
/// do, with nothing placed.
fn first_together(
    shard: &Arc<Shard>,
    calls: &[&RedisCall],
    now_ms: u64,
) -> Option<Vec<Result<Answer>>> {
    let _held = latches(shard, calls.iter().copied(), &[]);
    let mut txn = Transaction::with_room(shard, now_ms, TOGETHER_MAX);
    let began = txn.began();
    let mut replies: Vec<Reply> = Vec::with_capacity(calls.len());
    for call in calls {
        replies.push(redis::execute(call, &mut keys(&mut txn, call)).ok()?);
        if txn.written_bytes() > TOGETHER_BYTES {
            break;
        }
    }
    let (mut batch, read) = txn.into_batch().ok()?;
    let placed = match shard.place_for(&mut batch, now_ms, began, replies.len()) {
        Err(e) if matches!(e.kind(), ErrorKind::InvalidArgument | ErrorKind::OutOfSpace) => {
            return None;
        }
        placed => placed.map(|ticket| ticket.and(read)),
    };
    let answer = |reply| Ok(Answer { response: Response::Redis(reply), rests_on: placed.clone()? });
    Some(replies.into_iter().map(answer).collect())
}

fn keys<'t, 'a>(txn: &'t mut Transaction<'a>, call: &RedisCall) -> RedisKeys<'t, 'a> {
    RedisKeys { txn, count_lookups: !call.spec.is_write(), reads_once: false }
}

/// Executes commands as one transaction, unless a watched key has changed.
pub(crate) fn transaction(
    shard: &Arc<Shard>,
    watched: &[Watched],
    calls: &[RedisCall],
    reply_bytes_max: u64,
    now_ms: u64,
) -> Result<Answer> {
    let held = latches(shard, calls.iter(), watched);
    let mut txn = Transaction::new(shard, now_ms);
    let reply = match evaluate(&mut txn, watched, calls, reply_bytes_max) {
        Ok(reply) => reply,
        Err(error) => return txn.turned_away(error),
    };
    let rests_on = finish(shard, txn, matches!(held, Some(Held::All { .. })))?;
    Ok(Answer { response: Response::Redis(reply), rests_on })
}

/// Executes one command, without placing what it writes.
pub(crate) fn evaluate_one(txn: &mut Transaction<'_>, call: &RedisCall) -> Result<Reply> {
    redis::execute(call, &mut keys(txn, call))
}

/// Executes commands, unless a watched key has changed, without placing what they write.
pub(crate) fn evaluate(
    txn: &mut Transaction<'_>,
    watched: &[Watched],
    calls: &[RedisCall],
    reply_bytes_max: u64,
) -> Result<Reply> {
    for watch in watched {
        if has_changed(txn, watch)? {
            return Ok(Reply::NilArray);
        }
    }
    let mut replies = Vec::with_capacity(calls.len());
    let mut reply_bytes = 0;
    for call in calls {
        // All replies are held until the last is known; a few bytes can ask for gigabytes.
        if reply_bytes > reply_bytes_max {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "the replies of the transaction take more than {reply_bytes_max} bytes, so \
                     nothing of it was done; ask for less at a time"
                ),
            ));
        }
        let reply = evaluate_one(txn, call)?;
        reply_bytes += reply.bytes() as u64;
        replies.push(reply);
    }
    Ok(Reply::Array(replies))
}

/// What WATCH remembers of keys.
pub(crate) fn watch(shard: &Arc<Shard>, keys: Vec<Bytes>, now_ms: u64) -> Result<Answer> {
    let mut txn = Transaction::new(shard, now_ms);
    let watched = keys
        .into_iter()
        .map(|key| {
            let held = txn.get(CfId::DEFAULT, &key)?;
            let at = held.as_ref().map_or(Seq(0), |held| held.seq);
            Ok(Watched { key, at, existed: held.is_some() })
        })
        .collect::<Result<Vec<_>>>();
    match watched {
        Ok(watched) => {
            Ok(Answer { response: Response::Watched(watched), rests_on: txn.rests_on() })
        }
        Err(error) => txn.turned_away(error),
    }
}

/// Whether a key has changed since it was watched: written, removed, or expired. One that was
/// absent and is absent again has not, for what the client saw is what is there.
fn has_changed(txn: &mut Transaction<'_>, watch: &Watched) -> Result<bool> {
    let held = txn.get(CfId::DEFAULT, &watch.key)?;
    Ok(match held {
        Some(held) => !watch.existed || held.seq != watch.at,
        None => watch.existed,
    })
}

/// Latches what the calls touch. Reads of one key need none.
fn latches<'a, 'c>(
    shard: &'a Shard,
    calls: impl Iterator<Item = &'c RedisCall>,
    watched: &[Watched],
) -> Option<Held<'a>> {
    let mut writes = false;
    let mut first: Option<Stripe> = None;
    let mut many: Vec<Stripe> = Vec::new();
    let mut take = |key: &[u8]| {
        let stripe = latch::stripe(CfId::DEFAULT, key);
        match first {
            None => first = Some(stripe),
            Some(first) if first != stripe => many.push(stripe),
            Some(_) => {}
        }
    };
    for call in calls {
        if call.spec.is_write() {
            writes = true;
            if !is_quick(call) {
                return Some(shard.latches.all());
            }
        }
        match call.spec.only_key() {
            Some(at) => call.args.get(at).into_iter().for_each(|key| take(key)),
            None => command::keys_of(call.spec, &call.args)
                .filter_map(|at| call.args.get(at))
                .for_each(|key| take(key)),
        }
    }
    watched.iter().for_each(|watch| take(&watch.key));
    match first {
        Some(first) if many.is_empty() && writes => Some(shard.latches.one(first)),
        Some(first) if !many.is_empty() => {
            many.push(first);
            Some(shard.latches.many(many))
        }
        _ => None,
    }
}

/// Places what was written. A range delete is waited for under its latches, so that it is never
/// pending for others.
fn finish(shard: &Arc<Shard>, txn: Transaction<'_>, exclusive: bool) -> Result<Ticket> {
    if txn.is_read_only() {
        return Ok(txn.rests_on());
    }
    let began = txn.began();
    let (now_ms, clears) = (txn.now_ms, exclusive && txn.is_cleared());
    let (mut batch, read) = txn.into_batch()?;
    let ticket = shard.place(&mut batch, now_ms, began)?;
    if clears && ticket.seq > Seq(0) {
        shard.wait_committed(ticket)?;
    }
    Ok(ticket.and(read))
}

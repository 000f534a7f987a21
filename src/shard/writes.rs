//! Writes of several requests as one batch: one place in the log, one apply and few records of
//! requests serve them all.
//!
//! Each is executed as if alone and takes effect with the others: what one writes another does not
//! touch, so none is undone by the next, and each has the sequence number of its own last write.

use crate::base::{Error, ErrorKind, Result, Seq};
use crate::lsm::batch::WriteBatch;
use crate::op::kv::{RequestId, Write};
use crate::op::{Request, Response};
use crate::shard::commit::Ticket;
use crate::shard::dedup;
use crate::shard::kv::{self, check_family, target};
use crate::shard::latch;
use crate::shard::shard::{Answer, Shard};
use crate::shard::transaction::Transaction;
use std::sync::Arc;

/// The most requests that are placed together, and keys of theirs: as long others may wait for
/// their latches.
pub(crate) const TOGETHER_MAX: usize = 256;
/// Keys that a request writes at most for it to go with others.
const KEYS_MAX: usize = 16;
/// Bytes of keys and values that are placed together at most, but for a request by itself.
const TOGETHER_BYTES: usize = 1 << 20;

/// The writes of a request that may be placed together with its neighbours: few keys, and no
/// vectors.
pub(crate) fn may_share(request: &Request) -> Option<(&[Write], Option<RequestId>)> {
    match request {
        Request::Write { writes, id }
            if writes.len() <= KEYS_MAX && writes.iter().all(|write| target(write).is_some()) =>
        {
            Some((writes, *id))
        }
        _ => None,
    }
}

/// Executes the first of some requests that [`may_share`], in order: at least one of them.
pub(crate) fn together(
    shard: &Arc<Shard>,
    requests: &[(&[Write], Option<RequestId>)],
    now_ms: u64,
) -> Vec<Result<Answer>> {
    let mut answers = Vec::with_capacity(requests.len());
    let requests = &requests[..requests.len().min(TOGETHER_MAX)];
    let mut stripes = Vec::with_capacity(3 * requests.len());
    let mut room = TOGETHER_MAX;
    let fitting = requests.iter().take_while(|(writes, id)| {
        let keys = || writes.iter().filter_map(target);
        let fits = writes.len() <= room && keys().all(|(cf, _)| check_family(shard, cf).is_ok());
        if fits {
            room -= writes.len();
            stripes.extend(keys().map(|(cf, key)| latch::stripe(cf, key)));
            stripes.extend(id.map(dedup::stripe));
        }
        fits
    });
    let count = fitting.count();
    if count > 1 {
        let _held = shard.latches.many(stripes);
        loop {
            let more = batch(shard, &requests[answers.len()..count], now_ms);
            if more.is_empty() {
                break;
            }
            answers.extend(more);
        }
    }
    // One that fails, or meets a lock, must not take the others with it.
    if let (true, Some((writes, id))) = (answers.is_empty(), requests.first()) {
        answers.push(kv::write(shard, writes, *id, now_ms));
    }
    answers
}

/// What a request of a batch comes to.
enum Told {
    /// It was applied before, and answered with this number.
    Before(Seq, Ticket),
    /// It touches keys up to and without this one.
    Now { through: usize, id: Option<RequestId> },
}

/// The first of the requests, as many as fit a batch; none if the first fails. REQUIRES: the latches
/// of all.
fn batch(
    shard: &Arc<Shard>,
    requests: &[(&[Write], Option<RequestId>)],
    now_ms: u64,
) -> Vec<Result<Answer>> {
    let mut txn = Transaction::with_room(shard, now_ms, requests.len());
    let mut told = Vec::with_capacity(requests.len());
    for (writes, id) in requests {
        let mut keys = writes.iter().filter_map(target);
        if keys.any(|(cf, key)| txn.has_touched(cf, key))
            || id.is_some_and(|id| txn.requests.executes(id))
            || !told.is_empty()
                && txn.written_bytes() + writes.iter().map(bytes).sum::<usize>() > TOGETHER_BYTES
        {
            break;
        }
        let from = txn.touched();
        match execute(&mut txn, writes, *id) {
            Ok(one) => told.push(one),
            Err(_) => {
                txn.go_back(from);
                break;
            }
        }
    }
    if told.is_empty() {
        return Vec::new();
    }
    match place(shard, txn, &told, now_ms) {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        // What may be the fault of one is tried again without the others.
        Err(error) if told.len() > 1 && !concerns_all(&error) => {
            batch(shard, &requests[..1], now_ms)
        }
        Err(error) => told.iter().map(|told| told.without(&error)).collect(),
    }
}

/// Whether nothing would be placed, or nothing is known.
fn concerns_all(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Busy | ErrorKind::Unknown)
}

fn bytes(write: &Write) -> usize {
    match write {
        Write::Put { key, value, .. } => key.len() + value.len(),
        Write::Merge { key, operand, .. } => key.len() + operand.len(),
        Write::Delete { key, .. } => key.len(),
        Write::PutVector { .. } | Write::DeleteVector { .. } => 0,
    }
}

impl Told {
    /// The answer where nothing was placed.
    fn without(&self, error: &Error) -> Result<Answer> {
        match *self {
            Told::Before(seq, rests_on) => {
                Ok(Answer { response: Response::Committed { seq }, rests_on })
            }
            Told::Now { .. } => Err(error.clone()),
        }
    }
}

fn execute(txn: &mut Transaction<'_>, writes: &[Write], id: Option<RequestId>) -> Result<Told> {
    if let Some(id) = id
        && let Some(seq) = dedup::applied(txn, id)?
    {
        return Ok(Told::Before(seq, txn.rests_on()));
    }
    let from = txn.touched();
    kv::apply(txn, writes, &[])?;
    if let Some(id) = id {
        dedup::record(txn, id, from)?;
    }
    Ok(Told::Now { through: txn.touched(), id })
}

fn place(
    shard: &Arc<Shard>,
    mut txn: Transaction<'_>,
    told: &[Told],
    now_ms: u64,
) -> Result<Vec<Answer>> {
    let began = txn.began();
    let mut batch = WriteBatch::with_capacity(txn.written_bytes() + 64 * told.len());
    let ops_of = txn.fill_all(&mut batch)?;
    let read = txn.rests_on();
    let placed = shard.place_for(&mut batch, now_ms, began, told.len())?;
    // The keys come last in the batch, and before them the records of requests.
    let ops = ops_of.last().copied().unwrap_or_default();
    let before_last = |ops: usize| Seq(placed.seq.0.saturating_sub(ops as u64));
    let mut from = 0;
    let answer = |told: &Told| match *told {
        Told::Before(seq, rests_on) => Answer { response: Response::Committed { seq }, rests_on },
        Told::Now { through, id } => {
            let (before, after) = (ops_of[from], ops_of[through]);
            from = through;
            let seq = match id.and_then(|id| txn.requests.records_behind(id)) {
                _ if after > before => before_last(ops - after),
                Some(records) => before_last(ops + records),
                None => Seq(0),
            };
            Answer { response: Response::Committed { seq }, rests_on: placed.and(read) }
        }
    };
    Ok(told.iter().map(answer).collect())
}

#[cfg(test)]
mod tests;

//! Evaluation of key-value requests.

use crate::base::{CfId, Error, ErrorKind, Result, Seq};
use crate::lsm::batch::WriteBatch;
use crate::lsm::key::Meta;
use crate::lsm::{CfOptions, IterOptions};
use crate::op::kv::{BATCH_OPS_MAX, CfInfo, Condition, Entry, Expiry, RequestId, Scan, Write};
use crate::op::{Request, Response};
use crate::shard::commit::Ticket;
use crate::shard::dedup::{self, Fate};
use crate::shard::latch;
use crate::shard::shard::{Answer, Shard, no_such_family};
use crate::shard::transaction::{Held, Transaction};
use crate::shard::vectors::{self, Resolved};
use bytes::Bytes;
use std::ops::Bound;
use std::sync::Arc;

const SCAN_LIMIT_DEFAULT: u32 = 1000;
const SCAN_LIMIT_MAX: u32 = 10_000;
/// A page ends early when its keys and values reach this many bytes.
const SCAN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Evaluates any request but Redis's.
pub(crate) fn execute(shard: &Arc<Shard>, request: Request, now_ms: u64) -> Result<Answer> {
    match request {
        Request::Get { cf, key } => get(shard, cf, key, now_ms),
        Request::Write { writes, id } => write(shard, &writes, id, now_ms),
        Request::PutIf { cf, key, value, expiry, condition, id, seal } => {
            put_if(shard, PutIf { cf, key, value, expiry, condition, id, seal }, now_ms)
        }
        Request::Scan(scan) => page(shard, &scan, now_ms),
        Request::DeleteByPrefix { cf, prefix } => delete_by_prefix(shard, cf, &prefix, now_ms),
        Request::CreateCf { name } => create_cf(shard, &name),
        Request::DropCf { cf } => drop_cf(shard, cf),
        Request::ListCfs => Ok(Answer::settled(Response::ColumnFamilies(shard.families()))),
        Request::Stats => Ok(Answer::settled(Response::Stats(Box::new(shard.stats(now_ms)?)))),
        Request::Redis(_)
        | Request::RedisTransaction { .. }
        | Request::Watch { .. }
        | Request::Vector(_)
        | Request::Txn(_) => {
            Err(Error::new(ErrorKind::Internal, "the request is not one for keys and values"))
        }
    }
}

fn get(shard: &Arc<Shard>, cf: CfId, key: Bytes, now_ms: u64) -> Result<Answer> {
    check_family(shard, cf)?;
    let mut txn = Transaction::new(shard, now_ms);
    let held = match txn.get(cf, &key) {
        Ok(held) => held,
        Err(error) => return txn.turned_away(error),
    };
    let rests_on = txn.rests_on();
    Ok(Answer { response: Response::Entry(held.map(|h| entry(key, h))), rests_on })
}

pub(super) fn write(
    shard: &Arc<Shard>,
    writes: &[Write],
    id: Option<RequestId>,
    now_ms: u64,
) -> Result<Answer> {
    if writes.len() > BATCH_OPS_MAX {
        return Err(too_many(writes.len()));
    }
    let vectors = match vectors::resolve(shard, writes) {
        Ok(vectors) => vectors,
        Err(error) => {
            // What was applied once has been applied, whatever has become of its index since.
            let _held = shard.latches.many(id.map(dedup::stripe).into_iter().collect());
            let applied = already_applied(&mut Transaction::new(shard, now_ms), id)?;
            return applied.ok_or(error);
        }
    };
    let mut stripes = Vec::with_capacity(writes.len() + 1);
    for (cf, key) in writes.iter().filter_map(target) {
        check_family(shard, cf)?;
        stripes.push(latch::stripe(cf, key));
    }
    stripes.extend(vectors::stripes(&vectors));
    stripes.extend(id.map(dedup::stripe));
    let _held = shard.latches.many(stripes);
    vectors::still_there(&vectors)?;
    let mut txn = Transaction::new(shard, now_ms);
    if let Some(answer) = already_applied(&mut txn, id)? {
        return Ok(answer);
    }
    if let Err(error) = apply(&mut txn, writes, &vectors) {
        return txn.turned_away(error);
    }
    let (seq, rests_on) = finish(shard, txn, id, now_ms)?;
    Ok(Answer { response: Response::Committed { seq }, rests_on })
}

/// Executes the writes of a batch whose keys and vectors may lie in other shards too.
pub(crate) fn evaluate(
    shard: &Shard,
    txn: &mut Transaction<'_>,
    writes: &[Write],
    vectors: &[Resolved],
) -> Result<()> {
    if writes.len() > BATCH_OPS_MAX {
        return Err(too_many(writes.len()));
    }
    for (cf, _) in writes.iter().filter_map(target) {
        check_family(shard, cf)?;
    }
    apply(txn, writes, vectors)
}

pub(super) fn apply(
    txn: &mut Transaction<'_>,
    writes: &[Write],
    vectors: &[Resolved],
) -> Result<()> {
    let mut vectors = vectors.iter();
    for write in writes {
        match write {
            Write::Put { cf, key, value, expiry } => {
                let meta = meta_for(txn, *cf, key, *expiry)?;
                txn.put(*cf, key, value.clone(), meta)?;
            }
            Write::Delete { cf, key } => txn.delete(*cf, key)?,
            Write::Merge { cf, key, operand, op } => {
                txn.merge(*cf, key, *op, operand.clone())?;
            }
            Write::PutVector { .. } | Write::DeleteVector { .. } => {
                if let Some(one) = vectors.next() {
                    vectors::put(txn, one)?;
                }
            }
        }
    }
    Ok(())
}

fn too_many(writes: usize) -> Error {
    Error::invalid(format!(
        "the batch has {writes} operations; at most {BATCH_OPS_MAX} are allowed: split it"
    ))
}

/// A conditional write of one key.
struct PutIf {
    cf: CfId,
    key: Bytes,
    value: Option<Bytes>,
    expiry: Expiry,
    condition: Condition,
    id: Option<RequestId>,
    seal: bool,
}

fn put_if(shard: &Arc<Shard>, put: PutIf, now_ms: u64) -> Result<Answer> {
    check_family(shard, put.cf)?;
    let mut stripes = vec![latch::stripe(put.cf, &put.key)];
    stripes.extend(put.id.map(dedup::stripe));
    let _held = shard.latches.many(stripes);
    let mut txn = Transaction::new(shard, now_ms);
    let before = put.id.map_or(Ok(None), |id| dedup::fate(&mut txn, id))?;
    if let Some(Fate::Applied(seq)) = before {
        let response = Response::Conditional { applied: true, seq, current: None };
        return Ok(Answer { response, rests_on: txn.rests_on() });
    }
    let current = match txn.get(put.cf, &put.key) {
        Ok(current) => current,
        Err(error) => return txn.turned_away(error),
    };
    let holds = match put.condition {
        Condition::None => true,
        Condition::Absent => current.is_none(),
        Condition::Present => current.is_some(),
        Condition::SeqIs(seq) => current.as_ref().is_some_and(|c| c.seq == seq),
    };
    if !holds || before.is_some() {
        // A number that another has taken the place of does not come back; what has expired may, for
        // a leader whose clock is behind, and one that is still to be given may come.
        let comes_back = match put.condition {
            Condition::SeqIs(seq) => current.as_ref().is_none_or(|held| held.seq < seq),
            _ => true,
        };
        let current = current.map(|held| entry(put.key, held));
        let response = Response::Conditional { applied: false, seq: Seq(0), current };
        let rests_on = match put.id {
            Some(id) if put.seal && comes_back && before.is_none() => {
                dedup::refuse(&mut txn, id)?;
                let (mut batch, began) = (WriteBatch::new(), txn.began());
                let read = txn.fill(&mut batch)?;
                shard.place(&mut batch, now_ms, began)?.and(read)
            }
            _ => txn.rests_on(),
        };
        return Ok(Answer { response, rests_on });
    }
    match put.value {
        Some(value) => {
            let meta = meta_for(&mut txn, put.cf, &put.key, put.expiry)?;
            txn.put(put.cf, &put.key, value, meta)?;
        }
        None => txn.delete(put.cf, &put.key)?,
    }
    let (seq, rests_on) = finish(shard, txn, put.id, now_ms)?;
    let response = Response::Conditional { applied: true, seq, current: None };
    Ok(Answer { response, rests_on })
}

/// Places what the transaction wrote, with the record of its request: the sequence number of the
/// last key written, and what the answer rests on.
fn finish(
    shard: &Arc<Shard>,
    mut txn: Transaction<'_>,
    id: Option<RequestId>,
    now_ms: u64,
) -> Result<(Seq, Ticket)> {
    if let Some(id) = id {
        dedup::record(&mut txn, id, 0)?;
    }
    let began = txn.began();
    let mut batch = WriteBatch::new();
    let read = txn.fill(&mut batch)?;
    let placed = shard.place(&mut batch, now_ms, began)?;
    Ok((placed.seq, placed.and(read)))
}

fn already_applied(txn: &mut Transaction<'_>, id: Option<RequestId>) -> Result<Option<Answer>> {
    let Some(id) = id else { return Ok(None) };
    let applied = dedup::applied(txn, id)?;
    Ok(applied
        .map(|seq| Answer { response: Response::Committed { seq }, rests_on: txn.rests_on() }))
}

fn meta_for(txn: &mut Transaction<'_>, cf: CfId, key: &[u8], expiry: Expiry) -> Result<Meta> {
    let expire_at_ms = match expiry {
        Expiry::Never => None,
        Expiry::InMs(0) => return Err(Error::invalid("a time to live must be at least 1 ms")),
        Expiry::InMs(ms) => Some(txn.now_ms.saturating_add(ms)),
        Expiry::AtMs(at) => Some(at),
        Expiry::Keep => txn.get(cf, key)?.and_then(|held| held.meta.expire_at_ms),
    };
    Ok(Meta { tag: 0, expire_at_ms })
}

fn page(shard: &Arc<Shard>, scan: &Scan, now_ms: u64) -> Result<Answer> {
    shard.barrier()?;
    committed_page(shard, scan, now_ms)
}

/// A page of what is committed.
pub(crate) fn committed_page(shard: &Shard, scan: &Scan, now_ms: u64) -> Result<Answer> {
    check_family(shard, scan.cf)?;
    if scan.limit > SCAN_LIMIT_MAX {
        return Err(Error::invalid(format!(
            "the limit is {}; at most {SCAN_LIMIT_MAX} entries fit in one answer: use the cursor",
            scan.limit
        )));
    }
    let limit = if scan.limit == 0 { SCAN_LIMIT_DEFAULT } else { scan.limit } as usize;
    let mut lower = scan.start.clone().max(scan.prefix.clone());
    let mut upper = lesser_end(prefix_end(&scan.prefix), &scan.end);
    // The cursor is the first key of the next page.
    if !scan.cursor.is_empty() {
        let next = scan.cursor.slice(1..);
        match (scan.cursor[0], scan.reverse) {
            (b'>', false) => lower = lower.max(next),
            (b'<', true) => {
                upper = Some(upper.map_or(successor(&next), |u| u.min(successor(&next))))
            }
            _ => return Err(Error::invalid("the cursor is not one that this scan gave")),
        }
    }
    let mut options = IterOptions {
        lower: Bound::Included(lower.to_vec()),
        upper: upper.clone().map_or(Bound::Unbounded, |end| Bound::Excluded(end.to_vec())),
        now_ms,
        ..IterOptions::default()
    };
    let moment = shard.unlocked_since();
    let mut iter = shard.engine.iter(scan.cf, options.clone())?;
    // Locks and keys must be seen as they were at one moment.
    let snapshot = (!shard.is_unlocked_since(moment)).then(|| shard.engine.snapshot());
    if let Some(snapshot) = &snapshot {
        options.at = Some(snapshot.seq());
        iter = shard.engine.iter(scan.cf, options)?;
    }
    if scan.reverse {
        iter.last()?
    } else {
        iter.first()?
    }
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while iter.valid() && entries.len() < limit && bytes < SCAN_BYTES_MAX {
        let value = if scan.keys_only { &[][..] } else { iter.value() };
        bytes += iter.key().len() + value.len();
        entries.push(Entry {
            key: Bytes::copy_from_slice(iter.key()),
            value: Bytes::copy_from_slice(value),
            seq: iter.seq(),
            expire_at_ms: iter.meta().expire_at_ms,
        });
        if scan.reverse { iter.prev()? } else { iter.next()? }
    }
    if let Some(snapshot) = snapshot {
        // What lies behind the page is for the next one to see.
        let (from, to) = match (iter.valid(), scan.reverse) {
            (true, false) => (Bound::Included(&lower[..]), Bound::Excluded(iter.key())),
            (true, true) => (Bound::Excluded(iter.key()), end_of(&upper)),
            (false, _) => (Bound::Included(&lower[..]), end_of(&upper)),
        };
        if let Some(lock) = shard.first_lock(scan.cf, (from, to), Some(snapshot.seq()))? {
            shard.locks.hold(now_ms);
            return Ok(Answer::settled(Response::Locked(lock)));
        }
    }
    let mut next = Vec::new();
    if iter.valid() {
        next.push(if scan.reverse { b'<' } else { b'>' });
        next.extend_from_slice(iter.key());
    }
    Ok(Answer::settled(Response::Page { entries, next: next.into() }))
}

fn delete_by_prefix(shard: &Arc<Shard>, cf: CfId, prefix: &Bytes, now_ms: u64) -> Result<Answer> {
    check_family(shard, cf)?;
    if prefix.is_empty() {
        return Err(Error::invalid(
            "the prefix is empty, which would delete everything; drop the family or FLUSHALL",
        ));
    }
    let _held = shard.latches.all();
    let began = shard.commits.epoch();
    shard.barrier()?;
    if shard.may_have_locks()
        && let Some(lock) = shard.first_lock_of_prefix(cf, prefix)?
    {
        return Ok(Answer::settled(Response::Locked(lock)));
    }
    let options = IterOptions { prefix: prefix.to_vec(), ..IterOptions::default() };
    let mut iter = shard.engine.iter(cf, options)?;
    iter.first()?;
    let first = if iter.valid() { Bytes::copy_from_slice(iter.key()) } else { Bytes::new() };
    let (mut live, mut held, mut expires, mut end) = (0, 0, 0, Bytes::new());
    while iter.valid() {
        held += 1;
        expires += u64::from(iter.meta().expire_at_ms.is_some());
        live += u64::from(!iter.meta().is_expired(now_ms));
        end = successor(iter.key());
        iter.next()?;
    }
    if held == 0 {
        return Ok(Answer::settled(Response::Deleted(0)));
    }
    let mut batch = WriteBatch::new();
    batch.delete_range_with(cf, &first, &end, held, expires);
    let ticket = shard.place(&mut batch, now_ms, began)?;
    // A range delete is never pending for others: the overlay does not hold it.
    shard.wait_committed(ticket)?;
    Ok(Answer { response: Response::Deleted(live), rests_on: ticket })
}

fn create_cf(shard: &Arc<Shard>, name: &str) -> Result<Answer> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.is_empty() || name.len() > 255 || name.starts_with("__") || !name.chars().all(good) {
        return Err(Error::invalid(format!(
            "a column family's name has 1 to 255 of A-Z a-z 0-9 _ . - and does not begin with \
             __; got {name:?}"
        )));
    }
    let id = shard.engine.create_cf(name, CfOptions::default())?;
    Ok(Answer::settled(Response::ColumnFamily(CfInfo { id, name: name.to_string() })))
}

fn drop_cf(shard: &Arc<Shard>, cf: CfId) -> Result<Answer> {
    if cf == CfId::DEFAULT {
        return Err(Error::new(ErrorKind::Refused, "the default column family cannot be dropped"));
    }
    let _held = shard.latches.all();
    check_family(shard, cf)?;
    shard.barrier()?;
    if shard.may_have_locks()
        && let Some(lock) = shard.first_lock_of_prefix(cf, b"")?
    {
        return Ok(Answer::settled(Response::Locked(lock)));
    }
    shard.engine.drop_cf(cf)?;
    Ok(Answer::settled(Response::Done))
}

pub(crate) fn check_family(shard: &Shard, cf: CfId) -> Result<()> {
    if cf == CfId::DEFAULT || (!cf.is_system() && shard.has_family(cf)) {
        return Ok(());
    }
    Err(no_such_family(cf))
}

/// The key that a write is of; vectors are [resolved](vectors::resolve).
pub(crate) fn target(write: &Write) -> Option<(CfId, &Bytes)> {
    match write {
        Write::Put { cf, key, .. } | Write::Delete { cf, key } | Write::Merge { cf, key, .. } => {
            Some((*cf, key))
        }
        Write::PutVector { .. } | Write::DeleteVector { .. } => None,
    }
}

fn entry(key: Bytes, held: Held) -> Entry {
    Entry { key, value: held.value, seq: held.seq, expire_at_ms: held.meta.expire_at_ms }
}

/// The least byte string above all that begin with `prefix`; none if there is no such.
fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let keep = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut end = prefix[..=keep].to_vec();
    end[keep] += 1;
    Some(end.into())
}

fn end_of(upper: &Option<Bytes>) -> Bound<&[u8]> {
    upper.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]))
}

fn lesser_end(a: Option<Bytes>, b: &Bytes) -> Option<Bytes> {
    match a {
        Some(a) if b.is_empty() || a < *b => Some(a),
        None if b.is_empty() => None,
        _ => Some(b.clone()),
    }
}

/// The least byte string above `key`.
fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

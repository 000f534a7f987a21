//! Steps of transactions over several shards, and their answers. What they are made of is drawn in
//! [`wire::txn`](crate::op::wire::txn).
//!
//! ```text
//! call:   1 prepare     txn, keys, flags u8 (1 values, 2 removes)
//!         2 decide      txn, request, locked
//!         3 finish      txn, committed u8, writes
//!         4 resolve     txn, abort u8
//!         5 forget      count, txns
//!         6 unfinished  age, max
//!         7 stamp       hold u8
//! answer: 1 prepared locked | 2 committed attempt, 0|1 answer, slots, writes | 3 aborted through
//!         4 open | 5 done | 6 unfinished count, (txn, slots, is home u8) | 7 stamp number
//! lock:   txn, slot
//! ```

use crate::base::Result;
use crate::base::codec::put_varint;
use crate::op::Request;
use crate::op::txn::{Lock, TxnAnswer, TxnCall, TxnCommitted, TxnUnfinished};
use crate::op::wire::cut::{Cut, many};
use crate::op::wire::txn::{
    put_keys, put_locked, put_slots, put_txn, put_writes, read_keys, read_locked, read_slot,
    read_slots, read_txn, read_writes,
};
use crate::rpc::ops::{put_request, put_response, read_request, read_response};

/// Appends a step.
pub(super) fn put_call(out: &mut Vec<u8>, call: &TxnCall) {
    match call {
        TxnCall::Prepare { txn, keys, values, removes } => {
            out.push(1);
            put_txn(out, txn);
            put_keys(out, keys);
            out.push(u8::from(*values) | u8::from(*removes) << 1);
        }
        TxnCall::Decide { txn, request, locked } => {
            out.push(2);
            put_txn(out, txn);
            put_request(out, request);
            put_locked(out, locked);
        }
        TxnCall::Finish { txn, committed, writes } => {
            out.push(3);
            put_txn(out, txn);
            out.push((*committed).into());
            put_writes(out, writes);
        }
        TxnCall::Resolve { txn, abort } => {
            out.push(4);
            put_txn(out, txn);
            out.push((*abort).into());
        }
        TxnCall::Forget { txns } => {
            out.push(5);
            put_varint(out, txns.len() as u64);
            txns.iter().for_each(|txn| put_txn(out, txn));
        }
        TxnCall::Unfinished { age_ms, max } => {
            out.push(6);
            put_varint(out, *age_ms);
            put_varint(out, (*max).into());
        }
        TxnCall::Stamp { hold } => out.extend([7, u8::from(*hold)]),
    }
}

/// The next step. One within another is refused.
pub(super) fn read_call(cut: &mut Cut<'_>) -> Result<TxnCall> {
    Ok(match cut.u8()? {
        1 => {
            let (txn, keys, flags) = (read_txn(cut)?, read_keys(cut)?, cut.u8()?);
            if flags > 3 {
                return Err(cut.unknown(flags.into()));
            }
            TxnCall::Prepare { txn, keys, values: flags & 1 != 0, removes: flags & 2 != 0 }
        }
        2 => {
            let txn = read_txn(cut)?;
            let request = match read_request(cut)? {
                Request::Txn(_) => return Err(cut.malformed()),
                request => Box::new(request),
            };
            TxnCall::Decide { txn, request, locked: read_locked(cut)? }
        }
        3 => {
            let (txn, committed) = (read_txn(cut)?, cut.bool()?);
            TxnCall::Finish { txn, committed, writes: read_writes(cut)? }
        }
        4 => TxnCall::Resolve { txn: read_txn(cut)?, abort: cut.bool()? },
        5 => TxnCall::Forget { txns: many(cut, 11, read_txn)? },
        6 => TxnCall::Unfinished { age_ms: cut.varint()?, max: cut.varint32()? },
        7 => TxnCall::Stamp { hold: cut.bool()? },
        kind => return Err(cut.unknown(kind.into())),
    })
}

/// Appends the answer to a step.
pub(super) fn put_answer(out: &mut Vec<u8>, answer: &TxnAnswer) {
    match answer {
        TxnAnswer::Prepared(locked) => {
            out.push(1);
            put_locked(out, locked);
        }
        TxnAnswer::Committed(committed) => {
            let TxnCommitted { attempt, answer, slots, writes } = &**committed;
            out.push(2);
            put_varint(out, (*attempt).into());
            out.push(answer.is_some().into());
            if let Some(answer) = answer {
                put_response(out, &Ok(answer.clone()));
            }
            put_slots(out, slots);
            put_writes(out, writes);
        }
        TxnAnswer::Aborted { through } => {
            out.push(3);
            put_varint(out, (*through).into());
        }
        TxnAnswer::Open => out.push(4),
        TxnAnswer::Done => out.push(5),
        TxnAnswer::Stamp(stamp) => {
            out.push(7);
            put_varint(out, *stamp);
        }
        TxnAnswer::Unfinished(all) => {
            out.push(6);
            put_varint(out, all.len() as u64);
            for TxnUnfinished { txn, slots, is_home } in all {
                put_txn(out, txn);
                put_slots(out, slots);
                out.push((*is_home).into());
            }
        }
    }
}

/// The next answer to a step.
pub(super) fn read_answer(cut: &mut Cut<'_>) -> Result<TxnAnswer> {
    Ok(match cut.u8()? {
        1 => TxnAnswer::Prepared(read_locked(cut)?),
        2 => {
            let attempt = cut.varint32()?;
            let answer = match cut.bool()? {
                true => Some(read_plain_response(cut)?),
                false => None,
            };
            let (slots, writes) = (read_slots(cut)?, read_writes(cut)?);
            TxnAnswer::Committed(Box::new(TxnCommitted { attempt, answer, slots, writes }))
        }
        3 => TxnAnswer::Aborted { through: cut.varint32()? },
        4 => TxnAnswer::Open,
        5 => TxnAnswer::Done,
        6 => TxnAnswer::Unfinished(many(cut, 13, |cut| {
            let (txn, slots) = (read_txn(cut)?, read_slots(cut)?);
            Ok(TxnUnfinished { txn, slots, is_home: cut.bool()? })
        })?),
        7 => TxnAnswer::Stamp(cut.varint()?),
        kind => return Err(cut.unknown(kind.into())),
    })
}

/// An answer within one: neither an error nor one that holds another.
fn read_plain_response(cut: &mut Cut<'_>) -> Result<crate::op::Response> {
    // Looked at before it is read: answers within answers would nest as deep as the bytes go.
    if cut.peek() == Some(super::response::TXN) {
        return Err(cut.malformed());
    }
    read_response(cut)?.map_err(|_| cut.malformed())
}

/// Appends a lock that stood in the way.
pub(super) fn put_lock(out: &mut Vec<u8>, lock: &Lock) {
    put_txn(out, &lock.txn);
    put_varint(out, lock.slot.into());
}

/// The next lock.
pub(super) fn read_lock(cut: &mut Cut<'_>) -> Result<Lock> {
    Ok(Lock { txn: read_txn(cut)?, slot: read_slot(cut)? })
}

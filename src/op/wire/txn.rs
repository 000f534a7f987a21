//! What transactions over several shards name, lock and write.
//!
//! ```text
//! txn:     client u64, request, attempt, home
//! slots:   count, slots
//! key:     cf, key bytes
//! locked:  key, 0 | 1 holds
//! holds:   value, tag u8, expiry?, seq
//! write:   key, 0 removed | 1 value, tag u8, expiry?
//! expiry?: 0 | 1 ms
//! ```

use crate::base::codec::{put_bytes, put_varint};
use crate::base::{CfId, Result, Seq};
use crate::op::kv::RequestId;
use crate::op::route::SLOTS;
use crate::op::txn::{Holds, Locked, Txn, TxnValue, TxnWrite};
use crate::op::wire::cut::{Cut, many};
use bytes::Bytes;

/// Appends a transaction's name.
pub fn put_txn(out: &mut Vec<u8>, txn: &Txn) {
    out.extend_from_slice(&txn.id.client.to_le_bytes());
    put_varint(out, txn.id.request);
    put_varint(out, txn.attempt.into());
    put_varint(out, txn.home.into());
}

/// The next transaction's name.
///
/// # Errors
/// `InvalidArgument` if the bytes are none.
pub fn read_txn(cut: &mut Cut<'_>) -> Result<Txn> {
    let id = RequestId { client: cut.u64()?, request: cut.varint()? };
    Ok(Txn { id, attempt: cut.varint32()?, home: read_slot(cut)? })
}

/// The next slot.
///
/// # Errors
/// `InvalidArgument` if the bytes are none.
pub fn read_slot(cut: &mut Cut<'_>) -> Result<u16> {
    let slot = u16::try_from(cut.varint()?).ok().filter(|slot| *slot < SLOTS);
    slot.ok_or_else(|| cut.malformed())
}

/// Appends slots.
pub fn put_slots(out: &mut Vec<u8>, slots: &[u16]) {
    put_varint(out, slots.len() as u64);
    slots.iter().for_each(|slot| put_varint(out, (*slot).into()));
}

/// The next slots.
///
/// # Errors
/// `InvalidArgument` if the bytes are none.
pub fn read_slots(cut: &mut Cut<'_>) -> Result<Vec<u16>> {
    many(cut, 1, read_slot)
}

/// Appends keys of families.
pub fn put_keys(out: &mut Vec<u8>, keys: &[(CfId, Bytes)]) {
    put_varint(out, keys.len() as u64);
    keys.iter().for_each(|(cf, key)| put_key(out, *cf, key));
}

/// The next keys of families.
///
/// # Errors
/// `InvalidArgument` if the bytes are none.
pub fn read_keys(cut: &mut Cut<'_>) -> Result<Vec<(CfId, Bytes)>> {
    many(cut, 2, read_key)
}

fn put_key(out: &mut Vec<u8>, cf: CfId, key: &Bytes) {
    put_varint(out, cf.0.into());
    put_bytes(out, key);
}

fn read_key(cut: &mut Cut<'_>) -> Result<(CfId, Bytes)> {
    Ok((CfId(cut.varint32()?), cut.bytes()?))
}

fn put_expiry(out: &mut Vec<u8>, expire_at_ms: Option<u64>) {
    out.push(expire_at_ms.is_some().into());
    expire_at_ms.into_iter().for_each(|ms| put_varint(out, ms));
}

fn read_expiry(cut: &mut Cut<'_>) -> Result<Option<u64>> {
    if cut.bool()? { cut.varint().map(Some) } else { Ok(None) }
}

/// Appends locked keys.
pub fn put_locked(out: &mut Vec<u8>, locked: &[Locked]) {
    put_varint(out, locked.len() as u64);
    for Locked { cf, key, holds } in locked {
        put_key(out, *cf, key);
        out.push(holds.is_some().into());
        if let Some(Holds { value, tag, expire_at_ms, seq }) = holds {
            put_bytes(out, value);
            out.push(*tag);
            put_expiry(out, *expire_at_ms);
            put_varint(out, seq.0);
        }
    }
}

/// The next locked keys.
///
/// # Errors
/// `InvalidArgument` if the bytes are none.
pub fn read_locked(cut: &mut Cut<'_>) -> Result<Vec<Locked>> {
    many(cut, 3, |cut| {
        let (cf, key) = read_key(cut)?;
        if !cut.bool()? {
            return Ok(Locked { cf, key, holds: None });
        }
        let (value, tag) = (cut.bytes()?, cut.u8()?);
        let (expire_at_ms, seq) = (read_expiry(cut)?, Seq(cut.varint()?));
        Ok(Locked { cf, key, holds: Some(Holds { value, tag, expire_at_ms, seq }) })
    })
}

/// Appends writes.
pub fn put_writes(out: &mut Vec<u8>, writes: &[TxnWrite]) {
    put_varint(out, writes.len() as u64);
    for TxnWrite { cf, key, becomes } in writes {
        put_key(out, *cf, key);
        out.push(becomes.is_some().into());
        if let Some(TxnValue { value, tag, expire_at_ms }) = becomes {
            put_bytes(out, value);
            out.push(*tag);
            put_expiry(out, *expire_at_ms);
        }
    }
}

/// The next writes.
///
/// # Errors
/// `InvalidArgument` if the bytes are none.
pub fn read_writes(cut: &mut Cut<'_>) -> Result<Vec<TxnWrite>> {
    many(cut, 3, |cut| {
        let (cf, key) = read_key(cut)?;
        let becomes = match cut.bool()? {
            true => {
                let (value, tag) = (cut.bytes()?, cut.u8()?);
                Some(TxnValue { value, tag, expire_at_ms: read_expiry(cut)? })
            }
            false => None,
        };
        Ok(TxnWrite { cf, key, becomes })
    })
}

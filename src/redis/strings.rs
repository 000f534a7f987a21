//! Strings read and written whole or in part.

use super::execute::{Outcome, int_of, stop, string, wrong_arity};
use super::number::int;
use super::{Keyspace, STRING_BYTES_MAX, STRING_TAG, Stored};
use crate::op::Reply;
use bytes::{Bytes, BytesMut};

pub(super) fn get(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    Ok(value_or_nil(string(ks, &args[1])?))
}

pub(super) fn value_or_nil(stored: Option<Stored>) -> Reply {
    stored.map_or(Reply::Nil, |stored| Reply::Bulk(stored.value))
}

pub(super) fn getdel(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let old = string(ks, &args[1])?;
    if old.is_some() {
        ks.delete(&args[1])?;
    }
    Ok(value_or_nil(old))
}

pub(super) fn getset(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let old = string(ks, &args[1])?;
    ks.put(&args[1], args[2].clone(), STRING_TAG, None)?;
    Ok(value_or_nil(old))
}

pub(super) fn mget(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let mut values = Vec::with_capacity(args.len() - 1);
    for key in &args[1..] {
        values.push(value_or_nil(ks.get(key)?.filter(|stored| stored.tag == STRING_TAG)));
    }
    Ok(Reply::Array(values))
}

pub(super) fn mset(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    put_pairs(pairs(args, "mset")?, ks)?;
    Ok(Reply::OK)
}

pub(super) fn msetnx(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let pairs = pairs(args, "msetnx")?;
    for pair in pairs.chunks_exact(2) {
        if ks.get(&pair[0])?.is_some() {
            return Ok(Reply::Int(0));
        }
    }
    put_pairs(pairs, ks)?;
    Ok(Reply::Int(1))
}

fn pairs<'a>(args: &'a [Bytes], name: &str) -> Outcome<&'a [Bytes]> {
    let pairs = &args[1..];
    if pairs.len().is_multiple_of(2) { Ok(pairs) } else { Err(wrong_arity(name).into()) }
}

fn put_pairs(pairs: &[Bytes], ks: &mut dyn Keyspace) -> Outcome<()> {
    for pair in pairs.chunks_exact(2) {
        ks.put(&pair[0], pair[1].clone(), STRING_TAG, None)?;
    }
    Ok(())
}

pub(super) fn strlen(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    Ok(int_of(string(ks, &args[1])?.map_or(0, |stored| stored.value.len())))
}

pub(super) fn append(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let (key, suffix) = (&args[1], &args[2]);
    let Some(stored) = string(ks, key)? else {
        ks.put(key, suffix.clone(), STRING_TAG, None)?;
        return Ok(int_of(suffix.len()));
    };
    let len = within_limit(stored.value.len(), suffix.len())?;
    if !suffix.is_empty() {
        ks.append(key, suffix)?;
    }
    Ok(int_of(len))
}

/// The sum of two lengths, if a string may be that long.
fn within_limit(len: usize, more: usize) -> Outcome<usize> {
    match len.checked_add(more) {
        Some(sum) if sum <= STRING_BYTES_MAX => Ok(sum),
        _ => stop("string exceeds maximum allowed size (proto-max-bulk-len)"),
    }
}

pub(super) fn getrange(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let (start, end) = (int(&args[2])?, int(&args[3])?);
    let Some(stored) = string(ks, &args[1])? else { return Ok(Reply::Bulk(Bytes::new())) };
    if crossed(start, end) {
        return Ok(Reply::Bulk(Bytes::new()));
    }
    Ok(Reply::Bulk(match range(start, end, stored.value.len()) {
        Some((first, last)) => stored.value.slice(first..=last),
        None => Bytes::new(),
    }))
}

/// Whether both count from the end, the wrong way round. Were they only moved into the string, a
/// range before its start would become its first byte (for BITPOS it does).
pub(super) fn crossed(start: i64, end: i64) -> bool {
    start < 0 && end < 0 && start > end
}

/// The positions that `start` and `end` name in `len` bytes or bits, both included, where a
/// negative one counts from the end; `None` if there are none.
pub(super) fn range(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    let len = i64::try_from(len).ok()?;
    let from_front = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
    let (first, last) = (from_front(start), from_front(end).min(len - 1));
    if first > last {
        return None;
    }
    Some((usize::try_from(first).ok()?, usize::try_from(last).ok()?))
}

pub(super) fn setrange(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let (key, piece) = (&args[1], &args[3]);
    let Ok(offset) = usize::try_from(int(&args[2])?) else {
        return stop("offset is out of range");
    };
    let old = string(ks, key)?;
    let old_len = old.as_ref().map_or(0, |stored| stored.value.len());
    if piece.is_empty() {
        return Ok(int_of(old_len));
    }
    let end = within_limit(offset, piece.len())?;
    let (mut value, expire_at_ms) = unpack(ks, old, end)?;
    value[offset..end].copy_from_slice(piece);
    let len = value.len();
    ks.put(key, value.freeze(), STRING_TAG, expire_at_ms)?;
    Ok(int_of(len))
}

/// A value to be written to, padded with zero bytes to at least `len_min`, and its expiry.
pub(super) fn unpack(
    ks: &dyn Keyspace,
    stored: Option<Stored>,
    len_min: usize,
) -> Outcome<(BytesMut, Option<u64>)> {
    ks.check_value(len_min)?;
    let (old, expire_at_ms) =
        stored.map_or((Bytes::new(), None), |stored| (stored.value, stored.expire_at_ms));
    let mut value = BytesMut::with_capacity(old.len().max(len_min));
    value.extend_from_slice(&old);
    if value.len() < len_min {
        value.resize(len_min, 0);
    }
    Ok((value, expire_at_ms))
}

//! Numbers kept as their digits, and added to.

use super::execute::{Outcome, stop, string};
use super::extended::Extended;
use super::number::{i64_text, int};
use super::{Keyspace, STRING_TAG};
use crate::op::Reply;
use bytes::Bytes;

/// Adds `by` to the integer that `key` holds; an absent key counts as 0. The expiry stays.
pub(super) fn add(key: &[u8], by: i64, ks: &mut dyn Keyspace) -> Outcome {
    let old = string(ks, key)?;
    let (before, expire_at_ms) = match &old {
        Some(stored) => (int(&stored.value)?, stored.expire_at_ms),
        None => (0, None),
    };
    let Some(after) = before.checked_add(by) else {
        return stop("increment or decrement would overflow");
    };
    ks.put(key, i64_text(after), STRING_TAG, expire_at_ms)?;
    Ok(Reply::Int(after))
}

pub(super) fn incrby(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    add(&args[1], int(&args[2])?, ks)
}

pub(super) fn decrby(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    match int(&args[2])?.checked_neg() {
        Some(by) => add(&args[1], by, ks),
        None => stop("decrement would overflow"),
    }
}

pub(super) fn incrbyfloat(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let key = &args[1];
    let old = string(ks, key)?;
    let (before, expire_at_ms) = match &old {
        Some(stored) => (float(&stored.value)?, stored.expire_at_ms),
        None => (Extended::ZERO, None),
    };
    let Some(after) = before.add(float(&args[2])?) else {
        return stop("increment would produce NaN or Infinity");
    };
    let text = Bytes::from(after.to_text());
    ks.put(key, text.clone(), STRING_TAG, expire_at_ms)?;
    Ok(Reply::Bulk(text))
}

fn float(arg: &[u8]) -> Outcome<Extended> {
    Extended::parse(arg).map_or_else(|| stop("value is not a valid float"), Ok)
}

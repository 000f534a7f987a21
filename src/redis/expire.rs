//! When keys expire: the EXPIRE family, which sets it, and the TTL family, which tells it.

use super::execute::{Outcome, int_bool, is, stop};
use super::number::int;
use super::{Keyspace, Stored};
use crate::op::Reply;
use bytes::Bytes;

/// A key that is not there.
const ABSENT: i64 = -2;
/// A key that does not expire.
const NEVER: i64 = -1;

pub(super) fn expire(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let now = ks.now_ms();
    set_expiry(args, "expire", 1000, now, ks)
}

pub(super) fn pexpire(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let now = ks.now_ms();
    set_expiry(args, "pexpire", 1, now, ks)
}

pub(super) fn expireat(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    set_expiry(args, "expireat", 1000, 0, ks)
}

pub(super) fn pexpireat(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    set_expiry(args, "pexpireat", 1, 0, ks)
}

/// Sets `args[1]` to expire `args[2]` units (of `unit_ms`) after `base_ms`.
fn set_expiry(
    args: &[Bytes],
    command: &str,
    unit_ms: i64,
    base_ms: u64,
    ks: &mut dyn Keyspace,
) -> Outcome {
    let conditions = conditions(&args[3..])?;
    let key = &args[1];
    let after = int(&args[2])?.checked_mul(unit_ms);
    let Some(at) = after.and_then(|ms| ms.checked_add(i64::try_from(base_ms).ok()?)) else {
        return stop(format_args!("invalid expire time in '{command}' command"));
    };
    let Some(stored) = ks.get(key)? else { return Ok(Reply::Int(0)) };
    if !conditions.hold(stored.expire_at_ms, at) {
        return Ok(Reply::Int(0));
    }
    match u64::try_from(at) {
        Ok(at) if at > ks.now_ms() => ks.put(key, stored.value, stored.tag, Some(at))?,
        _ => {
            ks.delete(key)?;
        }
    }
    Ok(Reply::Int(1))
}

/// NX, XX, GT and LT.
#[derive(Debug, Default)]
struct Conditions {
    only_without: bool,
    only_with: bool,
    only_later: bool,
    only_sooner: bool,
}

impl Conditions {
    /// Whether a key that expires at `old` may come to expire at `new`. No expiry is later than
    /// any.
    fn hold(&self, old: Option<u64>, new: i64) -> bool {
        let old = old.map(|at| i64::try_from(at).unwrap_or(i64::MAX));
        !(self.only_without && old.is_some()
            || self.only_with && old.is_none()
            || self.only_later && old.is_none_or(|old| new <= old)
            || self.only_sooner && old.is_some_and(|old| new >= old))
    }
}

fn conditions(args: &[Bytes]) -> Outcome<Conditions> {
    let mut c = Conditions::default();
    for arg in args {
        if is(arg, "NX") {
            c.only_without = true;
        } else if is(arg, "XX") {
            c.only_with = true;
        } else if is(arg, "GT") {
            c.only_later = true;
        } else if is(arg, "LT") {
            c.only_sooner = true;
        } else {
            return stop(format_args!("Unsupported option {}", String::from_utf8_lossy(arg)));
        }
    }
    if c.only_without && (c.only_with || c.only_later || c.only_sooner) {
        stop("NX and XX, GT or LT options at the same time are not compatible")
    } else if c.only_later && c.only_sooner {
        stop("GT and LT options at the same time are not compatible")
    } else {
        Ok(c)
    }
}

pub(super) fn persist(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let expiring = ks.get(&args[1])?.filter(|stored| stored.expire_at_ms.is_some());
    let had = expiring.is_some();
    if let Some(stored) = expiring {
        ks.put(&args[1], stored.value, stored.tag, None)?;
    }
    Ok(int_bool(had))
}

pub(super) fn ttl(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let now = ks.now_ms();
    tell(&args[1], ks, |at| rounded_seconds(at.saturating_sub(now)))
}

pub(super) fn pttl(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let now = ks.now_ms();
    tell(&args[1], ks, |at| at.saturating_sub(now))
}

pub(super) fn expiretime(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    tell(&args[1], ks, rounded_seconds)
}

pub(super) fn pexpiretime(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    tell(&args[1], ks, |at| at)
}

fn rounded_seconds(ms: u64) -> u64 {
    ms.saturating_add(500) / 1000
}

fn tell(key: &[u8], ks: &mut dyn Keyspace, form: impl FnOnce(u64) -> u64) -> Outcome {
    Ok(Reply::Int(match ks.get(key)? {
        None => ABSENT,
        Some(Stored { expire_at_ms: None, .. }) => NEVER,
        Some(Stored { expire_at_ms: Some(at), .. }) => i64::try_from(form(at)).unwrap_or(i64::MAX),
    }))
}

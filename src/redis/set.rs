//! SET with all it can be asked for, its older relatives, and GETEX, which takes the same
//! expiries.

use super::execute::{Outcome, int_bool, is, stop, string, syntax_error};
use super::number::int;
use super::strings::value_or_nil;
use super::{Keyspace, STRING_TAG};
use crate::op::Reply;
use bytes::Bytes;

/// How an expiry is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// EX: seconds from now.
    Seconds,
    /// PX: milliseconds from now.
    Millis,
    /// EXAT: Unix time in seconds.
    AtSeconds,
    /// PXAT: Unix time in milliseconds.
    AtMillis,
}

/// What becomes of a key's expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expiry<'a> {
    /// Nothing was said.
    Unsaid,
    /// KEEPTTL.
    Keep,
    /// PERSIST.
    Persist,
    /// A time, not yet read as a number.
    Given(Unit, &'a Bytes),
}

#[derive(Debug)]
struct Options<'a> {
    only_absent: bool,
    only_present: bool,
    get: bool,
    expiry: Expiry<'a>,
}

/// Reads the options of SET or (`getex`) of GETEX.
fn options(args: &[Bytes], getex: bool) -> Outcome<Options<'_>> {
    let mut options =
        Options { only_absent: false, only_present: false, get: false, expiry: Expiry::Unsaid };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if !getex && is(arg, "NX") && !options.only_present {
            options.only_absent = true;
        } else if !getex && is(arg, "XX") && !options.only_absent {
            options.only_present = true;
        } else if !getex && is(arg, "GET") {
            options.get = true;
        } else {
            let said = match unit(arg) {
                Some(unit) => Expiry::Given(unit, rest.next().map_or_else(syntax_error, Ok)?),
                None if !getex && is(arg, "KEEPTTL") => Expiry::Keep,
                None if getex && is(arg, "PERSIST") => Expiry::Persist,
                None => return syntax_error(),
            };
            // The same word may come again, and the last one counts; another may not.
            match (options.expiry, said) {
                (Expiry::Unsaid, _)
                | (Expiry::Keep, Expiry::Keep)
                | (Expiry::Persist, Expiry::Persist) => {}
                (Expiry::Given(before, _), Expiry::Given(now, _)) if before == now => {}
                _ => return syntax_error(),
            }
            options.expiry = said;
        }
    }
    Ok(options)
}

fn unit(arg: &[u8]) -> Option<Unit> {
    let units = [
        ("EX", Unit::Seconds),
        ("PX", Unit::Millis),
        ("EXAT", Unit::AtSeconds),
        ("PXAT", Unit::AtMillis),
    ];
    units.into_iter().find(|(word, _)| is(arg, word)).map(|(_, unit)| unit)
}

/// The Unix time in ms that an expiry names; it must be above 0 and fit in 63 bits.
fn deadline(unit: Unit, arg: &[u8], command: &str, now_ms: u64) -> Outcome<u64> {
    let given = int(arg)?;
    let at = match unit {
        Unit::Seconds | Unit::AtSeconds => given.checked_mul(1000),
        Unit::Millis | Unit::AtMillis => Some(given),
    };
    let at = at.filter(|&ms| ms > 0).and_then(|ms| match unit {
        Unit::Seconds | Unit::Millis => ms.checked_add(i64::try_from(now_ms).ok()?),
        Unit::AtSeconds | Unit::AtMillis => Some(ms),
    });
    match at.map(u64::try_from) {
        Some(Ok(at)) => Ok(at),
        _ => stop(format_args!("invalid expire time in '{command}' command")),
    }
}

pub(super) fn set(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let (key, value) = (&args[1], &args[2]);
    let options = options(&args[3..], false)?;
    let given = match options.expiry {
        Expiry::Given(unit, arg) => Some(deadline(unit, arg, "set", ks.now_ms())?),
        _ => None,
    };
    let conditional = options.only_absent || options.only_present;
    let keep = options.expiry == Expiry::Keep;
    // A plain SET reads nothing.
    let old = match (options.get, conditional || keep) {
        (true, _) => string(ks, key)?,
        (false, true) => ks.get(key)?,
        (false, false) => None,
    };
    let refused = match &old {
        Some(_) => options.only_absent,
        None => options.only_present,
    };
    let expire_at_ms = match &old {
        Some(old) if keep => old.expire_at_ms,
        _ => given,
    };
    if !refused {
        ks.put(key, value.clone(), STRING_TAG, expire_at_ms)?;
    }
    Ok(match (options.get, refused) {
        (true, _) => value_or_nil(old),
        (false, true) => Reply::Nil,
        (false, false) => Reply::OK,
    })
}

pub(super) fn setnx(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let absent = ks.get(&args[1])?.is_none();
    if absent {
        ks.put(&args[1], args[2].clone(), STRING_TAG, None)?;
    }
    Ok(int_bool(absent))
}

pub(super) fn setex(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    set_for(args, Unit::Seconds, "setex", ks)
}

pub(super) fn psetex(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    set_for(args, Unit::Millis, "psetex", ks)
}

fn set_for(args: &[Bytes], unit: Unit, command: &str, ks: &mut dyn Keyspace) -> Outcome {
    let at = deadline(unit, &args[2], command, ks.now_ms())?;
    ks.put(&args[1], args[3].clone(), STRING_TAG, Some(at))?;
    Ok(Reply::OK)
}

pub(super) fn getex(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let key = &args[1];
    let options = options(&args[2..], true)?;
    let Some(old) = string(ks, key)? else { return Ok(Reply::Nil) };
    let expire_at_ms = match options.expiry {
        Expiry::Given(unit, arg) => Some(deadline(unit, arg, "getex", ks.now_ms())?),
        Expiry::Persist => None,
        Expiry::Unsaid | Expiry::Keep => old.expire_at_ms,
    };
    if expire_at_ms != old.expire_at_ms {
        ks.put(key, old.value.clone(), old.tag, expire_at_ms)?;
    }
    Ok(Reply::Bulk(old.value))
}

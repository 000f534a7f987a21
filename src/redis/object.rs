//! How a value is kept. A string here is only bytes; what OBJECT says of it is what Redis would.

use super::execute::{Outcome, int_of, is, stop, syntax_error};
use super::number::{int, parse_i64};
use super::{Keyspace, Stored};
use crate::op::Reply;
use bytes::Bytes;

/// The longest string that Redis keeps beside its header.
const EMBEDDED_BYTES_MAX: usize = 44;
/// What a key and its value take beside their bytes, about: header, version, expiry, index.
const ENTRY_BYTES: usize = 48;
/// The reference count Redis shows for a value that is shared for ever.
const SHARED_REFERENCES: i64 = 2_147_483_647;
/// Integers from 0 up to here (not included) are shared in Redis.
const SHARED_INTEGERS: i64 = 10_000;

pub(super) fn encoding(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    with(args, ks, |stored| {
        Reply::Bulk(Bytes::from_static(if parse_i64(&stored.value).is_some() {
            b"int"
        } else if stored.value.len() <= EMBEDDED_BYTES_MAX {
            b"embstr"
        } else {
            b"raw"
        }))
    })
}

pub(super) fn refcount(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    with(args, ks, |stored| {
        let shared = parse_i64(&stored.value).is_some_and(|n| (0..SHARED_INTEGERS).contains(&n));
        Reply::Int(if shared { SHARED_REFERENCES } else { 1 })
    })
}

/// The time of the last use is not kept: every key counts as just used.
pub(super) fn idletime(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    with(args, ks, |_| Reply::Int(0))
}

pub(super) fn freq(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    with(args, ks, |_| {
        Reply::err(
            "An LFU maxmemory policy is not selected, access frequency not tracked. Please note \
             that when switching between policies at runtime LRU and LFU data will take some time \
             to adjust.",
        )
    })
}

fn with(args: &[Bytes], ks: &mut dyn Keyspace, tell: impl FnOnce(&Stored) -> Reply) -> Outcome {
    Ok(ks.get(&args[2])?.map_or(Reply::Nil, |stored| tell(&stored)))
}

pub(super) fn memory_usage(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    for option in args[3..].chunks(2) {
        match option {
            [word, count] if is(word, "SAMPLES") => {
                if int(count)? < 0 {
                    return syntax_error();
                }
            }
            _ => return syntax_error(),
        }
    }
    let key = &args[2];
    Ok(match ks.get(key)? {
        Some(stored) => int_of(ENTRY_BYTES + key.len() + stored.value.len()),
        None => Reply::Nil,
    })
}

/// Checks a database's number; 0 is the only one.
pub(super) fn database(index: i32) -> Outcome<()> {
    if index == 0 { Ok(()) } else { stop("DB index is out of range") }
}

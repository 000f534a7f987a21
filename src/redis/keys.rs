//! Keys, whatever they hold.

use super::execute::{Outcome, int_bool, int_of, is, stop, syntax_error};
use super::number::int32;
use super::object::database;
use super::{Keyspace, STRING_TAG};
use crate::op::Reply;
use bytes::Bytes;

/// EXISTS and TOUCH: a key named twice counts twice.
pub(super) fn exists(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let mut present = 0;
    for key in &args[1..] {
        present += usize::from(ks.get(key)?.is_some());
    }
    Ok(int_of(present))
}

/// DEL and UNLINK.
pub(super) fn del(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let mut removed = 0;
    for key in &args[1..] {
        removed += usize::from(ks.delete(key)?);
    }
    Ok(int_of(removed))
}

/// TYPE.
pub(super) fn kind(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    Ok(Reply::Simple(ks.get(&args[1])?.map_or("none", |stored| type_name(stored.tag))))
}

/// The name Redis has for the type of a tag.
pub(super) fn type_name(tag: u8) -> &'static str {
    if tag == STRING_TAG { "string" } else { "unknown" }
}

pub(super) fn rename(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    rename_unless(args, false, ks)?;
    Ok(Reply::OK)
}

pub(super) fn renamenx(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    Ok(int_bool(rename_unless(args, true, ks)?))
}

/// Renames `args[1]` to `args[2]`, unless that is taken and `only_free`. Says whether it did.
fn rename_unless(args: &[Bytes], only_free: bool, ks: &mut dyn Keyspace) -> Outcome<bool> {
    let (from, to) = (&args[1], &args[2]);
    let Some(stored) = ks.get(from)? else { return stop("no such key") };
    if from == to {
        return Ok(!only_free);
    }
    if only_free && ks.get(to)?.is_some() {
        return Ok(false);
    }
    ks.put(to, stored.value, stored.tag, stored.expire_at_ms)?;
    ks.delete(from)?;
    Ok(true)
}

pub(super) fn copy(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let (from, to) = (&args[1], &args[2]);
    let mut replace = false;
    let mut rest = args[3..].iter();
    while let Some(arg) = rest.next() {
        if is(arg, "REPLACE") {
            replace = true;
        } else if is(arg, "DB")
            && let Some(index) = rest.next()
        {
            database(int32(index)?)?;
        } else {
            return syntax_error();
        }
    }
    if from == to {
        return same_object();
    }
    let Some(stored) = ks.get(from)? else { return Ok(Reply::Int(0)) };
    if !replace && ks.get(to)?.is_some() {
        return Ok(Reply::Int(0));
    }
    ks.put(to, stored.value, stored.tag, stored.expire_at_ms)?;
    Ok(Reply::Int(1))
}

/// MOVE: there is nowhere to move to.
pub(super) fn move_to(args: &[Bytes]) -> Outcome {
    database(int32(&args[2])?)?;
    same_object()
}

fn same_object() -> Outcome {
    stop("source and destination objects are the same")
}

pub(super) fn randomkey(ks: &mut dyn Keyspace) -> Outcome {
    Ok(ks.random_key()?.map_or(Reply::Nil, Reply::Bulk))
}

//! The database as a whole. There is one: number 0.

use super::Keyspace;
use super::execute::{Outcome, is, stop, syntax_error};
use super::number::parse_i64;
use crate::op::Reply;
use bytes::Bytes;

pub(super) fn dbsize(ks: &mut dyn Keyspace) -> Outcome {
    Ok(Reply::Int(i64::try_from(ks.count()?).unwrap_or(i64::MAX)))
}

/// FLUSHDB and FLUSHALL. Clearing takes no time that grows with the keys, so SYNC and ASYNC are
/// one.
pub(super) fn flush(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    match args {
        [_] => {}
        [_, how] if is(how, "SYNC") || is(how, "ASYNC") => {}
        _ => return syntax_error(),
    }
    ks.clear()?;
    Ok(Reply::OK)
}

pub(super) fn swapdb(args: &[Bytes]) -> Outcome {
    let index = |arg: &[u8]| parse_i64(arg).and_then(|n| i32::try_from(n).ok());
    match (index(&args[1]), index(&args[2])) {
        (None, _) => stop("invalid first DB index"),
        (_, None) => stop("invalid second DB index"),
        (Some(0), Some(0)) => Ok(Reply::OK),
        _ => stop("DB index is out of range"),
    }
}

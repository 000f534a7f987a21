//! KEYS and SCAN: which keys there are.

use super::Keyspace;
use super::execute::{Outcome, is, stop, syntax_error};
use super::keys::type_name;
use super::number::int;
use crate::base::glob;
use crate::op::Reply;
use bytes::Bytes;

/// Keys that one SCAN looks at unless told otherwise.
const COUNT: u64 = 10;

pub(super) fn keys(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let pattern = &args[1];
    let prefix = literal_prefix(pattern);
    let mut found = Vec::new();
    ks.scan(&prefix, &mut |key, _| {
        if !key.starts_with(&prefix) {
            return false;
        }
        if glob::matches(pattern, key) {
            found.push(Reply::Bulk(Bytes::copy_from_slice(key)));
        }
        true
    })?;
    Ok(Reply::Array(found))
}

/// The bytes that every match of a pattern begins with.
fn literal_prefix(pattern: &[u8]) -> Vec<u8> {
    pattern.iter().copied().take_while(|b| !b"*?[\\".contains(b)).collect()
}

/// Looks only at keys with the pattern's literal beginning, and goes on in byte order from the
/// key kept under the cursor, so a key that is there from the first call to the last is given
/// once. A cursor that has been forgotten is an error: to begin anew, or to say that the end is
/// reached, would loop or hide keys.
pub(super) fn scan(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let Some(cursor) = parse_cursor(&args[1]) else { return stop("invalid cursor") };
    let mut count = COUNT;
    let mut pattern = None;
    let mut wanted_type = None;
    for option in args[2..].chunks(2) {
        match option {
            [word, n] if is(word, "COUNT") => match u64::try_from(int(n)?) {
                Ok(n) if n > 0 => count = n,
                _ => return syntax_error(),
            },
            [word, p] if is(word, "MATCH") => pattern = Some(p).filter(|p| &p[..] != b"*"),
            [word, name] if is(word, "TYPE") => wanted_type = Some(name),
            _ => return syntax_error(),
        }
    }
    let prefix = pattern.map(|p| literal_prefix(p)).unwrap_or_default();
    let start = match cursor {
        0 => Bytes::from(prefix.clone()),
        _ => match ks.load_cursor(cursor) {
            Some(key) => key,
            None => return stop("invalid cursor"),
        },
    };
    let mut found = Vec::new();
    let mut next = None;
    ks.scan(&start, &mut |key, stored| {
        if !key.starts_with(&prefix) && key > &prefix[..] {
            return false;
        }
        if count == 0 {
            next = Some(Bytes::copy_from_slice(key));
            return false;
        }
        count -= 1;
        let right_name = pattern.is_none_or(|p| glob::matches(p, key));
        if right_name && wanted_type.is_none_or(|t| is(t, type_name(stored.tag))) {
            found.push(Reply::Bulk(Bytes::copy_from_slice(key)));
        }
        true
    })?;
    let cursor = next.map_or(0, |key| ks.save_cursor(key));
    Ok(Reply::Array(vec![Reply::bulk(cursor.to_string()), Reply::Array(found)]))
}

/// A cursor: decimal digits of 64 bits. Redis takes a sign too, by which a negative number is a
/// large one, and takes nothing for 0.
fn parse_cursor(arg: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(arg).ok()?;
    match text.strip_prefix('-') {
        _ if text.is_empty() => Some(0),
        Some(digits) if digits.starts_with('+') => None,
        Some(digits) => digits.parse().ok().map(u64::wrapping_neg),
        None => text.parse().ok(),
    }
}

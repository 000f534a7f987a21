//! SORT and SORT_RO. No type kept so far has elements: a key that is absent sorts as empty, and
//! whatever is present is of the wrong type.

use super::Keyspace;
use super::execute::{Outcome, is, syntax_error};
use super::number::int;
use crate::op::Reply;
use bytes::Bytes;

pub(super) fn sort(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let destination = parse(&args[2..], true)?;
    must_be_absent(&args[1], ks)?;
    let Some(destination) = destination else { return Ok(Reply::Array(Vec::new())) };
    // An empty result is stored as no key at all.
    ks.delete(destination)?;
    Ok(Reply::Int(0))
}

pub(super) fn sort_ro(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    parse(&args[2..], false)?;
    must_be_absent(&args[1], ks)?;
    Ok(Reply::Array(Vec::new()))
}

fn must_be_absent(key: &[u8], ks: &mut dyn Keyspace) -> Outcome<()> {
    if ks.get(key)?.is_some() { Err(Reply::wrong_type().into()) } else { Ok(()) }
}

/// Checks the options and gives the destination, if any: of several the last. The other options
/// choose and order elements, which an empty result doesn't have.
fn parse(options: &[Bytes], may_store: bool) -> Outcome<Option<&Bytes>> {
    let mut destination = None;
    let mut rest = options;
    while let Some((word, after)) = rest.split_first() {
        let used = if is(word, "ASC") || is(word, "DESC") || is(word, "ALPHA") {
            0
        } else if is(word, "LIMIT") && after.len() >= 2 {
            int(&after[0])?;
            int(&after[1])?;
            2
        } else if is(word, "STORE") && may_store && !after.is_empty() {
            destination = Some(&after[0]);
            1
        } else if (is(word, "BY") || is(word, "GET")) && !after.is_empty() {
            1
        } else {
            return syntax_error();
        };
        rest = &after[used..];
    }
    Ok(destination)
}

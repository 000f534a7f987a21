//! The keys among the arguments of a call, and what the call does with them.

use super::{Id, KeySpec, Spec};
use bytes::Bytes;

const READS: &[&str] = &["RO", "access"];
const READS_AND_WRITES: &[&str] = &["RW", "access", "update"];
const OVERWRITES: &[&str] = &["OW", "update"];

/// Positions of the keys among `args`, in order of the runs. For a call with the right number
/// of arguments.
pub fn keys_of(spec: &'static Spec, args: &[Bytes]) -> impl Iterator<Item = usize> {
    let stored = match spec.id {
        Id::Sort => sort_destination(args),
        _ => None,
    };
    runs(spec, args.len()).map(|(at, _)| at).chain(stored)
}

/// As [`keys_of`], each position with Redis's flags of use. Where the options of a call narrow
/// what it does with a key, so do they narrow the flags.
pub fn keys_with_flags(
    spec: &'static Spec,
    args: &[Bytes],
) -> impl Iterator<Item = (usize, &'static [&'static str])> {
    let (narrowed, stored) = match spec.id {
        Id::Set => (Some(set_flags(args)), None),
        Id::Bitfield => (Some(bitfield_flags(args)), None),
        Id::Sort => (None, sort_destination(args)),
        _ => (None, None),
    };
    runs(spec, args.len())
        .map(move |(at, run)| (at, narrowed.unwrap_or(run.flags)))
        .chain(stored.map(|at| (at, OVERWRITES)))
}

/// The keys of the runs whose positions the table tells.
fn runs(spec: &'static Spec, argc: usize) -> impl Iterator<Item = (usize, &'static KeySpec)> {
    spec.key_specs.iter().filter(|run| !run.is_unknown()).flat_map(move |run| {
        let first = usize::from(run.first);
        let end = match usize::try_from(run.last) {
            Ok(last) => first + last + 1,
            Err(_) => (argc + 1).saturating_sub(usize::from(run.last.unsigned_abs())),
        };
        (first..end.min(argc)).step_by(usize::from(run.step)).map(move |at| (at, run))
    })
}

/// SET reads the old value only for GET.
fn set_flags(args: &[Bytes]) -> &'static [&'static str] {
    let reads = args.iter().skip(3).any(|arg| arg.eq_ignore_ascii_case(b"get"));
    if reads { READS_AND_WRITES } else { OVERWRITES }
}

/// BITFIELD writes unless all its steps are GET. What is no step counts as a write.
fn bitfield_flags(args: &[Bytes]) -> &'static [&'static str] {
    let mut rest = args.get(2..).unwrap_or_default();
    while let Some((word, after)) = rest.split_first() {
        let used = if word.eq_ignore_ascii_case(b"get") {
            2
        } else if word.eq_ignore_ascii_case(b"overflow") {
            1
        } else {
            return READS_AND_WRITES;
        };
        let Some(next) = after.get(used..) else { return READS_AND_WRITES };
        rest = next;
    }
    READS
}

/// The position of SORT's destination, which may stand anywhere among its options; of several
/// the last.
fn sort_destination(args: &[Bytes]) -> Option<usize> {
    let (mut at, mut found) = (2, None);
    while let Some(word) = args.get(at) {
        at += 1;
        if word.eq_ignore_ascii_case(b"limit") {
            at += 2;
        } else if word.eq_ignore_ascii_case(b"by") || word.eq_ignore_ascii_case(b"get") {
            at += 1;
        } else if word.eq_ignore_ascii_case(b"store") {
            found = Some(at).filter(|&at| at < args.len()).or(found);
            at += 1;
        }
    }
    found
}

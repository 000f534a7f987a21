//! A scan's cursor on the wire: opaque to clients, checked when it comes back.
//!
//! ```text
//! 0  version  u8      1
//! 1  check    u32 LE  CRC-32C of version, cf, reverse, prefix, start, end and place, the byte
//!                     strings behind their lengths
//! 5  place            what the executor of the scan wrote
//! ```
//!
//! The check tells a mistake from a cursor (a cut one, or one of another scan); it is no defence:
//! whoever makes up a cursor reads no more than they could by asking.

use crate::base::codec::{put_bytes, put_varint};
use crate::base::{Error, Result};
use crate::op::kv::{KEY_BYTES_MAX, Scan};
use bytes::Bytes;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 5;
/// A place is a key or two and a little more.
const CURSOR_BYTES_MAX: usize = 2 * KEY_BYTES_MAX + 1024;

/// The cursor that stands for `place` in `scan`; empty at the end, as `place` is.
pub fn seal(scan: &Scan, place: &Bytes) -> Bytes {
    if place.is_empty() {
        return Bytes::new();
    }
    let mut out = Vec::with_capacity(HEAD_BYTES + place.len());
    out.push(VERSION);
    out.extend_from_slice(&check(scan, place).to_le_bytes());
    out.extend_from_slice(place);
    Bytes::from(out)
}

/// The place that `cursor` stands for in `scan`; empty at the beginning, as `cursor` is.
///
/// # Errors
/// [`InvalidArgument`](crate::base::ErrorKind::InvalidArgument) if it is not a cursor of this scan.
pub fn open(scan: &Scan, cursor: &Bytes) -> Result<Bytes> {
    if cursor.is_empty() {
        return Ok(Bytes::new());
    }
    if cursor.len() > HEAD_BYTES && cursor.len() <= CURSOR_BYTES_MAX && cursor[0] == VERSION {
        let place = cursor.slice(HEAD_BYTES..);
        if cursor[1..HEAD_BYTES] == check(scan, &place).to_le_bytes() {
            return Ok(place);
        }
    }
    Err(Error::invalid(
        "cursor is not of this scan: pass the next_cursor of the page before unchanged, with the \
         same cf, prefix, start, end and reverse, or an empty one to begin anew",
    ))
}

fn check(scan: &Scan, place: &[u8]) -> u32 {
    let mut covered = vec![VERSION, u8::from(scan.reverse)];
    put_varint(&mut covered, u64::from(scan.cf.0));
    for bytes in [&scan.prefix, &scan.start, &scan.end] {
        put_bytes(&mut covered, bytes);
    }
    put_bytes(&mut covered, place);
    crc32c::crc32c(&covered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::CfId;

    fn scan() -> Scan {
        Scan { cf: CfId(3), prefix: Bytes::from("user:"), ..Scan::default() }
    }

    #[test]
    fn a_cursor_gives_back_its_place_and_none_is_none() {
        let place = Bytes::from("user:7\0");
        assert_eq!(open(&scan(), &seal(&scan(), &place)).unwrap(), place);
        assert!(seal(&scan(), &Bytes::new()).is_empty());
        assert!(open(&scan(), &Bytes::new()).unwrap().is_empty());
    }

    #[test]
    fn limit_and_keys_only_may_change_between_pages_but_nothing_else() {
        let cursor = seal(&scan(), &Bytes::from("user:7"));
        assert!(open(&Scan { limit: 5, keys_only: true, ..scan() }, &cursor).is_ok());
        let user: Bytes = Bytes::from("user:");
        for other in [
            Scan { cf: CfId(4), ..scan() },
            Scan { reverse: true, ..scan() },
            Scan { prefix: Bytes::from("user"), start: Bytes::from(":"), ..scan() },
            Scan { start: user.clone(), ..scan() },
            Scan { end: user, ..scan() },
        ] {
            assert!(open(&other, &cursor).is_err(), "{other:?}");
        }
    }

    #[test]
    fn every_damaged_or_cut_cursor_is_refused() {
        let cursor = seal(&scan(), &Bytes::from("user:7"));
        for cut in 1..cursor.len() {
            assert!(open(&scan(), &cursor.slice(..cut)).is_err());
        }
        for at in 0..cursor.len() {
            for bit in 0..8 {
                let mut bent = cursor.to_vec();
                bent[at] ^= 1 << bit;
                assert!(open(&scan(), &Bytes::from(bent)).is_err());
            }
        }
        assert!(open(&scan(), &Bytes::from(vec![1; CURSOR_BYTES_MAX + 1])).is_err());
    }
}

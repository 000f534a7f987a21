//! The records of family VECTORS: the truth that indexes are derived from.
//!
//! ```text
//! [0 u64][0 u64]          the number that the next index gets, u64
//! [0 u64][index u64]      an index: see `op::wire::vector`
//! [index u64][id u64]     a vector:
//!     0    1    version, 1
//!     1    4    dimensions, little-endian
//!     5    4*n  floats, little-endian, as they were given
//!     ..        the payload, to the end: a JSON object, or nothing
//! ```
//! Keys are big-endian, so that vectors are in the order of their ids.

use crate::base::{Error, ErrorKind, IndexId, Result};
pub(super) use crate::op::vector::vector_key;
use crate::op::vector::{Floats, IndexSpec, StoredVector, floats_of};
use crate::op::wire::Cut;
use crate::op::wire::vector::{put_spec, read_spec};
use bytes::Bytes;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 5;
/// The key of the number that the next index gets.
pub(super) const NEXT_KEY: [u8; 16] = [0; 16];

/// The key of an index.
pub(super) fn index_key(index: IndexId) -> [u8; 16] {
    let mut key = [0; 16];
    key[8..].copy_from_slice(&index.0.to_be_bytes());
    key
}

/// What the keys of an index's vectors begin with.
pub(super) fn prefix(index: IndexId) -> [u8; 8] {
    index.0.to_be_bytes()
}

/// What a key is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Next,
    Index(IndexId),
    Vector(IndexId, u64),
}

/// What a key of the family is of; `None` if it is none that this program writes.
pub(super) fn parse_key(key: &[u8]) -> Option<Key> {
    let (first, second) = key.split_first_chunk::<8>()?;
    let second = u64::from_be_bytes(second.try_into().ok()?);
    Some(match (u64::from_be_bytes(*first), second) {
        (0, 0) => Key::Next,
        (0, index) => Key::Index(IndexId(index)),
        (index, id) => Key::Vector(IndexId(index), id),
    })
}

/// The value of a vector's record.
pub(super) fn encode(vector: &Floats, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(HEAD_BYTES + vector.as_bytes().len() + payload.len());
    out.push(VERSION);
    out.extend_from_slice(&(vector.len() as u32).to_le_bytes());
    out.extend_from_slice(vector.as_bytes());
    out.extend_from_slice(payload);
    out.into()
}

/// The two parts of a vector's record.
fn parts(value: &[u8]) -> Option<(usize, usize)> {
    let (head, rest) = value.split_first_chunk::<HEAD_BYTES>()?;
    if head[0] != VERSION {
        return None;
    }
    let dim = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let bytes = dim.checked_mul(4).filter(|bytes| *bytes <= rest.len())?;
    Some((HEAD_BYTES, HEAD_BYTES + bytes))
}

/// A vector of its record.
///
/// # Errors
/// `Corruption` if it is none.
pub(super) fn decode(id: u64, value: &Bytes) -> Result<StoredVector> {
    let (from, to) = parts(value).ok_or_else(|| malformed(id))?;
    let vector = Floats::from_bytes(value.slice(from..to)).ok_or_else(|| malformed(id))?;
    Ok(StoredVector { id, vector, payload: value.slice(to..) })
}

/// The floats of a vector's record.
///
/// # Errors
/// As [`decode`].
pub(super) fn floats(id: u64, value: &[u8]) -> Result<Vec<f32>> {
    let (from, to) = parts(value).ok_or_else(|| malformed(id))?;
    Ok(floats_of(&value[from..to]))
}

/// The payload of a vector's record; nothing of one that is malformed.
pub(super) fn payload(value: &[u8]) -> &[u8] {
    parts(value).map_or(&[][..], |(_, to)| &value[to..])
}

fn malformed(id: u64) -> Error {
    Error::new(ErrorKind::Corruption, format!("the record of vector {id} is malformed"))
}

/// The value of an index's record.
pub(super) fn encode_index(spec: &IndexSpec) -> Bytes {
    let mut out = Vec::new();
    put_spec(&mut out, spec);
    out.into()
}

/// An index of its record.
///
/// # Errors
/// `Corruption` if it is none; `Unsupported` if a newer version wrote it.
pub(super) fn decode_index(value: &[u8]) -> Result<IndexSpec> {
    let bytes = Bytes::copy_from_slice(value);
    let mut cut = Cut::new(&bytes, "a vector index");
    let spec = read_spec(&mut cut).and_then(|spec| cut.end().map(|()| spec));
    spec.map_err(|e| match e.kind() {
        ErrorKind::Unsupported => e,
        _ => Error::new(ErrorKind::Corruption, "the record of a vector index is malformed"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;
    use crate::op::vector::{Metric, VectorId};

    #[test]
    fn records_come_back_and_their_form_stays() {
        let key = vector_key(IndexId(1), VectorId::new(0x0203));
        assert_eq!(key, [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 3]);
        assert_eq!(parse_key(&key), Some(Key::Vector(IndexId(1), 0x0203)));
        assert_eq!(parse_key(&index_key(IndexId(9))), Some(Key::Index(IndexId(9))));
        assert_eq!(parse_key(&NEXT_KEY), Some(Key::Next));
        assert_eq!(parse_key(&key[..15]), None);
        let value = encode(&Floats::of(&[1.0, -0.5]), b"{}");
        assert_eq!(&value[..], b"\x01\x02\0\0\0\0\0\x80\x3f\0\0\0\xbf{}");
        let stored = decode(7, &value).unwrap();
        assert_eq!((stored.vector.to_vec(), &stored.payload[..]), (vec![1.0, -0.5], &b"{}"[..]));
        assert_eq!(floats(7, &value).unwrap(), [1.0, -0.5]);
        assert_eq!(payload(&value), b"{}");
        let spec = IndexSpec::new("docs", 2, Metric::L2);
        assert_eq!(decode_index(&encode_index(&spec)).unwrap(), spec);
    }

    #[test]
    fn bytes_that_are_no_record_are_told_so() {
        let value = encode(&Floats::of(&[1.0; 5]), b"");
        for end in 0..value.len() {
            let error = decode(1, &value.slice(..end)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption);
            assert!(payload(&value[..end]).is_empty());
        }
        let mut rng = Rng::new(1);
        for _ in 0..2_000 {
            let mut bytes = value.to_vec();
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.next_u64() as u8;
            _ = decode(1, &bytes.into());
        }
    }
}

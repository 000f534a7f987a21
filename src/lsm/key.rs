//! Internal keys, record kinds and what stands before a value.
//!
//! ```text
//! internal key:  [user key][trailer: u64 LE = seq << 8 | kind]
//! order:         user key ascending, then trailer descending: the newest version first
//! ```
//!
//! ```text
//! kind     value bytes
//! Put      [value]
//! PutMeta  [flags u8][expire_at_ms u64 LE, if flags & 1][value]     flags: bit 0 expiry, bits 4-7 tag
//! Merge    [operator u8][operand]
//! Delete   (none)
//! ```

use crate::base::Seq;
use std::cmp::Ordering;

/// Bytes of the trailer behind a user key.
pub const TRAILER_BYTES: usize = 8;

/// What a record does. The numbers are on disk: a new meaning takes a new number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The key is gone.
    Delete = 0,
    /// A value without expiry and with tag 0.
    Put = 1,
    /// An operand to merge into what is older.
    Merge = 2,
    /// A value with an expiry or a tag.
    PutMeta = 3,
    /// All keys of a range, older than this, are gone. Kept apart from point records.
    RangeDelete = 4,
}

impl Kind {
    /// The greatest kind: a seek key made with it stands before all records of its sequence.
    pub const MAX: Kind = Kind::RangeDelete;

    /// The kind of a stored number.
    pub fn from_u8(n: u8) -> Option<Kind> {
        match n {
            0 => Some(Kind::Delete),
            1 => Some(Kind::Put),
            2 => Some(Kind::Merge),
            3 => Some(Kind::PutMeta),
            4 => Some(Kind::RangeDelete),
            _ => None,
        }
    }
}

/// A trailer from its parts.
pub fn trailer(seq: Seq, kind: Kind) -> u64 {
    debug_assert!(seq <= Seq::MAX);
    (seq.0 << 8) | kind as u64
}

/// Appends an internal key.
pub fn put_internal(out: &mut Vec<u8>, user_key: &[u8], seq: Seq, kind: Kind) {
    out.extend_from_slice(user_key);
    out.extend_from_slice(&trailer(seq, kind).to_le_bytes());
}

/// An internal key taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// The user key.
    pub user_key: &'a [u8],
    /// The sequence number.
    pub seq: Seq,
    /// What the record does.
    pub kind: Kind,
}

/// Takes an internal key apart; `None` if it is too short or its kind is unknown.
#[inline]
pub fn parse(internal: &[u8]) -> Option<Parsed<'_>> {
    let at = internal.len().checked_sub(TRAILER_BYTES)?;
    let (user_key, trailer) = internal.split_at(at);
    let trailer = u64::from_le_bytes(trailer.try_into().ok()?);
    Some(Parsed { user_key, seq: Seq(trailer >> 8), kind: Kind::from_u8(trailer as u8)? })
}

/// The user key of an internal key of at least [`TRAILER_BYTES`] bytes; all of a shorter one.
#[inline]
pub fn user_key(internal: &[u8]) -> &[u8] {
    &internal[..internal.len().saturating_sub(TRAILER_BYTES)]
}

/// Orders internal keys: user key ascending, then newest first.
#[inline]
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    compare_user(user_key(a), user_key(b)).then_with(|| trailer_of(b).cmp(&trailer_of(a)))
}

/// Orders user keys: by bytes. Eight at a time and without a call, for keys are mostly short.
#[inline]
pub fn compare_user(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while let (Some((x, rest_a)), Some((y, rest_b))) =
        (a.split_first_chunk::<8>(), b.split_first_chunk::<8>())
    {
        if x != y {
            return u64::from_be_bytes(*x).cmp(&u64::from_be_bytes(*y));
        }
        (a, b) = (rest_a, rest_b);
    }
    a.cmp(b)
}

#[inline]
fn trailer_of(internal: &[u8]) -> u64 {
    let at = internal.len().saturating_sub(TRAILER_BYTES);
    internal[at..].try_into().map_or(0, u64::from_le_bytes)
}

/// What stands beside a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meta {
    /// A model's own mark, below 16: 0 is a plain byte string, the Redis types take others.
    pub tag: u8,
    /// Unix time in milliseconds at which the value expires.
    pub expire_at_ms: Option<u64>,
}

impl Meta {
    /// Whether the value has expired at `now_ms`.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expire_at_ms.is_some_and(|at| at <= now_ms)
    }

    /// The kind of record that holds a value with this beside it.
    pub fn kind(&self) -> Kind {
        if *self == Meta::default() { Kind::Put } else { Kind::PutMeta }
    }

    /// Bytes that [`Meta::put_header`] appends.
    pub fn header_bytes(&self) -> usize {
        match (self.kind(), self.expire_at_ms) {
            (Kind::PutMeta, Some(_)) => 9,
            (Kind::PutMeta, None) => 1,
            _ => 0,
        }
    }

    /// Appends what stands before the value in a record of [`Meta::kind`].
    pub fn put_header(&self, out: &mut Vec<u8>) {
        if *self == Meta::default() {
            return;
        }
        debug_assert!(self.tag < 16);
        out.push((self.tag << 4) | u8::from(self.expire_at_ms.is_some()));
        if let Some(at) = self.expire_at_ms {
            out.extend_from_slice(&at.to_le_bytes());
        }
    }
}

/// Splits a stored `Put` or `PutMeta` value into what stands beside it and the value; `None` if
/// it is malformed or of another kind.
#[inline]
pub fn split_value(kind: Kind, stored: &[u8]) -> Option<(Meta, &[u8])> {
    match kind {
        Kind::Put => Some((Meta::default(), stored)),
        Kind::PutMeta => {
            let (&flags, rest) = stored.split_first()?;
            let tag = flags >> 4;
            match flags & 0x0f {
                0 => Some((Meta { tag, expire_at_ms: None }, rest)),
                1 => {
                    let (at, value) = rest.split_first_chunk::<8>()?;
                    Some((Meta { tag, expire_at_ms: Some(u64::from_le_bytes(*at)) }, value))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_of_a_key_stand_before_older_ones() {
        let key = |k: &str, seq, kind| {
            let mut out = Vec::new();
            put_internal(&mut out, k.as_bytes(), Seq(seq), kind);
            out
        };
        let sorted = [
            key("a", 9, Kind::Put),
            key("a", 3, Kind::Merge),
            key("a", 3, Kind::Delete),
            key("a\0", 1, Kind::Put),
            key("b", 7, Kind::Put),
        ];
        for pair in sorted.windows(2) {
            assert_eq!(compare(&pair[0], &pair[1]), Ordering::Less);
        }
        assert_eq!(parse(&sorted[0]).map(|p| (p.user_key, p.seq.0)), Some((&b"a"[..], 9)));
        assert_eq!(parse(b"short"), None);
    }

    #[test]
    fn user_keys_are_ordered_by_bytes() {
        let mut rng = crate::env::Rng::new(11);
        for _ in 0..20_000 {
            let mut key =
                || (0..rng.below(20)).map(|_| [0, 1, 255][rng.below(3) as usize]).collect();
            let (mut a, b): (Vec<u8>, Vec<u8>) = (key(), key());
            a.splice(0..a.len().min(b.len()) / 2, b[..a.len().min(b.len()) / 2].iter().copied());
            assert_eq!(compare_user(&a, &b), a.cmp(&b), "{a:?} {b:?}");
        }
    }

    #[test]
    fn meta_comes_back_and_a_plain_value_has_no_header() {
        for meta in [
            Meta::default(),
            Meta { tag: 3, expire_at_ms: None },
            Meta { tag: 0, expire_at_ms: Some(1_700_000_000_000) },
            Meta { tag: 15, expire_at_ms: Some(0) },
        ] {
            let mut stored = Vec::new();
            meta.put_header(&mut stored);
            assert_eq!(stored.len(), meta.header_bytes());
            stored.extend_from_slice(b"value");
            assert_eq!(split_value(meta.kind(), &stored), Some((meta, &b"value"[..])));
        }
        assert_eq!(split_value(Kind::PutMeta, &[1, 2, 3]), None);
        assert_eq!(split_value(Kind::PutMeta, &[]), None);
        assert_eq!(split_value(Kind::PutMeta, &[2, 0, 0]), None);
    }
}

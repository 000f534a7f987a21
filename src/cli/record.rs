//! A stored record as the offline tools print it.

use crate::base::escape::escape;
use crate::cli::output::{Format, Value};
use crate::lsm::key::{Kind, split_value};
use crate::op::kv::MergeOp;

/// Bytes of a value that a table shows; other formats show all.
const SHOWN_BYTES: usize = 32;

/// A record's kind and what its stored value holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// `put`, `delete`, `merge-append`, `range-delete`; `malformed` if the value is not whole.
    pub kind: String,
    /// The value, the operand, or the end key of a range.
    pub value: Option<&'a [u8]>,
    /// When it expires, Unix ms.
    pub expire_at_ms: Option<u64>,
    /// The model's mark, if it is not a plain byte string.
    pub tag: Option<u64>,
}

/// Takes a stored value of a kind apart.
pub fn describe(kind: Kind, stored: &[u8]) -> Seen<'_> {
    let seen =
        |kind: &str, value| Seen { kind: kind.to_string(), value, expire_at_ms: None, tag: None };
    match kind {
        Kind::Delete => seen("delete", None),
        Kind::RangeDelete => seen("range-delete", Some(stored)),
        Kind::Merge => match stored.split_first() {
            Some((&op, operand)) => {
                let name = MergeOp::from_u8(op).map_or("unknown", MergeOp::name);
                seen(&format!("merge-{name}"), Some(operand))
            }
            None => seen("malformed", Some(stored)),
        },
        Kind::Put | Kind::PutMeta => match split_value(kind, stored) {
            Some((meta, value)) => Seen {
                expire_at_ms: meta.expire_at_ms,
                tag: Some(u64::from(meta.tag)).filter(|&tag| tag > 0),
                ..seen("put", Some(value))
            },
            None => seen("malformed", Some(stored)),
        },
    }
}

/// A value as a cell: cut in a table, whole elsewhere.
pub fn cell(value: Option<&[u8]>, format: Format) -> Value {
    match value {
        None => Value::Null,
        Some(value) if format == Format::Table && value.len() > SHOWN_BYTES => {
            Value::Text(format!("{}...", escape(&value[..SHOWN_BYTES])))
        }
        Some(value) => Value::Bytes(value.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_values_are_taken_apart() {
        assert_eq!(describe(Kind::Put, b"v").value, Some(&b"v"[..]));
        let expiring = describe(Kind::PutMeta, b"\x31\x05\0\0\0\0\0\0\0v");
        assert_eq!((expiring.expire_at_ms, expiring.tag), (Some(5), Some(3)));
        assert_eq!(expiring.value, Some(&b"v"[..]));
        assert_eq!(describe(Kind::Merge, b"\x01x").kind, "merge-append");
        assert_eq!(describe(Kind::Merge, b"\xffx").kind, "merge-unknown");
        assert_eq!(describe(Kind::Merge, b"").kind, "malformed");
        assert_eq!(describe(Kind::PutMeta, b"\x0f").kind, "malformed");
        assert_eq!(describe(Kind::Delete, b"").value, None);
    }
}

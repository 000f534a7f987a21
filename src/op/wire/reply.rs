//! Redis replies.
//!
//! ```text
//! reply: [kind u8][fields]
//! 0 nil | 1 nil array | 2 simple text | 3 error text | 4 int u64 | 5 bulk | 6 array count, replies
//! 7 map count, pairs | 8 set count, replies | 9 double u64 | 10 false | 11 true
//! 12 verbatim format, text | 13 push count, replies
//! ```

use crate::base::Result;
use crate::base::codec::{put_bytes, put_varint};
use crate::op::Reply;
use crate::op::wire::cut::Cut;
use crate::op::wire::cut::many;
use crate::op::wire::names::interned;

/// Replies within replies: EXEC of a command with a map of arrays, and some room.
const DEPTH_MAX: usize = 16;

/// Appends a reply.
pub fn put_reply(out: &mut Vec<u8>, reply: &Reply) {
    match reply {
        Reply::Nil => out.push(0),
        Reply::NilArray => out.push(1),
        Reply::Simple(text) => {
            out.push(2);
            put_bytes(out, text.as_bytes());
        }
        Reply::Error(text) => {
            out.push(3);
            put_bytes(out, text.as_bytes());
        }
        Reply::Int(n) => {
            out.push(4);
            out.extend_from_slice(&n.to_le_bytes());
        }
        Reply::Bulk(bytes) => {
            out.push(5);
            put_bytes(out, bytes);
        }
        Reply::Array(items) => put_items(out, 6, items),
        Reply::Map(pairs) => {
            out.push(7);
            put_varint(out, pairs.len() as u64);
            for (key, value) in pairs {
                put_reply(out, key);
                put_reply(out, value);
            }
        }
        Reply::Set(items) => put_items(out, 8, items),
        Reply::Double(x) => {
            out.push(9);
            out.extend_from_slice(&x.to_bits().to_le_bytes());
        }
        Reply::Bool(b) => out.push(10 + u8::from(*b)),
        Reply::Verbatim(format, text) => {
            out.push(12);
            put_bytes(out, format.as_bytes());
            put_bytes(out, text.as_bytes());
        }
        Reply::Push(items) => put_items(out, 13, items),
    }
}

fn put_items(out: &mut Vec<u8>, kind: u8, items: &[Reply]) {
    out.push(kind);
    put_varint(out, items.len() as u64);
    items.iter().for_each(|item| put_reply(out, item));
}

/// The next reply.
///
/// # Errors
/// `InvalidArgument` if the bytes are none; `Unsupported` if a newer version wrote them.
pub fn read_reply(cut: &mut Cut<'_>) -> Result<Reply> {
    read_within(cut, DEPTH_MAX)
}

fn read_within(cut: &mut Cut<'_>, depth: usize) -> Result<Reply> {
    let Some(depth) = depth.checked_sub(1) else { return Err(cut.malformed()) };
    let items = |cut: &mut Cut<'_>| many(cut, 1, |cut| read_within(cut, depth));
    Ok(match cut.u8()? {
        0 => Reply::Nil,
        1 => Reply::NilArray,
        2 => Reply::Simple(interned(cut.text()?)?),
        3 => Reply::Error(cut.text()?.to_string()),
        4 => Reply::Int(cut.u64()? as i64),
        5 => Reply::Bulk(cut.bytes()?),
        6 => Reply::Array(items(cut)?),
        7 => Reply::Map(many(cut, 2, |cut| {
            Ok((read_within(cut, depth)?, read_within(cut, depth)?))
        })?),
        8 => Reply::Set(items(cut)?),
        9 => Reply::Double(f64::from_bits(cut.u64()?)),
        kind @ (10 | 11) => Reply::Bool(kind == 11),
        12 => Reply::Verbatim(interned(cut.text()?)?, cut.text()?.to_string()),
        13 => Reply::Push(items(cut)?),
        kind => return Err(cut.unknown(kind.into())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn every_reply_comes_back_and_deep_ones_are_refused() {
        let all = Reply::Array(vec![
            Reply::Nil,
            Reply::NilArray,
            Reply::OK,
            Reply::Simple("string"),
            Reply::err("no"),
            Reply::Int(i64::MIN),
            Reply::bulk(&b"b"[..]),
            Reply::Map(vec![(Reply::Int(1), Reply::Set(vec![Reply::Double(-0.5)]))]),
            Reply::Bool(true),
            Reply::Bool(false),
            Reply::Verbatim("txt", "t".into()),
            Reply::Push(vec![]),
        ]);
        let mut out = Vec::new();
        put_reply(&mut out, &all);
        let bytes = Bytes::from(out);
        let mut cut = Cut::new(&bytes, "a reply");
        assert_eq!(read_reply(&mut cut).unwrap(), all);
        cut.end().unwrap();
        for end in 0..bytes.len() {
            assert!(read_reply(&mut Cut::new(&bytes.slice(..end), "")).is_err());
        }
        let deep = Bytes::from([6, 1].repeat(100_000));
        assert!(read_reply(&mut Cut::new(&deep, "")).is_err());
        let flood = Bytes::from_static(&[6, 0xff, 0xff, 0xff, 0xff, 0x7f, 0]);
        assert!(read_reply(&mut Cut::new(&flood, "")).is_err());
    }
}

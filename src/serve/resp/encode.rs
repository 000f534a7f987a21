//! From a [`Reply`] to bytes: the answer half of RESP, without I/O.
//!
//! | reply | RESP2 | RESP3 |
//! |---|---|---|
//! | `Nil`, `NilArray` | `$-1`, `*-1` | `_` |
//! | `Map` | `*` of twice the length | `%` |
//! | `Set`, `Push` | `*` | `~`, `>` |
//! | `Double` | `$` of the same digits | `,` |
//! | `Bool` | `:1`, `:0` | `#t`, `#f` |
//! | `Verbatim` | `$` of the text | `=` with `txt:` before the text |
//!
//! An answer is encoded piece by piece: [`Encoder::resume`] stops when the output is full and goes
//! on when it has been written, and each reply is dropped as soon as it has its bytes, so a large
//! answer never stands in memory twice.

use super::output::Chunks;
use crate::base::codec::{DECIMAL_BYTES_MAX, decimal_before};
use crate::op::Reply;
use bytes::Bytes;
use std::io::Write;
use std::vec::IntoIter;

/// Which version of RESP a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Proto {
    #[default]
    Resp2,
    Resp3,
}

impl Proto {
    /// 2 or 3.
    pub(super) fn number(self) -> u8 {
        match self {
            Proto::Resp2 => 2,
            Proto::Resp3 => 3,
        }
    }
}

/// Replies that are partly encoded: the rest of each list, outermost first.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    lists: Vec<List>,
}

#[derive(Debug)]
enum List {
    Items(IntoIter<Reply>),
    Pairs(IntoIter<(Reply, Reply)>, Option<Reply>),
}

impl List {
    fn next(&mut self) -> Option<Reply> {
        match self {
            List::Items(items) => items.next(),
            List::Pairs(pairs, value) => value.take().or_else(|| {
                let (k, v) = pairs.next()?;
                *value = Some(v);
                Some(k)
            }),
        }
    }
}

impl Encoder {
    /// Begins a reply. A list is left to [`Encoder::resume`].
    pub(super) fn start(&mut self, reply: Reply, proto: Proto, out: &mut Chunks) {
        let resp3 = proto == Proto::Resp3;
        match reply {
            Reply::Simple(text) => {
                out.put(b"+");
                out.put(text.as_bytes());
                out.put(b"\r\n");
            }
            Reply::Error(text) => error(&text, out),
            Reply::Int(n) => number(b':', n, out),
            Reply::Bulk(bytes) => bulk(bytes, out),
            Reply::Nil if !resp3 => out.put(b"$-1\r\n"),
            Reply::NilArray if !resp3 => out.put(b"*-1\r\n"),
            Reply::Nil | Reply::NilArray => out.put(b"_\r\n"),
            Reply::Double(value) => double(value, resp3, out),
            Reply::Bool(value) => out.put(match (value, resp3) {
                (true, true) => b"#t\r\n",
                (false, true) => b"#f\r\n",
                (true, false) => b":1\r\n",
                (false, false) => b":0\r\n",
            }),
            Reply::Verbatim(format, text) if resp3 => {
                number(b'=', text.len() as i64 + 4, out);
                out.put(format.as_bytes());
                out.put(b":");
                out.put(text.as_bytes());
                out.put(b"\r\n");
            }
            Reply::Verbatim(_, text) => bulk(text.into(), out),
            Reply::Array(items) => self.list(b'*', items, out),
            Reply::Set(items) => self.list(if resp3 { b'~' } else { b'*' }, items, out),
            Reply::Push(items) => self.list(if resp3 { b'>' } else { b'*' }, items, out),
            Reply::Map(pairs) => {
                let n = pairs.len() as i64;
                if resp3 {
                    number(b'%', n, out);
                } else {
                    number(b'*', n * 2, out);
                }
                self.lists.push(List::Pairs(pairs.into_iter(), None));
            }
        }
    }

    fn list(&mut self, kind: u8, items: Vec<Reply>, out: &mut Chunks) {
        number(kind, items.len() as i64, out);
        if !items.is_empty() {
            self.lists.push(List::Items(items.into_iter()));
        }
    }

    /// Goes on until all is encoded (then true) or `out` holds `full` bytes.
    pub(super) fn resume(&mut self, proto: Proto, out: &mut Chunks, full: usize) -> bool {
        while let Some(list) = self.lists.last_mut() {
            if out.bytes() >= full {
                return false;
            }
            match list.next() {
                Some(reply) => self.start(reply, proto, out),
                None => drop(self.lists.pop()),
            }
        }
        true
    }
}

fn error(text: &str, out: &mut Chunks) {
    out.put(b"-");
    if text.bytes().any(|b| b == b'\r' || b == b'\n') {
        out.put(text.replace(['\r', '\n'], " ").as_bytes());
    } else {
        out.put(text.as_bytes());
    }
    out.put(b"\r\n");
}

fn bulk(bytes: Bytes, out: &mut Chunks) {
    number(b'$', bytes.len() as i64, out);
    out.put_bytes(bytes);
    out.put(b"\r\n");
}

/// A head of one letter and a number.
fn number(kind: u8, n: i64, out: &mut Chunks) {
    let mut text = [0; DECIMAL_BYTES_MAX + 3];
    let end = text.len() - 2;
    text[end..].copy_from_slice(b"\r\n");
    let mut at = decimal_before(&mut text, end, n);
    at -= 1;
    text[at] = kind;
    out.put(&text[at..]);
}

fn double(value: f64, resp3: bool, out: &mut Chunks) {
    let text = digits(value);
    if resp3 {
        out.put(b",");
        out.put(text.as_bytes());
        out.put(b"\r\n");
    } else {
        bulk(text.into(), out);
    }
}

/// A double as C's `%.17g` prints it, which is what Redis 7.0 sends.
pub(super) fn digits(value: f64) -> String {
    const PRECISION: i32 = 17;
    if value.is_nan() {
        return "nan".to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_string();
    }
    let mut text = Vec::with_capacity(32);
    // Writing to a Vec cannot fail; were it to, the text would be cut.
    let _ = write!(text, "{value:.16e}");
    let text = String::from_utf8(text).unwrap_or_default();
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..PRECISION).contains(&exponent) {
        let decimals = usize::try_from(PRECISION - 1 - exponent).unwrap_or(0);
        return trimmed(&format!("{value:.decimals$}")).to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
}

/// Without zeros at the end of the fraction, nor a bare point.
fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(reply: &Reply, proto: Proto, full: usize) -> String {
        let (mut encoder, mut out) = (Encoder::default(), Chunks::default());
        let mut all = Vec::new();
        encoder.start(reply.clone(), proto, &mut out);
        loop {
            let done = encoder.resume(proto, &mut out, full);
            while !out.is_empty() {
                all.extend_from_slice(out.first());
                out.advance(out.first().len());
            }
            if done {
                return all.escape_ascii().to_string();
            }
        }
    }

    #[test]
    fn each_reply_has_its_form_in_both_versions() {
        let text = || Reply::bulk("a");
        let cases = [
            (Reply::OK, r"+OK\r\n", r"+OK\r\n"),
            (Reply::err("a\r\nb"), r"-ERR a  b\r\n", r"-ERR a  b\r\n"),
            (Reply::Int(i64::MIN), r":-9223372036854775808\r\n", r":-9223372036854775808\r\n"),
            (Reply::Int(0), r":0\r\n", r":0\r\n"),
            (Reply::Nil, r"$-1\r\n", r"_\r\n"),
            (Reply::NilArray, r"*-1\r\n", r"_\r\n"),
            (Reply::Bool(true), r":1\r\n", r"#t\r\n"),
            (Reply::Bool(false), r":0\r\n", r"#f\r\n"),
            (Reply::Double(1.5), r"$3\r\n1.5\r\n", r",1.5\r\n"),
            (Reply::Double(f64::NEG_INFINITY), r"$4\r\n-inf\r\n", r",-inf\r\n"),
            (Reply::Verbatim("txt", "hi".into()), r"$2\r\nhi\r\n", r"=6\r\ntxt:hi\r\n"),
            (Reply::Set(vec![text()]), r"*1\r\n$1\r\na\r\n", r"~1\r\n$1\r\na\r\n"),
            (Reply::Push(vec![text()]), r"*1\r\n$1\r\na\r\n", r">1\r\n$1\r\na\r\n"),
            (Reply::Array(vec![]), r"*0\r\n", r"*0\r\n"),
            (
                Reply::Map(vec![(text(), Reply::Array(vec![Reply::Int(1), Reply::Nil]))]),
                r"*2\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n",
                r"%1\r\n$1\r\na\r\n*2\r\n:1\r\n_\r\n",
            ),
        ];
        for (reply, resp2, resp3) in &cases {
            for full in [1, 8, 1 << 20] {
                assert_eq!(bytes(reply, Proto::Resp2, full), *resp2, "{reply:?}");
                assert_eq!(bytes(reply, Proto::Resp3, full), *resp3, "{reply:?}");
            }
        }
    }

    #[test]
    fn doubles_print_as_percent_17g() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (0.1, "0.10000000000000001"),
            (1.1, "1.1000000000000001"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1.5e300, "1.5000000000000001e+300"),
            (1e-4, "0.0001"),
            (1e-5, "1.0000000000000001e-05"),
            (-2.5e-10, "-2.5000000000000002e-10"),
            (123456789.125, "123456789.125"),
        ];
        for (value, want) in cases {
            assert_eq!(digits(value), want);
        }
    }
}

//! A reply as a client reads it from the wire.
//!
//! ```text
//! + simple CRLF        - error CRLF         : integer CRLF      , double CRLF
//! $ len CRLF bytes CRLF                     ($-1 nil)           = len CRLF txt:bytes CRLF
//! * n CRLF n replies   ~ n (set)  > n (push)  (*-1 nil)         % n CRLF 2n replies
//! _ CRLF nil           # t|f CRLF           ( digits CRLF       ! len CRLF error CRLF
//! | n CRLF 2n replies: attributes of the reply that follows, dropped
//! ```

use std::io::{BufRead, Read};

/// Arrays within arrays beyond this are refused.
const DEPTH_MAX: u32 = 64;
/// The longest line: a type byte, a number or a simple string.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// The longest bulk string, in bytes.
const BULK_BYTES_MAX: u64 = 1 << 30;

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A status such as OK.
    Simple(String),
    /// An error with its prefix.
    Error(String),
    /// An integer.
    Int(i64),
    /// A byte string.
    Bulk(Vec<u8>),
    /// No value.
    Nil,
    /// A list.
    Array(Vec<Answer>),
    /// Pairs.
    Map(Vec<(Answer, Answer)>),
    /// Distinct elements.
    Set(Vec<Answer>),
    /// A floating-point number, as the server spelt it.
    Double(String),
    /// True or false.
    Bool(bool),
    /// A whole number of any size.
    BigNumber(String),
    /// Text meant for people.
    Verbatim(Vec<u8>),
    /// Sent by the server on its own.
    Push(Vec<Answer>),
}

/// Why no reply could be read.
#[derive(Debug)]
pub enum ReadError {
    /// The connection failed or ended.
    Io(std::io::Error),
    /// The bytes are no reply.
    Malformed(String),
}

impl From<std::io::Error> for ReadError {
    fn from(e: std::io::Error) -> ReadError {
        ReadError::Io(e)
    }
}

fn malformed(what: impl Into<String>) -> ReadError {
    ReadError::Malformed(what.into())
}

/// Reads one reply. Memory grows with the bytes that arrive, never by a declared length.
pub fn read(input: &mut impl BufRead) -> Result<Answer, ReadError> {
    read_within(input, 0)
}

fn read_within(input: &mut impl BufRead, depth: u32) -> Result<Answer, ReadError> {
    if depth > DEPTH_MAX {
        return Err(malformed("arrays nested too deeply"));
    }
    loop {
        let line = line(input)?;
        let Some(kind) = line.chars().next().filter(char::is_ascii) else {
            return Err(malformed("a line without a type"));
        };
        let rest = &line[1..];
        return Ok(match kind {
            '+' => Answer::Simple(rest.to_string()),
            '-' => Answer::Error(rest.to_string()),
            ':' => Answer::Int(number(rest)?),
            ',' => Answer::Double(rest.to_string()),
            '(' => Answer::BigNumber(rest.to_string()),
            '_' => Answer::Nil,
            '#' => Answer::Bool(rest == "t"),
            '$' => bulk(input, rest)?.map_or(Answer::Nil, Answer::Bulk),
            '!' => {
                let text = bulk(input, rest)?.unwrap_or_default();
                Answer::Error(String::from_utf8_lossy(&text).into_owned())
            }
            '=' => {
                let text = bulk(input, rest)?.unwrap_or_default();
                Answer::Verbatim(text.get(4..).unwrap_or_default().to_vec())
            }
            '*' => list(input, rest, depth)?.map_or(Answer::Nil, Answer::Array),
            '~' => Answer::Set(list(input, rest, depth)?.unwrap_or_default()),
            '>' => Answer::Push(list(input, rest, depth)?.unwrap_or_default()),
            '%' => Answer::Map(pairs(input, rest, depth)?),
            '|' => {
                pairs(input, rest, depth)?;
                continue;
            }
            other => return Err(malformed(format!("a reply of type {other:?}"))),
        });
    }
}

fn line(input: &mut impl BufRead) -> Result<String, ReadError> {
    let mut line = Vec::new();
    input.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    if line.pop() != Some(b'\n') || line.pop() != Some(b'\r') {
        return Err(malformed("a line without an end"));
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn number(text: &str) -> Result<i64, ReadError> {
    text.parse().map_err(|_| malformed(format!("{text:?} where a number should stand")))
}

fn bulk(input: &mut impl BufRead, len: &str) -> Result<Option<Vec<u8>>, ReadError> {
    let len = number(len)?;
    let Ok(len) = u64::try_from(len) else { return Ok(None) };
    if len > BULK_BYTES_MAX {
        return Err(malformed(format!("a string of {len} bytes")));
    }
    let mut bytes = Vec::new();
    input.take(len + 2).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != len + 2 {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    if !bytes.ends_with(b"\r\n") {
        return Err(malformed("a string without an end"));
    }
    bytes.truncate(len as usize);
    Ok(Some(bytes))
}

fn list(input: &mut impl BufRead, len: &str, depth: u32) -> Result<Option<Vec<Answer>>, ReadError> {
    let Ok(len) = u64::try_from(number(len)?) else { return Ok(None) };
    (0..len).map(|_| read_within(input, depth + 1)).collect::<Result<_, _>>().map(Some)
}

fn pairs(
    input: &mut impl BufRead,
    len: &str,
    depth: u32,
) -> Result<Vec<(Answer, Answer)>, ReadError> {
    let len = u64::try_from(number(len)?).unwrap_or(0);
    let mut pair = || Ok((read_within(input, depth + 1)?, read_within(input, depth + 1)?));
    (0..len).map(|_| pair()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(mut bytes: &[u8]) -> Result<Answer, ReadError> {
        read(&mut bytes)
    }

    #[test]
    fn every_type_of_reply_is_read() {
        let bulk = |s: &str| Answer::Bulk(s.as_bytes().to_vec());
        for (wire, expected) in [
            ("+OK\r\n", Answer::Simple("OK".into())),
            ("-ERR no\r\n", Answer::Error("ERR no".into())),
            (":-5\r\n", Answer::Int(-5)),
            ("$3\r\na\r\n\r\n", bulk("a\r\n")),
            ("$0\r\n\r\n", bulk("")),
            ("$-1\r\n", Answer::Nil),
            ("*-1\r\n", Answer::Nil),
            ("_\r\n", Answer::Nil),
            ("#t\r\n", Answer::Bool(true)),
            (",inf\r\n", Answer::Double("inf".into())),
            ("(123456789012345678901\r\n", Answer::BigNumber("123456789012345678901".into())),
            ("=6\r\ntxt:ab\r\n", Answer::Verbatim(b"ab".to_vec())),
            ("!5\r\nERR x\r\n", Answer::Error("ERR x".into())),
            ("~1\r\n:1\r\n", Answer::Set(vec![Answer::Int(1)])),
            (">1\r\n$1\r\na\r\n", Answer::Push(vec![bulk("a")])),
            (
                "%1\r\n+k\r\n*0\r\n",
                Answer::Map(vec![(Answer::Simple("k".into()), Answer::Array(vec![]))]),
            ),
            ("|1\r\n+ttl\r\n:1\r\n:9\r\n", Answer::Int(9)),
            (
                "*2\r\n*1\r\n:1\r\n_\r\n",
                Answer::Array(vec![Answer::Array(vec![Answer::Int(1)]), Answer::Nil]),
            ),
        ] {
            assert_eq!(parse(wire.as_bytes()).unwrap(), expected, "{wire:?}");
        }
    }

    #[test]
    fn nonsense_and_short_replies_are_errors() {
        for wire in [
            "",
            "\r\n",
            "+OK",
            "?x\r\n",
            ":x\r\n",
            "$5\r\nab",
            "$2\r\nabXY",
            "$99999999999999\r\n",
            "\u{e9}\r\n",
        ] {
            assert!(parse(wire.as_bytes()).is_err(), "{wire:?}");
        }
        let nested = "*1\r\n".repeat(100_000);
        assert!(parse(nested.as_bytes()).is_err());
        let long = "*9223372036854775807\r\n:1\r\n";
        assert!(parse(long.as_bytes()).is_err());
    }
}

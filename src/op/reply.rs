//! The answer to a Redis command, before RESP2 or RESP3 gives it bytes.

use bytes::Bytes;

/// A Redis reply. RESP3 has a form for each variant; in RESP2 the door falls back as Redis does
/// (a map becomes a flat array, a double a bulk string, a boolean an integer).
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// `+OK`: a short status that never contains CR or LF.
    Simple(&'static str),
    /// `-ERR ...`: the whole text with its prefix, letter for letter as Redis has it. Any CR or
    /// LF in it is printed as a space.
    Error(String),
    /// A 64-bit integer.
    Int(i64),
    /// A byte string.
    Bulk(Bytes),
    /// No value: `$-1` in RESP2, `_` in RESP3.
    Nil,
    /// No array: `*-1` in RESP2, `_` in RESP3 (an aborted EXEC, for example).
    NilArray,
    /// A list of replies.
    Array(Vec<Reply>),
    /// Pairs in order.
    Map(Vec<(Reply, Reply)>),
    /// Distinct replies, in no order.
    Set(Vec<Reply>),
    /// A floating-point number.
    Double(f64),
    /// True or false.
    Bool(bool),
    /// Text with a three-letter format (`txt`), a plain bulk in RESP2.
    Verbatim(&'static str, String),
    /// Out-of-band data, sent apart from answers.
    Push(Vec<Reply>),
}

impl Reply {
    /// `+OK`.
    pub const OK: Reply = Reply::Simple("OK");

    /// `-ERR text`.
    pub fn err(text: impl std::fmt::Display) -> Reply {
        Reply::Error(format!("ERR {text}"))
    }

    /// A bulk of text or bytes.
    pub fn bulk(bytes: impl Into<Bytes>) -> Reply {
        Reply::Bulk(bytes.into())
    }

    /// About how many bytes of memory the reply holds.
    pub fn bytes(&self) -> usize {
        const ITEM: usize = size_of::<Reply>();
        match self {
            Reply::Bulk(bytes) => ITEM + bytes.len(),
            Reply::Error(text) | Reply::Verbatim(_, text) => ITEM + text.len(),
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
                ITEM + items.iter().map(Reply::bytes).sum::<usize>()
            }
            Reply::Map(pairs) => {
                ITEM + pairs.iter().map(|(k, v)| k.bytes() + v.bytes()).sum::<usize>()
            }
            _ => ITEM,
        }
    }

    /// Whether this is an error reply.
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }

    /// `-ERR syntax error`.
    pub fn syntax_error() -> Reply {
        Reply::err("syntax error")
    }

    /// `-ERR value is not an integer or out of range`.
    pub fn not_an_integer() -> Reply {
        Reply::err("value is not an integer or out of range")
    }

    /// `-WRONGTYPE ...`.
    pub fn wrong_type() -> Reply {
        Reply::Error(
            "WRONGTYPE Operation against a key holding the wrong kind of value".to_string(),
        )
    }
}

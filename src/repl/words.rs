//! The console's own words: keys and values of any column family, the families themselves, and vectors.

use crate::base::{CfId, Error, Result};
use crate::op::Request;
use crate::op::kv::{Expiry, MergeOp, Scan, Write};
use crate::repl::tokens::Token;
use crate::repl::vectors;
use bytes::Bytes;

/// A console word: name, arguments, what it does.
#[derive(Debug, PartialEq, Eq)]
pub struct Word {
    /// Upper-case name.
    pub name: &'static str,
    /// Arguments as a usage line prints them.
    pub usage: &'static str,
    /// One sentence.
    pub summary: &'static str,
}

/// What a search of vectors takes.
const SEARCH_USAGE: &str =
    "index n,n,.. | NEAR id [K n] [EF n] [FILTER json] [WORDS field text] [EXACT] [PAYLOAD]";

/// Every console word, by name.
pub const WORDS: &[Word] = &[
    Word { name: "CREATECF", usage: "name", summary: "creates a column family" },
    Word { name: "DELETE", usage: "key", summary: "removes a key" },
    Word { name: "DROPCF", usage: "name", summary: "drops a column family and all it holds" },
    Word { name: "EXIT", usage: "", summary: "leaves the console" },
    Word { name: "GET", usage: "key", summary: "reads a key" },
    Word { name: "HELP", usage: "[word]", summary: "tells about the words and commands" },
    Word { name: "LISTCF", usage: "", summary: "lists column families" },
    Word {
        name: "MERGE",
        usage: "key operand [append | add | max]",
        summary: "merges an operand into a key; append is the default",
    },
    Word { name: "PUT", usage: "key value [TTL seconds]", summary: "sets a key" },
    Word {
        name: "SCAN",
        usage: "[prefix | PREFIX prefix] [FROM key] [TO key] [LIMIT n] [REVERSE] [KEYS]",
        summary: "lists keys and values in order",
    },
    Word { name: "USE", usage: "name", summary: "selects the column family of the words" },
    Word {
        name: "VCREATE",
        usage: "index dim [METRIC metric] [KIND kind] [QUANTISATION form]",
        summary: "creates an index of vectors",
    },
    Word { name: "VDELETE", usage: "index id", summary: "removes a vector" },
    Word {
        name: "VDESCRIBE",
        usage: "index",
        summary: "tells of an index: how it was made, what is in it, what it takes",
    },
    Word { name: "VDROP", usage: "index", summary: "drops an index and all its vectors" },
    Word {
        name: "VEXPLAIN",
        usage: SEARCH_USAGE,
        summary: "searches as VSEARCH does, and tells what it cost",
    },
    Word { name: "VGET", usage: "index id", summary: "reads a vector" },
    Word { name: "VLIST", usage: "", summary: "lists indexes, and how many vectors each has" },
    Word {
        name: "VPUT",
        usage: "index id n,n,.. [payload]",
        summary: "sets a vector, and a JSON object beside it",
    },
    Word {
        name: "VSEARCH",
        usage: SEARCH_USAGE,
        summary: "finds the nearest vectors, with WORDS those that a field's text speaks for too",
    },
    Word {
        name: "VVERIFY",
        usage: "index",
        summary: "compares an index with the stored vectors, all of which it reads",
    },
];

/// What a line asks the console for.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// A request in the selected family.
    Kv(Request),
    /// What a search costs.
    Explain(Request),
    /// Select the family of this name.
    Use(String),
    /// Drop the family of this name.
    DropCf(String),
    /// Tell about a word or command, or about all.
    Help(Option<String>),
    /// Leave.
    Exit,
    /// Not a console word: a Redis command.
    Redis,
}

/// What a line of at least one whole token asks for, with `cf` selected.
///
/// GET means the same to the console and to Redis; it is the console's only where the selected
/// family is not the default one. SCAN with a number first is Redis's.
///
/// # Errors
/// `InvalidArgument` with the word's usage.
pub fn ask(tokens: &[Token], cf: CfId) -> Result<Ask> {
    let (first, args) = match tokens {
        [] => return Ok(Ask::Redis),
        [first, args @ ..] => (first, args),
    };
    let name = String::from_utf8_lossy(&first.bytes).to_ascii_uppercase();
    let bytes = |token: &Token| Bytes::copy_from_slice(&token.bytes);
    Ok(match (name.as_str(), args) {
        ("EXIT" | "QUIT", []) => Ask::Exit,
        ("HELP", []) => Ask::Help(None),
        ("HELP", [word, ..]) => Ask::Help(Some(text(word)?)),
        ("USE", [family]) => Ask::Use(text(family)?),
        ("LISTCF", []) => Ask::Kv(Request::ListCfs),
        ("CREATECF", [family]) => Ask::Kv(Request::CreateCf { name: text(family)? }),
        ("DROPCF", [family]) => Ask::DropCf(text(family)?),
        ("GET", [key]) if cf != CfId::DEFAULT => Ask::Kv(Request::Get { cf, key: bytes(key) }),
        ("GET", _) if cf == CfId::DEFAULT => Ask::Redis,
        ("PUT", [key, value, rest @ ..]) => {
            let expiry = expiry(rest)?;
            write(Write::Put { cf, key: bytes(key), value: bytes(value), expiry })
        }
        ("DELETE", [key]) => write(Write::Delete { cf, key: bytes(key) }),
        ("MERGE", [key, operand, rest @ ..]) if rest.len() < 2 => {
            let op = match rest.first() {
                None => MergeOp::default(),
                Some(token) => merge_op(token)?,
            };
            let operand = merge_operand(op, operand)?;
            write(Write::Merge { cf, key: bytes(key), operand, op })
        }
        ("SCAN", [cursor, ..]) if cf == CfId::DEFAULT && is_number(cursor) => Ask::Redis,
        ("SCAN", args) => Ask::Kv(Request::Scan(scan(args, cf)?)),
        (name, args) => {
            let is_explained = name == "VEXPLAIN";
            match vectors::request(if is_explained { "VSEARCH" } else { name }, args)? {
                Some(request) if is_explained => Ask::Explain(request),
                Some(request) => Ask::Kv(request),
                None => match WORDS.iter().find(|word| word.name == name) {
                    Some(word) => return Err(usage(word)),
                    None => Ask::Redis,
                },
            }
        }
    })
}

fn write(write: Write) -> Ask {
    Ask::Kv(Request::Write { writes: vec![write], id: None })
}

fn usage(word: &Word) -> Error {
    Error::invalid(format!("{} takes: {} {}", word.name, word.name, word.usage).trim().to_string())
}

fn text(token: &Token) -> Result<String> {
    token.text().map(str::to_string).ok_or_else(|| Error::invalid("a name must be text"))
}

fn is_number(token: &Token) -> bool {
    !token.quoted && !token.bytes.is_empty() && token.bytes.iter().all(u8::is_ascii_digit)
}

fn number(token: &Token, what: &str) -> Result<u64> {
    let number = token.text().and_then(|text| text.parse().ok());
    number.ok_or_else(|| {
        let found = String::from_utf8_lossy(&token.bytes);
        Error::invalid(format!("{what} takes a whole number, not {found:?}"))
    })
}

fn expiry(rest: &[Token]) -> Result<Expiry> {
    match rest {
        [] => Ok(Expiry::Never),
        [word, seconds] if word.is("TTL") => {
            let ms = number(seconds, "TTL")?.checked_mul(1000).filter(|&ms| ms > 0);
            ms.map(Expiry::InMs).ok_or_else(|| Error::invalid("TTL takes 1 second or more"))
        }
        _ => Err(Error::invalid("PUT takes: PUT key value [TTL seconds]")),
    }
}

fn merge_op(token: &Token) -> Result<MergeOp> {
    let name = String::from_utf8_lossy(&token.bytes).to_ascii_lowercase();
    MergeOp::from_name(&name)
        .ok_or_else(|| Error::invalid(format!("{name:?} is no merge operator: append, add or max")))
}

/// A person writes the operand of `add` as a number; the engine takes eight bytes.
fn merge_operand(op: MergeOp, token: &Token) -> Result<Bytes> {
    if op != MergeOp::Add {
        return Ok(Bytes::copy_from_slice(&token.bytes));
    }
    let number = token.text().and_then(|text| text.parse::<i64>().ok());
    let number = number.ok_or_else(|| Error::invalid("MERGE with add takes a whole number"))?;
    Ok(Bytes::copy_from_slice(&number.to_le_bytes()))
}

fn scan(args: &[Token], cf: CfId) -> Result<Scan> {
    let mut scan = Scan { cf, limit: 100, ..Scan::default() };
    let mut at = 0;
    while let Some(token) = args.get(at) {
        at += 1;
        let mut value = |word: &str| {
            let value = args.get(at);
            at += 1;
            value.ok_or_else(|| Error::invalid(format!("SCAN: {word} takes a value")))
        };
        let bytes = |token: &Token| Bytes::copy_from_slice(&token.bytes);
        match token {
            t if t.is("PREFIX") => scan.prefix = bytes(value("PREFIX")?),
            t if t.is("FROM") => scan.start = bytes(value("FROM")?),
            t if t.is("TO") => scan.end = bytes(value("TO")?),
            t if t.is("LIMIT") => {
                let limit = number(value("LIMIT")?, "LIMIT")?;
                scan.limit =
                    u32::try_from(limit).ok().filter(|n| (1..=10_000).contains(n)).ok_or_else(
                        || Error::invalid(format!("LIMIT is {limit}; it takes 1 to 10000")),
                    )?;
            }
            t if t.is("REVERSE") => scan.reverse = true,
            t if t.is("KEYS") => scan.keys_only = true,
            t if at == 1 => scan.prefix = bytes(t),
            t => {
                let found = String::from_utf8_lossy(&t.bytes);
                return Err(Error::invalid(format!(
                    "SCAN does not know {found:?}: PREFIX, FROM, TO, LIMIT, REVERSE, KEYS"
                )));
            }
        }
    }
    Ok(scan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repl::tokens::tokens;

    fn parse(line: &str, cf: u32) -> Result<Ask> {
        ask(&tokens(line), CfId(cf))
    }

    #[test]
    fn words_and_redis_commands_are_told_apart() {
        assert_eq!(parse("get k", 0).unwrap(), Ask::Redis);
        let key = Bytes::from_static(b"k");
        assert_eq!(parse("get k", 3).unwrap(), Ask::Kv(Request::Get { cf: CfId(3), key }));
        assert_eq!(parse("SCAN 0 MATCH x", 0).unwrap(), Ask::Redis);
        assert!(
            matches!(parse("scan user:", 0), Ok(Ask::Kv(Request::Scan(s))) if s.prefix == "user:")
        );
        assert!(matches!(parse("scan \"0\"", 0), Ok(Ask::Kv(Request::Scan(s))) if s.prefix == "0"));
        assert_eq!(parse("INCR n", 0).unwrap(), Ask::Redis);
        assert_eq!(parse("quit", 0).unwrap(), Ask::Exit);
        assert_eq!(parse("use logs", 0).unwrap(), Ask::Use("logs".into()));
    }

    #[test]
    fn a_scan_takes_bounds_in_any_order() {
        let Ask::Kv(Request::Scan(scan)) =
            parse("SCAN LIMIT 5 FROM a TO z reverse keys", 2).unwrap()
        else {
            panic!("no scan");
        };
        assert_eq!((scan.limit, scan.reverse, scan.keys_only, scan.cf), (5, true, true, CfId(2)));
        assert_eq!((&scan.start[..], &scan.end[..]), (&b"a"[..], &b"z"[..]));
    }

    #[test]
    fn a_wrong_word_tells_its_usage() {
        for (line, part) in [
            ("PUT k", "PUT key value"),
            ("DELETE", "DELETE key"),
            ("PUT k v TTL x", "whole number"),
            ("PUT k v TTL 0", "1 second"),
            ("MERGE k v nope", "append, add or max"),
            ("MERGE k v add", "whole number"),
            ("SCAN LIMIT 0", "1 to 10000"),
            ("SCAN a b", "PREFIX"),
            ("SCAN FROM", "takes a value"),
            ("USE", "USE name"),
            ("VGET docs", "VGET index id"),
            ("VPUT docs 1", "VPUT index id n,n"),
            ("VSEARCH docs", "VSEARCH index n,n"),
            ("VEXPLAIN docs", "VEXPLAIN index n,n"),
            ("VDESCRIBE", "VDESCRIBE index"),
        ] {
            let error = parse(line, 0).unwrap_err();
            assert!(error.message().contains(part), "{line}: {error}");
        }
    }
}

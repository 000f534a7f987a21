//! Calls and replies as lines of text.

use arqondb::base::escape::{escape, unescape};
use arqondb::op::Reply;
use bytes::Bytes;

/// The arguments on a line: words, or `"..."` with escapes.
pub(crate) fn parse_call(line: &str) -> Vec<Bytes> {
    let mut args = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (arg, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut escaped = false;
                let end = quoted
                    .bytes()
                    .position(|b| {
                        let end = b == b'"' && !escaped;
                        escaped = b == b'\\' && !escaped;
                        end
                    })
                    .unwrap_or_else(|| panic!("no closing quote: {line}"));
                (unescape(&quoted[..end]).expect("an escape"), &quoted[end + 1..])
            }
            None => {
                let end = rest.find(' ').unwrap_or(rest.len());
                (rest.as_bytes()[..end].to_vec(), &rest[end..])
            }
        };
        args.push(Bytes::from(arg));
        rest = after.trim_start();
    }
    args
}

/// A call as a line that [`parse_call`] reads.
pub(crate) fn show_call(args: &[Bytes]) -> String {
    let word = |arg: &Bytes| {
        let plain = !arg.is_empty() && arg.iter().all(|b| b.is_ascii_graphic() && *b != b'"');
        if plain && !arg.contains(&b'\\') {
            String::from_utf8_lossy(arg).into_owned()
        } else {
            format!("\"{}\"", escape(arg))
        }
    };
    args.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// A reply on one line: `OK`, `-ERR ...`, `:1`, `"text"`, `nil`, `[a, b]`, `{a => b}`.
pub(crate) fn show(reply: &Reply) -> String {
    let list = |items: &[Reply]| items.iter().map(show).collect::<Vec<_>>().join(", ");
    match reply {
        Reply::Simple(s) => s.to_string(),
        Reply::Error(text) => format!("-{text}"),
        Reply::Int(n) => format!(":{n}"),
        Reply::Bulk(bytes) => format!("\"{}\"", escape(bytes)),
        Reply::Nil | Reply::NilArray => "nil".to_string(),
        Reply::Array(items) | Reply::Push(items) => format!("[{}]", list(items)),
        Reply::Set(items) => format!("~[{}]", list(items)),
        Reply::Map(pairs) => {
            let pair = |(k, v): &(Reply, Reply)| format!("{} => {}", show(k), show(v));
            format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        Reply::Double(d) => format!(",{d}"),
        Reply::Bool(b) => format!("#{b}"),
        Reply::Verbatim(kind, text) => format!("={kind}:{text}"),
    }
}

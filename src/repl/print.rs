//! Replies as text: typed for people, raw for pipes, JSON for programs.

use crate::base::escape::escape;
use crate::repl::client::Answer;
use serde_json::json;
use std::fmt::Write;

/// How replies are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// With types, numbers before elements and quotes, as redis-cli prints on a terminal.
    Typed {
        /// In colour.
        color: bool,
    },
    /// Bytes as they are, an element a line.
    Raw,
    /// A JSON value a line.
    Json,
    /// The elements of a reply with this between them, an entry of pairs a line.
    Separated(char),
}

/// The bytes to print for a reply, with the line end.
pub fn print(answer: &Answer, style: Style) -> Vec<u8> {
    match style {
        Style::Typed { color } => {
            let mut out = String::new();
            typed(answer, 0, color, &mut out);
            out.into_bytes()
        }
        Style::Raw => {
            let mut out = Vec::new();
            raw(answer, b"\n", &mut out);
            out.push(b'\n');
            out
        }
        Style::Json => format!("{}\n", to_json(answer)).into_bytes(),
        Style::Separated(by) => separated(answer, by).into_bytes(),
    }
}

mod ink {
    pub(super) const NUMBER: &str = "33";
    pub(super) const TEXT: &str = "32";
    pub(super) const ERROR: &str = "31";
    pub(super) const DIM: &str = "2";
}

fn paint(color: bool, ink: &str, text: &str) -> String {
    if color { format!("\x1b[{ink}m{text}\x1b[0m") } else { text.to_string() }
}

fn typed(answer: &Answer, indent: usize, color: bool, out: &mut String) {
    let line = match answer {
        Answer::Simple(text) => crate::repl::print::clean(text),
        Answer::Error(text) => paint(color, ink::ERROR, &format!("(error) {}", clean(text))),
        Answer::Int(n) => paint(color, ink::NUMBER, &format!("(integer) {n}")),
        Answer::Double(text) => paint(color, ink::NUMBER, &format!("(double) {}", clean(text))),
        Answer::BigNumber(text) => {
            paint(color, ink::NUMBER, &format!("(big number) {}", clean(text)))
        }
        Answer::Bool(b) => paint(color, ink::NUMBER, if *b { "(true)" } else { "(false)" }),
        Answer::Nil => paint(color, ink::DIM, "(nil)"),
        Answer::Bulk(bytes) => paint(color, ink::TEXT, &format!("\"{}\"", escape(bytes))),
        Answer::Verbatim(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            text.lines().map(clean).collect::<Vec<_>>().join("\n")
        }
        Answer::Array(items) | Answer::Push(items) => {
            return elements(items, ')', "(empty array)", indent, color, out);
        }
        Answer::Set(items) => return elements(items, '~', "(empty set)", indent, color, out),
        Answer::Map(pairs) => return map(pairs, indent, color, out),
    };
    out.push_str(&line);
    out.push('\n');
}

fn elements(
    items: &[Answer],
    mark: char,
    empty: &str,
    indent: usize,
    color: bool,
    out: &mut String,
) {
    if items.is_empty() {
        out.push_str(&paint(color, ink::DIM, empty));
        out.push('\n');
    }
    let width = items.len().to_string().len();
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        let label = format!("{:>width$}{mark} ", i + 1);
        out.push_str(&paint(color, ink::DIM, &label));
        typed(item, indent + label.len(), color, out);
    }
}

fn map(pairs: &[(Answer, Answer)], indent: usize, color: bool, out: &mut String) {
    if pairs.is_empty() {
        out.push_str(&paint(color, ink::DIM, "(empty map)"));
        out.push('\n');
    }
    let width = pairs.len().to_string().len();
    for (i, (key, value)) in pairs.iter().enumerate() {
        if i > 0 {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        let label = format!("{:>width$}# ", i + 1);
        out.push_str(&paint(color, ink::DIM, &label));
        let inner = indent + label.len();
        typed(key, inner, color, out);
        out.pop();
        out.push_str(" => ");
        typed(value, inner, color, out);
    }
}

/// Text of a server without what a terminal might obey.
fn clean(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let control = c.is_control();
            let escaped = control.then(|| c.escape_default());
            escaped.into_iter().flatten().chain((!control).then_some(c))
        })
        .collect()
}

fn raw(answer: &Answer, between: &[u8], out: &mut Vec<u8>) {
    match answer {
        Answer::Simple(text)
        | Answer::Error(text)
        | Answer::Double(text)
        | Answer::BigNumber(text) => out.extend_from_slice(text.as_bytes()),
        Answer::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Answer::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Answer::Nil => {}
        Answer::Bulk(bytes) | Answer::Verbatim(bytes) => out.extend_from_slice(bytes),
        Answer::Array(items) | Answer::Push(items) | Answer::Set(items) => {
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(between);
                }
                raw(item, between, out);
            }
        }
        Answer::Map(pairs) => {
            for (i, (key, value)) in pairs.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(between);
                }
                raw(key, between, out);
                out.extend_from_slice(between);
                raw(value, between, out);
            }
        }
    }
}

/// A reply as JSON. In byte strings a backslash is doubled and a byte that is not UTF-8 is `\xHH`,
/// so that no two are printed alike; [`crate::base::escape::unescape`] reads them back.
pub fn to_json(answer: &Answer) -> serde_json::Value {
    match answer {
        Answer::Simple(text) | Answer::BigNumber(text) => json!(text),
        Answer::Error(text) => error_json("redis", text, false),
        Answer::Int(n) => json!(n),
        Answer::Double(text) => match text.parse::<f64>() {
            Ok(x) if x.is_finite() => json!(x),
            _ => json!(text),
        },
        Answer::Bool(b) => json!(b),
        Answer::Nil => serde_json::Value::Null,
        Answer::Bulk(bytes) | Answer::Verbatim(bytes) => json!(text_of(bytes)),
        Answer::Array(items) | Answer::Push(items) | Answer::Set(items) => {
            items.iter().map(to_json).collect()
        }
        Answer::Map(pairs) => {
            let named = pairs.iter().map(|(key, value)| match key {
                Answer::Bulk(bytes) => (text_of(bytes), to_json(value)),
                Answer::Simple(text) => (text.clone(), to_json(value)),
                other => (to_json(other).to_string(), to_json(value)),
            });
            serde_json::Value::Object(named.collect())
        }
    }
}

/// An error as JSON.
pub fn error_json(code: &str, message: &str, retryable: bool) -> serde_json::Value {
    json!({"error": {"code": code, "message": message, "fix": null, "retryable": retryable}})
}

fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        // Writing to a String cannot fail.
        chunk.invalid().iter().for_each(|byte| _ = write!(text, "\\x{byte:02x}"));
    }
    text
}

fn separated(answer: &Answer, by: char) -> String {
    let field = |answer: &Answer| {
        let mut bytes = Vec::new();
        raw(answer, b" ", &mut bytes);
        let text = escape_controls(&String::from_utf8_lossy(&bytes));
        if by == ',' && text.contains([',', '"']) {
            return format!("\"{}\"", text.replace('"', "\"\""));
        }
        text
    };
    let line = |fields: Vec<String>| fields.join(&by.to_string()) + "\n";
    match answer {
        Answer::Map(pairs) => {
            pairs.iter().map(|(key, value)| line(vec![field(key), field(value)])).collect()
        }
        Answer::Array(items) | Answer::Push(items) | Answer::Set(items) => {
            line(items.iter().map(field).collect())
        }
        other => line(vec![field(other)]),
    }
}

fn escape_controls(text: &str) -> String {
    text.replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Answer {
        Answer::Bulk(text.as_bytes().to_vec())
    }

    fn nested() -> Answer {
        Answer::Array(vec![
            bulk("a"),
            Answer::Array(vec![Answer::Int(1), Answer::Nil]),
            Answer::Map(vec![(bulk("k"), bulk("v")), (bulk("l"), Answer::Array(vec![]))]),
        ])
    }

    fn text(answer: &Answer, style: Style) -> String {
        String::from_utf8(print(answer, style)).unwrap()
    }

    #[test]
    fn typed_replies_look_as_in_redis_cli() {
        let typed = |answer: &Answer| text(answer, Style::Typed { color: false });
        assert_eq!(typed(&Answer::Simple("OK".into())), "OK\n");
        assert_eq!(typed(&Answer::Int(3)), "(integer) 3\n");
        assert_eq!(typed(&Answer::Nil), "(nil)\n");
        assert_eq!(typed(&bulk("a\"\n")), "\"a\\\"\\n\"\n");
        assert_eq!(typed(&Answer::Error("ERR x".into())), "(error) ERR x\n");
        assert_eq!(typed(&Answer::Array(vec![])), "(empty array)\n");
        assert_eq!(
            typed(&nested()),
            "1) \"a\"\n2) 1) (integer) 1\n   2) (nil)\n3) 1# \"k\" => \"v\"\n   2# \"l\" => (empty array)\n"
        );
    }

    #[test]
    fn raw_and_json_and_separated() {
        assert_eq!(text(&nested(), Style::Raw), "a\n1\n\nk\nv\nl\n\n");
        assert_eq!(text(&nested(), Style::Json), "[\"a\",[1,null],{\"k\":\"v\",\"l\":[]}]\n");
        let map = Answer::Map(vec![(bulk("k,1"), bulk("v\n"))]);
        assert_eq!(text(&map, Style::Separated(',')), "\"k,1\",v\\n\n");
        assert_eq!(text(&map, Style::Separated('\t')), "k,1\tv\\n\n");
        assert_eq!(text(&Answer::Bulk(vec![0xff]), Style::Json), "\"\\\\xff\"\n");
    }

    #[test]
    fn no_two_byte_strings_are_one_in_json() {
        let json = |bytes: &[u8]| to_json(&Answer::Bulk(bytes.to_vec()));
        for (bytes, text) in [
            (&b"\xff"[..], "\\xff"),
            (b"\\xff", "\\\\xff"),
            ("\u{e9}\n\"".as_bytes(), "\u{e9}\n\""),
            (b"a\xc3", "a\\xc3"),
        ] {
            assert_eq!(json(bytes), text);
            assert_eq!(crate::base::escape::unescape(text).as_deref(), Some(bytes));
        }
    }

    #[test]
    fn a_server_cannot_drive_the_terminal() {
        let evil = Answer::Error("x\x1b[2J".into());
        assert_eq!(text(&evil, Style::Typed { color: false }), "(error) x\\u{1b}[2J\n");
        let evil = Answer::Verbatim(b"a\x1b]0;t\x07\nb".to_vec());
        assert!(!text(&evil, Style::Typed { color: false }).contains('\x1b'));
    }
}

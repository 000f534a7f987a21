//! A line as tokens, quoted as redis-cli quotes.
//!
//! Words stand between blanks. `"..."` takes `\n \r \t \b \a \\ \" \xHH`; `'...'` takes `\'` only.
//! A closing quote must be followed by a blank or the end of the line.

use std::ops::Range;

/// A word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The bytes it stands for.
    pub bytes: Vec<u8>,
    /// Where it stands in the line, quotes included.
    pub place: Range<usize>,
    /// Whether any of it was in quotes.
    pub quoted: bool,
    /// Whether its quotes are closed and closed where they may be.
    pub whole: bool,
}

impl Token {
    /// The token's bytes as text, if they are that.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    /// Whether the token is this keyword, in any case of letters, outside quotes.
    pub fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.bytes.eq_ignore_ascii_case(keyword.as_bytes())
    }
}

/// The tokens of a line. One that is not [`Token::whole`] is the last.
pub fn tokens(line: &str) -> Vec<Token> {
    let bytes = line.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        if at == bytes.len() {
            return found;
        }
        let token = token(bytes, at);
        at = token.place.end;
        let whole = token.whole;
        found.push(token);
        if !whole {
            return found;
        }
    }
}

fn token(line: &[u8], start: usize) -> Token {
    let mut token = Token { bytes: Vec::new(), place: start..start, quoted: false, whole: true };
    let mut at = start;
    while let Some(&b) = line.get(at) {
        match b {
            b if b.is_ascii_whitespace() => break,
            b'"' | b'\'' => {
                token.quoted = true;
                let (end, closed) = quoted(line, at + 1, b, &mut token.bytes);
                at = end;
                let free = line.get(at).is_none_or(u8::is_ascii_whitespace);
                if !closed || !free {
                    token.whole = false;
                    at = line.len();
                }
                break;
            }
            _ => {
                token.bytes.push(b);
                at += 1;
            }
        }
    }
    token.place.end = at;
    token
}

/// Reads from behind an opening quote; gives the place behind the closing one and whether there
/// was one.
fn quoted(line: &[u8], mut at: usize, quote: u8, out: &mut Vec<u8>) -> (usize, bool) {
    while let Some(&b) = line.get(at) {
        at += 1;
        if b == quote {
            return (at, true);
        }
        if b != b'\\' {
            out.push(b);
            continue;
        }
        let Some(&kind) = line.get(at) else { break };
        if quote == b'\'' {
            if kind == b'\'' {
                at += 1;
                out.push(b'\'');
            } else {
                out.push(b'\\');
            }
            continue;
        }
        at += 1;
        match kind {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'a' => out.push(7),
            b'x' => match line.get(at..at + 2).and_then(hex) {
                Some(byte) => {
                    out.push(byte);
                    at += 2;
                }
                None => out.push(b'x'),
            },
            other => out.push(other),
        }
    }
    (at, false)
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |b: u8| (b as char).to_digit(16);
    Some((digit(digits[0])? * 16 + digit(digits[1])?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Option<Vec<Vec<u8>>> {
        let tokens = tokens(line);
        tokens.iter().all(|t| t.whole).then(|| tokens.into_iter().map(|t| t.bytes).collect())
    }

    #[test]
    fn lines_are_split_as_redis_cli_splits_them() {
        for (line, words) in [
            ("", &[][..]),
            ("  set  a b ", &[&b"set"[..], b"a", b"b"]),
            (r#"set "a b" 'c d'"#, &[b"set", b"a b", b"c d"]),
            (r#""\x00\xfF\n\"\\q""#, &[b"\x00\xff\n\"\\q"]),
            (r#"'\'\n'"#, &[b"'\\n"]),
            (r#""\xg1""#, &[b"xg1"]),
            (r#"pre"fix" x"#, &[b"prefix", b"x"]),
            (r#""""#, &[b""]),
            ("h\u{e9}", &["h\u{e9}".as_bytes()]),
        ] {
            let words: Vec<Vec<u8>> = words.iter().map(|w| w.to_vec()).collect();
            assert_eq!(split(line), Some(words), "{line}");
        }
        for line in [r#"""#, r#"set "a"#, r#""a"b"#, r#"'a'"b""#, r#""\"#, r#""\x0"#] {
            assert_eq!(split(line), None, "{line}");
        }
    }

    #[test]
    fn places_cover_the_words() {
        let line = r#"set  "a b" c"#;
        let places: Vec<&str> = tokens(line).into_iter().map(|t| &line[t.place]).collect();
        assert_eq!(places, ["set", r#""a b""#, "c"]);
    }
}

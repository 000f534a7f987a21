//! Words of an inline command, with quotes.
//!
//! Words stand apart by blanks. Between double quotes `\n \r \t \b \a \xHH` and `\` before any
//! other character are understood; between single quotes only `\'`. A closing quote must be
//! followed by a blank or the end.

use super::frame::Command;
use bytes::Bytes;

/// The words of a line; `None` if its quotes do not balance.
pub(super) fn split(line: &[u8]) -> Option<Command> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        // A zero byte ends the line, as it ends a C string in Redis.
        let start = rest.iter().position(|b| !b.is_ascii_whitespace() && *b != 0x0b);
        rest = match start {
            Some(start) if rest[start] != 0 => &rest[start..],
            _ => return Some(words),
        };
        let (word, after) = word(rest)?;
        words.push(word);
        rest = after;
    }
}

/// The word at the start of `text`, and what follows it.
fn word(text: &[u8]) -> Option<(Bytes, &[u8])> {
    let mut word = Vec::new();
    let mut rest = text;
    loop {
        match rest {
            [] | [0, ..] => return Some((word.into(), rest)),
            [b' ' | b'\n' | b'\r' | b'\t' | 0x0b | 0x0c, ..] => return Some((word.into(), rest)),
            [b'"', after @ ..] => return closed(double_quoted(after, &mut word)?, word),
            [b'\'', after @ ..] => return closed(single_quoted(after, &mut word)?, word),
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

/// Behind a closing quote stands a blank or nothing.
fn closed(rest: &[u8], word: Vec<u8>) -> Option<(Bytes, &[u8])> {
    match rest.first() {
        Some(byte) if !byte.is_ascii_whitespace() && *byte != 0x0b => None,
        _ => Some((word.into(), rest)),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            [b'\\', escaped, after @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                rest = after;
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                rest = after;
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line, and its words; none if the quotes do not balance.
    type Case = (&'static [u8], Option<&'static [&'static [u8]]>);

    #[test]
    fn lines_split_as_in_redis() {
        let cases: &[Case] = &[
            (b"", Some(&[])),
            (b"  \t ", Some(&[])),
            (b"SET k v", Some(&[b"SET", b"k", b"v"])),
            (b"  SET  k\tv  ", Some(&[b"SET", b"k", b"v"])),
            (b"\"a b\" c", Some(&[b"a b", b"c"])),
            (b"\"\" ''", Some(&[b"", b""])),
            (b"\"\\x41\\n\\r\\t\\b\\a\\\"\\q\"", Some(&[b"A\n\r\t\x08\x07\"q"])),
            (b"\"\\xzz\"", Some(&[b"xzz"])),
            (b"'it\\'s \\n'", Some(&[b"it's \\n"])),
            (b"a\"b c\"", Some(&[b"ab c"])),
            (b"\"a\"b", None),
            (b"'a'b", None),
            (b"\"a", None),
            (b"'a", None),
            (b"\"a\\", None),
            (b"set \"\"\"test-key\"\"\" test-value", None),
            (b"a\0b", Some(&[b"a"])),
        ];
        for (line, want) in cases {
            let got = split(line);
            let got: Option<Vec<&[u8]>> =
                got.as_ref().map(|words| words.iter().map(|word| &word[..]).collect());
            assert_eq!(got.as_deref(), *want, "{}", line.escape_ascii());
        }
    }
}

//! Redis-style glob patterns: `*`, `?`, `[a-z]`, `[^a-z]`, and `\` before a character to take it
//! literally.
//!
//! The match is iterative and remembers only the last `*`, so it takes at most
//! `pattern.len() * text.len()` steps: a pattern such as `a*a*a*b` cannot blow up, and a long
//! one cannot exhaust the stack.

/// Whether `text` matches `pattern` as a whole.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    matches_with(pattern, text, false)
}

/// As [`matches()`], without regard to the case of ASCII letters.
pub fn matches_ignore_case(pattern: &[u8], text: &[u8]) -> bool {
    matches_with(pattern, text, true)
}

fn matches_with(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on from when what follows the last `*` fails: the pattern behind the star, and
    // the text one further than it began last time.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            while p < pattern.len() && pattern[p] == b'*' {
                p += 1;
            }
            if p == pattern.len() {
                return true;
            }
            retry = Some((p, t));
            continue;
        }
        if t == text.len() {
            return p == pattern.len();
        }
        let step = if p < pattern.len() { one(&pattern[p..], text[t], ignore_case) } else { None };
        match (step, retry) {
            (Some(used), _) => {
                p += used;
                t += 1;
            }
            (None, Some((star, from))) => {
                p = star;
                t = from + 1;
                retry = Some((star, t));
            }
            (None, None) => return false,
        }
    }
}

/// Matches one byte against the element at the start of `pattern` (which is not a `*`); gives
/// the element's length if it matches.
fn one(pattern: &[u8], byte: u8, ignore_case: bool) -> Option<usize> {
    let fold = |b: u8| if ignore_case { b.to_ascii_lowercase() } else { b };
    match pattern[0] {
        b'?' => Some(1),
        b'[' => {
            let (matched, used) = class(pattern, fold(byte), fold);
            matched.then_some(used)
        }
        b'\\' if pattern.len() >= 2 => (fold(pattern[1]) == fold(byte)).then_some(2),
        literal => (fold(literal) == fold(byte)).then_some(1),
    }
}

/// A `[...]` class. An unclosed one ends with the pattern, as Redis has it.
fn class(pattern: &[u8], byte: u8, fold: impl Fn(u8) -> u8) -> (bool, usize) {
    let mut i = 1;
    let negated = pattern.get(i) == Some(&b'^');
    if negated {
        i += 1;
    }
    let mut found = false;
    while i < pattern.len() {
        match pattern[i] {
            b'\\' if i + 1 < pattern.len() => {
                i += 1;
                found |= fold(pattern[i]) == byte;
            }
            b']' => {
                i += 1;
                return (found != negated, i);
            }
            low if i + 2 < pattern.len() && pattern[i + 1] == b'-' => {
                let (a, b) = (fold(low), fold(pattern[i + 2]));
                found |= (a.min(b)..=a.max(b)).contains(&byte);
                i += 2;
            }
            literal => found |= fold(literal) == byte,
        }
        i += 1;
    }
    (found != negated, i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        let cases: &[(&str, &str, bool)] = &[
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*foo*", "xfooy", true),
            ("[abc", "b", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("[\\]]", "]", true),
        ];
        for (pattern, text, want) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), *want, "{pattern} {text}");
        }
        assert!(matches_ignore_case(b"MAX*", b"maxmemory"));
        assert!(!matches(b"MAX*", b"maxmemory"));
    }

    #[test]
    fn hostile_patterns_end_soon() {
        let text = vec![b'a'; 2000];
        let mut pattern = b"a*".repeat(500);
        pattern.push(b'b');
        assert!(!matches(&pattern, &text));
    }
}

//! What the console knows of a half-typed line: completions, the arguments still to come, colours.

use crate::op::command::COMMANDS;
use crate::repl::tokens::{Token, tokens};
use crate::repl::words::WORDS;

/// Names that begin as `start` does, in its case of letters, sorted.
pub fn completions(start: &str) -> Vec<String> {
    let upper = start.to_ascii_uppercase();
    let lower = start.chars().any(|c| c.is_ascii_lowercase());
    let words = WORDS.iter().map(|word| word.name.to_string());
    let commands = COMMANDS
        .iter()
        .filter(|spec| !spec.name.contains('|'))
        .map(|spec| spec.name.to_ascii_uppercase());
    let mut found: Vec<String> =
        words.chain(commands).filter(|name| name.starts_with(&upper)).collect();
    found.sort();
    found.dedup();
    if lower {
        found.iter_mut().for_each(|name| name.make_ascii_lowercase());
    }
    found
}

/// The usage line of a word or command.
pub fn usage(name: &[u8]) -> Option<&'static str> {
    let word = WORDS.iter().find(|word| word.name.as_bytes().eq_ignore_ascii_case(name));
    let spec = || COMMANDS.iter().find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name));
    // GET and SCAN are both; the console's words say more here.
    word.map(|word| word.usage).or_else(|| spec().map(|spec| spec.usage))
}

/// What may follow `line`: the part of the usage line that is not typed yet.
pub fn hint(line: &str) -> Option<String> {
    let tokens = tokens(line);
    let open = !line.ends_with(char::is_whitespace);
    let (name, args) = tokens.split_first()?;
    if args.is_empty() && open && usage(&name.bytes).is_none() {
        return None;
    }
    let items = items(usage(&name.bytes)?);
    let needed = items.iter().take_while(|item| !item.starts_with('[')).count();
    let left = items[args.len().min(needed)..].join(" ");
    if left.is_empty() {
        return None;
    }
    Some(if open { format!(" {left}") } else { left })
}

/// The parts of a usage line: names, and whole bracketed groups.
fn items(usage: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut depth = 0;
    let mut start = None;
    for (at, c) in usage.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if c == ' ' && depth == 0 {
            found.extend(start.take().map(|start| &usage[start..at]));
        } else {
            start.get_or_insert(at);
        }
    }
    found.extend(start.map(|start| &usage[start..]));
    found
}

/// The line in colour.
pub fn paint(line: &str) -> String {
    let mut out = String::with_capacity(line.len() + 32);
    let mut from = 0;
    for (i, token) in tokens(line).iter().enumerate() {
        let text = &line[token.place.clone()];
        out.push_str(&line[from..token.place.start]);
        match ink(token, i == 0) {
            Some(ink) => out.push_str(&format!("\x1b[{ink}m{text}\x1b[0m")),
            None => out.push_str(text),
        }
        from = token.place.end;
    }
    out.push_str(&line[from..]);
    out
}

fn ink(token: &Token, first: bool) -> Option<&'static str> {
    if !token.whole {
        return Some("31");
    }
    if first {
        return usage(&token.bytes).map(|_| "1;36");
    }
    if token.quoted {
        return Some("32");
    }
    token.text().filter(|text| text.parse::<f64>().is_ok()).map(|_| "33")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_in_the_case_they_were_begun() {
        assert!(completions("CRE").contains(&"CREATECF".to_string()));
        assert!(completions("pu").contains(&"put".to_string()));
        assert!(completions("nonsense").is_empty());
    }

    #[test]
    fn the_hint_is_what_is_still_to_come() {
        assert_eq!(hint("PUT").as_deref(), Some(" key value [TTL seconds]"));
        assert_eq!(hint("put ").as_deref(), Some("key value [TTL seconds]"));
        assert_eq!(hint("put \"a b\"").as_deref(), Some(" value [TTL seconds]"));
        assert_eq!(hint("put k v ").as_deref(), Some("[TTL seconds]"));
        assert_eq!(hint("put k v TTL 5").as_deref(), Some(" [TTL seconds]"));
        assert_eq!(hint("delete k"), None);
        assert_eq!(hint("nonsense x"), None);
    }

    #[test]
    fn painting_keeps_the_text() {
        for line in ["put \"k\" 12  x", "  get", "", "put \"open", "h\u{e9} \u{e9}"] {
            let mut plain = paint(line);
            for ink in ["31", "1;36", "32", "33", "0"] {
                plain = plain.replace(&format!("\x1b[{ink}m"), "");
            }
            assert_eq!(plain, line);
        }
    }
}

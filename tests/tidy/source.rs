//! A source file as the rules see it: comments and literals blanked, paths resolved, test code
//! and functions found. It reads Rust well enough for code that rustfmt has been over.

use std::collections::BTreeMap;

/// One Rust file.
pub(crate) struct Source {
    /// Path from the top of the repository, with `/`.
    pub(crate) path: String,
    /// The text as written.
    pub(crate) raw: String,
    /// The same length, with comments, strings and characters blanked.
    pub(crate) code: Vec<u8>,
    /// Whether the whole file is test code.
    pub(crate) is_test: bool,
    /// Byte ranges of `#[cfg(test)]` items.
    tests: Vec<(usize, usize)>,
    /// Byte ranges of inline modules.
    inline: Vec<(usize, usize)>,
    line_starts: Vec<usize>,
}

/// A path named in code, such as `crate::lsm::key::Kind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its segments; the first one resolved through the file's `use` lines where it can be.
    pub(crate) segments: Vec<String>,
    /// Byte offset.
    pub(crate) at: usize,
}

impl Named {
    /// The path as text.
    pub(crate) fn text(&self) -> String {
        self.segments.join("::")
    }

    /// Whether the path is `prefix` or lies below it.
    pub(crate) fn is_below(&self, prefix: &str) -> bool {
        let wanted: Vec<&str> = prefix.split("::").collect();
        self.segments.len() >= wanted.len()
            && self.segments.iter().zip(&wanted).all(|(have, want)| have == want)
    }
}

/// A function's name, its lines, and where the attributes and comments above it begin.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) lead: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Source {
    pub(crate) fn new(path: &str, raw: &str) -> Source {
        let code = blank(raw);
        let mut line_starts = vec![0];
        line_starts
            .extend(raw.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1));
        let mut source = Source {
            path: path.to_string(),
            raw: raw.to_string(),
            code,
            is_test: false,
            tests: Vec::new(),
            inline: Vec::new(),
            line_starts,
        };
        source.tests = source.test_items();
        source.inline = source.inline_modules();
        source
    }

    /// Line number of a byte, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }

    /// Lines of the file.
    pub(crate) fn lines(&self) -> usize {
        self.raw.lines().count()
    }

    /// Whether a byte is test code.
    pub(crate) fn in_tests(&self, at: usize) -> bool {
        self.is_test || self.tests.iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    /// The file's module path below the crate: `src/a/b.rs` is `[a, b]`, `src/a/mod.rs` is `[a]`.
    pub(crate) fn module(&self) -> Vec<String> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut parts: Vec<String> = inner.split('/').map(str::to_string).collect();
        if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            parts.pop();
        }
        parts
    }

    /// Offsets of a whole word in code.
    pub(crate) fn words(&self, word: &str) -> Vec<usize> {
        idents(&self.code).filter(|(_, text)| *text == word.as_bytes()).map(|(at, _)| at).collect()
    }

    /// Modules declared without a body: the module path of the file meant, and whether
    /// `#[cfg(test)]` stands above.
    pub(crate) fn declared_modules(&self) -> Vec<(Vec<String>, bool)> {
        let all: Vec<(usize, &[u8])> = idents(&self.code).collect();
        let mut found = Vec::new();
        for pair in all.windows(2) {
            let ((at, word), (name_at, name)) = (pair[0], pair[1]);
            let end = name_at + name.len();
            if word != b"mod" || self.next_char(end).is_none_or(|(_, c)| c != b';') {
                continue;
            }
            let mut module = self.module();
            match self.path_attribute(at) {
                Some(file) => {
                    // Such a path starts from the folder, not from the module.
                    if !self.path.ends_with("/mod.rs") {
                        module.pop();
                    }
                    module.extend(file.trim_end_matches(".rs").split('/').map(str::to_string));
                }
                None => module.push(text(name)),
            }
            found.push((module, self.in_tests(at)));
        }
        found
    }

    /// What `#[path = "..."]` says of the item at `at`.
    fn path_attribute(&self, at: usize) -> Option<&str> {
        let from = self.code[..at].iter().rposition(|b| matches!(b, b';' | b'}'));
        let lead = &self.raw[from.map_or(0, |n| n + 1)..at];
        lead.split_once("#[path = \"")?.1.split_once('"').map(|(file, _)| file)
    }

    /// Names of inline modules, with their offsets.
    pub(crate) fn inline_names(&self) -> Vec<(String, usize)> {
        let all: Vec<(usize, &[u8])> = idents(&self.code).collect();
        all.windows(2)
            .filter(|pair| pair[0].1 == b"mod")
            .filter(|pair| {
                let end = pair[1].0 + pair[1].1.len();
                self.next_char(end).is_some_and(|(_, c)| c == b'{')
            })
            .map(|pair| (text(pair[1].1), pair[0].0))
            .collect()
    }

    /// Every function with a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let all: Vec<(usize, &[u8])> = idents(&self.code).collect();
        let mut found = Vec::new();
        for pair in all.windows(2) {
            let ((at, word), (name_at, name)) = (pair[0], pair[1]);
            let gap = &self.code[at + word.len()..name_at];
            if word != b"fn" || !gap.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let Some(open) = self.body_after(name_at) else { continue };
            let end = self.closing(open);
            let (start, last) = (self.line(at), self.line(end));
            found.push(Function { name: text(name), lead: self.lead_of(start), start, end: last });
        }
        found
    }

    /// Every path of two segments or more, those of `use` trees included, with `self`, `super`
    /// and imported first names resolved.
    pub(crate) fn paths(&self) -> Vec<Named> {
        let mut out = Vec::new();
        let mut imported: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut uses = Vec::new();
        for at in self.words("use") {
            let end = self.code[at..].iter().position(|b| *b == b';').map_or(at, |n| at + n);
            // `impl Trait + use<'a>` is no import.
            if self.next_char(at + 3).is_none_or(|(_, c)| c == b'<') {
                continue;
            }
            uses.push((at, end));
            for (segments, alias, leaf_at) in use_tree(&self.code, at + 3, end) {
                let segments = self.absolute(segments, leaf_at);
                imported.insert(alias, segments.clone());
                out.push(Named { segments, at: leaf_at });
            }
        }
        for (segments, at) in chains(&self.code) {
            if uses.iter().any(|(from, to)| (*from..*to).contains(&at)) {
                continue;
            }
            let mut resolved = match imported.get(&segments[0]) {
                Some(full) => full.iter().chain(&segments[1..]).cloned().collect(),
                None => segments,
            };
            resolved = self.absolute(resolved, at);
            out.push(Named { segments: resolved, at });
        }
        out
    }

    /// `super::x` and `self::x` as `crate::...`.
    fn absolute(&self, segments: Vec<String>, at: usize) -> Vec<String> {
        if !matches!(segments[0].as_str(), "super" | "self") {
            return segments;
        }
        let nested = self.inline.iter().filter(|(from, to)| (*from..*to).contains(&at)).count();
        let mut module = self.module();
        module.extend((0..nested).map(|n| format!("inline{n}")));
        let mut rest = segments.as_slice();
        while let Some((first, tail)) = rest.split_first() {
            match first.as_str() {
                "super" => {
                    module.pop();
                }
                "self" => {}
                _ => break,
            }
            rest = tail;
        }
        let mut full = vec!["crate".to_string()];
        full.extend(module);
        full.extend(rest.iter().cloned());
        full
    }

    fn test_items(&self) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let pattern = b"cfg(test)";
        for at in 0..self.code.len().saturating_sub(pattern.len()) {
            if &self.code[at..at + pattern.len()] == pattern
                && let Some(end) = self.item_end(at + pattern.len())
            {
                found.push((at, end));
            }
        }
        found
    }

    fn inline_modules(&self) -> Vec<(usize, usize)> {
        let spans = self.inline_names().into_iter().map(|(_, at)| at);
        spans.filter_map(|at| self.body_after(at).map(|open| (open, self.closing(open)))).collect()
    }

    /// Where the item after an attribute ends: its closing brace, or its semicolon.
    fn item_end(&self, from: usize) -> Option<usize> {
        let mut depth = 0i32;
        for at in from..self.code.len() {
            match self.code[at] {
                b'(' | b'[' => depth += 1,
                b')' | b']' => depth -= 1,
                b';' if depth <= 0 => return Some(at + 1),
                b'{' => return Some(self.closing(at)),
                _ => {}
            }
        }
        None
    }

    /// The first `{` after `from` outside brackets, unless a `;` comes first.
    fn body_after(&self, from: usize) -> Option<usize> {
        let mut depth = 0i32;
        for at in from..self.code.len() {
            match self.code[at] {
                b'(' | b'[' => depth += 1,
                b')' | b']' => depth -= 1,
                b';' if depth == 0 => return None,
                b'{' if depth == 0 => return Some(at),
                _ => {}
            }
        }
        None
    }

    fn closing(&self, open: usize) -> usize {
        let mut depth = 0i32;
        for at in open..self.code.len() {
            match self.code[at] {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at;
            }
        }
        self.code.len()
    }

    /// The first line of the attributes and comments directly above a line.
    fn lead_of(&self, line: usize) -> usize {
        let lines: Vec<&str> = self.raw.lines().collect();
        let mut lead = line;
        while lead > 1 {
            let above = lines[lead - 2].trim_start();
            if !(above.starts_with("//") || above.starts_with("#[")) || above.starts_with("//!") {
                break;
            }
            lead -= 1;
        }
        lead
    }

    fn next_char(&self, from: usize) -> Option<(usize, u8)> {
        (from..self.code.len())
            .map(|at| (at, self.code[at]))
            .find(|(_, c)| !c.is_ascii_whitespace())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_ident(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80
}

/// Identifiers and numbers, with their offsets.
fn idents(code: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < code.len() && !is_ident(code[at]) {
            at += 1;
        }
        let start = at;
        while at < code.len() && is_ident(code[at]) {
            at += 1;
        }
        (start < at).then(|| (start, &code[start..at]))
    })
}

/// `a::b::c` outside of `use`, at least two segments.
fn chains(code: &[u8]) -> Vec<(Vec<String>, usize)> {
    let mut found: Vec<(Vec<String>, usize)> = Vec::new();
    let mut open: Option<(Vec<String>, usize, usize)> = None;
    for (at, word) in idents(code) {
        let end = at + word.len();
        open = match open.take() {
            Some((mut segments, start, last)) if is_joint(&code[last..at]) => {
                segments.push(text(word));
                Some((segments, start, end))
            }
            done => {
                found.extend(done.map(|(segments, start, _)| (segments, start)));
                Some((vec![text(word)], at, end))
            }
        };
    }
    found.extend(open.map(|(segments, start, _)| (segments, start)));
    found.retain(|(segments, _)| segments.len() > 1);
    found
}

/// Whether what stands between two words is `::`, with or without line breaks.
fn is_joint(gap: &[u8]) -> bool {
    let dense: Vec<u8> = gap.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    dense == b"::"
}

/// The leaves of a `use` tree: path, the name it gets, offset.
fn use_tree(code: &[u8], from: usize, to: usize) -> Vec<(Vec<String>, String, usize)> {
    let mut leaves = Vec::new();
    let mut stack: Vec<Vec<String>> = Vec::new();
    let mut current: Vec<String> = Vec::new();
    let (mut alias, mut begun): (Option<String>, usize) = (None, from);
    let mut renaming = false;
    let mut at = from;
    let mut finish = |current: &mut Vec<String>, alias: &mut Option<String>, begun: usize| {
        if let Some(last) = current.last().cloned() {
            if last == "self" && current.len() > 1 {
                current.pop();
            }
            let name = alias.take().or_else(|| current.last().cloned()).unwrap_or(last);
            leaves.push((current.clone(), name, begun));
        }
    };
    let mut in_group = false;
    while at < to {
        let b = code[at];
        if is_ident(b) {
            let start = at;
            while at < to && is_ident(code[at]) {
                at += 1;
            }
            let word = text(&code[start..at]);
            if word == "as" {
                renaming = true;
            } else if renaming {
                alias = Some(word);
                renaming = false;
            } else {
                begun = start;
                current.push(word);
                in_group = false;
            }
            continue;
        }
        match b {
            b'{' => {
                stack.push(current.clone());
                in_group = true;
            }
            b',' | b'}' => {
                if !in_group {
                    finish(&mut current, &mut alias, begun);
                }
                current = stack.last().cloned().unwrap_or_default();
                in_group = true;
                if b == b'}' {
                    stack.pop();
                }
            }
            b'*' => {
                current.push("*".to_string());
                in_group = false;
            }
            _ => {}
        }
        at += 1;
    }
    if !in_group {
        finish(&mut current, &mut alias, begun);
    }
    leaves
}

/// Blanks comments, strings and characters, keeping every line break and length.
fn blank(raw: &str) -> Vec<u8> {
    let b = raw.as_bytes();
    let mut out = b.to_vec();
    let mut at = 0;
    while at < b.len() {
        let end = match b[at] {
            b'/' if b[at..].starts_with(b"//") => {
                b[at..].iter().position(|c| *c == b'\n').map_or(b.len(), |n| at + n)
            }
            b'/' if b[at..].starts_with(b"/*") => block_comment_end(b, at),
            b'"' => string_end(b, at),
            b'r' if !preceded_by_ident(b, at) => raw_string_end(b, at).unwrap_or(at),
            b'b' if b[at..].starts_with(b"br") && !preceded_by_ident(b, at) => {
                raw_string_end(b, at + 1).unwrap_or(at)
            }
            b'\'' => char_end(b, at).unwrap_or(at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    out
}

fn preceded_by_ident(b: &[u8], at: usize) -> bool {
    at > 0 && is_ident(b[at - 1]) && !(b[at - 1] == b'b' && (at < 2 || !is_ident(b[at - 2])))
}

fn block_comment_end(b: &[u8], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at < b.len() {
        if b[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if b[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    b.len()
}

fn string_end(b: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < b.len() && b[at] != b'"' {
        at += if b[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(b.len())
}

fn raw_string_end(b: &[u8], from: usize) -> Option<usize> {
    let hashes = b[from + 1..].iter().take_while(|c| **c == b'#').count();
    let open = from + 1 + hashes;
    if b.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.extend(std::iter::repeat_n(b'#', hashes));
    let body = b.get(open + 1..)?;
    let end = body.windows(close.len()).position(|w| w == close);
    Some(end.map_or(b.len(), |n| open + 1 + n + close.len()))
}

/// The end of a character literal; `None` for a lifetime.
fn char_end(b: &[u8], from: usize) -> Option<usize> {
    if b.get(from + 1) == Some(&b'\\') {
        let close = b[from + 3..].iter().position(|c| *c == b'\'')?;
        return Some(from + 3 + close + 1);
    }
    let width = match b.get(from + 1)? {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    };
    (b.get(from + 1 + width) == Some(&b'\'')).then_some(from + width + 2)
}

//! A usage line read as a tree of arguments, so that what `COMMAND DOCS` tells clients cannot
//! differ from what people read.
//!
//! ```text
//! line    = { item }
//! item    = "[" alternatives "]"    optional; with "..." last, what stands before may repeat
//!         | TOKEN [ name ]          an upper-case word, alone or before the value it announces
//!         | name                    a lower-case word: a value
//! alternatives = line { "|" line }
//! ```
//! `key [key ...]` is one argument that may repeat, and `key value [key value ...]` one block.

/// An argument of a command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Arg {
    /// Name of the value, or the token in lower case.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The word that announces it.
    pub(super) token: Option<String>,
    pub(super) optional: bool,
    pub(super) multiple: bool,
    /// Parts of a block, or the choices of a one-of.
    pub(super) parts: Vec<Arg>,
}

/// What an argument is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    #[default]
    String,
    Integer,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

impl Kind {
    /// The name Redis has for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Key => "key",
            Kind::Pattern => "pattern",
            Kind::UnixTime => "unix-time",
            Kind::PureToken => "pure-token",
            Kind::OneOf => "oneof",
            Kind::Block => "block",
        }
    }

    /// Guessed from the name of a value: the table keeps to these names.
    fn of(name: &str) -> Kind {
        match name {
            "key" | "key1" | "key2" | "newkey" | "destkey" | "source" | "destination" => Kind::Key,
            "pattern" => Kind::Pattern,
            "unix-time-seconds" | "unix-time-milliseconds" => Kind::UnixTime,
            "seconds" | "milliseconds" | "count" | "offset" | "start" | "end" | "bit" | "db"
            | "destination-db" | "index" | "index1" | "index2" | "cursor" | "ttl" | "frequency"
            | "decrement" | "increment" | "min-match-len" | "client-id" | "timeout"
            | "numreplicas" | "protover" => Kind::Integer,
            _ => Kind::String,
        }
    }
}

/// The arguments of a usage line.
pub(super) fn parse(usage: &str) -> Vec<Arg> {
    let spaced = usage.replace('[', " [ ").replace(']', " ] ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let mut choices = alternatives(&words, &mut at);
    if choices.len() == 1 { choices.swap_remove(0) } else { vec![one_of(choices)] }
}

/// Reads up to the `]` that closes what is open, or to the end.
fn alternatives(words: &[&str], at: &mut usize) -> Vec<Vec<Arg>> {
    let mut choices = vec![Vec::new()];
    while let Some(&word) = words.get(*at) {
        *at += 1;
        let Some(items) = choices.last_mut() else { break };
        match word {
            "]" => break,
            "|" => choices.push(Vec::new()),
            "[" => {
                let inner = alternatives(words, at);
                optional(items, inner);
            }
            "..." => {
                if let Some(last) = items.last_mut() {
                    last.multiple = true;
                }
            }
            _ if is_token(word) => items.push(token(word, words, at)),
            _ => items.push(Arg { name: word.to_string(), kind: Kind::of(word), ..Arg::default() }),
        }
    }
    choices
}

fn is_token(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
}

/// A token, with the values behind it (up to what is no value) as its own.
fn token(word: &str, words: &[&str], at: &mut usize) -> Arg {
    let values: Vec<&str> = words[*at..]
        .iter()
        .copied()
        .take_while(|w| !matches!(*w, "[" | "]" | "|" | "...") && !is_token(w))
        .collect();
    *at += values.len();
    let token = Some(word.to_string());
    match values[..] {
        [] => Arg { name: word.to_lowercase(), kind: Kind::PureToken, token, ..Arg::default() },
        [name] => Arg { name: name.to_string(), kind: Kind::of(name), token, ..Arg::default() },
        _ => {
            let parts: Vec<Arg> = values
                .iter()
                .map(|name| Arg { name: name.to_string(), kind: Kind::of(name), ..Arg::default() })
                .collect();
            Arg { token, ..block(parts) }
        }
    }
}

/// Adds `[inner]` behind `items`; `a [a ...]` becomes an `a` that repeats.
fn optional(items: &mut Vec<Arg>, mut choices: Vec<Vec<Arg>>) {
    let mut arg = if choices.len() == 1 {
        let mut parts = choices.swap_remove(0);
        if parts.last().is_some_and(|last| last.multiple) {
            if let Some(last) = parts.last_mut() {
                last.multiple = false;
            }
            if items.ends_with(&parts) {
                let tail = items.split_off(items.len() - parts.len());
                items.push(Arg { multiple: true, ..single(tail) });
                return;
            }
            Arg { multiple: true, ..single(parts) }
        } else {
            single(parts)
        }
    } else {
        let multiple =
            choices.last().and_then(|choice| choice.last()).is_some_and(|last| last.multiple);
        if let Some(last) = choices.last_mut().and_then(|choice| choice.last_mut()) {
            last.multiple = false;
        }
        Arg { multiple, ..one_of(choices) }
    };
    arg.optional = true;
    items.push(arg);
}

fn single(mut parts: Vec<Arg>) -> Arg {
    if parts.len() == 1 { parts.swap_remove(0) } else { block(parts) }
}

fn block(parts: Vec<Arg>) -> Arg {
    Arg { name: joined(&parts), kind: Kind::Block, parts, ..Arg::default() }
}

fn one_of(choices: Vec<Vec<Arg>>) -> Arg {
    let parts: Vec<Arg> = choices.into_iter().map(single).collect();
    Arg { name: joined(&parts), kind: Kind::OneOf, parts, ..Arg::default() }
}

fn joined(parts: &[Arg]) -> String {
    parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree on one line: `name:kind`, `=TOKEN`, `?` optional, `*` multiple, parts in `()`.
    fn show(args: &[Arg]) -> String {
        let one = |arg: &Arg| {
            let mut s = format!("{}:{}", arg.name, arg.kind.name());
            if let Some(token) = &arg.token {
                s += &format!("={token}");
            }
            if arg.optional {
                s += "?";
            }
            if arg.multiple {
                s += "*";
            }
            if !arg.parts.is_empty() {
                s += &format!("({})", show(&arg.parts));
            }
            s
        };
        args.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn usage_lines_become_trees() {
        let cases = [
            ("", ""),
            ("key [key ...]", "key:key*"),
            ("key value [key value ...]", "key_value:block*(key:key value:string)"),
            (
                "key [NX | XX] [EX seconds | KEEPTTL]",
                "key:key nx_xx:oneof?(nx:pure-token=NX xx:pure-token=XX) \
                 seconds_keepttl:oneof?(seconds:integer=EX keepttl:pure-token=KEEPTTL)",
            ),
            (
                "key [start end [BYTE | BIT]]",
                "key:key start_end_byte_bit:block?(start:integer end:integer \
                 byte_bit:oneof?(byte:pure-token=BYTE bit:pure-token=BIT))",
            ),
            ("cursor [MATCH pattern]", "cursor:integer pattern:pattern=MATCH?"),
            ("ON | OFF", "on_off:oneof(on:pure-token=ON off:pure-token=OFF)"),
            ("[name [name ...]]", "name:string?*"),
        ];
        for (usage, tree) in cases {
            assert_eq!(show(&parse(usage)), tree, "{usage}");
        }
    }
}

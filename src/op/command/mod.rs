//! The one command table. Every Redis command the product knows is described here once; what
//! each does lives elsewhere (data commands in `redis/`, connection commands in `serve/resp`).
//!
//! In reading order:
//! - `id`: [`Id`], a number for each command, to match on.
//! - `table`: the entries, one file a group of commands.
//! - `lookup`: from the arguments of a call to its entry, or the error Redis gives.
//! - `keys`: the keys of a call, and what it does with them.
//! - `usage`: a usage line read as a tree of arguments.
//! - `about`: what COMMAND answers: INFO, DOCS, LIST, COUNT, GETKEYS.
//!
//! Invariants owed to those who read the table:
//! - Names are in lower case and unique; a subcommand's name begins with its container's.
//! - `keys` and `key_specs` say the same of every call that has the right number of arguments.

mod about;
mod id;
mod keys;
mod lookup;
mod table;
mod usage;

#[cfg(test)]
mod tests;

pub use about::{answer, docs_reply, help_reply, info_reply};
pub use id::Id;
pub use keys::{keys_of, keys_with_flags};
pub use lookup::{COMMANDS, find, lookup, lookup_after};

/// Where a command is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// By the connection: HELLO, CLIENT, MULTI, CONFIG, INFO, COMMAND...
    Connection,
    /// By the shard that holds its keys.
    Data,
}

/// Where a command's keys stand among its arguments, as Redis's legacy triple:
/// `first`, `last` (negative counts from the end) and `step`. All 0 for no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRange {
    /// Position of the first key; the name is position 0.
    pub first: i32,
    /// Position of the last key.
    pub last: i32,
    /// Distance between keys.
    pub step: i32,
}

/// A run of keys among a command's arguments, and what the command does with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpec {
    /// Position of the first key; the name is position 0. It is 0 for keys whose positions
    /// only the other arguments tell.
    pub first: u8,
    /// The last key, counted from `first`; negative counts from the end of the arguments.
    pub last: i8,
    /// Distance between keys.
    pub step: u8,
    /// Redis's flags of use: `RO`, `RW`, `OW`, `RM`, then `access`, `update`, `insert`, `delete`.
    pub flags: &'static [&'static str],
}

impl KeySpec {
    const fn one(first: u8, flags: &'static [&'static str]) -> KeySpec {
        KeySpec { first, last: 0, step: 1, flags }
    }

    const fn two(first: u8, flags: &'static [&'static str]) -> KeySpec {
        KeySpec { first, last: 1, step: 1, flags }
    }

    const fn rest(first: u8, step: u8, flags: &'static [&'static str]) -> KeySpec {
        KeySpec { first, last: -1, step, flags }
    }

    const fn unknown(flags: &'static [&'static str]) -> KeySpec {
        KeySpec { first: 0, last: 0, step: 0, flags }
    }

    /// Whether only the other arguments tell where the keys stand.
    pub fn is_unknown(&self) -> bool {
        self.first == 0
    }
}

/// Says that a command is kept only for old clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deprecated {
    /// The Redis version since which it is.
    pub since: &'static str,
    /// What to use instead.
    pub instead: &'static str,
}

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// What to match on when executing it.
    pub id: Id,
    /// Lower-case name; a subcommand's is `container|sub`.
    pub name: &'static str,
    /// Number of arguments with the name; negative is a minimum.
    pub arity: i32,
    /// Redis's flags, as `COMMAND INFO` prints them: `write`, `readonly`, `denyoom`, `fast`...
    pub flags: &'static [&'static str],
    /// Key positions.
    pub keys: KeyRange,
    /// The same run by run, with what is done to the keys.
    pub key_specs: &'static [KeySpec],
    /// ACL categories with the `@`.
    pub categories: &'static [&'static str],
    /// One sentence on what it does, in our words.
    pub summary: &'static str,
    /// The arguments, as a usage line prints them: `key value [EX seconds | PX ms] [NX | XX]`.
    pub usage: &'static str,
    /// Redis version that brought it.
    pub since: &'static str,
    /// `string`, `generic`, `bitmap`, `connection`, `server`, `transactions`...
    pub group: &'static str,
    /// Cost, such as `O(1)`.
    pub complexity: &'static str,
    /// Redis's tips for cluster clients and proxies.
    pub tips: &'static [&'static str],
    /// Whether and since when it is kept only for old clients.
    pub deprecated: Option<Deprecated>,
    /// Who executes it.
    pub place: Place,
    /// Subcommands, of a container such as CLIENT.
    pub subcommands: &'static [Spec],
}

impl Spec {
    /// Whether the command has `flag`.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// Whether the command may change a key.
    pub fn is_write(&self) -> bool {
        self.has_flag("write")
    }

    /// The position of the key of a command that names exactly one, whatever its arguments.
    pub fn only_key(&self) -> Option<usize> {
        match self.key_specs {
            [run] if run.last == 0 && !run.is_unknown() => Some(usize::from(run.first)),
            _ => None,
        }
    }

    /// Whether `argc` arguments (with the name) are a number the command takes.
    pub fn takes(&self, argc: usize) -> bool {
        let argc = i32::try_from(argc).unwrap_or(i32::MAX);
        if self.arity >= 0 { argc == self.arity } else { argc >= -self.arity }
    }

    /// Whether the command is neither a container nor in one, so that its name alone calls it.
    fn is_plain(&self) -> bool {
        self.subcommands.is_empty() && !self.name.contains('|')
    }

    /// The name without its container's: `kill` of `client|kill`.
    pub fn short_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, sub)| sub)
    }

    /// The subcommand of that short name, in any case of letters.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Spec> {
        self.subcommands.iter().find(|sub| sub.short_name().as_bytes().eq_ignore_ascii_case(name))
    }
}

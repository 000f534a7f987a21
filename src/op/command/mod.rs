//! The one command table. Every Redis command the product knows is described here once; what
//! each does lives elsewhere (data commands in `redis/`, connection commands in `serve/resp`).

mod table;

pub use table::COMMANDS;

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

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// Lower-case name; a subcommand's is `container|sub`.
    pub name: &'static str,
    /// Number of arguments with the name; negative is a minimum.
    pub arity: i32,
    /// Redis's flags, as `COMMAND INFO` prints them: `write`, `readonly`, `denyoom`, `fast`...
    pub flags: &'static [&'static str],
    /// Key positions.
    pub keys: KeyRange,
    /// ACL categories without the `@`.
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

    /// Whether `argc` arguments (with the name) are a number the command takes.
    pub fn takes(&self, argc: usize) -> bool {
        let argc = i32::try_from(argc).unwrap_or(i32::MAX);
        if self.arity >= 0 { argc == self.arity } else { argc >= -self.arity }
    }
}

/// The command of that name, in any case of letters.
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    COMMANDS.iter().find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
}

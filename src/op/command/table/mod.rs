//! The table itself, one file a group. Names, arities, flags, key positions and categories are
//! those of Redis 7.0 (CLIENT SETINFO and NO-TOUCH: 7.2); a command that is not executed is not
//! here. Each list is in the order of names, subcommands too.

mod bitmaps;
mod client;
mod cluster;
mod connection;
mod expiry;
mod keys;
mod server;
mod strings;
mod transactions;

use super::{Id, KeyRange, Place, Spec};

pub(super) static GROUPS: &[&[Spec]] = &[
    strings::COMMANDS,
    bitmaps::COMMANDS,
    keys::COMMANDS,
    expiry::COMMANDS,
    transactions::COMMANDS,
    connection::COMMANDS,
    client::COMMANDS,
    cluster::COMMANDS,
    server::COMMANDS,
];

/// What an entry has where it says nothing.
const BLANK: Spec = Spec {
    id: Id::Command,
    name: "",
    arity: 0,
    flags: &[],
    keys: KeyRange { first: 0, last: 0, step: 0 },
    key_specs: &[],
    categories: &[],
    summary: "",
    usage: "",
    since: "",
    group: "",
    complexity: "",
    tips: &[],
    deprecated: None,
    place: Place::Connection,
    subcommands: &[],
};

const FIRST: KeyRange = KeyRange { first: 1, last: 1, step: 1 };
const FIRST_TWO: KeyRange = KeyRange { first: 1, last: 2, step: 1 };
const SECOND: KeyRange = KeyRange { first: 2, last: 2, step: 1 };
const SECOND_ON: KeyRange = KeyRange { first: 2, last: -1, step: 1 };
const REST: KeyRange = KeyRange { first: 1, last: -1, step: 1 };
const PAIRS: KeyRange = KeyRange { first: 1, last: -1, step: 2 };

//! Transactions: commands queued, then executed as one step.

use super::{BLANK, REST};
use crate::op::command::{Id, KeySpec, Place, Spec};

const BASE: Spec = Spec { group: "transactions", place: Place::Connection, ..BLANK };

pub(super) static COMMANDS: &[Spec] = &[
    Spec {
        id: Id::Discard,
        name: "discard",
        arity: 1,
        flags: &["noscript", "loading", "stale", "fast", "allow_busy"],
        categories: &["@fast", "@transaction"],
        summary: "Drops the commands queued since MULTI.",
        since: "2.0.0",
        complexity: "O(N), N commands queued",
        ..BASE
    },
    Spec {
        id: Id::Exec,
        name: "exec",
        arity: 1,
        flags: &["noscript", "loading", "stale", "skip_slowlog"],
        categories: &["@slow", "@transaction"],
        summary: "Executes the commands queued since MULTI as one step.",
        since: "1.2.0",
        complexity: "Depends on the commands queued",
        ..BASE
    },
    Spec {
        id: Id::Multi,
        name: "multi",
        arity: 1,
        flags: &["noscript", "loading", "stale", "fast", "allow_busy"],
        categories: &["@fast", "@transaction"],
        summary: "Begins to queue commands for EXEC.",
        since: "1.2.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Unwatch,
        name: "unwatch",
        arity: 1,
        flags: &["noscript", "loading", "stale", "fast", "allow_busy"],
        categories: &["@fast", "@transaction"],
        summary: "Forgets all keys watched.",
        since: "2.2.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Watch,
        name: "watch",
        arity: -2,
        flags: &["noscript", "loading", "stale", "fast", "allow_busy"],
        keys: REST,
        key_specs: &[KeySpec::rest(1, 1, &["RO"])],
        categories: &["@fast", "@transaction"],
        summary: "Makes the next EXEC depend on keys staying as they are.",
        usage: "key [key ...]",
        since: "2.2.0",
        complexity: "O(N), N keys",
        ..BASE
    },
];

//! Connection: who is speaking, and how.

use super::BLANK;
use crate::op::command::{Id, Place, Spec};

const BASE: Spec = Spec { group: "connection", place: Place::Connection, ..BLANK };

pub(super) static COMMANDS: &[Spec] = &[
    Spec {
        id: Id::Auth,
        name: "auth",
        arity: -2,
        flags: &["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"],
        categories: &["@fast", "@connection"],
        summary: "Proves who the client is.",
        usage: "[username] password",
        since: "1.0.0",
        complexity: "O(N), N passwords of the user",
        ..BASE
    },
    Spec {
        id: Id::Echo,
        name: "echo",
        arity: 2,
        flags: &["loading", "stale", "fast"],
        categories: &["@fast", "@connection"],
        summary: "Gives back the message.",
        usage: "message",
        since: "1.0.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Hello,
        name: "hello",
        arity: -1,
        flags: &["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"],
        categories: &["@fast", "@connection"],
        summary: "Agrees on a protocol version and tells about the server.",
        usage: "[protover [AUTH username password] [SETNAME clientname]]",
        since: "6.0.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Ping,
        name: "ping",
        arity: -1,
        flags: &["fast"],
        categories: &["@fast", "@connection"],
        summary: "Answers PONG, or the message.",
        usage: "[message]",
        since: "1.0.0",
        complexity: "O(1)",
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        ..BASE
    },
    Spec {
        id: Id::Quit,
        name: "quit",
        arity: -1,
        flags: &["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"],
        categories: &["@fast", "@connection"],
        summary: "Closes the connection after an answer.",
        since: "1.0.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Reset,
        name: "reset",
        arity: 1,
        flags: &["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"],
        categories: &["@fast", "@connection"],
        summary: "Puts the connection back into the state it began in.",
        since: "6.2.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Select,
        name: "select",
        arity: 2,
        flags: &["loading", "stale", "fast"],
        categories: &["@fast", "@connection"],
        summary: "Chooses the database the connection works on.",
        usage: "index",
        since: "1.0.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Wait,
        name: "wait",
        arity: 3,
        flags: &["noscript"],
        categories: &["@slow", "@connection"],
        summary: "Waits until replicas have the connection's writes.",
        usage: "numreplicas timeout",
        since: "3.0.0",
        complexity: "O(1)",
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        group: "generic",
        ..BASE
    },
];

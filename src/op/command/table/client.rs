//! CLIENT: the connections of the server, one's own and others.

use super::BLANK;
use crate::op::command::{Id, Place, Spec};

const BASE: Spec = Spec { group: "connection", place: Place::Connection, ..BLANK };

pub(super) static COMMANDS: &[Spec] = &[Spec {
    id: Id::Client,
    name: "client",
    arity: -2,
    categories: &["@slow"],
    summary: "Manages connections.",
    since: "2.4.0",
    complexity: "Depends on the subcommand",
    subcommands: &[
        Spec {
            id: Id::ClientCaching,
            name: "client|caching",
            arity: 3,
            flags: &["noscript", "loading", "stale"],
            categories: &["@slow", "@connection"],
            summary: "Says whether the keys of the next command are tracked.",
            usage: "YES | NO",
            since: "6.0.0",
            complexity: "O(1)",
            ..BASE
        },
        Spec {
            id: Id::ClientGetname,
            name: "client|getname",
            arity: 2,
            flags: &["noscript", "loading", "stale"],
            categories: &["@slow", "@connection"],
            summary: "Gives the connection's name.",
            since: "2.6.9",
            complexity: "O(1)",
            ..BASE
        },
        Spec {
            id: Id::ClientGetredir,
            name: "client|getredir",
            arity: 2,
            flags: &["noscript", "loading", "stale"],
            categories: &["@slow", "@connection"],
            summary: "Gives the connection that receives this one's tracking notices.",
            since: "6.0.0",
            complexity: "O(1)",
            ..BASE
        },
        Spec {
            id: Id::ClientHelp,
            name: "client|help",
            arity: 2,
            flags: &["loading", "stale"],
            categories: &["@slow", "@connection"],
            summary: "Lists the subcommands of CLIENT.",
            since: "5.0.0",
            complexity: "O(1)",
            ..BASE
        },
        Spec {
            id: Id::ClientId,
            name: "client|id",
            arity: 2,
            flags: &["noscript", "loading", "stale"],
            categories: &["@slow", "@connection"],
            summary: "Gives the connection's number.",
            since: "5.0.0",
            complexity: "O(1)",
            ..BASE
        },
        Spec {
            id: Id::ClientInfo,
            name: "client|info",
            arity: 2,
            flags: &["noscript", "loading", "stale"],
            categories: &["@slow", "@connection"],
            summary: "Describes the connection.",
            since: "6.2.0",
            complexity: "O(1)",
            tips: &["nondeterministic_output"],
            ..BASE
        },
        Spec {
            id: Id::ClientKill,
            name: "client|kill",
            arity: -3,
            flags: &["admin", "noscript", "loading", "stale"],
            categories: &["@admin", "@slow", "@dangerous", "@connection"],
            summary: "Closes connections by address or by filters.",
            usage: "[ip:port] [ID client-id] [TYPE type] [USER username] [ADDR ip:port] [LADDR ip:port] [SKIPME yes/no]",
            since: "2.4.0",
            complexity: "O(N), N connections",
            ..BASE
        },
        Spec {
            id: Id::ClientList,
            name: "client|list",
            arity: -2,
            flags: &["admin", "noscript", "loading", "stale"],
            categories: &["@admin", "@slow", "@dangerous", "@connection"],
            summary: "Describes all connections.",
            usage: "[TYPE type] [ID client-id [client-id ...]]",
            since: "2.4.0",
            complexity: "O(N), N connections",
            tips: &["nondeterministic_output"],
            ..BASE
        },
        Spec {
            id: Id::ClientNoEvict,
            name: "client|no-evict",
            arity: 3,
            flags: &["admin", "noscript", "loading", "stale"],
            categories: &["@admin", "@slow", "@dangerous", "@connection"],
            summary: "Says whether the connection may be closed to save memory.",
            usage: "ON | OFF",
            since: "7.0.0",
            complexity: "O(1)",
            ..BASE
        },
        Spec {
            id: Id::ClientNoTouch,
            name: "client|no-touch",
            arity: 3,
            flags: &["noscript", "loading", "stale"],
            categories: &["@slow", "@connection"],
            summary: "Says whether the connection's reads mark keys as used.",
            usage: "ON | OFF",
            since: "7.2.0",
            complexity: "O(1)",
            ..BASE
        },
        Spec {
            id: Id::ClientPause,
            name: "client|pause",
            arity: -3,
            flags: &["admin", "noscript", "loading", "stale"],
            categories: &["@admin", "@slow", "@dangerous", "@connection"],
            summary: "Holds commands back for a time.",
            usage: "timeout [WRITE | ALL]",
            since: "2.9.50",
            complexity: "O(1)",
            ..BASE
        },
        Spec {
            id: Id::ClientReply,
            name: "client|reply",
            arity: 3,
            flags: &["noscript", "loading", "stale"],
            categories: &["@slow", "@connection"],
            summary: "Says whether the connection gets answers.",
            usage: "ON | OFF | SKIP",
            since: "3.2.0",
            complexity: "O(1)",
            ..BASE
        },
        Spec {
            id: Id::ClientSetinfo,
            name: "client|setinfo",
            arity: 4,
            flags: &["noscript", "loading", "stale"],
            categories: &["@slow", "@connection"],
            summary: "Tells the server the client library's name or version.",
            usage: "attr value",
            since: "7.2.0",
            complexity: "O(1)",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..BASE
        },
        Spec {
            id: Id::ClientSetname,
            name: "client|setname",
            arity: 3,
            flags: &["noscript", "loading", "stale"],
            categories: &["@slow", "@connection"],
            summary: "Names the connection.",
            usage: "connection-name",
            since: "2.6.9",
            complexity: "O(1)",
            ..BASE
        },
        Spec {
            id: Id::ClientTracking,
            name: "client|tracking",
            arity: -3,
            flags: &["noscript", "loading", "stale"],
            categories: &["@slow", "@connection"],
            summary: "Says whether the client hears of changes to keys it has read.",
            usage: "ON | OFF [REDIRECT client-id] [PREFIX prefix] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]",
            since: "6.0.0",
            complexity: "O(1)",
            ..BASE
        },
        Spec {
            id: Id::ClientTrackinginfo,
            name: "client|trackinginfo",
            arity: 2,
            flags: &["noscript", "loading", "stale"],
            categories: &["@slow", "@connection"],
            summary: "Describes the connection's tracking of keys.",
            since: "6.2.0",
            complexity: "O(1)",
            ..BASE
        },
        Spec {
            id: Id::ClientUnblock,
            name: "client|unblock",
            arity: -3,
            flags: &["admin", "noscript", "loading", "stale"],
            categories: &["@admin", "@slow", "@dangerous", "@connection"],
            summary: "Wakes another connection from a blocking command.",
            usage: "client-id [TIMEOUT | ERROR]",
            since: "5.0.0",
            complexity: "O(log N), N connections",
            ..BASE
        },
        Spec {
            id: Id::ClientUnpause,
            name: "client|unpause",
            arity: 2,
            flags: &["admin", "noscript", "loading", "stale"],
            categories: &["@admin", "@slow", "@dangerous", "@connection"],
            summary: "Lets commands held back by a pause go on.",
            since: "6.2.0",
            complexity: "O(N), N connections held back",
            ..BASE
        },
    ],
    ..BASE
}];

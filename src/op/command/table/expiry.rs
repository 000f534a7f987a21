//! Expiry: when a key goes away by itself.

use super::{BLANK, FIRST};
use crate::op::command::{Id, KeySpec, Place, Spec};

const BASE: Spec = Spec { group: "generic", place: Place::Data, ..BLANK };

pub(super) static COMMANDS: &[Spec] = &[
    Spec {
        id: Id::Expire,
        name: "expire",
        arity: -3,
        flags: &["write", "fast"],
        keys: FIRST,
        key_specs: &[KeySpec::one(1, &["RW", "update"])],
        categories: &["@keyspace", "@write", "@fast"],
        summary: "Lets a key expire after so many seconds.",
        usage: "key seconds [NX | XX | GT | LT]",
        since: "1.0.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Expireat,
        name: "expireat",
        arity: -3,
        flags: &["write", "fast"],
        keys: FIRST,
        key_specs: &[KeySpec::one(1, &["RW", "update"])],
        categories: &["@keyspace", "@write", "@fast"],
        summary: "Lets a key expire at a Unix time in seconds.",
        usage: "key unix-time-seconds [NX | XX | GT | LT]",
        since: "1.2.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Expiretime,
        name: "expiretime",
        arity: 2,
        flags: &["readonly", "fast"],
        keys: FIRST,
        key_specs: &[KeySpec::one(1, &["RO", "access"])],
        categories: &["@keyspace", "@read", "@fast"],
        summary: "Gives the Unix time in seconds at which a key expires.",
        usage: "key",
        since: "7.0.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Persist,
        name: "persist",
        arity: 2,
        flags: &["write", "fast"],
        keys: FIRST,
        key_specs: &[KeySpec::one(1, &["RW", "update"])],
        categories: &["@keyspace", "@write", "@fast"],
        summary: "Removes a key's expiry.",
        usage: "key",
        since: "2.2.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Pexpire,
        name: "pexpire",
        arity: -3,
        flags: &["write", "fast"],
        keys: FIRST,
        key_specs: &[KeySpec::one(1, &["RW", "update"])],
        categories: &["@keyspace", "@write", "@fast"],
        summary: "Lets a key expire after so many milliseconds.",
        usage: "key milliseconds [NX | XX | GT | LT]",
        since: "2.6.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Pexpireat,
        name: "pexpireat",
        arity: -3,
        flags: &["write", "fast"],
        keys: FIRST,
        key_specs: &[KeySpec::one(1, &["RW", "update"])],
        categories: &["@keyspace", "@write", "@fast"],
        summary: "Lets a key expire at a Unix time in milliseconds.",
        usage: "key unix-time-milliseconds [NX | XX | GT | LT]",
        since: "2.6.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Pexpiretime,
        name: "pexpiretime",
        arity: 2,
        flags: &["readonly", "fast"],
        keys: FIRST,
        key_specs: &[KeySpec::one(1, &["RO", "access"])],
        categories: &["@keyspace", "@read", "@fast"],
        summary: "Gives the Unix time in milliseconds at which a key expires.",
        usage: "key",
        since: "7.0.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Pttl,
        name: "pttl",
        arity: 2,
        flags: &["readonly", "fast"],
        keys: FIRST,
        key_specs: &[KeySpec::one(1, &["RO", "access"])],
        categories: &["@keyspace", "@read", "@fast"],
        summary: "Gives the milliseconds until a key expires.",
        usage: "key",
        since: "2.6.0",
        complexity: "O(1)",
        tips: &["nondeterministic_output"],
        ..BASE
    },
    Spec {
        id: Id::Ttl,
        name: "ttl",
        arity: 2,
        flags: &["readonly", "fast"],
        keys: FIRST,
        key_specs: &[KeySpec::one(1, &["RO", "access"])],
        categories: &["@keyspace", "@read", "@fast"],
        summary: "Gives the seconds until a key expires.",
        usage: "key",
        since: "1.0.0",
        complexity: "O(1)",
        tips: &["nondeterministic_output"],
        ..BASE
    },
];

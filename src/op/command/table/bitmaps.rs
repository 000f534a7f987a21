//! Bitmaps: strings seen as rows of bits, and as packed integers.

use super::{BLANK, FIRST, SECOND_ON};
use crate::op::command::{Id, KeySpec, Place, Spec};

const BASE: Spec = Spec { group: "bitmap", place: Place::Data, ..BLANK };

pub(super) static COMMANDS: &[Spec] = &[
    Spec {
        id: Id::Bitcount,
        name: "bitcount",
        arity: -2,
        flags: &["readonly"],
        keys: FIRST,
        key_specs: &[KeySpec::one(1, &["RO", "access"])],
        categories: &["@read", "@bitmap", "@slow"],
        summary: "Counts the bits set in a string or in part of it.",
        usage: "key [start end [BYTE | BIT]]",
        since: "2.6.0",
        complexity: "O(N), N bytes read",
        ..BASE
    },
    Spec {
        id: Id::Bitfield,
        name: "bitfield",
        arity: -2,
        flags: &["write", "denyoom"],
        keys: FIRST,
        key_specs: &[KeySpec::one(1, &["RW", "access", "update", "variable_flags"])],
        categories: &["@write", "@bitmap", "@slow"],
        summary: "Reads, sets and adds to integers of any width packed into a string.",
        usage: "key [GET encoding offset | [OVERFLOW WRAP | SAT | FAIL] SET encoding offset value | INCRBY encoding offset increment ...]",
        since: "3.2.0",
        complexity: "O(1) each operation",
        ..BASE
    },
    Spec {
        id: Id::BitfieldRo,
        name: "bitfield_ro",
        arity: -2,
        flags: &["readonly", "fast"],
        keys: FIRST,
        key_specs: &[KeySpec::one(1, &["RO", "access"])],
        categories: &["@read", "@bitmap", "@fast"],
        summary: "Reads integers of any width packed into a string.",
        usage: "key [GET encoding offset [GET encoding offset ...]]",
        since: "6.0.0",
        complexity: "O(1) each operation",
        ..BASE
    },
    Spec {
        id: Id::Bitop,
        name: "bitop",
        arity: -4,
        flags: &["write", "denyoom"],
        keys: SECOND_ON,
        key_specs: &[KeySpec::one(2, &["OW", "update"]), KeySpec::rest(3, 1, &["RO", "access"])],
        categories: &["@write", "@bitmap", "@slow"],
        summary: "Stores the AND, OR, XOR or NOT of strings, bit by bit.",
        usage: "operation destkey key [key ...]",
        since: "2.6.0",
        complexity: "O(N), N bytes of the longest string",
        ..BASE
    },
    Spec {
        id: Id::Bitpos,
        name: "bitpos",
        arity: -3,
        flags: &["readonly"],
        keys: FIRST,
        key_specs: &[KeySpec::one(1, &["RO", "access"])],
        categories: &["@read", "@bitmap", "@slow"],
        summary: "Finds the first bit that is set or clear.",
        usage: "key bit [start [end [BYTE | BIT]]]",
        since: "2.8.7",
        complexity: "O(N), N bytes read",
        ..BASE
    },
    Spec {
        id: Id::Getbit,
        name: "getbit",
        arity: 3,
        flags: &["readonly", "fast"],
        keys: FIRST,
        key_specs: &[KeySpec::one(1, &["RO", "access"])],
        categories: &["@read", "@bitmap", "@fast"],
        summary: "Gives one bit of a string.",
        usage: "key offset",
        since: "2.2.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Setbit,
        name: "setbit",
        arity: 4,
        flags: &["write", "denyoom"],
        keys: FIRST,
        key_specs: &[KeySpec::one(1, &["RW", "access", "update"])],
        categories: &["@write", "@bitmap", "@slow"],
        summary: "Sets or clears one bit of a string and gives what it was.",
        usage: "key offset value",
        since: "2.2.0",
        complexity: "O(N), N bytes of the string",
        ..BASE
    },
];

//! A key that holds something other than a string.

use crate::model::Model;
use crate::text::{parse_call, show};
use arqondb::redis::Keyspace;
use bytes::Bytes;

const OTHER_TAG: u8 = 7;

fn with_other() -> Model {
    let mut model = Model::at(1_700_000_000_000);
    model.put(b"other", Bytes::from_static(b"123"), OTHER_TAG, None).unwrap();
    model.put(b"text", Bytes::from_static(b"123"), 0, None).unwrap();
    model
}

#[test]
fn string_commands_refuse_it() {
    let calls = [
        "GET other",
        "GETSET other x",
        "GETDEL other",
        "GETEX other",
        "GETEX other EX 10",
        "GETRANGE other 0 1",
        "SUBSTR other 0 1",
        "SETRANGE other 0 x",
        "SETRANGE other 0 \"\"",
        "STRLEN other",
        "APPEND other x",
        "SET other x GET",
        "INCR other",
        "DECR other",
        "INCRBY other 1",
        "DECRBY other 1",
        "INCRBYFLOAT other 1",
        "SETBIT other 0 1",
        "GETBIT other 0",
        "BITCOUNT other",
        "BITPOS other 1",
        "BITOP AND d text other",
        "BITOP NOT d other",
        "BITFIELD other GET u8 0",
        "BITFIELD other SET u8 0 1",
        "BITFIELD_RO other GET u8 0",
        "DUMP other",
        "SORT other",
        "SORT other STORE text",
        "SORT_RO other",
    ];
    let mut model = with_other();
    let before = model.writes;
    for call in calls {
        assert_eq!(
            show(&model.call(&parse_call(call))),
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
            "{call}"
        );
    }
    for call in ["LCS other text", "LCS text other LEN"] {
        let reply = show(&model.call(&parse_call(call)));
        assert_eq!(reply, "-ERR The specified keys must contain string values");
    }
    assert_eq!(model.writes, before);
}

#[test]
fn key_commands_and_overwriting_take_it() {
    let mut model = with_other();
    for (call, want) in [
        ("MGET other text", "[nil, \"123\"]"),
        ("EXISTS other", ":1"),
        ("SETNX other x", ":0"),
        ("MSETNX fresh 1 other 2", ":0"),
        ("EXPIRE other 100", ":1"),
        ("TTL other", ":100"),
        ("COPY other twin", ":1"),
        ("SCAN 0 TYPE string", "[\"0\", [\"text\"]]"),
        ("RENAME other moved", "OK"),
        ("PERSIST moved", ":1"),
        ("GET moved", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("SET moved x XX", "OK"),
        ("GET moved", "\"x\""),
        ("BITOP AND twin text", ":3"),
        ("GET twin", "\"123\""),
    ] {
        assert_eq!(show(&model.call(&parse_call(call))), want, "{call}");
    }
}

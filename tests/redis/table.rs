//! The command table's facts against a real server's (Redis 7.0).

use crate::server::Server;
use crate::text::{parse_call, show};
use arqondb::op::Reply;
use arqondb::op::command::{COMMANDS, Spec, answer, info_reply, lookup};
use bytes::Bytes;

/// What later versions brought.
const NEWER: &[&str] = &["client|no-touch", "client|setinfo"];

fn all() -> impl Iterator<Item = &'static Spec> {
    COMMANDS
        .iter()
        .flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands))
        .filter(|spec| !NEWER.contains(&spec.name))
}

/// Takes what is in no order, and the notes that only people read, out of a description.
fn canonical(reply: &Reply) -> Reply {
    match reply {
        Reply::Array(items) => Reply::Array(items.iter().map(canonical).collect()),
        Reply::Set(items) => {
            let mut items: Vec<Reply> = items.iter().map(canonical).collect();
            items.sort_by_key(show);
            Reply::Set(items)
        }
        Reply::Map(pairs) => Reply::Map(
            pairs
                .iter()
                .filter(|(name, _)| *name != Reply::bulk("notes"))
                .map(|(name, value)| (canonical(name), canonical(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

#[test]
fn facts_agree_with_a_real_server() {
    let Some(mut server) = Server::from_env("comparison of the command table") else { return };
    for spec in all() {
        let call = parse_call(&format!("COMMAND INFO {}", spec.name));
        let Reply::Array(theirs) = server.call(&call) else { panic!("{}", spec.name) };
        let (Reply::Array(theirs), Reply::Array(ours)) =
            (canonical(&theirs[0]), canonical(&info_reply(spec)))
        else {
            panic!("{} is not known", spec.name)
        };
        // All but the subcommands, which have their own turn: we have fewer.
        assert_eq!(
            show(&Reply::Array(ours[..9].to_vec())),
            show(&Reply::Array(theirs[..9].to_vec()))
        );
    }
}

#[test]
fn versions_and_groups_agree_with_a_real_server() {
    let Some(mut server) = Server::from_env("comparison of the command docs") else { return };
    for spec in all() {
        let call = parse_call(&format!("COMMAND DOCS {}", spec.name));
        let Reply::Map(docs) = server.call(&call) else { panic!("{}", spec.name) };
        let Reply::Map(fields) = &docs[0].1 else { panic!("{}", spec.name) };
        for (name, ours) in [
            ("since", Some(spec.since)),
            ("group", Some(spec.group)),
            ("deprecated_since", spec.deprecated.map(|d| d.since)),
        ] {
            let theirs = fields.iter().find(|(field, _)| *field == Reply::bulk(name));
            assert_eq!(
                ours.map(Reply::bulk).as_ref(),
                theirs.map(|(_, v)| v),
                "{} {name}",
                spec.name
            );
        }
    }
}

#[test]
fn keys_are_found_where_a_real_server_finds_them() {
    let Some(mut server) = Server::from_env("comparison of COMMAND GETKEYS") else { return };
    let calls = [
        "GET a",
        "MSET a 1 b 2",
        "BITOP AND d a b",
        "RENAME a b",
        "COPY a b REPLACE",
        "LCS a b IDX",
        "OBJECT ENCODING a",
        "SETEX a 1 v",
        "DEL a b c",
        "WATCH a b",
        "RESTORE k 0 v",
        "SET a b",
        "SET get b EX 1",
        "SET a b GET",
        "SET a b EX get",
        "BITFIELD a",
        "BITFIELD a GET u8 0 OVERFLOW SAT",
        "BITFIELD a GET u8 0 SET u8 0 1",
        "BITFIELD a INCRBY u8 0 1",
        "BITFIELD a GET SET 0",
        "BITFIELD a GET u8",
        "BITFIELD a GET u8 0 x",
        "BITFIELD_RO a GET u8 0",
        "SORT a",
        "SORT a BY b GET c STORE d STORE e",
        "SORT a STORE",
        "SORT a GET STORE STORE x",
        "SORT a LIMIT 1 STORE x",
        "SORT a LIMIT STORE x y",
        "SORT a STORE b STORE",
        "SORT_RO a BY b STORE c",
    ];
    for call in calls {
        for how in ["GETKEYS", "GETKEYSANDFLAGS"] {
            let args = parse_call(&format!("COMMAND {how} {call}"));
            let ours = answer(lookup(&args).unwrap(), &args);
            assert_eq!(show(&canonical(&ours)), show(&canonical(&server.call(&args))), "{call}");
        }
    }
    for line in [
        "COMMAND GETKEYS nosuch a",
        "COMMAND GETKEYS MSET a",
        "COMMAND LIST x",
        "COMMAND LIST FILTERBY what x",
        "COMMAND GETKEYS GET",
        "COMMAND GETKEYS ECHO a",
        "COMMAND x",
        "COMMAND COUNT 1",
    ] {
        let args: Vec<Bytes> = parse_call(line);
        let ours = lookup(&args).map_or_else(|error| error, |spec| answer(spec, &args));
        assert_eq!(show(&ours), show(&server.call(&args)), "{line}");
    }
}

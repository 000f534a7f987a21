//! The table against itself, and against facts of Redis 7.0.15.

use super::*;
use crate::op::Reply;
use bytes::Bytes;

fn args(line: &str) -> Vec<Bytes> {
    line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

#[test]
fn names_are_sorted_unique_lower_case_and_found() {
    for pair in COMMANDS.windows(2) {
        assert!(pair[0].name < pair[1].name, "{} {}", pair[0].name, pair[1].name);
    }
    let mut ids = std::collections::HashSet::new();
    for spec in COMMANDS.iter() {
        assert!(ids.insert(spec.id));
        assert_eq!(find(spec.name.to_ascii_uppercase().as_bytes()), Some(*spec));
        for pair in spec.subcommands.windows(2) {
            assert!(pair[0].name < pair[1].name);
        }
        for sub in spec.subcommands {
            assert!(ids.insert(sub.id));
            assert_eq!(sub.name, format!("{}|{}", spec.name, sub.short_name()));
            assert_eq!(find(sub.name.as_bytes()), Some(sub));
        }
    }
    assert_eq!(find(b"nosuch"), None);
    assert_eq!(find(&[b'g'; 100]), None);
}

#[test]
fn every_entry_is_whole_and_its_key_positions_agree() {
    for spec in COMMANDS.iter().flat_map(|s| std::iter::once(*s).chain(s.subcommands)) {
        assert!(spec.arity != 0 && spec.summary.ends_with('.'), "{}", spec.name);
        for field in [spec.since, spec.group, spec.complexity] {
            assert!(!field.is_empty(), "{}", spec.name);
        }
        assert!(!(spec.has_flag("fast") && spec.categories.contains(&"@slow")), "{}", spec.name);
        // As many arguments as it takes, and a few more where it may have more.
        let least = spec.arity.unsigned_abs() as usize;
        let most = if spec.arity < 0 { least + 6 } else { least };
        for argc in least..=most {
            let KeyRange { first, last, step } = spec.keys;
            if spec.name.starts_with("mset") && argc % 2 == 0 {
                continue;
            }
            let mut legacy = Vec::new();
            if step > 0 {
                let last = if last < 0 { argc as i32 + last } else { last };
                legacy = (first..=last).step_by(step as usize).map(|p| p as usize).collect();
            }
            let call = vec![Bytes::from_static(b"x"); argc];
            let runs: Vec<usize> = keys_of(spec, &call).collect();
            assert_eq!(runs, legacy, "{} of {argc}", spec.name);
        }
    }
}

#[test]
fn arities_are_those_of_redis() {
    // name arity, of every command of ours that 7.0.15 has at top level.
    let facts = "append 3,auth -2,bitcount -2,bitfield -2,bitfield_ro -2,bitop -4,bitpos -3,\
        client -2,cluster -2,command -1,config -2,copy -3,dbsize 1,decr 2,decrby 3,del -2,discard 1,dump 2,\
        echo 2,exec 1,exists -2,expire -3,expireat -3,expiretime 2,flushall -1,flushdb -1,get 2,\
        getbit 3,getdel 2,getex -2,getrange 4,getset 3,hello -1,incr 2,incrby 3,incrbyfloat 3,\
        info -1,keys 2,lcs -3,memory -2,mget -2,move 3,mset -3,msetnx -3,multi 1,object -2,\
        persist 2,pexpire -3,pexpireat -3,pexpiretime 2,ping -1,psetex 4,pttl 2,quit -1,\
        randomkey 1,readonly 1,readwrite 1,rename 3,renamenx 3,reset 1,restore -4,scan -2,select 2,set -3,setbit 4,\
        setex 4,setnx 3,setrange 4,sort -2,sort_ro -2,strlen 2,substr 4,swapdb 3,time 1,touch -2,ttl 2,type 2,\
        unlink -2,unwatch 1,wait 3,watch -2";
    let facts: Vec<(&str, i32)> = facts
        .split(',')
        .map(|fact| fact.split_once(' ').unwrap())
        .map(|(name, arity)| (name, arity.parse().unwrap()))
        .collect();
    let ours: Vec<(&str, i32)> = COMMANDS.iter().map(|s| (s.name, s.arity)).collect();
    assert_eq!(ours, facts);
}

#[test]
fn a_call_that_cannot_be_looked_up_gets_the_error_redis_gives() {
    let error = |line: &str| match lookup(&args(line)) {
        Err(Reply::Error(text)) => text,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(error("foo"), "ERR unknown command 'foo', with args beginning with: ");
    assert_eq!(error("foo a b"), "ERR unknown command 'foo', with args beginning with: 'a' 'b' ");
    assert_eq!(error("GET"), "ERR wrong number of arguments for 'get' command");
    assert_eq!(error("client"), "ERR wrong number of arguments for 'client' command");
    assert_eq!(error("Client KILL"), "ERR wrong number of arguments for 'client|kill' command");
    assert_eq!(error("client foo"), "ERR unknown subcommand 'foo'. Try CLIENT HELP.");
    assert_eq!(error("client|id"), "ERR unknown command 'client|id', with args beginning with: ");
    let long = "x".repeat(300);
    assert_eq!(
        error(&format!("{long} {long} {long}")),
        format!("ERR unknown command '{0}', with args beginning with: '{0}' ", &long[..128])
    );
    assert_eq!(lookup(&args("client list")).map(|s| s.id), Ok(Id::ClientList));
    assert_eq!(lookup(&args("command")).map(|s| s.id), Ok(Id::Command));
    assert!(lookup(&[]).is_err());
}

#[test]
fn keys_are_found_in_calls() {
    for (line, keys) in [
        ("get a", vec![1]),
        ("mset a 1 b 2", vec![1, 3]),
        ("bitop and d a b", vec![2, 3, 4]),
        ("rename a b", vec![1, 2]),
        ("object encoding a", vec![2]),
        ("lcs a b LEN", vec![1, 2]),
        ("sort a", vec![1]),
        ("sort a BY b GET store store d LIMIT store x desc STORE e", vec![1, 13]),
        ("sort a STORE store ALPHA", vec![1, 3]),
        ("sort a STORE d STORE", vec![1, 3]),
        ("sort_ro a STORE d", vec![1]),
        ("ping", vec![]),
    ] {
        let args = args(line);
        let spec = lookup(&args).unwrap();
        assert_eq!(keys_of(spec, &args).collect::<Vec<_>>(), keys, "{line}");
    }
    // The one key of a command that names exactly one is the one key of every call of it.
    for spec in COMMANDS.iter().flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands)) {
        let args = vec![Bytes::new(); spec.arity.unsigned_abs() as usize + 3];
        let keys: Vec<usize> = keys_of(spec, &args).collect();
        assert!(spec.only_key().is_none_or(|at| keys == [at]), "{}: {keys:?}", spec.name);
    }
    assert_eq!(find(b"set").unwrap().only_key(), Some(1));
    assert_eq!(find(b"sort").unwrap().only_key(), None);
    assert_eq!(find(b"del").unwrap().only_key(), None);
}

#[test]
fn what_was_called_before_changes_nothing_of_what_a_call_finds() {
    for last in COMMANDS.iter().flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands)) {
        for line in ["get a", "GET", "set a 1", "client id", "client|id", "object", "nosuch", ""] {
            let args = args(line);
            assert_eq!(lookup_after(Some(last), &args), lookup(&args), "{} {line}", last.name);
        }
        let args = args(last.name);
        assert_eq!(lookup_after(Some(last), &args), lookup(&args), "{}", last.name);
    }
}

#[test]
fn command_answers_in_the_shapes_clients_read() {
    let ask = |line: &str| {
        let args = args(line);
        answer(lookup(&args).unwrap(), &args)
    };
    assert_eq!(ask("command count"), Reply::Int(COMMANDS.len() as i64));
    let Reply::Array(info) = ask("command info get nosuch config|get") else { panic!() };
    assert_eq!(info[1], Reply::Nil);
    let Reply::Array(get) = &info[0] else { panic!() };
    assert_eq!(get.len(), 10);
    assert_eq!(get[1], Reply::Int(2));
    assert_eq!(get[2], Reply::Set(vec![Reply::Simple("readonly"), Reply::Simple("fast")]));
    let Reply::Map(docs) = ask("command docs set nosuch") else { panic!() };
    assert_eq!(docs.len(), 1);
    let Reply::Map(fields) = &docs[0].1 else { panic!() };
    let names: Vec<&Reply> = fields.iter().map(|(name, _)| name).collect();
    assert_eq!(names[0], &Reply::bulk("summary"));
    assert_eq!(names.last(), Some(&&Reply::bulk("arguments")));
    assert_eq!(
        ask("command getkeysandflags mset a 1"),
        Reply::Array(vec![Reply::Array(vec![
            Reply::bulk("a"),
            Reply::Set(vec![Reply::Simple("OW"), Reply::Simple("update")]),
        ])])
    );
    assert_eq!(ask("command getkeys foo a"), Reply::err("Invalid command specified"));
    assert_eq!(ask("command getkeys echo a"), Reply::err("The command has no key arguments"));
    assert_eq!(ask("command list x"), Reply::syntax_error());
    assert_eq!(
        ask("command list filterby aclcat transaction"),
        Reply::Array(["discard", "exec", "multi", "unwatch", "watch"].map(Reply::bulk).to_vec())
    );
    let Reply::Array(all) = ask("command") else { panic!() };
    assert_eq!(all.len(), COMMANDS.len());
    let Reply::Array(help) = ask("command help") else { panic!() };
    assert!(help.len() > 8);
    assert!(help.iter().all(|line| matches!(line, Reply::Simple(_))));
    let flags = |line: &str| {
        let args = args(line);
        keys_with_flags(lookup(&args).unwrap(), &args).map(|(_, flags)| flags).collect::<Vec<_>>()
    };
    assert_eq!(flags("set a b EX 1"), [["OW", "update"]]);
    assert_eq!(flags("set a b Get"), [["RW", "access", "update"]]);
    assert_eq!(flags("bitfield a GET u8 0 OVERFLOW SAT"), [["RO", "access"]]);
    assert_eq!(flags("bitfield a GET u8 0 SET u8 0 1"), [["RW", "access", "update"]]);
    assert_eq!(flags("bitfield a GET u8"), [["RW", "access", "update"]]);
    assert_eq!(flags("sort a STORE b"), [["RO", "access"], ["OW", "update"]]);
}

//! Many commands at once: order, grouping, transactions among other clients, back-pressure.

use crate::harness::{TestClient, TestServer, command, command_of_bytes};
use crate::memory::Memory;
use arqondb::base::ErrorKind;
use arqondb::env::SimDisk;
use arqondb::op::kv::RedisCall;
use arqondb::op::{Request, command};
use arqondb::serve::resp::RespOptions;
use arqondb::{Db, Options};
use bytes::Bytes;
use std::sync::atomic::Ordering::SeqCst;

#[test]
fn ten_thousand_commands_are_answered_in_order_and_in_few_pipelines() {
    const COMMANDS: usize = 10_000;
    let server = TestServer::start();
    let client = server.client();
    let mut reader = TestClient { stream: client.stream.try_clone().unwrap() };
    let mut bytes = Vec::new();
    let mut want = String::new();
    for i in 0..COMMANDS / 2 {
        bytes.extend(command(&["INCR", "counter"]));
        bytes.extend(command(&["ECHO", &format!("e{i}")]));
        want += &format!(":{}\r\n", i + 1);
        let echo = format!("e{i}");
        want += &format!("${}\r\n{echo}\r\n", echo.len());
    }
    let mut writer = client;
    let sender = std::thread::spawn(move || writer.send(&bytes));
    let got = reader.read(want.len());
    sender.join().unwrap();
    let at = got.iter().zip(want.as_bytes()).position(|(got, want)| got != want);
    let told = at.map(|at| String::from_utf8_lossy(&got[at.saturating_sub(20)..]).into_owned());
    let told = told.map(|told| told.chars().take(200).collect::<String>());
    assert_eq!(told, None, "an answer is another");
}

#[test]
fn data_commands_in_a_row_are_one_pipeline() {
    let server = TestServer::start();
    let mut client = server.client();
    assert_eq!(client.call(&["SET", "k", "0"]), "+OK");
    let before = server.kv.pipelines.load(SeqCst);
    let mut bytes = command(&["PING"]);
    for _ in 0..20 {
        bytes.extend(command(&["INCR", "k"]));
        bytes.extend(command(&["PING"]));
        bytes.extend(command(&["MULTI"]));
        bytes.extend(command(&["INCR", "k"]));
        bytes.extend(command(&["EXEC"]));
        bytes.extend(command(&["NOSUCH"]));
    }
    client.send(&bytes);
    for i in 0..20 {
        if i == 0 {
            assert_eq!(client.line(), "+PONG");
        }
        assert_eq!(client.line(), format!(":{}", 2 * i + 1));
        assert_eq!(client.line(), "+PONG");
        assert_eq!(client.line(), "+OK");
        assert_eq!(client.line(), "+QUEUED");
        assert_eq!(client.line(), "*1");
        assert_eq!(client.line(), format!(":{}", 2 * i + 2));
        assert!(client.line().starts_with("-ERR unknown command"));
    }
    // The kernel may cut what was sent; a pipeline for each command it did not.
    assert!(server.kv.pipelines.load(SeqCst) - before <= 5);
    assert!(server.kv.longest.load(SeqCst) >= 20);
}

#[test]
fn a_transaction_is_never_seen_half_done() {
    const ROUNDS: usize = 200;
    let server = TestServer::start();
    let addr = server.addr;
    let writers: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = TestClient::connect(addr);
                for _ in 0..ROUNDS {
                    let mut bytes = command(&["MULTI"]);
                    bytes.extend(command(&["INCR", "a"]));
                    bytes.extend(command(&["CLIENT", "GETNAME"]));
                    bytes.extend(command(&["INCR", "b"]));
                    bytes.extend(command(&["EXEC"]));
                    client.send(&bytes);
                    let lines: Vec<String> = (0..8).map(|_| client.line()).collect();
                    assert_eq!(lines[4], "*3");
                    assert_eq!(lines[5], lines[7]);
                    assert_eq!(lines[6], "$-1");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(server.client().call(&["GET", "a"]), (4 * ROUNDS).to_string());
}

#[test]
fn a_key_watched_twice_keeps_what_was_seen_first() {
    let server = TestServer::start();
    let (mut client, mut other) = (server.client(), server.client());
    assert_eq!(client.call(&["WATCH", "k", "k"]), "+OK");
    assert_eq!(other.call(&["SET", "k", "1"]), "+OK");
    assert_eq!(client.call(&["WATCH", "k"]), "+OK");
    assert_eq!(client.call(&["MULTI"]), "+OK");
    assert_eq!(client.call(&["GET", "k"]), "+QUEUED");
    assert_eq!(client.call(&["EXEC"]), "*-1");
    // Many keys, many times, take no longer than they are many.
    let keys: Vec<String> = (0..20_000).map(|i| format!("key{i}")).collect();
    let mut words = vec!["WATCH"];
    words.extend(keys.iter().map(String::as_str));
    for _ in 0..3 {
        assert_eq!(client.call(&words), "+OK");
    }
}

#[test]
fn large_values_pass_in_both_directions() {
    const BYTES: usize = 5_000_000;
    let server = TestServer::start();
    let mut client = server.client();
    let value: Vec<u8> = (0..BYTES).map(|i| (i * 7 % 251) as u8).collect();
    client.send(&command_of_bytes(&[b"SET", b"big", &value]));
    assert_eq!(client.line(), "+OK");
    let gets = command(&["GET", "big"]).repeat(30);
    client.send(&gets);
    for _ in 0..30 {
        assert_eq!(client.line(), format!("${BYTES}"));
        let got = client.read(BYTES + 2);
        assert!(got[..BYTES] == value);
    }
}

#[test]
fn a_failing_engine_is_told_with_the_right_word() {
    for (kind, word) in [
        (ErrorKind::Unknown, "-UNKNOWN "),
        (ErrorKind::Busy, "-TRYAGAIN "),
        (ErrorKind::Poisoned, "-MISCONF "),
        (ErrorKind::Unavailable, "-CLUSTERDOWN "),
    ] {
        let kv = Memory { failure: Some(kind), ..Memory::new() };
        let server = TestServer::with(kv, RespOptions::default());
        let mut client = server.client();
        assert!(client.call(&["GET", "k"]).starts_with(word));
        assert!(client.call(&["WATCH", "k"]).starts_with(word));
        assert_eq!(client.call(&["MULTI"]), "+OK");
        assert_eq!(client.call(&["GET", "k"]), "+QUEUED");
        assert!(client.call(&["EXEC"]).starts_with(word));
        assert!(client.call(&["INFO", "server"]).contains("redis_version"));
        assert_eq!(client.call(&["PING"]), "+PONG");
    }
}

#[test]
fn a_transaction_with_more_replies_than_may_be_held_does_nothing() {
    let options = Options { disk: SimDisk::new().shared(), ..Options::default() };
    let db = Db::open_with("/db", options).unwrap();
    db.put(b"key", &[b'v'; 1000]).unwrap();
    let call = |words: &[&'static str]| {
        let args: Vec<Bytes> = words.iter().map(|word| Bytes::from(*word)).collect();
        RedisCall { spec: command::lookup(&args).unwrap(), args }
    };
    let transaction = |reads: usize| {
        let mut calls = vec![call(&["SET", "written", "1"])];
        calls.extend((0..reads).map(|_| call(&["GET", "key"])));
        db.execute(Request::RedisTransaction { watched: Vec::new(), calls, reply_bytes_max: 5000 })
    };
    let error = transaction(100).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("more than 5000 bytes"), "{error}");
    assert_eq!(db.get(b"written").unwrap(), None);
    assert!(transaction(4).is_ok());
    assert_eq!(db.get(b"written").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn commands_of_the_connection_share_the_limit_of_a_transaction() {
    let server = TestServer::start();
    let mut client = server.client();
    let limits = ["CONFIG", "SET", "client-output-buffer-limit", "normal 20000 0 0"];
    assert_eq!(client.call(&limits), "+OK");
    let mut bytes = command(&["MULTI"]);
    (0..50).for_each(|_| bytes.extend(command(&["CONFIG", "GET", "*"])));
    bytes.extend(command(&["EXEC"]));
    bytes.extend(command(&["QUIT"]));
    client.send(&bytes);
    let text = String::from_utf8(client.read_to_end()).unwrap();
    let refused = text.matches("-ERR not executed: ").count();
    assert!((1..50).contains(&refused), "{refused} of 50");
    assert!(text.ends_with("+OK\r\n"));
}

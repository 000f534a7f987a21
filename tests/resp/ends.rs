//! The ways a connection ends or is held up: limits, time, other clients, the server's stop.

use crate::harness::{TestClient, TestServer, command, command_of_bytes};
use crate::memory::Memory;
use arqondb::serve::resp::RespOptions;
use std::io::Read;
use tokio::sync::Semaphore;

fn options() -> RespOptions {
    RespOptions::default()
}

/// A field of INFO.
fn field(client: &mut TestClient, name: &str) -> String {
    let info = client.call(&["INFO", "everything"]);
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("no {name} in {info}")).to_string()
}

/// Asks again until a field of INFO is as wanted; the harness's patience is the limit.
fn wait_for(client: &mut TestClient, name: &str, wanted: &str) {
    let begun = std::time::Instant::now();
    while field(client, name) != wanted {
        assert!(begun.elapsed().as_secs() < 20, "{name} is {}", field(client, name));
        std::thread::yield_now();
    }
}

#[test]
fn strangers_may_only_prove_who_they_are() {
    let options = RespOptions { password: Some("se\0cret".to_string()), ..options() };
    let server = TestServer::with(Memory::new(), options);
    let mut client = server.client();
    assert_eq!(client.call(&["GET", "k"]), "-NOAUTH Authentication required.");
    assert!(client.call(&["HELLO", "3"]).starts_with("-NOAUTH HELLO must be called"));
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
    assert_eq!(client.call(&["AUTH", "secret"]), wrong);
    assert_eq!(client.call(&["AUTH", ""]), wrong);
    assert_eq!(client.call(&["AUTH", "other", "se\0cret"]), wrong);
    assert_eq!(client.call(&["AUTH", "se\0cret"]), "+OK");
    assert_eq!(client.call(&["GET", "k"]), "(nil)");
    assert_eq!(client.call(&["RESET"]), "+RESET");
    assert_eq!(client.call(&["GET", "k"]), "-NOAUTH Authentication required.");
    client.send(&command(&["AUTH", "default", "se\0cret"]));
    client.send(&command(&["PING"]));
    assert_eq!(client.line(), "+OK");
    assert_eq!(client.line(), "+PONG");
    assert_eq!(client.call(&["CONFIG", "SET", "requirepass", ""]), "+OK");
    assert_eq!(server.client().call(&["PING"]), "+PONG");
}

#[test]
fn strangers_may_not_send_much() {
    let options = RespOptions { password: Some("p".to_string()), ..options() };
    let server = TestServer::with(Memory::new(), options);
    for (sent, want) in [
        ("*100\r\n", "-ERR Protocol error: unauthenticated multibulk length\r\n"),
        ("*1\r\n$100000000\r\n", "-ERR Protocol error: unauthenticated bulk length\r\n"),
    ] {
        let mut client = server.client();
        client.send(sent.as_bytes());
        assert_eq!(client.read_to_end(), want.as_bytes());
    }
}

#[test]
fn one_client_too_many_is_told_so() {
    let server = TestServer::with(Memory::new(), RespOptions { clients_max: 2, ..options() });
    let mut first = server.client();
    assert_eq!(first.call(&["PING"]), "+PONG");
    let mut second = server.client();
    assert_eq!(second.call(&["PING"]), "+PONG");
    let third = server.client().read_to_end();
    assert_eq!(third, b"-ERR max number of clients reached\r\n");
    assert_eq!(field(&mut first, "rejected_connections"), "1");
    drop(second);
    wait_for(&mut first, "connected_clients", "1");
    assert_eq!(server.client().call(&["PING"]), "+PONG");
}

#[test]
fn an_idle_client_is_cut_off_and_an_active_one_is_not() {
    let server = TestServer::with(Memory::new(), RespOptions { idle_timeout_s: 10, ..options() });
    let mut idle = server.client();
    assert_eq!(idle.call(&["PING"]), "+PONG");
    let mut active = server.client();
    server.clock.advance_ms(6_000);
    assert_eq!(active.call(&["PING"]), "+PONG");
    server.clock.advance_ms(6_000);
    assert_eq!(idle.read_to_end(), b"");
    assert_eq!(active.call(&["PING"]), "+PONG");
}

#[test]
fn a_client_that_takes_nothing_is_cut_off_after_the_soft_limit() {
    let options = RespOptions { output_soft_bytes: 1_000_000, output_soft_s: 5, ..options() };
    let server = TestServer::with(Memory::new(), options);
    let mut other = server.client();
    let value = vec![b'v'; 4_000_000];
    other.send(&command_of_bytes(&[b"SET", b"k", &value]));
    assert_eq!(other.line(), "+OK");
    let mut slow = server.client();
    slow.send(&command(&["GET", "k"]).repeat(8));
    // It is over the limit once the server waits for it; then its time begins.
    while !other.call(&["CLIENT", "LIST"]).contains("cmd=get") {}
    let mut rounds = 0;
    while field(&mut other, "client_output_buffer_limit_disconnections") != "1" {
        rounds += 1;
        assert!(rounds < 1_000_000);
        if rounds % 50 == 0 {
            server.clock.advance_ms(1_000);
        }
    }
    wait_for(&mut other, "connected_clients", "1");
}

#[test]
fn replies_that_pile_up_over_the_hard_limit_end_the_connection() {
    let server =
        TestServer::with(Memory::new(), RespOptions { output_hard_bytes: 2_000_000, ..options() });
    let mut client = server.client();
    let value = vec![b'v'; 1_000_000];
    client.send(&command_of_bytes(&[b"SET", b"k", &value]));
    assert_eq!(client.line(), "+OK");
    // One reply may be larger than the limit, many behind it may not.
    client.send(&command_of_bytes(&[b"MGET", b"k", b"k", b"k", b"k"]));
    let want = 4 + 4 * (10 + 1_000_000 + 2);
    assert_eq!(client.read(want).len(), want);
    let mut many = server.client();
    many.send(&command(&["GET", "k"]).repeat(16));
    assert!(many.read_to_end().len() < 16 * 1_000_000);
    assert_eq!(field(&mut client, "client_output_buffer_limit_disconnections"), "1");
}

#[test]
fn a_request_without_end_is_cut_off() {
    let options = RespOptions { query_buffer_bytes_max: 1 << 20, ..options() };
    let server = TestServer::with(Memory::new(), options);
    let mut client = server.client();
    client.send(b"*1000\r\n");
    let piece = command_of_bytes(&[&[b'a'; 60_000]]);
    let piece = &piece[4..];
    let mut sent = 0;
    while sent < 8 << 20 && std::io::Write::write_all(&mut client.stream, piece).is_ok() {
        sent += piece.len();
    }
    assert_eq!(client.read_to_end(), b"");
    // A queue of MULTI counts as well.
    let mut client = server.client();
    assert_eq!(client.call(&["MULTI"]), "+OK");
    let set = command_of_bytes(&[b"SET", b"k", &[b'a'; 300_000]]);
    for _ in 0..5 {
        if std::io::Write::write_all(&mut client.stream, &set).is_err() {
            break;
        }
    }
    let replies = client.read_to_end();
    assert!(replies.len() <= 3 * b"+QUEUED\r\n".len(), "{}", replies.escape_ascii());
    let mut other = server.client();
    assert_eq!(field(&mut other, "client_query_buffer_limit_disconnections"), "2");
}

#[test]
fn clients_are_killed_by_id_address_and_all_at_once() {
    let server = TestServer::start();
    let mut own = server.client();
    let mut others: Vec<TestClient> = (0..4).map(|_| server.client()).collect();
    let ids: Vec<String> =
        others.iter_mut().map(|client| client.call(&["CLIENT", "ID"]).split_off(1)).collect();
    assert_eq!(own.call(&["CLIENT", "KILL", "ID", &ids[0]]), ":1");
    assert_eq!(others[0].read_to_end(), b"");
    let addr = others[1].stream.local_addr().unwrap().to_string();
    assert_eq!(own.call(&["CLIENT", "KILL", &addr]), "+OK");
    assert_eq!(others[1].read_to_end(), b"");
    assert_eq!(own.call(&["CLIENT", "KILL", "TYPE", "pubsub"]), ":0");
    assert_eq!(own.call(&["CLIENT", "KILL", "SKIPME", "yes"]), ":2");
    assert_eq!(field(&mut own, "connected_clients"), "1");
    assert_eq!(others[2].read_to_end(), b"");
    assert_eq!(own.call(&["CLIENT", "KILL", "SKIPME", "no"]), ":1");
    assert_eq!(own.read_to_end(), b"");
    assert_eq!(server.client().call(&["PING"]), "+PONG");
}

#[test]
fn a_pause_of_writes_holds_writes_and_nothing_else() {
    let server = TestServer::start();
    let (mut own, mut writer) = (server.client(), server.client());
    assert_eq!(writer.call(&["MULTI"]), "+OK");
    assert_eq!(writer.call(&["SET", "k", "1"]), "+QUEUED");
    assert_eq!(own.call(&["CLIENT", "PAUSE", "100000", "WRITE"]), "+OK");
    let mut reader = server.client();
    assert_eq!(reader.call(&["GET", "k"]), "(nil)");
    writer.send(&command(&["EXEC"]));
    reader.send(&command(&["SET", "k", "2"]));
    wait_for(&mut own, "blocked_clients", "2");
    assert_eq!(own.call(&["SET", "k"]), "-ERR wrong number of arguments for 'set' command");
    assert_eq!(own.call(&["CLIENT", "UNPAUSE"]), "+OK");
    assert_eq!(writer.line(), "*1");
    assert_eq!(writer.line(), "+OK");
    assert_eq!(reader.line(), "+OK");
    // A pause of all ends by itself.
    assert_eq!(own.call(&["CLIENT", "PAUSE", "20"]), "+OK");
    reader.send(&command(&["PING"]));
    server.clock.advance_ms(30);
    assert_eq!(reader.line(), "+PONG");
}

#[test]
fn a_stop_finishes_what_has_begun_and_closes_the_rest() {
    let kv = Memory { gate: Some(Semaphore::new(0)), ..Memory::new() };
    let mut server = TestServer::with(kv, options());
    let mut idle = server.client();
    assert_eq!(idle.call(&["PING"]), "+PONG");
    let mut busy = server.client();
    busy.send(&command(&["SET", "k", "1"]));
    server.wait(async { server.kv.begun.acquire().await.unwrap().forget() });
    server.ask_to_stop();
    assert_eq!(idle.read_to_end(), b"");
    server.kv.gate.as_ref().unwrap().add_permits(1);
    assert_eq!(busy.read_to_end(), b"+OK\r\n");
    server.join();
    assert!(std::net::TcpStream::connect(server.addr).is_err());
}

#[test]
fn a_stop_does_not_wait_for_clients_that_take_nothing() {
    let options = RespOptions { stop_grace_ms: 50, ..options() };
    let mut server = TestServer::with(Memory::new(), options);
    let mut slow = server.client();
    slow.send(&command_of_bytes(&[b"SET", b"k", &vec![b'v'; 20_000_000]]));
    assert_eq!(slow.line(), "+OK");
    slow.send(&command(&["GET", "k"]).repeat(4));
    assert_eq!(slow.read(1), b"$");
    server.ask_to_stop();
    server.join();
    drop(slow.stream.read(&mut [0]));
}

#[test]
fn a_server_that_is_dropped_takes_its_connections_with_it() {
    let mut server = TestServer::with(Memory::new(), RespOptions { threads: 3, ..options() });
    let mut clients: Vec<TestClient> = (0..7).map(|_| server.client()).collect();
    for client in &mut clients {
        assert_eq!(client.call(&["PING"]), "+PONG");
    }
    server.drop_it();
    for client in &mut clients {
        assert_eq!(client.read_to_end(), b"");
    }
    assert_eq!(std::sync::Arc::strong_count(&server.kv), 1);
}

#[test]
fn random_bytes_never_bring_the_server_down() {
    const CONNECTIONS: u64 = 200;
    let server = TestServer::start();
    for seed in 0..CONNECTIONS {
        let mut rng = arqondb::env::Rng::new(seed);
        let mut bytes = vec![0; rng.below(3000) as usize];
        rng.fill(&mut bytes);
        if rng.one_in(2) {
            let words = [
                "*2\r\n",
                "$3\r\n",
                "SET",
                "\r\n",
                "*",
                "$",
                "MULTI\r\n",
                "EXEC\r\n",
                "-1",
                "HELLO 3\r\n",
            ];
            bytes.clear();
            for _ in 0..rng.below(60) {
                bytes.extend_from_slice(words[rng.below(10) as usize].as_bytes());
            }
        }
        let mut client = server.client();
        drop(std::io::Write::write_all(&mut client.stream, &bytes));
        drop(client.stream.shutdown(std::net::Shutdown::Write));
        client.read_to_end();
    }
    assert_eq!(server.client().call(&["PING"]), "+PONG");
}

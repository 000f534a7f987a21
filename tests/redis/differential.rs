//! The same random calls to the model and to a real server must get the same replies, and leave
//! the same keys. Run with `ARQON_TEST_REDIS=host:port` (Redis 7.0, `--databases 1`; its data is
//! lost); `ARQON_TEST_CALLS` sets how many calls.

use crate::model::Model;
use crate::random::random_call;
use crate::server::Server;
use crate::text::{parse_call, show, show_call};
use arqondb::env::{Clock, RealClock, Rng};
use arqondb::op::Reply;
use bytes::Bytes;

const CALLS: usize = 20_000;
const CALLS_A_ROUND: usize = 60;

#[test]
fn random_calls_get_the_replies_of_a_real_server() {
    let Some(mut server) = Server::from_env("comparison with a real server") else { return };
    let calls = std::env::var("ARQON_TEST_CALLS").map_or(CALLS, |calls| calls.parse().unwrap());
    let seed = std::env::var("ARQON_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut rng = Rng::new(seed);
    let clock = RealClock::new();
    let mut differences = 0;
    'rounds: for round in 0..calls / CALLS_A_ROUND {
        let mut model = Model::at(clock.unix_ms());
        server.call(&parse_call("FLUSHALL"));
        let mut history = Vec::new();
        for _ in 0..CALLS_A_ROUND {
            let call = random_call(&mut rng);
            model.now_ms = clock.unix_ms();
            let ours = model.call(&call);
            let theirs = server.call(&call);
            history.push(format!("> {}\n{}", show_call(&call), show(&theirs)));
            if !alike(&call, &ours, &theirs) {
                differences += 1;
                eprintln!("round {round}: {}", show_call(&call));
                eprintln!("   ours {}\n   real {}", show(&ours), show(&theirs));
                continue 'rounds;
            }
        }
        for key in (0..6).map(|n| format!("k{n}")) {
            same_key(&key, &mut model, &mut server, &history);
        }
        for call in ["DBSIZE", "KEYS *"].into_iter().map(parse_call) {
            let (ours, theirs) = (model.call(&call), server.call(&call));
            assert!(alike(&call, &ours, &theirs), "{round} {}", history.join("\n"));
        }
    }
    assert_eq!(differences, 0);
}

/// Value, expiry and encoding of a key are the same, and each side reads what the other dumps.
fn same_key(key: &str, model: &mut Model, server: &mut Server, history: &[String]) {
    for line in ["GET", "PEXPIRETIME", "TYPE"] {
        let call = parse_call(&format!("{line} {key}"));
        let (ours, theirs) = (model.call(&call), server.call(&call));
        assert!(alike(&call, &ours, &theirs), "{key}: {ours:?} {theirs:?}\n{}", history.join("\n"));
    }
    let dump = parse_call(&format!("DUMP {key}"));
    if let (Reply::Bulk(ours), Reply::Bulk(theirs)) = (model.call(&dump), server.call(&dump)) {
        let restore = |payload| {
            [Bytes::from("RESTORE"), "other".into(), "0".into(), payload, "REPLACE".into()]
        };
        assert_eq!(model.call(&restore(theirs)), Reply::OK, "{}", history.join("\n"));
        assert_eq!(show(&server.call(&restore(ours))), "OK", "{}", history.join("\n"));
        let get = parse_call("GET other");
        assert_eq!(model.call(&get), server.call(&get));
        let del = parse_call("DEL other");
        assert_eq!(model.call(&del), server.call(&del));
    }
}

/// Whether two replies are the same, as far as they must be: keys come in any order, and times
/// that count from now may differ by what passed between the calls.
fn alike(call: &[Bytes], ours: &Reply, theirs: &Reply) -> bool {
    let name = call[0].to_ascii_uppercase();
    match (&name[..], ours, theirs) {
        (b"PTTL" | b"PEXPIRETIME", Reply::Int(a), Reply::Int(b)) => a.abs_diff(*b) < 2000,
        (b"TTL" | b"EXPIRETIME", Reply::Int(a), Reply::Int(b)) => a.abs_diff(*b) <= 2,
        // Redis counts what has expired until it comes across it.
        (b"DBSIZE", Reply::Int(a), Reply::Int(b)) => a <= b,
        (b"KEYS", Reply::Array(a), Reply::Array(b)) => sorted(a) == sorted(b),
        (b"SCAN", Reply::Array(a), Reply::Array(b)) => match (&a[..], &b[..]) {
            ([end_a, Reply::Array(a)], [end_b, Reply::Array(b)]) => {
                // Only whole scans can be compared.
                let whole = |end: &Reply| *end == Reply::bulk("0");
                !(whole(end_a) && whole(end_b) && call[1] == "0") || sorted(a) == sorted(b)
            }
            _ => false,
        },
        // A cursor that we never gave is an error here.
        (b"SCAN", Reply::Error(_), Reply::Array(_)) => call[1] != "0",
        // What memory a key takes is each server's own affair.
        (b"MEMORY", Reply::Int(_), Reply::Int(_)) => true,
        // The door prints a line's end as a space.
        (_, Reply::Error(a), Reply::Error(b)) => a.replace(['\r', '\n'], " ") == *b,
        (_, ours, theirs) => show(ours) == show(theirs),
    }
}

fn sorted(items: &[Reply]) -> Vec<String> {
    let mut lines: Vec<String> = items.iter().map(show).collect();
    lines.sort();
    lines
}

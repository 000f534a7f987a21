//! Pipelines through a standalone node: placed together, answered as if one by one.

use crate::random::random_call;
use arqondb::env::{Rng, SimClock, SimDisk};
use arqondb::node::Standalone;
use arqondb::op::kv::RedisCall;
use arqondb::op::{KvOps, Reply, Request, Response, command};
use arqondb::{Options, SyncLevel};
use bytes::Bytes;
use std::sync::Arc;

const ROUNDS: u64 = 300;

fn node(sync: SyncLevel) -> Standalone {
    let options = Options {
        sync,
        disk: SimDisk::new().shared(),
        clock: Arc::new(SimClock::at(1_700_000_000_000)),
        memory_budget_bytes: 8 << 20,
        ..Options::default()
    };
    Standalone::open("/db", options).unwrap()
}

fn request(args: Vec<Bytes>) -> Request {
    Request::Redis(RedisCall { spec: command::lookup(&args).unwrap(), args })
}

fn words(words: &[&str]) -> Request {
    request(words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect())
}

fn reply(answer: arqondb::Result<Response>) -> Reply {
    match answer {
        Ok(Response::Redis(reply)) => reply,
        Ok(other) => panic!("{other:?}"),
        Err(error) => Reply::err(error),
    }
}

fn run<T>(event: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(event)
}

/// What all keys hold, in order.
async fn all_keys(node: &Standalone) -> Vec<Reply> {
    let keys = reply(node.call(words(&["KEYS", "*"])).await);
    let Reply::Array(keys) = keys else { panic!("{keys:?}") };
    let mut all = Vec::new();
    for key in &keys {
        let Reply::Bulk(key) = key else { panic!("{key:?}") };
        for name in ["GET", "PEXPIRETIME"] {
            let args = vec![Bytes::from_static(name.as_bytes()), key.clone()];
            all.push(reply(node.call(request(args)).await));
        }
    }
    all.push(Reply::Array(keys));
    all.push(reply(node.call(words(&["DBSIZE"])).await));
    all
}

#[test]
fn a_pipeline_answers_and_leaves_what_its_commands_would_one_by_one() {
    for sync in [SyncLevel::Os, SyncLevel::Always] {
        let (together, apart) = (node(sync), node(sync));
        run(async {
            let mut rng = Rng::new(7);
            for round in 0..ROUNDS {
                let calls: Vec<Request> = (0..rng.below(60))
                    .map(|_| random_call(&mut rng))
                    // A cursor's number is the node's own.
                    .filter(|args| args[0] != "SCAN" && command::lookup(args).is_ok())
                    .map(request)
                    .collect();
                let answers = together.pipeline(calls.clone()).await;
                assert_eq!(answers.len(), calls.len());
                for (call, answer) in calls.into_iter().zip(answers) {
                    let want = reply(apart.call(call.clone()).await);
                    assert_eq!(reply(answer), want, "round {round}: {call:?}");
                }
            }
            assert_eq!(all_keys(&together).await, all_keys(&apart).await);
        });
    }
}

#[test]
fn a_call_that_fails_takes_none_of_its_neighbours_with_it() {
    let node = node(SyncLevel::Always);
    let long = "k".repeat(65 * 1024);
    let mut calls = vec![words(&["SET", "n", "5"])];
    for _ in 0..4 {
        calls.push(words(&["INCR", "n"]));
        calls.push(words(&["MSET", "a", "1", &long, "1"]));
        calls.push(words(&["APPEND", "s", "x"]));
    }
    run(async {
        let replies: Vec<Reply> = node.pipeline(calls).await.into_iter().map(reply).collect();
        assert_eq!(replies[0], Reply::OK);
        for i in 0..4 {
            assert_eq!(replies[1 + 3 * i], Reply::Int(6 + i as i64));
            assert!(replies[2 + 3 * i].is_error());
            assert_eq!(replies[3 + 3 * i], Reply::Int(1 + i as i64));
        }
        assert_eq!(reply(node.call(words(&["DBSIZE"])).await), Reply::Int(2));
    });
}

/// Calls that are legal alone must not fail for what they are together: they share the limits of
/// a batch, and so are placed in several.
#[test]
fn calls_that_write_megabytes_are_placed_in_several_batches() {
    let node = node(SyncLevel::Os);
    let names: Vec<String> = (0..16).map(|i| format!("big:{i}")).collect();
    let calls = names.iter().map(|name| words(&["SETRANGE", name, "700000", "x"])).collect();
    run(async {
        let replies: Vec<Reply> = node.pipeline(calls).await.into_iter().map(reply).collect();
        assert!(replies.iter().all(|reply| *reply == Reply::Int(700_001)));
        for name in &names {
            assert_eq!(reply(node.call(words(&["STRLEN", name])).await), Reply::Int(700_001));
        }
    });
}

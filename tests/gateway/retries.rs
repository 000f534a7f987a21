//! One call that fails, in each way: what the gateway does next, and what it tells.

// tidy: sleeps because time is paused and moves only by being slept through

use crate::words::{append, call, get, kind, put, redis, reply};
use crate::world::{Fault, World};
use arqondb::base::{CfId, ErrorKind};
use arqondb::gateway::{Gateway, GatewayOptions, NodeId, RetryOptions};
use arqondb::op::route::slot_of;
use arqondb::op::{KvOps, Reply, Request, Response};
use std::time::Duration;
use tokio::time::Instant;

fn gateway() -> Gateway<World> {
    World::new(4, 1).gateway(GatewayOptions::default())
}

fn script(gateway: &Gateway<World>, faults: &[Fault]) {
    gateway.calls().state().script.extend(faults);
}

/// The value of `k`.
async fn value(gateway: &Gateway<World>) -> String {
    match gateway.call(get("k")).await.unwrap() {
        Response::Entry(entry) => {
            entry.map_or(String::new(), |e| String::from_utf8(e.value.to_vec()).unwrap())
        }
        other => panic!("{other:?}"),
    }
}

/// Executes one request whose first call meets a fault: what it is told, and how often an `x` it
/// appends is there when all is quiet.
async fn told(request: Request, fault: Fault) -> (Option<ErrorKind>, usize) {
    let gateway = gateway();
    gateway.refresh().await.unwrap();
    script(&gateway, &[fault]);
    let answer = gateway.call(request).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    (kind(&answer), value(&gateway).await.len())
}

#[tokio::test(start_paused = true)]
async fn a_write_with_an_id_is_repeated_whatever_happens_and_happens_once() {
    for fault in [
        Fault::None,
        Fault::Unreachable,
        Fault::LostBefore,
        Fault::LostAfter,
        Fault::LostThenLate,
        Fault::HalfInDoubt,
        Fault::Busy,
        Fault::NoHint,
        Fault::WrongHint,
    ] {
        assert_eq!(told(append("k", "x"), fault).await, (None, 1), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_without_an_id_is_repeated_only_if_it_did_not_begin() {
    let unknown = Some(ErrorKind::Unknown);
    for (fault, told_of, times) in [
        (Fault::None, None, 1),
        (Fault::Unreachable, None, 1),
        (Fault::Busy, None, 1),
        (Fault::NoHint, None, 1),
        (Fault::WrongHint, None, 1),
        (Fault::LostBefore, unknown, 0),
        (Fault::LostAfter, unknown, 1),
        (Fault::LostThenLate, unknown, 1),
        (Fault::HalfInDoubt, unknown, 1),
        (Fault::Hang, unknown, 0),
        (Fault::HangAfter, unknown, 1),
    ] {
        assert_eq!(told(redis("APPEND k x"), fault).await, (told_of, times), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_unknown_once_a_write_may_have_begun_and_only_then() {
    let options = GatewayOptions { call_timeout: Duration::from_secs(3), ..Default::default() };
    let faults: &[(Fault, bool)] =
        &[(Fault::Unreachable, false), (Fault::NoHint, false), (Fault::LostBefore, true)];
    for (fault, begun) in faults {
        for request in [append("k", "x"), get("k"), redis("GET k")] {
            let gateway = World::new(4, 1).gateway(options.clone());
            script(&gateway, &vec![*fault; 10_000]);
            let is_read = arqondb::op::route::is_read(&request);
            let begins = Instant::now();
            let answer = gateway.call(request).await;
            let expected =
                if *begun && !is_read { ErrorKind::Unknown } else { ErrorKind::Deadline };
            assert_eq!(kind(&answer), Some(expected), "{fault:?}");
            let took = begins.elapsed();
            assert!(
                (2..=3).contains(&took.as_secs()) && took <= Duration::from_secs(3),
                "{took:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hints_are_followed_at_once_and_remembered() {
    let gateway = gateway();
    gateway.refresh().await.unwrap();
    gateway.calls().state().elect(slot_of(b"k"));
    let begins = Instant::now();
    assert!(gateway.call(put("k", "1")).await.is_ok());
    assert!(begins.elapsed() < Duration::from_millis(10), "no pause");
    let leader = gateway.calls().state().shard_of(slot_of(b"k")).leader;
    assert_eq!(gateway.map().shard_of(slot_of(b"k")).unwrap().leader, leader);
    let before = gateway.calls().state().calls.len();
    assert!(gateway.call(put("k", "2")).await.is_ok());
    assert_eq!(gateway.calls().state().calls.len(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_send_to_each_other_are_not_followed_for_ever() {
    let gateway = gateway();
    gateway.refresh().await.unwrap();
    script(&gateway, &[Fault::WrongHint; 40]);
    let begins = Instant::now();
    assert!(gateway.call(put("k", "1")).await.is_ok());
    assert!(begins.elapsed() > Duration::from_millis(100), "some pauses");
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_passed_by_until_another_answers() {
    let gateway = gateway();
    gateway.refresh().await.unwrap();
    // Two dead connections: the others are asked, and one of them knows the leader.
    script(&gateway, &[Fault::Unreachable, Fault::Unreachable]);
    assert!(gateway.call(put("k", "1")).await.is_ok());
    let asked: Vec<NodeId> = gateway.calls().state().calls.iter().map(|call| call.1).collect();
    assert_ne!(asked[0], asked[1], "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_epoch_is_learned_from_and_the_run_divided_anew() {
    let gateway = World::new(1, 3).gateway(GatewayOptions::default());
    gateway.refresh().await.unwrap();
    let keys: Vec<String> = (0..40).map(|i| format!("key{i}")).collect();
    for round in 0..4 {
        let slots =
            gateway.calls().state().shards.iter().map(|s| s.slots.first).collect::<Vec<_>>();
        slots.into_iter().for_each(|slot| gateway.calls().state().split(slot));
        let mget = format!("MGET {}", keys.join(" "));
        let mut pipeline: Vec<Request> =
            keys.iter().map(|key| append(key.clone(), round.to_string())).collect();
        pipeline.push(redis(&mget));
        let answers = gateway.pipeline(pipeline).await;
        assert!(answers[..40].iter().all(Result::is_ok));
        let want = Reply::bulk((0..=round).map(|n| n.to_string()).collect::<String>());
        let Reply::Array(values) = reply(answers.into_iter().last().unwrap()) else { panic!() };
        assert_eq!(values.len(), 40);
        assert!(values.iter().all(|value| *value == want), "{values:?}");
    }
    assert_eq!(gateway.map().shards().len(), 16);
}

/// It went on in the lower of two shards, and wrote what is in the other there.
#[tokio::test(start_paused = true)]
async fn a_transaction_for_every_shard_does_not_go_on_in_one_of_two() {
    let gateway = World::new(1, 3).gateway(GatewayOptions::default());
    gateway.refresh().await.unwrap();
    gateway.calls().state().split(0);
    let calls = ["FLUSHALL", "SET bar 1"].map(|line| call(&line.split(' ').collect::<Vec<_>>()));
    let exec = Request::RedisTransaction {
        watched: Vec::new(),
        calls: calls.to_vec(),
        reply_bytes_max: 1_000,
    };
    let Reply::Error(text) = reply(gateway.call(exec).await) else { panic!() };
    assert!(text.starts_with("CROSSSLOT "), "{text}");
    assert!(!gateway.calls().state().calls.is_empty(), "it was tried where there was one shard");
}

#[tokio::test(start_paused = true)]
async fn what_was_split_apart_in_doubt_happens_once_over_the_shards_there_are() {
    let gateway = World::new(1, 3).gateway(GatewayOptions::default());
    gateway.refresh().await.unwrap();
    let writes = ["a", "b"].map(|key| match append(key, "x") {
        Request::Write { writes, .. } => writes.into_iter().next().unwrap(),
        other => panic!("{other:?}"),
    });
    let batch = Request::Write { writes: writes.to_vec(), id: None };
    script(&gateway, &[Fault::LostAfter, Fault::Hang]);
    let splitting = async {
        tokio::time::sleep(Duration::from_millis(4)).await;
        for slot in [0, 0, 0, 9_000, 12_500, 16_000] {
            gateway.calls().state().split(slot);
        }
        gateway.refresh().await.unwrap();
        gateway.calls().state().script.clear();
    };
    let (answer, ()) = tokio::join!(gateway.call(batch.clone()), splitting);
    assert!(matches!(answer, Ok(Response::Committed { .. })), "{answer:?}");
    let values = |text: &'static str| Reply::Array(vec![Reply::bulk(text), Reply::bulk(text)]);
    assert_eq!(reply(gateway.call(redis("MGET a b")).await), values("x"));
    assert!(matches!(gateway.call(batch).await, Ok(Response::Committed { .. })));
    assert_eq!(reply(gateway.call(redis("MGET a b")).await), values("xx"));
}

#[tokio::test(start_paused = true)]
async fn cached_shards_are_served_while_the_catalog_is_down() {
    let gateway = gateway();
    gateway.refresh().await.unwrap();
    gateway.calls().state().catalog_is_up = false;
    script(&gateway, &[Fault::Unreachable, Fault::NoHint]);
    assert!(gateway.call(put("k", "1")).await.is_ok());
    assert!(gateway.call(redis("DBSIZE")).await.is_ok());
    let fresh = World::new(4, 1).gateway(GatewayOptions::default());
    fresh.calls().state().catalog_is_up = false;
    assert_eq!(kind(&fresh.call(put("k", "1")).await), Some(ErrorKind::Deadline));
    assert!(fresh.calls().state().calls.is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_budget_nothing_is_tried_again() {
    let retry = RetryOptions { budget: 5, budget_per_second: 0, ..RetryOptions::default() };
    let gateway = World::new(4, 1).gateway(GatewayOptions { retry, ..Default::default() });
    gateway.refresh().await.unwrap();
    script(&gateway, &[Fault::NoHint; 100]);
    assert_eq!(kind(&gateway.call(put("k", "1")).await), Some(ErrorKind::Unavailable));
    assert_eq!(gateway.calls().state().calls.len(), 6);
    assert_eq!(kind(&gateway.call(put("k", "1")).await), Some(ErrorKind::Unavailable));
    assert_eq!(gateway.calls().state().calls.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_catalog_request_that_may_have_happened_is_unknown() {
    let gateway = gateway();
    script(&gateway, &[Fault::LostAfter]);
    let create = Request::CreateCf { name: "f".to_string() };
    assert_eq!(kind(&gateway.call(create.clone()).await), Some(ErrorKind::Unknown));
    assert!(matches!(gateway.call(create.clone()).await, Ok(Response::ColumnFamily(_))));
    gateway.calls().state().catalog_is_up = false;
    assert_eq!(kind(&gateway.call(create).await), Some(ErrorKind::Deadline));
    script(&gateway, &[Fault::LostAfter]);
    let listed = gateway.call(Request::ListCfs).await;
    let Ok(Response::ColumnFamilies(families)) = listed else { panic!("{listed:?}") };
    assert_eq!(families.len(), 2, "the shards know without the catalog");
}

#[tokio::test(start_paused = true)]
async fn a_family_is_created_or_dropped_when_all_shards_say_so() {
    let gateway = gateway();
    for request in [Request::CreateCf { name: "f".to_string() }, Request::DropCf { cf: CfId(7) }] {
        // Four shards look at a time.
        gateway.calls().state().looks = 4 * 5 + 2;
        assert!(gateway.call(request.clone()).await.is_ok());
        assert_eq!(gateway.calls().state().looks, 0, "{request:?}");
    }
    gateway.calls().state().looks = usize::MAX;
    let begins = Instant::now();
    let late = gateway.call(Request::CreateCf { name: "g".to_string() }).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Unknown);
    assert!(late.message().contains("is created in the catalog"), "{late}");
    assert!(begins.elapsed() <= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_run_is_one_call_a_shard_and_all_at_once() {
    let gateway = gateway();
    gateway.refresh().await.unwrap();
    let pipeline: Vec<Request> = (0..100).map(|i| append(format!("key{i}"), "x")).collect();
    let begins = Instant::now();
    assert!(gateway.pipeline(pipeline.clone()).await.iter().all(Result::is_ok));
    assert!(begins.elapsed() < Duration::from_millis(4), "not one after the other");
    assert_eq!(gateway.calls().state().calls.len(), 4);
    assert_eq!(gateway.calls().state().inside.1, 4);
    // A request for every shard divides a run in two.
    let mut with_barrier = pipeline.clone();
    with_barrier.push(redis("DBSIZE"));
    with_barrier.extend(pipeline);
    let answers = gateway.pipeline(with_barrier).await;
    assert_eq!(answers.len(), 201);
    assert_eq!(reply(answers.into_iter().nth(100).unwrap()), Reply::Int(100));
    // It is read twice: the first time nothing is known of the shards.
    assert_eq!(gateway.calls().state().calls.len(), 4 + 4 + 2 * 4 + 4);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_gives_no_answer_does_not_eat_the_deadline() {
    let options = GatewayOptions { call_timeout: Duration::from_secs(30), ..Default::default() };
    for (request, fault) in [
        (get("k"), Fault::Hang),
        (redis("GET k"), Fault::Hang),
        (redis("DBSIZE"), Fault::Hang),
        (put("k", "1"), Fault::Hang),
        (append("k", "x"), Fault::HangAfter),
    ] {
        let gateway = World::new(4, 1).gateway(options.clone());
        gateway.refresh().await.unwrap();
        script(&gateway, &[fault]);
        let begins = Instant::now();
        let answer = gateway.call(request.clone()).await;
        assert!(answer.is_ok(), "{request:?}: {answer:?}");
        let took = begins.elapsed();
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(3), "{took:?}");
        let state = gateway.calls().state();
        if let Some(stored) = state.keys.get(&b"k"[..]) {
            assert!(stored.value.len() == 1, "it happened once");
        }
    }
    // What may not be repeated waits for its answer to the end.
    let gateway = World::new(4, 1).gateway(options);
    script(&gateway, &[Fault::Hang]);
    let begins = Instant::now();
    assert_eq!(kind(&gateway.call(redis("INCR k")).await), Some(ErrorKind::Unknown));
    assert_eq!(begins.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_falls_silent_is_not_asked_again_at_its_followers_word() {
    let options = GatewayOptions { call_timeout: Duration::from_secs(3), ..Default::default() };
    let gateway = World::new(1, 1).gateway(options);
    gateway.refresh().await.unwrap();
    // Another replica still takes the silent one for the leader; then it leads itself.
    script(&gateway, &[Fault::Hang]);
    let silent = gateway.map().shard_of(0).unwrap().leader.unwrap();
    let answer = gateway.call(put("k", "1")).await;
    assert!(matches!(answer, Ok(Response::Committed { .. })), "{answer:?}");
    let asked: Vec<_> = gateway.calls().state().calls.iter().map(|(_, node, _)| *node).collect();
    assert_eq!(asked[0], silent);
    assert_ne!(asked[1], silent, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_long_is_waited_for_longer_each_time() {
    let options = GatewayOptions { call_timeout: Duration::from_secs(30), ..Default::default() };
    let gateway = World::new(1, 1).gateway(options);
    gateway.refresh().await.unwrap();
    script(&gateway, &[Fault::Hang, Fault::Hang, Fault::Hang]);
    let begins = Instant::now();
    assert!(gateway.call(get("k")).await.is_ok());
    let took = begins.elapsed();
    assert!((Duration::from_secs(7)..Duration::from_secs(9)).contains(&took), "{took:?}");
}

//! What cannot be atomic over several shards is refused; what cluster clients are told.

use crate::words::{call, kind, put, redis, reply};
use crate::world::World;
use arqondb::base::{CfId, ErrorKind, Seq};
use arqondb::gateway::{Gateway, GatewayOptions, Node, ShardInfo};
use arqondb::op::kv::{Watched, Write};
use arqondb::op::route::slot_of;
use arqondb::op::{KvOps, Reply, Request, Response};
use bytes::Bytes;

async fn gateway(options: GatewayOptions) -> Gateway<World> {
    let gateway = World::new(4, 1).gateway(options);
    gateway.refresh().await.unwrap();
    gateway
}

fn cross_slot(slots: &str) -> Reply {
    Reply::Error(format!("CROSSSLOT Keys in request don't hash to the same slot (slots {slots})"))
}

#[tokio::test(start_paused = true)]
async fn redis_calls_over_several_shards_are_refused_by_slot_or_divided_if_they_list_keys() {
    let gateway = gateway(GatewayOptions::default()).await;
    assert_eq!((slot_of(b"foo"), slot_of(b"bar")), (12_182, 5_061));
    for line in [
        "MSET foo 1 bar 2",
        "MSETNX foo 1 bar 2",
        "DEL foo bar",
        "UNLINK foo bar",
        "RENAME foo bar",
        "COPY foo bar",
        "BITOP AND foo bar",
        "LCS foo bar",
        "SORT foo STORE bar",
    ] {
        let answer = gateway.call(redis(line)).await;
        assert_eq!(reply(answer), cross_slot("5061, 12182"), "{line}");
    }
    assert!(gateway.calls().state().calls.is_empty());
    let pipeline =
        ["SET foo 1", "MSET foo 2 bar 2", "SET hello 3", "MGET bar hello foo nosuch hello"];
    let answers = gateway.pipeline(pipeline.map(redis).to_vec()).await;
    let answers: Vec<Reply> = answers.into_iter().map(reply).collect();
    let (one, three) = (Reply::bulk("1"), Reply::bulk("3"));
    let values = Reply::Array(vec![Reply::Nil, three.clone(), one, Reply::Nil, three]);
    assert_eq!(answers, [Reply::OK, cross_slot("5061, 12182"), Reply::OK, values]);
    for (line, n) in [("EXISTS foo bar hello foo", 3), ("TOUCH foo bar hello", 2)] {
        assert_eq!(reply(gateway.call(redis(line)).await), Reply::Int(n), "{line}");
    }
    // Slots of one shard are as good as one slot.
    let near = (0..).map(|n| format!("near{n}")).find(|key| {
        let (slot, foo) = (slot_of(key.as_bytes()), slot_of(b"foo"));
        slot != foo && gateway.map().place_of(slot) == gateway.map().place_of(foo)
    });
    let line = format!("DEL foo {}", near.unwrap());
    assert_eq!(reply(gateway.call(redis(&line)).await), Reply::Int(1));
}

#[tokio::test(start_paused = true)]
async fn batches_and_transactions_over_several_shards_are_refused() {
    let gateway = gateway(GatewayOptions::default()).await;
    let writes = ["foo", "bar"].map(|key| Write::Delete { cf: CfId(3), key: Bytes::from(key) });
    let batch = Request::Write { writes: writes.to_vec(), id: None };
    let error = gateway.call(batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("slots 5061, 12182"), "{error}");
    let watched = vec![Watched { key: Bytes::from("bar"), at: Seq(0), existed: false }];
    let exec = |lines: &[&str]| Request::RedisTransaction {
        watched: watched.clone(),
        calls: lines.iter().map(|line| call(&line.split(' ').collect::<Vec<_>>())).collect(),
        reply_bytes_max: 1_000,
    };
    assert_eq!(reply(gateway.call(exec(&["SET foo 1"])).await), cross_slot("5061, 12182"));
    let Reply::Error(text) = reply(gateway.call(exec(&["SET bar 1", "DBSIZE"])).await) else {
        panic!()
    };
    assert!(text.starts_with("CROSSSLOT "), "{text}");
    let watch = Request::Watch { keys: vec![Bytes::from("foo"), Bytes::from("bar")] };
    assert_eq!(reply(gateway.call(watch).await), cross_slot("5061, 12182"));
    assert!(gateway.calls().state().calls.is_empty());
    let many: Vec<String> = (0..200).map(|n| format!("key{n}")).collect();
    let line = format!("DEL {}", many.join(" "));
    let Reply::Error(text) = reply(gateway.call(redis(&line)).await) else { panic!() };
    assert!(text.len() < 140 && text.ends_with(", ...)"), "{text}");
}

/// The shards of the world, with nodes that Redis clients reach.
fn reachable(gateway: &Gateway<World>) -> Vec<ShardInfo> {
    let mut shards = gateway.calls().state().shards.clone();
    for shard in &mut shards {
        shard.epoch += 1;
        for replica in &mut shard.replicas {
            let redis = Some(format!("10.0.0.{}:6379", replica.id.0).into());
            *replica = Node { redis, ..replica.clone() };
        }
    }
    shards
}

#[tokio::test(start_paused = true)]
async fn moved_is_told_if_asked_for_and_the_slot_is_led_elsewhere() {
    let own = Some("10.0.0.1:6379".into());
    let options = GatewayOptions { moved: true, redis_address: own, ..Default::default() };
    let gateway = gateway(options).await;
    // Nobody reaches the nodes: all is passed on.
    assert_eq!(reply(gateway.call(redis("SET foo 1")).await), Reply::OK);
    let shards = reachable(&gateway);
    gateway.calls().state().shards.clone_from(&shards);
    gateway.learn(&shards);
    for key in ["foo", "bar", "hello", "b"] {
        let slot = slot_of(key.as_bytes());
        let leader = shards.iter().find(|s| s.slots.contains(slot)).unwrap().leader.unwrap().0;
        let answer = reply(gateway.call(redis(&format!("SET {key} 2"))).await);
        let moved = Reply::Error(format!("MOVED {slot} 10.0.0.{leader}:6379"));
        assert_eq!(answer, if leader == 1 { Reply::OK } else { moved }, "{key}");
        assert_eq!(kind(&gateway.call(put(key, "3")).await), None, "no Redis client");
    }
    assert!(matches!(reply(gateway.call(redis("DBSIZE")).await), Reply::Int(_)));
}

#[tokio::test(start_paused = true)]
async fn the_topology_follows_the_map() {
    let own = Some("gw:7000".into());
    let gateway = gateway(GatewayOptions { redis_address: own, ..Default::default() }).await;
    let alone = gateway.topology().unwrap();
    assert_eq!((alone.nodes.len(), alone.leader_of(9)), (1, Some(0)));
    gateway.learn(&reachable(&gateway));
    let told = gateway.topology().unwrap();
    assert_eq!((told.nodes.len(), told.ranges.len()), (4, 4));
    assert!(told.epoch > alone.epoch);
    for shard in gateway.map().shards() {
        let leader = told.leader_of(shard.slots.first).unwrap();
        let host = format!("10.0.0.{}", shard.leader.unwrap().0);
        assert_eq!(told.nodes[leader].host, host);
    }
    let unreached = World::new(4, 1).gateway(GatewayOptions::default());
    unreached.refresh().await.unwrap();
    assert!(unreached.topology().is_none());
    assert!(matches!(unreached.call(redis("GET a")).await, Ok(Response::Redis(Reply::Nil))));
}

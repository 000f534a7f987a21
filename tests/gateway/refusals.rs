//! What happens as one over several shards, and what is refused; what cluster clients are told.

use crate::words::{call, kind, put, redis, reply};
use crate::world::World;
use arqondb::base::{CfId, ErrorKind};
use arqondb::gateway::{Gateway, GatewayOptions, Node, ShardInfo};
use arqondb::op::kv::Write;
use arqondb::op::route::slot_of;
use arqondb::op::txn::TXN_KEYS_MAX;
use arqondb::op::{KvOps, Reply, Request, Response};
use bytes::Bytes;

async fn gateway(options: GatewayOptions) -> Gateway<World> {
    let gateway = World::new(4, 1).gateway(options);
    gateway.refresh().await.unwrap();
    gateway
}

#[tokio::test(start_paused = true)]
async fn redis_calls_over_several_shards_happen_as_one_and_in_their_place() {
    let gateway = gateway(GatewayOptions::default()).await;
    assert_eq!((slot_of(b"foo"), slot_of(b"bar")), (12_182, 5_061));
    let pipeline =
        ["SET foo 1", "MSET foo 2 bar 2", "SET foo 3", "MGET bar foo nosuch foo", "RENAME foo bar"];
    let answers = gateway.pipeline(pipeline.map(redis).to_vec()).await;
    let answers: Vec<Reply> = answers.into_iter().map(reply).collect();
    let (two, three) = (Reply::bulk("2"), Reply::bulk("3"));
    let values = Reply::Array(vec![two, three.clone(), Reply::Nil, three.clone()]);
    assert_eq!(answers, [Reply::OK, Reply::OK, Reply::OK, values, Reply::OK]);
    for (line, answer) in [
        ("MGET foo bar", Reply::Array(vec![Reply::Nil, three])),
        ("MSETNX foo 1 bar 2", Reply::Int(0)),
        ("EXISTS foo bar hello foo", Reply::Int(1)),
        ("COPY bar foo", Reply::Int(1)),
        ("TOUCH foo bar hello", Reply::Int(2)),
        ("LCS foo bar", Reply::bulk("3")),
        ("BITOP AND foo bar hello", Reply::Int(1)),
        ("DEL foo bar hello", Reply::Int(2)),
        ("DBSIZE", Reply::Int(0)),
    ] {
        assert_eq!(reply(gateway.call(redis(line)).await), answer, "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_reaches_into_every_shard_or_too_many_keys_is_refused() {
    let gateway = gateway(GatewayOptions::default()).await;
    let calls = ["SET bar 1", "DBSIZE"].map(|line| call(&line.split(' ').collect::<Vec<_>>()));
    let exec = Request::RedisTransaction {
        watched: Vec::new(),
        calls: calls.to_vec(),
        reply_bytes_max: 1_000,
    };
    let Reply::Error(text) = reply(gateway.call(exec).await) else { panic!() };
    assert!(text.starts_with("CROSSSLOT "), "{text}");
    let writes = (0..=TXN_KEYS_MAX)
        .map(|n| Write::Delete { cf: CfId::DEFAULT, key: Bytes::from(n.to_string()) });
    let batch = Request::Write { writes: writes.collect(), id: None };
    let error = gateway.call(batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("{hash tag}"), "{error}");
    assert!(gateway.calls().state().calls.is_empty());
    let watch = Request::Watch { keys: ["foo", "bar", "foo"].map(Bytes::from).to_vec() };
    let Response::Watched(watched) = gateway.call(watch).await.unwrap() else { panic!() };
    let keys: Vec<&[u8]> = watched.iter().map(|watched| &watched.key[..]).collect();
    assert_eq!(keys, [b"foo", b"bar", b"foo"]);
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

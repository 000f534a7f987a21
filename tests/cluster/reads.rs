//! Reads by how fresh they must be.

use crate::world::{World, soon};
use arqondb::CfId;
use arqondb::base::ErrorKind;
use arqondb::gateway::{
    CallFailure, Called, Consistency, Gateway, GatewayOptions, Node, NodeId, RemoteShards,
    ShardCalls, ShardInfo, Target,
};
use arqondb::op::kv::{Expiry, Write};
use arqondb::op::{KvOps, Request, Response};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

const LONG: Consistency = Consistency::Stale { bound_ms: 600_000 };

fn get() -> Request {
    Request::Get { cf: CfId::DEFAULT, key: Bytes::from("k") }
}

async fn put(kv: &impl KvOps, value: u32) {
    let value = Bytes::from(value.to_string());
    let write =
        Write::Put { cf: CfId::DEFAULT, key: Bytes::from("k"), value, expiry: Expiry::Never };
    kv.call(Request::Write { writes: vec![write], id: None }).await.unwrap();
}

/// What a node answers when it is asked for `k`: the value, or why not.
async fn ask(
    shards: &RemoteShards,
    shard: &ShardInfo,
    node: &Node,
    consistency: Consistency,
) -> Result<u32, CallFailure> {
    let (shard, epoch, node) = (shard.id, shard.epoch, node.clone());
    let to = Target { shard, epoch, node, consistency };
    let deadline = Instant::now() + Duration::from_secs(20);
    let Called { answers, stopped } = shards.call(&to, &[get()], deadline).await;
    if let Some(failure) = stopped {
        return Err(failure);
    }
    match answers.into_iter().next().unwrap() {
        Ok(Response::Entry(Some(entry))) => {
            Ok(std::str::from_utf8(&entry.value).unwrap().parse().unwrap())
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(CallFailure::Unreachable(error)),
    }
}

/// The one shard, with its leader and who follows.
async fn shard(gateway: &Gateway<RemoteShards>) -> (ShardInfo, Node, Vec<Node>) {
    let info = gateway.calls().shards().await.unwrap().remove(0);
    let (leader, followers) =
        info.replicas.clone().into_iter().partition(|r| Some(r.id) == info.leader);
    let leader: Vec<Node> = leader;
    (info, leader[0].clone(), followers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_answers_within_the_bound_and_no_longer_once_it_is_cut_off() {
    let mut world = World::cluster(1, 3, 1, 3).await;
    let gateway = world.gateway();
    put(&*gateway, 0).await;
    let (info, leader, followers) = shard(&gateway).await;
    let shards = gateway.calls();
    let now = Consistency::Stale { bound_ms: 0 };
    for i in 1..=30 {
        put(&*gateway, i).await;
        for node in &followers {
            // Nothing acknowledged before it came is missed.
            assert_eq!(ask(shards, &info, node, now).await.unwrap(), i);
        }
        assert_eq!(ask(shards, &info, &leader, Consistency::Lease).await.unwrap(), i);
        assert_eq!(ask(shards, &info, &leader, LONG).await.unwrap(), i);
    }
    for consistency in [Consistency::Linearizable, Consistency::Lease] {
        let refused = ask(shards, &info, &followers[0], consistency).await;
        assert!(
            matches!(refused, Err(CallFailure::NotLeader { leader: Some(ref l) }) if l.id == leader.id)
        );
    }

    // One follower is left alone: it knows how fresh it was, and by how much that is too little.
    for node in 1..=3 {
        if NodeId(world.nodes[&node].member.id()) != followers[0].id {
            world.stop_node(node).await;
        }
    }
    assert_eq!(ask(shards, &info, &followers[0], LONG).await.unwrap(), 30);
    // Were the lead handed to it, it would be a follower again once its lease has run out.
    let follows =
        async { while ask(shards, &info, &followers[0], Consistency::Lease).await.is_ok() {} };
    tokio::time::timeout_at(crate::world::soon(), follows).await.unwrap();
    let refused = ask(shards, &info, &followers[0], now).await.unwrap_err();
    let CallFailure::Unreachable(error) = refused else { panic!("{refused:?}") };
    assert!(error.message().contains("more than 0 ms behind"), "{error}");
    // Through a gateway too, which tries every replica.
    let options = GatewayOptions { call_timeout: Duration::from_secs(3), ..Default::default() };
    let short = Gateway::new(RemoteShards::new(world.client()), options);
    assert!(matches!(short.call_at(LONG, get()).await, Ok(Response::Entry(Some(_)))));
    let begins = Instant::now();
    for consistency in [now, Consistency::Lease, Consistency::Linearizable] {
        let late = short.call_at(consistency, get()).await.unwrap_err();
        assert!(matches!(late.kind(), ErrorKind::Deadline | ErrorKind::Unavailable), "{late}");
    }
    assert!(begins.elapsed() < Duration::from_secs(15) && Instant::now() < soon());
}

//! Column families over several shards.

use crate::world::{Ways, World, soon};
use arqondb::CfId;
use arqondb::base::{ErrorKind, Result};
use arqondb::gateway::{Gateway, RemoteShards, ShardCalls};
use arqondb::node::cluster::MemberOptions;
use arqondb::op::kv::{CfInfo, Expiry, Scan, Write};
use arqondb::op::{KvOps, Request, Response};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

fn put(cf: CfId, key: &str, value: &str) -> Request {
    let (key, value) = (Bytes::from(key.to_string()), Bytes::from(value.to_string()));
    let write = Write::Put { cf, key, value, expiry: Expiry::Never };
    Request::Write { writes: vec![write], id: None }
}

async fn write(kv: &impl KvOps, cf: CfId, keys: std::ops::Range<u32>, value: &str) {
    for i in keys {
        let answer = kv.call(put(cf, &format!("key-{i}"), value)).await;
        assert!(matches!(answer, Ok(Response::Committed { .. })), "{answer:?}");
    }
}

/// The keys of a family, with their values.
async fn all(kv: &impl KvOps, cf: CfId) -> Result<Vec<(Bytes, Bytes)>> {
    let scan = Scan { cf, limit: 1_000, ..Scan::default() };
    match kv.call(Request::Scan(scan)).await? {
        Response::Page { entries, .. } => {
            Ok(entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
        }
        other => panic!("{other:?}"),
    }
}

async fn create(kv: &impl KvOps, name: &str) -> CfId {
    match kv.call(Request::CreateCf { name: name.to_string() }).await.unwrap() {
        Response::ColumnFamily(info) if info.name == name => info.id,
        other => panic!("{other:?}"),
    }
}

async fn list(kv: &impl KvOps) -> Vec<CfInfo> {
    match kv.call(Request::ListCfs).await.unwrap() {
        Response::ColumnFamilies(families) => families,
        other => panic!("{other:?}"),
    }
}

fn kind<T: std::fmt::Debug>(answer: Result<T>) -> ErrorKind {
    answer.unwrap_err().kind()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_family_is_there_at_once_survives_restarts_and_is_gone_at_once() {
    let mut world = World::cluster(1, 3, 8, 3).await;
    let (one, other) = (world.gateway(), world.gateway());
    let cf = create(&*one, "logs").await;
    assert_eq!(
        kind(one.call(Request::CreateCf { name: "logs".into() }).await),
        ErrorKind::AlreadyExists
    );
    assert_eq!(
        kind(one.call(Request::CreateCf { name: "__x".into() }).await),
        ErrorKind::InvalidArgument
    );
    // Whoever asks next, anywhere, may use it.
    write(&*other, cf, 0..40, "first").await;
    assert_eq!(all(&*one, cf).await.unwrap().len(), 40);
    assert!(all(&*one, CfId::DEFAULT).await.unwrap().is_empty());
    for node in 1..=3 {
        world.stop_node(node).await;
        write(&*one, cf, 40 * node as u32..40 * node as u32 + 40, "later").await;
        world.start_node(node).await;
    }
    assert_eq!(all(&*other, cf).await.unwrap().len(), 160);
    let named: Vec<(CfId, String)> =
        list(&*other).await.into_iter().map(|f| (f.id, f.name)).collect();
    assert_eq!(named, [(CfId::DEFAULT, "default".to_string()), (cf, "logs".to_string())]);

    one.call(Request::DropCf { cf }).await.unwrap();
    assert_eq!(kind(all(&*other, cf).await), ErrorKind::NotFound);
    assert_eq!(kind(other.call(put(cf, "key-1", "none")).await), ErrorKind::NotFound);
    assert_eq!(kind(one.call(Request::DropCf { cf }).await), ErrorKind::NotFound);
    assert_eq!(kind(one.call(Request::DropCf { cf: CfId::DEFAULT }).await), ErrorKind::Refused);
    let again = create(&*other, "logs").await;
    assert!(again > cf, "an id is never used again");
    assert!(all(&*one, again).await.unwrap().is_empty());
    write(&*one, again, 0..8, "new").await;
    assert_eq!(kind(all(&*one, cf).await), ErrorKind::NotFound);
}

/// Moves the lead of every shard to a node.
async fn lead_all(world: &World, gateway: &Gateway<RemoteShards>, node: usize) {
    let shards = gateway.calls();
    let id = world.nodes[&node].member.id();
    let client = world.client();
    let view = client.wait_for(soon(), |view| view.shards().count() > 0).await.unwrap();
    for record in view.shards() {
        let shard = record.id;
        let to = record.replicas.iter().find(|r| r.node.0 == id).unwrap().id;
        let led_by =
            |view: &arqondb::catalog::View| view.shard(shard).and_then(|s| s.leader_node());
        while led_by(&client.view()).map(|node| node.0) != Some(id) {
            let infos = shards.shards().await.unwrap();
            let info = infos.iter().find(|info| info.id.0 == shard.0).unwrap();
            if let Some(from) = info.leading().filter(|from| from.id.0 != id) {
                _ = shards.transfer(from, shard.0, to.0, Duration::from_secs(5)).await;
            }
            let led = |view: &arqondb::catalog::View| led_by(view).map(|node| node.0) == Some(id);
            let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
            _ = client.wait_for(deadline, led).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_away_learns_of_families_by_snapshot() {
    let little = |options: &mut MemberOptions| {
        (options.group.log_bytes, options.group.log_bytes_max) = (16 << 10, 32 << 10);
    };
    let ways = Ways { change: Arc::new(little), ..Ways::default() };
    let mut world = World::cluster_with(1, 3, 2, 3, ways).await;
    let gateway = world.gateway();
    let gone = create(&*gateway, "gone").await;
    write(&*gateway, gone, 0..10, "old").await;
    world.stop_node(3).await;
    gateway.call(Request::DropCf { cf: gone }).await.unwrap();
    let cf = create(&*gateway, "kept").await;
    // More than the log keeps.
    let long = "x".repeat(2_000);
    write(&*gateway, cf, 0..200, &long).await;
    write(&*gateway, CfId::DEFAULT, 0..30, "counted").await;
    world.start_node(3).await;
    lead_all(&world, &gateway, 3).await;
    assert_eq!(all(&*gateway, cf).await.unwrap().len(), 200);
    assert_eq!(kind(all(&*gateway, gone).await), ErrorKind::NotFound);
    assert_eq!(size(&*gateway).await, 30, "a snapshot has counts with it");
    // What it got is its own.
    world.stop_node(3).await;
    write(&*gateway, CfId::DEFAULT, 30..40, "counted").await;
    world.start_node(3).await;
    lead_all(&world, &gateway, 3).await;
    assert_eq!(all(&*gateway, cf).await.unwrap().len(), 200);
    assert_eq!(size(&*gateway).await, 40);
}

/// DBSIZE.
async fn size(kv: &impl KvOps) -> u64 {
    match kv.call(Request::Stats).await.unwrap() {
        Response::Stats(stats) => stats.keys,
        other => panic!("{other:?}"),
    }
}

//! Leaders that go and come.

use crate::world::{Ways, World, soon};
use crate::writer::Writers;
use arqondb::catalog::plan::Move;
use arqondb::catalog::records::{JobKind, Replica, Shard};
use arqondb::catalog::{Action, NodeId, ReplicaId, ShardId, View};
use arqondb::gateway::{Gateway, GatewayOptions, RemoteShards};
use arqondb::meta::jobs::Order;
use arqondb::node::cluster::Troubles;
use arqondb::op::kv::{Expiry, Write};
use arqondb::op::{KvOps, Request, Response};
use arqondb::{CfId, ErrorKind};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

fn put(key: &str, value: &str) -> Request {
    let write = Write::Put {
        cf: CfId::DEFAULT,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        expiry: Expiry::Never,
    };
    Request::Write { writes: vec![write], id: None }
}

async fn get(kv: &impl KvOps, key: &str) -> Option<String> {
    let request = Request::Get { cf: CfId::DEFAULT, key: Bytes::copy_from_slice(key.as_bytes()) };
    match kv.call(request).await.unwrap() {
        Response::Entry(entry) => entry.map(|e| String::from_utf8(e.value.to_vec()).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_through_one_gateway_is_read_through_another() {
    let world = World::cluster(1, 3, 8, 3).await;
    let (one, other) = (world.gateway(), world.gateway());
    for i in 0..200 {
        let answer = one.call(put(&format!("key-{i}"), &format!("value-{i}"))).await;
        assert!(matches!(answer, Ok(Response::Committed { .. })), "{answer:?}");
    }
    for i in 0..200 {
        assert_eq!(get(&*other, &format!("key-{i}")).await, Some(format!("value-{i}")));
    }
    assert_eq!(get(&*other, "no such key").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_restarted_one_after_the_other_lose_nothing_and_fail_no_request() {
    let mut world = World::cluster(3, 3, 4, 3).await;
    let gateway = world.gateway();
    let mut model: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..3 {
        for node in 1..=3 {
            world.stop_node(node).await;
            for i in 0..20 {
                let (key, value) = (format!("key-{}", i * 7 % 50), format!("{round}-{node}-{i}"));
                let answer = gateway.call(put(&key, &value)).await;
                assert!(matches!(answer, Ok(Response::Committed { .. })), "{answer:?}");
                model.insert(key, value);
            }
            world.start_node(node).await;
            for (key, value) in &model {
                assert_eq!(get(&*gateway, key).await.as_ref(), Some(value), "{key}");
            }
        }
    }
    let view = world.client().wait_for(soon(), |view| view.nodes().count() == 3).await.unwrap();
    assert!(view.nodes().all(|node| node.id.0 <= 3), "a node that came back kept its number");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_cannot_run_is_told_of_and_replaced() {
    let mut world = World::cluster(1, 3, 2, 3).await;
    let gateway = world.gateway();
    gateway.call(put("key", "value")).await.unwrap();
    world.stop_node(2).await;
    let view = world.client().wait_for(soon(), |view| view.shards().count() == 2).await.unwrap();
    let shard = view.shards().next().unwrap();
    let (lost, old) = (shard.id, shard.replica_on(NodeId(2)).unwrap().id);
    let folder = world.folder(2).join("groups").join(format!("group-{lost}"));
    std::fs::remove_dir_all(folder).unwrap();
    world.start_node(2).await;
    let mut troubles = world.nodes[&2].member.troubles();
    let told = tokio::time::timeout_at(soon(), troubles.wait_for(|told| !told.is_empty())).await;
    let told = told.unwrap().unwrap().clone();
    assert_eq!(told.keys().collect::<Vec<_>>(), [&lost], "the other runs");
    assert!(told[&lost].contains("remove this replica and add a new one"), "{told:?}");
    assert_eq!(get(&*gateway, "key").await.as_deref(), Some("value"));
    is_replaced(&world, lost, old).await;
    assert!(world.nodes[&2].member.troubles().borrow().is_empty());
}

/// Waits until the shard has another voter on node 2, that has caught up, and three in all.
async fn is_replaced(world: &World, shard: ShardId, old: ReplicaId) {
    let is_new = |view: &View| {
        let Some(shard) = view.shard(shard) else { return false };
        let new = shard.replica_on(NodeId(2)).filter(|r| r.id != old && r.is_live_voter());
        new.is_some() && shard.replicas.len() == 3
    };
    world.client().wait_for(soon(), is_new).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_replica_is_replaced_while_clients_write_and_counts_again() {
    let mut world = World::cluster(1, 3, 1, 3).await;
    let door = world.gateway();
    let writers = Writers::start(&door, 2, 64);
    writers.more(100).await;
    let view = world.client().wait_for(soon(), |view| view.shards().count() == 1).await.unwrap();
    let shard = view.shards().next().unwrap();
    let (id, old) = (shard.id, shard.replica_on(NodeId(2)).unwrap().id);
    world.stop_node(2).await;
    let folder = world.folder(2).join("groups").join(format!("group-{id}"));
    std::fs::write(folder.join("CURRENT"), b"no generation").unwrap();
    world.start_node(2).await;
    is_replaced(&world, id, old).await;
    writers.more(100).await;
    // Without one of the others, what is acknowledged rests on the new one.
    world.stop_node(1).await;
    writers.more(100).await;
    writers.end(&door).await;
}

/// The folder of the groups is a mount that was forgotten: no replica leaves for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_any_group_folder_is_refused() {
    let mut world = World::cluster(1, 3, 2, 3).await;
    let door = world.gateway();
    door.call(put("key", "value")).await.unwrap();
    world.stop_node(2).await;
    let (groups, aside) = (world.folder(2).join("groups"), world.folder(2).join("aside"));
    std::fs::rename(&groups, &aside).unwrap();
    for empty in [false, true] {
        if empty {
            std::fs::create_dir_all(&groups).unwrap();
        }
        let refused = world.try_start_node(2).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
        assert!(refused.message().contains("groups holds none"), "{refused}");
    }
    std::fs::remove_dir_all(&groups).unwrap();
    std::fs::rename(&aside, &groups).unwrap();
    world.start_node(2).await;
    assert_eq!(get(&*door, "key").await.as_deref(), Some("value"));
    let view = world.client().wait_for(soon(), |view| view.shards().count() == 2).await.unwrap();
    let stay = |shard: &Shard| {
        shard.replicas.len() == 3 && shard.replicas.iter().all(Replica::is_live_voter)
    };
    assert!(view.shards().all(stay), "none has left");
}

/// A folder that the log does not know, left of a time when its group was elsewhere, is in the way of
/// a new replica: that leaves, the folder goes, and the next one can be made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_whose_log_is_gone_goes_once_its_replica_has_left() {
    let (suspect_after, dead_after) = (Duration::from_secs(600), Duration::from_secs(1_200));
    let ways = Ways { suspect_after, dead_after, ..Ways::default() };
    let mut world = World::cluster_with(1, 4, 1, 3, ways).await;
    let (door, client) = (world.gateway(), world.client());
    door.call(put("key", "value")).await.unwrap();
    let view = client.wait_for(soon(), |view| view.shards().count() == 1).await.unwrap();
    let shard = view.shards().next().unwrap().clone();
    let to = (1..=4).map(NodeId).find(|node| shard.replica_on(*node).is_none()).unwrap();
    let moved = Move::Replica { shard: shard.id, from: Some(shard.replicas[2].id), to: Some(to) };
    let job = || Action::CreateJob {
        kind: JobKind::MoveReplica,
        shard: Some(shard.id),
        node: None,
        steps: Order::of_move(&moved, None).encode(),
    };
    let there = |view: &View| view.shard(shard.id)?.replica_on(to).copied();
    world.stop_node(to.0 as usize).await;
    let folder = world.folder(to.0 as usize).join("groups").join(format!("group-{}", shard.id));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("CURRENT"), b"left behind").unwrap();
    client.propose(job(), soon()).await.unwrap();
    client.wait_for(soon(), |view| there(view).is_some()).await.unwrap();
    world.start_node(to.0 as usize).await;
    let is_over =
        |view: &View| there(view).is_none() && view.jobs().all(|job| !job.state.is_active());
    client.wait_for(soon(), is_over).await.unwrap();
    let until = soon();
    while folder.exists() {
        assert!(Instant::now() < until, "the folder stays");
        tokio::task::yield_now().await;
    }
    client.propose(job(), soon()).await.unwrap();
    let votes = |view: &View| there(view).is_some_and(|replica| replica.is_live_voter());
    client.wait_for(soon(), votes).await.unwrap();
    assert_eq!(get(&*door, "key").await.as_deref(), Some("value"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_replica_that_its_shard_cannot_do_without_stays() {
    let mut world = World::cluster(1, 1, 1, 1).await;
    world.gateway().call(put("key", "value")).await.unwrap();
    let view = world.client().wait_for(soon(), |view| view.shards().count() == 1).await.unwrap();
    let id = view.shards().next().unwrap().id;
    world.stop_node(1).await;
    let current = world.folder(1).join("groups").join(format!("group-{id}")).join("CURRENT");
    let whole = std::fs::read(&current).unwrap();
    std::fs::write(&current, b"no generation").unwrap();
    world.start_node(1).await;
    let mut troubles = world.nodes[&1].member.troubles();
    let refused = |told: &Troubles| told.values().any(|told| told.contains("no majority"));
    // What is lent of a watch keeps the node from saying more.
    let told = tokio::time::timeout_at(soon(), troubles.wait_for(refused)).await.map(drop);
    assert!(told.is_ok(), "{:?}", world.nodes[&1].member.troubles().borrow());
    // Whoever has the file brings it back.
    std::fs::write(&current, whole).unwrap();
    assert_eq!(get(&*world.gateway(), "key").await.as_deref(), Some("value"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_serves_all_shards_and_calls_those_that_it_leads_without_a_link() {
    let world = World::cluster(1, 3, 4, 3).await;
    for (n, node) in &world.nodes {
        let beside = RemoteShards::beside(node.member.clone());
        let door = Gateway::new(beside, GatewayOptions::default());
        for i in 0..40 {
            let answer = door.call(put(&format!("key-{i}"), &format!("{n}-{i}"))).await;
            assert!(matches!(answer, Ok(Response::Committed { .. })), "{answer:?}");
        }
        let other = world.gateway();
        for i in 0..40 {
            let (key, value) = (format!("key-{i}"), Some(format!("{n}-{i}")));
            assert_eq!(get(&door, &key).await, value);
            assert_eq!(get(&*other, &key).await, value);
        }
    }
}

//! A shard that is split while clients write and read.

use crate::world::{World, soon};
use arqondb::CfId;
use arqondb::catalog::{Action, ShardChange, View};
use arqondb::op::kv::{Expiry, Scan, Write};
use arqondb::op::{KvOps, Request, Response};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn put(key: &str, value: &str) -> Request {
    let write = Write::Put {
        cf: CfId::DEFAULT,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        expiry: Expiry::Never,
    };
    Request::Write { writes: vec![write], id: None }
}

/// Every key and value, in order.
async fn all(kv: &impl KvOps) -> Vec<(String, String)> {
    let (mut found, mut cursor) = (Vec::new(), Bytes::new());
    loop {
        let scan = Scan { limit: 37, cursor, ..Scan::default() };
        let page = match kv.call(Request::Scan(scan)).await.unwrap() {
            Response::Page { entries, next } => (entries, next),
            other => panic!("{other:?}"),
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        found.extend(page.0.iter().map(|e| (text(&e.key), text(&e.value))));
        cursor = page.1;
        if cursor.is_empty() {
            return found;
        }
    }
}

pub(crate) async fn split(world: &World, shard: u64) {
    let client = world.client();
    let view = client.wait_for(soon(), |view| view.shards().next().is_some()).await.unwrap();
    let before = view.shards().count();
    let shard = view.shards().find(|s| s.id.0 == shard).unwrap().clone();
    let at = shard.slots.first + shard.slots.count() / 2;
    let change = ShardChange::BeginSplit(at);
    let action = Action::ChangeShard { shard: shard.id, expected: shard.epoch, change };
    client.propose(action, soon()).await.unwrap();
    let led = |view: &View| {
        view.shards().count() == before + 1
            && view.shards().all(|s| s.leader.is_some_and(|leader| leader.term > 0))
    };
    client.wait_for(soon(), led).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_split_under_writes_lose_nothing_and_fail_no_request() {
    let mut world = World::cluster(1, 3, 1, 3).await;
    let gateway = world.gateway();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (gateway, stop) = (gateway.clone(), stop.clone());
            tokio::spawn(async move {
                let mut model = BTreeMap::new();
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (key, value) = (format!("key-{writer}-{}", n % 100), format!("value-{n}"));
                    let answer = gateway.call(put(&key, &value)).await;
                    assert!(matches!(answer, Ok(Response::Committed { .. })), "{answer:?}");
                    let read = Request::Get { cf: CfId::DEFAULT, key: key.clone().into() };
                    match gateway.call(read).await {
                        Ok(Response::Entry(Some(entry))) => assert_eq!(entry.value, value),
                        other => panic!("{key}: {other:?}"),
                    }
                    model.insert(key, value);
                }
                model
            })
        })
        .collect();
    for shard in 1..=2 {
        split(&world, shard).await;
        let found = all(&*gateway).await;
        assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "each key once, in order");
    }
    stop.store(true, Ordering::Relaxed);
    let mut model = BTreeMap::new();
    for writer in writers {
        model.extend(writer.await.unwrap());
    }
    let expected: Vec<(String, String)> = model.into_iter().collect();
    assert_eq!(all(&*gateway).await, expected);
    // Whoever comes later finds the same, and so do nodes that start anew.
    for node in 1..=3 {
        world.stop_node(node).await;
        world.start_node(node).await;
    }
    assert_eq!(all(&*world.gateway()).await, expected);
    match gateway.call(Request::Stats).await.unwrap() {
        Response::Stats(stats) => assert_eq!(stats.keys, expected.len() as u64),
        other => panic!("{other:?}"),
    }
}

/// Each shard went on with its share of the time when it was opened, and all together took more than
/// there was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_indexes_may_take_is_shared_anew_when_shards_split() {
    let world = World::cluster(1, 1, 1, 1).await;
    let member = &world.nodes[&1].member;
    let shares = || -> Vec<u64> {
        let running = member.running();
        let opened = running.iter().filter_map(|(_, _, handle)| handle.get().ok());
        opened.map(|shard| shard.vector_limits().bytes_max).collect()
    };
    let [whole] = shares()[..] else { panic!("one shard") };
    for shard in 1..=2 {
        split(&world, shard).await;
    }
    let (gateway, until) = (world.gateway(), soon());
    while shares() != [whole / 3; 3] {
        assert!(tokio::time::Instant::now() < until, "{:?} of {whole}", shares());
        gateway.call(Request::Stats).await.unwrap();
    }
}

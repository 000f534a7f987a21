//! The Raft path on the node's log: openraft's own storage suite, and three replicas in one
//! process that lose leaders and unsynced data and agree all the same.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod raft {
    pub(crate) mod cluster;
    pub(crate) mod suite;
}

use arqondb::base::CfId;
use arqondb::env::Rng;
use arqondb::env::sim_disk::Crash;
use arqondb::op::kv::{Expiry, RequestId, Write};
use arqondb::op::{Request, Response};
use bytes::Bytes;
use raft::cluster::Cluster;
use std::collections::{BTreeMap, BTreeSet};

fn put(key: &str, value: &str, request: u64) -> Request {
    let put = Write::Put {
        cf: CfId::DEFAULT,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        expiry: if request.is_multiple_of(7) { Expiry::InMs(1 << 40) } else { Expiry::Never },
    };
    Request::Write { writes: vec![put], id: Some(RequestId { client: 1, request }) }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// Writes while leaders are killed and their disks lose power; afterwards every replica holds the
/// same keys with the same sequence numbers, every acknowledged write among them.
async fn survive(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut cluster = Cluster::start(3, seed).await;
    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    let mut attempted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut request = 0;
    for round in 0..4u64 {
        for _ in 0..rng.below(25) + 5 {
            request += 1;
            let key = format!("key-{}", rng.below(20));
            let value = format!("{round}-{request}");
            match cluster.execute(|| put(&key, &value, request)).await {
                Ok(Response::Committed { .. }) => {
                    attempted.remove(&key);
                    acknowledged.insert(key, value);
                }
                Ok(other) => panic!("seed {seed}: {other:?}"),
                Err(_) => _ = attempted.entry(key).or_default().insert(value),
            }
        }
        // Some of the tables move on, so that a replica restarts from them and not from entry 0.
        if rng.one_in(2) {
            cluster.flush(rng.below(3) + 1);
        }
        let victim = if rng.one_in(3) { rng.below(3) + 1 } else { cluster.leader().await };
        let crash = match rng.below(3) {
            0 => Crash::Process,
            1 => Crash::PowerLostClean,
            _ => Crash::PowerLost(rng.next_u64()),
        };
        cluster.crash(victim, crash).await;
        request += 1;
        let value = format!("{round}-{request}");
        if cluster.execute(|| put("while-one-is-down", &value, request)).await.is_ok() {
            attempted.remove("while-one-is-down");
            acknowledged.insert("while-one-is-down".into(), value);
        } else {
            attempted.entry("while-one-is-down".into()).or_default().insert(value);
        }
        cluster.restart(victim).await;
    }
    let states = cluster.converge().await;
    for (id, state) in &states {
        assert_eq!(state, &states[&1], "seed {seed}: replica {id} differs from replica 1");
    }
    let state = &states[&1];
    for (key, value) in &acknowledged {
        let (found, _) = &state[&(CfId::DEFAULT, Bytes::copy_from_slice(key.as_bytes()))];
        let found = String::from_utf8_lossy(found).into_owned();
        let later = attempted.get(key).is_some_and(|values| values.contains(&found));
        assert!(&found == value || later, "seed {seed}: {key} is {found}, acknowledged {value}");
    }
    cluster.stop().await;
}

#[test]
fn replicas_agree_after_losing_leaders_and_unsynced_data() {
    for seed in 0..40 {
        runtime().block_on(survive(seed));
    }
}

#[test]
fn conditions_are_evaluated_once_by_the_leader_and_retries_apply_once() {
    runtime().block_on(async {
        let cluster = Cluster::start(3, 99).await;
        let append = |request| Request::Write {
            writes: vec![Write::Merge {
                cf: CfId::DEFAULT,
                key: Bytes::from_static(b"log"),
                operand: Bytes::from_static(b"x"),
                op: arqondb::op::kv::MergeOp::Append,
            }],
            id: Some(RequestId { client: 5, request }),
        };
        for request in [1, 1, 2, 1, 2] {
            cluster.execute(|| append(request)).await.unwrap();
        }
        let read = || Request::Get { cf: CfId::DEFAULT, key: Bytes::from_static(b"log") };
        match cluster.execute(read).await.unwrap() {
            Response::Entry(Some(entry)) => assert_eq!(&entry.value[..], b"xx"),
            other => panic!("{other:?}"),
        }
        let states = cluster.converge().await;
        assert_eq!(states[&1], states[&2]);
        assert_eq!(states[&1], states[&3]);
        cluster.stop().await;
    });
}

#[test]
fn a_follower_refuses_writes_and_says_whom_to_ask() {
    runtime().block_on(async {
        let cluster = Cluster::start(3, 7).await;
        let leader = cluster.leader().await;
        let follower = (1..=3).find(|id| *id != leader).unwrap();
        let error = cluster.execute_on(follower, put("a", "b", 1)).await.unwrap_err();
        assert_eq!(error.kind(), arqondb::ErrorKind::Unavailable);
        cluster.stop().await;
    });
}

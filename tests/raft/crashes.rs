//! Leaders that crash, and what they take with them.

use crate::raft::cluster::{Cluster, Oracle, put, runtime};
use arqondb::base::CfId;
use arqondb::env::Rng;
use arqondb::env::sim_disk::Crash;
use arqondb::op::kv::{RequestId, Write};
use arqondb::op::{Request, Response};
use bytes::Bytes;

/// Writes while leaders are killed and their disks lose power; afterwards every replica holds the
/// same keys with the same sequence numbers, every acknowledged write among them.
async fn survive(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut cluster = Cluster::start(3, seed).await;
    let mut oracle = Oracle::default();
    for _ in 0..4 {
        for _ in 0..rng.below(25) + 5 {
            oracle.write(&cluster, &cluster.running(), &mut rng, 10).await;
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
        oracle.write(&cluster, &cluster.running(), &mut rng, 10).await;
        cluster.restart(victim).await;
    }
    oracle.check(seed, &cluster.converge().await);
    assert!(oracle.acknowledged() > 0);
    cluster.stop().await;
}

#[test]
fn replicas_agree_after_losing_leaders_and_unsynced_data() {
    for seed in 0..30 {
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

/// Many clients at once: their writes share entries, and each is answered.
#[test]
fn writes_that_wait_together_are_one_entry() {
    runtime().block_on(async {
        let cluster = Cluster::start(3, 3).await;
        let leader = cluster.leader().await;
        let before = cluster.status(leader).last.unwrap();
        let writes = (0..500).map(|n| {
            let (key, value) = (format!("key-{n}"), n.to_string());
            cluster.execute_on(leader, put(&key, &value, n + 1))
        });
        for outcome in futures::future::join_all(writes).await {
            assert!(matches!(outcome.unwrap(), Response::Committed { .. }));
        }
        let entries = cluster.status(leader).last.unwrap() - before;
        assert!(entries < 50, "500 writes at once took {entries} entries");
        let states = cluster.converge().await;
        assert!(states.values().all(|state| *state == states[&leader]));
        // Sequence numbers follow the order in which the writes were placed, without a gap.
        let mut seqs: Vec<u64> = (0..500)
            .map(|n| {
                let key = (CfId::DEFAULT, Bytes::from(format!("key-{n}")));
                states[&leader][&key].1.0
            })
            .collect();
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs.len(), 500);
        cluster.stop().await;
    });
}

//! Reads that see what was acknowledged, wherever they are asked for.
// tidy: sleeps because time is simulated

use crate::raft::cluster::{Cluster, put, runtime};
use arqondb::ErrorKind;
use arqondb::base::CfId;
use arqondb::op::{Request, Response};
use arqondb::raft::{Consistency, NodeId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn get() -> Request {
    Request::Get { cf: CfId::DEFAULT, key: Bytes::from_static(b"k") }
}

fn value(response: Response) -> String {
    match response {
        Response::Entry(Some(entry)) => String::from_utf8(entry.value.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_replica_reads_what_was_acknowledged_last() {
    runtime().block_on(async {
        let cluster = Cluster::start(3, 1).await;
        for n in 1..=20u64 {
            cluster.execute(|| put("k", &n.to_string(), n)).await.unwrap();
            for id in 1..=3 {
                let read = cluster.read_on(id, Consistency::Linearizable, get()).await.unwrap();
                assert_eq!(value(read), n.to_string());
            }
            let leader = cluster.leader().await;
            let read = cluster.read_on(leader, Consistency::Lease, get()).await.unwrap();
            assert_eq!(value(read), n.to_string());
        }
        let leader = cluster.leader().await;
        let follower = (1..=3).find(|id| *id != leader).unwrap();
        let error = cluster.read_on(follower, Consistency::Lease, get()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        cluster.stop().await;
    });
}

#[test]
fn a_leader_that_is_cut_off_reads_nothing_stale() {
    runtime().block_on(async {
        for seed in 0..5 {
            let cluster = Cluster::start(3, seed).await;
            cluster.execute(|| put("k", "old", 1)).await.unwrap();
            let old = cluster.leader().await;
            let others: BTreeSet<u64> = (1..=3).filter(|id| *id != old).collect();
            for other in &others {
                cluster.net.cut_both(NodeId(old), NodeId(*other));
            }
            cluster.execute_among(&others, || put("k", "new", 2)).await.unwrap();
            for consistency in [Consistency::Linearizable, Consistency::Lease] {
                let read = cluster.read_on(old, consistency, get()).await;
                assert!(read.is_err(), "seed {seed}: {read:?} at {consistency:?}");
            }
            cluster.net.heal();
            tokio::time::sleep(Duration::from_secs(2)).await;
            for id in 1..=3 {
                let read = cluster.read_on(id, Consistency::Linearizable, get()).await.unwrap();
                assert_eq!(value(read), "new");
            }
            cluster.stop().await;
        }
    });
}

#[test]
fn a_restarted_replica_says_when_it_has_recovered() {
    runtime().block_on(async {
        let mut cluster = Cluster::start(3, 2).await;
        cluster.execute(|| put("k", "v", 1)).await.unwrap();
        let leader = cluster.leader().await;
        let follower = (1..=3).find(|id| *id != leader).unwrap();
        cluster.shut_down(follower).await;
        cluster.restart(follower).await;
        cluster.group(follower).recovered(Duration::from_secs(5)).await.unwrap();
        // Alone it cannot know what was committed.
        for id in (1..=3).filter(|id| *id != follower) {
            cluster.shut_down(id).await;
        }
        cluster.shut_down(follower).await;
        cluster.restart(follower).await;
        let error = cluster.group(follower).recovered(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline);
        cluster.stop().await;
    });
}

/// Heartbeats of an idle group do not get in the way of what is written next.
#[test]
fn a_write_after_a_rest_is_as_quick_as_any() {
    runtime().block_on(async {
        let cluster = Cluster::start(3, 3).await;
        for n in 1..=10 {
            tokio::time::sleep(Duration::from_millis(n * 170)).await;
            let at = tokio::time::Instant::now();
            cluster.execute(|| put("k", "v", n)).await.unwrap();
            let time = at.elapsed();
            assert!(time < Duration::from_millis(20), "write {n} took {time:?}");
        }
        cluster.stop().await;
    });
}

/// As `pipeline::run` does it: an answer that rests on what is pending is given when that commits,
/// and nobody is asked whether this replica still leads. Holds as long as the task that closes the
/// session runs before the one that applies: so it is here, with one thread and tasks in turn.
#[test]
fn a_read_that_rests_on_what_another_leader_committed_is_not_stale() {
    let (mut stale, mut told) = (Vec::new(), 0);
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..60 {
        runtime().block_on(async {
            let cluster = Cluster::start(3, seed).await;
            cluster.execute(|| put("k", "old", 1)).await.unwrap();
            let old = cluster.leader().await;
            let session = cluster.session(old);
            let read = cluster.read_confirmed_on(old, session, get()).await.unwrap();
            assert_eq!(value(read), "old");
            let others: BTreeSet<u64> = (1..=3).filter(|id| *id != old).collect();
            // Its entry arrives at the others, and their answers do not.
            for other in &others {
                cluster.net.cut(NodeId(*other), NodeId(old));
            }
            let write = cluster.execute_on(old, put("k", "pending", 2));
            let cut = async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                for other in &others {
                    cluster.net.cut_both(NodeId(*other), NodeId(old));
                }
                // Another leads, commits that entry as its predecessor's, and overwrites it.
                cluster.execute_among(&others, || put("k", "new", 3)).await.unwrap();
                // "new" is acknowledged. A read begins, at the node that led.
                let read = cluster.read_confirmed_on(old, session, get());
                let heal = async {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    cluster.net.heal();
                };
                tokio::join!(read, heal).0
            };
            let (_, read) = tokio::join!(write, cut);
            if let Err(error) = &read {
                *kinds.entry(error.to_string()).or_insert(0) += 1;
            }
            if let Ok(Response::Entry(Some(entry))) = read {
                told += 1;
                if &entry.value[..] != b"new" {
                    stale.push((seed, String::from_utf8_lossy(&entry.value).into_owned()));
                }
            }
            cluster.stop().await;
        });
    }
    println!("{told} reads were answered, stale: {stale:?}; others: {kinds:?}");
    assert!(stale.is_empty(), "{stale:?}");
    assert_eq!(told + kinds.values().sum::<u32>(), 60, "each is answered or refused");
}

//! A shard that is split while it is written to, on nodes that crash: both halves have every
//! acknowledged write of their slots, on every replica.

use crate::raft::cluster::{Cluster, GROUP, PATIENCE, State, put, replica, runtime, state};
use arqondb::base::{CfId, GroupId};
use arqondb::env::sim_disk::{Crash, Fault};
use arqondb::env::{Disk, Rng};
use arqondb::lsm::manifest::Part;
use arqondb::op::Response;
use arqondb::op::route::{SlotRange, slot_of};
use arqondb::raft::{Group, GroupOptions, GroupStatus, Halves, NodeId, ShardHandle, Split};
use arqondb::{Error, ErrorKind};
use std::collections::BTreeMap;

const CHILD: GroupId = GroupId(8);
const CHILD_ABOVE: u64 = 200;
const NODES: std::ops::RangeInclusive<u64> = 1..=3;

fn child_replica(node: u64) -> u64 {
    node + CHILD_ABOVE
}

fn split_at(at: u16) -> Split {
    let halves = |node| Halves { parent: replica(node), child: child_replica(node), votes: true };
    let replicas = NODES.map(halves).collect();
    Split { slots: SlotRange::ALL, at, epoch: 2, child: CHILD, replicas }
}

/// Asks whoever leads to split, as long as it is not known to be done.
async fn split(cluster: &Cluster, split: &Split) {
    loop {
        let leader = cluster.leader().await;
        let shard = cluster.shard(leader);
        if shard.engine().part_epoch() == split.epoch {
            return;
        }
        shard.begin_fence();
        // Nothing is pending: who writes here waits for each answer.
        _ = cluster.group(leader).split(split).await;
        shard.end_fence(false);
    }
}

type Children = BTreeMap<u64, (Group, ShardHandle)>;

async fn start_children(cluster: &Cluster) -> Children {
    let mut children = Children::new();
    for node in NODES {
        let (group, shard) = cluster.start_other(node, CHILD, child_replica(node)).await.unwrap();
        group.set_places(NODES.map(|node| (child_replica(node), NodeId(node))));
        children.insert(node, (group, shard));
    }
    children
}

/// Writes to the child's leader.
async fn write_child(children: &Children, key: &str, value: &str, request: u64) {
    loop {
        let opened = children.iter().map(|(node, (group, _))| {
            let mut session = group.sessions().unwrap();
            Box::pin(async move {
                session.wait_for(|session| *session != 0).await.unwrap();
                *node
            })
        });
        let found = tokio::time::timeout(PATIENCE, futures::future::select_all(opened)).await;
        let leader = found.expect("the child has a leader").0;
        let shard = children[&leader].1.get().unwrap();
        let outcome = match shard.execute(put(key, value, request), 1_000_000) {
            Ok(answer) => {
                let (send, receive) = tokio::sync::oneshot::channel();
                shard.when_committed(answer.rests_on, move |outcome| _ = send.send(outcome));
                let lost = |_| Error::new(ErrorKind::Unknown, "no outcome");
                receive.await.map_err(lost).and_then(|outcome| outcome)
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => return,
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unknown),
                "{error}"
            ),
        }
        tokio::task::yield_now().await;
    }
}

fn check(seed: u64, part: Part, model: &BTreeMap<String, String>, state: &State) {
    let mut found = BTreeMap::new();
    for ((cf, key), (value, _)) in state {
        if *cf == CfId::DEFAULT && &key[..] != b"the-last" {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            found.insert(text(key), text(value));
        }
    }
    let mut expected = model.clone();
    expected.retain(|key, _| part.slots.contains(slot_of(key.as_bytes())));
    assert_eq!(found, expected, "seed {seed}, slots {}", part.slots);
}

async fn survive(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut cluster = Cluster::start(3, seed).await;
    let (mut model, mut request) = (BTreeMap::new(), 0);
    let mut next = |rng: &mut Rng| {
        request += 1;
        (format!("key-{}", rng.below(40)), format!("value-{request}"), request)
    };
    for _ in 0..rng.below(60) + 20 {
        let (key, value, request) = next(&mut rng);
        let done = cluster.execute(|| put(&key, &value, request)).await.unwrap();
        assert!(matches!(done, Response::Committed { .. }), "{done:?}");
        model.insert(key, value);
        if rng.one_in(30) {
            cluster.flush(rng.below(3) + 1);
        }
    }
    let asked = split_at(rng.below(16_000) as u16 + 100);
    let (lower, upper) = asked.parts().unwrap();
    let victim = match rng.below(3) {
        0 => None,
        1 => Some(cluster.leader().await),
        _ => Some(rng.below(3) + 1),
    };
    let crash = match rng.below(3) {
        0 => Crash::Process,
        1 => Crash::PowerLostClean,
        _ => Crash::PowerLost(rng.next_u64()),
    };
    // In the middle of it a node is lost, and comes back.
    let micros = rng.below(20_000);
    let cut =
        tokio::time::timeout(std::time::Duration::from_micros(micros), split(&cluster, &asked));
    _ = cut.await;
    if let Some(victim) = victim {
        // A group that was cut short keeps its fence until it loses its lead, as a node would.
        cluster.crash(victim, crash).await;
        cluster.restart(victim).await;
    }
    for node in cluster.running() {
        cluster.shard(node).end_fence(false);
    }
    split(&cluster, &asked).await;
    for node in cluster.running() {
        let shard = cluster.shard(node);
        let applied = |_: &GroupStatus| shard.engine().part_epoch() == asked.epoch;
        cluster.group(node).wait_until(applied, PATIENCE).await.unwrap();
    }
    let mut children = start_children(&cluster).await;
    children[&(rng.below(3) + 1)].0.campaign().await.unwrap();
    for round in 0..2 {
        for _ in 0..30 {
            let (key, value, request) = next(&mut rng);
            if lower.slots.contains(slot_of(key.as_bytes())) {
                cluster.execute(|| put(&key, &value, request)).await.unwrap();
            } else {
                write_child(&children, &key, &value, request).await;
            }
            model.insert(key, value);
        }
        let states = cluster.converge().await;
        for (id, found) in &states {
            check(seed, lower, &model, found);
            assert!(found == &states[&1], "seed {seed}: replica {id} differs");
        }
        let last = children.values().map(|(group, _)| group.status().last).max().unwrap();
        for (group, shard) in children.values() {
            group.wait_until(|status| status.applied >= last, PATIENCE).await.unwrap();
            check(seed, upper, &model, &state(&shard.get().unwrap()));
        }
        if round == 0 {
            // The node's log has two groups now, and both come back from it.
            drop(children);
            let victim = rng.below(3) + 1;
            let crash = if rng.one_in(2) { Crash::Process } else { Crash::PowerLostClean };
            for node in NODES {
                if node != victim {
                    cluster.host(node).stop(CHILD).await;
                }
            }
            cluster.crash(victim, crash).await;
            cluster.restart(victim).await;
            assert!(cluster.host(victim).replicas().contains(&(CHILD, child_replica(victim))));
            assert!(cluster.host(victim).replicas().contains(&(GROUP, replica(victim))));
            children = start_children(&cluster).await;
        }
    }
    drop(children);
    cluster.stop().await;
}

#[test]
fn a_split_under_crashes_leaves_each_half_with_its_writes() {
    for seed in 0..20 {
        runtime().block_on(survive(seed));
    }
}

/// A replica that was taken past the split by a snapshot has no records of the child: it begins
/// empty, lets nobody lead who knows less, and is sent what it lacks.
#[test]
fn a_replica_that_missed_the_split_is_sent_the_child() {
    miss(None);
}

/// The same with one that was cut off in the midst of making its half, and is begun before its parent
/// has come so far again: what it had made of it counts for nothing.
#[test]
fn what_was_half_made_of_a_child_is_in_nobodys_way() {
    let began = (0..36).step_by(3).filter(|change| miss(Some(Cut::Stop(*change)))).count();
    assert!(began > 2, "{began} had begun");
}

/// A sync fails in the midst of it, and the half is asked for in the same process again: what the log
/// may have heard of is not taken away.
#[test]
fn what_was_made_of_a_child_when_the_log_failed_is_there_at_the_next_start() {
    let began = (0..10).filter(|skip| miss(Some(Cut::SyncError(*skip)))).count();
    assert!(began > 2, "{began} had begun");
}

/// What befalls a replica's disk while it makes its half.
#[derive(Clone, Copy)]
enum Cut {
    /// It stops after so many changes.
    Stop(u64),
    /// After so many syncs, one fails.
    SyncError(u64),
}

/// Says whether something of the child was there when the replica was ended.
fn miss(cut: Option<Cut>) -> bool {
    runtime().block_on(async {
        let mut began = false;
        let options =
            GroupOptions { log_bytes: 4 << 10, log_bytes_max: 8 << 10, ..GroupOptions::default() };
        let mut cluster = Cluster::start_with(3, 5, options).await;
        let mut model = BTreeMap::new();
        for n in 0..200u64 {
            let (key, value) = (format!("key-{n}"), format!("value-{n}"));
            cluster.execute(|| put(&key, &value, n + 1)).await.unwrap();
            model.insert(key, value);
        }
        let leader = cluster.leader().await;
        let away = NODES.clone().find(|node| *node != leader).unwrap();
        let asked = split_at(8_000);
        let (_, upper) = asked.parts().unwrap();
        if let Some(cut) = cut {
            match cut {
                Cut::Stop(changes) => cluster.live_disk(away).stop_at(Some(changes)),
                Cut::SyncError(skip) => cluster.live_disk(away).fail(Fault::SyncError, skip),
            }
            split(&cluster, &asked).await;
            let stopped = |status: &GroupStatus| status.stopped.is_some();
            _ = cluster.group(away).wait_until(stopped, PATIENCE).await;
            if matches!(cut, Cut::SyncError(_)) {
                _ = cluster.start_other(away, CHILD, child_replica(away)).await;
            }
            cluster.crash(away, Crash::Process).await;
            cluster.before = Some((CHILD, CHILD_ABOVE));
            let child = format!("/groups/group-{}", CHILD.0);
            began = cluster.disk(away).exists(std::path::Path::new(&child));
        } else {
            cluster.shut_down(away).await;
            split(&cluster, &asked).await;
        }
        // The entry is cut off the log before the replica comes back.
        let leader = cluster.leader().await;
        let index = cluster.status(leader).applied;
        let lower = asked.parts().unwrap().0.slots;
        let keys =
            (0..).map(|n| format!("later-{n}")).filter(|k| lower.contains(slot_of(k.as_bytes())));
        for (n, key) in (1_000..).zip(keys.take(300)) {
            cluster.execute(|| put(&key, "value", n)).await.unwrap();
        }
        let purged = |status: &GroupStatus| status.purged >= index;
        cluster.group(leader).wait_until(purged, PATIENCE).await.unwrap();
        cluster.restart(away).await;
        cluster.execute(|| put("the-last", "of-all", 9_999)).await.unwrap();
        let last = cluster.status(leader).last;
        cluster.group(away).wait_until(|s| s.applied >= last, PATIENCE).await.unwrap();
        assert_eq!(cluster.shard(away).engine().part_epoch(), asked.epoch);
        let known = cluster.host(away).replicas();
        assert!(cut.is_some() || known.iter().all(|(group, _)| *group != CHILD), "{known:?}");

        let children = start_children(&cluster).await;
        children[&leader].0.campaign().await.unwrap();
        let first = model.keys().find(|key| upper.slots.contains(slot_of(key.as_bytes())));
        let first = first.unwrap().clone();
        write_child(&children, &first, "again", 10_000).await;
        let last = children[&leader].0.status().last;
        children[&away].0.wait_until(|s| s.applied >= last, PATIENCE).await.unwrap();
        model.insert(first, "again".into());
        check(0, upper, &model, &state(&children[&away].1.get().unwrap()));
        drop(children);
        cluster.stop().await;
        began
    })
}

//! Groups in which nothing is written: what they cost, and that they miss nothing.
// tidy: sleeps because time is simulated

use crate::raft::cluster::{Cluster, put, replica, runtime};
use arqondb::base::{CfId, GroupId};
use arqondb::env::sim_disk::Crash;
use arqondb::op::{Request, Response};
use arqondb::raft::{Consistency, GroupOptions, NodeId};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

const AFTER: Duration = Duration::from_secs(5);

fn options() -> GroupOptions {
    GroupOptions { hibernate_after: AFTER, ..GroupOptions::default() }
}

async fn hibernating(seed: u64) -> Cluster {
    let cluster = Cluster::start_with(3, seed, options()).await;
    cluster.execute(|| put("k", "old", 1)).await.unwrap();
    until_hibernating(&cluster).await;
    cluster
}

async fn until_hibernating(cluster: &Cluster) {
    let all = || cluster.running().into_iter().all(|id| cluster.group(id).hibernates());
    let wait = async {
        while !all() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(AFTER * 4, wait).await.expect("an idle group hibernates");
}

fn value(response: Response) -> String {
    match response {
        Response::Entry(Some(entry)) => String::from_utf8(entry.value.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn get() -> Request {
    Request::Get { cf: CfId::DEFAULT, key: Bytes::from_static(b"k") }
}

#[test]
fn an_idle_group_says_little_keeps_its_leader_and_serves_at_once() {
    runtime().block_on(async {
        let awake = Cluster::start(3, 1).await;
        let count = |cluster: &Cluster| cluster.net.messages();
        let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
        tokio::time::sleep(minute).await;
        let before = count(&awake);
        tokio::time::sleep(minute).await;
        let of_awake = count(&awake) - before;
        awake.stop().await;

        let cluster = hibernating(1).await;
        let (leader, before) = (cluster.leader().await, count(&cluster));
        let (term, session) = (cluster.status(leader).term, cluster.session(leader));
        tokio::time::sleep(minute).await;
        let said = count(&cluster) - before;
        assert!(said * 5 < of_awake * 2, "{said} messages a minute, {of_awake} awake");
        tokio::time::sleep(hour).await;
        for consistency in [Consistency::Lease, Consistency::Linearizable] {
            let read = cluster.read_on(leader, consistency, get()).await.unwrap();
            assert_eq!(value(read), "old");
        }
        assert!(cluster.group(leader).hibernates(), "a read changes nothing");
        // In the session that was open before: no election, and nobody tries again.
        cluster.execute_on(leader, put("k", "new", 2)).await.unwrap();
        assert_eq!((cluster.status(leader).term, cluster.session(leader)), (term, session));
        assert!(!cluster.group(leader).hibernates());
        for id in 1..=3 {
            let read = cluster.read_on(id, Consistency::Linearizable, get()).await.unwrap();
            assert_eq!(value(read), "new");
        }
        until_hibernating(&cluster).await;
        assert_eq!((cluster.status(leader).term, cluster.session(leader)), (term, session));
        cluster.stop().await;
    });
}

/// What a task may do in one turn without giving way has a bound: more groups than that all have their
/// leaders heard of.
#[test]
fn many_groups_that_hibernate_keep_their_leaders() {
    runtime().block_on(async {
        const GROUPS: u64 = 135;
        let soon = Duration::from_millis(500);
        let options = GroupOptions { hibernate_after: soon, ..GroupOptions::default() };
        let mut cluster = Cluster::start_with(3, 4, options).await;
        for id in 100..100 + GROUPS {
            cluster.add_idle_group(GroupId(id)).await;
        }
        let groups = |id| cluster.host(id).groups();
        let all = || (1..=3).flat_map(groups).all(|group| group.hibernates());
        let wait = async {
            while !all() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(AFTER * 4, wait).await.expect("idle groups hibernate");
        let led = |id: u64| {
            let statuses = groups(id).into_iter().map(|group| group.status());
            let mut led: Vec<_> = statuses.map(|s| (s.leader, s.term, s.stopped)).collect();
            led.sort();
            led
        };
        let before: Vec<_> = (1..=3).map(led).collect();
        let of_first = before[0].iter().filter(|(leader, ..)| *leader == Some(replica(1))).count();
        assert!(of_first > 128, "{of_first} are led by one node");
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(all(), "some woke");
        assert_eq!((1..=3).map(led).collect::<Vec<_>>(), before);
        cluster.stop().await;
    });
}

#[test]
fn a_hibernating_groups_lost_leader_is_replaced_soon() {
    runtime().block_on(async {
        for seed in 0..20 {
            let mut cluster = hibernating(seed).await;
            let old = cluster.leader().await;
            let begun = tokio::time::Instant::now();
            let others: BTreeSet<u64> = (1..=3).filter(|id| *id != old).collect();
            // A power cut, or cables that are pulled.
            if seed % 2 == 0 {
                cluster.crash(old, Crash::PowerLostClean).await;
            } else {
                for other in &others {
                    cluster.net.cut_both(NodeId(old), NodeId(*other));
                }
            }
            cluster.leader_among(&others).await;
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(2), "seed {seed}: {took:?}");
            cluster.execute_among(&others, || put("k", "new", 2)).await.unwrap();
            if seed % 2 == 0 {
                cluster.restart(old).await;
            } else {
                let stale = cluster.read_on(old, Consistency::Lease, get()).await;
                assert!(stale.is_err(), "seed {seed}: {stale:?}");
                cluster.net.heal();
            }
            let states = cluster.converge().await;
            assert_eq!(states.values().collect::<BTreeSet<_>>().len(), 1, "seed {seed}");
            until_hibernating(&cluster).await;
            cluster.stop().await;
        }
    });
}

#[test]
fn a_follower_that_returns_does_not_unseat_a_hibernating_leader() {
    runtime().block_on(async {
        for seed in 0..10 {
            let mut cluster = hibernating(seed).await;
            let leader = cluster.leader().await;
            let term = cluster.status(leader).term;
            let follower = (1..=3).find(|id| *id != leader).unwrap();
            cluster.crash(follower, Crash::PowerLostClean).await;
            tokio::time::sleep(Duration::from_secs(30)).await;
            cluster.restart(follower).await;
            until_hibernating(&cluster).await;
            let status = cluster.status(leader);
            assert_eq!((status.leader, status.term), (Some(replica(leader)), term), "seed {seed}");
            cluster.stop().await;
        }
    });
}

#[test]
fn members_of_a_hibernating_group_are_changed_as_of_any_other() {
    runtime().block_on(async {
        let mut cluster = hibernating(3).await;
        let leader = cluster.leader().await;
        let new = cluster.add_node().await;
        let group = cluster.group(leader);
        group.add_learner(replica(new), NodeId(new)).await.unwrap();
        let caught_up = |s: &arqondb::raft::GroupStatus| {
            s.matched.get(&replica(new)).copied().flatten() == s.last
        };
        group.wait_until(caught_up, AFTER).await.unwrap();
        until_hibernating(&cluster).await;
        let voters: BTreeSet<u64> = (1..=4).map(replica).collect();
        cluster.group(leader).change_voters(voters.clone(), false, None).await.unwrap();
        until_hibernating(&cluster).await;
        assert_eq!(cluster.status(leader).voters, [voters]);
        let to = (1..=4).find(|id| *id != leader).unwrap();
        cluster.group(leader).transfer_leader(replica(to), AFTER).await.unwrap();
        assert_eq!(cluster.leader().await, to);
        cluster.execute(|| put("k", "new", 2)).await.unwrap();
        until_hibernating(&cluster).await;
        cluster.stop().await;
    });
}

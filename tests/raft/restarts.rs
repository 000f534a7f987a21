//! A replica that restarts, wherever it was: before and after a flush, after a cut of its log, after
//! a change of members, with a torn tail, or with a part of it lost.

use crate::raft::cluster::{Cluster, GROUP, Oracle, PATIENCE, put, replica, runtime};
use arqondb::ErrorKind;
use arqondb::env::sim_disk::{Crash, Fault};
use arqondb::env::{Disk, Rng};
use arqondb::raft::GroupStatus;
use std::collections::BTreeSet;
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    BeforeAFlush,
    AfterAFlush,
    AfterACut,
    AfterAChangeOfMembers,
}

const CRASHES: [Crash; 4] =
    [Crash::Process, Crash::PowerLostClean, Crash::PowerLost(1), Crash::PowerLost(2)];

async fn restart_all(seed: u64, when: When, crash: Crash) {
    let mut rng = Rng::new(seed);
    let mut cluster = Cluster::start(3, seed).await;
    let mut oracle = Oracle::default();
    for _ in 0..20 {
        oracle.write(&cluster, &cluster.running(), &mut rng, 20).await;
    }
    if when != When::BeforeAFlush {
        (1..=3).for_each(|id| cluster.flush(id));
    }
    if when == When::AfterACut {
        for id in 1..=3 {
            cluster.group(id).cut_log().await.unwrap();
        }
        for _ in 0..3 {
            oracle.write(&cluster, &cluster.running(), &mut rng, 20).await;
        }
        assert!((1..=3).any(|id| cluster.status(id).purged.is_some()));
    }
    if when == When::AfterAChangeOfMembers {
        let leader = cluster.leader().await;
        let added = cluster.add_node().await;
        let group = cluster.group(leader);
        group.add_learner(replica(added), arqondb::raft::NodeId(added)).await.unwrap();
        let at = group.status().members_at;
        let voters = (1..=added).map(replica).collect();
        group.change_voters(voters, false, at).await.unwrap();
    }
    // All at once: what is left is what the disks hold.
    let all = cluster.running();
    for id in &all {
        cluster.crash(*id, crash).await;
    }
    for id in &all {
        cluster.restart(*id).await;
    }
    for _ in 0..5 {
        oracle.write(&cluster, &cluster.running(), &mut rng, 20).await;
    }
    let leader = cluster.leader().await;
    assert_eq!(cluster.status(leader).voters.len(), 1);
    assert_eq!(cluster.status(leader).voters[0], all.iter().map(|id| replica(*id)).collect());
    let states = cluster.converge().await;
    assert_eq!(states.len(), all.len());
    oracle.check(seed, &states);
    cluster.stop().await;
}

#[test]
fn all_replicas_restart_at_once_from_wherever_they_were() {
    use When::{AfterAChangeOfMembers, AfterACut, AfterAFlush, BeforeAFlush};
    let mut seed = 0;
    for when in [BeforeAFlush, AfterAFlush, AfterACut, AfterAChangeOfMembers] {
        for crash in CRASHES {
            seed += 1;
            runtime().block_on(restart_all(seed, when, crash));
        }
    }
}

/// The tail of a follower's log is torn off at one byte after another: it takes what it lost from
/// the leader, and votes for nobody twice.
#[test]
fn a_torn_tail_is_made_good_by_the_leader() {
    runtime().block_on(async {
        let mut cluster = Cluster::start(3, 5).await;
        let (mut oracle, mut rng) = (Oracle::default(), Rng::new(5));
        for turn in 0..12 {
            for _ in 0..4 {
                oracle.write(&cluster, &cluster.running(), &mut rng, 30).await;
            }
            let leader = cluster.leader().await;
            let victim = (1..=3).find(|id| *id != leader).unwrap();
            // Stop it in the middle of what it writes, at one change after another.
            cluster.live_disk(victim).stop_at(Some(turn));
            for _ in 0..3 {
                oracle.write(&cluster, &cluster.running(), &mut rng, 30).await;
            }
            cluster.crash(victim, Crash::PowerLost(turn)).await;
            oracle.write(&cluster, &cluster.running(), &mut rng, 30).await;
            cluster.restart(victim).await;
        }
        oracle.check(5, &cluster.converge().await);
        cluster.stop().await;
    });
}

#[test]
fn a_replica_whose_log_or_folder_was_lost_is_refused() {
    runtime().block_on(async {
        let mut cluster = Cluster::start(3, 6).await;
        for n in 1..20 {
            cluster.execute(|| put("a", "b", n)).await.unwrap();
        }
        let leader = cluster.leader().await;
        let [one, other] = [1, 2].map(|n| (leader + n - 1) % 3 + 1);
        cluster.flush(one);
        cluster.shut_down(one).await;
        let disk = cluster.disk(one).clone();
        let log = Path::new("/log");
        for entry in disk.list(log).unwrap() {
            disk.remove(&log.join(entry.name)).unwrap();
        }
        let error = cluster.try_restart(one).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");

        // The other one while the cluster still has a majority with the leader: it had one before.
        cluster.shut_down(other).await;
        let disk = cluster.disk(other).clone();
        let dir = Path::new("/groups").join(format!("group-{GROUP}"));
        disk.remove(&dir.join("CURRENT")).unwrap();
        let error = cluster.try_restart(other).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        cluster.stop().await;
    });
}

#[test]
fn what_a_crash_left_of_a_removal_is_gone_after_the_next_start() {
    runtime().block_on(async {
        let mut cluster = Cluster::start(3, 1).await;
        let leader = cluster.leader().await;
        let follower = (1..=3).find(|id| *id != leader).unwrap();
        cluster.shut_down(follower).await;
        let left = Path::new("/groups/group-9");
        let disk = cluster.disk(follower);
        disk.create_dir_all(left).unwrap();
        for name in ["REMOVED", "000001.sst"] {
            disk.create(&left.join(name)).unwrap();
        }
        cluster.restart(follower).await;
        assert!(!cluster.live_disk(follower).exists(left));
        cluster.execute(|| put("k", "v", 1)).await.unwrap();
        cluster.converge().await;
        cluster.stop().await;
    });
}

/// Openraft acknowledges what its store has, and takes it for durable: a replica whose log has failed
/// must not begin again before the next process has found out what is left of it.
#[test]
fn a_replica_whose_log_has_failed_does_not_begin_again_in_this_process() {
    runtime().block_on(async {
        let mut cluster = Cluster::start(3, 11).await;
        let mut rng = Rng::new(11);
        let mut oracle = Oracle::default();
        oracle.write(&cluster, &cluster.running(), &mut rng, 20).await;
        let leader = cluster.leader().await;
        let follower = (1..=3).find(|id| *id != leader).unwrap();
        cluster.live_disk(follower).fail(Fault::SyncError, 0);
        oracle.write(&cluster, &BTreeSet::from([leader]), &mut rng, 20).await;
        let stopped = |status: &GroupStatus| status.stopped.is_some();
        _ = cluster.group(follower).wait_until(stopped, PATIENCE).await;
        assert!(cluster.status(follower).stopped.is_some());
        cluster.host(follower).stop(GROUP).await;
        let again = cluster.start_other(follower, GROUP, replica(follower)).await;
        assert_eq!(again.err().map(|error| error.kind()), Some(ErrorKind::Poisoned));
        // What it had not synced is gone, and was not counted on.
        cluster.crash(follower, Crash::PowerLostClean).await;
        cluster.restart(follower).await;
        oracle.write(&cluster, &cluster.running(), &mut rng, 20).await;
        cluster.stop().await;
    });
}

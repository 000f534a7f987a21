//! Replicas that catch up by snapshot, and snapshots that are interrupted.
// tidy: sleeps because time is simulated

use crate::raft::cluster::{Cluster, Oracle, PATIENCE, put, replica, runtime};
use arqondb::env::sim_disk::Crash;
use arqondb::env::{Disk, Rng};
use arqondb::raft::{GroupOptions, NodeId};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Little log, so that who lags needs a snapshot.
fn little_log() -> GroupOptions {
    GroupOptions { log_bytes: 4 << 10, log_bytes_max: 16 << 10, ..GroupOptions::default() }
}

/// Waits until a node's replica has come over a snapshot or the log to what the leader has.
async fn caught_up(cluster: &Cluster, id: u64) -> bool {
    let leader = cluster.leader().await;
    let last = cluster.status(leader).last;
    cluster.group(id).wait_until(|status| status.applied >= last, PATIENCE).await.is_ok()
}

async fn fill(cluster: &Cluster, oracle: &mut Oracle, rng: &mut Rng, writes: usize) {
    for _ in 0..writes {
        oracle.write(cluster, &cluster.running(), rng, 400).await;
    }
}

/// A node is lost with all it had. Another takes its place under new ids while writes go on, and
/// comes to the same state although the log no longer reaches back.
async fn replace(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut cluster = Cluster::start_with(3, seed, little_log()).await;
    let mut oracle = Oracle::default();
    fill(&cluster, &mut oracle, &mut rng, 60).await;
    let leader = cluster.leader().await;
    let lost = (1..=3).find(|id| *id != leader).unwrap();
    cluster.crash(lost, Crash::PowerLostClean).await;
    cluster.forget(lost);
    fill(&cluster, &mut oracle, &mut rng, 60).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let purged = cluster.status(cluster.leader().await).purged;
    assert!(purged > Some(0), "seed {seed}: nothing was cut off the log");

    let added = cluster.add_node().await;
    let leader = cluster.leader().await;
    cluster.group(leader).add_learner(replica(added), NodeId(added)).await.unwrap();
    for _ in 0..40 {
        oracle.write(&cluster, &cluster.running(), &mut rng, 400).await;
    }
    assert!(caught_up(&cluster, added).await, "seed {seed}: the new replica lags");
    assert!(cluster.net.snapshot_bytes() > 0, "seed {seed}: no snapshot was sent");
    let leader = cluster.leader().await;
    let status = cluster.status(leader);
    let voters: BTreeSet<u64> = (1..=added).filter(|id| *id != lost).map(replica).collect();
    let group = cluster.group(leader);
    group.change_voters(voters.clone(), false, status.members_at).await.unwrap();
    fill(&cluster, &mut oracle, &mut rng, 5).await;
    oracle.check(seed, &cluster.converge().await);
    assert_eq!(cluster.status(leader).voters, [voters]);

    // What it got is its own: it restarts from it.
    cluster.crash(added, Crash::PowerLostClean).await;
    fill(&cluster, &mut oracle, &mut rng, 3).await;
    cluster.restart(added).await;
    oracle.check(seed, &cluster.converge().await);
    cluster.stop().await;
}

#[test]
fn a_lost_node_is_replaced_by_snapshot_under_constant_writes() {
    for seed in 0..8 {
        runtime().block_on(replace(seed));
    }
}

/// The transfer breaks off at one message after another and is taken up where it stood: what has
/// arrived is not sent again.
#[test]
fn a_snapshot_that_breaks_off_is_resumed() {
    runtime().block_on(async {
        for messages in [0, 1, 2, 3, 5, 8, 13] {
            let seed = 100 + messages;
            let mut rng = Rng::new(seed);
            let mut cluster = Cluster::start_with(3, seed, little_log()).await;
            let mut oracle = Oracle::default();
            fill(&cluster, &mut oracle, &mut rng, 80).await;
            let leader = cluster.leader().await;
            let victim = (1..=3).find(|id| *id != leader).unwrap();
            cluster.crash(victim, Crash::Process).await;
            fill(&cluster, &mut oracle, &mut rng, 80).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            cluster.net.lose_snapshots_after(Some(messages));
            cluster.restart(victim).await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            cluster.net.lose_snapshots_after(None);
            fill(&cluster, &mut oracle, &mut rng, 5).await;
            assert!(caught_up(&cluster, victim).await, "after {messages} messages");
            assert!(cluster.net.snapshot_bytes() > 0);
            oracle.check(seed, &cluster.converge().await);
            cluster.stop().await;
        }
    });
}

/// A copy that was kept for a transfer which broke off is older than what the state holds by then:
/// whoever gets it must not be taken for one that has the newer entries.
#[test]
fn a_copy_is_not_sent_for_a_newer_one() {
    runtime().block_on(async {
        for messages in [2, 3, 5, 8] {
            let seed = 200 + messages;
            let mut rng = Rng::new(seed);
            let mut cluster = Cluster::start_with(3, seed, little_log()).await;
            let mut oracle = Oracle::default();
            fill(&cluster, &mut oracle, &mut rng, 80).await;
            let leader = cluster.leader().await;
            let victim = (1..=3).find(|id| *id != leader).unwrap();
            cluster.crash(victim, Crash::Process).await;
            fill(&cluster, &mut oracle, &mut rng, 80).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            cluster.net.lose_snapshots_after(Some(messages));
            cluster.restart(victim).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            fill(&cluster, &mut oracle, &mut rng, 8).await;
            cluster.flush(cluster.leader().await);
            tokio::time::sleep(Duration::from_secs(1)).await;
            cluster.net.lose_snapshots_after(None);
            assert!(caught_up(&cluster, victim).await, "after {messages} messages");
            fill(&cluster, &mut oracle, &mut rng, 5).await;
            oracle.check(seed, &cluster.converge().await);
            cluster.stop().await;
        }
    });
}

/// The answer that a snapshot is installed is lost on its way: it is asked for again.
#[test]
fn an_installed_snapshot_is_heard_of_though_the_answer_was_lost() {
    runtime().block_on(async {
        let seed = 300;
        let mut rng = Rng::new(seed);
        let mut cluster = Cluster::start_with(3, seed, little_log()).await;
        let mut oracle = Oracle::default();
        fill(&cluster, &mut oracle, &mut rng, 80).await;
        let leader = cluster.leader().await;
        let victim = (1..=3).find(|id| *id != leader).unwrap();
        cluster.crash(victim, Crash::Process).await;
        fill(&cluster, &mut oracle, &mut rng, 80).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let before = cluster.status(leader).purged;
        assert!(before > Some(0), "nothing was cut off the log");
        cluster.restart(victim).await;
        // What it says of its snapshot does not arrive from the moment on that it has installed it.
        let installed = |s: &arqondb::raft::GroupStatus| s.applied >= before;
        cluster.group(victim).wait_until(installed, PATIENCE).await.unwrap();
        cluster.net.cut(NodeId(victim), NodeId(leader));
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.net.heal();
        let soon = cluster
            .group(victim)
            .wait_until(|s| s.applied >= cluster.status(leader).last, Duration::from_secs(30));
        assert!(soon.await.is_ok(), "it waits for an answer that was lost");
        fill(&cluster, &mut oracle, &mut rng, 5).await;
        oracle.check(seed, &cluster.converge().await);
        cluster.stop().await;
    });
}

/// Much data, and a transfer that breaks off again and again: what has arrived is not sent anew.
#[test]
fn what_has_arrived_is_not_sent_again() {
    runtime().block_on(async {
        let (seed, mut rng) = (150, Rng::new(150));
        let mut cluster = Cluster::start_with(3, seed, little_log()).await;
        let leader = cluster.leader().await;
        let victim = (1..=3).find(|id| *id != leader).unwrap();
        cluster.crash(victim, Crash::Process).await;
        for n in 0..60 {
            let mut value = String::new();
            while value.len() < 100_000 {
                value += &format!("{:016x}", rng.next_u64());
            }
            cluster.execute(|| put(&format!("large-{n}"), &value, n + 1)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        cluster.net.lose_snapshots_after(Some(0));
        cluster.restart(victim).await;
        for _ in 0..6 {
            // Chunks wait for their answers for 20 s before they are given up.
            cluster.net.lose_snapshots_after(Some(20));
            tokio::time::sleep(Duration::from_secs(25)).await;
        }
        cluster.net.lose_snapshots_after(None);
        assert!(caught_up(&cluster, victim).await);
        let sent = cluster.net.snapshot_bytes();
        let dir = Path::new("/groups/group-7");
        let disk = cluster.live_disk(victim);
        let folder = disk.list(dir).unwrap().into_iter().find(|e| e.is_dir).unwrap();
        assert_ne!(folder.name, "gen-1");
        let files = disk.list(&dir.join(folder.name)).unwrap();
        let bytes: u64 = files.iter().map(|e| e.len).sum();
        assert!(bytes > 5_000_000, "{bytes} bytes");
        assert!(sent < bytes + bytes / 2, "{sent} bytes arrived for a snapshot of {bytes}");
        cluster.stop().await;
    });
}

/// A slow rate makes the transfer slow and nothing else.
#[test]
fn a_rate_is_kept_and_writes_go_on() {
    runtime().block_on(async {
        let (seed, mut rng) = (160, Rng::new(160));
        let mut cluster = Cluster::start_with(3, seed, little_log()).await;
        cluster.snapshot_rate = 20_000;
        let all = cluster.running();
        for id in all {
            cluster.shut_down(id).await;
            cluster.restart(id).await;
        }
        let mut oracle = Oracle::default();
        let leader = cluster.leader().await;
        let victim = (1..=3).find(|id| *id != leader).unwrap();
        cluster.crash(victim, Crash::Process).await;
        let mut noise = String::new();
        while noise.len() < 200_000 {
            noise += &format!("{:016x}", rng.next_u64());
        }
        cluster.execute(|| put("noise", &noise, 1_000_001)).await.unwrap();
        fill(&cluster, &mut oracle, &mut rng, 60).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        cluster.restart(victim).await;
        let (at, mut longest) = (tokio::time::Instant::now(), Duration::ZERO);
        let last = cluster.status(leader).last;
        while cluster.status(victim).applied < last {
            let begun = tokio::time::Instant::now();
            oracle.write(&cluster, &cluster.running(), &mut rng, 10).await;
            longest = longest.max(begun.elapsed());
            assert!(at.elapsed() < PATIENCE, "the replica lags");
        }
        assert!(at.elapsed() > Duration::from_secs(5), "it took {:?}", at.elapsed());
        assert!(longest < Duration::from_millis(100), "a write took {longest:?}");
        oracle.check(seed, &cluster.converge().await);
        cluster.stop().await;
    });
}

/// The receiver's disk stops at one change after another while a snapshot arrives and is installed,
/// and then power is lost. Wherever that is, it restarts with the old state or the new and catches
/// up.
#[test]
fn a_crash_anywhere_in_an_install_leaves_the_old_state_or_the_new() {
    let mut installed = 0;
    for stop in (0..90).step_by(3) {
        let seed = 200 + stop;
        runtime().block_on(async {
            let mut rng = Rng::new(seed);
            let mut cluster = Cluster::start_with(3, seed, little_log()).await;
            let mut oracle = Oracle::default();
            fill(&cluster, &mut oracle, &mut rng, 60).await;
            let leader = cluster.leader().await;
            let victim = (1..=3).find(|id| *id != leader).unwrap();
            cluster.crash(victim, Crash::Process).await;
            fill(&cluster, &mut oracle, &mut rng, 60).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            // It starts behind a cut network, so that the changes are those of the transfer.
            let others: Vec<u64> = cluster.running().into_iter().collect();
            others.iter().for_each(|o| cluster.net.cut_both(NodeId(*o), NodeId(victim)));
            cluster.restart(victim).await;
            cluster.live_disk(victim).stop_at(Some(stop));
            cluster.net.heal();
            fill(&cluster, &mut oracle, &mut rng, 10).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let crash = if stop % 2 == 0 { Crash::PowerLost(stop) } else { Crash::PowerLostClean };
            cluster.crash(victim, crash).await;
            fill(&cluster, &mut oracle, &mut rng, 3).await;
            cluster.restart(victim).await;
            let dir = Path::new("/groups/group-7");
            let folders = cluster.live_disk(victim).list(dir).unwrap();
            assert_eq!(folders.iter().filter(|e| e.is_dir).count(), 1, "{folders:?}");
            let is_new = folders.iter().any(|e| e.is_dir && e.name != "gen-1");
            assert!(caught_up(&cluster, victim).await, "stopped at {stop}");
            oracle.check(seed, &cluster.converge().await);
            cluster.stop().await;
            installed += u64::from(is_new);
        });
    }
    assert!(installed > 0 && installed < 30, "{installed} of 30 had been installed");
}

#[test]
fn copies_that_were_sent_are_removed() {
    runtime().block_on(async {
        let (seed, mut rng) = (300, Rng::new(300));
        let mut cluster = Cluster::start_with(3, seed, little_log()).await;
        let mut oracle = Oracle::default();
        fill(&cluster, &mut oracle, &mut rng, 60).await;
        let leader = cluster.leader().await;
        let victim = (1..=3).find(|id| *id != leader).unwrap();
        cluster.crash(victim, Crash::Process).await;
        fill(&cluster, &mut oracle, &mut rng, 60).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        cluster.restart(victim).await;
        assert!(caught_up(&cluster, victim).await);
        tokio::time::sleep(Duration::from_secs(60)).await;
        for id in 1..=3 {
            let names = cluster.live_disk(id).list(Path::new("/groups/group-7")).unwrap();
            let folders: Vec<_> = names.iter().filter(|e| e.is_dir).collect();
            assert_eq!(folders.len(), 1, "{folders:?}");
        }
        cluster.stop().await;
    });
}

/// The first copy of a replica that was begun again, in the same process, is another one than the first
/// before: who has installed that one must not take this one for it.
#[test]
fn a_copy_of_a_replica_begun_again_is_not_taken_for_the_one_before() {
    runtime().block_on(async {
        let (seed, mut rng) = (500, Rng::new(500));
        let mut cluster = Cluster::start_with(3, seed, little_log()).await;
        let mut oracle = Oracle::default();
        let leader = cluster.leader().await;
        let lags = (1..=3).find(|id| *id != leader).unwrap();
        let others: BTreeSet<u64> = (1..=3).filter(|id| *id != lags).collect();
        for turn in 0..2 {
            let before = cluster.net.snapshot_bytes();
            others.iter().for_each(|id| cluster.net.cut_both(NodeId(*id), NodeId(lags)));
            for _ in 0..80 {
                oracle.write(&cluster, &others, &mut rng, 400).await;
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
            let now = cluster.leader_among(&others).await;
            if now != leader {
                let group = cluster.group(now);
                group.transfer_leader(replica(leader), PATIENCE).await.unwrap();
            }
            let has = cluster.status(lags).last;
            assert!(cluster.status(leader).purged > has, "turn {turn}: it needs no snapshot");
            let (last, term) = (cluster.status(leader).last, cluster.status(leader).term);
            cluster.net.heal();
            let caught = |s: &arqondb::raft::GroupStatus| s.applied >= last;
            let soon = cluster.group(lags).wait_until(caught, PATIENCE).await;
            assert!(soon.is_ok(), "turn {turn}: {soon:?}");
            assert!(cluster.net.snapshot_bytes() > before, "turn {turn}: no snapshot was sent");
            // Openraft ends a leader that hears of entries, and then that they are not there.
            let status = cluster.status(lags);
            assert_eq!((status.leader, status.term), (Some(replica(leader)), term), "turn {turn}");
            // The same replica leads again, and its copies begin anew.
            cluster.begin_again(leader).await;
        }
        oracle.check(seed, &cluster.converge().await);
        cluster.stop().await;
    });
}

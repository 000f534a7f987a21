//! The log stays within its bounds, with all followers there and with one that is dead.
// tidy: sleeps because time is simulated

use crate::raft::cluster::{Cluster, Oracle, runtime};
use arqondb::base::GroupId;
use arqondb::env::Rng;
use arqondb::env::sim_disk::Crash;
use arqondb::raft::GroupOptions;
use std::time::Duration;

#[test]
fn a_dead_follower_does_not_hold_the_log() {
    runtime().block_on(async {
        let options =
            GroupOptions { log_bytes: 8 << 10, log_bytes_max: 64 << 10, ..GroupOptions::default() };
        let mut rng = Rng::new(1);
        let mut cluster = Cluster::start_with(3, 1, options.clone()).await;
        let mut oracle = Oracle::default();
        let mut most = 0;
        for n in 0..600 {
            oracle.write(&cluster, &cluster.running(), &mut rng, 1000).await;
            if n == 200 {
                let leader = cluster.leader().await;
                let victim = (1..=3).find(|id| *id != leader).unwrap();
                // With all there, no more is kept than the bound says.
                tokio::time::sleep(Duration::from_secs(1)).await;
                let bytes = cluster.status(leader).log_bytes;
                assert!(bytes <= options.log_bytes, "{bytes} bytes with all followers there");
                cluster.crash(victim, Crash::Process).await;
            }
            if n == 220 {
                // What the dead one needs is kept as long as it may be.
                tokio::time::sleep(Duration::from_secs(5)).await;
                let bytes = cluster.status(cluster.leader().await).log_bytes;
                assert!(bytes > options.log_bytes, "{bytes} bytes with a dead follower");
            }
            if n > 240 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let leader = cluster.leader().await;
                most = most.max(cluster.status(leader).log_bytes);
            }
        }
        let slack = 40 << 10;
        assert!(most <= options.log_bytes_max + slack, "the log had {most} bytes");
        let leader = cluster.leader().await;
        let on_disk = cluster.log_bytes_on_disk(leader);
        assert!(on_disk <= options.log_bytes_max + (512 << 10), "{on_disk} bytes on disk");
        let dead = (1..=3).find(|id| !cluster.running().contains(id)).unwrap();
        cluster.restart(dead).await;
        oracle.check(1, &cluster.converge().await);
        cluster.stop().await;
    });
}

#[test]
fn what_is_cut_is_held_first() {
    runtime().block_on(async {
        let mut rng = Rng::new(2);
        let cluster = Cluster::start(3, 2).await;
        let mut oracle = Oracle::default();
        for _ in 0..20 {
            oracle.write(&cluster, &cluster.running(), &mut rng, 100).await;
        }
        let leader = cluster.leader().await;
        cluster.group(leader).cut_log().await.unwrap();
        let purged = cluster.status(leader);
        assert!(cluster.held(leader) > 0);
        assert!(cluster.held(leader) > purged.purged.unwrap_or(0), "{purged:?}");
        oracle.check(2, &cluster.converge().await);
        cluster.stop().await;
    });
}

/// A group that hardly writes does not keep all that another writes.
#[test]
fn an_idle_group_does_not_hold_the_nodes_log() {
    runtime().block_on(async {
        let options =
            GroupOptions { log_bytes: 8 << 10, log_bytes_max: 64 << 10, ..GroupOptions::default() };
        let mut rng = Rng::new(3);
        let mut cluster = Cluster::start_with(3, 3, options).await;
        cluster.add_idle_group(GroupId(8)).await;
        let mut oracle = Oracle::default();
        let mut most = 0;
        for n in 0..600 {
            oracle.write(&cluster, &cluster.running(), &mut rng, 3000).await;
            if n % 20 == 0 {
                for id in 1..=3 {
                    cluster.host(id).tend().await.unwrap();
                    most = most.max(cluster.log_bytes_on_disk(id));
                }
            }
        }
        // Some segments above what the host allows, of the two megabytes that were written.
        assert!(most < 1 << 20, "{most} bytes on disk");
        oracle.check(3, &cluster.converge().await);
        cluster.stop().await;
    });
}

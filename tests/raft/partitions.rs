//! Networks that are cut: in two, one way, and with one node as the only bridge.
// tidy: sleeps because time is simulated

use crate::raft::cluster::{Cluster, Oracle, put, replica, runtime};
use arqondb::env::Rng;
use arqondb::env::sim_disk::Crash;
use arqondb::raft::NodeId;
use std::collections::BTreeSet;
use std::time::Duration;

fn cut_off(cluster: &Cluster, id: u64, from: impl IntoIterator<Item = u64>) {
    from.into_iter().filter(|o| *o != id).for_each(|o| cluster.net.cut_both(NodeId(o), NodeId(id)));
}

#[test]
fn the_larger_part_goes_on_and_the_cut_off_leader_acknowledges_nothing() {
    for seed in 0..10 {
        runtime().block_on(async {
            let mut rng = Rng::new(seed);
            let cluster = Cluster::start(3, seed).await;
            let mut oracle = Oracle::default();
            for _ in 0..10 {
                oracle.write(&cluster, &cluster.running(), &mut rng, 10).await;
            }
            let old = cluster.leader().await;
            cut_off(&cluster, old, 1..=3);
            let refused = cluster.execute_on(old, put("cut-off", "x", 1_000_000)).await;
            assert!(refused.is_err(), "seed {seed}");
            tokio::time::sleep(Duration::from_secs(2)).await;
            let others: BTreeSet<u64> = (1..=3).filter(|id| *id != old).collect();
            for _ in 0..10 {
                oracle.write(&cluster, &others, &mut rng, 10).await;
            }
            cluster.net.heal();
            tokio::time::sleep(Duration::from_secs(2)).await;
            oracle.check(seed, &cluster.converge().await);
            cluster.stop().await;
        });
    }
}

/// Nothing the leader says arrives, though it hears everything; then the other way round.
#[test]
fn a_leader_that_is_not_heard_or_does_not_hear_is_replaced() {
    for seed in 0..10 {
        runtime().block_on(async {
            let mut rng = Rng::new(seed);
            let cluster = Cluster::start(3, seed).await;
            let mut oracle = Oracle::default();
            let old = cluster.leader().await;
            for other in (1..=3).filter(|id| *id != old) {
                let way = [NodeId(old), NodeId(other)];
                let [from, to] = if seed % 2 == 0 { way } else { [way[1], way[0]] };
                cluster.net.cut(from, to);
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            let others: BTreeSet<u64> = (1..=3).filter(|id| *id != old).collect();
            for _ in 0..10 {
                oracle.write(&cluster, &others, &mut rng, 10).await;
            }
            cluster.net.heal();
            tokio::time::sleep(Duration::from_secs(2)).await;
            oracle.check(seed, &cluster.converge().await);
            cluster.stop().await;
        });
    }
}

/// Five nodes; the leader reaches the bridge alone, and the bridge reaches everyone: four are
/// connected and must commit within five seconds.
#[test]
fn a_bridge_does_not_keep_a_leader_without_a_majority() {
    for seed in 0..6 {
        runtime().block_on(async {
            let mut rng = Rng::new(seed);
            let cluster = Cluster::start(5, seed).await;
            let mut oracle = Oracle::default();
            for _ in 0..5 {
                oracle.write(&cluster, &cluster.running(), &mut rng, 10).await;
            }
            let old = cluster.leader().await;
            let bridge = old % 5 + 1;
            cut_off(&cluster, old, (1..=5).filter(|id| *id != bridge));
            let others: BTreeSet<u64> = (1..=5).filter(|id| *id != old).collect();
            let cut_at = tokio::time::Instant::now();
            oracle.write(&cluster, &others, &mut rng, 10).await;
            let gap = cut_at.elapsed();
            assert!(gap <= Duration::from_secs(5), "seed {seed}: no write for {gap:?}");
            cluster.net.heal();
            tokio::time::sleep(Duration::from_secs(2)).await;
            oracle.check(seed, &cluster.converge().await);
            cluster.stop().await;
        });
    }
}

/// Everything at once: cuts, crashes, changes of members, cuts of the log.
#[test]
fn members_change_while_nodes_are_cut_off_and_crash() {
    for seed in 0..12 {
        runtime().block_on(async {
            let mut rng = Rng::new(seed);
            let mut cluster = Cluster::start(3, seed).await;
            let mut oracle = Oracle::default();
            let added = cluster.add_node().await;
            for turn in 0..6 {
                for _ in 0..rng.below(10) + 3 {
                    oracle.write(&cluster, &cluster.running(), &mut rng, 50).await;
                }
                let leader = cluster.leader().await;
                match rng.below(5) {
                    0 => cut_off(&cluster, leader, 1..=added),
                    1 => {
                        let (a, b) = (rng.below(added) + 1, rng.below(added) + 1);
                        cluster.net.cut(NodeId(a), NodeId(b));
                    }
                    2 => _ = cluster.group(leader).cut_log().await,
                    3 => {
                        let victim = rng.below(added) + 1;
                        cluster.crash(victim, Crash::PowerLost(rng.next_u64())).await;
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        cluster.restart(victim).await;
                    }
                    _ => {}
                }
                // Whether a change comes through is the cluster's affair; that it does no harm,
                // this test's.
                let group = cluster.group(leader);
                let change = async {
                    if turn == 1 {
                        _ = group.add_learner(replica(added), NodeId(added)).await;
                    }
                    if turn > 1 {
                        let out = rng.below(added) + 1;
                        let voters = (1..=added).filter(|id| *id != out).map(replica).collect();
                        _ = group.change_voters(voters, true, None).await;
                    }
                };
                _ = tokio::time::timeout(Duration::from_secs(3), change).await;
                cluster.net.heal();
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            let leader = cluster.leader().await;
            let everyone: BTreeSet<u64> = (1..=added).map(replica).collect();
            let group = cluster.group(leader);
            for id in 1..=added {
                group.add_learner(replica(id), NodeId(id)).await.unwrap();
            }
            group.change_voters(everyone, true, None).await.unwrap();
            oracle.check(seed, &cluster.converge().await);
            cluster.stop().await;
        });
    }
}

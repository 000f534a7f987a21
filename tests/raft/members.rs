//! Changing the members, with conditions; handing the lead over; removing replicas.

use crate::raft::cluster::{Cluster, GROUP, put, replica, runtime};
use arqondb::ErrorKind;
use arqondb::raft::NodeId;
use std::time::Duration;

#[test]
fn a_change_is_refused_when_the_members_are_others_by_now() {
    runtime().block_on(async {
        let mut cluster = Cluster::start(3, 1).await;
        let added = cluster.add_node().await;
        let leader = cluster.leader().await;
        let group = cluster.group(leader);
        let before = group.status().members_at;
        group.add_learner(replica(added), NodeId(added)).await.unwrap();
        let status = group.status();
        assert_eq!(status.learners.iter().copied().collect::<Vec<_>>(), [replica(added)]);
        let voters = (1..=added).map(replica).collect();
        let stale = group.change_voters(voters, false, before).await.unwrap_err();
        assert_eq!(stale.kind(), ErrorKind::Conflict, "{stale}");
        let voters = (1..=added).map(replica).collect();
        group.change_voters(voters, false, status.members_at).await.unwrap();
        assert_eq!(group.status().voters[0].len(), 4);

        let unknown = [replica(1), 999].into_iter().collect();
        let error = group.change_voters(unknown, false, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        let follower = (1..=3).find(|id| *id != leader).unwrap();
        let error = cluster.group(follower).add_learner(7, NodeId(7)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        cluster.stop().await;
    });
}

#[test]
fn the_lead_is_handed_over_with_little_pause() {
    runtime().block_on(async {
        let cluster = Cluster::start(3, 2).await;
        for (turn, to) in [2u64, 3, 1, 2].into_iter().enumerate() {
            let leader = cluster.leader().await;
            if leader == to {
                continue;
            }
            let at = tokio::time::Instant::now();
            let group = cluster.group(leader);
            group.transfer_leader(replica(to), Duration::from_secs(5)).await.unwrap();
            let request = turn as u64 + 1;
            cluster.execute(|| put("k", "v", request)).await.unwrap();
            let gap = at.elapsed();
            assert!(gap < Duration::from_millis(300), "a pause of {gap:?}");
            assert_eq!(cluster.leader().await, to);
        }
        cluster.stop().await;
    });
}

#[test]
fn a_lead_that_cannot_be_handed_over_is_told_in_words_that_help() {
    runtime().block_on(async {
        let cluster = Cluster::start(3, 2).await;
        cluster.execute(|| put("k", "v", 1)).await.unwrap();
        let leader = cluster.leader().await;
        let to = (1..=3).find(|id| *id != leader).unwrap();
        cluster.net.cut_both(NodeId(leader), NodeId(to));
        let group = cluster.group(leader);
        let error =
            group.transfer_leader(replica(to), Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline);
        let to = replica(to);
        let words =
            format!("replica {to} has not taken the lead, and the time has run out; try again");
        assert_eq!(error.message(), words);
        cluster.stop().await;
    });
}

#[test]
fn a_removed_replica_leaves_nothing_and_its_successor_has_another_id() {
    runtime().block_on(async {
        let cluster = Cluster::start(3, 3).await;
        for n in 1..30 {
            cluster.execute(|| put("k", "v", n)).await.unwrap();
        }
        let leader = cluster.leader().await;
        let gone = (1..=3).find(|id| *id != leader).unwrap();
        let host = cluster.host(gone);
        assert_eq!(host.replicas(), [(GROUP, replica(gone))]);
        host.remove(GROUP).await.unwrap();
        assert!(host.replicas().is_empty() && host.group(GROUP).is_none());
        let disk = cluster.live_disk(gone);
        use arqondb::env::Disk;
        assert!(!disk.exists(std::path::Path::new("/groups/group-7")));
        // Again: fine.
        host.remove(GROUP).await.unwrap();
        cluster.stop().await;
    });
}

/// Bytes that are no message, and messages cut short, change nothing.
#[test]
fn what_is_no_message_is_dropped() {
    runtime().block_on(async {
        let cluster = Cluster::start(3, 4).await;
        let mut rng = arqondb::env::Rng::new(4);
        for n in 0..20_000u64 {
            let mut bytes: Vec<u8> = (0..rng.below(60)).map(|_| rng.next_u64() as u8).collect();
            if rng.one_in(2) {
                // Addressed to the group, with a body of one kind or another.
                let kind = (10 + rng.below(18)) << 3 | 2;
                let mut head = vec![0x08, 7, 0x10, 101, 0x18, 101 + (n % 3) as u8, 0x20, 1];
                head.extend([(kind & 0x7f | 0x80) as u8, (kind >> 7) as u8, bytes.len() as u8]);
                head.append(&mut bytes);
                bytes = head;
            }
            let node = n % 3 + 1;
            let class = arqondb::raft::Class::ALL[rng.below(3) as usize];
            cluster.host(node).receive(NodeId(rng.below(5)), class, bytes.into());
            if n % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for n in 1..5 {
            cluster.execute(|| put("k", "v", n)).await.unwrap();
        }
        let states = cluster.converge().await;
        assert!(states.values().all(|state| *state == states[&1]));
        cluster.stop().await;
    });
}

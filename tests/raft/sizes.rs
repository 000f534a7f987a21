//! Batches that are large, and too large.
// tidy: sleeps because time is simulated

use crate::raft::cluster::{Cluster, put, runtime};
use arqondb::ErrorKind;
use std::time::Duration;

/// A minute later, with every replica up and no way cut, the shard takes what is written.
#[test]
fn a_batch_that_no_message_can_carry_is_refused_and_wedges_nothing() {
    runtime().block_on(async {
        let cluster = Cluster::start(3, 1).await;
        cluster.execute(|| put("k", "small", 1)).await.unwrap();
        let leader = cluster.leader().await;
        let large = "x".repeat(130 << 20);
        let told = cluster.execute_on(leader, put("k", &large, 2)).await.unwrap_err();
        assert_eq!(told.kind(), ErrorKind::InvalidArgument, "{told}");
        assert!(told.message().contains("smaller values"), "{told}");
        let taken = "x".repeat(20 << 20);
        cluster.execute_on(leader, put("k", &taken, 3)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        cluster.execute(|| put("k", "small again", 4)).await.unwrap();
        cluster.converge().await;
        cluster.stop().await;
    });
}

//! How fresh the reads of a pipeline must be, for whoever makes its calls.
//!
//! It goes with the task instead of through every signature: nothing of a pipeline is spawned, and
//! only an attempt asks for it.

use crate::gateway::calls::Consistency;
use crate::gateway::map::{Node, NodeId, ShardInfo};
use crate::op::Request;
use crate::op::command::Id;
use crate::op::route::is_read;
use std::future::Future;

tokio::task_local! {
    static ASKED: Consistency;
}

/// Runs a pipeline whose reads must be so fresh.
pub(super) async fn with<T>(consistency: Consistency, pipeline: impl Future<Output = T>) -> T {
    ASKED.scope(consistency, pipeline).await
}

/// What the pipeline of this task asked for, or else `default`.
pub(super) fn asked(default: Consistency) -> Consistency {
    ASKED.try_with(|asked| *asked).unwrap_or(default)
}

/// Whether a request may be answered by a replica that lags. Cursors of SCAN are one replica's, and
/// what WATCH remembers is compared by the leader.
pub(super) fn may_be_stale(request: &Request) -> bool {
    match request {
        Request::Redis(call) if call.spec.id == Id::Scan => false,
        Request::Watch { .. } => false,
        other => is_read(other),
    }
}

/// Whom to ask for a stale read, in this order: the replica that is near, the others from some place
/// on, and the leader last, who has the most to do.
pub(super) fn replicas(shard: &ShardInfo, near: Option<NodeId>, from: usize) -> Vec<Node> {
    let mut others: Vec<Node> = shard.replicas.clone();
    let count = others.len().max(1);
    others.rotate_left(from % count);
    others.sort_by_key(|node| match node.id {
        id if Some(id) == near => 0,
        id if Some(id) == shard.leader => 2,
        _ => 1,
    });
    others
}

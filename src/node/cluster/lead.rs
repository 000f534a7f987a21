//! What a leader tells the catalog, and does for it.

use crate::catalog::records::{ReplicaState, Role};
use crate::catalog::{Action, ReplicaId, ShardChange, View};
use crate::node::cluster::member::Inner;
use crate::node::cluster::replicas::Running;
use crate::raft::NodeId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(2);
/// A learner that lacks no more entries than this has caught up.
const LAG_MAX: u64 = 200;
/// How long a follower may take to take the lead.
const TRANSFER: Duration = Duration::from_secs(2);

impl Inner {
    /// Tells the catalog of the shards that are led here, and brings their groups' members in line
    /// with it. What cannot be done now is done at the next turn.
    pub(super) async fn lead(self: &Arc<Self>, view: &View) {
        for replica in self.replicas.all() {
            if replica.session() == 0 {
                continue;
            }
            self.tell_leader(view, &replica).await;
            self.change_members(&replica).await;
            self.go_on_splitting(&replica);
        }
    }

    async fn tell_leader(&self, view: &View, replica: &Running) {
        let status = replica.group.status();
        let known = view.shard(replica.record.id).and_then(|shard| shard.leader);
        let is_known = known
            .is_some_and(|known| known.replica.0 == status.replica && known.term == status.term);
        if is_known || status.leader != Some(status.replica) {
            return;
        }
        let action = Action::SetLeader {
            shard: replica.record.id,
            replica: ReplicaId(status.replica),
            term: status.term,
        };
        _ = self.meta.propose(action, Instant::now() + PATIENCE).await;
    }

    /// One step towards the members that the catalog names.
    async fn change_members(&self, replica: &Running) {
        let (record, group) = (&replica.record, &replica.group);
        let status = group.status();
        if !status.members_are_committed {
            return;
        }
        let voters: BTreeSet<u64> = status.voters.iter().flatten().copied().collect();
        let is_member = |id: u64| voters.contains(&id) || status.learners.contains(&id);
        for named in &record.replicas {
            if !is_member(named.id.0) && named.state != ReplicaState::Lost {
                _ = group.add_learner(named.id.0, NodeId(named.node.0)).await;
                return;
            }
        }
        for named in record.replicas.iter().filter(|r| r.role == Role::Learner) {
            let matched = status.matched.get(&named.id.0).copied().flatten();
            let caught_up = matched.is_some_and(|at| at + LAG_MAX >= status.last.unwrap_or(0));
            if caught_up && named.state == ReplicaState::Joining {
                let action = Action::ChangeShard {
                    shard: record.id,
                    expected: record.epoch,
                    change: ShardChange::LearnerReady(named.id),
                };
                _ = self.meta.propose(action, Instant::now() + PATIENCE).await;
                return;
            }
        }
        let wanted: BTreeSet<u64> =
            record.replicas.iter().filter(|r| r.role == Role::Voter).map(|r| r.id.0).collect();
        // Never itself: it hands over first.
        if wanted != voters && wanted.contains(&status.replica) {
            _ = group.change_voters(wanted, true, status.members_at).await;
            return;
        }
        let gone: BTreeSet<u64> = status
            .learners
            .iter()
            .copied()
            .filter(|id| record.replicas.iter().all(|r| r.id.0 != *id))
            .collect();
        if !gone.is_empty() {
            _ = group.remove_learners(gone).await;
        }
    }

    /// Hands the lead of every shard to a voter that is up to date.
    pub(super) async fn hand_over(&self) {
        let led: Vec<Running> =
            self.replicas.all().into_iter().filter(|r| r.session() != 0).collect();
        let handed = led.iter().map(|replica| async move {
            let status = replica.group.status();
            let able = status.matched.iter().filter(|(id, _)| {
                **id != status.replica && status.voters.iter().any(|set| set.contains(id))
            });
            if let Some((to, _)) = able.max_by_key(|(_, at)| **at) {
                _ = replica.group.transfer_leader(*to, TRANSFER).await;
            }
        });
        futures::future::join_all(handed).await;
    }
}

//! What a leader tells the catalog, and does for it.

use crate::catalog::plan::{MemberStep, Members, member_step};
use crate::catalog::{Action, ReplicaId, ShardChange, View};
use crate::node::cluster::member::Inner;
use crate::node::cluster::replicas::Running;
use crate::raft::{GroupStatus, NodeId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long one thing may take that waits for others. What was begun may happen yet; what is to be
/// done is looked at anew.
const PATIENCE: Duration = Duration::from_secs(2);
/// A learner that lacks no more entries than this has caught up.
const LAG_MAX: u64 = 200;
/// How long a follower may take to take the lead.
const TRANSFER: Duration = Duration::from_secs(2);

impl Inner {
    /// Tells the catalog of the shards that are led here, and brings their groups' members in line
    /// with it. What cannot be done now is done at the next turn.
    pub(super) async fn lead(self: &Arc<Self>, view: &View) {
        let led: Vec<Running> =
            self.replicas.all().into_iter().filter(|r| r.session() != 0).collect();
        let turns = led.iter().map(|replica| async {
            // A group without a majority keeps whoever asks it waiting; the others go on.
            _ = timeout(PATIENCE, self.tell_leader(view, replica)).await;
            _ = timeout(PATIENCE, self.change_members(replica)).await;
            self.go_on_splitting(replica);
        });
        futures::future::join_all(turns).await;
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
        if !status.members_are_committed || status.leader != Some(status.replica) {
            return;
        }
        let of = |ids: BTreeSet<ReplicaId>| ids.into_iter().map(|id| id.0).collect();
        // What does not succeed is found undone at the next turn.
        match member_step(record, &members(&status)) {
            None => {}
            Some(MemberStep::AddLearner(id, node)) => {
                _ = group.add_learner(id.0, NodeId(node.0)).await;
            }
            Some(MemberStep::SetVoters(voters)) => {
                _ = group.change_voters(of(voters), true, status.members_at).await;
            }
            Some(MemberStep::RemoveLearners(learners)) => {
                _ = group.remove_learners(of(learners)).await;
            }
            Some(MemberStep::HandOver(to)) => _ = replica.hand_to(to.0, TRANSFER).await,
            Some(MemberStep::TellReady(id)) => {
                self.tell_change(replica, ShardChange::LearnerReady(id)).await;
            }
            Some(MemberStep::TellGone(id)) => {
                self.tell_change(replica, ShardChange::Remove(id)).await;
            }
        }
    }

    async fn tell_change(&self, replica: &Running, change: ShardChange) {
        let (shard, expected) = (replica.record.id, replica.record.epoch);
        let action = Action::ChangeShard { shard, expected, change };
        _ = self.meta.propose(action, Instant::now() + PATIENCE).await;
    }

    /// Hands the lead of every shard to a voter that is up to date.
    pub(super) async fn hand_over(&self) {
        let led: Vec<Running> =
            self.replicas.all().into_iter().filter(|r| r.session() != 0).collect();
        let handed = led.iter().map(|replica| async move {
            let status = replica.group.status();
            let able = status.matched.iter().filter(|(id, _)| {
                **id != status.replica
                    && status.answering.contains(id)
                    && status.voters.iter().any(|set| set.contains(id))
            });
            if let Some((to, _)) = able.max_by_key(|(_, at)| **at) {
                _ = replica.group.transfer_leader(*to, TRANSFER).await;
            }
        });
        futures::future::join_all(handed).await;
    }
}

/// The members of a group as its leader knows them.
fn members(status: &GroupStatus) -> Members {
    let mut matched: Vec<(u64, u64)> =
        status.matched.iter().filter_map(|(id, at)| Some((at.as_ref().copied()?, *id))).collect();
    // One that was up to date and does not answer could take nothing.
    let answers = |id: &u64| *id == status.replica || status.answering.contains(id);
    matched.retain(|(at, id)| at + LAG_MAX >= status.last.unwrap_or(0) && answers(id));
    matched.sort_unstable_by(|a, b| b.cmp(a));
    Members {
        own: ReplicaId(status.replica),
        voters: status
            .voters
            .iter()
            .map(|set| set.iter().copied().map(ReplicaId).collect())
            .collect(),
        learners: status.learners.iter().copied().map(ReplicaId).collect(),
        caught_up: matched.into_iter().map(|(_, id)| ReplicaId(id)).collect(),
    }
}

impl Running {
    /// Hands the lead to a voter that has caught up. While the lead is on its way nothing is
    /// written, and one that cannot take it would cost an election.
    ///
    /// # Errors
    /// `Refused` if it is no voter; `Busy` if it has not caught up; as
    /// [`Group::transfer_leader`](crate::raft::Group::transfer_leader).
    pub(super) async fn hand_to(&self, to: u64, patience: Duration) -> crate::base::Result<()> {
        use crate::base::{Error, ErrorKind};
        let status = self.group.status();
        if status.leader == Some(status.replica) && to != status.replica {
            let fault = |kind, why: &str| {
                let message = format!("replica {to} cannot lead now: {why}");
                Err(Error::new(kind, message))
            };
            if !status.voters.iter().all(|set| set.contains(&to)) {
                return fault(ErrorKind::Refused, "it is no voter of its shard's group");
            }
            if !members(&status).caught_up.contains(&ReplicaId(to)) {
                return fault(ErrorKind::Busy, "it has not caught up; try again soon");
            }
        }
        self.group.transfer_leader(to, patience).await
    }
}

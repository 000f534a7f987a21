//! Splitting a shard that is led here, as the catalog asks, and beginning the child's replicas.
//!
//! ```text
//! catalog: BeginSplit -> leader: fence, wait for what is pending, propose the entry
//!   -> every replica applies it: its part, and the first state of the child's replica
//!   -> leader: FinishSplit -> catalog: both shards -> every node starts the child's replica
//! ```
//! Each step is found again after a crash: by the catalog's pending split, by the version of the
//! slots that the replica has.

use crate::base::{Error, ErrorKind, Result};
use crate::catalog::records::{ReplicaState, Role, Shard as Record};
use crate::catalog::{Action, ShardChange, ShardId};
use crate::node::cluster::member::Inner;
use crate::node::cluster::replicas::Running;
use crate::raft::{Group, Halves, Split};
use crate::shard::Shard;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(2);
/// How often a child's first leader stands for election until the others have begun, and how long
/// it waits in between.
const CAMPAIGNS: u32 = 40;
const CAMPAIGN_EVERY: Duration = Duration::from_millis(25);

/// Shards that are being split here right now.
#[derive(Default)]
pub(super) struct Splitting(Mutex<BTreeSet<ShardId>>);

impl Splitting {
    fn begin(&self, shard: ShardId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(shard)
    }

    fn end(&self, shard: ShardId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&shard);
    }
}

impl Inner {
    /// Goes on with the split that the catalog asks of a shard led here, if it does.
    pub(super) fn go_on_splitting(self: &Arc<Self>, replica: &Running) {
        let shard = replica.record.id;
        if replica.record.split.is_none() || !self.splitting.begin(shard) {
            return;
        }
        let (node, replica) = (self.clone(), replica.clone());
        tokio::spawn(async move {
            // What fails is tried again at the node's next turn.
            _ = node.split(&replica).await;
            node.splitting.end(shard);
        });
    }

    async fn split(&self, replica: &Running) -> Result<()> {
        let record = &replica.record;
        let Some(split) = asked(record) else { return Ok(()) };
        if replica.epoch() < split.epoch {
            if !agree(record, &replica.group) {
                return Ok(());
            }
            let shard = replica.handle.get()?;
            shard.begin_fence();
            let done = match committed(&shard).await {
                Ok(()) => replica.group.split(&split).await,
                Err(error) => Err(error),
            };
            // An entry of unknown outcome is applied, if at all, before a session opens again.
            shard.end_fence(false);
            done?;
        }
        let action = Action::ChangeShard {
            shard: record.id,
            expected: record.epoch,
            change: ShardChange::FinishSplit,
        };
        self.meta.propose(action, Instant::now() + PATIENCE).await.map(|_| ())
    }

    /// Whether a replica of a child need not be begun yet: its parent's here has not come to the
    /// split, and will make its first state. One that is still to be sent its own state may be long in
    /// coming, and holds nobody up: a child that is begun without it is sent what it lacks.
    pub(super) fn awaits_split(&self, record: &Record) -> bool {
        let lags = |replica: &Running| {
            let own = replica.record.replicas.iter().find(|r| r.id.0 == replica.group.replica());
            own.is_some_and(|own| own.role == Role::Voter)
                && replica.epoch() < replica.record.epoch.range
        };
        record.epoch.range > 1
            && self.host.replicas().iter().all(|(group, _)| *group != record.id.group())
            && self.replicas.all().iter().any(lags)
    }

    /// Has the replica of a child stand for election where its parent was led.
    pub(super) fn lead_child(&self, record: &Record, own: u64, group: &Group) {
        if record.leader.is_none_or(|leader| leader.replica.0 != own || leader.term != 0) {
            return;
        }
        let group = group.clone();
        tokio::spawn(async move {
            for _ in 0..CAMPAIGNS {
                if group.status().leader.is_some() || group.campaign().await.is_err() {
                    return;
                }
                sleep(CAMPAIGN_EVERY).await;
            }
        });
    }
}

/// Waits until what is placed is committed, or has failed. No thread is held for as long as no
/// majority can be reached.
async fn committed(shard: &Arc<Shard>) -> Result<()> {
    let (send, receive) = oneshot::channel();
    shard.when_committed(shard.placed(), move |outcome| _ = send.send(outcome));
    let stopping = |_| Error::new(ErrorKind::Unavailable, "the node is stopping");
    receive.await.map_err(stopping)?
}

/// The entry that the catalog asks for.
fn asked(record: &Record) -> Option<Split> {
    let pending = record.split.as_ref()?;
    let pairs = record.replicas.iter().zip(&pending.replicas);
    let halves = pairs.map(|(replica, child)| Halves {
        parent: replica.id.0,
        child: child.0,
        votes: replica.role == Role::Voter,
    });
    Some(Split {
        slots: record.slots,
        at: pending.at,
        epoch: record.epoch.range + 1,
        child: pending.child.group(),
        replicas: halves.collect(),
    })
}

/// Whether the group has exactly the members that the catalog names.
fn agree(record: &Record, group: &Group) -> bool {
    let status = group.status();
    status.members_are_committed && are_members(record, &status.voters, &status.learners)
}

/// A learner that is lost may be missing: a group that has never heard of it takes it in no more, and
/// nobody takes it off the catalog while a split is under way.
fn are_members(record: &Record, voters: &[BTreeSet<u64>], learners: &BTreeSet<u64>) -> bool {
    let of = |role| record.replicas.iter().filter(move |r| r.role == role);
    let named: BTreeSet<u64> = of(Role::Voter).map(|r| r.id.0).collect();
    let may_be: BTreeSet<u64> = of(Role::Learner).map(|r| r.id.0).collect();
    let mut must_be = of(Role::Learner).filter(|r| r.state != ReplicaState::Lost);
    *voters == [named]
        && learners.is_subset(&may_be)
        && must_be.all(|learner| learners.contains(&learner.id.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::records::{Epoch, Replica};
    use crate::catalog::{NodeId, ReplicaId};
    use crate::op::route::SlotRange;

    #[test]
    fn a_split_does_not_wait_for_a_lost_learner_that_its_group_never_heard_of() {
        let replica = |n, role, state| Replica { id: ReplicaId(n), node: NodeId(n), role, state };
        let mut record = Record {
            id: ShardId(1),
            slots: SlotRange { first: 0, last: 99 },
            epoch: Epoch { config: 1, range: 1 },
            replicas: vec![
                replica(1, Role::Voter, ReplicaState::Ready),
                replica(2, Role::Voter, ReplicaState::Lost),
                replica(3, Role::Learner, ReplicaState::Lost),
            ],
            desired: 2,
            leader: None,
            split: None,
        };
        let agree = |record: &Record, voters: &[u64], learners: &[u64]| {
            let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
            are_members(record, &[set(voters)], &set(learners))
        };
        assert!(agree(&record, &[1, 2], &[]) && agree(&record, &[1, 2], &[3]));
        // Nobody else is missing or too much.
        assert!(!agree(&record, &[1], &[3]) && !agree(&record, &[1, 2], &[4]));
        assert!(!agree(&record, &[1, 2, 3], &[]));
        record.replicas[2].state = ReplicaState::Ready;
        assert!(!agree(&record, &[1, 2], &[]) && agree(&record, &[1, 2], &[3]));
    }
}

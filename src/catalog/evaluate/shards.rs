//! The shard map: creation, replicas, leaders, splits.

use super::{Decided, Turn};
use crate::base::{Error, ErrorKind};
use crate::catalog::command::{Outcome, ShardChange};
use crate::catalog::event::Event;
use crate::catalog::ids::{NodeId, ReplicaId, ShardId};
use crate::catalog::limits::{REPLICAS_MAX, REPLICAS_WHILE_MOVING_MAX, SHARDS_MAX};
use crate::catalog::placement::{self, Candidate};
use crate::catalog::records::{
    Epoch, Leader, Node, NodeState, PendingSplit, Replica, ReplicaState, Role, Shard,
};
use crate::catalog::refusal::{Refusal, Standing};
use crate::op::route::SlotRange;
use std::collections::BTreeMap;

impl Turn<'_> {
    pub(super) fn create_shards(&mut self, count: u32, replicas: u32, nodes: &[NodeId]) -> Decided {
        check_desired(replicas)?;
        if count == 0 || count as usize > SHARDS_MAX {
            let message = format!("a cluster has 1 to {SHARDS_MAX} shards");
            return Err(Error::invalid(message).into());
        }
        if self.view.shards().next().is_some() {
            let message = "the cluster has its shards; split them to have more";
            return Err(Refusal::new(ErrorKind::AlreadyExists, message));
        }
        let mut candidates = self.candidates(nodes)?;
        let mut led: BTreeMap<NodeId, u32> = BTreeMap::new();
        for slots in SlotRange::even(count as u16) {
            let chosen = placement::choose(&candidates, &[], replicas as usize);
            let Some(mut chosen) = chosen else {
                return Err(Refusal::refused(format!(
                    "{replicas} replicas need as many nodes, and {} can take one; register more \
                     nodes, or ask for fewer replicas",
                    candidates.len()
                )));
            };
            for candidate in candidates.iter_mut().filter(|c| chosen.contains(&c.node)) {
                candidate.replicas += 1;
            }
            chosen.sort_by_key(|node| (led.get(node).copied().unwrap_or(0), *node));
            *led.entry(chosen[0]).or_default() += 1;
            let shard = self.new_shard(slots, replicas, &chosen);
            self.events.push(Event::ShardChanged(shard));
        }
        Ok(Outcome::Done)
    }

    fn candidates(&self, nodes: &[NodeId]) -> Decided<Vec<Candidate>> {
        if nodes.is_empty() {
            return Ok(self.view.nodes().filter_map(|n| Candidate::new(n, 0, 0)).collect());
        }
        let mut wanted = nodes.to_vec();
        wanted.sort();
        wanted.dedup();
        let fit = wanted.into_iter().map(|id| {
            let node = self.node(id)?;
            Candidate::new(node, 0, 0).ok_or_else(|| unfit(node))
        });
        fit.collect()
    }

    fn new_shard(&mut self, slots: SlotRange, desired: u32, nodes: &[NodeId]) -> Shard {
        let (role, state) = (Role::Voter, ReplicaState::Ready);
        let replicas = nodes
            .iter()
            .map(|node| Replica { id: self.next.take_replica(), node: *node, role, state })
            .collect();
        let epoch = Epoch { config: 1, range: 1 };
        let id = self.next.take_shard();
        Shard { id, slots, epoch, replicas, desired, leader: None, split: None }
    }

    pub(super) fn set_leader(&mut self, id: ShardId, replica: ReplicaId, term: u64) -> Decided {
        let known = self.shard(id)?;
        let leads = known.replica(replica).ok_or_else(|| no_replica(known, replica))?;
        if leads.role != Role::Voter {
            let message = format!("replica {replica} of shard {id} is a learner and cannot lead");
            return Err(Refusal::refused(message));
        }
        let leader = Leader { replica, term };
        if known.leader == Some(leader) {
            return Ok(Outcome::Done);
        }
        if known.leader.is_some_and(|known| known.term >= term) {
            let message = format!("a leader of shard {id} of term {term} or later is known");
            return Err(Refusal::conflict(message, Standing::Shard(known.clone())));
        }
        self.events.push(Event::ShardChanged(Shard { leader: Some(leader), ..known.clone() }));
        Ok(Outcome::Done)
    }

    pub(super) fn change_shard(
        &mut self,
        id: ShardId,
        expected: Epoch,
        change: ShardChange,
    ) -> Decided {
        let known = self.shard(id)?;
        if known.epoch != expected {
            let message = format!("shard {id} has changed; decide anew from what it is now");
            return Err(Refusal::conflict(message, Standing::Shard(known.clone())));
        }
        let ends_split = matches!(change, ShardChange::FinishSplit | ShardChange::CancelSplit);
        if known.split.is_some() && !ends_split {
            let message = format!("a split of shard {id} is under way; finish or cancel it first");
            return Err(Refusal::conflict(message, Standing::Shard(known.clone())));
        }
        let mut shard = known.clone();
        match change {
            ShardChange::AddLearner(node) => self.add_learner(&mut shard, node)?,
            ShardChange::LearnerReady(id) => {
                let replica = learner(&mut shard, id, ReplicaState::Joining)?;
                replica.state = ReplicaState::Ready;
            }
            ShardChange::Promote(id) => {
                let replica = learner(&mut shard, id, ReplicaState::Ready)?;
                replica.role = Role::Voter;
            }
            ShardChange::Leave(replica) => leave(&mut shard, replica)?,
            ShardChange::Remove(replica) => remove(&mut shard, replica)?,
            ShardChange::SetDesired(desired) => {
                check_desired(desired)?;
                shard.desired = desired;
            }
            ShardChange::BeginSplit(at) => self.begin_split(&mut shard, at)?,
            ShardChange::FinishSplit => return self.finish_split(shard),
            ShardChange::CancelSplit => {
                shard.split.take().ok_or_else(|| no_split(known))?;
            }
        }
        shard.epoch.config += 1;
        self.events.push(Event::ShardChanged(shard.clone()));
        Ok(Outcome::Shard(shard))
    }

    fn add_learner(&mut self, shard: &mut Shard, node: NodeId) -> Decided<()> {
        let fit = self.node(node)?;
        if !matches!(fit.state, NodeState::Active | NodeState::Joining) {
            return Err(unfit(fit));
        }
        if shard.replica_on(node).is_some() {
            let message = format!("shard {} has a replica on node {node}", shard.id);
            let standing = Standing::Shard(shard.clone());
            return Err(Refusal::new(ErrorKind::AlreadyExists, message).with(standing));
        }
        if shard.replicas.len() >= REPLICAS_WHILE_MOVING_MAX {
            let message = format!("shard {} has too many replicas; remove one first", shard.id);
            return Err(Refusal::refused(message));
        }
        let (role, state) = (Role::Learner, ReplicaState::Joining);
        shard.replicas.push(Replica { id: self.next.take_replica(), node, role, state });
        Ok(())
    }

    fn begin_split(&mut self, shard: &mut Shard, at: u16) -> Decided<()> {
        if shard.slots.split(at).is_none() {
            let message = format!(
                "slot {at} leaves one half of shard {} empty; its slots are {}",
                shard.id, shard.slots
            );
            return Err(Error::invalid(message).into());
        }
        if self.view.shards().count() >= SHARDS_MAX {
            return Err(Refusal::refused(format!("a cluster has at most {SHARDS_MAX} shards")));
        }
        let on_its_way =
            |r: &&Replica| matches!(r.state, ReplicaState::Joining | ReplicaState::Leaving);
        if let Some(replica) = shard.replicas.iter().find(on_its_way) {
            let message = format!(
                "replica {} of shard {} is {}; split the shard when that is over",
                replica.id, shard.id, replica.state
            );
            return Err(Refusal::refused(message).with(Standing::Shard(shard.clone())));
        }
        let replicas = shard.replicas.iter().map(|_| self.next.take_replica()).collect();
        shard.split = Some(PendingSplit { at, child: self.next.take_shard(), replicas });
        Ok(())
    }

    fn finish_split(&mut self, mut parent: Shard) -> Decided {
        let split = parent.split.take().ok_or_else(|| no_split(&parent))?;
        let (lower, upper) = parent.slots.split(split.at).ok_or_else(|| {
            let message = format!("the split of shard {} has no place in it", parent.id);
            Refusal::new(ErrorKind::Internal, message)
        })?;
        parent.slots = lower;
        parent.epoch.range += 1;
        let mut child = Shard { id: split.child, slots: upper, leader: None, ..parent.clone() };
        for (replica, id) in child.replicas.iter_mut().zip(&split.replicas) {
            // Where the parent is led, the child is likely to be.
            if parent.leader.is_some_and(|leader| leader.replica == replica.id) {
                child.leader = Some(Leader { replica: *id, term: 0 });
            }
            replica.id = *id;
        }
        let event = Event::ShardsSplit { parent: parent.clone(), child: child.clone() };
        self.events.push(event);
        Ok(Outcome::Split { parent, child })
    }
}

fn leave(shard: &mut Shard, replica: ReplicaId) -> Decided<()> {
    let known = *shard.replica(replica).ok_or_else(|| no_replica(shard, replica))?;
    if known.state == ReplicaState::Leaving {
        let message = format!("replica {replica} of shard {} is leaving", shard.id);
        let standing = Standing::Shard(shard.clone());
        return Err(Refusal::new(ErrorKind::AlreadyExists, message).with(standing));
    }
    if !shard.can_lose(replica) {
        let message = format!(
            "without replica {replica} shard {} would have no quorum; add another first",
            shard.id
        );
        return Err(Refusal::refused(message).with(Standing::Shard(shard.clone())));
    }
    for leaving in shard.replicas.iter_mut().filter(|r| r.id == replica) {
        leaving.state = ReplicaState::Leaving;
    }
    Ok(())
}

fn remove(shard: &mut Shard, replica: ReplicaId) -> Decided<()> {
    let known = *shard.replica(replica).ok_or_else(|| no_replica(shard, replica))?;
    if known.state != ReplicaState::Leaving {
        let message = format!(
            "replica {replica} of shard {} is {}; it must leave the group before",
            shard.id, known.state
        );
        return Err(Refusal::refused(message).with(Standing::Shard(shard.clone())));
    }
    shard.replicas.retain(|r| r.id != replica);
    shard.leader = shard.leader.filter(|leader| leader.replica != replica);
    Ok(())
}

/// The replica, which must be a learner in this state.
fn learner(shard: &mut Shard, id: ReplicaId, state: ReplicaState) -> Decided<&mut Replica> {
    let known = *shard.replica(id).ok_or_else(|| no_replica(shard, id))?;
    if (known.role, known.state) != (Role::Learner, state) {
        let message = format!(
            "replica {id} of shard {} is a {} {}, not a {state} learner",
            shard.id, known.state, known.role
        );
        return Err(Refusal::refused(message).with(Standing::Shard(shard.clone())));
    }
    let absent = Refusal::not_found(format_args!("replica {id}"));
    shard.replicas.iter_mut().find(|r| r.id == id).ok_or(absent)
}

fn check_desired(replicas: u32) -> Decided<()> {
    if replicas == 0 || replicas > REPLICAS_MAX {
        return Err(Error::invalid(format!("a shard has 1 to {REPLICAS_MAX} replicas")).into());
    }
    Ok(())
}

fn unfit(node: &Node) -> Refusal {
    let message = format!("node {} is {} and takes no new replica", node.id, node.state);
    Refusal::refused(message).with(Standing::Node(node.clone()))
}

fn no_replica(shard: &Shard, replica: ReplicaId) -> Refusal {
    let message = format_args!("replica {replica} of shard {}", shard.id);
    Refusal::not_found(message).with(Standing::Shard(shard.clone()))
}

fn no_split(shard: &Shard) -> Refusal {
    let message = format_args!("split of shard {} under way", shard.id);
    Refusal::not_found(message).with(Standing::Shard(shard.clone()))
}

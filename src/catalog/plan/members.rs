//! Members: what the leader of a shard does so that its group becomes what the catalog names.
//!
//! The catalog says what should be and the group follows, one step at a time; where the catalog must
//! know that the group has followed, the leader tells it. So whoever leads next goes on from
//! whatever the two say.

use crate::catalog::ids::{NodeId, ReplicaId};
use crate::catalog::records::{Replica, ReplicaState, Role, Shard};
use std::collections::BTreeSet;

/// The members of a group, as its leader knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// The replica that leads.
    pub own: ReplicaId,
    /// The voters: two sets while a change of them is half done.
    pub voters: Vec<BTreeSet<ReplicaId>>,
    /// Who is told everything and does not vote.
    pub learners: BTreeSet<ReplicaId>,
    /// Members that lack next to nothing, the best first.
    pub caught_up: Vec<ReplicaId>,
}

/// One step of a leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberStep {
    /// Takes a replica into the group, without a vote.
    AddLearner(ReplicaId, NodeId),
    /// Tells the catalog that a learner has caught up.
    TellReady(ReplicaId),
    /// Changes the voters to these; who was one stays as a learner.
    SetVoters(BTreeSet<ReplicaId>),
    /// Lets this voter lead instead of itself, which is leaving.
    HandOver(ReplicaId),
    /// Takes learners out of the group.
    RemoveLearners(BTreeSet<ReplicaId>),
    /// Tells the catalog that a leaving replica is out of the group.
    TellGone(ReplicaId),
}

/// The next step of a shard's leader; `None` if the group is what the catalog names. The members
/// are those of an entry that is committed.
///
/// A replica votes only once it has caught up, and the one that leads stays a voter until another
/// leads. The voters are changed only to a set of which a majority is there: a change to another is
/// never agreed on, and until it is, nothing else is. A replica is told to be gone only when no set
/// of the members has it.
pub fn member_step(shard: &Shard, members: &Members) -> Option<MemberStep> {
    let voters: BTreeSet<ReplicaId> = members.voters.iter().flatten().copied().collect();
    let is_member = |id: ReplicaId| voters.contains(&id) || members.learners.contains(&id);
    let stays = |r: &&Replica| r.state != ReplicaState::Leaving;
    let missing = shard
        .replicas
        .iter()
        .filter(stays)
        .find(|r| !is_member(r.id) && r.state != ReplicaState::Lost);
    if let Some(missing) = missing {
        return Some(MemberStep::AddLearner(missing.id, missing.node));
    }
    let caught_up = |id: ReplicaId| members.caught_up.contains(&id);
    let is_ready = |r: &&Replica| {
        (r.role, r.state) == (Role::Learner, ReplicaState::Joining) && caught_up(r.id)
    };
    if let Some(ready) = shard.replicas.iter().find(is_ready) {
        return Some(MemberStep::TellReady(ready.id));
    }
    let named = shard.replicas.iter().filter(stays).filter(|r| r.role == Role::Voter);
    let able = named.map(|r| r.id).filter(|id| voters.contains(id) || caught_up(*id));
    let goal: BTreeSet<ReplicaId> = able.chain([members.own]).collect();
    let is_half_done = members.voters.len() > 1;
    if goal != voters || is_half_done {
        let there = goal.iter().filter(|id| **id == members.own || caught_up(**id)).count();
        // What is half done is finished, whoever is there.
        return (is_half_done || 2 * there > goal.len()).then_some(MemberStep::SetVoters(goal));
    }
    let named_own = shard.replica(members.own);
    if named_own.is_none_or(|own| own.state == ReplicaState::Leaving) {
        let able = |id: &&ReplicaId| {
            **id != members.own && shard.replica(**id).is_some_and(Replica::is_live_voter)
        };
        let mut heirs = members.caught_up.iter().filter(|id| voters.contains(id));
        return heirs.find(able).map(|id| MemberStep::HandOver(*id));
    }
    let is_staying = |id: &ReplicaId| shard.replica(*id).is_some_and(|r| stays(&r));
    let gone: BTreeSet<ReplicaId> =
        members.learners.iter().copied().filter(|id| !is_staying(id)).collect();
    if !gone.is_empty() {
        return Some(MemberStep::RemoveLearners(gone));
    }
    let out = shard.replicas.iter().find(|r| !stays(r) && !is_member(r.id));
    out.map(|r| MemberStep::TellGone(r.id))
}

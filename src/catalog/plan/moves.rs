//! Moves, and the next step of one.

use crate::base::{Error, ErrorKind, Result};
use crate::catalog::ids::{NodeId, ReplicaId, ShardId};
use crate::catalog::records::{Replica, ReplicaState, Role, Shard};
use crate::catalog::view::View;

/// One shard's way to another set of replicas, or to another leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Another replica leads.
    Leader {
        /// The shard.
        shard: ShardId,
        /// The replica that shall lead.
        to: ReplicaId,
    },
    /// A voter more, a replica less, or one in the place of the other: first added, then removed.
    Replica {
        /// The shard.
        shard: ShardId,
        /// The replica to remove.
        from: Option<ReplicaId>,
        /// The node to have a voter on.
        to: Option<NodeId>,
    },
}

impl Move {
    /// The shard it is of.
    pub fn shard(&self) -> ShardId {
        match self {
            Move::Leader { shard, .. } | Move::Replica { shard, .. } => *shard,
        }
    }
}

/// What to do next, and for which shards nothing can be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The moves, the most urgent first.
    pub moves: Vec<Move>,
    /// Shards that need a move and can have none now.
    pub stuck: Vec<ShardId>,
}

/// One change on the way of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Begin a replica on this node.
    AddLearner(NodeId),
    /// Wait until this replica has caught up.
    AwaitLearner(ReplicaId),
    /// Make this replica a voter.
    Promote(ReplicaId),
    /// Let this replica lead.
    TransferLeader(ReplicaId),
    /// Send this replica on its way out.
    Leave(ReplicaId),
    /// Wait until this replica is gone.
    AwaitRemoval(ReplicaId),
    /// The move is at its end.
    Finished,
}

/// The next step of a move, from the shard as it is. [`ErrorKind::NotFound`] if the shard is not
/// there; [`ErrorKind::Refused`] if the move has lost its sense: plan anew.
pub fn next_step(view: &View, step_of: &Move) -> Result<Step> {
    let id = step_of.shard();
    let missing = || Error::new(ErrorKind::NotFound, format!("there is no shard {id}"));
    let shard = view.shard(id).ok_or_else(missing)?;
    match *step_of {
        Move::Leader { to, .. } => {
            if shard.leader.is_some_and(|leader| leader.replica == to) {
                return Ok(Step::Finished);
            }
            match shard.replica(to) {
                Some(replica) if replica.is_live_voter() => Ok(Step::TransferLeader(to)),
                _ => Err(senseless(shard, format!("replica {to} cannot lead it"))),
            }
        }
        Move::Replica { from, to, .. } => match to.map(|node| step_to(shard, node)).transpose()? {
            Some(step) if step != Step::Finished => Ok(step),
            _ => from.map_or(Ok(Step::Finished), |from| step_from(shard, from, to)),
        },
    }
}

fn step_to(shard: &Shard, node: NodeId) -> Result<Step> {
    let Some(replica) = shard.replica_on(node) else { return Ok(Step::AddLearner(node)) };
    match (replica.role, replica.state) {
        (_, ReplicaState::Lost) => Err(senseless(shard, format!("node {node} died meanwhile"))),
        (_, ReplicaState::Leaving) => {
            Err(senseless(shard, format!("its replica on node {node} is on its way out")))
        }
        (Role::Learner, ReplicaState::Joining) => Ok(Step::AwaitLearner(replica.id)),
        (Role::Learner, ReplicaState::Ready) => Ok(Step::Promote(replica.id)),
        (Role::Voter, _) => Ok(Step::Finished),
    }
}

fn step_from(shard: &Shard, from: ReplicaId, to: Option<NodeId>) -> Result<Step> {
    let Some(leaving) = shard.replica(from) else { return Ok(Step::Finished) };
    if leaving.state == ReplicaState::Leaving {
        return Ok(Step::AwaitRemoval(from));
    }
    let live = shard.replicas.iter().filter(|r| r.is_live_voter()).count();
    if leaving.is_live_voter() && live <= shard.desired as usize {
        let why = format!("without replica {from} it has fewer voters than it should");
        return Err(senseless(shard, why));
    }
    if !shard.can_lose(from) {
        return Err(senseless(shard, format!("without replica {from} it has no quorum")));
    }
    if shard.leader.is_some_and(|leader| leader.replica == from) {
        let able = |r: &&Replica| r.is_live_voter() && r.id != from;
        let able = shard.replicas.iter().filter(able);
        if let Some(next) = able.max_by_key(|r| (Some(r.node) == to, std::cmp::Reverse(r.id))) {
            return Ok(Step::TransferLeader(next.id));
        }
    }
    Ok(Step::Leave(from))
}

fn senseless(shard: &Shard, why: String) -> Error {
    let message = format!("this move of shard {} has lost its sense: {why}", shard.id);
    Error::new(ErrorKind::Refused, message)
}

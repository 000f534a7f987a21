//! Repair: shards that have lost replicas, or have not as many voters as they should.

use super::board::{Board, ShardFigures};
use super::moves::{Move, Plan};
use crate::catalog::ids::NodeId;
use crate::catalog::records::{NodeState, Replica, ReplicaState, Role, Shard};
use crate::catalog::view::View;

/// Up to `max` moves that give every shard its voters on nodes that are not dead: replicas on dead
/// nodes are replaced, the new one first; what is missing is added, what is left over of broken-off
/// moves and what is too much is removed. Shards with fewest live voters come first.
///
/// A shard without a quorum is stuck: no change of its group can be agreed on.
pub fn repair(view: &View, figures: &ShardFigures, max: usize) -> Plan {
    let mut board = Board::new(view, figures);
    let mut shards = board.free_shards();
    shards.sort_by_key(|shard| shard.replicas.iter().filter(|r| r.is_live_voter()).count());
    let mut plan = Plan::default();
    for shard in shards {
        if plan.moves.len() == max {
            break;
        }
        match mend(&mut board, shard) {
            Need::Nothing => {}
            Need::Stuck => plan.stuck.push(shard.id),
            Need::Move(next) => plan.moves.push(next),
        }
    }
    plan
}

enum Need {
    Nothing,
    Stuck,
    Move(Move),
}

fn mend(board: &mut Board<'_>, shard: &Shard) -> Need {
    if !shard.has_quorum() {
        return Need::Stuck;
    }
    let is_lost = |r: &&Replica| r.state == ReplicaState::Lost;
    let lost = shard.replicas.iter().filter(is_lost).min_by_key(|r| (r.role, r.id));
    let learner = shard.replicas.iter().find(|r| is_coming(r));
    let voters = shard.replicas.iter().filter(|r| r.is_live_voter()).count();
    let (from, to) = if voters < shard.desired as usize {
        let to = learner.map(|r| r.node).or_else(|| {
            let sound = shard.replicas.iter().filter(|r| r.state != ReplicaState::Lost);
            let kept: Vec<_> = sound.filter_map(|r| board.view.node(r.node)).collect();
            board.place(&kept)
        });
        // A learner that is lost goes first: it is in the way, and nothing is counted on it.
        let lost_voter = lost.filter(|r| r.role == Role::Voter);
        match (to, lost) {
            (Some(to), _) => (lost_voter, Some(to)),
            (None, Some(lost)) if lost.role == Role::Learner => (Some(lost), None),
            (None, _) => return Need::Stuck,
        }
    } else if lost.is_some() || learner.is_some() {
        (lost.or(learner), None)
    } else if voters > shard.desired as usize {
        (surplus(board, shard), None)
    } else {
        return Need::Nothing;
    };
    board.moved(shard.id, from.map(|r| r.node), to);
    Need::Move(Move::Replica { shard: shard.id, from: from.map(|r| r.id), to })
}

/// A learner that may become a voter yet.
pub(super) fn is_coming(replica: &Replica) -> bool {
    let goes = matches!(replica.state, ReplicaState::Lost | ReplicaState::Leaving);
    replica.role == Role::Learner && !goes
}

/// The voter to do without: rather one on a node that is not active, not the leader, and on the
/// node that carries most.
fn surplus<'s>(board: &Board<'_>, shard: &'s Shard) -> Option<&'s Replica> {
    let carried = |node: NodeId| {
        let candidate = board.candidates.iter().find(|c| c.node == node);
        candidate.map_or(0, |c| c.replicas)
    };
    let spare = shard.replicas.iter().filter(|r| r.is_live_voter() && shard.can_lose(r.id));
    spare.max_by_key(|r| {
        let active = board.view.node(r.node).is_some_and(|n| n.state == NodeState::Active);
        let leads = shard.leader_node() == Some(r.node);
        (!active, !leads, carried(r.node), r.id)
    })
}

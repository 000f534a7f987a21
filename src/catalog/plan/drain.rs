//! Draining: everything leaves a node.

use super::board::{Board, ShardFigures};
use super::moves::{Move, Plan};
use super::repair::is_coming;
use crate::catalog::ids::{NodeId, ReplicaId};
use crate::catalog::records::{NodeState, Replica, ReplicaState, Role, Shard};
use crate::catalog::view::View;
use std::collections::BTreeMap;

/// Up to `max` moves away from `node`, leaders first; what is on its way out already needs none.
/// Plan again when they are done; a plan without moves and without stuck shards says that the node
/// is empty, or will be once no job is active on its shards.
pub fn drain(view: &View, node: NodeId, figures: &ShardFigures, max: usize) -> Plan {
    let mut board = Board::new(view, figures);
    board.candidates.retain(|candidate| candidate.node != node);
    let mut led: BTreeMap<NodeId, u64> = BTreeMap::new();
    for leader in view.shards().filter_map(Shard::leader_node) {
        *led.entry(leader).or_default() += 1;
    }
    let shards: Vec<(&Shard, Replica)> = board
        .free_shards()
        .into_iter()
        .filter_map(|shard| shard.replica_on(node).map(|replica| (shard, *replica)))
        .filter(|(_, replica)| replica.state != ReplicaState::Leaving)
        .collect();
    let mut plan = Plan::default();
    for (shard, replica) in shards.iter().filter(|(s, _)| s.leader_node() == Some(node)) {
        if plan.moves.len() < max
            && let Some(to) = next_leader(view, shard, replica.id, &led)
        {
            *led.entry(to.node).or_default() += 1;
            board.take(shard.id);
            plan.moves.push(Move::Leader { shard: shard.id, to: to.id });
        }
    }
    for (shard, replica) in shards {
        let has_move = plan.moves.iter().any(|m| m.shard() == shard.id);
        if plan.moves.len() == max || has_move {
            continue;
        }
        match leave(&board, shard, &replica) {
            None => plan.stuck.push(shard.id),
            Some(to) => {
                board.moved(shard.id, Some(node), to);
                plan.moves.push(Move::Replica { shard: shard.id, from: Some(replica.id), to });
            }
        }
    }
    plan
}

/// The voter to lead instead: on an active node, the one that leads least.
fn next_leader(
    view: &View,
    shard: &Shard,
    without: ReplicaId,
    led: &BTreeMap<NodeId, u64>,
) -> Option<Replica> {
    let able = shard.replicas.iter().filter(|r| r.is_live_voter() && r.id != without);
    able.filter(|r| view.node(r.node).is_some_and(|n| n.state == NodeState::Active))
        .min_by_key(|r| (led.get(&r.node).copied().unwrap_or(0), r.id))
        .copied()
}

/// Where the replica goes: a node, or nowhere if the shard has voters enough without it. `None`:
/// it cannot go now.
fn leave(board: &Board<'_>, shard: &Shard, replica: &Replica) -> Option<Option<NodeId>> {
    let others = shard.replicas.iter().filter(|r| r.id != replica.id);
    let voters = others.clone().filter(|r| r.is_live_voter()).count();
    let is_spare = replica.role == Role::Learner || voters >= shard.desired as usize;
    if is_spare && shard.can_lose(replica.id) {
        return Some(None);
    }
    if !shard.has_quorum() {
        return None;
    }
    if let Some(learner) = others.clone().find(|r| is_coming(r)) {
        return Some(Some(learner.node));
    }
    board.place(&board.nodes_without(shard, Some(replica.id))).map(Some)
}

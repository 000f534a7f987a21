//! Rebalancing: failure domains first, then replicas, then bytes, then leaders.

use super::board::{Board, ShardFigures};
use super::moves::{Move, Plan};
use crate::catalog::ids::NodeId;
use crate::catalog::placement::{self, Candidate};
use crate::catalog::records::{Node, NodeState, Replica, Shard};
use crate::catalog::view::View;
use std::collections::BTreeMap;

/// Bytes or load are evened out only where that takes more than this part of the average off the
/// fullest node, so that a plan ends.
const WORTH_ONE_IN: u64 = 10;

/// Shards of one node that are looked at for an exchange, the largest first.
const EXCHANGED_MAX: usize = 128;

/// Up to `max` moves towards even nodes. Shards that need repair are left alone.
///
/// First replicas leave failure domains that hold more than their share; then nodes come to counts
/// of replicas that differ by one at most, as far as failure domains allow; then bytes are evened
/// out without touching the counts, where need be by two moves that exchange replicas; then
/// leaders, by load, or by number if no load is given.
pub fn rebalance(view: &View, figures: &ShardFigures, max: usize) -> Plan {
    let mut board = Board::new(view, figures);
    let mut plan = Plan::default();
    for shard in whole_shards(&board) {
        if plan.moves.len() < max
            && let Some(found) = crowded(&board, shard)
        {
            put(&mut board, &mut plan, found);
        }
    }
    while plan.moves.len() < max
        && let Some(found) = even_counts(&board)
    {
        put(&mut board, &mut plan, found);
    }
    while plan.moves.len() < max {
        let found = even_bytes(&board, max - plan.moves.len());
        if found.is_empty() {
            break;
        }
        found.into_iter().for_each(|found| put(&mut board, &mut plan, found));
    }
    even_leaders(&board, max, &mut plan);
    plan
}

/// A shard, its replica that goes, and where to.
type Found<'a> = (&'a Shard, Replica, NodeId);

fn put(board: &mut Board<'_>, plan: &mut Plan, (shard, replica, to): Found<'_>) {
    board.moved(shard.id, Some(replica.node), Some(to));
    plan.moves.push(Move::Replica { shard: shard.id, from: Some(replica.id), to: Some(to) });
}

/// Shards that are whole: nothing but balance is to be done for them.
fn whole_shards<'a>(board: &Board<'a>) -> Vec<&'a Shard> {
    let mut shards = board.free_shards();
    shards.retain(|shard| {
        shard.replicas.len() == shard.desired as usize
            && shard.replicas.iter().all(Replica::is_live_voter)
    });
    shards
}

/// What takes one replica out of a failure domain that holds too many of the shard's.
fn crowded<'a>(board: &Board<'a>, shard: &'a Shard) -> Option<Found<'a>> {
    let now = placement::crowding(&board.nodes_without(shard, None));
    let cap = placement::domain_cap(shard.replicas.len());
    shard.replicas.iter().find_map(|replica| {
        let mut nodes = board.nodes_without(shard, Some(replica.id));
        let to = board.place(&nodes).filter(|to| *to != replica.node)?;
        let node = board.view.node(to).filter(|node| node.state == NodeState::Active)?;
        nodes.push(node);
        let then = placement::crowding(&nodes);
        let (now, then) = now.iter().zip(&then).find(|(now, then)| now != then)?;
        (then < now && *now > cap).then_some((shard, *replica, to))
    })
}

/// A replica from a node to one with at least two fewer.
fn even_counts<'a>(board: &Board<'a>) -> Option<Found<'a>> {
    let shards = whole_shards(board);
    let mut nodes = active(board);
    nodes.sort_by_key(|c| (c.replicas, c.bytes, c.node));
    let pairs = nodes.iter().rev().flat_map(|from| {
        let fewer = nodes.iter().take_while(|to| to.replicas + 2 <= from.replicas);
        fewer.map(move |to| (from, to))
    });
    pairs.into_iter().find_map(|(from, to)| {
        let wanted = from.bytes.saturating_sub(to.bytes) / 2;
        let movable = shards.iter().filter_map(|shard| movable(board, shard, from, to));
        let fit = |found: &Bound<'a>| board.figures(found.0.id).bytes.abs_diff(wanted);
        let (shard, replica) = movable.min_by_key(|found| (fit(found), found.0.id))?;
        Some((shard, replica, to.node))
    })
}

/// A replica from the fullest node to one with fewer replicas, or in exchange for a smaller one.
fn even_bytes<'a>(board: &Board<'a>, room: usize) -> Vec<Found<'a>> {
    let shards = whole_shards(board);
    let mut nodes = active(board);
    nodes.sort_by_key(|c| (c.bytes, c.node));
    let Some((from, others)) = nodes.split_last() else { return Vec::new() };
    let average = nodes.iter().map(|c| c.bytes / nodes.len() as u64).sum::<u64>();
    let worth = average / WORTH_ONE_IN;
    for to in others {
        let gap = from.bytes - to.bytes;
        // What goes over must leave the larger of the two smaller than the larger was.
        let helps = |bytes: u64| bytes > worth && bytes < gap && gap - bytes > worth;
        let fit = |bytes: u64| (gap / 2).abs_diff(bytes);
        let size = |shard: &Shard| board.figures(shard.id).bytes;
        let over = largest(shards.iter().filter_map(|s| movable(board, s, from, to)), &size);
        if from.replicas > to.replicas {
            let one = over.iter().filter(|(s, _)| helps(size(s)));
            if let Some((shard, replica)) = one.min_by_key(|(s, _)| (fit(size(s)), s.id)) {
                return vec![(shard, *replica, to.node)];
            }
        }
        if from.replicas < to.replicas || room < 2 {
            continue;
        }
        let back = largest(shards.iter().filter_map(|s| movable(board, s, to, from)), &size);
        let pairs = over.iter().flat_map(|there| back.iter().map(move |here| (there, here)));
        let net =
            |(there, here): &(&Bound<'a>, &Bound<'a>)| size(there.0).saturating_sub(size(here.0));
        let best =
            pairs.filter(|p| helps(net(p))).min_by_key(|p| (fit(net(p)), p.0.0.id, p.1.0.id));
        if let Some((there, here)) = best {
            return vec![(there.0, there.1, to.node), (here.0, here.1, from.node)];
        }
    }
    Vec::new()
}

/// A shard, and its replica on the node it would leave.
type Bound<'a> = (&'a Shard, Replica);

fn largest<'a>(
    found: impl Iterator<Item = Bound<'a>>,
    size: &impl Fn(&Shard) -> u64,
) -> Vec<Bound<'a>> {
    let mut found: Vec<Bound<'a>> = found.collect();
    found.sort_by_key(|(shard, _)| (std::cmp::Reverse(size(shard)), shard.id));
    found.truncate(EXCHANGED_MAX);
    found
}

fn active(board: &Board<'_>) -> Vec<Candidate> {
    board.candidates.iter().filter(|c| c.active).cloned().collect()
}

/// The shard's replica on `from`, if it can go to `to` and no failure domain gets beyond its cap,
/// or further beyond.
fn movable<'a>(
    board: &Board<'a>,
    shard: &'a Shard,
    from: &Candidate,
    to: &Candidate,
) -> Option<Bound<'a>> {
    let replica = *shard.replica_on(from.node)?;
    if shard.replica_on(to.node).is_some() {
        return None;
    }
    let cap = placement::domain_cap(shard.replicas.len());
    let now = placement::crowding(&board.nodes_without(shard, None));
    let mut nodes: Vec<&Node> = board.nodes_without(shard, Some(replica.id));
    nodes.push(board.view.node(to.node)?);
    let then = placement::crowding(&nodes);
    let fits = now.iter().zip(&then).all(|(now, then)| *then <= cap.max(*now));
    fits.then_some((shard, replica))
}

/// Leaders from the node that leads most to one that leads less.
fn even_leaders(board: &Board<'_>, max: usize, plan: &mut Plan) {
    let led = whole_shards(board);
    let load_of = |shard: &Shard| board.figures(shard.id).load;
    let loaded = board.view.shards().any(|shard| load_of(shard) > 0);
    let weight = |shard: &Shard| if loaded { load_of(shard) } else { 1 };
    let mut carried: BTreeMap<NodeId, u64> =
        active(board).into_iter().map(|candidate| (candidate.node, 0)).collect();
    for shard in board.view.shards() {
        if let Some(sum) = shard.leader_node().and_then(|node| carried.get_mut(&node)) {
            *sum = sum.saturating_add(weight(shard));
        }
    }
    let average = carried.values().map(|sum| sum / carried.len().max(1) as u64).sum::<u64>();
    let worth = if loaded { average / WORTH_ONE_IN } else { 0 };
    let mut taken = Vec::new();
    while plan.moves.len() < max {
        let best = led.iter().filter(|shard| !taken.contains(&shard.id)).flat_map(|shard| {
            let from = shard.leader_node();
            let voters = shard.replicas.iter().filter(move |r| Some(r.node) != from);
            voters.filter_map(move |r| Some((*shard, from?, *r)))
        });
        let gain = |shard: &Shard, from: NodeId, to: NodeId| {
            let (from, to) = (*carried.get(&from)?, *carried.get(&to)?);
            let then = to.saturating_add(weight(shard)).max(from.saturating_sub(weight(shard)));
            from.checked_sub(then).filter(|gain| *gain > worth)
        };
        let best = best
            .filter_map(|(shard, from, r)| gain(shard, from, r.node).map(|g| (g, shard, from, r)))
            .max_by_key(|(gain, shard, from, r)| {
                let most = carried.get(from).copied();
                (most, *gain, std::cmp::Reverse((shard.id, r.id)))
            });
        let Some((_, shard, from, to)) = best else { break };
        for (node, sum) in &mut carried {
            if *node == from {
                *sum = sum.saturating_sub(weight(shard));
            } else if *node == to.node {
                *sum = sum.saturating_add(weight(shard));
            }
        }
        taken.push(shard.id);
        plan.moves.push(Move::Leader { shard: shard.id, to: to.id });
    }
}

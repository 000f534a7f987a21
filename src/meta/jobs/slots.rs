//! Slots: how many moves concern a node at a time.

use crate::catalog::plan::Move;
use crate::catalog::{NodeId, View};
use std::collections::BTreeMap;

/// What moves now, by node.
#[derive(Debug, Default)]
pub(super) struct Slots {
    used: BTreeMap<NodeId, usize>,
    max: usize,
}

impl Slots {
    pub(super) fn new(max: usize) -> Slots {
        Slots { used: BTreeMap::new(), max: max.max(1) }
    }

    /// Takes the slots of a move, whether there are any or not.
    pub(super) fn take(&mut self, view: &View, moved: &Move) {
        for node in concerned(view, moved) {
            *self.used.entry(node).or_default() += 1;
        }
    }

    /// Takes the slots of a move if all are free.
    pub(super) fn try_take(&mut self, view: &View, moved: &Move) -> bool {
        let is_free = |node: &NodeId| self.used.get(node).is_none_or(|used| *used < self.max);
        let free = concerned(view, moved).iter().all(is_free);
        if free {
            self.take(view, moved);
        }
        free
    }
}

/// The nodes that send or take data in a move. Another leader costs next to nothing.
fn concerned(view: &View, moved: &Move) -> Vec<NodeId> {
    let Move::Replica { shard, from, to } = *moved else { return Vec::new() };
    let replica = from.and_then(|from| view.shard(shard)?.replica(from));
    let from = replica.map(|replica| replica.node);
    from.into_iter().chain(to.filter(|to| Some(*to) != from)).collect()
}

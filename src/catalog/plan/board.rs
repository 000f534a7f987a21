//! The board: what each node carries, kept up to date while a plan is made.

use crate::catalog::ids::{NodeId, ReplicaId, ShardId};
use crate::catalog::placement::{self, Candidate};
use crate::catalog::records::{Node, Shard};
use crate::catalog::view::View;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of one shard beside its descriptor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes of one replica.
    pub bytes: u64,
    /// Requests a second, or another measure that all shards share.
    pub load: u64,
}

/// Figures by shard; a shard that is not in it counts as empty and idle.
pub type ShardFigures = BTreeMap<ShardId, Figures>;

pub(super) struct Board<'a> {
    pub(super) view: &'a View,
    figures: &'a ShardFigures,
    pub(super) candidates: Vec<Candidate>,
    busy: BTreeSet<ShardId>,
}

impl<'a> Board<'a> {
    pub(super) fn new(view: &'a View, figures: &'a ShardFigures) -> Board<'a> {
        let mut carried: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
        for shard in view.shards() {
            let bytes = figures.get(&shard.id).copied().unwrap_or_default().bytes;
            for replica in &shard.replicas {
                let (replicas, sum) = carried.entry(replica.node).or_default();
                (*replicas, *sum) = (*replicas + 1, sum.saturating_add(bytes));
            }
        }
        let candidate = |node: &Node| {
            let (replicas, bytes) = carried.get(&node.id).copied().unwrap_or_default();
            Candidate::new(node, replicas, bytes)
        };
        // A shard that is there already can wait for a node that takes part.
        let candidates = view.nodes().filter_map(candidate).filter(|c| c.active).collect();
        let jobs = view.jobs().filter(|job| job.state.is_active());
        let mut busy: BTreeSet<ShardId> = jobs.filter_map(|job| job.shard).collect();
        busy.extend(view.shards().filter(|s| s.split.is_some()).map(|s| s.id));
        Board { view, figures, candidates, busy }
    }

    pub(super) fn figures(&self, shard: ShardId) -> Figures {
        self.figures.get(&shard).copied().unwrap_or_default()
    }

    /// The shards that may be moved, in slot order.
    pub(super) fn free_shards(&self) -> Vec<&'a Shard> {
        self.view.shards().filter(|shard| !self.busy.contains(&shard.id)).collect()
    }

    /// The shard gets a move: no other in this plan.
    pub(super) fn take(&mut self, shard: ShardId) {
        self.busy.insert(shard);
    }

    /// The nodes of a shard's replicas but one.
    pub(super) fn nodes_without(&self, shard: &Shard, without: Option<ReplicaId>) -> Vec<&'a Node> {
        let kept = shard.replicas.iter().filter(|r| Some(r.id) != without);
        kept.filter_map(|r| self.view.node(r.node)).collect()
    }

    /// The node for one more replica beside these.
    pub(super) fn place(&self, kept: &[&Node]) -> Option<NodeId> {
        placement::choose(&self.candidates, kept, 1)?.first().copied()
    }

    /// A replica of the shard comes to `to`, and leaves `from`.
    pub(super) fn moved(&mut self, shard: ShardId, from: Option<NodeId>, to: Option<NodeId>) {
        let bytes = self.figures(shard).bytes;
        for candidate in &mut self.candidates {
            if from == Some(candidate.node) {
                candidate.replicas = candidate.replicas.saturating_sub(1);
                candidate.bytes = candidate.bytes.saturating_sub(bytes);
            }
            if to == Some(candidate.node) {
                candidate.replicas += 1;
                candidate.bytes = candidate.bytes.saturating_add(bytes);
            }
        }
        self.take(shard);
    }
}

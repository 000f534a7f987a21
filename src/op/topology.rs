//! Which node answers for which slots, as clients of Redis Cluster are told.

use crate::op::route::SlotRange;

/// The nodes of a cluster and their slots, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topology {
    /// The nodes.
    pub nodes: Vec<TopologyNode>,
    /// Who answers for which slots, in the order of slots. A slot in none has no node.
    pub ranges: Vec<TopologyRange>,
    /// The place among `nodes` of the one that tells this.
    pub myself: usize,
    /// Rises with every change.
    pub epoch: u64,
}

/// A node as Redis clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyNode {
    /// Its name: 40 lower-case hex digits, the same for ever.
    pub name: String,
    /// Where Redis clients reach it.
    pub host: String,
    /// On which port.
    pub port: u16,
}

/// Slots that the same nodes answer for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyRange {
    /// The slots.
    pub slots: SlotRange,
    /// The place among the nodes of the one that takes writes.
    pub leader: usize,
    /// The places of those with a copy.
    pub replicas: Vec<usize>,
}

impl Topology {
    /// The place among the nodes of the one that takes writes to `slot`.
    pub fn leader_of(&self, slot: u16) -> Option<usize> {
        let at = self.ranges.partition_point(|range| range.slots.last < slot);
        self.ranges.get(at).filter(|range| range.slots.contains(slot)).map(|range| range.leader)
    }
}

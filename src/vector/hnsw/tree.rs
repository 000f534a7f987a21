//! Every node can be reached from every other.
//!
//! Lists that are full drop links, and with the last link to it a node would be lost: no search
//! would return it, however wide its beam. A new cluster far from all others is lost as a whole. So
//! some links are *pinned*: a new node and its *parent*, the nearest of its neighbours that has room,
//! are linked both ways for good. The pinned links are a tree over all nodes. They stand first in
//! a list, and a node has `m + 1` of them at most, so that half a list is left for other links.

use super::graph::{Graph, NONE, State};
use crate::vector::beam::{Scratches, slot_of};
use std::collections::{HashMap, HashSet, VecDeque};

/// Children given out in a batch whose links are not written yet, by their parents.
pub(super) type Pending = HashMap<u32, Vec<u32>>;

impl Graph {
    /// Whether a node may have one more pinned link.
    fn has_room(&self, node: u32, pending: &Pending) -> bool {
        let taken = self.pinned_len(node) + pending.get(&node).map_or(0, Vec::len);
        taken < self.config.m + 1
    }

    /// The parent of a new node: the first of `near` that has room, or the nearest in the tree to
    /// these. REQUIRES: `near` is not empty.
    pub(super) fn parent(&self, near: &[u32], pending: &Pending) -> Option<u32> {
        if let Some(node) = near.iter().find(|node| self.has_room(**node, pending)) {
            return Some(*node);
        }
        let mut met: HashSet<u32> = near.iter().copied().collect();
        let mut ahead: VecDeque<u32> = near.iter().copied().collect();
        while let Some(node) = ahead.pop_front() {
            if self.has_room(node, pending) {
                return Some(node);
            }
            let tree = self.neighbours(node, 0)[..self.pinned_len(node)].iter();
            let tree = tree.chain(pending.get(&node).into_iter().flatten());
            ahead.extend(tree.filter(|link| met.insert(**link)));
        }
        None
    }

    /// Makes one tree of what is left of it when nodes have gone: by pinning links that are there,
    /// and for a part that has none to another, by linking it with the nearest node of another.
    pub(super) fn mend_tree(&mut self, scratches: &Scratches) {
        let slots = self.slot_count() as u32;
        let mut parts = Parts((0..slots).collect());
        // Those that died amid a repair are still part of it.
        let there = (0..slots).filter(|slot| self.states[*slot as usize] != State::Free);
        for node in there {
            for link in &self.neighbours(node, 0)[..self.pinned_len(node)] {
                parts.join(node, *link);
            }
        }
        let Some(entry) = self.entry else { return };
        let none = Pending::new();
        let mut apart: Vec<u32> = (0..slots).filter(|slot| self.is_live(*slot)).collect();
        // The nearest links of all nodes first: they are the ones to keep. Few ranks join nearly all.
        for rank in 0..self.links_max(0) {
            apart.retain(|node| parts.of(*node) != parts.of(entry));
            for node in &apart {
                let link = self.links.row(*node)[rank];
                if link != NONE
                    && self.is_live(link)
                    && parts.of(*node) != parts.of(link)
                    && self.has_room(*node, &none)
                    && self.has_room(link, &none)
                {
                    self.pin(*node, link);
                    parts.join(*node, link);
                }
            }
        }
        for node in apart {
            if parts.of(node) != parts.of(entry) {
                self.lead_to(node, entry, &mut parts, scratches);
            }
        }
    }

    /// Joins the part of the tree around `node` with another.
    fn lead_to(&mut self, node: u32, entry: u32, parts: &mut Parts, scratches: &Scratches) {
        let none = Pending::new();
        let Some(mine) = self.parent(&[node], &none) else { return };
        let mut near: Vec<u32> = scratches.with(|scratch| {
            let query = self.vector(mine);
            let Some(start) = self.descend(query, 0, scratch) else { return Vec::new() };
            self.walk(query, &[start], 0, self.config.ef_construction, scratch);
            scratch.beam.keys().iter().map(|key| slot_of(*key)).collect()
        });
        near.retain(|other| {
            self.is_live(*other)
                && self.has_room(*other, &none)
                && parts.of(*other) != parts.of(mine)
        });
        // Which of the entry's part has room may be far, but it is of another part than this one.
        let theirs = near.first().copied().or_else(|| self.parent(&[entry], &none));
        if let Some(theirs) = theirs.filter(|theirs| parts.of(*theirs) != parts.of(mine)) {
            self.pin(mine, theirs);
            parts.join(mine, theirs);
        }
    }

    /// Pins the links between two nodes; links them if they are not.
    fn pin(&mut self, a: u32, b: u32) {
        for (node, link) in [(a, b), (b, a)] {
            let pinned = self.pinned_len(node);
            let mut list = self.neighbours(node, 0).to_vec();
            list.retain(|other| *other != link);
            list.insert(pinned, link);
            list.truncate(self.links_max(0));
            self.set_list(node, pinned + 1, &list);
        }
    }
}

/// Disjoint parts of the nodes, each named after one of them.
struct Parts(Vec<u32>);

impl Parts {
    fn of(&mut self, node: u32) -> u32 {
        let mut at = node;
        while self.0[at as usize] != at {
            // Halves the way for the next one.
            self.0[at as usize] = self.0[self.0[at as usize] as usize];
            at = self.0[at as usize];
        }
        at
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.of(a), self.of(b));
        self.0[a.max(b) as usize] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use crate::env::Rng;
    use crate::vector::{DistanceMetric, HnswConfig, HnswIndex};

    /// Nodes that pinned links lead to from the entry.
    fn reached(index: &HnswIndex) -> usize {
        let graph = &index.graph;
        let mut ahead: Vec<u32> = graph.entry.into_iter().collect();
        let mut met: std::collections::HashSet<u32> = ahead.iter().copied().collect();
        while let Some(node) = ahead.pop() {
            let tree = &graph.neighbours(node, 0)[..graph.pinned_len(node)];
            ahead.extend(tree.iter().filter(|link| met.insert(**link)));
        }
        met.len()
    }

    #[test]
    fn a_vector_that_all_others_choose_loses_none_of_them() {
        use DistanceMetric::{InnerProduct, L2};
        let dim = 32;
        for (metric, hub, n) in [(L2, 0.0, 100), (L2, 0.0, 1000), (InnerProduct, 10.0, 1000)] {
            let mut rng = Rng::new(3);
            // Near the hub, or with it under the inner product, and far from each other.
            let mut rows: Vec<f32> =
                (0..n * dim).map(|_| rng.below(1000) as f32 / 1000.0).collect();
            rows[..dim].fill(hub);
            if metric == L2 {
                rows.iter_mut().skip(dim).enumerate().for_each(|(i, x)| {
                    *x = if (i / dim) % dim == i % dim { 1.0 + *x } else { 0.0 };
                });
            }
            let ids: Vec<u64> = (0..n as u64).collect();
            let mut index = HnswIndex::new(HnswConfig::new(dim, metric));
            index.insert_many(&ids, &rows, 2).unwrap();
            assert_eq!(reached(&index), n, "{metric:?}");
            let all = index.search(&rows[dim..2 * dim], n, Some(2 * n)).unwrap();
            assert_eq!(all.len(), n, "{metric:?}");
        }
    }
}

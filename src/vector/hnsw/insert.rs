//! New nodes, a batch at a time.
//!
//! A batch is inserted in two steps, each on as many threads as there are: the links of its nodes
//! are planned on the graph as it was, then each older node that was chosen takes the new ones into
//! its own list. Nobody writes to what another reads, so there is nothing to lock, and the graph is
//! the same whatever the number of threads. A node sees those before it in its batch as well, by
//! comparing with all of them, so that a group of new vectors that are near each other and far from
//! the rest is linked.

use super::graph::{Graph, NONE};
use crate::vector::beam::{Key, Scratch, Scratches, key, slot_of};
use crate::vector::parallel;

/// Nodes of a batch: enough to keep threads busy for milliseconds, and few enough that comparing
/// them with each other costs a hundredth of inserting them.
pub(super) const BATCH: usize = 128;

/// A link to be added to the list of an older node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Addition {
    level: u8,
    node: u32,
    new: u32,
}

impl Graph {
    /// Links nodes that have a slot and no links yet.
    pub(super) fn link_all(&mut self, slots: &[u32], threads: usize, scratches: &Scratches) {
        for batch in slots.chunks(BATCH) {
            self.link_batch(batch, threads, scratches);
        }
    }

    fn link_batch(&mut self, batch: &[u32], threads: usize, scratches: &Scratches) {
        let planned = parallel::map(threads, batch.len(), |i| {
            scratches.with(|scratch| self.plan(batch[i], &batch[..i], scratch))
        });
        let mut additions = Vec::new();
        for (new, levels) in batch.iter().zip(&planned) {
            for (level, links) in levels.iter().enumerate() {
                let level = level as u8;
                self.set_neighbours(*new, level, links);
                additions.extend(links.iter().map(|node| Addition { level, node: *node, new: *new }));
            }
        }
        additions.sort_unstable();
        let groups: Vec<&[Addition]> =
            additions.chunk_by(|a, b| (a.level, a.node) == (b.level, b.node)).collect();
        let lists = parallel::map(threads, groups.len(), |i| self.with_added(groups[i]));
        for (group, list) in groups.iter().zip(lists) {
            self.set_neighbours(group[0].node, group[0].level, &list);
        }
        for new in batch {
            if self.entry.is_none() || self.level(*new) > self.top() {
                self.entry = Some(*new);
            }
        }
    }

    /// The links of a new node on each of its levels. `peers` are new as well and not linked yet.
    fn plan(&self, slot: u32, peers: &[u32], scratch: &mut Scratch) -> Vec<Vec<u32>> {
        let query = self.vector(slot);
        let level = self.level(slot);
        let mut levels = vec![Vec::new(); usize::from(level) + 1];
        let mut distances = Vec::new();
        self.measure.rows(query, &self.vectors, peers, &mut distances);
        let peers: Vec<Key> = distances.iter().zip(peers).map(|(d, slot)| key(*d, *slot)).collect();
        let mut start = self.descend(query, level, scratch);
        for level in (0..=level).rev() {
            let mut candidates: Vec<Key> = Vec::new();
            if let Some(from) = start
                && level <= self.top()
            {
                self.walk(query, &[from], level, self.config.ef_construction, scratch);
                start = scratch.beam.keys().first().copied().or(start);
                let keys = scratch.beam.keys().iter().map(|key| key & !1);
                candidates.extend(keys.filter(|key| self.is_live(slot_of(*key))));
            }
            candidates.extend(peers.iter().filter(|key| self.level(slot_of(**key)) >= level));
            candidates.sort_unstable();
            candidates.truncate(self.config.ef_construction);
            self.select(&candidates, self.config.m, &mut levels[usize::from(level)]);
        }
        levels
    }

    /// An older node's links with the new ones of `group`: all of them if they fit, else those
    /// that [`Graph::select`] chooses.
    fn with_added(&self, group: &[Addition]) -> Vec<u32> {
        let Addition { level, node, .. } = group[0];
        let mut links = self.neighbours(node, level).to_vec();
        links.extend(group.iter().map(|addition| addition.new));
        let max = self.links_max(level);
        if links.len() > max {
            links = self.selected(node, &links, max);
        }
        links
    }

    /// The links that [`Graph::select`] chooses for a node out of `among`.
    pub(super) fn selected(&self, node: u32, among: &[u32], max: usize) -> Vec<u32> {
        debug_assert!(!among.contains(&NONE) && !among.contains(&node));
        let mut distances = Vec::new();
        self.measure.rows(self.vector(node), &self.vectors, among, &mut distances);
        let mut keys: Vec<Key> =
            distances.iter().zip(among).map(|(d, slot)| key(*d, *slot)).collect();
        keys.sort_unstable();
        let mut chosen = Vec::with_capacity(max);
        self.select(&keys, max, &mut chosen);
        chosen
    }
}

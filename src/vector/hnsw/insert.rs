//! New nodes, a batch at a time.
//!
//! A batch is inserted in two steps, each on as many threads as there are: the links of its nodes
//! are planned on the graph as it was, then each older node that was chosen takes the new ones into
//! its own list. Nobody writes to what another reads, so there is nothing to lock, and the graph is
//! the same whatever the number of threads. A node sees those before it in its batch as well, by
//! comparing with all of them, so that a group of new vectors that are near each other and far from
//! the rest is linked.

use super::graph::{Graph, NONE};
use super::tree::Pending;
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
    is_pinned: bool,
}

impl Graph {
    /// Links nodes that have a slot and no links yet.
    pub(super) fn link_all(&mut self, slots: &[u32], threads: usize, scratches: &Scratches) {
        for batch in slots.chunks(BATCH) {
            self.link_batch(batch, threads, scratches);
        }
    }

    fn link_batch(&mut self, batch: &[u32], threads: usize, scratches: &Scratches) {
        let mut planned = parallel::map(threads, batch.len(), |i| {
            scratches.with(|scratch| self.plan(batch[i], &batch[..i], scratch))
        });
        let mut additions = Vec::new();
        let mut pending = Pending::new();
        for (new, levels) in batch.iter().zip(&mut planned) {
            let parent = self.give_parent(*new, batch[0], &mut levels[0], &mut pending);
            for (level, links) in levels.iter().enumerate() {
                let level = level as u8;
                if level > 0 {
                    self.set_upper(*new, level, links);
                }
                additions.extend(links.iter().map(|node| Addition {
                    level,
                    node: *node,
                    new: *new,
                    is_pinned: level == 0 && parent == Some(*node),
                }));
            }
        }
        additions.sort_unstable();
        let groups: Vec<&[Addition]> =
            additions.chunk_by(|a, b| (a.level, a.node) == (b.level, b.node)).collect();
        let lists = parallel::map(threads, groups.len(), |i| self.with_added(groups[i]));
        for (group, (pinned, list)) in groups.iter().zip(lists) {
            match group[0].level {
                0 => self.set_list(group[0].node, pinned, &list),
                level => self.set_upper(group[0].node, level, &list),
            }
        }
        for new in batch {
            if self.entry.is_none() || self.level(*new) > self.top() {
                self.entry = Some(*new);
            }
        }
    }

    /// Writes a new node's links on the lowest level, its parent first.
    fn give_parent(
        &mut self,
        new: u32,
        first_of_batch: u32,
        links: &mut Vec<u32>,
        pending: &mut Pending,
    ) -> Option<u32> {
        let root = [self.entry.unwrap_or(first_of_batch)];
        // Without neighbours it is the first node, or all others are dead.
        let parent = match links.as_slice() {
            [] if root[0] == new => None,
            [] => self.parent(&root, pending),
            near => self.parent(near, pending),
        };
        if let Some(parent) = parent {
            links.retain(|link| *link != parent);
            links.insert(0, parent);
            links.truncate(self.links_max(0));
            pending.entry(parent).or_default().push(new);
        }
        self.set_list(new, usize::from(parent.is_some()), links);
        parent
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
            let links = &mut levels[usize::from(level)];
            self.select(&candidates, Graph::clearly(level), self.config.m, links);
        }
        levels
    }

    /// An older node's links with the new ones of `group`: all of them if they fit, else those
    /// that are pinned and those that [`Graph::select`] chooses. With the number of pinned ones,
    /// which stand first.
    fn with_added(&self, group: &[Addition]) -> (usize, Vec<u32>) {
        let Addition { level, node, .. } = group[0];
        let before = if level == 0 { self.pinned_len(node) } else { 0 };
        let (pinned, others) = self.neighbours(node, level).split_at(before);
        let mut links = pinned.to_vec();
        links.extend(group.iter().filter(|a| a.is_pinned).map(|a| a.new));
        let pinned = links.len();
        links.extend_from_slice(others);
        links.extend(group.iter().filter(|a| !a.is_pinned).map(|a| a.new));
        let max = self.links_max(level);
        if links.len() > max {
            let others = links.split_off(pinned);
            links = self.selected(node, links, &others, (Graph::clearly(level), max));
        }
        (pinned, links)
    }

    /// The links that a node has in any case, and those that [`Graph::select`] chooses
    /// out of `among` until there are `max`.
    pub(super) fn selected(
        &self,
        node: u32,
        mut chosen: Vec<u32>,
        among: &[u32],
        (clearly, max): (f32, usize),
    ) -> Vec<u32> {
        debug_assert!(!among.contains(&NONE) && !among.contains(&node));
        let mut distances = Vec::new();
        self.measure.rows(self.vector(node), &self.vectors, among, &mut distances);
        let mut keys: Vec<Key> =
            distances.iter().zip(among).map(|(d, slot)| key(*d, *slot)).collect();
        keys.sort_unstable();
        self.select(&keys, clearly, max, &mut chosen);
        chosen
    }
}

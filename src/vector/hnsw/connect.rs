//! Every node can be reached.
//!
//! A node is found only if some other has a link to it. Lists that are full drop links, and now and
//! then a node loses the last one that led to it; no search would return it again, however wide its
//! beam. So after many insertions, and after a repair, the graph is walked through, and what was not
//! reached is linked from the nearest nodes that were.

use super::graph::Graph;
use crate::vector::beam::{Scratches, slot_of};

impl Graph {
    /// Makes every live node reachable from the entry on the lowest level.
    pub(super) fn connect(&mut self, scratches: &Scratches) {
        let Some(entry) = self.entry else { return };
        let mut reached = vec![false; self.slot_count()];
        self.reach(entry, &mut reached);
        for slot in 0..self.slot_count() as u32 {
            if !reached[slot as usize] && self.is_live(slot) {
                self.lead_to(slot, scratches);
                self.reach(slot, &mut reached);
            }
        }
    }

    /// Marks all that can be reached from a node.
    fn reach(&self, from: u32, reached: &mut [bool]) {
        let mut ahead = vec![from];
        reached[from as usize] = true;
        while let Some(slot) = ahead.pop() {
            for link in self.neighbours(slot, 0) {
                if !std::mem::replace(&mut reached[*link as usize], true) {
                    ahead.push(*link);
                }
            }
        }
    }

    /// Links a node that is not reached from the nearest one that is and has room; if none has,
    /// the nearest gives up its last link, which another node leads to.
    fn lead_to(&mut self, slot: u32, scratches: &Scratches) {
        let near: Vec<u32> = scratches.with(|scratch| {
            let query = self.vector(slot);
            let Some(start) = self.descend(query, 0, scratch) else { return Vec::new() };
            self.walk(query, &[start], 0, self.config.ef_construction, scratch);
            scratch.beam.keys().iter().map(|key| slot_of(*key)).collect()
        });
        let max = self.links_max(0);
        let has_room = |node: &&u32| **node != slot && self.neighbours(**node, 0).len() < max;
        if let Some(node) = near.iter().find(has_room).copied() {
            let mut links = self.neighbours(node, 0).to_vec();
            links.push(slot);
            return self.set_neighbours(node, 0, &links);
        }
        let is_led_to = |node: u32, link: u32| {
            near.iter().any(|other| *other != node && self.neighbours(*other, 0).contains(&link))
        };
        let spare = near.iter().filter(|node| **node != slot).find_map(|node| {
            let links = self.neighbours(*node, 0);
            links.iter().rposition(|link| is_led_to(*node, *link)).map(|at| (*node, at))
        });
        if let Some((node, at)) = spare {
            let mut links = self.neighbours(node, 0).to_vec();
            links[at] = slot;
            self.set_neighbours(node, 0, &links);
        }
    }
}

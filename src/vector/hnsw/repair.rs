//! Dead nodes leave the graph.
//!
//! A removed vector's node stays as a stepping stone until so many are dead that a search pays for
//! them. Then every node that has links to dead ones is given new ones, chosen among its living
//! neighbours and those of the dead, as if they were the candidates of an insertion (Singh et al.
//! 2021, section 4.3); the slots of the dead become free.

use super::graph::{Graph, State};
use crate::vector::beam::Scratches;
use crate::vector::parallel;

/// Dead nodes that no graph is repaired for.
const DEAD_MIN: usize = 64;
/// Of so many nodes one may be dead.
const NODES_PER_DEAD: usize = 10;

impl Graph {
    /// Whether so many nodes are dead that they should leave.
    pub(super) fn needs_repair(&self) -> bool {
        self.dead > DEAD_MIN.max(self.slot_count() / NODES_PER_DEAD)
    }

    /// Frees the slots of all dead nodes.
    pub(super) fn repair(&mut self, threads: usize, scratches: &Scratches) {
        if self.dead == 0 {
            return;
        }
        let slots = self.slot_count() as u32;
        let hurt: Vec<(u32, u8)> = (0..slots)
            .filter(|slot| self.is_live(*slot))
            .flat_map(|slot| (0..=self.level(slot)).map(move |level| (slot, level)))
            .filter(|(slot, level)| self.neighbours(*slot, *level).iter().any(|n| self.is_dead(*n)))
            .collect();
        let lists = parallel::map(threads, hurt.len(), |i| self.without_dead(hurt[i].0, hurt[i].1));
        for ((slot, level), list) in hurt.into_iter().zip(lists) {
            self.set_neighbours(slot, level, &list);
        }
        // Highest slots first, so that the lowest are given out first.
        for slot in (0..slots).rev() {
            if self.is_dead(slot) {
                self.release(slot);
            }
        }
        if self.entry.is_some_and(|entry| self.states[entry as usize] != State::Live) {
            let live = (0..slots).filter(|slot| self.is_live(*slot));
            self.entry = live.max_by_key(|slot| (self.level(*slot), std::cmp::Reverse(*slot)));
        }
        self.connect(scratches);
    }

    fn is_dead(&self, slot: u32) -> bool {
        self.states[slot as usize] == State::Dead
    }

    /// The links a live node has once the dead are gone.
    fn without_dead(&self, slot: u32, level: u8) -> Vec<u32> {
        let mut among = Vec::new();
        for link in self.neighbours(slot, level) {
            match self.is_dead(*link) {
                false => among.push(*link),
                true => among.extend(self.neighbours(*link, level)),
            }
        }
        among.sort_unstable();
        among.dedup();
        among.retain(|link| *link != slot && self.is_live(*link));
        self.selected(slot, &among, self.links_max(level))
    }
}

//! Dead nodes leave the graph.
//!
//! A removed vector's node stays as a stepping stone until so many are dead that a search pays for
//! them. Then every node that has links to dead ones is given others in their place, chosen among
//! the neighbours of the dead as if they were the candidates of an insertion (after Singh et al.
//! 2021, section 4.3); the slots of the dead become free.

use super::graph::{Graph, State};
use crate::vector::beam::Scratches;
use crate::vector::parallel;
use std::collections::HashSet;

/// Dead nodes that no graph is repaired for.
const DEAD_MIN: usize = 64;
/// Of so many nodes one may be dead.
const NODES_PER_DEAD: usize = 10;
/// Nodes among which those behind the dead are looked for.
const MET_MAX: usize = 2000;

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
        for ((slot, level), (pinned, list)) in hurt.into_iter().zip(lists) {
            match level {
                0 => self.set_list(slot, pinned, &list),
                _ => self.set_upper(slot, level, &list),
            }
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
        self.mend_tree(scratches);
    }

    fn is_dead(&self, slot: u32) -> bool {
        self.states[slot as usize] == State::Dead
    }

    /// The links a live node has once the dead are gone, and how many of them are pinned.
    fn without_dead(&self, slot: u32, level: u8) -> (usize, Vec<u32>) {
        let before = if level == 0 { self.pinned_len(slot) } else { 0 };
        let links = self.neighbours(slot, level);
        let pinned = links[..before].iter().filter(|link| !self.is_dead(**link)).count();
        let live: Vec<u32> = links.iter().copied().filter(|link| !self.is_dead(*link)).collect();
        let mut among = self.behind_the_dead(links, level);
        among.retain(|link| *link != slot && !live.contains(link));
        // Choosing among all again would thin the lists out, round after round.
        (pinned, self.selected(slot, level, live, &among))
    }

    /// The live ones of `links`, and the live neighbours of the dead ones. Where most neighbours of
    /// a dead node are dead as well, as when a whole cluster goes, those behind them too: what lay
    /// on both sides of the cluster is linked across it.
    fn behind_the_dead(&self, links: &[u32], level: u8) -> Vec<u32> {
        let mut met: HashSet<u32> = links.iter().copied().collect();
        let mut ahead: Vec<u32> = links.to_vec();
        let mut at = 0;
        while let Some(link) = ahead.get(at).copied() {
            at += 1;
            if self.is_live(link) || at > MET_MAX {
                continue;
            }
            let beyond = self.neighbours(link, level);
            let dead = beyond.iter().filter(|node| self.is_dead(**node)).count();
            let goes_on = 2 * dead >= beyond.len();
            let next = beyond.iter().filter(|node| goes_on || self.is_live(**node));
            ahead.extend(next.filter(|node| met.insert(**node)));
        }
        ahead.retain(|link| self.is_live(*link));
        ahead
    }
}

//! Walks through the graph: down the levels, and along one of them with a beam.

use super::graph::Graph;
use crate::vector::beam::{Beam, Key, Scratch, key, slot_of};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Nodes that a walk may go on from, the nearest first.
pub(super) type Ahead = BinaryHeap<Reverse<Key>>;

/// Puts a node ahead that a walk with a filter has met, if it may lead to what is wanted, and among
/// those found if it matches.
#[inline(always)]
pub(super) fn meet(
    key: Key,
    found: &mut Beam,
    ahead: &mut Ahead,
    matches: impl FnOnce(u32) -> bool,
) {
    if key < found.limit() {
        ahead.push(Reverse(key));
        if matches(slot_of(key)) {
            found.offer(key);
        }
    }
}

impl Graph {
    /// Goes from the entry down to `level`, on each level above it to the node nearest to the
    /// query that greed finds. `None` if the graph is empty.
    pub(in crate::vector) fn descend(
        &self,
        query: &[f32],
        level: u8,
        scratch: &mut Scratch,
    ) -> Option<Key> {
        let entry = self.entry?;
        let mut best = key(self.measure.pair(query, self.vector(entry)), entry);
        scratch.stats.distances += 1;
        for level in (level + 1..=self.top()).rev() {
            loop {
                let links = self.neighbours(slot_of(best), level);
                self.measure.rows(query, &self.vectors, links, &mut scratch.distances);
                scratch.stats.distances += links.len() as u64;
                scratch.stats.hops += 1;
                let found = scratch.distances.iter().zip(links).map(|(d, slot)| key(*d, *slot));
                match found.min() {
                    Some(nearest) if nearest < best => best = nearest,
                    _ => break,
                }
            }
        }
        Some(best)
    }

    /// Fills the beam with the `width` nearest nodes that a walk from `start` meets on a level,
    /// dead ones among them.
    pub(super) fn walk(
        &self,
        query: &[f32],
        start: &[Key],
        level: u8,
        width: usize,
        scratch: &mut Scratch,
    ) {
        scratch.seen.begin(self.slot_count());
        scratch.beam.reset(width);
        for key in start {
            scratch.seen.insert(slot_of(*key));
            scratch.beam.offer(*key & !1);
        }
        while let Some(nearest) = scratch.beam.next() {
            self.look_around(query, slot_of(nearest), level, scratch);
            for (distance, slot) in scratch.distances.iter().zip(&scratch.fresh) {
                scratch.beam.offer(key(*distance, *slot));
            }
        }
    }

    /// The unseen neighbours of a node and their distances.
    #[inline(always)]
    fn look_around(&self, query: &[f32], slot: u32, level: u8, scratch: &mut Scratch) {
        scratch.fresh.clear();
        for link in self.neighbours(slot, level) {
            if scratch.seen.insert(*link) {
                scratch.fresh.push(*link);
            }
        }
        // Most often the next one to be looked at is known by now.
        if level == 0
            && let Some(next) = scratch.beam.peek()
        {
            self.links.prefetch(slot_of(next), self.links.stride() * 4);
        }
        self.measure.rows(query, &self.vectors, &scratch.fresh, &mut scratch.distances);
        scratch.stats.distances += scratch.fresh.len() as u64;
        scratch.stats.hops += 1;
    }

    /// Fills `scratch.found` with the `width` nearest nodes of the lowest level that `accept`
    /// takes. The walk goes through others as well, until `distances_max` were computed; says
    /// whether it came to its end before.
    pub(super) fn walk_where(
        &self,
        query: &[f32],
        start: Key,
        width: usize,
        distances_max: u64,
        accept: &dyn Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> bool {
        scratch.seen.begin(self.slot_count());
        scratch.found.reset(width);
        scratch.beam.reset(0);
        let mut ahead = Ahead::new();
        scratch.seen.insert(slot_of(start));
        meet(start & !1, &mut scratch.found, &mut ahead, accept);
        while let Some(Reverse(nearest)) = ahead.pop() {
            if nearest > scratch.found.limit() {
                break;
            }
            if scratch.stats.distances > distances_max {
                return false;
            }
            self.look_around(query, slot_of(nearest), 0, scratch);
            for (distance, slot) in scratch.distances.iter().zip(&scratch.fresh) {
                meet(key(*distance, *slot), &mut scratch.found, &mut ahead, accept);
            }
        }
        true
    }
}

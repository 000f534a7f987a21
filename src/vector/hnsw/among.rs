//! A walk that goes from match to match (after ACORN: Patel et al. 2024, section 5).
//!
//! Where few nodes match, most of the distances of a plain walk are those of nodes that do not. This
//! one computes none of these as long as it can do without: it asks for each neighbour whether it
//! matches, and looks at the neighbours of those that do not in their place, until a node has as many
//! neighbours that match as it has links. Where nothing within two links matches it goes through the
//! others by their distances, as a plain walk does; and where it comes to an end with too few
//! matches, by those that it had left out.

use super::graph::Graph;
use super::walk::{Ahead, meet};
use crate::vector::beam::{Key, Scratch, key, slot_of};
use std::cmp::Reverse;

/// Neighbours that match are sought until there are so many.
const WANTED: usize = 40;

impl Graph {
    /// Fills `scratch.found` with the `width` nearest nodes of the lowest level that `accept` takes,
    /// of those that the walk meets. Gives up when `distances_max` were computed; says whether it
    /// came to its end before.
    pub(super) fn walk_among(
        &self,
        query: &[f32],
        start: Key,
        width: usize,
        distances_max: u64,
        accept: &dyn Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> bool {
        scratch.seen.begin(self.slot_count());
        scratch.verdicts.begin(self.slot_count());
        scratch.found.reset(width);
        let mut ahead = Ahead::new();
        let Scratch { found, verdicts, .. } = scratch;
        scratch.seen.insert(slot_of(start));
        meet(start & !1, found, &mut ahead, |slot| verdicts.has(slot, accept));
        // Neighbours that do not match, of the node at hand and of all before it.
        let (mut others, mut left_out) = (Vec::new(), Vec::new());
        loop {
            let next = ahead.pop().filter(|next| next.0 <= scratch.found.limit());
            if scratch.stats.distances > distances_max {
                return false;
            }
            scratch.fresh.clear();
            match next {
                Some(Reverse(nearest)) => {
                    others.clear();
                    let matches = self.look_beyond(slot_of(nearest), accept, &mut others, scratch);
                    match matches {
                        0 => scratch.fresh.append(&mut others),
                        _ => left_out.append(&mut others),
                    }
                }
                None if !scratch.found.is_full() && !left_out.is_empty() => {
                    scratch.fresh.append(&mut left_out);
                }
                None => return true,
            }
            self.measure.rows(query, &self.vectors, &scratch.fresh, &mut scratch.distances);
            scratch.stats.distances += scratch.fresh.len() as u64;
            let Scratch { found, verdicts, .. } = scratch;
            for (distance, slot) in scratch.distances.iter().zip(&scratch.fresh) {
                let key = key(*distance, *slot);
                meet(key, found, &mut ahead, |slot| verdicts.has(slot, accept));
            }
        }
    }

    /// Puts the unseen matches within two links of a node into `scratch.fresh`, and its unseen
    /// neighbours that do not match into `others`. Gives how many matches there are, seen or not.
    fn look_beyond(
        &self,
        slot: u32,
        accept: &dyn Fn(u32) -> bool,
        others: &mut Vec<u32>,
        scratch: &mut Scratch,
    ) -> usize {
        let Scratch { seen, verdicts, fresh, stats, .. } = scratch;
        let mut matches = 0;
        stats.hops += 1;
        let links = self.neighbours(slot, 0);
        for link in links {
            if verdicts.has(*link, accept) {
                matches += 1;
                if seen.insert(*link) {
                    fresh.push(*link);
                }
            } else if !seen.contains(*link) {
                self.links.prefetch(*link, self.links.stride() * 4);
                others.push(*link);
            }
        }
        let mut looked_at = 0;
        for other in others.iter() {
            if matches >= WANTED {
                break;
            }
            looked_at += 1;
            seen.insert(*other);
            stats.hops += 1;
            for link in self.neighbours(*other, 0) {
                if verdicts.has(*link, accept) {
                    matches += 1;
                    if seen.insert(*link) {
                        fresh.push(*link);
                    }
                }
            }
        }
        // A later node may lead beyond the rest.
        others.truncate(looked_at);
        matches
    }
}

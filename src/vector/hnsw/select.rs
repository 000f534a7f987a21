//! Which of the nearest nodes a node is linked with.
//!
//! A candidate that lies nearer to a chosen neighbour than to the node itself is passed over: the
//! walk reaches it through that neighbour, and the link is free for another direction (Malkov and
//! Yashunin 2018, algorithm 4).

use super::graph::Graph;
use crate::vector::beam::{Key, distance_of, slot_of};

/// Chosen neighbours that a candidate is compared with at once.
const AT_ONCE: usize = 4;

impl Graph {
    /// Chooses among `candidates`, which are sorted by their distance from the node, until `out`
    /// has `max` links. What is in it counts as chosen.
    pub(super) fn select(&self, candidates: &[Key], max: usize, out: &mut Vec<u32>) {
        let mut distances = Vec::with_capacity(AT_ONCE);
        for candidate in candidates {
            if out.len() >= max {
                return;
            }
            let limit = distance_of(*candidate);
            let vector = self.vector(slot_of(*candidate));
            let is_nearer_to_a_chosen_one = out.chunks(AT_ONCE).any(|chosen| {
                self.measure.rows(vector, &self.vectors, chosen, &mut distances);
                distances.iter().any(|distance| *distance < limit)
            });
            if !is_nearer_to_a_chosen_one {
                out.push(slot_of(*candidate));
            }
        }
    }
}

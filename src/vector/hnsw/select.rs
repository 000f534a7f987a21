//! Which of the nearest nodes a node is linked with.
//!
//! A candidate that lies nearer to a chosen neighbour than to the node itself is passed over: the
//! walk reaches it through that neighbour, and the link is free for another direction (Malkov and
//! Yashunin 2018, algorithm 4).

use super::graph::Graph;
use crate::vector::beam::{Key, distance_of, key, slot_of};

/// Chosen neighbours that a candidate is compared with at once.
const AT_ONCE: usize = 4;

/// How many times nearer to a chosen neighbour a candidate is that is passed over, above the lowest
/// level (as Subramanya et al. 2019, section 2.3, whose alpha is of distances, not of squares). Groups
/// of vectors that lie far apart would not be linked there otherwise: all of another group is about as
/// near to a node's own neighbours as to itself, and greed would end in the wrong one.
const CLEARLY_ABOVE: f32 = 1.5;

/// How [`Graph::fill_list`] chooses.
#[derive(Debug, Clone, Copy)]
pub(in crate::vector) struct Choice {
    /// How many times nearer to a chosen link a candidate is that is passed over.
    pub(in crate::vector) clearly: f32,
    /// Candidates that are looked at, from the nearest on.
    pub(in crate::vector) most: usize,
    /// Chosen links that a candidate is compared with at once.
    pub(in crate::vector) at_once: usize,
}

/// Only what is positive grows when multiplied: an inner product is taken as it is.
fn is_clearly_nearer(distance: f32, clearly: f32, limit: f32) -> bool {
    (distance * clearly).max(distance) < limit
}

impl Graph {
    /// Fills `list` up to `width` links for a node that is read as a whole with all of them, so that
    /// a short list saves nothing: the best of `others`, none of which is passed over unless it lies
    /// `clearly` times nearer to a chosen one than to the node, then the nearest of those. Only the
    /// `most` nearest of `others` are looked at, `at_once` chosen ones at a time.
    pub(in crate::vector) fn fill_list(
        &self,
        slot: u32,
        list: &mut Vec<u32>,
        others: &[u32],
        width: usize,
        choice: Choice,
    ) {
        let mut distances = Vec::new();
        self.measure.rows(self.vector(slot), &self.vectors, others, &mut distances);
        let mut keys: Vec<Key> =
            distances.iter().zip(others).map(|(d, slot)| key(*d, *slot)).collect();
        keys.sort_unstable();
        keys.truncate(choice.most);
        let mut passed_over = Vec::new();
        for candidate in keys {
            if list.len() == width {
                break;
            }
            let limit = distance_of(candidate);
            let vector = self.vector(slot_of(candidate));
            let is_nearer = |distance| is_clearly_nearer(distance, choice.clearly, limit);
            let is_behind_a_chosen_one = list.chunks(choice.at_once).any(|chosen| {
                self.measure.rows(vector, &self.vectors, chosen, &mut distances);
                distances.iter().any(|distance| is_nearer(*distance))
            });
            match is_behind_a_chosen_one {
                true => passed_over.push(slot_of(candidate)),
                false => list.push(slot_of(candidate)),
            }
        }
        let room = width.saturating_sub(list.len());
        list.extend(passed_over.into_iter().take(room));
    }

    /// How many times nearer to a chosen link a candidate of a level is that is passed over.
    pub(super) fn clearly(level: u8) -> f32 {
        if level == 0 { 1.0 } else { CLEARLY_ABOVE }
    }

    /// Chooses among `candidates`, which are sorted by their distance from the node, until `out`
    /// has `max` links; one that is `clearly` times nearer to a chosen link is passed over. What is in
    /// `out` counts as chosen.
    pub(super) fn select(&self, candidates: &[Key], clearly: f32, max: usize, out: &mut Vec<u32>) {
        let mut distances = Vec::with_capacity(AT_ONCE);
        for candidate in candidates {
            if out.len() >= max {
                return;
            }
            let limit = distance_of(*candidate);
            let vector = self.vector(slot_of(*candidate));
            let is_nearer_to_a_chosen_one = out.chunks(AT_ONCE).any(|chosen| {
                self.measure.rows(vector, &self.vectors, chosen, &mut distances);
                distances.iter().any(|distance| is_clearly_nearer(*distance, clearly, limit))
            });
            if !is_nearer_to_a_chosen_one {
                out.push(slot_of(*candidate));
            }
        }
    }
}

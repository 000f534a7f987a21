//! Which 32 neighbours a node has.
//!
//! A row is scanned as a whole whether its list is full or not, so every list is filled up. The
//! graph's own lists are as short as directness allows; here a candidate is passed over only if it
//! lies clearly nearer to a chosen neighbour than to the node, and the nearest of those passed over
//! fill the rest.

use crate::vector::beam::{Key, distance_of, key, slot_of};
use crate::vector::hnsw::Graph;
use crate::vector::kernel::SCAN_WIDTH;

/// How many times nearer to a chosen neighbour a candidate is that is passed over.
const CLEARLY: f32 = 1.1;
/// Candidates compared at once.
const AT_ONCE: usize = 4;

/// The neighbours of a node: those that keep the graph in one piece, then the best of its
/// neighbours and of theirs.
pub(super) fn full_list(graph: &Graph, slot: u32) -> Vec<u32> {
    let own = graph.neighbours(slot, 0);
    let mut list = own[..graph.pinned_len(slot).min(SCAN_WIDTH)].to_vec();
    let beyond = own.iter().flat_map(|link| graph.neighbours(*link, 0));
    let mut others: Vec<u32> = beyond.chain(own).copied().collect();
    others.sort_unstable();
    others.dedup();
    others.retain(|link| *link != slot && !list.contains(link));
    let mut distances = Vec::new();
    graph.measure.rows(graph.vector(slot), &graph.vectors, &others, &mut distances);
    let mut keys: Vec<Key> =
        distances.iter().zip(&others).map(|(d, slot)| key(*d, *slot)).collect();
    keys.sort_unstable();
    let mut passed_over = Vec::new();
    for candidate in keys {
        if list.len() == SCAN_WIDTH {
            break;
        }
        let limit = distance_of(candidate);
        let vector = graph.vector(slot_of(candidate));
        // Only what is positive grows when multiplied: an inner product is taken as it is.
        let is_nearer = |distance: f32| (distance * CLEARLY).max(distance) < limit;
        let is_behind_a_chosen_one = list.chunks(AT_ONCE).any(|chosen| {
            graph.measure.rows(vector, &graph.vectors, chosen, &mut distances);
            distances.iter().any(|distance| is_nearer(*distance))
        });
        match is_behind_a_chosen_one {
            true => passed_over.push(slot_of(candidate)),
            false => list.push(slot_of(candidate)),
        }
    }
    list.extend(passed_over.into_iter().take(SCAN_WIDTH - list.len()));
    list
}

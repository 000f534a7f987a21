//! Which neighbours a node has on disk.
//!
//! A longer list costs nothing to read. Those that keep the graph in one piece come first, then the
//! best of the node's neighbours and of theirs; nodes of its own block need no link, as they are
//! read with it.

use super::layout::Layout;
use crate::vector::beam::{Key, distance_of, key, slot_of};
use crate::vector::hnsw::Graph;

/// How many times nearer to a chosen neighbour a candidate is that is passed over.
const CLEARLY: f32 = 1.2;
/// Candidates that are looked at, from the nearest on.
const CANDIDATES_MAX: usize = 400;
/// Chosen neighbours that a candidate is compared with at once.
const AT_ONCE: usize = 8;

/// The neighbours of a slot, as slots. `numbers` has the node of each slot.
pub(super) fn neighbours(graph: &Graph, layout: Layout, numbers: &[u32], slot: u32) -> Vec<u32> {
    let block = |slot: u32| layout.block_of(numbers[slot as usize]);
    let own = graph.neighbours(slot, 0);
    let mut list: Vec<u32> = own[..graph.pinned_len(slot)].to_vec();
    list.retain(|link| block(*link) != block(slot));
    list.truncate(layout.links);
    let mut others: Vec<u32> = own.to_vec();
    others.extend(own.iter().flat_map(|link| graph.neighbours(*link, 0)));
    others.sort_unstable();
    others.dedup();
    others.retain(|link| block(*link) != block(slot) && !list.contains(link));
    let mut distances = Vec::new();
    graph.measure.rows(graph.vector(slot), &graph.vectors, &others, &mut distances);
    let mut keys: Vec<Key> =
        distances.iter().zip(&others).map(|(d, slot)| key(*d, *slot)).collect();
    keys.sort_unstable();
    keys.truncate(CANDIDATES_MAX);
    let mut passed_over = Vec::new();
    for candidate in keys {
        if list.len() == layout.links {
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
    let room = layout.links - list.len();
    list.extend(passed_over.into_iter().take(room));
    list
}

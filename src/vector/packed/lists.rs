//! Which 32 neighbours a node has.
//!
//! A row is scanned as a whole whether its list is full or not, so every list is filled up. The
//! graph's own lists are as short as directness allows; here a candidate is passed over only if it
//! lies clearly nearer to a chosen neighbour than to the node, and the nearest of those passed over
//! fill the rest.

use crate::vector::hnsw::{Choice, Graph};
use crate::vector::kernel::SCAN_WIDTH;

const CHOICE: Choice = Choice { clearly: 1.1, most: usize::MAX, at_once: 4 };

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
    graph.fill_list(slot, &mut list, &others, SCAN_WIDTH, CHOICE);
    list
}

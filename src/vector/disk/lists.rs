//! Which neighbours a node has on disk.
//!
//! A longer list costs nothing to read. Those that keep the graph in one piece come first, then the
//! best of the node's neighbours and of theirs; nodes of its own block need no link, as they are
//! read with it.

use super::layout::Layout;
use crate::vector::hnsw::{Choice, Graph};

const CHOICE: Choice = Choice { clearly: 1.2, most: 400, at_once: 8 };

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
    graph.fill_list(slot, &mut list, &others, layout.links, CHOICE);
    list
}

//! Which nodes share a block.
//!
//! A search that reads a block gets all nodes of it, so those that answers have in common belong
//! together. Pairs of neighbours are looked at from the nearest on, and what they belong to is
//! joined as long as a block holds it. Groups that stay too small join groups nearby, and what is
//! left then, anything.

use crate::vector::hnsw::Graph;
use crate::vector::parallel;

/// Nearest neighbours of a node that it may be joined with at first.
const NEAREST: usize = 12;

/// The order of `live` nodes in the segment, as slots: each `size` of them share a block.
pub(super) fn order(graph: &Graph, live: &[u32], size: usize, threads: usize) -> Vec<u32> {
    let mut groups = Groups::new(graph.slot_count(), live, size);
    if size > 1 {
        for (_, a, b) in nearest_pairs(graph, live, threads) {
            groups.join(a, b);
        }
        for slot in live {
            groups.join_nearby(graph, *slot);
        }
    }
    groups.in_order(live)
}

/// Pairs of neighbours, the nearest first.
fn nearest_pairs(graph: &Graph, live: &[u32], threads: usize) -> Vec<(f32, u32, u32)> {
    let each = parallel::map(threads, live.len(), |i| {
        let slot = live[i];
        let links = graph.neighbours(slot, 0);
        let mut distances = Vec::new();
        graph.measure.rows(graph.vector(slot), &graph.vectors, links, &mut distances);
        let pair = |(distance, link): (&f32, &u32)| (*distance, slot.min(*link), slot.max(*link));
        let mut pairs: Vec<_> = distances.iter().zip(links).map(pair).collect();
        pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        pairs.truncate(NEAREST);
        pairs
    });
    let mut pairs: Vec<(f32, u32, u32)> = each.into_iter().flatten().collect();
    pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    pairs.dedup();
    pairs
}

/// Disjoint groups of slots, each a ring.
struct Groups {
    size: usize,
    /// The first slot of each slot's group.
    first: Vec<u32>,
    /// The slot behind each in its ring.
    next: Vec<u32>,
    /// How many a group has, at its first slot; 0 for a slot that is not live.
    len: Vec<u32>,
}

impl Groups {
    fn new(slots: usize, live: &[u32], size: usize) -> Groups {
        let mut len = vec![0; slots];
        live.iter().for_each(|slot| len[*slot as usize] = 1);
        let own: Vec<u32> = (0..slots as u32).collect();
        Groups { size, first: own.clone(), next: own, len }
    }

    fn len_of(&self, slot: u32) -> usize {
        self.len[self.first[slot as usize] as usize] as usize
    }

    /// Joins the groups of two slots, if a block holds both.
    fn join(&mut self, a: u32, b: u32) -> bool {
        let (to, from) = (self.first[a as usize], self.first[b as usize]);
        let (len_a, len_b) = (self.len_of(a), self.len_of(b));
        if to == from || len_a == 0 || len_b == 0 || len_a + len_b > self.size {
            return false;
        }
        let mut slot = b;
        for _ in 0..len_b {
            self.first[slot as usize] = to;
            slot = self.next[slot as usize];
        }
        self.next.swap(a as usize, b as usize);
        self.len[to as usize] = (len_a + len_b) as u32;
        true
    }

    /// Joins a slot's group with others that its neighbours' neighbours belong to.
    fn join_nearby(&mut self, graph: &Graph, slot: u32) {
        if self.len_of(slot) == self.size {
            return;
        }
        for link in graph.neighbours(slot, 0) {
            self.join(slot, *link);
        }
        for link in graph.neighbours(slot, 0) {
            for beyond in graph.neighbours(*link, 0) {
                if self.len_of(slot) == self.size {
                    return;
                }
                self.join(slot, *beyond);
            }
        }
    }

    /// Full groups first; the others behind them, so that no block but the last has a hole.
    fn in_order(&self, live: &[u32]) -> Vec<u32> {
        let mut order = Vec::with_capacity(live.len());
        for is_full in [true, false] {
            for slot in live {
                let len = self.len_of(*slot);
                if self.first[*slot as usize] != *slot || (len == self.size) != is_full {
                    continue;
                }
                let mut at = *slot;
                for _ in 0..len {
                    order.push(at);
                    at = self.next[at as usize];
                }
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;
    use crate::vector::{DistanceMetric, HnswConfig, HnswIndex};

    #[test]
    fn every_node_has_one_place_and_twins_share_a_block() {
        let mut rng = Rng::new(9);
        let mut index = HnswIndex::new(HnswConfig::new(8, DistanceMetric::L2));
        for pair in 0..300u64 {
            let vector: Vec<f32> = (0..8).map(|_| rng.below(1000) as f32).collect();
            index.insert(2 * pair, &vector).unwrap();
            index.insert(2 * pair + 1, &vector).unwrap();
        }
        index.remove(77);
        index.repair(1);
        let graph = &index.graph;
        let live: Vec<u32> =
            (0..graph.slot_count() as u32).filter(|slot| graph.is_live(*slot)).collect();
        for size in [1, 2, 4, 6, 7] {
            let order = order(graph, &live, size, 2);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, live);
            let id = |slot: u32| graph.ids[slot as usize] / 2;
            let apart = order.chunks(size).flat_map(|block| {
                let block: Vec<u64> = block.iter().map(|slot| id(*slot)).collect();
                block
                    .clone()
                    .into_iter()
                    .filter(move |id| block.iter().filter(|other| *other == id).count() == 1)
            });
            let apart = apart.count();
            // Blocks of seven without holes part one pair of seven at least: 85 nodes.
            let most = [(1, 599), (7, 240)].into_iter().find(|(of, _)| *of == size);
            let most = most.map_or(30, |(_, most)| most);
            assert!(apart <= most, "{apart} of 599 without their twin in {size}");
        }
    }
}

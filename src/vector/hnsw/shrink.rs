//! The memory of free slots is given back.

use super::graph::{Graph, Height, NONE, State};

impl Graph {
    /// Moves all nodes together, in their order, so that no slot is free and no table has more room than
    /// it needs. Costs a copy of all. Nothing while a repair goes on, which knows nodes by their slots.
    pub(super) fn shrink(&mut self) {
        if self.sweep.is_some() {
            return;
        }
        let slots = 0..self.slot_count() as u32;
        let there: Vec<u32> =
            slots.filter(|slot| self.states[*slot as usize] != State::Free).collect();
        let mut places = vec![NONE; self.slot_count()];
        there.iter().zip(0..).for_each(|(old, new)| places[*old as usize] = new);
        // No link leads to a free slot; what fills a list up stays.
        let moved = |links: &[u32]| -> Vec<u32> {
            let place = |link: &u32| places.get(*link as usize).copied().unwrap_or(NONE);
            links.iter().map(place).collect()
        };
        let mut graph = Graph::new(self.config);
        graph.reserve(there.len());
        let levels = |slot: &u32| usize::from(self.heights[*slot as usize].level);
        graph.upper.reserve(there.iter().map(levels).sum());
        for (old, new) in there.iter().copied().zip(0..) {
            graph.vectors.push(self.vectors.row(old));
            graph.links.push(&moved(self.links.row(old)));
            let Height { level, upper } = self.heights[old as usize];
            graph.heights.push(Height { level, upper: graph.upper.len() as u32 });
            for row in upper..upper + u32::from(level) {
                graph.upper.push(&moved(self.upper.row(row)));
            }
            graph.push_pinned(self.pinned_len(old));
            graph.ids.push(self.ids[old as usize]);
            graph.states.push(self.states[old as usize]);
            match self.states[old as usize] {
                State::Live => graph.slots.insert(self.ids[old as usize], new),
                State::Dead | State::Free => graph.dead += 1,
            }
        }
        graph.entry = self.entry.map(|entry| places[entry as usize]);
        *self = graph;
    }
}

#[cfg(test)]
mod tests {
    use crate::env::Rng;
    use crate::vector::{DistanceMetric, HnswConfig, HnswIndex, SearchRequest};

    #[test]
    fn a_graph_without_free_slots_answers_as_before() {
        let mut rng = Rng::new(5);
        let mut index = HnswIndex::new(HnswConfig::new(4, DistanceMetric::L2)).repaired_by_hand();
        index.shrink();
        assert_eq!((index.len(), index.slots()), (0, 0));
        let mut vector = || -> Vec<f32> { (0..4).map(|_| rng.below(1_000) as f32).collect() };
        for id in 0..3_000 {
            index.insert(id, vector()).unwrap();
        }
        (0..2_000).for_each(|id| assert!(index.remove(id)));
        index.repair(1);
        (2_000..2_010).for_each(|id| assert!(index.remove(id)));
        let queries: Vec<Vec<f32>> = (0..50).map(|_| vector()).collect();
        let answers = |index: &HnswIndex| -> Vec<_> {
            let request = |query| SearchRequest { ef: Some(60), ..SearchRequest::new(query, 10) };
            queries.iter().map(|query| index.answer(&request(query)).unwrap()).collect()
        };
        let (before, bytes) = (answers(&index), index.memory_bytes());
        index.shrink();
        assert_eq!(answers(&index), before);
        assert_eq!((index.slots(), index.len(), index.dead()), (1_000, 990, 10));
        assert!(index.memory_bytes() * 5 < bytes * 2, "{} {bytes}", index.memory_bytes());
        let read = HnswIndex::from_bytes(&index.to_bytes()).unwrap();
        assert_eq!(answers(&read), before);
        // It grows again.
        for id in 5_000..5_200 {
            let vector = vector();
            index.insert(id, &vector).unwrap();
            assert_eq!(index.search(&vector, 1, None).unwrap()[0].distance, 0.0);
        }
        // Amid a repair nothing is moved.
        (2_010..2_200).for_each(|id| assert!(index.remove(id)));
        assert!(index.repair_some(1, 1));
        let slots = index.slots();
        index.shrink();
        assert_eq!(index.slots(), slots);
        index.repair(1);
        index.shrink();
        assert_eq!((index.slots(), index.dead()), (1_000, 0));
    }
}

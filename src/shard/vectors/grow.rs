//! The graph that grows: what is linked into it, what leaves it, and its end as a segment.

use crate::base::Result;
use crate::op::vector::IndexSpec;
use crate::shard::vectors::form::{Form, graph_config};
use crate::shard::vectors::index::State;
use crate::shard::vectors::posted::takes_postings;
use crate::shard::vectors::segment::{Row, Segment};
use crate::shard::vectors::sorted::SortedRows;
use crate::vector::HnswIndex;
use std::sync::Arc;

/// Bytes of it at which it is sealed, and at which its vectors are put into postings.
const SEAL_BYTES: usize = 512 << 20;
pub(super) const POSTED_AT_BYTES: usize = 64 << 20;
/// Of so many nodes of the graph that grows one may be dead before it is repaired, and of so many
/// while nothing is written.
const NODES_PER_DEAD: usize = 14;
const NODES_PER_DEAD_IDLE: usize = 64;
/// Nodes for each that is free from which the memory of these is given back while nothing is written:
/// those that were replaced without end leave fewer, which the next will take.
const NODES_PER_FREE_IDLE: usize = 6;
/// Lists of links that are mended for each vector that is linked while the graph is being repaired: of
/// 384 floats that takes about as long, and repairs keep up with writers who replace all they write.
const LISTS_PER_LINKED: usize = 14;

impl State {
    /// Makes a segment of the graph that grows, and begins another.
    pub(super) fn seal(&mut self, spec: &IndexSpec) {
        let empty = HnswIndex::new(graph_config(spec)).repaired_by_hand();
        let mut graph = std::mem::replace(&mut self.fresh, empty);
        graph.give_up_repair();
        self.linked = 0;
        self.kept = None;
        self.seals += 1;
        if graph.is_empty() {
            return;
        }
        let mut rows: Vec<Row> =
            graph.ids().map(|id| (id, self.seqs.remove(&id).unwrap_or_default())).collect();
        rows.sort_unstable();
        // What they held is in the segment by now, which may be the last for long.
        self.shrink_tables();
        let number = self.next_file;
        self.next_file += 1;
        self.segments.push(Segment {
            number,
            form: Arc::new(Form::Hnsw(graph)),
            rows: Arc::new(SortedRows::of(rows)),
            dead: Default::default(),
            file_bytes: None,
            is_final: false,
        });
    }

    fn shrink_tables(&mut self) {
        self.seqs.shrink_to_fit();
        self.given.shrink_to_fit();
        self.order.shrink_to_fit();
        self.tail.shrink_to_fit();
    }

    /// Whether the graph that grows is as large as it may get.
    pub(super) fn is_full(&self, spec: &IndexSpec) -> bool {
        let (rows, bytes) = match takes_postings(spec) {
            true => (self.limits.posted_at(), POSTED_AT_BYTES),
            false => (self.limits.segment_rows, SEAL_BYTES),
        };
        // What was removed leaves it, and is taken by others.
        let per_node = self.fresh.memory_bytes() / self.fresh.slots().max(1);
        self.fresh.len() >= rows || self.fresh.len() * per_node >= bytes
    }

    /// Moves the oldest vectors of the tail, so many at most, into the graph; how many it moved.
    pub(super) fn link(&mut self, most: usize, threads: usize) -> Result<usize> {
        let (mut ids, mut given, mut floats) = (Vec::new(), Vec::new(), Vec::new());
        while ids.len() < most {
            let Some(id) = self.order.pop_front() else { break };
            // Gone, or named twice because it came again.
            if let Some(vector) = self.given.remove(&id) {
                floats.extend_from_slice(&vector);
                ids.push(id);
                given.push(vector);
            }
        }
        if ids.is_empty() {
            return Ok(0);
        }
        if let Err(refused) = self.fresh.insert_many(&ids, &floats, threads) {
            // They are compared one by one as before.
            ids.iter().rev().for_each(|id| self.order.push_front(*id));
            self.given.extend(ids.into_iter().zip(given));
            return Err(refused);
        }
        self.linked += ids.len();
        ids.iter().for_each(|id| _ = self.tail.remove(*id));
        Ok(ids.len())
    }

    /// Whether so many nodes of the graph that grows are dead, or a repair of it has begun, that it is
    /// to be repaired.
    pub(super) fn needs_repair(&self, is_idle: bool) -> bool {
        let (dead, nodes) = (self.fresh.dead(), self.fresh.len() + self.fresh.dead());
        self.fresh.is_in_repair()
            || dead > self.limits.dead_min().max(nodes / NODES_PER_DEAD)
            || (is_idle && dead > nodes / NODES_PER_DEAD_IDLE)
    }

    /// Whether so much of the memory of the graph that grows belongs to no vector, nor will soon, that it
    /// is worth a copy of all to give it back.
    pub(super) fn is_hollow(&self, is_idle: bool) -> bool {
        let live = self.fresh.len();
        let free = self.fresh.slots() - live - self.fresh.dead();
        let most = if is_idle { live / NODES_PER_FREE_IDLE } else { live };
        let is_worth_it = free > self.limits.dead_min().max(most) || (live == 0 && free > 0);
        is_worth_it && !self.fresh.is_in_repair()
    }

    /// Gives that memory back; whether its file is of nothing now.
    pub(super) fn shrink(&mut self, spec: &IndexSpec) -> bool {
        let is_kept = self.kept.is_some();
        if self.fresh.is_empty() && self.fresh.dead() == 0 {
            self.seal(spec);
        } else {
            self.fresh.shrink();
        }
        self.shrink_tables();
        is_kept && self.kept.is_none()
    }

    /// Goes on with the repair of the graph that grows, for about as long as linking so many takes.
    pub(super) fn repair(&mut self, linked: usize, threads: usize) {
        self.fresh.repair_some(linked * LISTS_PER_LINKED, threads);
    }

    /// As [`State::link`]; then goes on with a repair that is due, as whoever links has to, so that no
    /// writer leaves it behind.
    pub(super) fn link_and_repair(&mut self, most: usize, threads: usize) -> Result<()> {
        let linked = self.link(most, threads)?;
        if self.needs_repair(false) {
            self.repair(linked, threads);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::vector::{Floats, Metric};
    use crate::shard::vectors::VectorLimits;
    use crate::shard::vectors::index::Change;
    use crate::shard::vectors::record;

    /// They had left the list that is compared one by one, and no search found them.
    #[test]
    fn vectors_that_cannot_be_linked_are_compared_one_by_one_as_before() {
        let spec = IndexSpec::new("v", 2, Metric::L2).with_defaults();
        let mut state = State::new(&spec, VectorLimits::default()).unwrap();
        for id in 0..20 {
            let value = Some(record::encode(&Floats::of(&[id as f32, 1.0]), b""));
            state.apply(&Change { id, seq: 1 + id, value });
        }
        let order = state.order.clone();
        let seventh = std::mem::replace(state.given.get_mut(&7).unwrap(), vec![f32::NAN; 2]);
        assert!(state.link(10, 1).is_err());
        assert_eq!((&state.order, state.given.len()), (&order, 20));
        assert_eq!((state.tail.len(), state.fresh.len(), state.linked), (20, 0, 0));
        state.given.insert(7, seventh);
        assert_eq!(state.link(10, 1).unwrap(), 10);
        assert_eq!((state.tail.len(), state.fresh.len(), state.given.len()), (10, 10, 10));
    }
}

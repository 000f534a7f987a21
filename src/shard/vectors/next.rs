//! What the background does next for an index.

use crate::base::CfId;
use crate::shard::vectors::Vectors;
use crate::shard::vectors::form::is_plain;
use crate::shard::vectors::index::{State, VectorIndex, lock};
use crate::shard::vectors::made::{alike, made_max};
use crate::shard::vectors::post;
use crate::shard::vectors::posted::takes_postings;
use std::sync::atomic::Ordering;

/// One of so many vectors of a segment may be dead before it is made anew.
const NODES_PER_DEAD: usize = 5;
/// Turns of the upkeep without a change after which nothing is being written.
const IDLE_TURNS: u64 = 10;
/// How much the graph must have grown before it is written down while vectors come in: that holds
/// these up, and would be done again and again.
const GROWN_AMID_WRITES: usize = 4;

/// A piece of work.
pub(super) enum Piece {
    /// It catches up with the records.
    CatchUp,
    Link,
    Seal,
    /// A segment gets its form and its file.
    Finish(u64),
    /// Segments of which nothing counts any more go.
    Bury,
    /// Segments are made one, or one is made anew.
    Make(Vec<u64>),
    /// The graph that grows is written down.
    Keep,
    /// What is on disk is written down.
    Save,
    /// Something of postings.
    Post(post::Piece),
}

impl Vectors {
    /// What is to be done next for an index. Linking and all else take turns: writers in a hurry
    /// leave always some to be linked, and would have nothing that was sealed get its form and file.
    pub(super) fn next(&self, index: &VectorIndex) -> Option<Piece> {
        if index.is_dropped() {
            return None;
        }
        if index.lag.is_behind() {
            return Some(Piece::CatchUp);
        }
        let state = index.read();
        if state.is_full(&index.spec) {
            return Some(Piece::Seal);
        }
        match index.has_linked.load(Ordering::Relaxed) {
            true => self.next_sealed(index, &state).or_else(|| next_loose(index, &state)),
            false => next_loose(index, &state).or_else(|| self.next_sealed(index, &state)),
        }
    }

    /// What is to be done next with what is sealed, and with files.
    fn next_sealed(&self, index: &VectorIndex, state: &State) -> Option<Piece> {
        let limits = &index.limits;
        if takes_postings(&index.spec) {
            if let Some(piece) = post::next(index, state) {
                return Some(Piece::Post(piece));
            }
            return self.next_to_write(index, state);
        }
        // They are worth no form and no file.
        if state.segments.iter().any(|segment| segment.live() == 0) {
            return Some(Piece::Bury);
        }
        let unfinished = state.segments.iter().find(|s| s.file_bytes.is_none() || !s.is_final);
        if let Some(segment) = unfinished {
            return Some(Piece::Finish(segment.number));
        }
        if let Some(stale) =
            state.segments.iter().find(|s| s.is_stale(limits.dead_min(), NODES_PER_DEAD))
        {
            return Some(Piece::Make(vec![stale.number]));
        }
        // It may take minutes, and those who write do not get by without the background for so long.
        if !index.is_hurried()
            && let Some(alike) = alike(&state.segments, made_max(&index.spec, limits))
        {
            return Some(Piece::Make(alike));
        }
        self.next_to_write(index, state)
    }

    fn next_to_write(&self, index: &VectorIndex, state: &State) -> Option<Piece> {
        let limits = &index.limits;
        let kept = state.kept.as_ref().map_or(0, |(_, rows, _)| rows.len());
        let grown = match next_loose(index, state) {
            None => kept + kept / 2 + 1,
            Some(_) => GROWN_AMID_WRITES * kept,
        };
        if state.fresh.len() >= limits.kept_min().max(grown) && !index.is_hurried() {
            return Some(Piece::Keep);
        }
        let has_files = kept > 0 || !state.segments.is_empty() || state.posted.is_some();
        // Else what is in tables could not be told from what is not, and all be looked at.
        let flushed = self.engine.flushed_index(CfId::VECTORS).unwrap_or_default();
        let is_due = has_files && flushed > *lock(&index.saved);
        (is_due || index.has_dead_files.load(Ordering::Relaxed)).then_some(Piece::Save)
    }
}

/// What is to be done next with what is not sealed.
fn next_loose(index: &VectorIndex, state: &State) -> Option<Piece> {
    let limits = &index.limits;
    let is_idle = lock(&index.rest).1 >= IDLE_TURNS;
    // Few may wait for others to come; where none do, they would for ever, whole and in memory.
    if state.tail.len() >= limits.link_at() || (is_idle && !state.tail.is_empty()) {
        return Some(Piece::Link);
    }
    let wants_form = !is_plain(&index.spec, state.fresh.len());
    (is_idle && wants_form && state.fresh.len() >= limits.idle_min()).then_some(Piece::Seal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{IndexId, LogIndex, Seq};
    use crate::env::SimDisk;
    use crate::lsm::batch::WriteBatch;
    use crate::op::vector::{IndexSpec, Metric, VectorId};
    use crate::shard::Shard;
    use crate::shard::vectors::tests::{apply, create, shard_on};
    use crate::shard::vectors::{VectorLimits, record};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    const INDEX: IndexId = IndexId(3);

    fn with_index(segment_rows: usize) -> (Arc<Shard>, Arc<VectorIndex>) {
        let limits = VectorLimits { segment_rows, ..VectorLimits::default() };
        let shard = shard_on(&SimDisk::new(), limits);
        create(&shard, INDEX, 3, IndexSpec::new("v", 2, Metric::L2).with_defaults());
        let index = shard.vectors.get("v").unwrap();
        (shard, index)
    }

    /// Four segments were made one while vectors came in, which may take minutes: nothing was linked
    /// meanwhile, and all writers were slowed.
    #[test]
    fn segments_are_not_made_one_while_writers_are_slowed() {
        let (shard, index) = with_index(64);
        let mut before = 0;
        for turn in 0..20 {
            apply(&shard, INDEX, 4 + turn, turn * 600..(turn + 1) * 600);
            for _ in 0..3 {
                assert!(index.is_hurried() && shard.vectors.work_once());
                let segments = index.read().segments.len();
                assert!(segments >= before, "{turn}: {segments} of {before}");
                before = segments;
            }
        }
        assert!(before > 8 && index.read().kept.is_none(), "{before}");
        shard.vectors.settle();
        assert!(index.read().segments.len() < before);
    }

    /// The graph that grew was written down at every half that it had grown by, also while it was
    /// about to be sealed.
    #[test]
    fn a_graph_is_not_written_down_again_and_again_while_vectors_wait() {
        let (shard, index) = with_index(8_192);
        let mut files = BTreeSet::new();
        for turn in 0..12 {
            apply(&shard, INDEX, 4 + turn, turn * 600..(turn + 1) * 600);
            assert!(shard.vectors.work_once() && shard.vectors.work_once());
            files.extend(index.read().kept.as_ref().map(|(number, ..)| *number));
        }
        let linked = index.read().fresh.len();
        assert!(!index.is_hurried() && linked > 4_000, "{linked}");
        assert_eq!(files.len(), 1);
        // Once nothing is left to be linked it is written.
        shard.vectors.settle();
        let state = index.read();
        let kept = state.kept.as_ref().unwrap().1.len();
        assert!(kept > state.fresh.len() / 2 && kept > linked, "{kept} of {}", state.fresh.len());
    }

    #[test]
    fn a_file_of_a_graph_that_was_sealed_meanwhile_is_none_of_the_next() {
        let (shard, index) = with_index(64);
        apply(&shard, INDEX, 4, 0..20);
        let mut state = index.write();
        state.link(20, 1).unwrap();
        let file = |state: &State| (7, Arc::new(state.fresh_rows()), 1);
        let (kept, seals) = (file(&state), state.seals);
        state.set_kept(kept.clone(), seals);
        assert!(state.kept.take().is_some());
        // A writer that waits for room seals what is full.
        state.seal(&index.spec);
        state.set_kept(kept, seals);
        assert!(state.kept.is_none());
    }

    /// A segment of which all had gone was given its form and a file, and then made anew of nothing.
    #[test]
    fn a_segment_without_living_vectors_goes_without_a_file() {
        let (shard, index) = with_index(64);
        apply(&shard, INDEX, 4, 0..100);
        {
            let mut state = index.write();
            state.link(100, 1).unwrap();
            state.seal(&index.spec);
        }
        let next_file = index.read().next_file;
        let mut batch = WriteBatch::new();
        for id in 0..100 {
            batch.delete_cf(CfId::VECTORS, &record::vector_key(INDEX, VectorId::new(id)));
        }
        batch.place(Seq(9_000), 1);
        shard.apply_entry(LogIndex(5), &[batch.bytes().to_vec()]).unwrap();
        assert_eq!((index.read().segments.len(), index.read().len()), (1, 0));
        shard.vectors.settle();
        let state = index.read();
        assert_eq!((state.segments.len(), state.next_file), (0, next_file));
        assert!(!shard.engine().place().0.exists(&index.dir));
    }
}

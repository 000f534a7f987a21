//! What the background does next for an index.

use crate::base::CfId;
use crate::shard::vectors::Vectors;
use crate::shard::vectors::form::is_plain;
use crate::shard::vectors::index::{State, VectorIndex, lock};
use crate::shard::vectors::made::{alike, made_max, worth_making_one};
use crate::shard::vectors::post;
use crate::shard::vectors::posted::takes_postings;
use std::sync::atomic::Ordering;

/// One of so many vectors of a segment may be dead before it is made anew.
const NODES_PER_DEAD: usize = 5;
/// Turns of the upkeep without a change after which nothing is being written.
pub(super) const IDLE_TURNS: u64 = 10;
/// How many times as many vectors as it held, or else as many and half a segment, must have been
/// put into the graph before it is written down while others come in: that holds these up, and would be
/// done again and again.
const GROWN_AMID_WRITES: usize = 3;
/// Turns without a change after which one more in so many vectors has it written down: writers who pause
/// would otherwise have all of it written at every pause.
const REST_TURNS: u64 = 100;
const ROWS_PER_KEPT: usize = 16;

/// A piece of work.
pub(super) enum Piece {
    /// It catches up with the records.
    CatchUp,
    Link,
    Seal,
    /// What was removed leaves the graph that grows.
    Repair,
    /// The memory of what has left it is given back.
    Shrink,
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
        let rests = lock(&index.failed).rests();
        if index.lag.is_behind() {
            return (!rests).then_some(Piece::CatchUp);
        }
        let free = self.free_bytes();
        let state = index.read();
        if state.is_full(&index.spec) {
            return Some(Piece::Seal);
        }
        if rests || self.lacks_records(index) {
            return next_loose(index, &state);
        }
        match index.has_linked.load(Ordering::Relaxed) {
            true => self.next_sealed(index, &state, free).or_else(|| next_loose(index, &state)),
            false => next_loose(index, &state).or_else(|| self.next_sealed(index, &state, free)),
        }
    }

    /// Whether records of what its files know are still to come from the log: a replica that begins is
    /// told of them by its group. What is made of records would be made without them.
    pub(super) fn lacks_records(&self, index: &VectorIndex) -> bool {
        self.noted.load(Ordering::Acquire) < index.loaded.load(Ordering::Acquire)
    }

    /// What is to be done next with what is sealed, and with files.
    fn next_sealed(&self, index: &VectorIndex, state: &State, free: u64) -> Option<Piece> {
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
        if is_idle(index)
            && let Some(all) = worth_making_one(&state.segments, &index.spec, limits, free)
        {
            return Some(Piece::Make(all));
        }
        // It may take minutes, and those who write do not get by without the background for so long.
        if !index.is_hurried()
            && let Some(alike) = alike(&state.segments, made_max(&index.spec, limits, free))
        {
            return Some(Piece::Make(alike));
        }
        self.next_to_write(index, state)
    }

    fn next_to_write(&self, index: &VectorIndex, state: &State) -> Option<Piece> {
        let limits = &index.limits;
        let kept = state.kept.as_ref().map_or(0, |kept| kept.rows.len());
        let changed = match next_loose(index, state) {
            // Then a start finds nearly all of it.
            None if rested_turns(index) >= REST_TURNS => kept / ROWS_PER_KEPT + 1,
            None | Some(Piece::Repair | Piece::Shrink) => kept / 2 + 1,
            Some(_) => (GROWN_AMID_WRITES * kept).min(kept + limits.segment_rows / 2),
        };
        // Of what stands in no file.
        let least = limits.kept_min().saturating_sub(kept).max(changed);
        let is_due = state.changed_since_kept() >= least || state.is_kept_hollow();
        if is_due && !index.is_hurried() {
            return Some(Piece::Keep);
        }
        let has_files = state.has_files();
        // Else what is in tables could not be told from what is not, and all be looked at.
        let flushed = self.engine.flushed_index(CfId::VECTORS).unwrap_or_default();
        let is_due = has_files && flushed > *lock(&index.saved);
        (is_due || index.has_dead_files.load(Ordering::Relaxed)).then_some(Piece::Save)
    }
}

/// Whether nothing was written for a while.
pub(super) fn is_idle(index: &VectorIndex) -> bool {
    rested_turns(index) >= IDLE_TURNS
}

/// Turns of the upkeep for which nothing was written.
fn rested_turns(index: &VectorIndex) -> u64 {
    lock(&index.rest).1
}

/// What is to be done next with what is not sealed.
fn next_loose(index: &VectorIndex, state: &State) -> Option<Piece> {
    let (limits, is_idle) = (&index.limits, is_idle(index));
    // Few may wait for others to come; where none do, they would for ever, whole and in memory.
    if state.tail.len() >= limits.link_at() || (is_idle && !state.tail.is_empty()) {
        return Some(Piece::Link);
    }
    let wants_form = !is_plain(&index.spec, state.fresh.len());
    if is_idle && wants_form && state.fresh.len() >= limits.idle_min() {
        return Some(Piece::Seal);
    }
    if state.needs_repair(is_idle) {
        return Some(Piece::Repair);
    }
    state.is_hollow(is_idle).then_some(Piece::Shrink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{IndexId, LogIndex, Seq};
    use crate::env::SimDisk;
    use crate::lsm::batch::WriteBatch;
    use crate::op::vector::{IndexKind, IndexSpec, Metric, Quantisation, VectorId};
    use crate::shard::Shard;
    use crate::shard::vectors::kept::Kept;
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
            files.extend(index.read().kept.as_ref().map(|kept| kept.number));
        }
        let linked = index.read().fresh.len();
        assert!(!index.is_hurried() && linked > 4_000, "{linked}");
        assert_eq!(files.len(), 1);
        // Once nothing is left to be linked it is written.
        shard.vectors.settle();
        let state = index.read();
        let kept = state.kept.as_ref().unwrap().rows.len();
        assert!(kept > state.fresh.len() / 2 && kept > linked, "{kept} of {}", state.fresh.len());
    }

    /// A third of what an import had linked stood in no file until there was as much again, and each
    /// start after a crash linked it anew.
    #[test]
    fn a_graph_that_nobody_writes_to_stands_in_its_file() {
        let (shard, index) = with_index(8_192);
        apply(&shard, INDEX, 4, 0..4_000);
        shard.vectors.settle();
        apply(&shard, INDEX, 5, 4_000..5_000);
        shard.vectors.settle();
        let in_file = || index.read().kept.as_ref().unwrap().rows.len();
        assert!(in_file() < 4_500, "{} while some write", in_file());
        let rest = |turns: u64| {
            for _ in 0..=turns {
                shard.vectors.tend();
                shard.vectors.settle();
            }
        };
        rest(2 * IDLE_TURNS);
        assert!(in_file() < 4_500, "{} in a short pause", in_file());
        rest(REST_TURNS);
        assert_eq!(in_file(), 5_000);
        // What is little waits for more.
        apply(&shard, INDEX, 6, 5_000..5_200);
        rest(REST_TURNS);
        assert_eq!((in_file(), index.read().fresh.len()), (5_000, 5_200));
    }

    #[test]
    fn a_file_of_a_graph_that_was_sealed_meanwhile_is_none_of_the_next() {
        let (shard, index) = with_index(64);
        apply(&shard, INDEX, 4, 0..20);
        let mut state = index.write();
        state.link(20, 1).unwrap();
        let file = |state: &State| {
            let rows = Arc::new(state.fresh_rows());
            Kept { number: 7, rows, slots: 20, file_bytes: 1, linked: state.linked }
        };
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

    /// Puts others in the place of all vectors, and has the background do what there is to do.
    fn replace(shard: &Arc<Shard>, entry: u64, ids: std::ops::Range<u64>) {
        apply(shard, INDEX, entry, ids);
        shard.vectors.settle();
    }

    fn idle(shard: &Arc<Shard>) {
        (0..=IDLE_TURNS).for_each(|_| shard.vectors.tend());
        shard.vectors.settle();
    }

    /// Each twelfth that was replaced sealed the graph that grows: segments without end, each of which
    /// every search walked, with their dead in memory and on disk.
    #[test]
    fn an_index_whose_vectors_are_replaced_stays_one_graph() {
        let (shard, index) = with_index(8_192);
        (3..5).for_each(|entry| replace(&shard, entry + 1, 0..3_000));
        idle(&shard);
        let (bytes, on_disk) = (index.info().memory_bytes, index.info().disk_bytes);
        let (mut repaired, mut worst) = (0, 0);
        for round in 0..120 {
            let from = round % 30 * 100;
            apply(&shard, INDEX, 6 + round, from..from + 100);
            // It is not idle.
            shard.vectors.tend();
            let mut before = index.read().fresh.dead();
            while shard.vectors.work_once() {
                let dead = index.read().fresh.dead();
                repaired += u32::from(dead < before);
                before = dead;
            }
            let state = index.read();
            assert_eq!((state.segments.len(), state.fresh.len() + state.tail.len()), (0, 3_000));
            worst = worst.max(state.fresh.dead());
            assert!(worst <= index.limits.dead_min() && !state.needs_repair(false), "{worst}");
        }
        assert!(repaired >= 10 && worst > 3_000 / 64, "{repaired} {worst}");
        idle(&shard);
        let info = index.info();
        assert!(info.dead <= 3_000 / 64, "{info:?}");
        assert!(
            info.memory_bytes <= bytes * 5 / 4 && info.disk_bytes <= on_disk * 5 / 4,
            "{info:?}"
        );
    }

    /// Its file was of the first vectors for ever, and a start linked all others anew.
    #[test]
    fn a_graph_whose_vectors_are_replaced_is_written_down_again() {
        let (shard, index) = with_index(8_192);
        replace(&shard, 4, 0..3_000);
        for round in 0..10 {
            replace(&shard, 5 + round, 0..3_000);
        }
        let state = index.read();
        assert!(state.loose().len() <= 3_000 / 2 + 1, "{}", state.loose().len());
    }

    /// Writers who delete and do not insert leave nodes behind as well; their memory and their file are
    /// given back.
    #[test]
    fn deleted_vectors_leave_the_graph() {
        let (shard, index) = with_index(8_192);
        replace(&shard, 4, 0..3_000);
        let bytes = index.read().memory_bytes();
        let remove = |entry: u64, ids: std::ops::Range<u64>| {
            let mut batch = WriteBatch::new();
            for id in ids {
                batch.delete_cf(CfId::VECTORS, &record::vector_key(INDEX, VectorId::new(id)));
            }
            batch.place(Seq(entry * 2_000), 1);
            shard.apply_entry(LogIndex(entry), &[batch.bytes().to_vec()]).unwrap();
        };
        remove(5, 0..2_000);
        assert!(index.read().fresh.dead() > 1_900);
        shard.vectors.settle();
        let (state, bytes) = (index.read(), bytes / 2);
        assert_eq!((state.fresh.dead(), state.fresh.len() + state.tail.len()), (0, 1_000));
        assert_eq!(state.kept.as_ref().unwrap().rows.len(), state.fresh.len());
        let (in_memory, in_file) = (state.memory_bytes(), state.kept.as_ref().unwrap().file_bytes);
        assert!(in_memory < bytes && in_file < bytes, "{in_memory} and {in_file} of {bytes}");
        drop(state);
        // And with the last of them all that there is, also on disk.
        remove(6, 2_000..3_000);
        shard.vectors.settle();
        assert_eq!((index.read().fresh.slots(), index.read().files().len()), (0, 0));
        assert!(index.read().memory_bytes() < bytes / 20, "{}", index.read().memory_bytes());
        let entries = shard.engine().place().0.list(&index.dir).unwrap();
        assert!(entries.iter().all(|entry| !entry.name.ends_with(".seg")), "{entries:?}");
        apply(&shard, INDEX, 20, 0..10);
        assert_eq!(index.read().len(), 10);
    }

    /// Where nobody writes, small segments and such with dead vectors are made one with the largest;
    /// few of them are left, else each few that are written would have all others written anew.
    #[test]
    fn segments_become_one_where_nobody_writes() {
        let limits = VectorLimits { segment_rows: 4_096, ..VectorLimits::default() };
        let shard = shard_on(&SimDisk::new(), limits);
        let spec = IndexSpec {
            quantisation: Quantisation::Compact8,
            ..IndexSpec::new("v", 2, Metric::L2)
        };
        create(&shard, INDEX, 3, IndexSpec { kind: IndexKind::Hnsw, ..spec }.with_defaults());
        let index = shard.vectors.get("v").unwrap();
        let shape = || {
            let state = index.read();
            let dead: usize = state.segments.iter().map(|segment| segment.dead.len()).sum();
            (state.segments.len(), dead, state.fresh.len())
        };
        apply(&shard, INDEX, 4, 0..3_000);
        idle(&shard);
        assert_eq!(shape(), (1, 0, 0));
        // A tenth is replaced.
        apply(&shard, INDEX, 5, 0..300);
        idle(&shard);
        assert_eq!(shape(), (1, 0, 0));
        assert_eq!(index.read().len(), 3_000);
        let number = index.read().segments[0].number;
        apply(&shard, INDEX, 6, 3_000..3_050);
        idle(&shard);
        assert_eq!(shape(), (1, 0, 50));
        assert_eq!(index.read().segments[0].number, number);
    }

    /// Postings that had changed were held in memory until as many had as are written at once.
    #[test]
    fn changed_postings_are_written_where_nobody_writes() {
        let limits = VectorLimits { segment_rows: 1_024, ..VectorLimits::default() };
        let shard = shard_on(&SimDisk::new(), limits);
        let spec = IndexSpec { kind: IndexKind::Spfresh, ..IndexSpec::new("v", 2, Metric::L2) };
        create(&shard, INDEX, 3, spec.with_defaults());
        let index = shard.vectors.get("v").unwrap();
        let changed = || {
            let state = index.read();
            state.posted.as_ref().unwrap().finder.as_ref().unwrap().pages.changed_bytes()
        };
        apply(&shard, INDEX, 4, 0..8_192);
        idle(&shard);
        assert_eq!(changed(), 0);
        // So few that what is in postings is not written down for them.
        apply(&shard, INDEX, 20, 0..256);
        shard.vectors.tend();
        shard.vectors.settle();
        // Whether they have come to any depends on the graph that they are put into first.
        shard.vectors.post(&index, post::Piece::Sweep).unwrap();
        index.write().posted.as_mut().unwrap().parts().unwrap().0.sweep.clear();
        assert!(changed() > 0);
        shard.vectors.tend();
        shard.vectors.settle();
        assert!(changed() > 0);
        idle(&shard);
        assert_eq!((changed(), index.read().len()), (0, 8_192));
    }

    /// Where a device was full each turn of the upkeep made the whole form anew, and failed to write it.
    #[test]
    fn what_fails_again_and_again_is_tried_ever_less_often() {
        let limits = VectorLimits { segment_rows: 64, ..VectorLimits::default() };
        let disk = SimDisk::new();
        let shard = shard_on(&disk, limits);
        create(&shard, INDEX, 3, IndexSpec::new("v", 2, Metric::L2).with_defaults());
        let index = shard.vectors.get("v").unwrap();
        let turn = || {
            shard.vectors.tend();
            shard.vectors.settle();
        };
        disk.set_capacity(Some(disk.used_bytes()));
        // Numbers of files are taken and not given back.
        apply(&shard, INDEX, 4, 0..600);
        let mut repaired = 0;
        for n in 0..1_000 {
            if n % 10 == 0 {
                // Some are replaced, and leave the graph: that succeeds.
                apply(&shard, INDEX, 5 + n, 1_000..1_020);
            }
            let dead = index.read().fresh.dead();
            turn();
            repaired += u32::from(index.read().fresh.dead() < dead);
        }
        assert!(repaired > 10, "{repaired}");
        let sealed =
            |state: &State| state.segments.iter().filter(|s| s.file_bytes.is_none()).count();
        assert!(sealed(&index.read()) > 0);
        let failed = lock(&index.failed).in_a_row();
        assert!((3..=12).contains(&failed), "{failed}");
        // What comes is linked all the same.
        apply(&shard, INDEX, 2_000, 600..900);
        turn();
        assert_eq!(index.read().tail.len(), 0);
        disk.set_capacity(None);
        let turns = (1..2_000).find(|_| {
            turn();
            sealed(&index.read()) == 0
        });
        assert!(turns.is_some_and(|turns| turns <= 601), "{turns:?}");
        assert_eq!(lock(&index.failed).in_a_row(), 0);
    }
}

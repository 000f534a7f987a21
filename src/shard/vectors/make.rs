//! Making one segment of several.
//!
//! It takes long, and nobody waits for it: what changes meanwhile is marked dead in the segments it is
//! made of, and counts as soon as the one takes their place.

use crate::base::{CfId, Error, ErrorKind, Result, Seq};
use crate::lsm::ReadOptions;
use crate::op::vector::VectorId;
use crate::shard::vectors::form::{Form, graph_config, making_bytes};
use crate::shard::vectors::index::VectorIndex;
use crate::shard::vectors::segment::{self, Row, Segment};
use crate::shard::vectors::sorted::SortedRows;
use crate::shard::vectors::{Vectors, record};
use crate::vector::{HnswIndex, IdSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What was made of segments.
struct Made {
    number: u64,
    rows: SortedRows,
    /// Vectors whose records were others than those that the segments had, or none.
    left_out: Vec<u64>,
    /// Its form and the bytes of its file; nothing if it has no rows.
    form: Option<(Form, u64)>,
}

impl Vectors {
    /// Makes one segment of some: the graph of the largest, mended, and the vectors of the others.
    pub(super) fn make(&self, index: &VectorIndex, numbers: &[u64]) -> Result<()> {
        // It may take long, and tables that are written meanwhile know more than what is written down
        // now: after a crash all records would be looked at.
        if index.read().has_files() {
            self.save(index)?;
        }
        let is_one = |s: &&Segment| numbers.contains(&s.number);
        let parts: Vec<Segment> = index.read().segments.iter().filter(is_one).cloned().collect();
        let all = parts.iter().map(|part| part.rows.len()).sum();
        let making = index.learning(making_bytes(&index.spec, all));
        let made = self.make_of(index, parts)?;
        self.put_in_place(index, numbers, made)?;
        // What they were made of is gone with them.
        drop(making);
        self.save(index)
    }

    fn make_of(&self, index: &VectorIndex, mut parts: Vec<Segment>) -> Result<Made> {
        let number = Vectors::number_for_file(index);
        parts.sort_by_key(|part| std::cmp::Reverse(part.live()));
        let mut graph = HnswIndex::new(graph_config(&index.spec));
        let (mut rows, mut others) = (Vec::<Row>::new(), parts.as_slice());
        if let Some((base, rest)) = parts.split_first()
            && let Some(mended) = self.graph_of(index, base)?
        {
            graph = mended.repaired_by_hand();
            base.dead.iter().for_each(|id| _ = graph.remove(*id));
            graph.repair(self.threads());
            rows.extend(base.live_rows());
            others = rest;
        }
        let mut left_out = Vec::new();
        for part in others {
            left_out.extend(self.insert_rows(index, part, &mut graph, &mut rows)?);
        }
        rows.sort_unstable();
        let rows = SortedRows::of(rows);
        let form = match rows.is_empty() {
            true => None,
            false => Some(self.write_form(index, number, graph, &rows)?),
        };
        Ok(Made { number, rows, left_out, form })
    }

    /// Has what was made take the place of the segments that it was made of.
    fn put_in_place(&self, index: &VectorIndex, numbers: &[u64], made: Made) -> Result<()> {
        let Made { number, rows, left_out, form } = made;
        let mut state = index.write();
        let is_part = |segment: &Segment| numbers.contains(&segment.number);
        // Most are dead in the parts by now. One that is not had a record still to come from the log: when
        // that came it was passed over, as it was known.
        for id in left_out {
            if state.segments.iter().any(|segment| is_part(segment) && segment.has(id)) {
                index.take_anew(&self.engine, &mut state, id)?;
            }
        }
        // What was replaced or deleted meanwhile is dead in the parts by now.
        let (parts, others): (Vec<Segment>, Vec<Segment>) =
            std::mem::take(&mut state.segments).into_iter().partition(is_part);
        state.segments = others;
        if let Some((form, file_bytes)) = form {
            let lives = |id: u64| parts.iter().any(|part| part.has(id));
            let dead: IdSet = rows.iter().map(|(id, _)| id).filter(|id| !lives(*id)).collect();
            state.segments.push(Segment {
                number,
                form: Arc::new(form),
                rows: Arc::new(rows),
                dead,
                file_bytes: Some(file_bytes),
                is_final: true,
            });
        }
        index.measure(&state);
        Ok(())
    }

    /// The graph of a segment; `None` if there is none to go on with: then its records are.
    fn graph_of(&self, index: &VectorIndex, segment: &Segment) -> Result<Option<HnswIndex>> {
        if segment.form.is_on_disk() {
            return Ok(None);
        }
        if let Some(bytes) = segment.form.graph_bytes() {
            return HnswIndex::from_bytes(&bytes).map(Some);
        }
        let (disk, path) = (self.engine.place().0, segment::path(&index.dir, segment.number));
        let stored = segment::read(&**disk, &path, index.id);
        match stored.and_then(|stored| stored.graph(&path, &index.spec)) {
            Ok(graph) => Ok(Some(graph)),
            Err(e) if e.kind() == ErrorKind::Corruption => {
                index.rebuilt.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Inserts the vectors of a segment into a graph, from their records. One whose record is another by
    /// now, because a change is on its way, or is not there yet, is left out; gives which.
    fn insert_rows(
        &self,
        index: &VectorIndex,
        part: &Segment,
        graph: &mut HnswIndex,
        rows: &mut Vec<Row>,
    ) -> Result<Vec<u64>> {
        let all: Vec<Row> = part.live_rows().collect();
        let mut left_out = Vec::new();
        for some in all.chunks(1_024) {
            let (mut ids, mut floats) = (Vec::new(), Vec::new());
            for (id, seq) in some {
                let key = record::vector_key(index.id, VectorId::new(*id));
                let found = self.engine.get(CfId::VECTORS, &key, &ReadOptions::default())?;
                let Some(found) = found.filter(|found| found.seq == Seq(*seq)) else {
                    left_out.push(*id);
                    continue;
                };
                floats.extend(record::floats(*id, &found.value)?);
                ids.push(*id);
                rows.push((*id, *seq));
            }
            graph.insert_many(&ids, &floats, self.threads())?;
            if self.control.is_closed() || index.is_dropped() {
                return Err(Error::new(ErrorKind::Unavailable, "the index is being closed"));
            }
        }
        Ok(left_out)
    }
}

#[cfg(test)]
mod tests {
    use crate::base::ErrorKind;
    use crate::env::SimDisk;
    use crate::env::sim_disk::Crash;
    use crate::op::vector::{IndexKind, IndexSpec, Metric, Quantisation};
    use crate::shard::vectors::VectorLimits;
    use crate::shard::vectors::load::tests::INDEX;
    use crate::shard::vectors::next::IDLE_TURNS;
    use crate::shard::vectors::tests::{apply, create, shard_on};

    /// A replica that is begun again reads what its files do not know from the log, after them. What
    /// was made of segments meanwhile lacked the vectors whose records came while it was made, and
    /// nothing found them any more.
    #[test]
    fn what_comes_from_the_log_while_segments_are_made_one_is_found() {
        let forms = [
            (IndexKind::DiskHnsw, Quantisation::None),
            (IndexKind::Hnsw, Quantisation::Packed),
            (IndexKind::Hnsw, Quantisation::None),
        ];
        for (kind, quantisation) in forms {
            let (disk, ids) = (SimDisk::new(), 0..400);
            let limits = VectorLimits { segment_rows: 64, ..VectorLimits::default() };
            {
                let shard = shard_on(&disk, limits);
                let spec = IndexSpec { kind, quantisation, ..IndexSpec::new("v", 2, Metric::L2) };
                create(&shard, INDEX, 3, spec.with_defaults());
                shard.engine().flush_all().unwrap();
                apply(&shard, INDEX, 4, ids.clone());
                shard.vectors.settle();
                shard.close_vectors();
            }
            let shard = shard_on(&disk.crash(Crash::Process), limits);
            let index = shard.vectors.get("v").unwrap();
            let parts = index.read().segments.clone();
            assert!(parts.len() > 1 && index.read().len() > 300);
            let numbers: Vec<u64> = parts.iter().map(|part| part.number).collect();
            // The background waits for them, and says nothing of what its files do not know.
            for _ in 0..2 * IDLE_TURNS {
                shard.vectors.tend();
            }
            shard.vectors.settle();
            assert_eq!(index.read().segments.len(), parts.len());
            assert_eq!(shard.vectors.save(&index).unwrap_err().kind(), ErrorKind::Unavailable);
            // Whoever does not.
            let made = shard.vectors.make_of(&index, parts).unwrap();
            assert!(made.rows.len() < 300, "{}", made.rows.len());
            apply(&shard, INDEX, 4, ids.clone());
            shard.vectors.put_in_place(&index, &numbers, made).unwrap();
            let checked = index.verify(shard.engine()).unwrap();
            assert_eq!((checked.stored, checked.missing, checked.surplus), (400, 0, 0), "{kind:?}");
            let mut found = index.read().ids();
            found.sort_unstable();
            assert_eq!(found, ids.collect::<Vec<_>>(), "{kind:?}");
            assert!(!shard.vectors.lacks_records(&index) && shard.vectors.save(&index).is_ok());
        }
    }
}

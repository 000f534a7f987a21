//! Records that a search reads, and whether they are those that it searched.
//!
//! What an index has of a vector is of one record, named by its sequence number. Others write while a
//! search goes on: a record that is read may be a later one, of another vector and payload. Such a one
//! counts, with its own distance, if it matches; never half of one record and half of another.

use crate::base::{CfId, Result};
use crate::lsm::{Engine, ReadOptions};
use crate::op::vector::{Filter, StoredVector, VectorHit, VectorId, VectorsFound};
use crate::shard::vectors::compare::compare;
use crate::shard::vectors::form::metric;
use crate::shard::vectors::index::VectorIndex;
use crate::shard::vectors::limits::AnswerRoom;
use crate::shard::vectors::record;
use crate::shard::vectors::rows::Rows;
use crate::shard::vectors::search::{Looked, Plan, Searched};
use crate::shard::vectors::segment::Row;
use crate::vector::{FetchLive, FlatIndex, SearchRequest};
use bytes::Bytes;
use std::collections::HashMap;

/// What a search has read of records.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// How many.
    pub(super) fetched: u64,
    /// The sequence numbers of those that were written since the index was looked at, and match.
    pub(super) newer: HashMap<u64, u64>,
    /// How many are gone since, or match no more.
    pub(super) lost: usize,
}

impl VectorIndex {
    /// The record of a row, or a later one of its vector if that matches the filter as well.
    pub(super) fn read_record(
        &self,
        engine: &Engine,
        (id, seq): Row,
        filter: Option<&Filter>,
        reads: &mut Reads,
    ) -> Result<Option<Bytes>> {
        reads.fetched += 1;
        let key = record::vector_key(self.id, VectorId::new(id));
        let found = engine.get(CfId::VECTORS, &key, &ReadOptions::default())?;
        let is_same = found.as_ref().is_some_and(|found| found.seq.0 == seq);
        let takes = |value: &[u8]| filter.is_none_or(|filter| filter.takes(record::payload(value)));
        let Some(found) = found.filter(|found| is_same || takes(&found.value)) else {
            reads.lost += 1;
            return Ok(None);
        };
        if !is_same {
            reads.newer.insert(id, found.seq.0);
        }
        Ok(Some(found.value))
    }

    /// Adds what stands apart, as records have it by now.
    pub(super) fn compare_apart(
        &self,
        engine: &Engine,
        plan: &Plan<'_>,
        looked: &mut Looked,
    ) -> Result<()> {
        let request = SearchRequest {
            distance_max: plan.distance_max,
            exact: true,
            ..SearchRequest::new(&plan.query, looked.k)
        };
        let filter = plan.search.filter.as_ref();
        for mut apart in std::mem::take(&mut looked.apart) {
            let _held = self.learning(apart.rows.len() * size_of::<Row>());
            apart.rows.sort_unstable();
            let reads = &mut looked.whole.reads;
            let mut fetch = |wanted: &[Row], show: &mut dyn FnMut(u64, &[f32])| {
                for row in wanted {
                    if let Some(value) = self.read_record(engine, *row, filter, reads)? {
                        show(row.0, &record::floats(row.0, &value)?);
                    }
                }
                Ok(())
            };
            let metric = metric(self.spec.metric);
            let answer = compare(&request, metric, &mut *apart.rows(), &mut fetch)?;
            looked.whole.add(answer);
            looked.whole.note_records(|id| apart.seq_of(id));
        }
        Ok(())
    }

    /// Adds what is wanted of records to the first `most` hits; how many it had to leave out, because
    /// their records are gone or are not those that were searched. The last time such a one is told
    /// as it is now, if it belongs to the answer still.
    pub(super) fn add_stored(
        &self,
        engine: &Engine,
        plan: &Plan<'_>,
        (searched, is_last): (&Searched, bool),
        most: usize,
        found: &mut VectorsFound,
    ) -> Result<usize> {
        let (with_payload, with_vector) = (plan.search.with_payload, plan.search.with_vector);
        if !with_payload && !with_vector {
            found.hits.truncate(most);
            return Ok(0);
        }
        let (mut room, mut hits) = (AnswerRoom::default(), Vec::new());
        let (mut lost, mut is_moved) = (0, false);
        for mut hit in found.hits.drain(..) {
            if hits.len() == most {
                break;
            }
            found.cost.fetched += 1;
            let Some((stored, seq)) = self.stored_at(engine, hit.id)? else {
                lost += 1;
                continue;
            };
            if searched.get(&hit.id) != Some(&seq) {
                if !is_last || !self.judge(plan, &stored, &mut hit)? {
                    lost += 1;
                    continue;
                }
                is_moved = true;
            }
            room.take(&stored)?;
            hit.payload = (with_payload && !stored.payload.is_empty()).then_some(stored.payload);
            hit.vector = with_vector.then_some(stored.vector);
            hits.push(hit);
        }
        if is_moved && plan.search.text.is_none() {
            hits.sort_by(VectorHit::order);
        }
        found.hits = hits;
        Ok(lost)
    }

    /// Gives a hit the distance of its record as it is now; false if that does not belong to the
    /// answer.
    fn judge(&self, plan: &Plan<'_>, stored: &StoredVector, hit: &mut VectorHit) -> Result<bool> {
        if plan.search.filter.as_ref().is_some_and(|filter| !filter.takes(&stored.payload)) {
            return Ok(false);
        }
        let mut flat = FlatIndex::new(self.spec.dim as usize, metric(self.spec.metric))?;
        flat.insert(hit.id, stored.vector.to_vec())?;
        let request =
            SearchRequest { distance_max: plan.distance_max, ..SearchRequest::new(&plan.query, 1) };
        let answer = flat.answer(&request)?;
        let Some(now) = answer.hits.first() else { return Ok(false) };
        hit.distance = now.distance;
        Ok(true)
    }

    /// A vector as it is stored.
    pub(super) fn stored(&self, engine: &Engine, id: u64) -> Result<Option<StoredVector>> {
        Ok(self.stored_at(engine, id)?.map(|(stored, _)| stored))
    }

    /// A vector as it is stored, and the sequence number of its record.
    fn stored_at(&self, engine: &Engine, id: u64) -> Result<Option<(StoredVector, u64)>> {
        let key = record::vector_key(self.id, VectorId::new(id));
        let found = engine.get(CfId::VECTORS, &key, &ReadOptions::default())?;
        found.map(|found| Ok((record::decode(id, &found.value)?, found.seq.0))).transpose()
    }

    /// Shows the vectors of those ids that have a row, if `rows` are given, as their records have
    /// them. Of one whose record is gone while its row is not yet: none, or with `stand_in` any, for
    /// whoever rewrites postings.
    /// It may be there again after a crash, if the log was not durable, and must be in a posting then.
    pub(super) fn fetch_live<'a>(
        &'a self,
        engine: &'a Engine,
        rows: Option<&'a Rows>,
        stand_in: bool,
    ) -> Box<FetchLive<'a>> {
        Box::new(move |ids, show| {
            for id in ids.iter().filter(|id| rows.is_none_or(|rows| rows.has(**id))) {
                let key = record::vector_key(self.id, VectorId::new(*id));
                let found = engine.get(CfId::VECTORS, &key, &ReadOptions::default())?;
                match found {
                    Some(found) => show(*id, &record::floats(*id, &found.value)?),
                    None if stand_in => show(*id, &vec![1.0; self.spec.dim as usize]),
                    None => {}
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{IndexId, LogIndex, Seq};
    use crate::env::SimDisk;
    use crate::lsm::batch::WriteBatch;
    use crate::op::vector::{Floats, IndexKind, IndexSpec, Metric, Quantisation, VectorSearch};
    use crate::shard::Shard;
    use crate::shard::vectors::VectorLimits;
    use crate::shard::vectors::search::matching;
    use crate::shard::vectors::tests::{apply, create, shard_on};
    use std::path::Path;
    use std::sync::Arc;

    const ID: IndexId = IndexId(3);

    type Kind = (IndexKind, Quantisation);

    /// An index with 512 vectors, (0, 1) to (511, 1).
    fn shard_with((kind, quantisation): Kind) -> (Arc<Shard>, SimDisk) {
        let limits = VectorLimits { segment_rows: 64, ..VectorLimits::default() };
        let disk = SimDisk::new();
        let shard = shard_on(&disk, limits);
        let spec = IndexSpec { kind, quantisation, ..IndexSpec::new("v", 2, Metric::L2) };
        create(&shard, ID, 3, spec.with_defaults());
        apply(&shard, ID, 4, 0..512);
        shard.vectors.settle();
        (shard, disk)
    }

    /// Of the nearest one goes, one goes far away, and one does not match any more.
    fn change(shard: &Arc<Shard>) {
        let mut batch = WriteBatch::new();
        let key = |vector| record::vector_key(ID, VectorId::new(vector));
        let value = |x: f32, payload: &[u8]| record::encode(&Floats::of(&[x, 1.0]), payload);
        batch.delete_cf(CfId::VECTORS, &key(0));
        batch.put_cf(CfId::VECTORS, &key(1), &value(900.0, b""));
        batch.put_cf(CfId::VECTORS, &key(2), &value(0.5, br#"{"gone": true}"#));
        batch.place(Seq(9_000), 1);
        shard.apply_entry(LogIndex(9), &[batch.bytes().to_vec()]).unwrap();
    }

    fn searches(base: &VectorSearch) -> [VectorSearch; 2] {
        let filter = Filter::parse(r#"{"not": {"gone": true}}"#).unwrap();
        [base.clone(), VectorSearch { filter: Some(filter), ..base.clone() }]
    }

    fn ids(found: &VectorsFound) -> Vec<u64> {
        found.hits.iter().map(|hit| hit.id).collect()
    }

    /// Whoever asked an index on disk to be certain held up its writers for a read of every record.
    #[test]
    fn an_exact_search_of_records_lets_others_write_meanwhile() {
        let kinds = [
            (IndexKind::DiskHnsw, Quantisation::None),
            (IndexKind::Hnsw, Quantisation::Compact4),
            (IndexKind::Spfresh, Quantisation::None),
        ];
        let base = VectorSearch { exact: true, ..VectorSearch::new("v", &[0.0, 1.0], 4) };
        let all = kinds.into_iter().flat_map(|kind| searches(&base).map(|search| (kind, search)));
        for (kind, search) in all {
            let (shard, _) = shard_with(kind);
            let (index, engine) = (shard.vectors.get("v").unwrap(), shard.engine());
            index.index_search(engine, &search).unwrap();
            let plan = index.plan(engine, &search).unwrap();
            let state = index.read();
            let all = matching(&state, &search).unwrap().unwrap();
            let mut looked = index.run(engine, &state, &plan, all.as_ref()).unwrap();
            let apart = looked.apart.iter().map(|apart| apart.rows().count()).sum::<usize>();
            assert!(apart > 300, "{apart}");
            drop(all);
            drop(state);
            change(&shard);
            assert_eq!(index.read().seq_of(1), Some(9_001));
            index.compare_apart(engine, &plan, &mut looked).unwrap();
            let (found, _) = looked.found(&plan);
            let expected = if search.filter.is_some() { [3, 4, 5, 6] } else { [2, 3, 4, 5] };
            assert_eq!(ids(&found), expected);
        }
    }

    /// What did not match any more was found by its new vector, and what was deleted took the place of
    /// others.
    #[test]
    fn records_written_while_an_index_is_looked_at_count_if_they_match() {
        for kind in
            [(IndexKind::Hnsw, Quantisation::Compact4), (IndexKind::Spfresh, Quantisation::None)]
        {
            for search in searches(&VectorSearch::new("v", &[0.0, 1.0], 4)) {
                let search = VectorSearch { with_payload: true, ef: 64, ..search };
                let (shard, _) = shard_with(kind);
                let (index, engine) = (shard.vectors.get("v").unwrap(), shard.engine());
                index.index_search(engine, &search).unwrap();
                let plan = index.plan(engine, &search).unwrap();
                let state = index.read();
                let all = matching(&state, &search).unwrap().unwrap();
                change(&shard);
                let looked = index.run(engine, &state, &plan, all.as_ref()).unwrap();
                let (mut found, searched) = looked.found(&plan);
                let expected = if search.filter.is_some() { [3, 4, 5, 6] } else { [2, 3, 4, 5] };
                assert_eq!(ids(&found), expected, "{kind:?}");
                // What was read is what was searched.
                let lost = index.add_stored(engine, &plan, (&searched, false), 4, &mut found);
                assert_eq!(lost.unwrap(), 0, "{kind:?}");
            }
        }
    }

    /// A hit had the distance of one record, and the payload and the vector of the next, which the
    /// filter did not match.
    #[test]
    fn a_hit_is_of_one_record_or_is_none() {
        for search in searches(&VectorSearch::new("v", &[0.0, 1.0], 4)) {
            let search = VectorSearch { with_payload: true, with_vector: true, ..search };
            let (shard, _) = shard_with((IndexKind::Hnsw, Quantisation::None));
            let (index, engine) = (shard.vectors.get("v").unwrap(), shard.engine());
            index.index_search(engine, &search).unwrap();
            let plan = index.plan(engine, &search).unwrap();
            let (found, searched) = index.find(engine, &plan).unwrap();
            assert_eq!(ids(&found), [0, 1, 2, 3]);
            change(&shard);
            let stored = |is_last| {
                let (searched, mut found) = ((&searched, is_last), found.clone());
                let lost = index.add_stored(engine, &plan, searched, 4, &mut found).unwrap();
                (lost, found.hits)
            };
            let (lost, hits) = stored(false);
            assert_eq!((lost, hits.len(), hits[0].id), (3, 1, 3));
            // Those that are there still are told as they are.
            let told = |hit: &VectorHit| (hit.id, hit.distance, hit.vector.clone().unwrap());
            let told: Vec<_> = stored(true).1.iter().map(told).collect();
            let of = |id, x: f32| (id, x * x, Floats::of(&[x, 1.0]));
            let expected = match search.filter {
                None => vec![of(2, 0.5), of(3, 3.0), of(1, 900.0)],
                Some(_) => vec![of(3, 3.0), of(1, 900.0)],
            };
            assert_eq!(told, expected);
            let whole = index.search(engine, &search, &*shard.vectors.clock).unwrap();
            assert_eq!(whole.hits.len(), 4);
        }
    }

    /// The search that met damaged postings read every record while others waited to write.
    #[test]
    fn damaged_postings_are_compared_with_once_the_index_is_let_go() {
        let (shard, disk) = shard_with((IndexKind::Spfresh, Quantisation::None));
        let (index, engine) = (shard.vectors.get("v").unwrap(), shard.engine());
        let number = index.read().posted.as_ref().unwrap().finder.as_ref().unwrap().pages.number;
        let path = crate::shard::vectors::pages::path(Path::new(&index.dir), number);
        (0..1_000).for_each(|at| disk.damage(&path, at * 512, 1).unwrap());
        let search = VectorSearch::new("v", &[0.0, 1.0], 4);
        let plan = index.plan(engine, &search).unwrap();
        let state = index.read();
        let mut looked = index.run(engine, &state, &plan, None).unwrap();
        let apart = looked.apart.iter().map(|apart| apart.rows().count()).sum::<usize>();
        assert!(apart > 300, "{apart}");
        drop(state);
        index.compare_apart(engine, &plan, &mut looked).unwrap();
        assert_eq!(ids(&looked.found(&plan).0), [0, 1, 2, 3]);
    }
}

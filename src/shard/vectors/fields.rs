//! Indexing the fields of payloads when a search first asks for them: those that filters look at,
//! and those whose words are looked for.
//!
//! A field is followed at every change from before the walk that indexes it, and asked only behind
//! it. The walk takes records in slices, so that others search and write meanwhile.

use crate::base::{Error, ErrorKind, Result};
use crate::lsm::Engine;
use crate::op::vector::Filter;
use crate::shard::vectors::index::{State, VectorIndex, lock};
use crate::shard::vectors::record;
use crate::shard::vectors::slices::Told;
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// Fields of an index that filters may ask for: each is followed at every change from then on. One
/// more takes the place of one that was not asked for longest.
const FIELDS_MAX: usize = 64;
/// Fields whose words are indexed: each takes about as much memory as its texts.
const TEXTS_MAX: usize = 8;

impl VectorIndex {
    /// Sees to it that all fields of a filter are indexed. The first time costs a walk of all
    /// records.
    ///
    /// # Errors
    /// `Refused` for too many fields at once, or where they have no room; what reading records gives.
    pub(super) fn index_fields(&self, engine: &Engine, filter: &Filter) -> Result<()> {
        if self.read().attributes.can_answer(filter) {
            return Ok(());
        }
        // Whoever comes second finds it done.
        let _one = lock(&self.indexing);
        let missing = {
            let mut state = self.write();
            if state.attributes.can_answer(filter) {
                return Ok(());
            }
            let mut fields = HashSet::new();
            filter.visit_fields(&mut |field| _ = fields.insert(field));
            if fields.len() > FIELDS_MAX {
                return Err(too_many(fields.len()));
            }
            let missing = state.attributes.missing(filter);
            if state.attributes.count() + missing.len() > FIELDS_MAX {
                state.attributes.forget(filter, FIELDS_MAX.saturating_sub(missing.len()));
            }
            state.attributes.begin(&missing);
            missing
        };
        let walked = self.tell_all(engine, &mut |state, told| {
            state.attributes.set_fields(told.id, &told.value, &missing);
        });
        let mut state = self.write();
        state.attributes.end(&missing, walked.is_ok());
        self.measure(&state);
        walked
    }

    /// Sees to it that the words of a field are indexed. The first time costs a walk of all records.
    ///
    /// # Errors
    /// As [`VectorIndex::index_fields`].
    pub(super) fn index_text(&self, engine: &Engine, field: &str) -> Result<()> {
        if self.read().texts.has(field) {
            return Ok(());
        }
        let _one = lock(&self.indexing);
        {
            let mut state = self.write();
            if state.texts.has(field) {
                return Ok(());
            }
            if state.texts.count() >= TEXTS_MAX {
                state.texts.forget(TEXTS_MAX - 1);
            }
            state.texts.begin(field);
        }
        let walked = self.tell_all(engine, &mut |state, told| {
            state.texts.set_field(told.id, &told.value, field);
        });
        let mut state = self.write();
        state.texts.end(field, walked.is_ok());
        self.measure(&state);
        walked
    }

    /// Tells of all payloads. What changed since it began is told as what it is now by those who
    /// take the change in.
    fn tell_all(&self, engine: &Engine, tell: &mut dyn FnMut(&mut State, &Told)) -> Result<()> {
        self.in_slices(engine, record::payload, &mut |slice| {
            let mut state = self.write();
            for told in &slice {
                // Another by now: that one was told, or is about to be.
                if state.seq_of(told.id) == Some(told.seq) {
                    tell(&mut state, told);
                }
            }
            self.measure(&state);
            self.check_room_for_fields()
        })
    }

    fn check_room_for_fields(&self) -> Result<()> {
        let (bytes, most) = (self.lasting_bytes(), self.bytes_max.load(Ordering::Relaxed));
        if bytes <= most {
            return Ok(());
        }
        let message = format!(
            "index {} takes {bytes} bytes of memory before all of what is asked for is indexed, and \
             may take {most}: raise the memory budget, or filter by fields of shorter values",
            self.spec.name
        );
        Err(Error::new(ErrorKind::Refused, message))
    }
}

fn too_many(count: usize) -> Error {
    let message = format!(
        "the filter asks for {count} fields; at most {FIELDS_MAX} of an index are indexed at a time: put \
         what is asked for into fewer"
    );
    Error::new(ErrorKind::Refused, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{CfId, IndexId, LogIndex, Seq};
    use crate::env::SimDisk;
    use crate::lsm::batch::WriteBatch;
    use crate::op::Request;
    use crate::op::vector::{
        Floats, IndexSpec, Metric, TextQuery, VectorCall, VectorId, VectorSearch,
    };
    use crate::shard::vectors::VectorLimits;
    use crate::shard::vectors::tests::{create, shard_on};

    /// One search with a filter on long texts took as much memory as there was of them, and more, and
    /// all writes were refused from then on.
    #[test]
    fn fields_that_have_no_room_are_refused_and_forgotten() {
        let limits = VectorLimits { bytes_max: 2 << 20, ..VectorLimits::default() };
        let (shard, id) = (shard_on(&SimDisk::new(), limits), IndexId(3));
        create(&shard, id, 3, IndexSpec::new("v", 2, Metric::L2).with_defaults());
        let mut batch = WriteBatch::new();
        for vector in 0..400_u64 {
            let words: String = (0..1_000).map(|n| format!("{vector}-{n} ")).collect();
            let payload = format!(r#"{{"kind": "k{}", "body": "{words}"}}"#, vector % 4);
            let value = record::encode(&Floats::of(&[vector as f32, 1.0]), payload.as_bytes());
            batch.put_cf(CfId::VECTORS, &record::vector_key(id, VectorId::new(vector)), &value);
        }
        batch.place(Seq(9_000), 1);
        shard.apply_entry(LogIndex(9), &[batch.bytes().to_vec()]).unwrap();
        shard.vectors.settle();
        let index = shard.vectors.get("v").unwrap();
        let before = index.lasting_bytes();
        assert!(before < 1 << 20);
        let ask = |filter: Option<&str>, text: Option<TextQuery>| {
            let filter = filter.map(|filter| Filter::parse(filter).unwrap());
            let search = VectorSearch { filter, text, ..VectorSearch::new("v", &[0.0, 1.0], 3) };
            shard.execute(Request::Vector(Box::new(VectorCall::Search(search))), 1)
        };
        let words = TextQuery { field: "body".into(), text: "7".into(), is_part: false };
        for (filter, text) in [(Some(r#"{"body": "x"}"#), None), (None, Some(words))] {
            let refused = ask(filter, text).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
            assert!(index.lasting_bytes() < 1 << 20, "{} bytes", index.lasting_bytes());
        }
        assert!(ask(Some(r#"{"kind": "k1"}"#), None).is_ok());
        // One that asks for too many has none of the others forgotten.
        let fields: Vec<String> = (0..65).map(|n| format!("\"f{n}\": 1")).collect();
        let refused = ask(Some(&format!("{{{}}}", fields.join(", "))), None).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
        let kind = Filter::parse(r#"{"kind": "k1"}"#).unwrap();
        assert!(index.read().attributes.can_answer(&kind));
    }

    /// Others' searches had a field forgotten between its indexing and the search that asked for it,
    /// which then went by vectors alone.
    #[test]
    fn words_that_were_forgotten_meanwhile_are_looked_for_all_the_same() {
        let (shard, id) = (shard_on(&SimDisk::new(), VectorLimits::default()), IndexId(3));
        create(&shard, id, 3, IndexSpec::new("v", 2, Metric::L2).with_defaults());
        let mut batch = WriteBatch::new();
        let value = record::encode(&Floats::of(&[1.0, 1.0]), br#"{"body": "a word"}"#);
        batch.put_cf(CfId::VECTORS, &record::vector_key(id, VectorId::new(7)), &value);
        batch.place(Seq(9_000), 1);
        shard.apply_entry(LogIndex(9), &[batch.bytes().to_vec()]).unwrap();
        let (index, engine) = (shard.vectors.get("v").unwrap(), shard.engine());
        let text = TextQuery { field: "body".into(), text: "word".into(), is_part: true };
        let search = VectorSearch { text: Some(text), ..VectorSearch::new("v", &[0.0, 1.0], 3) };
        let plan = index.plan(engine, &search).unwrap();
        index.index_search(engine, &search).unwrap();
        index.write().texts.forget(0);
        let (found, _) = index.find(engine, &plan).unwrap();
        assert_eq!(found.text.unwrap().having, [1]);
    }
}

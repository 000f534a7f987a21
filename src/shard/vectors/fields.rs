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

/// Fields of an index that filters may ask for: each is followed at every change from then on.
const FIELDS_MAX: usize = 64;
/// Fields whose words are indexed: each takes about as much memory as its texts.
const TEXTS_MAX: usize = 8;

impl VectorIndex {
    /// Sees to it that all fields of a filter are indexed. The first time costs a walk of all
    /// records.
    ///
    /// # Errors
    /// `Refused` for too many fields; what reading records gives.
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
            let missing = state.attributes.missing(filter);
            if state.attributes.count() + missing.len() > FIELDS_MAX {
                state.attributes.drop_empty(filter);
            }
            let count = state.attributes.count() + missing.len();
            if count > FIELDS_MAX {
                return Err(too_many("filters have asked for", count, FIELDS_MAX));
            }
            state.attributes.begin(&missing);
            missing
        };
        let walked = self.tell_all(engine, &mut |state, told| {
            state.attributes.set_fields(told.id, &told.value, &missing);
        });
        self.write().attributes.end(&missing, walked.is_ok());
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
                state.texts.drop_empty();
            }
            let count = state.texts.count() + 1;
            if count > TEXTS_MAX {
                return Err(too_many("texts were looked for in", count, TEXTS_MAX));
            }
            state.texts.begin(field);
        }
        let walked = self.tell_all(engine, &mut |state, told| {
            state.texts.set_field(told.id, &told.value, field);
        });
        self.write().texts.end(field, walked.is_ok());
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
            Ok(())
        })
    }
}

fn too_many(what: &str, count: usize, most: usize) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!(
            "{what} {count} fields of this index, which may have {most} such; put what is asked for \
             into fewer fields"
        ),
    )
}

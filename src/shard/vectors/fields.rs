//! Indexing the fields of payloads when a filter first asks for them.

use crate::base::{CfId, Error, ErrorKind, Result};
use crate::lsm::{Engine, IterOptions};
use crate::op::vector::Filter;
use crate::shard::vectors::attributes::Attributes;
use crate::shard::vectors::index::VectorIndex;
use crate::shard::vectors::record::{self, Key};

/// Fields of an index that filters may ask for: each is followed at every change from then on.
const FIELDS_MAX: usize = 64;

impl VectorIndex {
    /// Sees to it that all fields of a filter are indexed. The first time costs a walk of all
    /// records, during which this index is not searched.
    pub(super) fn index_fields(&self, engine: &Engine, filter: &Filter) -> Result<()> {
        {
            let state = self.read();
            if state.attributes.has_begun() && state.attributes.missing(filter).is_empty() {
                return Ok(());
            }
        }
        let mut state = self.write();
        let missing = state.attributes.missing(filter);
        if state.attributes.has_begun() && missing.is_empty() {
            return Ok(());
        }
        if state.attributes.count() + missing.len() > FIELDS_MAX {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "filters have asked for {} fields of this index and may ask for {FIELDS_MAX}; put \
                     what is filtered by into fewer fields",
                    state.attributes.count() + missing.len()
                ),
            ));
        }
        // What is written meanwhile is queued, and is taken in after this: set twice, it is the
        // same.
        let options = IterOptions {
            prefix: record::prefix(self.id).to_vec(),
            fill_cache: false,
            ..IterOptions::default()
        };
        let attributes = &mut state.attributes;
        let walk = || -> Result<()> {
            let mut iter = engine.iter(CfId::VECTORS, options)?;
            attributes.begin(&missing);
            iter.first()?;
            while iter.valid() {
                if let Some(Key::Vector(_, id)) = record::parse_key(iter.key()) {
                    attributes.set_fields(id, record::payload(iter.value()), &missing);
                }
                iter.next()?;
            }
            Ok(())
        };
        let walked = walk();
        if walked.is_err() {
            // Half of the fields would be taken for all of them.
            state.attributes = Attributes::default();
        }
        self.measure(&state);
        walked
    }
}

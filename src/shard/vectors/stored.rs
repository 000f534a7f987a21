//! Vectors and indexes as an engine's records have them, for whoever reads an engine without a shard.

use crate::base::{CfId, IndexId, Result};
use crate::lsm::{Engine, IterOptions};
use crate::op::vector::{NamedIndex, PAGE_BYTES_MAX, StoredVector, VectorId};
use crate::shard::vectors::record::{self, Key};
use bytes::Bytes;
use std::ops::Bound;

/// The indexes of an engine, by their numbers.
///
/// # Errors
/// `Corruption` of a record; `Unsupported` for an index that a newer version made.
pub fn stored_indexes(engine: &Engine) -> Result<Vec<NamedIndex>> {
    let options = IterOptions { prefix: vec![0; 8], ..IterOptions::default() };
    let mut iter = engine.iter(CfId::VECTORS, options)?;
    let mut all = Vec::new();
    iter.first()?;
    while iter.valid() {
        if let Some(Key::Index(id)) = record::parse_key(iter.key()) {
            all.push(NamedIndex { id, spec: record::decode_index(iter.value())? });
        }
        iter.next()?;
    }
    Ok(all)
}

/// The vectors of an index with ids above `after`, in the order of their ids: `limit` of them, or as
/// many as make 8 MiB; and the id behind which to go on, if there are more.
///
/// # Errors
/// `Corruption` of a record.
pub fn stored_vectors(
    engine: &Engine,
    index: IndexId,
    after: Option<u64>,
    limit: usize,
) -> Result<(Vec<StoredVector>, Option<u64>)> {
    let lower = after.map_or(Bound::Unbounded, |after| {
        Bound::Excluded(record::vector_key(index, VectorId::new(after)).to_vec())
    });
    let prefix = record::prefix(index).to_vec();
    let mut iter =
        engine.iter(CfId::VECTORS, IterOptions { lower, prefix, ..IterOptions::default() })?;
    let (mut vectors, mut bytes, mut next) = (Vec::<StoredVector>::new(), 0, None);
    iter.first()?;
    while iter.valid() {
        if vectors.len() >= limit || bytes >= PAGE_BYTES_MAX {
            next = vectors.last().map(|last| last.id);
            break;
        }
        if let Some(Key::Vector(_, id)) = record::parse_key(iter.key()) {
            bytes += iter.value().len();
            vectors.push(record::decode(id, &Bytes::copy_from_slice(iter.value()))?);
        }
        iter.next()?;
    }
    Ok((vectors, next))
}

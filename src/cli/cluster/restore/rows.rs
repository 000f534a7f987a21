//! The rows of a backup: what its tables hold for whoever reads keys.

use crate::base::escape::escape;
use crate::base::{CfId, Error, ErrorKind, IndexId, Result};
use crate::cli::cluster::backup::document::{Document, ShardFact};
use crate::cli::cluster::backup::repository::Repository;
use crate::cli::cluster::backup::shelf::Shelf;
use crate::env::Pool;
use crate::lsm::options::LEVELS_MAX;
use crate::lsm::{BlockCache, Engine, EngineOptions, Iter, IterOptions};
use crate::op::route::{SlotRange, slot_of};
use crate::op::vector::{NamedIndex, StoredVector, VectorId};
use crate::shard::{stored_indexes, stored_vectors};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of the cache for blocks.
const CACHE_BYTES: u64 = 32 << 20;

/// A shard of a backup, open.
pub struct ShardRows {
    engine: Arc<Engine>,
    slots: SlotRange,
    shard: u64,
}

/// A key and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// When it expires, in milliseconds since 1970.
    pub expire_at_ms: Option<u64>,
}

impl ShardRows {
    /// Opens a shard of a backup.
    ///
    /// # Errors
    /// `Corruption` if its tables are damaged.
    pub fn open(repository: &Repository, shard: &ShardFact) -> Result<ShardRows> {
        let shelf = Shelf::new(repository, shard);
        let options = EngineOptions {
            read_only: true,
            background: false,
            levels: LEVELS_MAX,
            ..EngineOptions::new(shelf.dir())
        };
        let cache = BlockCache::new(CACHE_BYTES);
        let engine = Engine::open(Arc::new(shelf), Pool::manual(), cache, options)
            .map_err(|error| error.context(format!("shard {} of the backup", shard.shard)))?;
        let slots = SlotRange { first: shard.first, last: shard.last };
        Ok(ShardRows { engine, slots, shard: shard.shard })
    }

    /// Its families that are not the system's: id and name.
    pub fn families(&self) -> Vec<(CfId, String)> {
        let families = self.engine.list_cfs().into_iter().filter(|info| !info.id.is_system());
        families.map(|info| (info.id, info.name)).collect()
    }

    /// Its indexes of vectors.
    ///
    /// # Errors
    /// `Corruption`.
    pub fn vector_indexes(&self) -> Result<Vec<NamedIndex>> {
        stored_indexes(&self.engine)
    }

    /// Vectors of an index behind an id, in the order of their ids, and the id behind which to go on.
    ///
    /// # Errors
    /// `Corruption`.
    pub fn vectors(
        &self,
        index: IndexId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<StoredVector>, Option<u64>)> {
        let (mut vectors, next) = stored_vectors(&self.engine, index, after, limit)?;
        // A shard that was split may hold some still that the other half has.
        let is_ours =
            |v: &StoredVector| self.slots.contains(slot_of(VectorId::new(v.id).as_bytes()));
        vectors.retain(is_ours);
        Ok((vectors, next))
    }

    /// About how many keys a family has.
    pub fn count(&self, cf: CfId) -> u64 {
        self.engine.counts(cf).map_or(0, |counts| counts.keys)
    }

    /// The rows of a family that have not expired at `now_ms`, by key.
    ///
    /// # Errors
    /// `Corruption`.
    pub fn rows(&self, cf: CfId, now_ms: u64) -> Result<Rows<'_>> {
        let options = IterOptions { now_ms, fill_cache: false, ..IterOptions::default() };
        let mut iter = self.engine.iter(cf, options)?;
        iter.first()?;
        Ok(Rows { of: self, iter })
    }
}

/// A walk over rows.
pub struct Rows<'a> {
    of: &'a ShardRows,
    iter: Iter,
}

impl Rows<'_> {
    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// `Corruption`; `Unsupported` for a value that is more than bytes.
    #[expect(clippy::should_implement_trait, reason = "errors end the walk by `?`")]
    pub fn next(&mut self) -> Result<Option<Row>> {
        loop {
            if !self.iter.valid() {
                return Ok(None);
            }
            // A shard that was split may hold keys still that the other half has.
            if !self.of.slots.contains(slot_of(self.iter.key())) {
                self.iter.next()?;
                continue;
            }
            let meta = self.iter.meta();
            if meta.tag != 0 {
                let message = format!(
                    "the key \"{}\" of shard {} holds a value of type {}, which this version \
                     cannot restore",
                    escape(self.iter.key()),
                    self.of.shard,
                    meta.tag
                );
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            let row = Row {
                key: Bytes::copy_from_slice(self.iter.key()),
                value: Bytes::copy_from_slice(self.iter.value()),
                expire_at_ms: meta.expire_at_ms,
            };
            self.iter.next()?;
            return Ok(Some(row));
        }
    }
}

/// The families of a backup: those of its catalog, and those its shards hold, by their ids there.
///
/// # Errors
/// `Corruption` if two shards call one family differently, or cannot be read.
pub fn families(repository: &Repository, document: &Document) -> Result<BTreeMap<CfId, String>> {
    let mut all = BTreeMap::from([(CfId::DEFAULT, "default".to_string())]);
    all.extend(document.families.iter().map(|family| (CfId(family.id), family.name.clone())));
    for shard in &document.shards {
        for (cf, name) in ShardRows::open(repository, shard)?.families() {
            let known = all.entry(cf).or_insert_with(|| name.clone());
            if *known != name {
                let message =
                    format!("family {cf} is called {known} and, in shard {}, {name}", shard.shard);
                return Err(Error::new(ErrorKind::Corruption, message));
            }
        }
    }
    Ok(all)
}

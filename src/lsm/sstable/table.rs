//! A table that is open to be read.

use super::block::{Block, Found};
use super::filter::{Filter, hash};
use super::format::{Footer, Handle, read_block, read_block_of};
use super::index::Index;
use super::properties::Properties;
use super::read_ahead::ReadAhead;
use super::table_cursor::TableCursor;
use crate::base::codec::Reader;
use crate::base::{Error, Result, Seq};
use crate::env::{Disk, File};
use crate::lsm::cache::{BlockCache, TableBlocks};
use crate::lsm::key::{Kind, TRAILER_BYTES, trailer, user_key};
use crate::lsm::stored::Stored;
use crate::lsm::tombstone::{RangeTombstone, TombstoneSet};
use arc_swap::Guard;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open table: index, filter and range deletes in memory, data blocks by the cache.
pub struct Table {
    file: Arc<dyn File>,
    path: PathBuf,
    file_number: u64,
    file_bytes: u64,
    cached: Arc<TableBlocks>,
    parts: Parts,
}

/// All of a table but its data blocks.
struct Parts {
    properties: Properties,
    index: Index,
    filter: Option<Filter>,
    range_deletes: Arc<TombstoneSet>,
}

impl Parts {
    fn read(file: &dyn File, path: &Path, file_bytes: u64) -> Result<Parts> {
        let footer = Footer::read(file, path, file_bytes)?;
        let part = |handle: Handle| read_block(file, path, handle);
        Ok(Parts {
            properties: read_properties(&part(footer.properties)?, path, footer.properties)?,
            index: read_index(&part(footer.index)?, path, &footer)?,
            filter: match footer.filter.is_none() {
                true => None,
                false => Some(read_filter(&part(footer.filter)?, path, footer.filter)?),
            },
            range_deletes: match footer.range_deletes.is_none() {
                true => Arc::default(),
                false => {
                    let bytes = part(footer.range_deletes)?;
                    let all = read_range_deletes(&bytes, path, footer.range_deletes)?;
                    Arc::new(TombstoneSet::new(all))
                }
            },
        })
    }
}

pub(super) fn read_properties(bytes: &[u8], path: &Path, at: Handle) -> Result<Properties> {
    Properties::read(bytes).ok_or_else(|| malformed(path, at.offset, "a properties block"))
}

pub(super) fn read_index(bytes: &[u8], path: &Path, footer: &Footer) -> Result<Index> {
    let offset = footer.index.offset;
    let index = Index::read(bytes).ok_or_else(|| malformed(path, offset, "an index block"))?;
    let others = [footer.filter, footer.range_deletes, footer.index];
    let data_end = others.iter().filter(|h| !h.is_none()).map(|h| h.offset).min();
    if Some(index.data_end()) != data_end {
        let expected = format!("data blocks up to offset {}", data_end.unwrap_or(0));
        return Err(Error::corruption(path, offset, expected, index.data_end().to_string()));
    }
    Ok(index)
}

pub(super) fn read_filter(bytes: &[u8], path: &Path, at: Handle) -> Result<Filter> {
    Filter::read(bytes).ok_or_else(|| malformed(path, at.offset, "a filter block"))
}

pub(super) fn read_range_deletes(
    bytes: &[u8],
    path: &Path,
    at: Handle,
) -> Result<Vec<RangeTombstone>> {
    let read = || {
        let mut r = Reader::new(bytes);
        let mut all = Vec::new();
        for _ in 0..r.varint()? {
            let (start, end) = (r.bytes()?, r.bytes()?);
            let seq = Seq(r.varint()?);
            if seq > Seq::MAX {
                return None;
            }
            all.push(RangeTombstone::new(start, end, seq));
        }
        r.is_empty().then_some(all)
    };
    read().ok_or_else(|| malformed(path, at.offset, "a block of range deletes"))
}

pub(super) fn malformed(path: &Path, offset: u64, what: &str) -> Error {
    Error::corruption(path, offset, what, "malformed bytes under a right checksum")
}

impl Table {
    /// Opens the table at `path` and reads all but its data blocks. `file_number` is what the
    /// owner calls it.
    ///
    /// # Errors
    /// `Corruption` if any part that is read is damaged; `Unsupported` if a newer version wrote
    /// it; what the disk answers.
    pub fn open(
        disk: &dyn Disk,
        path: &Path,
        file_number: u64,
        cache: Arc<BlockCache>,
    ) -> Result<Arc<Table>> {
        let file = disk.open(path)?;
        let file_bytes = file.len()?;
        let parts = Parts::read(&*file, path, file_bytes)?;
        let path = path.to_path_buf();
        let cached = TableBlocks::new(cache, parts.index.blocks());
        let table = Table { file, path, file_number, file_bytes, cached, parts };
        table.cached.cache().pin(table.pinned_bytes() as u64);
        Ok(Arc::new(table))
    }

    /// What the owner calls it.
    pub fn file_number(&self) -> u64 {
        self.file_number
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// What it says about itself.
    pub fn properties(&self) -> &Properties {
        &self.parts.properties
    }

    /// Memory that its index, filter and range deletes take, in bytes.
    pub fn pinned_bytes(&self) -> usize {
        let filter = self.parts.filter.as_ref().map_or(0, Filter::bytes);
        let parts = self.parts.index.bytes() + filter + self.parts.range_deletes.bytes();
        parts + self.cached.bytes()
    }

    /// Whether point records of `user_key` may be in the table; without a filter they may.
    pub fn may_contain(&self, user_key: &[u8]) -> bool {
        self.parts.filter.as_ref().is_none_or(|f| f.may_contain(hash(user_key)))
    }

    /// Shows `visit` the versions of `user_key` not newer than `at`, newest first, until it
    /// returns false; gives whether it never did. The values lie in the block and are not copied.
    /// Range deletes are not looked at.
    ///
    /// # Errors
    /// `Corruption` if a block is damaged; what the disk answers. Versions may have been shown
    /// before.
    pub fn get(
        &self,
        user_key: &[u8],
        at: Seq,
        visit: &mut dyn FnMut(Seq, Kind, Stored<'_>) -> bool,
    ) -> Result<bool> {
        let hash = hash(user_key);
        if self.parts.filter.as_ref().is_some_and(|f| !f.may_contain(hash)) {
            return Ok(true);
        }
        let bound = trailer(at, Kind::MAX);
        for i in self.parts.index.find_version(user_key, at)..self.blocks() {
            let held = self.cached.get(i);
            let found = match &*held {
                Some(block) => block.get(user_key, hash, bound, visit),
                None => self.read(i)?.get(user_key, hash, bound, visit),
            };
            match found.map_err(|_| self.malformed(i))? {
                Found::Stopped => return Ok(false),
                Found::Done => return Ok(true),
                Found::MayGoOn => {}
            }
        }
        Ok(true)
    }

    /// The newest range delete not newer than `at` that covers `user_key`.
    pub fn covering_seq(&self, user_key: &[u8], at: Seq) -> Option<Seq> {
        self.parts.range_deletes.covering_seq(user_key, at)
    }

    /// The range deletes.
    pub fn range_deletes(&self) -> &Arc<TombstoneSet> {
        &self.parts.range_deletes
    }

    /// A cursor over the point records; it keeps the table open. Without `fill_cache` the blocks
    /// it reads do not enter the cache, and it reads ahead: for compactions and full scans.
    pub fn cursor(self: &Arc<Self>, fill_cache: bool) -> TableCursor {
        TableCursor::new(Arc::clone(self), fill_cache)
    }

    /// Offset in the file near which records at or behind an internal key begin.
    pub fn approximate_offset_of(&self, internal_key: &[u8]) -> u64 {
        let i = self.find_block(internal_key);
        if i < self.blocks() { self.handle(i).offset } else { self.parts.index.data_end() }
    }

    /// Lets its blocks go from the cache, as when its file is to be removed.
    pub fn evict(&self) {
        self.cached.evict();
    }

    pub(super) fn blocks(&self) -> usize {
        self.parts.index.blocks()
    }

    pub(super) fn handle(&self, i: usize) -> Handle {
        self.parts.index.handle(i)
    }

    /// The first data block that may hold keys at or behind an internal key.
    pub(super) fn find_block(&self, internal: &[u8]) -> usize {
        let trailer = internal.last_chunk::<TRAILER_BYTES>().map_or(0, |t| u64::from_le_bytes(*t));
        self.parts.index.find(user_key(internal), trailer)
    }

    /// A data block, from the cache or read, checked and put there.
    pub(super) fn block(&self, i: usize) -> Result<Arc<Block>> {
        match Guard::into_inner(self.cached.get(i)) {
            Some(block) => Ok(block),
            None => self.read(i),
        }
    }

    /// Puts the first data blocks, as they were written, into the cache.
    pub fn take_in(&self, blocks: Vec<Vec<u8>>) {
        // One that cannot be read is left to be found in the file, and what follows with it.
        let blocks = blocks.into_iter().map_while(|bytes| Block::new(bytes).ok());
        for (i, block) in blocks.enumerate().take(self.parts.index.blocks()) {
            self.cached.insert(i, &Arc::new(block));
        }
    }

    /// Reads a data block and puts it into the cache.
    #[cold]
    fn read(&self, i: usize) -> Result<Arc<Block>> {
        let codec = self.parts.properties.codec;
        let bytes = read_block_of(&*self.file, &self.path, self.handle(i), codec)?;
        let block = Arc::new(Block::new(bytes).map_err(|_| self.malformed(i))?);
        self.cached.insert(i, &block);
        Ok(block)
    }

    /// A data block, from the cache or read with those behind it; the cache is not changed.
    pub(super) fn block_ahead(&self, i: usize, ahead: &mut ReadAhead) -> Result<Arc<Block>> {
        if let Some(block) = self.cached.peek(i) {
            return Ok(block);
        }
        let handle = self.handle(i);
        let data_end = self.parts.index.data_end();
        let bytes = ahead.block(&*self.file, &self.path, handle, data_end)?;
        Ok(Arc::new(Block::new(bytes).map_err(|_| self.malformed(i))?))
    }

    /// The error for block `i`, whose checksum is right but whose bytes are not.
    pub(super) fn malformed(&self, i: usize) -> Error {
        malformed(&self.path, self.handle(i).offset, "a data block")
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.cached.cache().unpin(self.pinned_bytes() as u64);
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({})", self.path.display())
    }
}

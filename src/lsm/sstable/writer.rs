//! Writes a table from front to back.

use super::block_writer::BlockWriter;
use super::filter::{Filter, hash};
use super::format::{Codec, Footer, Handle, RECORD_BYTES_MAX, put_block};
use super::index::IndexWriter;
use super::lz4::Encoder;
use super::properties::{COMPARATOR_BYTES, Properties};
use crate::base::codec::{put_bytes, put_varint};
use crate::base::{CfId, Error, ErrorKind, Result};
use crate::env::{Disk, File};
use crate::lsm::key::{Kind, TRAILER_BYTES, compare, parse, user_key};
use crate::lsm::tombstone::RangeTombstone;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes written at once: a write costs little beside them, and the allocator keeps a buffer of
/// this size where it would return a larger one to the system.
const OUT_BYTES: usize = 64 << 10;
/// Bytes in the kernel's hands that are sent on their way to the device.
const WRITE_BACK_BYTES: u64 = 256 << 10;

/// How a table is written. Any table can be read whatever it was written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableOptions {
    /// Uncompressed bytes of a data block, from 64; a longer record gets a block of its own.
    pub block_bytes: usize,
    /// Entries from one restart point to the next, 1 to 65,535.
    pub restart_interval: usize,
    /// Compression of blocks.
    pub codec: Codec,
    /// Bits of the filter for each user key, to 40; 0 for no filter.
    pub bloom_bits_per_key: u8,
    /// What the properties give as the time of making, Unix ms.
    pub created_ms: u64,
}

impl Default for TableOptions {
    /// Blocks of 8 KiB with LZ4, and a filter of 10 bits a key (one stranger in a hundred passes).
    fn default() -> TableOptions {
        TableOptions {
            block_bytes: 8192,
            restart_interval: 16,
            codec: Codec::Lz4,
            bloom_bits_per_key: 10,
            created_ms: 0,
        }
    }
}

/// A finished table, as a manifest needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// Length of the file.
    pub file_bytes: u64,
    /// The rest; the bounds are [`Properties::smallest`] and [`Properties::largest`].
    pub properties: Properties,
}

/// Writes a table. Dropped without [`TableWriter::finish`] it leaves a file that is no table.
pub struct TableWriter {
    file: Arc<dyn File>,
    path: PathBuf,
    options: TableOptions,
    /// What is not written yet, from `written` on.
    out: Vec<u8>,
    written: u64,
    /// Up to where it was sent on its way to the device.
    written_back: u64,
    block: BlockWriter,
    encoder: Encoder,
    index: IndexWriter,
    /// The last block, which the index takes when the next key is known.
    pending: Option<Handle>,
    last_key: Vec<u8>,
    hashes: Vec<u64>,
    range_deletes: Vec<RangeTombstone>,
    properties: Properties,
    /// The first blocks, in the order of the file, and how many bytes of them are to be kept.
    kept: Vec<Vec<u8>>,
    keep_bytes: usize,
}

impl TableWriter {
    /// Starts a table for family `cf` at `path`; a file that is there is emptied.
    ///
    /// # Errors
    /// What the disk answers.
    pub fn create(
        disk: &dyn Disk,
        path: &Path,
        options: TableOptions,
        cf: CfId,
    ) -> Result<TableWriter> {
        let options = TableOptions {
            block_bytes: options.block_bytes.clamp(64, RECORD_BYTES_MAX / 2),
            restart_interval: options.restart_interval.clamp(1, usize::from(u16::MAX)),
            bloom_bits_per_key: options.bloom_bits_per_key.min(40),
            ..options
        };
        let properties = Properties {
            cf,
            codec: options.codec,
            created_ms: options.created_ms,
            bloom_bits_per_key: options.bloom_bits_per_key,
            restart_interval: options.restart_interval as u64,
            comparator: COMPARATOR_BYTES,
            ..Properties::default()
        };
        Ok(TableWriter {
            file: disk.create(path)?,
            path: path.to_path_buf(),
            options,
            out: Vec::with_capacity(OUT_BYTES + 2 * options.block_bytes.min(OUT_BYTES)),
            written: 0,
            written_back: 0,
            block: BlockWriter::new(options.restart_interval),
            encoder: Encoder::new(),
            index: IndexWriter::default(),
            pending: None,
            last_key: Vec::new(),
            hashes: Vec::new(),
            range_deletes: Vec::new(),
            properties,
            kept: Vec::new(),
            keep_bytes: 0,
        })
    }

    /// Has the first blocks, up to so many bytes together, be kept for whoever will read the table,
    /// if they are written as they are: a packed one would have to be copied.
    pub fn keep_blocks(&mut self, bytes: usize) {
        self.keep_bytes = if self.options.codec == Codec::None { bytes } else { 0 };
    }

    /// Adds a point record.
    ///
    /// # Errors
    /// `Internal` if the key is not above the last one or is no internal key of a point record;
    /// `InvalidArgument` if the record is too long; what the disk answers. After an error only
    /// [`TableWriter::abandon`] is of use.
    pub fn add(&mut self, internal_key: &[u8], value: &[u8]) -> Result<()> {
        let Some(key) = parse(internal_key).filter(|key| key.kind != Kind::RangeDelete) else {
            return Err(self.misuse("a key that is no internal key of a point record"));
        };
        let first = self.properties.entries == 0;
        if !first && compare(&self.last_key, internal_key).is_ge() {
            return Err(self.misuse("keys out of order"));
        }
        if key.user_key.len() + value.len() > RECORD_BYTES_MAX {
            return Err(Error::invalid("a record is too long for an sstable"));
        }
        let adds = BlockWriter::entry_bytes(key.user_key, value);
        if !self.block.is_empty() && self.block.bytes_len() + adds > self.options.block_bytes {
            self.finish_block()?;
        }
        if let Some(handle) = self.pending.take() {
            self.index.add(&self.last_key, Some(internal_key), handle);
        }
        let hash = hash(key.user_key);
        let is_new_key = first || user_key(&self.last_key) != key.user_key;
        if is_new_key {
            self.properties.user_keys += 1;
            if self.options.bloom_bits_per_key > 0 {
                self.hashes.push(hash);
            }
        }
        let (_, trailer) = internal_key.split_at(internal_key.len() - TRAILER_BYTES);
        let trailer = trailer.try_into().map_or(0, u64::from_le_bytes);
        self.block.add(key.user_key, trailer, value, hash, is_new_key);
        if first {
            self.properties.smallest = internal_key.to_vec();
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(internal_key);
        self.properties.note(key.user_key, key.seq, key.kind, value);
        Ok(())
    }

    /// Adds a range tombstone, at any time and in any order; an empty one is left out.
    pub fn add_range_delete(&mut self, tombstone: &RangeTombstone) {
        if !tombstone.is_empty() {
            self.range_deletes.push(tombstone.clone());
        }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.properties.entries == 0 && self.range_deletes.is_empty()
    }

    /// Bytes of the file so far, filter and index estimated.
    pub fn bytes_so_far(&self) -> u64 {
        let filter = self.hashes.len() as u64 * u64::from(self.options.bloom_bits_per_key) / 8;
        let waiting = self.out.len() + self.block.bytes_len() + self.index.bytes_len();
        self.written + waiting as u64 + filter
    }

    /// Writes the rest and syncs the file. The folder is the caller's to sync.
    ///
    /// # Errors
    /// `Internal` if nothing was added; what the disk answers. The file is then no table.
    pub fn finish(self) -> Result<TableInfo> {
        Ok(self.finish_with_blocks()?.0)
    }

    /// As [`TableWriter::finish`], and gives the blocks that were kept.
    pub fn finish_with_blocks(mut self) -> Result<(TableInfo, Vec<Vec<u8>>)> {
        if self.is_empty() {
            return Err(self.misuse("a table without records"));
        }
        if !self.block.is_empty() {
            self.finish_block()?;
        }
        if let Some(handle) = self.pending.take() {
            self.index.add(&self.last_key, None, handle);
        }
        self.properties.data_blocks = u64::from(self.index.blocks());
        self.properties.data_bytes = self.offset();
        self.properties.largest = std::mem::take(&mut self.last_key);
        let mut footer = Footer::default();
        if !self.hashes.is_empty() {
            let filter = Filter::build(&self.hashes, self.options.bloom_bits_per_key);
            footer.filter = self.put(&filter, Codec::None)?;
        }
        if !self.range_deletes.is_empty() {
            footer.range_deletes = self.put_range_deletes()?;
        }
        let index = std::mem::take(&mut self.index).finish();
        footer.index = self.put(&index, self.options.codec)?;
        footer.properties = self.put(&self.properties.encode(), Codec::None)?;
        self.out.extend_from_slice(&footer.encode());
        self.flush()?;
        self.file.sync_data()?;
        let info = TableInfo { file_bytes: self.written, properties: self.properties };
        Ok((info, self.kept))
    }

    /// Removes the unfinished file.
    pub fn abandon(self, disk: &dyn Disk) -> Result<()> {
        disk.remove(&self.path)
    }

    fn put_range_deletes(&mut self) -> Result<Handle> {
        let mut all = std::mem::take(&mut self.range_deletes);
        all.sort_by(|a, b| a.start.cmp(&b.start).then(b.seq.cmp(&a.seq)));
        all.dedup();
        let mut bytes = Vec::new();
        put_varint(&mut bytes, all.len() as u64);
        for t in &all {
            put_bytes(&mut bytes, &t.start);
            put_bytes(&mut bytes, &t.end);
            put_varint(&mut bytes, t.seq.0);
            self.properties.note_range_delete(t);
        }
        self.put(&bytes, self.options.codec)
    }

    fn finish_block(&mut self) -> Result<()> {
        let offset = self.offset();
        let raw = self.block.finish();
        self.pending =
            Some(put_block(&mut self.out, offset, raw, self.options.codec, &mut self.encoder)?);
        if self.keep_bytes >= self.block.bytes_len() {
            let block = self.block.take(self.options.block_bytes);
            self.keep_bytes = self.keep_bytes.saturating_sub(block.capacity());
            self.kept.push(block);
        } else {
            self.keep_bytes = 0;
            self.block.clear();
        }
        if self.out.len() >= OUT_BYTES { self.flush() } else { Ok(()) }
    }

    /// Puts a block that is none of data.
    fn put(&mut self, raw: &[u8], codec: Codec) -> Result<Handle> {
        let offset = self.offset();
        self.encoder.forget_others();
        put_block(&mut self.out, offset, raw, codec, &mut self.encoder)
    }

    fn offset(&self) -> u64 {
        self.written + self.out.len() as u64
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_at(&self.out, self.written)?;
        self.written += self.out.len() as u64;
        self.out.clear();
        // The device writes while the next blocks are compressed, and the sync at the end is short.
        let waiting = self.written - self.written_back;
        if waiting >= WRITE_BACK_BYTES {
            self.file.write_back(self.written_back, waiting);
            self.written_back = self.written;
        }
        Ok(())
    }

    fn misuse(&self, what: &str) -> Error {
        let message = format!("{} was given {what}", self.path.display());
        Error::new(ErrorKind::Internal, message)
    }
}

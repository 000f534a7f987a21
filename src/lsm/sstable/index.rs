//! Which data block a key is in.
//!
//! ```text
//! index: [blocks u32]  then for each data block, in order:
//!        [separator: varint length, bytes][payload length varint]
//! ```
//! A separator is an internal key, not below the block's last key and below the next block's
//! first. It is stored whole: each block holds one of its keys whole too, so an index stays below
//! its data, and takes no more memory than was read. Data blocks start at offset 0 and lie behind
//! one another, each with its trailer.
//!
//! In memory the separators lie in one piece.

use super::format::Handle;
use crate::base::Seq;
use crate::base::codec::{Reader, put_bytes, put_varint};
use crate::lsm::heads::{Heads, common_prefix};
use crate::lsm::key::{Kind, TRAILER_BYTES, put_internal, trailer, user_key};
use std::ops::Range;

/// The index of a table.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: Vec<u8>,
    /// Where the key of block `i` ends in `keys`.
    key_ends: Vec<u64>,
    /// Offset of block `i`, and the offset behind the last.
    offsets: Vec<u64>,
    heads: Heads,
}

/// Builds an index block.
#[derive(Debug, Default)]
pub(super) struct IndexWriter {
    bytes: Vec<u8>,
    blocks: u32,
}

impl IndexWriter {
    /// Adds a block of which `last` is the last key; `next` is the first key behind it.
    pub(super) fn add(&mut self, last: &[u8], next: Option<&[u8]>, handle: Handle) {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(&[0; 4]);
        }
        put_bytes(&mut self.bytes, &separator(last, next));
        put_varint(&mut self.bytes, u64::from(handle.len));
        self.blocks += 1;
    }

    pub(super) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn blocks(&self) -> u32 {
        self.blocks
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len().max(4), 0);
        self.bytes[..4].copy_from_slice(&self.blocks.to_le_bytes());
        self.bytes
    }
}

/// A short internal key from `last` up to, and without, `next`.
fn separator(last: &[u8], next: Option<&[u8]>) -> Vec<u8> {
    if let Some(next) = next {
        let (a, b) = (user_key(last), user_key(next));
        let common = common_prefix(a, b);
        // The shortest prefix of `b` above `a`, where that is not `b` itself.
        if common + 1 < b.len() {
            let mut short = Vec::with_capacity(common + 1 + TRAILER_BYTES);
            put_internal(&mut short, &b[..common + 1], Seq::MAX, Kind::MAX);
            return short;
        }
    }
    last.to_vec()
}

impl Index {
    /// Reads an index block; `None` if it is malformed.
    pub(super) fn read(bytes: &[u8]) -> Option<Index> {
        let mut r = Reader::new(bytes);
        let blocks = r.u32()? as usize;
        // Each takes 10 bytes at least: what is allocated below is bounded by what was read.
        if blocks > bytes.len() / 10 {
            return None;
        }
        let mut index = Index { offsets: vec![0], ..Index::default() };
        index.key_ends.reserve_exact(blocks);
        index.offsets.reserve_exact(blocks);
        let mut offset = 0u64;
        for _ in 0..blocks {
            let separator = r.bytes().filter(|key| key.len() >= TRAILER_BYTES)?;
            index.keys.extend_from_slice(separator);
            index.key_ends.push(index.keys.len() as u64);
            let len = u32::try_from(r.varint()?).ok()?;
            offset = Handle { offset, len }.end();
            index.offsets.push(offset);
        }
        if !r.is_empty() {
            return None;
        }
        index.keys.shrink_to_fit();
        index.heads = Heads::new(index.blocks(), |i| user_key(index.separator(i)));
        Some(index)
    }

    /// Data blocks.
    pub(super) fn blocks(&self) -> usize {
        self.key_ends.len()
    }

    /// The separator behind block `i`. REQUIRES: `i` is below `blocks`.
    pub(super) fn separator(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.key_ends[i - 1] as usize };
        &self.keys[start..self.key_ends[i] as usize]
    }

    /// Where block `i` lies. REQUIRES: `i` is below `blocks`.
    pub(super) fn handle(&self, i: usize) -> Handle {
        let (offset, end) = (self.offsets[i], self.offsets[i + 1]);
        Handle { offset, len: (end - offset - super::format::BLOCK_TRAILER_BYTES) as u32 }
    }

    /// The offset behind the last data block.
    pub(super) fn data_end(&self) -> u64 {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// Memory it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.keys.len() + 16 * self.key_ends.len() + self.heads.bytes()
    }

    /// The first block that may hold keys at or behind the target; `blocks` if none does.
    pub(super) fn find(&self, target_key: &[u8], target_trailer: u64) -> usize {
        let Range { start: mut low, end: mut high } = self.heads.narrow(target_key);
        while low < high {
            let middle = low.midpoint(high);
            let separator = self.separator(middle);
            let order = user_key(separator).cmp(target_key).then_with(|| {
                let at = separator.last_chunk::<TRAILER_BYTES>();
                target_trailer.cmp(&at.map_or(0, |t| u64::from_le_bytes(*t)))
            });
            if order.is_lt() { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// As [`Index::find`] for a point read: versions of `user_key` not newer than `at`.
    pub(super) fn find_version(&self, user_key: &[u8], at: Seq) -> usize {
        self.find(user_key, trailer(at, Kind::MAX))
    }
}

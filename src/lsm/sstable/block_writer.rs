//! Builds a data block. `block.rs` draws it.

use crate::base::codec::{put_varint, varint_len};
use crate::lsm::heads::common_prefix;

/// Numbers of a bucket that stand for no entry.
pub(super) const BUCKET_EMPTY: u8 = 255;
pub(super) const BUCKET_SEVERAL: u8 = 254;
/// Entries of a block that has buckets: their numbers fit a byte.
const BUCKETED_MAX: usize = 254;

pub(super) struct BlockWriter {
    restart_interval: usize,
    bytes: Vec<u8>,
    offsets: Vec<u32>,
    /// Number of each user key's first entry, and the bits that choose its bucket.
    keys: Vec<(u8, u32)>,
    restart_key: Vec<u8>,
}

impl BlockWriter {
    /// REQUIRES: `restart_interval` fits 16 bits and is not 0.
    pub(super) fn new(restart_interval: usize) -> BlockWriter {
        BlockWriter {
            restart_interval,
            bytes: Vec::new(),
            offsets: Vec::new(),
            keys: Vec::new(),
            restart_key: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Bytes of the block if it were finished now, or a few more.
    pub(super) fn bytes_len(&self) -> usize {
        self.bytes.len() + self.offsets.len() * 10 / 3 + 8
    }

    /// Bytes by which an entry would make the block longer, or a few more.
    pub(super) fn entry_bytes(user_key: &[u8], value: &[u8]) -> usize {
        user_key.len() + value.len() + varint_len(value.len() as u64) + 10
    }

    /// Adds an entry. `hash` is that of the user key; `is_new_key` tells whether the entry before,
    /// in this block or the last, has another one. REQUIRES: in order.
    pub(super) fn add(
        &mut self,
        user_key: &[u8],
        trailer: u64,
        value: &[u8],
        hash: u64,
        is_new_key: bool,
    ) {
        let mut shared = 0;
        if self.offsets.len().is_multiple_of(self.restart_interval) {
            self.restart_key.clear();
            self.restart_key.extend_from_slice(user_key);
        } else {
            shared = common_prefix(&self.restart_key, user_key);
        }
        self.offsets.push(self.bytes.len() as u32);
        put_varint(&mut self.bytes, shared as u64);
        put_varint(&mut self.bytes, (user_key.len() - shared) as u64);
        put_varint(&mut self.bytes, value.len() as u64);
        put_varint(&mut self.bytes, trailer);
        self.bytes.extend_from_slice(&user_key[shared..]);
        self.bytes.extend_from_slice(value);
        let i = self.offsets.len() - 1;
        if i < BUCKETED_MAX && (is_new_key || i == 0) {
            self.keys.push((i as u8, bucket_hash(hash)));
        }
    }

    /// The block's bytes, to be written before anything is added.
    pub(super) fn finish(&mut self) -> &[u8] {
        let wide = self.bytes.len() > usize::from(u16::MAX);
        for offset in &self.offsets {
            match wide {
                true => self.bytes.extend_from_slice(&offset.to_le_bytes()),
                false => self.bytes.extend_from_slice(&(*offset as u16).to_le_bytes()),
            }
        }
        let mut buckets = 0;
        if self.offsets.len() <= BUCKETED_MAX {
            buckets = self.keys.len() * 4 / 3 + 1;
            self.put_buckets(buckets);
        }
        self.bytes.extend_from_slice(&(self.offsets.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(buckets as u16).to_le_bytes());
        self.bytes.extend_from_slice(&(self.restart_interval as u16).to_le_bytes());
        &self.bytes
    }

    fn put_buckets(&mut self, buckets: usize) {
        let start = self.bytes.len();
        self.bytes.resize(start + buckets, BUCKET_EMPTY);
        for (i, hash) in &self.keys {
            let bucket = &mut self.bytes[start + bucket_of(*hash, buckets)];
            *bucket = if *bucket == BUCKET_EMPTY { *i } else { BUCKET_SEVERAL };
        }
    }

    /// As [`BlockWriter::clear`], and gives the finished block away, in hardly more memory than it
    /// takes; the next one gets memory for `bytes`.
    pub(super) fn take(&mut self, bytes: usize) -> Vec<u8> {
        let mut block = std::mem::replace(&mut self.bytes, Vec::with_capacity(bytes));
        if block.capacity() > block.len() + block.len() / 8 {
            block.shrink_to_fit();
        }
        self.clear();
        block
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.offsets.clear();
        self.keys.clear();
    }
}

/// The bits of a user key's hash that choose its bucket; the filter uses others.
pub(super) fn bucket_hash(hash: u64) -> u32 {
    (hash >> 16) as u32
}

pub(super) fn bucket_of(bucket_hash: u32, buckets: usize) -> usize {
    ((u64::from(bucket_hash) * buckets as u64) >> 32) as usize
}

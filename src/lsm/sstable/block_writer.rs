//! Builds a data block. `block.rs` draws it.

use crate::base::codec::{put_varint, varint_len};

/// Hash buckets name a restart point in a byte; two numbers stand for "none" and "several".
pub(super) const BUCKET_EMPTY: u8 = 255;
pub(super) const BUCKET_SEVERAL: u8 = 254;
const RESTARTS_HASHED_MAX: usize = 254;

pub(super) struct BlockWriter {
    restart_interval: usize,
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    hashes: Vec<(u32, u8)>,
    last_key: Vec<u8>,
    since_restart: usize,
    entries: usize,
}

impl BlockWriter {
    pub(super) fn new(restart_interval: usize) -> BlockWriter {
        BlockWriter {
            restart_interval: restart_interval.max(1),
            bytes: Vec::new(),
            restarts: Vec::new(),
            hashes: Vec::new(),
            last_key: Vec::new(),
            since_restart: 0,
            entries: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes of the block if it were finished now, or a few more.
    pub(super) fn bytes_len(&self) -> usize {
        self.bytes.len() + 4 * self.restarts.len() + self.hashes.len() * 4 / 3 + 8
    }

    /// Bytes by which an entry would make the block longer, or a few more.
    pub(super) fn entry_bytes(user_key: &[u8], value: &[u8]) -> usize {
        user_key.len() + value.len() + varint_len(value.len() as u64) + 16
    }

    /// Adds an entry. REQUIRES: in order; `hash` is that of the user key.
    pub(super) fn add(&mut self, user_key: &[u8], trailer: u64, value: &[u8], hash: u64) {
        let mut shared = 0;
        if self.entries == 0 || self.since_restart == self.restart_interval {
            self.restarts.push(self.bytes.len() as u32);
            self.since_restart = 0;
        } else {
            shared = common_prefix(&self.last_key, user_key);
        }
        put_varint(&mut self.bytes, shared as u64);
        put_varint(&mut self.bytes, (user_key.len() - shared) as u64);
        put_varint(&mut self.bytes, value.len() as u64);
        put_varint(&mut self.bytes, trailer);
        self.bytes.extend_from_slice(&user_key[shared..]);
        self.bytes.extend_from_slice(value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&user_key[shared..]);
        self.since_restart += 1;
        self.entries += 1;
        if self.restarts.len() <= RESTARTS_HASHED_MAX {
            self.hashes.push((bucket_hash(hash), (self.restarts.len() - 1) as u8));
        }
    }

    /// The block's bytes, to be written before anything is added.
    pub(super) fn finish(&mut self) -> &[u8] {
        for restart in &self.restarts {
            self.bytes.extend_from_slice(&restart.to_le_bytes());
        }
        let mut buckets = 0;
        if self.restarts.len() <= RESTARTS_HASHED_MAX && self.hashes.len() < 40_000 {
            buckets = self.hashes.len() * 4 / 3 + 1;
            let start = self.bytes.len();
            self.bytes.resize(start + buckets, BUCKET_EMPTY);
            for (hash, restart) in &self.hashes {
                let bucket = &mut self.bytes[start + bucket_of(*hash, buckets)];
                if *bucket != *restart {
                    *bucket = if *bucket == BUCKET_EMPTY { *restart } else { BUCKET_SEVERAL };
                }
            }
        }
        self.bytes.extend_from_slice(&(self.restarts.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(buckets as u16).to_le_bytes());
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.restarts.clear();
        self.hashes.clear();
        self.last_key.clear();
        self.since_restart = 0;
        self.entries = 0;
    }
}

/// The bits of a user key's hash that choose its bucket; the filter uses others.
pub(super) fn bucket_hash(hash: u64) -> u32 {
    (hash >> 16) as u32
}

pub(super) fn bucket_of(bucket_hash: u32, buckets: usize) -> usize {
    ((u64::from(bucket_hash) * buckets as u64) >> 32) as usize
}

/// Length of what two byte strings begin with alike.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let words = a.chunks_exact(8).zip(b.chunks_exact(8));
    let mut n = 0;
    for (x, y) in words {
        if x != y {
            break;
        }
        n += 8;
    }
    n + a[n..].iter().zip(&b[n..]).take_while(|(x, y)| x == y).count()
}

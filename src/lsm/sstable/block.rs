//! A data block, read.
//!
//! ```text
//! block:  [entry]...  [restart: u32]...  [bucket: u8]...  [restarts u32][buckets u16]
//! entry:  [shared varint][unshared varint][value length varint][trailer varint]
//!         [unshared bytes of the user key][stored value]
//! ```
//! An entry shares the first `shared` bytes of its user key with the entry before it. Every so
//! many entries comes one that shares nothing, a *restart*; `restart` is its offset. A bucket
//! holds the number of the restart behind which all entries of its user keys stand, 255 if there
//! are none, 254 if there are several restarts; the bucket of a key is
//! `(bits 16..48 of xxh3_64(user key)) * buckets >> 32`. A block without buckets is searched by
//! its restarts.

use super::block_writer::{BUCKET_EMPTY, BUCKET_SEVERAL, bucket_hash, bucket_of, common_prefix};
use crate::base::Seq;
use crate::base::codec::Reader;
use crate::lsm::key::Kind;
use std::cmp::Ordering;

/// A data block whose checksum was right.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
    entries_end: usize,
    restarts: usize,
    buckets: usize,
}

/// The block's bytes are not what the format says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// An entry, as it lies in the block.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawEntry {
    pub(super) shared: usize,
    /// Where the unshared part of the key starts.
    pub(super) suffix: usize,
    /// Where the value starts.
    pub(super) value: usize,
    /// Where the next entry starts.
    pub(super) end: usize,
    pub(super) trailer: u64,
}

/// How a search in a block ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The visitor has enough.
    Stopped,
    /// All versions in this block were shown, and there are none behind it.
    Done,
    /// The block ended within the key's versions: the next one may go on with them.
    MayGoOn,
}

impl Block {
    /// Reads a block's frame; its entries are checked as they are read.
    pub fn new(bytes: Vec<u8>) -> Result<Block, Malformed> {
        Block::parse(bytes).ok_or(Malformed)
    }

    fn parse(bytes: Vec<u8>) -> Option<Block> {
        let tail = bytes.len().checked_sub(6)?;
        let mut r = Reader::new(&bytes[tail..]);
        let (restarts, buckets) = (r.u32()? as usize, r.u16()? as usize);
        let index_bytes = restarts.checked_mul(4)?.checked_add(buckets)?;
        let entries_end = tail.checked_sub(index_bytes)?;
        (restarts > 0).then_some(Block { bytes, entries_end, restarts, buckets })
    }

    /// Memory it holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + size_of::<Block>()
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn entries_end(&self) -> usize {
        self.entries_end
    }

    pub(super) fn restarts(&self) -> usize {
        self.restarts
    }

    /// Offset of a restart; the end of the entries if it is malformed.
    pub(super) fn restart(&self, i: usize) -> usize {
        let at = self.entries_end + 4 * i;
        let bytes = self.bytes.get(at..at + 4).and_then(|b| b.first_chunk::<4>());
        bytes.map_or(self.entries_end, |b| u32::from_le_bytes(*b) as usize)
    }

    /// The entry at `at`, which is below the end of the entries.
    #[inline]
    pub(super) fn entry(&self, at: usize) -> Result<RawEntry, Malformed> {
        let bytes = &self.bytes[..self.entries_end];
        let (shared, unshared, value_len, header) = match bytes.get(at..) {
            // Nearly all lengths fit a byte each.
            Some([a, b, c, ..]) if (a | b | c) & 0x80 == 0 => {
                (usize::from(*a), usize::from(*b), usize::from(*c), at + 3)
            }
            Some(rest) => {
                let mut r = Reader::new(rest);
                let mut len = || usize::try_from(r.varint()?).ok();
                match (len(), len(), len()) {
                    (Some(a), Some(b), Some(c)) => (a, b, c, self.entries_end - r.rest().len()),
                    _ => return Err(Malformed),
                }
            }
            None => return Err(Malformed),
        };
        let mut r = Reader::new(&bytes[header..]);
        let trailer = r.varint().ok_or(Malformed)?;
        let suffix = self.entries_end - r.rest().len();
        let value = suffix.checked_add(unshared).ok_or(Malformed)?;
        let end = value.checked_add(value_len).ok_or(Malformed)?;
        if end > self.entries_end {
            return Err(Malformed);
        }
        Ok(RawEntry { shared, suffix, value, end, trailer })
    }

    /// Shows `visit` the versions of `user_key` with a trailer not above `bound`, newest first.
    pub(super) fn get(
        &self,
        user_key: &[u8],
        hash: u64,
        bound: u64,
        visit: &mut dyn FnMut(Seq, Kind, &[u8]) -> bool,
    ) -> Result<Found, Malformed> {
        let start = match self.bucket(hash) {
            Some(BUCKET_EMPTY) => return Ok(Found::Done),
            None | Some(BUCKET_SEVERAL) => self.restart_before(user_key, bound)?,
            Some(restart) => usize::from(restart),
        };
        let mut at = self.restart(start);
        // How much of the key the entry before begins with; that entry stands before the key.
        let mut matched = 0;
        let mut first = true;
        while at < self.entries_end {
            let entry = self.entry(at)?;
            at = entry.end;
            if first && entry.shared != 0 {
                return Err(Malformed);
            }
            first = false;
            if entry.shared > matched {
                // It differs from the key where the entry before did.
                continue;
            }
            let suffix = &self.bytes[entry.suffix..entry.value];
            let rest = &user_key[entry.shared..];
            let common = common_prefix(suffix, rest);
            matched = entry.shared + common;
            match suffix[common..].first().cmp(&rest[common..].first()) {
                Ordering::Less => continue,
                Ordering::Greater => return Ok(Found::Done),
                Ordering::Equal => {}
            }
            if entry.trailer <= bound {
                let kind = Kind::from_u8(entry.trailer as u8).ok_or(Malformed)?;
                let value = &self.bytes[entry.value..entry.end];
                if !visit(Seq(entry.trailer >> 8), kind, value) {
                    return Ok(Found::Stopped);
                }
            }
        }
        Ok(Found::MayGoOn)
    }

    fn bucket(&self, hash: u64) -> Option<u8> {
        let at = bucket_of(bucket_hash(hash), self.buckets);
        let buckets = self.entries_end + 4 * self.restarts;
        (self.buckets > 0).then(|| self.bytes.get(buckets + at).copied()).flatten()
    }

    /// The last restart whose entry stands before the target; the first one if none does.
    pub(super) fn restart_before(&self, user_key: &[u8], trailer: u64) -> Result<usize, Malformed> {
        let (mut low, mut high) = (0, self.restarts);
        while low + 1 < high {
            let middle = low.midpoint(high);
            let at = self.restart(middle);
            let entry = self.entry(at)?;
            if entry.shared != 0 {
                return Err(Malformed);
            }
            let key = &self.bytes[entry.suffix..entry.value];
            if key.cmp(user_key).then(trailer.cmp(&entry.trailer)).is_lt() {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Checks that entries lie behind one another up to their end and that the restarts are
    /// those entries, in order, at which nothing is shared.
    pub(super) fn check_restarts(&self) -> Result<(), Malformed> {
        let (mut at, mut restart) = (0, 0);
        while at < self.entries_end {
            let entry = self.entry(at)?;
            if restart < self.restarts && self.restart(restart) == at {
                if entry.shared != 0 {
                    return Err(Malformed);
                }
                restart += 1;
            }
            at = entry.end;
        }
        if restart == self.restarts && self.restart(0) == 0 { Ok(()) } else { Err(Malformed) }
    }
}

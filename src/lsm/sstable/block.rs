//! A data block, read.
//!
//! ```text
//! block:  [entry]...  [offset]...  [bucket: u8]...
//!         [entries u32][buckets u16][restart interval u16]
//! entry:  [shared varint][unshared varint][value length varint][trailer varint]
//!         [unshared bytes of the user key][stored value]
//! offset: of each entry, u16, or u32 if the entries take more than 65,535 bytes
//! ```
//! Entries whose number is a multiple of the restart interval are *restarts* and hold their user
//! key whole. Every other one shares the first `shared` bytes of its user key with the restart
//! before it (not with its neighbour), so that any entry can be read by itself.
//!
//! A bucket holds the number of the first entry of its user key, 255 if it has no key, 254 if it
//! has several; the bucket of a key is `(bits 16..48 of xxh3_64(user key)) * buckets >> 32`. A
//! block of more than 254 entries has no buckets and is searched by halving.

use super::block_writer::{BUCKET_EMPTY, BUCKET_SEVERAL, bucket_hash, bucket_of};
use crate::base::Seq;
use crate::base::codec::Reader;
use crate::env::prefetch_for_read;
use crate::lsm::key::Kind;
use crate::lsm::stored::Stored;
use std::cmp;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const TAIL_BYTES: usize = 8;

/// A data block whose checksum was right.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
    /// Behind the last entry: where the offsets start.
    entries_end: u32,
    entries: u32,
    buckets: u16,
    restart_interval: u16,
    /// 2 or 4.
    offset_bytes: u8,
    /// Reads since the cache last looked, up to [`READS_MAX`].
    reads: AtomicU8,
}

/// Reads of a block in the cache that count.
const READS_MAX: u8 = 3;

/// The block's bytes are not what the format says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// An entry, where it lies in the block.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawEntry {
    pub(super) shared: usize,
    /// Where the unshared part of the key starts.
    pub(super) suffix: usize,
    /// Where the value starts.
    pub(super) value: usize,
    /// Where the value ends.
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
        let tail = bytes.len().checked_sub(TAIL_BYTES)?;
        let mut r = Reader::new(&bytes[tail..]);
        let (entries, buckets) = (r.u32()? as usize, usize::from(r.u16()?));
        let restart_interval = usize::from(r.u16()?);
        let offsets_end = tail.checked_sub(buckets)?;
        let narrow_end = offsets_end.checked_sub(entries.checked_mul(2)?)?;
        let (entries_end, offset_bytes) = match narrow_end <= usize::from(u16::MAX) {
            true => (narrow_end, 2),
            false => (narrow_end.checked_sub(2 * entries)?, 4),
        };
        // The form of the offsets follows from where the entries end in that form.
        let is_right_form = (entries_end > usize::from(u16::MAX)) == (offset_bytes == 4);
        if entries == 0 || restart_interval == 0 || !is_right_form {
            return None;
        }
        Some(Block {
            entries_end: u32::try_from(entries_end).ok()?,
            entries: entries as u32,
            buckets: buckets as u16,
            restart_interval: restart_interval as u16,
            offset_bytes,
            reads: AtomicU8::new(0),
            bytes,
        })
    }

    /// Memory it holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + size_of::<Block>()
    }

    /// Takes note that it was read, for the cache.
    #[inline]
    pub fn note_read(&self) {
        // A read that gets lost between the two does no harm.
        let reads = self.reads.load(Ordering::Relaxed);
        if reads < READS_MAX {
            self.reads.store(reads + 1, Ordering::Relaxed);
        }
    }

    /// Takes one read off; gives whether there was one.
    pub fn take_read(&self) -> bool {
        let reads = self.reads.load(Ordering::Relaxed);
        self.reads.store(reads.saturating_sub(1), Ordering::Relaxed);
        reads > 0
    }

    #[inline]
    fn entries_end(&self) -> usize {
        self.entries_end as usize
    }

    pub(in crate::lsm) fn data(&self) -> &[u8] {
        &self.bytes
    }

    /// Entries in the block, at least one.
    pub(super) fn entries(&self) -> usize {
        self.entries as usize
    }

    /// Entries from one restart to the next, at least 1.
    pub(super) fn restart_interval(&self) -> usize {
        usize::from(self.restart_interval)
    }

    /// The number of the restart that entry `i` shares with.
    pub(super) fn restart_of(&self, i: usize) -> usize {
        i - i % self.restart_interval()
    }

    /// Entry `i`, which is below `entries`.
    #[inline]
    pub(super) fn entry(&self, i: usize) -> Result<RawEntry, Malformed> {
        self.entry_at(self.offset(i))
    }

    /// Where entry `i` starts; malformed bytes may give any number.
    fn offset(&self, i: usize) -> usize {
        let offset_bytes = usize::from(self.offset_bytes);
        let at = self.entries_end() + i * offset_bytes;
        match self.bytes.get(at..at + offset_bytes) {
            Some([a, b]) => usize::from(u16::from_le_bytes([*a, *b])),
            Some([a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]) as usize,
            _ => usize::MAX,
        }
    }

    /// The entry that starts at `at`; malformed if none can.
    #[inline]
    pub(super) fn entry_at(&self, at: usize) -> Result<RawEntry, Malformed> {
        let entries_end = self.entries_end();
        let bytes = &self.bytes[..entries_end];
        let (shared, unshared, value_len, header) = match bytes.get(at..) {
            // Nearly all lengths fit a byte each.
            Some([a, b, c, ..]) if (a | b | c) & 0x80 == 0 => {
                (usize::from(*a), usize::from(*b), usize::from(*c), at + 3)
            }
            Some(rest) => {
                let mut r = Reader::new(rest);
                let mut len = || usize::try_from(r.varint()?).ok();
                match (len(), len(), len()) {
                    (Some(a), Some(b), Some(c)) => (a, b, c, entries_end - r.rest().len()),
                    _ => return Err(Malformed),
                }
            }
            None => return Err(Malformed),
        };
        let mut r = Reader::new(&bytes[header..]);
        let trailer = r.varint().ok_or(Malformed)?;
        let suffix = entries_end - r.rest().len();
        let value = suffix.checked_add(unshared).ok_or(Malformed)?;
        let end = value.checked_add(value_len).ok_or(Malformed)?;
        if end > entries_end {
            return Err(Malformed);
        }
        Ok(RawEntry { shared, suffix, value, end, trailer })
    }

    /// The user key of restart `i`.
    pub(super) fn restart_key(&self, i: usize) -> Result<&[u8], Malformed> {
        let entry = self.entry(i)?;
        if entry.shared != 0 {
            return Err(Malformed);
        }
        Ok(&self.bytes[entry.suffix..entry.value])
    }

    /// How the user key of entry `i` compares with `user_key`.
    fn compare_key(
        &self,
        i: usize,
        entry: &RawEntry,
        key: &[u8],
    ) -> Result<cmp::Ordering, Malformed> {
        let suffix = &self.bytes[entry.suffix..entry.value];
        if entry.shared == 0 {
            return Ok(suffix.cmp(key));
        }
        let restart = self.restart_key(self.restart_of(i))?;
        let shared = restart.get(..entry.shared).ok_or(Malformed)?;
        let start = key.len().min(entry.shared);
        Ok(shared.cmp(&key[..start]).then_with(|| suffix.cmp(&key[start..])))
    }

    /// The first entry at or behind the target; `entries` if there is none.
    pub(super) fn find(&self, user_key: &[u8], trailer: u64) -> Result<usize, Malformed> {
        // First among the restarts, whose keys are whole, then between two of them.
        let (entries, interval) = (self.entries(), self.restart_interval());
        let (mut low, mut high) = (0, entries.div_ceil(interval));
        while low < high {
            let middle = low.midpoint(high);
            if self.is_before(middle * interval, user_key, trailer)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let end = entries.min(low * interval);
        let (mut low, mut high) = ((low * interval).saturating_sub(interval), end);
        while low < high {
            let middle = low.midpoint(high);
            if self.is_before(middle, user_key, trailer)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn is_before(&self, i: usize, user_key: &[u8], trailer: u64) -> Result<bool, Malformed> {
        let entry = self.entry(i)?;
        let order = self.compare_key(i, &entry, user_key)?;
        Ok(order.then_with(|| trailer.cmp(&entry.trailer)).is_lt())
    }

    /// Shows `visit` the versions of `user_key` with a trailer not above `bound`, newest first.
    pub(super) fn get(
        self: &Arc<Block>,
        user_key: &[u8],
        hash: u64,
        bound: u64,
        visit: &mut dyn FnMut(Seq, Kind, Stored<'_>) -> bool,
    ) -> Result<Found, Malformed> {
        let first = match self.bucket(hash) {
            Some(BUCKET_EMPTY) => return Ok(Found::Done),
            None | Some(BUCKET_SEVERAL) => self.find(user_key, bound)?,
            Some(i) => {
                self.prefetch(usize::from(i));
                usize::from(i)
            }
        };
        for i in first..self.entries() {
            let entry = self.entry(i)?;
            if self.compare_key(i, &entry, user_key)? != cmp::Ordering::Equal {
                return Ok(Found::Done);
            }
            if entry.trailer <= bound {
                let kind = Kind::from_u8(entry.trailer as u8).ok_or(Malformed)?;
                let value = Stored::in_block(self, entry.value, entry.end);
                if !visit(Seq(entry.trailer >> 8), kind, value) {
                    return Ok(Found::Stopped);
                }
            }
        }
        Ok(Found::MayGoOn)
    }

    /// Has the processor fetch entry `i` whole, if it is about as long as most.
    fn prefetch(&self, i: usize) {
        let at = self.bytes.as_ptr().wrapping_add(self.offset(i));
        prefetch_for_read(at, self.entries_end() / self.entries());
    }

    fn bucket(&self, hash: u64) -> Option<u8> {
        let at = bucket_of(bucket_hash(hash), usize::from(self.buckets));
        let buckets = self.entries_end() + usize::from(self.offset_bytes) * self.entries();
        (self.buckets > 0).then(|| self.bytes.get(buckets + at).copied()).flatten()
    }

    /// Checks that entries lie behind one another up to their end, and that restarts share
    /// nothing.
    pub(super) fn check_offsets(&self) -> Result<(), Malformed> {
        let mut at = 0;
        for i in 0..self.entries() {
            if self.offset(i) != at || (self.restart_of(i) == i && self.entry(i)?.shared != 0) {
                return Err(Malformed);
            }
            at = self.entry(i)?.end;
        }
        if at == self.entries_end() { Ok(()) } else { Err(Malformed) }
    }
}

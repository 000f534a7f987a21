//! Writes that happen together: what the log carries and what every replica applies.
//!
//! ```text
//! batch:  [version u8 = 1][flags u8][base_seq u64][commit_ms u64][count u32]
//!         [client u64][request u64]          if flags & 1: the request that made it
//!                                            flags & 2: it creates and drops families and does
//!                                            nothing else, see `family_change`
//!                                            flags & 4: it writes vectors or their indexes
//!         ops
//! op:     [kind u8][counts u8][cf varint][key: varint length, bytes]
//!         [stored value: varint length, bytes]            Put, PutMeta, Merge
//!         [end key: varint length, bytes][keys varint][expires varint]     RangeDelete
//! ```
//! Integers are little-endian. Operation `i` has sequence number `base_seq + i`. The stored value
//! is what `lsm/key.rs` draws. `counts` says how the write changes the family's count of
//! live keys and of those that expire: `(keys + 1) * 3 + (expires + 1)` with each of -1, 0, 1, or
//! 9 where the writer did not look. The log's record carries the checksum.

use crate::base::codec::{Reader, put_bytes, put_varint};
use crate::base::{CfId, Error, ErrorKind, Result, Seq};
use crate::lsm::family_change::FamilyChange;
use crate::lsm::key::{Kind, Meta};
use crate::op::kv::{BATCH_OPS_MAX, MergeOp, RequestId};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 22;
const FLAG_REQUEST: u8 = 1;
const FLAG_FAMILIES: u8 = 2;
const FLAG_VECTORS: u8 = 4;
const COUNTS_UNKNOWN: u8 = 9;
/// What an operation takes beside key and value, at most.
const OP_OVERHEAD_BYTES: usize = 32;
/// Each write of a request may move an entry of the expiry index, and the request be recorded.
const OPS_MAX: usize = 3 * BATCH_OPS_MAX + 2;

/// How a write changes a family's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// The writer did not look whether the key was there: the counts are no longer exact.
    Unknown,
    /// The change of live keys and of keys with an expiry, each -1, 0 or 1.
    Change {
        /// Live keys.
        keys: i8,
        /// Keys with an expiry.
        expires: i8,
    },
}

impl Counts {
    /// Nothing changes.
    pub const NONE: Counts = Counts::Change { keys: 0, expires: 0 };

    fn to_u8(self) -> u8 {
        match self {
            Counts::Unknown => COUNTS_UNKNOWN,
            Counts::Change { keys, expires } => {
                ((keys.signum() + 1) * 3 + expires.signum() + 1) as u8
            }
        }
    }

    fn from_u8(n: u8) -> Option<Counts> {
        match n {
            0..=8 => Some(Counts::Change { keys: (n / 3) as i8 - 1, expires: (n % 3) as i8 - 1 }),
            COUNTS_UNKNOWN => Some(Counts::Unknown),
            _ => None,
        }
    }
}

/// Writes that happen all or not at all, in order.
#[derive(Debug, Clone)]
pub struct WriteBatch {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for WriteBatch {
    fn default() -> WriteBatch {
        WriteBatch::new()
    }
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> WriteBatch {
        WriteBatch::with_capacity(96)
    }

    /// An empty batch with room for an operation whose key and value have `bytes` together.
    pub fn with_capacity(bytes: usize) -> WriteBatch {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + OP_OVERHEAD_BYTES + bytes);
        bytes.resize(HEADER_BYTES, 0);
        bytes[0] = VERSION;
        WriteBatch { bytes, count: 0 }
    }

    /// Operations in the batch.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Encoded size in bytes.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all operations and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER_BYTES);
        self.bytes[1..].fill(0);
        self.count = 0;
    }

    /// Sets `key` of the default family.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.put_cf(CfId::DEFAULT, key, value);
    }

    /// Removes `key` of the default family.
    pub fn delete(&mut self, key: &[u8]) {
        self.delete_cf(CfId::DEFAULT, key);
    }

    /// Merges `operand` into `key` of the default family.
    pub fn merge(&mut self, key: &[u8], op: MergeOp, operand: &[u8]) {
        self.merge_with(CfId::DEFAULT, key, op, operand, Counts::Unknown);
    }

    /// Sets `key` of family `cf`.
    pub fn put_cf(&mut self, cf: CfId, key: &[u8], value: &[u8]) {
        self.put_with(cf, key, value, Meta::default(), Counts::Unknown);
    }

    /// Removes `key` of family `cf`.
    pub fn delete_cf(&mut self, cf: CfId, key: &[u8]) {
        self.delete_with(cf, key, Counts::Unknown);
    }

    /// Removes every key of family `cf` from `start` up to and without `end`.
    pub fn delete_range_cf(&mut self, cf: CfId, start: &[u8], end: &[u8]) {
        self.op(Kind::RangeDelete, Counts::Unknown, cf, start);
        put_bytes(&mut self.bytes, end);
        put_varint(&mut self.bytes, 0);
        put_varint(&mut self.bytes, 0);
    }

    /// Sets a key with what stands beside its value.
    pub fn put_with(&mut self, cf: CfId, key: &[u8], value: &[u8], meta: Meta, counts: Counts) {
        self.bytes.reserve(OP_OVERHEAD_BYTES + key.len() + value.len());
        self.op(meta.kind(), counts, cf, key);
        put_varint(&mut self.bytes, (meta.header_bytes() + value.len()) as u64);
        meta.put_header(&mut self.bytes);
        self.bytes.extend_from_slice(value);
    }

    /// Removes a key, and says how that changes the counts.
    pub fn delete_with(&mut self, cf: CfId, key: &[u8], counts: Counts) {
        self.op(Kind::Delete, counts, cf, key);
    }

    /// Merges an operand, and says how that changes the counts.
    pub fn merge_with(
        &mut self,
        cf: CfId,
        key: &[u8],
        op: MergeOp,
        operand: &[u8],
        counts: Counts,
    ) {
        self.op(Kind::Merge, counts, cf, key);
        put_varint(&mut self.bytes, operand.len() as u64 + 1);
        self.bytes.push(op as u8);
        self.bytes.extend_from_slice(operand);
    }

    /// Removes a range that holds exactly `keys` live keys, `expires` of them with an expiry.
    pub fn delete_range_with(
        &mut self,
        cf: CfId,
        start: &[u8],
        end: &[u8],
        keys: u64,
        expires: u64,
    ) {
        self.op(Kind::RangeDelete, Counts::NONE, cf, start);
        put_bytes(&mut self.bytes, end);
        put_varint(&mut self.bytes, keys);
        put_varint(&mut self.bytes, expires);
    }

    /// Names the request that made the batch. REQUIRES: no operation yet.
    pub fn set_request(&mut self, id: RequestId) {
        debug_assert!(self.is_empty());
        self.bytes[1] |= FLAG_REQUEST;
        self.bytes.truncate(HEADER_BYTES);
        self.bytes.extend_from_slice(&id.client.to_le_bytes());
        self.bytes.extend_from_slice(&id.request.to_le_bytes());
    }

    /// Says that the batch creates and drops families. A program that does not know how refuses it.
    pub(super) fn mark_families(&mut self) {
        self.bytes[1] |= FLAG_FAMILIES;
    }

    /// Gives the batch its place: the sequence number of its first operation and the commit time.
    #[inline]
    pub fn place(&mut self, base_seq: Seq, commit_ms: u64) {
        self.bytes[2..10].copy_from_slice(&base_seq.0.to_le_bytes());
        self.bytes[10..18].copy_from_slice(&commit_ms.to_le_bytes());
        self.bytes[18..22].copy_from_slice(&self.count.to_le_bytes());
    }

    /// The batch to be read, as it was last placed.
    #[inline(always)]
    pub fn view(&self) -> BatchView<'_> {
        let whole = &self.bytes[HEADER_BYTES..];
        let request = (self.bytes[1] & FLAG_REQUEST != 0).then(|| {
            let (client, request) = (u64_at(whole, 0), u64_at(whole, 8));
            RequestId { client, request }
        });
        BatchView {
            base_seq: Seq(u64_at(&self.bytes, 2)),
            commit_ms: u64_at(&self.bytes, 10),
            request,
            changes_families: self.bytes[1] & FLAG_FAMILIES != 0,
            has_vectors: self.bytes[1] & FLAG_VECTORS != 0,
            count: self.count,
            ops: if request.is_some() { &whole[16..] } else { whole },
        }
    }

    /// The encoded batch. REQUIRES: placed, and nothing added since.
    pub fn bytes(&self) -> &[u8] {
        debug_assert_eq!(self.bytes[18..22], self.count.to_le_bytes());
        &self.bytes
    }

    /// The encoded batch. Its place is that of the last [`WriteBatch::place`].
    pub fn encoded(&mut self) -> &[u8] {
        let count = self.count;
        self.bytes[18..22].copy_from_slice(&count.to_le_bytes());
        &self.bytes
    }

    #[inline(always)]
    fn op(&mut self, kind: Kind, counts: Counts, cf: CfId, key: &[u8]) {
        self.count += 1;
        if cf.0 < 0x80 && key.len() < 0x80 {
            // One store: what is put together byte by byte and copied waits for its bytes.
            let head = u32::from(kind as u8)
                | u32::from(counts.to_u8()) << 8
                | cf.0 << 16
                | (key.len() as u32) << 24;
            self.bytes.extend_from_slice(&head.to_le_bytes());
            self.bytes.extend_from_slice(key);
            return;
        }
        if cf == CfId::VECTORS {
            self.bytes[1] |= FLAG_VECTORS;
        }
        self.bytes.extend_from_slice(&[kind as u8, counts.to_u8()]);
        put_varint(&mut self.bytes, u64::from(cf.0));
        put_bytes(&mut self.bytes, key);
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

/// One operation of a batch, read where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op<'a> {
    /// Its sequence number.
    pub seq: Seq,
    /// What it does.
    pub kind: Kind,
    /// How it changes the family's counts (of a `RangeDelete`, see `range`).
    pub counts: Counts,
    /// Column family.
    pub cf: CfId,
    /// Key; the start of a range.
    pub key: &'a [u8],
    /// The stored value; the end key of a range; empty for a delete.
    pub value: &'a [u8],
    /// Of a `RangeDelete` with known counts: live keys in the range, and those with an expiry.
    pub range: (u64, u64),
}

/// An encoded batch, checked whole when it was read.
#[derive(Debug, Clone, Copy)]
pub struct BatchView<'a> {
    /// Sequence number of the first operation.
    pub base_seq: Seq,
    /// The leader's time when it placed the batch, Unix ms.
    pub commit_ms: u64,
    /// The request that made it.
    pub request: Option<RequestId>,
    /// Whether it creates and drops families, and does nothing else.
    pub changes_families: bool,
    /// Whether it writes vectors or their indexes.
    pub has_vectors: bool,
    count: u32,
    ops: &'a [u8],
}

/// Whether an encoded batch says that it creates or drops families: nothing else of it is looked at.
pub(crate) fn changes_families(bytes: &[u8]) -> bool {
    matches!(bytes, [VERSION, flags, ..] if flags & FLAG_FAMILIES != 0)
}

impl<'a> BatchView<'a> {
    /// Reads an encoded batch and checks every operation's form.
    ///
    /// # Errors
    /// `Corruption` without file or offset if it is malformed (the caller knows where it lay).
    pub fn read(bytes: &'a [u8]) -> Result<BatchView<'a>> {
        BatchView::parse(bytes)
            .ok_or_else(|| Error::new(ErrorKind::Corruption, "a write batch is malformed"))
    }

    fn parse(bytes: &'a [u8]) -> Option<BatchView<'a>> {
        let mut r = Reader::new(bytes);
        if r.u8()? != VERSION {
            return None;
        }
        let flags = r.u8()?;
        if flags & !(FLAG_REQUEST | FLAG_FAMILIES | FLAG_VECTORS) != 0 {
            return None;
        }
        let base_seq = Seq(r.u64()?);
        let commit_ms = r.u64()?;
        let count = r.u32()?;
        let request = if flags & FLAG_REQUEST != 0 {
            Some(RequestId { client: r.u64()?, request: r.u64()? })
        } else {
            None
        };
        let last = base_seq.0.checked_add(u64::from(count))?;
        if count as usize > OPS_MAX || last > Seq::MAX.0 {
            return None;
        }
        let changes_families = flags & FLAG_FAMILIES != 0;
        let has_vectors = flags & FLAG_VECTORS != 0;
        let ops = r.rest();
        let view =
            BatchView { base_seq, commit_ms, request, changes_families, has_vectors, count, ops };
        let mut seq = base_seq;
        for _ in 0..count {
            let op = read_op(&mut r, seq)?;
            if changes_families && FamilyChange::of(&op).is_none() {
                return None;
            }
            seq.0 += 1;
        }
        r.is_empty().then_some(view)
    }

    /// The same batch, read from a copy of its bytes. REQUIRES: `copy` is one.
    pub(crate) fn within<'c>(&self, copy: &'c [u8]) -> BatchView<'c> {
        // The operations come last.
        BatchView { ops: &copy[copy.len() - self.ops.len()..], ..*self }
    }

    /// Operations in the batch.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sequence number of the last operation; that before `base_seq` if there is none.
    pub fn last_seq(&self) -> Seq {
        Seq((self.base_seq.0 + u64::from(self.count)).saturating_sub(1))
    }

    /// The operations in order.
    pub fn ops(&self) -> impl Iterator<Item = Op<'a>> + use<'a> {
        let mut reader = Reader::new(self.ops);
        let base = self.base_seq.0;
        (0..self.count).map_while(move |i| read_op(&mut reader, Seq(base + u64::from(i))))
    }

    /// The operations in order. The same as [`BatchView::ops`] for loops in which each nanosecond
    /// counts: see [`OpCursor`].
    #[inline(always)]
    pub fn cursor(&self) -> OpCursor<'a> {
        OpCursor { reader: Reader::new(self.ops), seq: self.base_seq, left: self.count }
    }
}

/// The operations of a batch in order. An operation stays in registers, where one that is handed
/// through memory waits for all stores before it.
pub struct OpCursor<'a> {
    reader: Reader<'a>,
    seq: Seq,
    left: u32,
}

impl<'a> OpCursor<'a> {
    /// The next operation.
    #[expect(clippy::should_implement_trait, reason = "an iterator's adapters pass through memory")]
    #[inline(always)]
    pub fn next(&mut self) -> Option<Op<'a>> {
        if self.left == 0 {
            return None;
        }
        let op = read_op_inline(&mut self.reader, self.seq);
        (self.left, self.seq) = (self.left - 1, Seq(self.seq.0 + 1));
        op
    }
}

fn read_op<'a>(r: &mut Reader<'a>, seq: Seq) -> Option<Op<'a>> {
    read_op_inline(r, seq)
}

#[inline(always)]
fn read_op_inline<'a>(r: &mut Reader<'a>, seq: Seq) -> Option<Op<'a>> {
    let kind = Kind::from_u8(r.u8()?)?;
    let counts = Counts::from_u8(r.u8()?)?;
    let cf = CfId(u32::try_from(r.varint()?).ok()?);
    let key = r.bytes()?;
    let value = if kind == Kind::Delete { &[][..] } else { r.bytes()? };
    let range = if kind == Kind::RangeDelete { (r.varint()?, r.varint()?) } else { (0, 0) };
    let whole = match kind {
        Kind::Put | Kind::PutMeta => crate::lsm::key::split_value(kind, value).is_some(),
        Kind::Merge => value.first().is_some_and(|op| MergeOp::from_u8(*op).is_some()),
        Kind::Delete | Kind::RangeDelete => true,
    };
    whole.then_some(Op { seq, kind, counts, cf, key, value, range })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;

    fn sample() -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.set_request(RequestId { client: 7, request: 8 });
        batch.put(b"a", b"1");
        let meta = Meta { tag: 2, expire_at_ms: Some(99) };
        let counts = Counts::Change { keys: 1, expires: -1 };
        batch.put_with(CfId(3), b"b", b"two", meta, counts);
        batch.delete(b"c");
        batch.merge(b"d", MergeOp::Append, b"x");
        batch.delete_range_with(CfId(0), b"e", b"f", 300, 2);
        batch.place(Seq(1000), 5);
        batch
    }

    #[test]
    fn a_batch_comes_back_operation_by_operation() {
        let mut batch = sample();
        let own = batch.view().ops().map(|op| format!("{op:?}")).collect::<Vec<_>>();
        let view = BatchView::read(batch.encoded()).unwrap();
        assert_eq!(own, view.ops().map(|op| format!("{op:?}")).collect::<Vec<_>>());
        let mut shown = Vec::new();
        let mut cursor = view.cursor();
        while let Some(op) = cursor.next() {
            shown.push(format!("{op:?}"));
        }
        assert_eq!(own, shown);
        assert_eq!(view.request, Some(RequestId { client: 7, request: 8 }));
        assert_eq!((view.base_seq, view.last_seq(), view.commit_ms), (Seq(1000), Seq(1004), 5));
        let ops: Vec<Op> = view.ops().collect();
        assert_eq!(ops.len(), 5);
        assert_eq!((ops[1].cf, ops[1].kind, ops[1].seq), (CfId(3), Kind::PutMeta, Seq(1001)));
        assert_eq!(ops[1].counts, Counts::Change { keys: 1, expires: -1 });
        assert_eq!(ops[3].value, b"\x01x");
        assert_eq!((ops[4].key, ops[4].value, ops[4].range), (&b"e"[..], &b"f"[..], (300, 2)));
    }

    #[test]
    fn the_format_is_as_checked_in() {
        let hex: String = sample().encoded().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, include_str!("../../tests/golden/batch-v1.hex").trim());
    }

    #[test]
    fn cut_and_mutated_batches_are_refused_or_read_but_never_panic() {
        let whole = sample().encoded().to_vec();
        for n in 0..whole.len() {
            assert!(BatchView::read(&whole[..n]).is_err(), "cut at {n}");
        }
        let mut rng = Rng::new(1);
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.next_u64() as u8;
            if let Ok(view) = BatchView::read(&bytes) {
                assert_eq!(view.ops().count(), view.len());
            }
        }
    }
}

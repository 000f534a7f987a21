//! Which records of a key stay, and what merges become.
//!
//! Records of a key come newest first. A record goes when a newer one that ends the history
//! (a value, a tombstone, a range tombstone) shadows it. Operands fold onto their base where no
//! reader stands between, and onto nothing where nothing older can exist.
//!
//! **Expired values.** One that had expired by committed time can be read by nobody, yet two
//! things still hang on it: it hides older versions below, and operands above it expire with it.
//! So it loses its bytes and stays as a *husk*, a record with its expiry and no value. Where a
//! sweep deletes expired keys by logged writes, the husk stays until that delete: the key is still
//! counted, and the sweep finds by the husk what it has to take off the counts. Elsewhere the husk
//! goes when nothing older is left below and nothing newer of its key lies above.

use crate::base::{Error, ErrorKind, Result, Seq};
use crate::lsm::key::{Kind, Meta, Parsed, split_value};
use crate::lsm::merge;
use crate::lsm::tombstone::{RangeDeletes, RangeTombstone};
use crate::op::kv::MergeOp;

/// Who may read old versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readers {
    /// Snapshots' sequence numbers, ascending.
    pub snapshots: Vec<Seq>,
    /// Every sequence number from here on is read too.
    pub floor: Seq,
}

impl Readers {
    /// The first reader at or above `seq`.
    pub fn next(&self, seq: Seq) -> Seq {
        let at = self.snapshots.partition_point(|s| *s < seq);
        let above = self.floor.max(seq);
        self.snapshots.get(at).map_or(above, |s| (*s).min(above))
    }

    /// Whether a reader stands below `seq`, and so may see what a record at `seq` hides.
    pub fn any_below(&self, seq: Seq) -> bool {
        self.next(Seq(0)) < seq
    }

    /// Whether a snapshot sees a record at `seq`.
    fn snapshot_from(&self, seq: Seq) -> bool {
        self.snapshots.last().is_some_and(|s| *s >= seq)
    }
}

/// What lies around the records being compacted.
pub struct Surroundings<'a> {
    /// Whether a sweep deletes the family's expired keys by logged writes.
    pub swept: bool,
    /// Whether something older than the inputs may hold this user key.
    pub older_may_hold: &'a dyn Fn(&[u8]) -> bool,
    /// Whether something newer than the inputs holds this user key.
    pub newer_holds: &'a dyn Fn(&[u8]) -> Result<bool>,
}

/// Takes a kept record: user key, sequence number, kind, stored value.
pub type Sink<'a> = dyn FnMut(&[u8], Seq, Kind, &[u8]) -> Result<()> + 'a;

/// Decides record by record.
pub struct Filter<'a> {
    readers: Readers,
    committed_ms: u64,
    range_deletes: RangeDeletes,
    around: Surroundings<'a>,
    key: Vec<u8>,
    began: bool,
    /// The oldest record so far that ends the history of the key.
    end: Option<Seq>,
    /// Operands without a reader between them, newest first.
    pending: Vec<Operand>,
    /// Whether a record of the key was given out.
    emitted: bool,
    older_may_hold: Option<bool>,
}

/// A value: what stands beside it, itself, and both as they are stored in a record of `kind`.
#[derive(Clone, Copy)]
struct Value<'v> {
    kind: Kind,
    meta: Meta,
    value: &'v [u8],
    stored: &'v [u8],
}

struct Operand {
    seq: Seq,
    op: MergeOp,
    bytes: Vec<u8>,
}

impl<'a> Filter<'a> {
    /// A filter for the records of inputs whose range tombstones are `range_deletes`.
    pub fn new(
        readers: Readers,
        committed_ms: u64,
        range_deletes: RangeDeletes,
        around: Surroundings<'a>,
    ) -> Filter<'a> {
        Filter {
            readers,
            committed_ms,
            range_deletes,
            around,
            key: Vec::new(),
            began: false,
            end: None,
            pending: Vec::new(),
            emitted: false,
            older_may_hold: None,
        }
    }

    /// Takes the next record in internal order and gives `out` what is settled.
    ///
    /// # Errors
    /// `Corruption` if the value is malformed; what `out` or a look around gives.
    pub fn push(&mut self, record: Parsed<'_>, stored: &[u8], out: &mut Sink<'_>) -> Result<()> {
        if !self.began || record.user_key != self.key {
            self.finish(out)?;
            self.begin(record.user_key);
        }
        let reader = self.readers.next(record.seq);
        if self.end.is_some_and(|end| end <= reader) {
            return Ok(());
        }
        if !self.range_deletes.is_empty() {
            let covering = self.range_deletes.covering_seq(&self.key, reader);
            if covering.is_some_and(|seq| seq > record.seq) {
                return self.emit_pending(out);
            }
        }
        match record.kind {
            Kind::Merge => self.push_operand(record.seq, reader, stored, out),
            Kind::Put | Kind::PutMeta => {
                let (meta, value) = split_value(record.kind, stored).ok_or_else(malformed)?;
                self.push_value(
                    record.seq,
                    reader,
                    Value { kind: record.kind, meta, value, stored },
                    out,
                )
            }
            Kind::Delete | Kind::RangeDelete => self.push_delete(record.seq, reader, out),
        }
    }

    /// Settles the last key. Call it once behind the last record.
    pub fn finish(&mut self, out: &mut Sink<'_>) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.end.is_none() && !self.older_may_hold() {
            return self.fold_onto(None, out);
        }
        self.emit_pending(out)
    }

    fn begin(&mut self, key: &[u8]) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.began = true;
        self.end = None;
        self.emitted = false;
        self.older_may_hold = None;
    }

    fn older_may_hold(&mut self) -> bool {
        *self.older_may_hold.get_or_insert_with(|| (self.around.older_may_hold)(&self.key))
    }

    /// Whether no reader stands between the pending operands and an older record.
    fn folds(&self, reader: Seq) -> bool {
        self.pending.last().is_some_and(|oldest| oldest.seq <= reader)
    }

    fn push_operand(
        &mut self,
        seq: Seq,
        reader: Seq,
        stored: &[u8],
        out: &mut Sink<'_>,
    ) -> Result<()> {
        let (op, operand) = merge::split(stored).ok_or_else(malformed)?;
        if !self.folds(reader) {
            self.emit_pending(out)?;
        }
        // The newer operand takes the older one in; both are at the newer one's number from then.
        if let Some(newer) = self.pending.last_mut()
            && newer.op == op
        {
            let mut both = operand.to_vec();
            merge::combine(op, &mut both, &newer.bytes);
            newer.bytes = both;
            return Ok(());
        }
        self.pending.push(Operand { seq, op, bytes: operand.to_vec() });
        Ok(())
    }

    fn push_value(
        &mut self,
        seq: Seq,
        reader: Seq,
        value: Value<'_>,
        out: &mut Sink<'_>,
    ) -> Result<()> {
        self.end = Some(seq);
        if self.folds(reader) {
            return self.fold_onto(Some(value), out);
        }
        self.emit_pending(out)?;
        self.emit_value(seq, value, out)
    }

    fn push_delete(&mut self, seq: Seq, reader: Seq, out: &mut Sink<'_>) -> Result<()> {
        self.end = Some(seq);
        if self.folds(reader) {
            return self.fold_onto(None, out);
        }
        self.emit_pending(out)?;
        if !self.readers.any_below(seq) && !self.older_may_hold() {
            return Ok(());
        }
        self.emit(seq, Kind::Delete, &[], out)
    }

    fn fold_onto(&mut self, base: Option<Value<'_>>, out: &mut Sink<'_>) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let Some(newest) = pending.first() else {
            return Ok(());
        };
        let operands = pending.iter().rev().map(|o| (o.op, o.bytes.as_slice()));
        let value = merge::fold(base.map(|b| b.value), operands);
        let meta = base.map(|b| b.meta).unwrap_or_default();
        let mut stored = Vec::with_capacity(meta.header_bytes() + value.len());
        meta.put_header(&mut stored);
        stored.extend_from_slice(&value);
        let value = Value { kind: meta.kind(), meta, value: &value, stored: &stored };
        self.emit_value(newest.seq, value, out)
    }

    fn emit_value(&mut self, seq: Seq, value: Value<'_>, out: &mut Sink<'_>) -> Result<()> {
        let Value { kind, meta, value, stored } = value;
        let unread = meta.is_expired(self.committed_ms) && !self.readers.snapshot_from(seq);
        if unread
            && !self.around.swept
            && !self.emitted
            && !self.readers.any_below(seq)
            && !self.older_may_hold()
            && !(self.around.newer_holds)(&self.key)?
        {
            return Ok(());
        }
        // Of a value that nobody can read what stands beside it is enough.
        let kept = if unread { stored.len() - value.len() } else { stored.len() };
        self.emit(seq, kind, &stored[..kept], out)
    }

    fn emit_pending(&mut self, out: &mut Sink<'_>) -> Result<()> {
        for operand in std::mem::take(&mut self.pending) {
            let mut stored = Vec::with_capacity(1 + operand.bytes.len());
            stored.push(operand.op as u8);
            stored.extend_from_slice(&operand.bytes);
            self.emit(operand.seq, Kind::Merge, &stored, out)?;
        }
        Ok(())
    }

    fn emit(&mut self, seq: Seq, kind: Kind, stored: &[u8], out: &mut Sink<'_>) -> Result<()> {
        self.emitted = true;
        out(&self.key, seq, kind, stored)
    }
}

/// The range tombstones that stay: sorted by start, pieces of one delete joined where they touch.
/// One goes when no reader can see below it and nothing older overlaps it.
pub fn keep_range_deletes(
    all: &RangeDeletes,
    readers: &Readers,
    older_overlaps: &dyn Fn(&RangeTombstone) -> bool,
) -> Vec<RangeTombstone> {
    let mut kept: Vec<RangeTombstone> = all.iter().cloned().collect();
    kept.sort_by(|a, b| a.seq.cmp(&b.seq).then_with(|| a.start.cmp(&b.start)));
    kept.dedup_by(|next, before| {
        let joins = next.seq == before.seq && next.start <= before.end;
        if joins && next.end > before.end {
            std::mem::swap(&mut next.end, &mut before.end);
        }
        joins
    });
    kept.retain(|t| !t.is_empty() && (readers.any_below(t.seq) || older_overlaps(t)));
    kept.sort_by(|a, b| a.start.cmp(&b.start).then_with(|| b.seq.cmp(&a.seq)));
    kept
}

fn malformed() -> Error {
    Error::new(ErrorKind::Corruption, "a value in an sstable is malformed")
}

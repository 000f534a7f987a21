//! What a table says about itself.
//!
//! ```text
//! properties: [version u8 = 1][count varint]  then, by ascending id:
//!             [id varint][value: varint length, bytes]
//! ```
//! A number is a varint in its value. Unknown ids are skipped, so that a later version may add
//! some; a missing one reads as 0 or empty.

use super::format::Codec;
use crate::base::codec::{Reader, put_bytes, put_varint};
use crate::base::{CfId, Seq};

const VERSION: u8 = 1;
/// The only order of user keys there is: by bytes.
pub const COMPARATOR_BYTES: u64 = 1;

/// What a table says about itself. Counts are of records; expiry times are Unix ms.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties {
    /// The column family it was written for.
    pub cf: CfId,
    /// Point records, deletes included.
    pub entries: u64,
    /// Point deletes.
    pub deletes: u64,
    /// Merge operands.
    pub merges: u64,
    /// Range tombstones.
    pub range_deletes: u64,
    /// Bytes of all user keys, each version counted.
    pub raw_key_bytes: u64,
    /// Bytes of all stored values.
    pub raw_value_bytes: u64,
    /// The smallest sequence number, range tombstones included.
    pub smallest_seq: Seq,
    /// The largest sequence number, range tombstones included.
    pub largest_seq: Seq,
    /// The smallest internal key, starts of range tombstones included.
    pub smallest: Vec<u8>,
    /// An internal key not below any in the table; if a range tombstone reaches furthest its
    /// end, with the largest trailer, which stands before all real versions of that key.
    pub largest: Vec<u8>,
    /// Records with an expiry.
    pub expiring: u64,
    /// The earliest expiry, 0 if there is none.
    pub expire_at_ms_min: u64,
    /// The latest expiry, 0 if there is none.
    pub expire_at_ms_max: u64,
    /// The codec asked for; single blocks may be stored uncompressed.
    pub codec: Codec,
    /// When the table was made, Unix ms.
    pub created_ms: u64,
    /// Data blocks.
    pub data_blocks: u64,
    /// Bytes of the data blocks in the file.
    pub data_bytes: u64,
    /// Bits of the filter for each user key; 0 if there is no filter.
    pub bloom_bits_per_key: u8,
    /// Distinct user keys of point records.
    pub user_keys: u64,
    /// Entries from one restart point to the next.
    pub restart_interval: u64,
    /// The order of user keys: [`COMPARATOR_BYTES`].
    pub comparator: u64,
    /// Bit `n` is set if a merge operand of operator number `n` is in the table.
    pub merge_ops: u64,
}

/// One property, by its number on disk.
enum Field<'a> {
    Number(&'a mut u64),
    Cf(&'a mut CfId),
    Seq(&'a mut Seq),
    Byte(&'a mut u8),
    Codec(&'a mut Codec),
    Bytes(&'a mut Vec<u8>),
}

impl Properties {
    /// All properties: number on disk, name, place. The numbers stay.
    fn fields(&mut self) -> [(u64, &'static str, Field<'_>); 23] {
        [
            (1, "cf", Field::Cf(&mut self.cf)),
            (2, "entries", Field::Number(&mut self.entries)),
            (3, "deletes", Field::Number(&mut self.deletes)),
            (4, "merges", Field::Number(&mut self.merges)),
            (5, "range_deletes", Field::Number(&mut self.range_deletes)),
            (6, "raw_key_bytes", Field::Number(&mut self.raw_key_bytes)),
            (7, "raw_value_bytes", Field::Number(&mut self.raw_value_bytes)),
            (8, "smallest_seq", Field::Seq(&mut self.smallest_seq)),
            (9, "largest_seq", Field::Seq(&mut self.largest_seq)),
            (10, "smallest", Field::Bytes(&mut self.smallest)),
            (11, "largest", Field::Bytes(&mut self.largest)),
            (12, "expiring", Field::Number(&mut self.expiring)),
            (13, "expire_at_ms_min", Field::Number(&mut self.expire_at_ms_min)),
            (14, "expire_at_ms_max", Field::Number(&mut self.expire_at_ms_max)),
            (15, "codec", Field::Codec(&mut self.codec)),
            (16, "created_ms", Field::Number(&mut self.created_ms)),
            (17, "data_blocks", Field::Number(&mut self.data_blocks)),
            (18, "data_bytes", Field::Number(&mut self.data_bytes)),
            (19, "bloom_bits_per_key", Field::Byte(&mut self.bloom_bits_per_key)),
            (20, "user_keys", Field::Number(&mut self.user_keys)),
            (21, "restart_interval", Field::Number(&mut self.restart_interval)),
            (22, "comparator", Field::Number(&mut self.comparator)),
            (23, "merge_ops", Field::Number(&mut self.merge_ops)),
        ]
    }

    /// The properties block.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut copy = self.clone();
        let fields = copy.fields();
        let mut out = vec![VERSION];
        put_varint(&mut out, fields.len() as u64);
        for (id, _, field) in fields {
            put_varint(&mut out, id);
            let mut value = Vec::new();
            match field {
                Field::Number(n) => put_varint(&mut value, *n),
                Field::Cf(cf) => put_varint(&mut value, u64::from(cf.0)),
                Field::Seq(seq) => put_varint(&mut value, seq.0),
                Field::Byte(n) => put_varint(&mut value, u64::from(*n)),
                Field::Codec(codec) => put_varint(&mut value, *codec as u64),
                Field::Bytes(bytes) => value.extend_from_slice(bytes),
            }
            put_bytes(&mut out, &value);
        }
        out
    }

    /// Reads a properties block; `None` if it is malformed.
    pub(super) fn read(bytes: &[u8]) -> Option<Properties> {
        let mut r = Reader::new(bytes);
        if r.u8()? != VERSION {
            return None;
        }
        let mut properties = Properties::default();
        let mut fields = properties.fields();
        for _ in 0..r.varint()? {
            let (id, value) = (r.varint()?, r.bytes()?);
            let number = || Reader::new(value).varint();
            let Some((_, _, field)) = fields.iter_mut().find(|(known, _, _)| *known == id) else {
                continue;
            };
            match field {
                Field::Number(n) => **n = number()?,
                Field::Cf(cf) => **cf = CfId(u32::try_from(number()?).ok()?),
                Field::Seq(seq) => **seq = Seq(number()?),
                Field::Byte(n) => **n = u8::try_from(number()?).ok()?,
                Field::Codec(codec) => **codec = Codec::from_u8(u8::try_from(number()?).ok()?)?,
                Field::Bytes(bytes) => bytes.extend_from_slice(value),
            }
        }
        r.is_empty().then_some(properties)
    }

    /// Names and values for people and programs: numbers in decimal, keys escaped.
    pub fn named(&self) -> Vec<(&'static str, String)> {
        let mut copy = self.clone();
        let text = |field: Field<'_>| match field {
            Field::Number(n) => n.to_string(),
            Field::Cf(cf) => cf.to_string(),
            Field::Seq(seq) => seq.to_string(),
            Field::Byte(n) => n.to_string(),
            Field::Codec(codec) => codec.name().to_string(),
            Field::Bytes(bytes) => crate::base::escape::escape(bytes),
        };
        copy.fields().into_iter().map(|(_, name, field)| (name, text(field))).collect()
    }

    /// Takes note of a point record.
    pub(super) fn note(
        &mut self,
        user_key: &[u8],
        seq: Seq,
        kind: crate::lsm::key::Kind,
        value: &[u8],
    ) {
        use crate::lsm::key::{Kind, split_value};
        self.entries += 1;
        self.raw_key_bytes += user_key.len() as u64;
        self.raw_value_bytes += value.len() as u64;
        self.note_seq(seq);
        match kind {
            Kind::Delete => self.deletes += 1,
            Kind::Merge => {
                self.merges += 1;
                self.merge_ops |= 1 << (value.first().copied().unwrap_or(0) & 63);
            }
            Kind::PutMeta => {
                let meta = split_value(kind, value).map(|(meta, _)| meta);
                if let Some(at) = meta.and_then(|meta| meta.expire_at_ms) {
                    let first = self.expiring == 0;
                    self.expiring += 1;
                    self.expire_at_ms_min = if first { at } else { self.expire_at_ms_min.min(at) };
                    self.expire_at_ms_max = self.expire_at_ms_max.max(at);
                }
            }
            Kind::Put | Kind::RangeDelete => {}
        }
    }

    /// Takes note of a range tombstone's or a record's sequence number. REQUIRES: called after
    /// the count of entries or range deletes went up.
    pub(super) fn note_seq(&mut self, seq: Seq) {
        let first = self.entries + self.range_deletes == 1;
        self.smallest_seq = if first { seq } else { self.smallest_seq.min(seq) };
        self.largest_seq = self.largest_seq.max(seq);
    }

    /// Takes note of a range tombstone and of the bounds it sets.
    pub(super) fn note_range_delete(&mut self, t: &crate::lsm::tombstone::RangeTombstone) {
        use crate::lsm::key::{Kind, compare, put_internal};
        self.range_deletes += 1;
        self.note_seq(t.seq);
        let (mut start, mut end) = (Vec::new(), Vec::new());
        put_internal(&mut start, &t.start, t.seq, Kind::RangeDelete);
        put_internal(&mut end, &t.end, Seq::MAX, Kind::MAX);
        if self.smallest.is_empty() || compare(&start, &self.smallest).is_lt() {
            self.smallest = start;
        }
        if self.largest.is_empty() || compare(&end, &self.largest).is_gt() {
            self.largest = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_back_and_unknown_ones_are_skipped() {
        let properties = Properties {
            cf: CfId(7),
            entries: 300,
            largest: b"zz".to_vec(),
            largest_seq: Seq::MAX,
            bloom_bits_per_key: 10,
            ..Properties::default()
        };
        let mut bytes = properties.encode();
        assert_eq!(Properties::read(&bytes).as_ref(), Some(&properties));
        bytes[1] += 1;
        assert_eq!(Properties::read(&bytes), None);
        put_varint(&mut bytes, 99);
        put_bytes(&mut bytes, b"from the future");
        assert_eq!(Properties::read(&bytes), Some(properties));
    }
}

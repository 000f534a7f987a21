//! One change of the manifest.
//!
//! ```text
//! edit:      fields, one behind the other
//! field:     [tag u8][content]
//!  1 next file       [number varint]
//!  2 last seq        [seq varint]
//!  3 committed time  [Unix ms varint]
//!  4 next family     [id varint]
//!  5 create family   [cf varint][name bytes][options bytes]
//!  6 drop family     [cf varint]
//!  7 flushed         [cf varint][log index varint]
//!  8 add file        [cf varint][level u8][file]
//!  9 remove file     [cf varint][number varint]
//! 10 counts          [cf varint][keys varint][expires varint][exact u8]
//! 11 collected       [cf varint][seq varint]
//! 12 part            [first slot varint][last slot varint][epoch varint]
//! file:      [flags u8][number varint][size varint][entries varint][deletes varint]
//!            [range deletes varint][seq min varint][seq max varint][smallest bytes][largest bytes]
//!            [global seq varint, if flags & 2][first slot varint][last slot varint, if flags & 4]
//!            flags: 1 the largest key itself is not in the file, 2 all records have one sequence
//!            number, given here, 4 only records of these slots count
//! options:   [version u8 = 1][retain seqs varint]
//! ```
//! `bytes` are a varint length and as many bytes. An unknown tag, flag or version is refused: an
//! older program must not guess.

use crate::base::codec::{Reader, put_bytes, put_varint};
use crate::base::{CfId, LogIndex, Seq};
use crate::lsm::options::CfOptions;
use crate::op::route::{SLOTS, SlotRange};
use std::cmp::Ordering;

/// What the manifest knows of one sstable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
    /// File number: `NNNNNN.sst`. Never reused.
    pub number: u64,
    /// Size in bytes.
    pub size: u64,
    /// Point records.
    pub entries: u64,
    /// Point tombstones among them.
    pub deletes: u64,
    /// Range tombstones.
    pub range_deletes: u64,
    /// Least sequence number of any record.
    pub seq_min: Seq,
    /// Greatest sequence number of any record.
    pub seq_max: Seq,
    /// Least user key of any record, range tombstones' starts included.
    pub smallest: Vec<u8>,
    /// Upper bound of user keys: the greatest key, or a range tombstone's end if that is greater.
    pub largest: Vec<u8>,
    /// Whether `largest` is a range tombstone's end, and so outside.
    pub largest_is_excluded: bool,
    /// The sequence number that every record of an ingested file counts as having.
    pub global_seq: Option<Seq>,
    /// Only records of these slots count: the others were left behind by a split, and are gone
    /// with the next compaction. `None` for all.
    pub slots: Option<SlotRange>,
}

/// What a split leaves of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The slots that are left.
    pub slots: SlotRange,
    /// The shard's version of its slots.
    pub epoch: u64,
}

impl FileMeta {
    /// Whether the file ends before `key`.
    pub fn ends_before(&self, key: &[u8]) -> bool {
        match self.largest.as_slice().cmp(key) {
            Ordering::Less => true,
            Ordering::Equal => self.largest_is_excluded,
            Ordering::Greater => false,
        }
    }

    /// Whether `key` lies within the file's bounds.
    pub fn covers(&self, key: &[u8]) -> bool {
        self.smallest.as_slice() <= key && !self.ends_before(key)
    }

    /// Whether the file's bounds and another's have a key in common.
    pub fn overlaps(&self, other: &FileMeta) -> bool {
        !self.ends_before(&other.smallest) && !other.ends_before(&self.smallest)
    }
}

/// One field of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// The next file number to use.
    NextFile(u64),
    /// The greatest sequence number in sstables.
    LastSeq(Seq),
    /// The greatest commit time in sstables, Unix ms.
    CommittedMs(u64),
    /// The next family id to use.
    NextCf(CfId),
    /// A family begins.
    CreateCf {
        /// Its id.
        cf: CfId,
        /// Its name.
        name: String,
        /// Its options.
        options: CfOptions,
    },
    /// A family and its files end.
    DropCf(CfId),
    /// All of a family's records up to this log index are in sstables.
    Flushed(CfId, LogIndex),
    /// A file joins a level.
    AddFile {
        /// Family.
        cf: CfId,
        /// Level, from 0.
        level: u8,
        /// The file.
        file: FileMeta,
    },
    /// A file leaves.
    RemoveFile {
        /// Family.
        cf: CfId,
        /// File number.
        number: u64,
    },
    /// The family's counts as of its flushed index.
    Counts {
        /// Family.
        cf: CfId,
        /// Live keys.
        keys: u64,
        /// Keys with an expiry.
        expires: u64,
        /// Whether the figures are exact.
        exact: bool,
    },
    /// Versions below this sequence number may have been collected.
    Collected(CfId, Seq),
    /// The shard was split, and this is left of it.
    Part(Part),
}

/// One atomic change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edit {
    /// Its fields, in order.
    pub fields: Vec<Field>,
}

impl Edit {
    /// The edit's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for field in &self.fields {
            put_field(&mut out, field);
        }
        out
    }

    /// Reads an edit; which field is malformed if one is.
    pub fn decode(bytes: &[u8]) -> Result<Edit, Malformed> {
        let mut r = Reader::new(bytes);
        let mut fields = Vec::new();
        while !r.is_empty() {
            let at = bytes.len() - r.rest().len();
            let field = read_field(&mut r);
            fields.push(field.ok_or_else(|| Malformed { at, is_newer: is_newer(&bytes[at..]) })?);
        }
        Ok(Edit { fields })
    }
}

/// A field of an edit that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// Its offset in the edit.
    pub at: usize,
    /// Whether it is none that this version knows, rather than one that is cut.
    pub is_newer: bool,
}

/// The last kind of field that this version knows, and the flags of a file.
const LAST_TAG: u8 = 12;
const FILE_FLAGS: u8 = 7;
/// The version of a family's options.
const OPTIONS_VERSION: u8 = 1;

/// Whether the field that `bytes` begin with is one that a newer version wrote.
fn is_newer(bytes: &[u8]) -> bool {
    let mut r = Reader::new(bytes);
    let mut read = || {
        Some(match r.u8()? {
            5 => {
                _ = (read_cf(&mut r)?, r.bytes()?);
                *r.bytes()?.first()? > OPTIONS_VERSION
            }
            8 => {
                _ = (read_cf(&mut r)?, r.u8()?);
                r.u8()? & !FILE_FLAGS != 0
            }
            tag => tag > LAST_TAG,
        })
    };
    read().unwrap_or(false)
}

fn put_field(out: &mut Vec<u8>, field: &Field) {
    let cf_and = |out: &mut Vec<u8>, tag: u8, cf: &CfId, n: u64| {
        out.push(tag);
        put_varint(out, u64::from(cf.0));
        put_varint(out, n);
    };
    match field {
        Field::NextFile(n) => {
            out.push(1);
            put_varint(out, *n);
        }
        Field::LastSeq(seq) => {
            out.push(2);
            put_varint(out, seq.0);
        }
        Field::CommittedMs(ms) => {
            out.push(3);
            put_varint(out, *ms);
        }
        Field::NextCf(cf) => {
            out.push(4);
            put_varint(out, u64::from(cf.0));
        }
        Field::CreateCf { cf, name, options } => {
            out.push(5);
            put_varint(out, u64::from(cf.0));
            put_bytes(out, name.as_bytes());
            let mut bytes = vec![OPTIONS_VERSION];
            put_varint(&mut bytes, options.retain_seqs);
            put_bytes(out, &bytes);
        }
        Field::DropCf(cf) => {
            out.push(6);
            put_varint(out, u64::from(cf.0));
        }
        Field::Flushed(cf, index) => cf_and(out, 7, cf, index.0),
        Field::AddFile { cf, level, file } => {
            out.push(8);
            put_varint(out, u64::from(cf.0));
            out.push(*level);
            put_file(out, file);
        }
        Field::RemoveFile { cf, number } => cf_and(out, 9, cf, *number),
        Field::Counts { cf, keys, expires, exact } => {
            cf_and(out, 10, cf, *keys);
            put_varint(out, *expires);
            out.push(u8::from(*exact));
        }
        Field::Collected(cf, seq) => cf_and(out, 11, cf, seq.0),
        Field::Part(part) => {
            out.push(12);
            put_slots(out, part.slots);
            put_varint(out, part.epoch);
        }
    }
}

fn put_slots(out: &mut Vec<u8>, slots: SlotRange) {
    put_varint(out, slots.first.into());
    put_varint(out, slots.last.into());
}

fn put_file(out: &mut Vec<u8>, file: &FileMeta) {
    let flags = [file.largest_is_excluded, file.global_seq.is_some(), file.slots.is_some()];
    out.push(flags.iter().rev().fold(0, |all, flag| all << 1 | u8::from(*flag)));
    for n in [
        file.number,
        file.size,
        file.entries,
        file.deletes,
        file.range_deletes,
        file.seq_min.0,
        file.seq_max.0,
    ] {
        put_varint(out, n);
    }
    put_bytes(out, &file.smallest);
    put_bytes(out, &file.largest);
    if let Some(seq) = file.global_seq {
        put_varint(out, seq.0);
    }
    if let Some(slots) = file.slots {
        put_slots(out, slots);
    }
}

fn read_field(r: &mut Reader<'_>) -> Option<Field> {
    Some(match r.u8()? {
        1 => Field::NextFile(r.varint()?),
        2 => Field::LastSeq(read_seq(r)?),
        3 => Field::CommittedMs(r.varint()?),
        4 => Field::NextCf(read_cf(r)?),
        5 => {
            let cf = read_cf(r)?;
            let name = String::from_utf8(r.bytes()?.to_vec()).ok()?;
            Field::CreateCf { cf, name, options: read_options(r.bytes()?)? }
        }
        6 => Field::DropCf(read_cf(r)?),
        7 => Field::Flushed(read_cf(r)?, LogIndex(r.varint()?)),
        8 => Field::AddFile { cf: read_cf(r)?, level: r.u8()?, file: read_file(r)? },
        9 => Field::RemoveFile { cf: read_cf(r)?, number: r.varint()? },
        10 => Field::Counts {
            cf: read_cf(r)?,
            keys: r.varint()?,
            expires: r.varint()?,
            exact: match r.u8()? {
                0 => false,
                1 => true,
                _ => return None,
            },
        },
        11 => Field::Collected(read_cf(r)?, read_seq(r)?),
        12 => Field::Part(Part { slots: read_slots(r)?, epoch: r.varint()? }),
        _ => return None,
    })
}

fn read_slots(r: &mut Reader<'_>) -> Option<SlotRange> {
    let (first, last) = (u16::try_from(r.varint()?).ok()?, u16::try_from(r.varint()?).ok()?);
    (first <= last && last < SLOTS).then_some(SlotRange { first, last })
}

fn read_cf(r: &mut Reader<'_>) -> Option<CfId> {
    u32::try_from(r.varint()?).ok().map(CfId)
}

fn read_seq(r: &mut Reader<'_>) -> Option<Seq> {
    Some(Seq(r.varint()?)).filter(|seq| *seq <= Seq::MAX)
}

fn read_options(bytes: &[u8]) -> Option<CfOptions> {
    let mut r = Reader::new(bytes);
    if r.u8()? != OPTIONS_VERSION {
        return None;
    }
    let options = CfOptions { retain_seqs: r.varint()? };
    r.is_empty().then_some(options)
}

fn read_file(r: &mut Reader<'_>) -> Option<FileMeta> {
    let flags = r.u8()?;
    if flags & !FILE_FLAGS != 0 {
        return None;
    }
    let file = FileMeta {
        number: r.varint()?,
        size: r.varint()?,
        entries: r.varint()?,
        deletes: r.varint()?,
        range_deletes: r.varint()?,
        seq_min: read_seq(r)?,
        seq_max: read_seq(r)?,
        smallest: r.bytes()?.to_vec(),
        largest: r.bytes()?.to_vec(),
        largest_is_excluded: flags & 1 != 0,
        global_seq: if flags & 2 != 0 { Some(read_seq(r)?) } else { None },
        slots: if flags & 4 != 0 { Some(read_slots(r)?) } else { None },
    };
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn sample() -> Edit {
        let file = FileMeta {
            number: 9,
            size: 4096,
            entries: 12,
            deletes: 3,
            range_deletes: 1,
            seq_min: Seq(4),
            seq_max: Seq(300),
            smallest: b"a".to_vec(),
            largest: b"zz".to_vec(),
            largest_is_excluded: true,
            global_seq: Some(Seq(300)),
            slots: Some(SlotRange { first: 7, last: 16_000 }),
        };
        let part = Part { slots: SlotRange { first: 7, last: 8_000 }, epoch: 3 };
        let cf = CfId(1);
        Edit {
            fields: vec![
                Field::NextFile(10),
                Field::LastSeq(Seq(300)),
                Field::CommittedMs(1_700_000_000_000),
                Field::NextCf(CfId(2)),
                Field::CreateCf { cf, name: "users".into(), options: CfOptions::default() },
                Field::Flushed(cf, LogIndex(77)),
                Field::AddFile { cf, level: 0, file },
                Field::Counts { cf, keys: 9, expires: 1, exact: true },
                Field::Collected(cf, Seq(290)),
                Field::Part(part),
                Field::RemoveFile { cf, number: 9 },
                Field::DropCf(cf),
            ],
        }
    }

    #[test]
    fn an_edit_comes_back_and_a_cut_one_names_the_field() {
        let edit = sample();
        let bytes = edit.encode();
        assert_eq!(Edit::decode(&bytes), Ok(edit));
        let at = bytes.len() - 2;
        let cut = Edit::decode(&bytes[..bytes.len() - 1]);
        assert_eq!(cut, Err(Malformed { at, is_newer: false }));
        assert_eq!(Edit::decode(&[99]), Err(Malformed { at: 0, is_newer: true }));
    }

    #[test]
    fn bounds_say_what_overlaps() {
        let file = |smallest: &str, largest: &str, excluded| FileMeta {
            smallest: smallest.into(),
            largest: largest.into(),
            largest_is_excluded: excluded,
            ..match &sample().fields[6] {
                Field::AddFile { file, .. } => file.clone(),
                _ => unreachable!(),
            }
        };
        assert!(file("a", "c", false).overlaps(&file("c", "d", false)));
        assert!(!file("a", "c", true).overlaps(&file("c", "d", false)));
        assert!(!file("c", "d", false).overlaps(&file("a", "c", true)));
        assert!(file("a", "z", false).overlaps(&file("c", "d", false)));
        assert!(file("a", "c", false).covers(b"c"));
        assert!(!file("a", "c", true).covers(b"c"));
    }
}

//! A copy of a shard, held by a node and read file by file.
//!
//! ```text
//! begin:  [version u8 = 1] shard, epoch     -> [version u8 = 1] held
//! held:   copy u64 LE, node, index, seq, count, files (name, size)
//! sum:    copy u64 LE, file                 -> u128 LE
//! read:   copy u64 LE, file, offset, bytes  -> the bytes
//! end:    copy u64 LE                       -> nothing
//! ```
//! What has no type here is a varint. A file is named by its place in the list. A node lets a copy
//! go that nobody asks for during [`IDLE`].

use crate::base::codec::{put_bytes, put_varint};
use crate::base::{Error, LogIndex, Result, Seq, ShardId};
use crate::rpc::ops::Cut;
use bytes::Bytes;
use std::time::Duration;

const VERSION: u8 = 1;

/// The most bytes that one question gets.
pub const READ_BYTES_MAX: u64 = 1 << 20;
/// A copy that nobody asked for during this time goes.
pub const IDLE: Duration = Duration::from_secs(60);
/// The longest name of a file.
const NAME_BYTES_MAX: usize = 255;

/// A copy as the node that holds it tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldCopy {
    /// Its number on that node.
    pub copy: u64,
    /// The node.
    pub node: u64,
    /// It holds exactly what the shard's log has up to this entry.
    pub index: LogIndex,
    /// The greatest sequence number in it.
    pub seq: Seq,
    /// Its files: name, without folder, and bytes.
    pub files: Vec<(String, u64)>,
}

/// The bytes of a wish for a copy of a shard at an epoch of its slots.
pub fn encode_begin(shard: ShardId, epoch: u64) -> Bytes {
    let mut out = vec![VERSION];
    put_varint(&mut out, shard.0);
    put_varint(&mut out, epoch);
    out.into()
}

/// The shard and the epoch of some bytes.
///
/// # Errors
/// If they are none, or of a newer version.
pub fn decode_begin(body: &Bytes) -> Result<(ShardId, u64)> {
    let mut cut = Cut::new(body, "a wish for a copy");
    version(&mut cut)?;
    let asked = (ShardId(cut.varint()?), cut.varint()?);
    cut.end()?;
    Ok(asked)
}

/// The bytes of a held copy.
pub fn encode_held(held: &HeldCopy) -> Bytes {
    let mut out = vec![VERSION];
    out.extend_from_slice(&held.copy.to_le_bytes());
    put_varint(&mut out, held.node);
    put_varint(&mut out, held.index.0);
    put_varint(&mut out, held.seq.0);
    put_varint(&mut out, held.files.len() as u64);
    for (name, size) in &held.files {
        put_bytes(&mut out, name.as_bytes());
        put_varint(&mut out, *size);
    }
    out.into()
}

/// The held copy of some bytes.
///
/// # Errors
/// If they are none, name a file that is no plain name, or are of a newer version.
pub fn decode_held(body: &Bytes) -> Result<HeldCopy> {
    let mut cut = Cut::new(body, "a copy");
    version(&mut cut)?;
    let (copy, node) = (cut.u64()?, cut.varint()?);
    let (index, seq) = (LogIndex(cut.varint()?), Seq(cut.varint()?));
    let count = cut.count(2)?;
    let mut files = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        let name = cut.text()?;
        if !is_plain(name) {
            return Err(Error::invalid(format!("a copy has a file of the name {name:?}")));
        }
        files.push((name.to_string(), cut.varint()?));
    }
    cut.end()?;
    Ok(HeldCopy { copy, node, index, seq, files })
}

/// Whether a name stays in its folder, wherever it is written to.
pub fn is_plain(name: &str) -> bool {
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.starts_with('.');
    fits && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// The bytes of a question for a file's sum.
pub fn encode_sum(copy: u64, file: u64) -> Bytes {
    let mut out = copy.to_le_bytes().to_vec();
    put_varint(&mut out, file);
    out.into()
}

/// The copy and the file of some bytes.
///
/// # Errors
/// If they are none.
pub fn decode_sum(body: &Bytes) -> Result<(u64, u64)> {
    let mut cut = Cut::new(body, "a question for a sum");
    let asked = (cut.u64()?, cut.varint()?);
    cut.end()?;
    Ok(asked)
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadCopy {
    /// The copy.
    pub copy: u64,
    /// The file.
    pub file: u64,
    /// From where on.
    pub offset: u64,
    /// How many bytes, at most [`READ_BYTES_MAX`].
    pub bytes: u64,
}

/// The bytes of a question for a part.
pub fn encode_read(read: &ReadCopy) -> Bytes {
    let mut out = read.copy.to_le_bytes().to_vec();
    put_varint(&mut out, read.file);
    put_varint(&mut out, read.offset);
    put_varint(&mut out, read.bytes);
    out.into()
}

/// The part that some bytes ask for.
///
/// # Errors
/// If they ask for none, or for too much.
pub fn decode_read(body: &Bytes) -> Result<ReadCopy> {
    let mut cut = Cut::new(body, "a question for a part of a copy");
    let (copy, file) = (cut.u64()?, cut.varint()?);
    let (offset, bytes) = (cut.varint()?, cut.varint()?);
    cut.end()?;
    if bytes > READ_BYTES_MAX {
        return Err(cut.malformed());
    }
    Ok(ReadCopy { copy, file, offset, bytes })
}

fn version(cut: &mut Cut<'_>) -> Result<()> {
    match cut.u8()? {
        VERSION => Ok(()),
        other => Err(cut.unknown(other.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_travel_and_nothing_else_does() {
        let begin = encode_begin(ShardId(7), 300);
        assert_eq!(decode_begin(&begin).unwrap(), (ShardId(7), 300));
        let held = HeldCopy {
            copy: u64::MAX,
            node: 3,
            index: LogIndex(1000),
            seq: Seq(70_000),
            files: vec![("000012.sst".into(), 1 << 33), ("CURRENT".into(), 0)],
        };
        let told = encode_held(&held);
        assert_eq!(decode_held(&told).unwrap(), held);
        let sum = encode_sum(9, 400);
        assert_eq!(decode_sum(&sum).unwrap(), (9, 400));
        let read = ReadCopy { copy: 9, file: 1, offset: 1 << 40, bytes: READ_BYTES_MAX };
        let part = encode_read(&read);
        assert_eq!(decode_read(&part).unwrap(), read);
        assert!((0..begin.len()).all(|end| decode_begin(&begin.slice(..end)).is_err()));
        assert!((0..told.len()).all(|end| decode_held(&told.slice(..end)).is_err()));
        assert!((0..sum.len()).all(|end| decode_sum(&sum.slice(..end)).is_err()));
        assert!((0..part.len()).all(|end| decode_read(&part.slice(..end)).is_err()));
        let greedy = encode_read(&ReadCopy { bytes: READ_BYTES_MAX + 1, ..read });
        assert!(decode_read(&greedy).is_err());
        for name in ["", ".", "..", "../x", "a/b", "/x", ".hidden", "a\0b", &"x".repeat(256)] {
            let files = vec![(name.to_string(), 1)];
            let told = encode_held(&HeldCopy { files, ..held.clone() });
            assert!(decode_held(&told).is_err(), "{name:?}");
        }
    }
}

//! The stored form of an index: a header and sections, each with a checksum.
//!
//! ```text
//! header, 20 bytes
//!   0   8   magic "ArqonVec"
//!   8   2   version: 1, and of packed 2, which may have more doors
//!   10  1   kind of index: 1 hnsw, 2 pq_hnsw, 3 spfresh, 4 packed
//!   11  1   0
//!   12  4   number of sections
//!   16  4   CRC32C of bytes 0 to 15
//! each section
//!   0   8   length of the content
//!   8   4   CRC32C of bytes 0 to 7 and of the content
//!   12  ..  content
//! ```
//!
//! All integers are little-endian, floats are IEEE 754. Nothing stands behind the last section. What
//! the sections of a kind hold is drawn where they are parsed: `hnsw/stored.rs`,
//! `coded/stored.rs`, `packed/stored.rs` and `spfresh/stored.rs`. A new meaning gets a new version; a
//! version's bytes never change their meaning. Golden files of version 1 are in `tests/data`.

use crate::base::checksum::crc32c_append;
use crate::base::codec::Reader;
use crate::base::{Error, Result};

const MAGIC: &[u8; 8] = b"ArqonVec";
const HEADER_BYTES: usize = 20;
/// What errors call the bytes: their owner knows the file.
const NAME: &str = "vector segment";

/// Kinds of index in stored bytes; a number is never given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Hnsw = 1,
    PqHnsw = 2,
    Spfresh = 3,
    Packed = 4,
}

impl Kind {
    /// The version that is written; all up to it are read.
    fn version(self) -> u16 {
        match self {
            Kind::Packed => 2,
            Kind::Hnsw | Kind::PqHnsw | Kind::Spfresh => 1,
        }
    }
}

/// Puts a segment together.
pub(super) struct SegmentWriter {
    bytes: Vec<u8>,
    sections: u32,
}

impl SegmentWriter {
    pub(super) fn new(kind: Kind) -> SegmentWriter {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&kind.version().to_le_bytes());
        bytes.extend_from_slice(&[kind as u8, 0]);
        bytes.resize(HEADER_BYTES, 0);
        SegmentWriter { bytes, sections: 0 }
    }

    /// Appends a section of numbers, or of longer pieces.
    pub(super) fn section(&mut self, pieces: impl Iterator<Item = impl AsRef<[u8]>>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 12]);
        pieces.for_each(|piece| self.bytes.extend_from_slice(piece.as_ref()));
        let len = (self.bytes.len() - start - 12) as u64;
        self.bytes[start..start + 8].copy_from_slice(&len.to_le_bytes());
        let sum = crc32c_append(0, &self.bytes[start..start + 8]);
        let sum = crc32c_append(sum, &self.bytes[start + 12..]);
        self.bytes[start + 8..start + 12].copy_from_slice(&sum.to_le_bytes());
        self.sections += 1;
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes[12..16].copy_from_slice(&self.sections.to_le_bytes());
        let sum = crc32c_append(0, &self.bytes[..16]);
        self.bytes[16..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        self.bytes
    }
}

/// Takes a segment apart.
#[derive(Debug)]
pub(super) struct SegmentReader<'a> {
    reader: Reader<'a>,
    len: usize,
    sections: u32,
}

impl<'a> SegmentReader<'a> {
    /// Reads the header of a segment of this kind.
    pub(super) fn new(bytes: &'a [u8], kind: Kind) -> Result<SegmentReader<'a>> {
        let mut reader = Reader::new(bytes);
        let header = reader.take(HEADER_BYTES).ok_or_else(|| {
            corrupt(0, format!("{HEADER_BYTES} bytes of header"), format!("{} bytes", bytes.len()))
        })?;
        if &header[..8] != MAGIC {
            return Err(corrupt(0, "the magic ArqonVec", format!("{:02x?}", &header[..8])));
        }
        let field = |at: usize| -> u32 {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let sum = crc32c_append(0, &header[..16]);
        if field(16) != sum {
            return Err(corrupt(16, format!("checksum {sum:08x}"), format!("{:08x}", field(16))));
        }
        let version = u16::from_le_bytes([header[8], header[9]]);
        if header[10] != kind as u8 {
            return Err(corrupt(10, format!("kind {}", kind as u8), header[10].to_string()));
        }
        let newest = kind.version();
        if !(1..=newest).contains(&version) {
            let message =
                format!("a vector segment of version {version}; this program reads up to {newest}");
            return Err(Error::new(crate::base::ErrorKind::Unsupported, message));
        }
        Ok(SegmentReader { reader, len: bytes.len(), sections: field(12) })
    }

    /// The offset of what is read next.
    pub(super) fn offset(&self) -> u64 {
        (self.len - self.reader.rest().len()) as u64
    }

    /// The next section, whose checksum is right.
    pub(super) fn section(&mut self) -> Result<Section<'a>> {
        let offset = self.offset();
        let rest = self.reader.rest().len();
        let cut = || corrupt(offset, "a section", format!("{rest} bytes"));
        if self.sections == 0 {
            return Err(corrupt(offset, "a section", "the end"));
        }
        self.sections -= 1;
        let head = self.reader.take(12).ok_or_else(cut)?;
        let mut fields = Reader::new(head);
        let (len, sum) = fields.u64().zip(fields.u32()).ok_or_else(cut)?;
        let content = usize::try_from(len).ok().and_then(|len| self.reader.take(len));
        let content = content.ok_or_else(|| {
            corrupt(offset, format!("{} bytes at most", rest - 12), format!("a length of {len}"))
        })?;
        let found = crc32c_append(crc32c_append(0, &head[..8]), content);
        if found != sum {
            return Err(corrupt(offset, format!("checksum {sum:08x}"), format!("{found:08x}")));
        }
        Ok(Section { bytes: content, offset: offset + 12 })
    }

    /// Whether all has been read, as it should.
    pub(super) fn finish(self) -> Result<()> {
        if self.sections > 0 || !self.reader.is_empty() {
            let rest = self.reader.rest().len();
            return Err(corrupt(self.offset(), "the end", format!("{rest} bytes more")));
        }
        Ok(())
    }
}

/// The content of a section.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) offset: u64,
}

impl<'a> Section<'a> {
    /// Its numbers of `N` bytes each, of which there are `count`.
    pub(super) fn numbers<const N: usize>(&self, count: usize) -> Result<&'a [[u8; N]]> {
        if count.checked_mul(N) != Some(self.bytes.len()) {
            let expected = format!("{count} numbers of {N} bytes");
            return Err(corrupt(self.offset, expected, format!("{} bytes", self.bytes.len())));
        }
        Ok(self.bytes.as_chunks::<N>().0)
    }

    /// What is wrong with one of its numbers.
    pub(super) fn corrupt(&self, at: usize, expected: &str, found: impl ToString) -> Error {
        corrupt(self.offset + at as u64, expected, found.to_string())
    }
}

fn corrupt(offset: u64, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::corruption(NAME, offset, expected, found)
}

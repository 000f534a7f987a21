//! Records in a manifest file.
//!
//! ```text
//! file:    [magic "ARQNMANI"][version u32 = 1][file number u64][crc32c of these 20 bytes u32]
//!          records
//! record:  [payload length u32][crc32c u32][record number u64][payload: an edit]
//! ```
//! Integers are little-endian. The checksum covers the record number and the payload, and begins
//! with the file number, so that a record of another file is never taken for one of this. Records
//! are numbered from 1.
//!
//! Each record is durable before the next is written, so only the last can be torn. A record that
//! does not check is a torn tail if no whole record stands anywhere behind it, else it is damage.

use crate::base::codec::Reader;
use crate::base::{Error, ErrorKind, Result};
use crate::env::disk::{Disk, read_exact_at};
use crate::lsm::manifest::edit::Edit;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"ARQNMANI";
const VERSION: u32 = 1;
/// Bytes of the file header.
pub const HEADER_BYTES: u64 = 24;
const FRAME_BYTES: usize = 16;
/// The largest manifest that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// The header of file `number`.
pub fn header(number: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES as usize);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Appends the `record`-th record of file `file`.
pub fn put_record(out: &mut Vec<u8>, file: u64, record: u64, edit: &Edit) {
    let payload = edit.encode();
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&checksum(file, record, &payload).to_le_bytes());
    out.extend_from_slice(&record.to_le_bytes());
    out.extend_from_slice(&payload);
}

fn checksum(file: u64, record: u64, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&file.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &record.to_le_bytes());
    crc32c::crc32c_append(crc, payload)
}

/// Reads a manifest record by record, without changing it.
#[derive(Debug)]
pub struct RecordReader {
    path: PathBuf,
    number: u64,
    bytes: Vec<u8>,
    at: usize,
    next_record: u64,
    torn: bool,
}

impl RecordReader {
    /// Opens a manifest and checks its header.
    ///
    /// # Errors
    /// `Corruption` if the header is not that of a manifest; `Unsupported` if a newer version wrote
    /// it; `NotFound`, `Io`.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<RecordReader> {
        let file = disk.open(path)?;
        let len = file.len()?;
        if len > FILE_BYTES_MAX {
            let found = format!("{len}");
            return Err(Error::corruption(path, 0, "a file of at most 4 GiB", found));
        }
        let mut bytes = vec![0; len as usize];
        read_exact_at(file.as_ref(), path, &mut bytes, 0)?;
        RecordReader::new(path, bytes)
    }

    /// Reads the manifest `bytes`, called `path` in errors.
    pub fn new(path: &Path, bytes: Vec<u8>) -> Result<RecordReader> {
        let damaged = |found| Error::corruption(path, 0, "a manifest's header", found);
        let number = match read_header(&bytes).map_err(damaged)? {
            (VERSION, number) => number,
            (0, _) => return Err(damaged("version 0".into())),
            (version, _) => {
                let name = path.display();
                let message =
                    format!("{name} has manifest format {version}, this program reads {VERSION}");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        };
        let path = path.to_path_buf();
        Ok(RecordReader {
            path,
            number,
            bytes,
            at: HEADER_BYTES as usize,
            next_record: 1,
            torn: false,
        })
    }

    /// The file's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether the file ended in a record that was not wholly written. Known at the end.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// The next record: its offset in the file, and the edit. `None` at the end or a torn tail.
    ///
    /// # Errors
    /// `Corruption` with the record's offset; `Unsupported` if a newer version wrote it.
    #[expect(clippy::should_implement_trait, reason = "errors end the walk by `?`")]
    pub fn next(&mut self) -> Result<Option<(u64, Edit)>> {
        if self.at == self.bytes.len() || self.torn {
            return Ok(None);
        }
        let at = self.at;
        match self.record_at(at, Some(self.next_record)) {
            Some((payload, end)) => {
                let edit = Edit::decode(&self.bytes[payload.clone()]).map_err(|field| {
                    let at = payload.start + field.at;
                    match field.is_newer {
                        true => self.newer(at),
                        false => self.damage(at, "a field of an edit", "a malformed one"),
                    }
                })?;
                self.at = end;
                self.next_record += 1;
                Ok(Some((at as u64, edit)))
            }
            None if self.whole_record_behind(at) => {
                let found = "one that does not check, with whole records behind it";
                Err(self.damage(at, &format!("record {}", self.next_record), found))
            }
            None => {
                self.torn = true;
                Ok(None)
            }
        }
    }

    /// The payload's place and the record's end, if a whole record (numbered so, if given) starts
    /// at `at`.
    fn record_at(&self, at: usize, want: Option<u64>) -> Option<(std::ops::Range<usize>, usize)> {
        let mut r = Reader::new(self.bytes.get(at..)?);
        let len = r.u32()? as usize;
        let crc = r.u32()?;
        let record = r.u64()?;
        if len > r.rest().len() || want.is_some_and(|want| want != record) {
            return None;
        }
        // Elsewhere than expected, only a number that can come behind is worth a checksum.
        let far = self.next_record + self.bytes.len() as u64;
        if want.is_none() && (record <= self.next_record || record > far) {
            return None;
        }
        let start = at + FRAME_BYTES;
        let payload = start..start + len;
        (crc == checksum(self.number, record, &self.bytes[payload.clone()]))
            .then_some((payload, start + len))
    }

    fn whole_record_behind(&self, at: usize) -> bool {
        (at + 1..self.bytes.len()).any(|at| self.record_at(at, None).is_some())
    }

    /// The error of a field at `at` that this version does not know.
    fn newer(&self, at: usize) -> Error {
        let message = format!(
            "{} holds at offset {at} what this version does not know; upgrade the program",
            self.path.display()
        );
        Error::new(ErrorKind::Unsupported, message)
    }

    /// A corruption error at `at`.
    pub fn damage(&self, at: usize, expected: &str, found: &str) -> Error {
        Error::corruption(&self.path, at as u64, expected, found)
    }
}

/// The version and the file's number.
fn read_header(bytes: &[u8]) -> std::result::Result<(u32, u64), String> {
    let head = bytes.get(..HEADER_BYTES as usize).ok_or(format!("{} bytes", bytes.len()))?;
    if &head[..8] != MAGIC {
        return Err("another magic".into());
    }
    let mut r = Reader::new(&head[8..]);
    let (version, number, crc) = (r.u32(), r.u64(), r.u32());
    if crc != Some(crc32c::crc32c(&head[..20])) {
        return Err("a checksum that does not hold".into());
    }
    version.zip(number).ok_or(format!("{} bytes", bytes.len()))
}

//! The file as a whole: blocks behind one another, and a footer that says where the rest is.
//!
//! ```text
//! file:    [data block]...  [filter block]?  [range delete block]?  [index block]
//!          [properties block]  [footer]                      nothing between, nothing behind
//! block:   [payload][codec u8][crc32c u32]
//!          the checksum covers the payload, the codec and the block's offset as u64
//! payload: the bytes themselves (codec 0), or [raw length u32][lz4 block] (codec 1)
//! footer:  [version u32 = 1][flags u32 = 0]
//!          [properties handle][index handle][filter handle][range delete handle]
//!          [crc32c u32 of the bytes before][magic 8 bytes]                        68 bytes
//! handle:  [offset u64][payload length u32]        length 0: there is no such block
//! ```
//! Integers are little-endian. The offset in a block's checksum tells a block from the right
//! one's neighbour, should the device bring the wrong one.

use super::lz4::Encoder;
use crate::base::codec::Reader;
use crate::base::{Error, ErrorKind, Result};
use crate::env::File;
use crate::env::disk::read_exact_at;
use std::cell::RefCell;
use std::path::Path;

/// The format's version.
pub const VERSION: u32 = 1;
/// Bytes behind a block's payload.
pub const BLOCK_TRAILER_BYTES: u64 = 5;
/// Bytes of the footer.
pub const FOOTER_BYTES: u64 = 68;
/// The longest record (user key and stored value together) that a table takes.
pub const RECORD_BYTES_MAX: usize = 1 << 30;
/// The longest block, uncompressed: a record and some room.
const RAW_BYTES_MAX: usize = RECORD_BYTES_MAX + (1 << 26);
const MAGIC: [u8; 8] = *b"arqonSST";

/// How a block is compressed. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    None = 0,
    /// LZ4 block format, where it saves an eighth.
    #[default]
    Lz4 = 1,
}

impl Codec {
    /// The codec of a stored number.
    pub fn from_u8(n: u8) -> Option<Codec> {
        match n {
            0 => Some(Codec::None),
            1 => Some(Codec::Lz4),
            _ => None,
        }
    }

    /// The codec's name: `none`, `lz4`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Lz4 => "lz4",
        }
    }
}

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handle {
    /// Offset of the payload in the file.
    pub offset: u64,
    /// Length of the payload in bytes, as it is on disk.
    pub len: u32,
}

impl Handle {
    /// Whether it stands for no block.
    pub fn is_none(&self) -> bool {
        self.len == 0
    }

    /// The offset behind the block and its trailer; `u64::MAX` if that is past all offsets.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.len) + BLOCK_TRAILER_BYTES)
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Option<Handle> {
        Some(Handle { offset: r.u64()?, len: r.u32()? })
    }
}

/// Where everything but the data blocks lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footer {
    /// Properties.
    pub properties: Handle,
    /// Index.
    pub index: Handle,
    /// Bloom filter, or none.
    pub filter: Handle,
    /// Range deletes, or none.
    pub range_deletes: Handle,
}

impl Footer {
    /// The footer's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES as usize);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        for handle in [&self.properties, &self.index, &self.filter, &self.range_deletes] {
            handle.put(&mut out);
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.extend_from_slice(&MAGIC);
        out
    }

    /// Reads the footer of a file of `file_bytes` bytes and checks that its handles lie within.
    ///
    /// # Errors
    /// `Corruption`; `Unsupported` if a newer version wrote the file.
    pub fn read(file: &dyn File, path: &Path, file_bytes: u64) -> Result<Footer> {
        let Some(offset) = file_bytes.checked_sub(FOOTER_BYTES) else {
            let found = format!("a file of {file_bytes} bytes");
            return Err(Error::corruption(path, 0, "an sstable", found));
        };
        let mut bytes = [0; FOOTER_BYTES as usize];
        read_exact_at(file, path, &mut bytes, offset)?;
        let damaged =
            |expected: String, found: String| Error::corruption(path, offset, expected, found);
        let (body, tail) = bytes.split_at(FOOTER_BYTES as usize - 12);
        let (crc, magic) = tail.split_at(4);
        if magic != MAGIC {
            let expected = format!("the magic bytes {}", crate::base::escape::escape(&MAGIC));
            return Err(damaged(expected, crate::base::escape::escape(magic)));
        }
        let (expected, found) = (crc32c::crc32c(body), Reader::new(crc).u32().unwrap_or(0));
        if expected != found {
            return Err(damaged(
                format!("a footer with checksum {expected:08x}"),
                format!("{found:08x}"),
            ));
        }
        let mut r = Reader::new(body);
        let version = r.u32().unwrap_or(0);
        if version != VERSION || r.u32() != Some(0) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{} has sstable format {version}, this program reads 1", path.display()),
            ));
        }
        let mut handle = || Handle::read(&mut r).unwrap_or_default();
        let footer = Footer {
            properties: handle(),
            index: handle(),
            filter: handle(),
            range_deletes: handle(),
        };
        let all = [footer.properties, footer.index, footer.filter, footer.range_deletes];
        let within = |h: &Handle| h.is_none() || h.end() <= offset;
        if !all.iter().all(within) || footer.properties.is_none() || footer.index.is_none() {
            return Err(damaged("blocks within the file".into(), format!("{footer:?}")));
        }
        Ok(footer)
    }
}

/// Appends a block to `out`, compressed by `codec` if that saves an eighth, as far as it is tried.
/// `offset` is that of the block in the file. Gives the block's handle.
///
/// # Errors
/// `InvalidArgument` if the block is too long for the format.
pub(super) fn put_block(
    out: &mut Vec<u8>,
    offset: u64,
    raw: &[u8],
    codec: Codec,
    encoder: &mut Encoder,
) -> Result<Handle> {
    if raw.len() > RAW_BYTES_MAX {
        return Err(Error::invalid(format!("an sstable block of {} bytes is too long", raw.len())));
    }
    let start = out.len();
    let mut used = Codec::None;
    if codec == Codec::Lz4 {
        out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        let bytes_max = (raw.len() - raw.len() / 8).saturating_sub(4);
        if encoder.encode_next(raw, bytes_max, out) {
            used = Codec::Lz4;
        } else {
            out.truncate(start);
        }
    }
    if used == Codec::None {
        out.extend_from_slice(raw);
    }
    let len = (out.len() - start) as u32;
    out.push(used as u8);
    let crc = checksum(&out[start..], offset);
    out.extend_from_slice(&crc.to_le_bytes());
    Ok(Handle { offset, len })
}

/// Reads a block, checks it, and gives its bytes uncompressed.
///
/// # Errors
/// `Corruption` with the block's offset; what the disk answers.
pub fn read_block(file: &dyn File, path: &Path, handle: Handle) -> Result<Vec<u8>> {
    let mut bytes = vec![0; stored_bytes(handle)];
    read_exact_at(file, path, &mut bytes, handle.offset)?;
    unpack(bytes, path, handle.offset)
}

/// As [`read_block`], where `codec` is what the block is likely stored in: packed bytes are read
/// into memory that the thread keeps for that.
pub fn read_block_of(
    file: &dyn File,
    path: &Path,
    handle: Handle,
    codec: Codec,
) -> Result<Vec<u8>> {
    let len = stored_bytes(handle);
    if codec == Codec::None || len > SCRATCH_BYTES_MAX {
        return read_block(file, path, handle);
    }
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            scratch.resize(SCRATCH_BYTES_MAX, 0);
        }
        let bytes = &mut scratch[..len];
        read_exact_at(file, path, bytes, handle.offset)?;
        unpack_slice(bytes, path, handle.offset)
    })
}

thread_local! {
    /// Where a thread reads blocks that it then unpacks elsewhere.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A larger block is read elsewhere.
const SCRATCH_BYTES_MAX: usize = 16 << 10;

/// Bytes that a block takes in the file, its trailer included.
fn stored_bytes(handle: Handle) -> usize {
    handle.len as usize + BLOCK_TRAILER_BYTES as usize
}

/// Checks a block that was read with its trailer from `offset`, and gives its bytes uncompressed.
pub fn unpack(mut bytes: Vec<u8>, path: &Path, offset: u64) -> Result<Vec<u8>> {
    let codec = check(&bytes, path, offset)?;
    bytes.truncate(bytes.len().saturating_sub(BLOCK_TRAILER_BYTES as usize));
    match codec {
        Codec::None => Ok(bytes),
        Codec::Lz4 => unpack_lz4(&bytes, path, offset),
    }
}

/// As [`unpack`], of bytes that are borrowed.
pub fn unpack_slice(bytes: &[u8], path: &Path, offset: u64) -> Result<Vec<u8>> {
    let codec = check(bytes, path, offset)?;
    let payload = &bytes[..bytes.len().saturating_sub(BLOCK_TRAILER_BYTES as usize)];
    match codec {
        Codec::None => Ok(payload.to_vec()),
        Codec::Lz4 => unpack_lz4(payload, path, offset),
    }
}

fn check(bytes: &[u8], path: &Path, offset: u64) -> Result<Codec> {
    let damaged =
        |expected: String, found: String| Err(Error::corruption(path, offset, expected, found));
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
        return damaged("a block".into(), format!("{} bytes", bytes.len()));
    };
    let (expected, found) = (checksum(body, offset), u32::from_le_bytes(*crc));
    if expected != found {
        return damaged(format!("a block with checksum {expected:08x}"), format!("{found:08x}"));
    }
    match body.last().map(|codec| (Codec::from_u8(*codec), codec)) {
        Some((Some(codec), _)) => Ok(codec),
        other => damaged("codec 0 or 1".into(), format!("{:?}", other.map(|(_, n)| n))),
    }
}

fn unpack_lz4(payload: &[u8], path: &Path, offset: u64) -> Result<Vec<u8>> {
    let damaged = |found: String| Error::corruption(path, offset, "an lz4 block", found);
    let Some((raw_len, packed)) = payload.split_first_chunk::<4>() else {
        return Err(damaged(format!("{} bytes", payload.len())));
    };
    let raw_len = u32::from_le_bytes(*raw_len) as usize;
    // LZ4 cannot expand more than 255 times: a longer claim is a lie, not to be allocated.
    if raw_len > RAW_BYTES_MAX || raw_len > packed.len().saturating_mul(255) {
        return Err(damaged(format!("{} bytes said to hold {raw_len}", packed.len())));
    }
    let mut raw = vec![0; raw_len];
    match lz4_flex::block::decompress_into(packed, &mut raw) {
        Ok(n) if n == raw_len => Ok(raw),
        Ok(n) => Err(damaged(format!("{n} bytes instead of {raw_len}"))),
        Err(e) => Err(damaged(e.to_string())),
    }
}

fn checksum(body: &[u8], offset: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(body), &offset.to_le_bytes())
}

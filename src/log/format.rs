//! The bytes of a segment. All integers are little-endian.
//!
//! A file `0000000007.log` is segment 7. It has a header, then frames without gaps, then bytes
//! that mean nothing: zeros, or what an earlier life of the file left behind.
//!
//! ```text
//! segment header, 32 bytes
//!  0  magic    8  "ARQONLOG"
//!  8  version  4  1
//! 12  salt     4  differs from the salt of every other segment of this log
//! 16  segment  4  the number, as in the file's name
//! 20  zero     8
//! 28  crc      4  CRC32C of bytes 0..28
//!
//! frame, 32 bytes and `len` more
//!  0  crc      4  CRC32C of the header's other fields (4..14, 16..32) and the payload, seeded
//!                 with salt + offset of the frame
//!  4  len      4  bytes of payload in this frame
//!  8  synced   4  this segment was known to be durable up to this offset, with all segments
//!                 before it, when the frame was written; 0: not known
//! 12  kind     1  1 entry, 2 truncate, 3 state; 16 link
//! 13  flags    1  1 first frame of its record, 2 last of its record, 4 last of its batch
//! 14  check    2  the low half of that CRC as it stood before the payload
//! 16  group    8
//! 24  index    8
//! 32  payload
//! ```
//!
//! A record that does not fit into what is left of a segment goes on in the next: its frames
//! share kind, group and index. What one call appended is a batch: it counts only with the frame
//! flagged as its last.
//!
//! A **link** is no record. The first frame of each segment is one: `index` is the position at
//! which the segment before it ends, `group` the position up to which the log was durable when
//! the link was written. A link elsewhere (written at a clean stop) says only the latter.
//!
//! Why the seed: CRC32C is a bijection of its seed, so bytes that are valid under one seed are
//! invalid under every other. Bytes of a file's earlier life were written under another salt at
//! the same offset: they can never pass, not even by chance. Nor does a frame pass that was
//! stored as somebody's payload, save by a chance of 2^-32.
//!
//! Why the check: a search for frames among bytes that mean nothing asks at every offset, and a
//! length read from garbage must not send it through megabytes of payload.

use crate::base::checksum::{crc32c_append, crc32c_append_fields};
use crate::base::{Error, ErrorKind, Result};
use crate::log::record::RecordKind;
use std::path::Path;

/// Bytes of the header of a segment.
pub(super) const SEGMENT_HEADER: usize = 32;
/// Bytes of the header of a frame.
pub(super) const FRAME_HEADER: usize = 32;
/// Where the first frame behind the link stands.
pub(super) const FIRST_FRAME: u64 = (SEGMENT_HEADER + FRAME_HEADER) as u64;
/// The smallest segment: room for more than headers.
pub(super) const MIN_SEGMENT_BYTES: u64 = 4 << 10;
/// The largest segment: an offset in it fits into 32 bits with room to spare.
pub(super) const MAX_SEGMENT_BYTES: u64 = 1 << 30;
/// The most that one call may append, frame headers included.
pub(super) const MAX_BATCH_BYTES: u64 = 1 << 30;

const MAGIC: &[u8; 8] = b"ARQONLOG";
const VERSION: u32 = 1;

/// First frame of its record.
pub(super) const FIRST: u8 = 1;
/// Last frame of its record.
pub(super) const LAST: u8 = 2;
/// Last frame of its batch.
pub(super) const END: u8 = 4;

/// The kind of a link.
pub(super) const LINK: u8 = 16;

/// What a frame's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) len: u32,
    pub(super) synced: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) group: u64,
    pub(super) index: u64,
}

/// The salt of segment `segment` in the log of `key`. Multiplying by an odd number permutes the
/// 32-bit integers, so no two segments of a log have the same.
pub(super) fn salt_of(key: u32, segment: u32) -> u32 {
    key.wrapping_add(segment.wrapping_mul(0x9E37_79B1))
}

/// The key of the log in which `segment` has `salt`.
pub(super) fn key_of(salt: u32, segment: u32) -> u32 {
    salt.wrapping_sub(segment.wrapping_mul(0x9E37_79B1))
}

/// The header of a segment.
pub(super) fn encode_segment(segment: u32, salt: u32) -> [u8; SEGMENT_HEADER] {
    let mut out = [0; SEGMENT_HEADER];
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[12..16].copy_from_slice(&salt.to_le_bytes());
    out[16..20].copy_from_slice(&segment.to_le_bytes());
    let crc = crc32c::crc32c(&out[..28]);
    out[28..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Reads a segment's header; gives its salt.
pub(super) fn decode_segment(bytes: &[u8], segment: u32, path: &Path) -> Result<u32> {
    let damaged = |expected: String, found: String| Error::corruption(path, 0, expected, found);
    if bytes.len() < SEGMENT_HEADER {
        return Err(damaged(
            format!("a segment header of {SEGMENT_HEADER} bytes"),
            format!("{} bytes", bytes.len()),
        ));
    }
    if bytes[..8] != MAGIC[..] {
        return Err(damaged("the mark ARQONLOG".into(), format!("{:02x?}", &bytes[..8])));
    }
    let (crc, want) = (crc32c::crc32c(&bytes[..28]), u32_at(bytes, 28));
    if crc != want {
        return Err(damaged(format!("checksum {want:08x}"), format!("{crc:08x}")));
    }
    let version = u32_at(bytes, 8);
    if version != VERSION {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{} has log format {version}; this program reads {VERSION}", path.display()),
        ));
    }
    if u32_at(bytes, 16) != segment {
        return Err(damaged(format!("segment {segment}"), format!("{}", u32_at(bytes, 16))));
    }
    Ok(u32_at(bytes, 12))
}

/// Appends to `out` the header of a frame that is to stand at `offset`, then `payload`.
/// `frame.len` must be the payload's length.
#[inline]
pub(super) fn encode_frame(
    out: &mut Vec<u8>,
    frame: &Frame,
    payload: &[u8],
    salt: u32,
    offset: u64,
) {
    let start = out.len();
    out.extend_from_slice(&encode_header(frame, payload, salt, offset));
    out.extend_from_slice(payload);
    debug_assert_eq!(out.len() - start, FRAME_HEADER + frame.len as usize);
}

/// The header alone, for a payload that is written from where it is.
#[inline]
pub(super) fn encode_header(
    frame: &Frame,
    payload: &[u8],
    salt: u32,
    offset: u64,
) -> [u8; FRAME_HEADER] {
    // Put together as integers: bytes written one by one and read back wider have to wait.
    let (len, synced) = (u64::from(frame.len), u64::from(frame.synced));
    let kind = u16::from(frame.kind) | u16::from(frame.flags) << 8;
    let check = header_crc(frame, salt, offset);
    let crc = u64::from(crc32c_append(check, payload));
    let mut out = [0; FRAME_HEADER];
    out[..8].copy_from_slice(&(crc | len << 32).to_le_bytes());
    let second = synced | u64::from(kind) << 32 | u64::from(check as u16) << 48;
    out[8..16].copy_from_slice(&second.to_le_bytes());
    out[16..24].copy_from_slice(&frame.group.to_le_bytes());
    out[24..].copy_from_slice(&frame.index.to_le_bytes());
    out
}

/// The checksum of a header's fields, those left out that hold checksums.
#[inline]
fn header_crc(frame: &Frame, salt: u32, offset: u64) -> u32 {
    let first = u64::from(frame.len) | u64::from(frame.synced) << 32;
    let second = u16::from(frame.kind) | u16::from(frame.flags) << 8;
    crc32c_append_fields(seed(salt, offset), first, second, [frame.group, frame.index])
}

/// Reads the header of a frame that stands at `offset` with `room` bytes from there to the end
/// of the file; `None` if it is not one. The payload's checksum is not examined.
#[inline]
pub(super) fn decode_header(bytes: &[u8], salt: u32, offset: u64, room: u64) -> Option<Frame> {
    let bytes: &[u8; FRAME_HEADER] = bytes.get(..FRAME_HEADER)?.try_into().ok()?;
    let (kind, flags) = (bytes[12], bytes[13]);
    let frame = read_frame(bytes);
    let known = match kind {
        LINK => flags == 0 && frame.len == 0,
        _ => {
            RecordKind::from_u8(kind).is_some()
                && flags <= FIRST | LAST | END
                && (flags & END == 0 || flags & LAST != 0)
        }
    };
    let fits = FRAME_HEADER as u64 + u64::from(frame.len) <= room;
    if !known || !fits || u64::from(frame.synced) > offset {
        return None;
    }
    let check = header_crc(&frame, salt, offset) as u16;
    (check.to_le_bytes() == bytes[14..16]).then_some(frame)
}

/// The fields of a whole header.
#[inline]
fn read_frame(bytes: &[u8]) -> Frame {
    Frame {
        len: u32_at(bytes, 4),
        synced: u32_at(bytes, 8),
        kind: bytes[12],
        flags: bytes[13],
        group: u64_at(bytes, 16),
        index: u64_at(bytes, 24),
    }
}

/// Whether a frame's header may have these bytes at 12 and 13: a glance, before a closer look.
#[inline]
pub(super) fn may_be_header(kind: u8, flags: u8) -> bool {
    matches!(kind, 1..=3 | LINK) && flags <= FIRST | LAST | END
}

/// The checksum found in a frame and the one computed from its bytes. REQUIRES: a whole header.
#[inline]
pub(super) fn checksums(bytes: &[u8], salt: u32, offset: u64) -> (u32, u32) {
    let check = header_crc(&read_frame(bytes), salt, offset);
    (u32_at(bytes, 0), crc32c_append(check, &bytes[FRAME_HEADER..]))
}

#[inline]
fn seed(salt: u32, offset: u64) -> u32 {
    salt.wrapping_add(offset as u32)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(out)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;

    fn frame(len: u32) -> Frame {
        Frame { len, synced: 0, kind: 1, flags: FIRST | LAST | END, group: 9, index: 4 }
    }

    #[test]
    fn frames_come_back_and_both_encoders_agree() {
        let mut rng = Rng::new(1);
        for _ in 0..300 {
            let mut payload = vec![0; rng.below(300) as usize];
            rng.fill(&mut payload);
            let (salt, offset) = (rng.next_u64() as u32, rng.below(1 << 30));
            let frame = frame(payload.len() as u32);
            let mut out = Vec::new();
            encode_frame(&mut out, &frame, &payload, salt, offset);
            assert_eq!(out[..FRAME_HEADER], encode_header(&frame, &payload, salt, offset));
            assert_eq!(decode_header(&out, salt, offset, out.len() as u64), Some(frame));
            let (found, computed) = checksums(&out, salt, offset);
            assert_eq!(found, computed);
            // Bytes of another life at the same place can never be valid.
            let (found, computed) = checksums(&out, salt.wrapping_add(1), offset);
            assert_ne!(found, computed);
            assert_eq!(decode_header(&out, salt, offset, out.len() as u64 - 1), None);
            // Nor can a damaged header send anyone through its payload.
            let at = rng.below(FRAME_HEADER as u64 - 4) as usize + 4;
            out[at] ^= 1 << rng.below(8);
            assert_eq!(decode_header(&out, salt, offset, out.len() as u64), None);
        }
    }

    #[test]
    fn salts_differ_and_give_the_key_back() {
        let mut seen = std::collections::BTreeSet::new();
        for segment in 0..10_000 {
            let salt = salt_of(77, segment);
            assert_eq!(key_of(salt, segment), 77);
            assert!(seen.insert(salt));
        }
    }

    #[test]
    fn random_bytes_are_refused_without_panic() {
        let mut rng = Rng::new(2);
        for _ in 0..20_000 {
            let mut bytes = vec![0; rng.below(80) as usize];
            rng.fill(&mut bytes);
            if bytes.len() > 16 && rng.one_in(2) {
                bytes[12] = 1 + rng.below(3) as u8;
                (bytes[13], bytes[14], bytes[15]) = (rng.below(8) as u8, 0, 0);
            }
            if let Some(frame) = decode_header(&bytes, 7, 100, bytes.len() as u64) {
                assert!(FRAME_HEADER + frame.len as usize <= bytes.len());
            }
            assert!(decode_segment(&bytes, 1, Path::new("x")).is_err());
        }
    }

    #[test]
    fn a_segment_header_answers_for_its_name_and_version() {
        let good = encode_segment(7, 0xABCD);
        assert_eq!(decode_segment(&good, 7, Path::new("x")).unwrap(), 0xABCD);
        let other = decode_segment(&good, 8, Path::new("x")).unwrap_err();
        assert_eq!(other.kind(), ErrorKind::Corruption);
        for i in 0..SEGMENT_HEADER {
            let mut bad = good;
            bad[i] ^= 1;
            assert!(decode_segment(&bad, 7, Path::new("x")).is_err(), "byte {i}");
        }
        let mut newer = good;
        newer[8] = 2;
        let crc = crc32c::crc32c(&newer[..28]);
        newer[28..].copy_from_slice(&crc.to_le_bytes());
        let refused = decode_segment(&newer, 7, Path::new("x")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
    }
}

//! Pages: what is read at once, and checked.
//!
//! ```text
//! a page, 4,096 bytes
//!   0     4,092  payload, filled up with zeros
//!   4,092 4      CRC32C of the page's number (8 bytes) and of the payload
//! ```

use crate::base::checksum::crc32c_append;
use crate::base::{Error, Result};

/// Bytes of a page, and what its number is multiplied by to give its offset.
pub const PAGE_BYTES: usize = 4096;
/// Bytes of a page that are not its checksum.
pub(super) const PAYLOAD_BYTES: usize = PAGE_BYTES - 4;

/// Where the pages of a segment are: a file, or memory.
pub trait Pages: Sync {
    /// How many there are.
    fn count(&self) -> u64;

    /// Puts the bytes of these pages into `out`, [`PAGE_BYTES`] for each, one behind the other in
    /// the order asked for. Which are asked for together do not depend on each other: they may be
    /// read all at once.
    ///
    /// # Errors
    ///
    /// Those of reading.
    fn read(&self, pages: &[u64], out: &mut Vec<u8>) -> Result<()>;
}

/// Appends a page with this payload. REQUIRES: it is not longer than a page holds.
pub(super) fn seal(number: u64, payload: &[u8], out: &mut Vec<u8>) {
    let from = out.len();
    out.extend_from_slice(payload);
    out.resize(from + PAYLOAD_BYTES, 0);
    let sum = checksum(number, &out[from..]);
    out.extend_from_slice(&sum.to_le_bytes());
}

fn checksum(number: u64, payload: &[u8]) -> u32 {
    crc32c_append(crc32c_append(0, &number.to_le_bytes()), payload)
}

/// Reads pages and leaves their payloads in `out`, one behind the other.
///
/// # Errors
///
/// Those of reading; [`ErrorKind::Corruption`](crate::base::ErrorKind::Corruption) if a checksum is
/// wrong, or there are not as many bytes.
pub(super) fn read_payloads(
    from: &dyn Pages,
    numbers: &[u64],
    buffer: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<()> {
    buffer.clear();
    out.clear();
    from.read(numbers, buffer)?;
    let Some(expected) = numbers.len().checked_mul(PAGE_BYTES).filter(|n| *n == buffer.len())
    else {
        let at = numbers.first().map_or(0, |number| offset(*number));
        let found = format!("{} bytes for {} pages", buffer.len(), numbers.len());
        return Err(corrupt(at, "whole pages", found));
    };
    out.reserve(expected);
    for (number, page) in numbers.iter().zip(buffer.chunks_exact(PAGE_BYTES)) {
        let (payload, sum) = page.split_at(PAYLOAD_BYTES);
        let found = checksum(*number, payload);
        let sum = u32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]);
        if found != sum {
            let expected = format!("checksum {found:08x}");
            return Err(corrupt(offset(*number), expected, format!("{sum:08x}")));
        }
        out.extend_from_slice(payload);
    }
    Ok(())
}

/// Where a page begins.
pub(super) fn offset(number: u64) -> u64 {
    number.saturating_mul(PAGE_BYTES as u64)
}

pub(super) fn corrupt(offset: u64, expected: impl Into<String>, found: impl Into<String>) -> Error {
    // The owner of the pages knows the file.
    Error::corruption("vector segment", offset, expected, found)
}

//! CRC32C (Castagnoli) of what is mostly short: a log frame's header, a record of a hundred bytes.
//!
//! The library splits its input into aligned and interleaved streams, which wins from some
//! hundreds of bytes on and costs several times the sum itself below; there one instruction for
//! each 8 bytes is all that is needed.

#![expect(unsafe_code, reason = "calls an instruction that the processor is asked about first")]

/// Bytes up to which one stream is as fast as three.
#[cfg(target_arch = "x86_64")]
const SHORT_MAX: usize = 256;

/// The checksum of what `crc` is the checksum of, with `bytes` behind it; `crc` is 0 at the start.
#[inline]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() <= SHORT_MAX && std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has the instruction.
        return unsafe { short(crc, bytes) };
    }
    crc32c::crc32c_append(crc, bytes)
}

/// As [`crc32c_append`] of these integers, little-endian, one behind the other: what is put
/// together in memory from fields first is read back later than it takes to sum it up.
#[inline]
pub fn crc32c_append_fields(crc: u32, first: u64, second: u16, rest: [u64; 2]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has the instruction.
        return unsafe { fields(crc, first, second, rest) };
    }
    let mut bytes = [0; 26];
    bytes[..8].copy_from_slice(&first.to_le_bytes());
    bytes[8..10].copy_from_slice(&second.to_le_bytes());
    bytes[10..18].copy_from_slice(&rest[0].to_le_bytes());
    bytes[18..].copy_from_slice(&rest[1].to_le_bytes());
    crc32c::crc32c_append(crc, &bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
#[inline]
fn fields(crc: u32, first: u64, second: u16, rest: [u64; 2]) -> u32 {
    use std::arch::x86_64::{_mm_crc32_u16, _mm_crc32_u64};
    let sum = _mm_crc32_u64(u64::from(!crc), first);
    // The upper half is always zero.
    let sum = u64::from(_mm_crc32_u16(sum as u32, second));
    !(_mm_crc32_u64(_mm_crc32_u64(sum, rest[0]), rest[1]) as u32)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
fn short(crc: u32, bytes: &[u8]) -> u32 {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};
    let mut sum = u64::from(!crc);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        sum = _mm_crc32_u64(sum, u64::from_le_bytes(*word));
    }
    // The upper half is always zero.
    let mut sum = sum as u32;
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        sum = _mm_crc32_u32(sum, u32::from_le_bytes(*word));
    }
    for byte in rest {
        sum = _mm_crc32_u8(sum, *byte);
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_library_s_at_every_length_and_in_parts() {
        assert_eq!(crc32c_append(0, b"123456789"), 0xE306_9283);
        let bytes: Vec<u8> = (0..400u32).map(|i| ((i * i * 31) >> 3) as u8).collect();
        for len in 0..bytes.len() {
            let (head, tail) = bytes[..len].split_at(len * 5 / 13);
            let whole = crc32c::crc32c(&bytes[..len]);
            assert_eq!(crc32c_append(crc32c_append(0, head), tail), whole, "{len}");
        }
        let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let second = u16::from_le_bytes([bytes[8], bytes[9]]);
        let sum = crc32c_append_fields(7, word(0), second, [word(10), word(18)]);
        assert_eq!(sum, crc32c::crc32c_append(7, &bytes[..26]));
    }
}

//! DUMP and RESTORE. The form is Redis's, so values can be carried to Redis and back.
//!
//! ```text
//! type       1 byte    0: a string, the only type here
//! string     a length and so many bytes, or an integer, or compressed bytes:
//!   00LLLLLL                        length in 6 bits
//!   01LLLLLL LLLLLLLL               length in 14 bits
//!   10000000 + 4 bytes, big-endian  length in 32 bits
//!   10000001 + 8 bytes, big-endian  length in 64 bits
//!   11000000 + 1 byte               integer of 8 bits, signed; its decimal digits are the value
//!   11000001 + 2, 11000010 + 4      integers of 16 and 32 bits, little-endian
//!   11000011 + two lengths          bytes compressed with LZF: their length, the value's length
//! version    2 bytes, little-endian: 10
//! checksum   8 bytes, little-endian: CRC-64/Jones of all before, from 0 on
//! ```
//! `DUMP` of `abc`: `00 03 61 62 63 0a 00` and the checksum. We compress nothing.

use super::execute::{Outcome, is, stop, syntax_error};
use super::number::{int, parse_i64};
use super::{Keyspace, STRING_BYTES_MAX, STRING_TAG, lzf};
use crate::base::codec::Reader;
use crate::op::Reply;
use bytes::Bytes;

const TYPE_STRING: u8 = 0;
const VERSION: u16 = 10;
const FOOTER_BYTES: usize = 10;

const INT8: u8 = 0xc0;
const INT16: u8 = 0xc1;
const INT32: u8 = 0xc2;
const LZF: u8 = 0xc3;

pub(super) fn dump(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let Some(stored) = ks.get(&args[1])? else { return Ok(Reply::Nil) };
    if stored.tag != STRING_TAG {
        return Err(Reply::wrong_type().into());
    }
    Ok(Reply::Bulk(serialize(&stored.value).into()))
}

fn serialize(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + FOOTER_BYTES + 10);
    out.push(TYPE_STRING);
    let number = parse_i64(value).and_then(|n| i32::try_from(n).ok());
    if let Some(n) = number {
        if let Ok(n) = i8::try_from(n) {
            out.extend_from_slice(&[INT8, n.to_le_bytes()[0]]);
        } else if let Ok(n) = i16::try_from(n) {
            out.push(INT16);
            out.extend_from_slice(&n.to_le_bytes());
        } else {
            out.push(INT32);
            out.extend_from_slice(&n.to_le_bytes());
        }
    } else {
        put_length(&mut out, value.len());
        out.extend_from_slice(value);
    }
    out.extend_from_slice(&VERSION.to_le_bytes());
    let crc = crc64(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn put_length(out: &mut Vec<u8>, len: usize) {
    match len {
        0..64 => out.push(len as u8),
        64..16_384 => out.extend_from_slice(&[0x40 | (len >> 8) as u8, len as u8]),
        _ => match u32::try_from(len) {
            Ok(len) => {
                out.push(0x80);
                out.extend_from_slice(&len.to_be_bytes());
            }
            Err(_) => {
                out.push(0x81);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        },
    }
}

#[derive(Debug, Default)]
struct Options {
    replace: bool,
    absolute: bool,
}

pub(super) fn restore(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let key = &args[1];
    let options = options(&args[4..])?;
    if !options.replace && ks.get(key)?.is_some() {
        return Err(Reply::Error("BUSYKEY Target key name already exists.".into()).into());
    }
    let Ok(ttl) = u64::try_from(int(&args[2])?) else {
        return stop("Invalid TTL value, must be >= 0");
    };
    let Some(body) = checked_body(&args[3]) else {
        return stop("DUMP payload version or checksum are wrong");
    };
    let Some(value) = deserialize(body) else { return stop("Bad data format") };
    let expire_at_ms = match ttl {
        0 => None,
        _ if options.absolute => Some(ttl),
        _ => Some(ks.now_ms().saturating_add(ttl)),
    };
    ks.put(key, value, STRING_TAG, expire_at_ms)?;
    Ok(Reply::OK)
}

fn options(args: &[Bytes]) -> Outcome<Options> {
    let mut options = Options::default();
    let (mut idle_given, mut freq_given) = (false, false);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if is(arg, "REPLACE") {
            options.replace = true;
        } else if is(arg, "ABSTTL") {
            options.absolute = true;
        } else if is(arg, "IDLETIME")
            && !freq_given
            && let Some(seconds) = rest.next()
        {
            idle_given = true;
            if int(seconds)? < 0 {
                return stop("Invalid IDLETIME value, must be >= 0");
            }
        } else if is(arg, "FREQ")
            && !idle_given
            && let Some(frequency) = rest.next()
        {
            freq_given = true;
            if !(0..=255).contains(&int(frequency)?) {
                return stop("Invalid FREQ value, must be >= 0 and <= 255");
            }
        } else {
            return syntax_error();
        }
    }
    Ok(options)
}

/// What stands before the footer, if version and checksum are right.
fn checked_body(payload: &[u8]) -> Option<&[u8]> {
    let (body, footer) = payload.split_at(payload.len().checked_sub(FOOTER_BYTES)?);
    let (version, crc) = footer.split_first_chunk::<2>()?;
    let crc = u64::from_le_bytes(crc.try_into().ok()?);
    let covered = &payload[..payload.len() - 8];
    (u16::from_le_bytes(*version) <= VERSION && crc == crc64(covered)).then_some(body)
}

/// The string that a body holds; `None` if it holds something else or is cut short.
fn deserialize(body: &[u8]) -> Option<Bytes> {
    let mut reader = Reader::new(body);
    if reader.u8()? != TYPE_STRING {
        return None;
    }
    let first = reader.u8()?;
    let number = match first {
        INT8 => i64::from(reader.u8()?.cast_signed()),
        INT16 => i64::from(reader.u16()?.cast_signed()),
        INT32 => i64::from(reader.u32()?.cast_signed()),
        LZF => {
            let (packed_len, len) = (length(&mut reader)?, length(&mut reader)?);
            let packed = reader.take(packed_len)?;
            if len == 0 || len > STRING_BYTES_MAX || len / lzf::RATIO_MAX > packed_len {
                return None;
            }
            return lzf::decompress(packed, len).map(Bytes::from);
        }
        _ => {
            let len = length_from(first, &mut reader)?;
            return reader.take(len).map(Bytes::copy_from_slice);
        }
    };
    Some(Bytes::from(number.to_string()))
}

fn length(reader: &mut Reader<'_>) -> Option<usize> {
    let first = reader.u8()?;
    length_from(first, reader)
}

fn length_from(first: u8, reader: &mut Reader<'_>) -> Option<usize> {
    match first {
        0..0x40 => Some(first.into()),
        0x40..0x80 => Some(usize::from(first & 0x3f) << 8 | usize::from(reader.u8()?)),
        // The reader is little-endian, these lengths are not.
        0x80 => usize::try_from(reader.u32()?.swap_bytes()).ok(),
        0x81 => usize::try_from(reader.u64()?.swap_bytes()).ok(),
        _ => None,
    }
}

/// CRC-64 with Jones's polynomial 0xad93d23594c935a9, reflected, from 0, not inverted.
fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |crc, byte| CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

static CRC_TABLE: [u64; 256] = {
    let polynomial = 0xad93_d235_94c9_35a9u64.reverse_bits();
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ polynomial } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_redis_uses() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn every_string_comes_back() {
        let mut values: Vec<Vec<u8>> =
            [0, 1, 63, 64, 16_383, 16_384, 70_000].map(|len| vec![b'x'; len]).to_vec();
        for n in [0i64, 127, -128, 128, 32_767, -32_768, 32_768, i64::MAX, 2_147_483_648] {
            values.push(n.to_string().into_bytes());
        }
        values.push(b"007".to_vec());
        for value in values {
            let payload = serialize(&value);
            let body = checked_body(&payload).unwrap();
            assert_eq!(deserialize(body).as_deref(), Some(&value[..]));
            for cut in 0..payload.len().min(40) {
                assert!(checked_body(&payload[..cut]).is_none());
            }
        }
    }

    #[test]
    fn a_body_cut_short_does_not_read_on_into_its_footer() {
        for body in [&b"\x00\xc2\x01"[..], b"\x00\x05abc", b"\x00", b"", b"\x00\xc3\x03\x05\x00a"] {
            assert_eq!(deserialize(body), None, "{body:?}");
        }
        assert_eq!(deserialize(b"\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        // A small body that claims to stand for very much.
        assert_eq!(deserialize(b"\x00\xc3\x03\x80\x1f\xff\xff\xff\x00aa"), None);
    }

    #[test]
    fn any_bytes_with_a_right_checksum_are_read_or_refused() {
        let mut rng = crate::env::Rng::new(5);
        for _ in 0..50_000 {
            let mut body = vec![0; rng.below(24) as usize];
            rng.fill(&mut body);
            if let Some(first) = body.first_mut() {
                *first = 0;
            }
            if let (Some(second), true) = (body.get_mut(1), rng.one_in(2)) {
                *second = [LZF, 0x80, 0x81, INT32][rng.below(4) as usize];
            }
            let read = deserialize(&body);
            assert!(read.is_none_or(|v| v.len() <= body.len().max(2) * lzf::RATIO_MAX));
        }
    }
}

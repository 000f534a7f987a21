//! Strings as rows of bits. Bit 0 is the highest of the first byte.

use super::execute::{Outcome, int_bool, int_of, is, stop, string, syntax_error};
use super::number::{int, parse_i64};
use super::strings::{crossed, range, unpack};
use super::{Keyspace, STRING_BYTES_MAX, STRING_TAG};
use crate::op::Reply;
use bytes::Bytes;

/// The number of a bit that a string can be long enough for.
pub(super) fn bit_offset(number: Option<i64>) -> Outcome<usize> {
    match number.and_then(|n| usize::try_from(n).ok()) {
        Some(bit) if bit / 8 < STRING_BYTES_MAX => Ok(bit),
        _ => stop("bit offset is not an integer or out of range"),
    }
}

pub(super) fn setbit(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let key = &args[1];
    let bit = bit_offset(parse_i64(&args[2]))?;
    let on = match parse_i64(&args[3]) {
        Some(0) => false,
        Some(1) => true,
        _ => return stop("bit is not an integer or out of range"),
    };
    let mask = 0x80 >> (bit % 8);
    let old = string(ks, key)?;
    // What is so already is not written again: a watched key has not changed.
    if let Some(byte) = old.as_ref().and_then(|stored| stored.value.get(bit / 8))
        && (byte & mask != 0) == on
    {
        return Ok(int_bool(on));
    }
    let (mut value, expire_at_ms) = unpack(ks, old, bit / 8 + 1)?;
    let was = value[bit / 8] & mask != 0;
    if on {
        value[bit / 8] |= mask;
    } else {
        value[bit / 8] &= !mask;
    }
    ks.put(key, value.freeze(), STRING_TAG, expire_at_ms)?;
    Ok(int_bool(was))
}

pub(super) fn getbit(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let bit = bit_offset(parse_i64(&args[2]))?;
    let stored = string(ks, &args[1])?;
    let byte = stored.as_ref().and_then(|stored| stored.value.get(bit / 8)).copied().unwrap_or(0);
    Ok(int_bool(byte & (0x80 >> (bit % 8)) != 0))
}

/// BYTE or BIT, the last argument of BITCOUNT and BITPOS.
fn in_bits(unit: Option<&Bytes>) -> Outcome<bool> {
    match unit {
        None => Ok(false),
        Some(unit) if is(unit, "BIT") => Ok(true),
        Some(unit) if is(unit, "BYTE") => Ok(false),
        Some(_) => syntax_error(),
    }
}

/// The bits, both included, from `start` to `end` in a value, counted in bits or in bytes.
fn bit_range(start: i64, end: i64, bits: bool, value: &[u8]) -> Option<(usize, usize)> {
    if bits {
        range(start, end, value.len() * 8)
    } else {
        range(start, end, value.len()).map(|(first, last)| (first * 8, last * 8 + 7))
    }
}

pub(super) fn bitcount(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let Some(stored) = string(ks, &args[1])? else { return Ok(Reply::Int(0)) };
    let value = &stored.value;
    let bounds = match &args[2..] {
        [] => bit_range(0, -1, false, value),
        [start, end, unit @ ..] if unit.len() <= 1 => {
            let (start, end) = (int(start)?, int(end)?);
            if crossed(start, end) {
                return Ok(Reply::Int(0));
            }
            bit_range(start, end, in_bits(unit.first())?, value)
        }
        _ => return syntax_error(),
    };
    let Some((first, last)) = bounds else { return Ok(Reply::Int(0)) };
    Ok(int_of(count_ones(value, first, last)))
}

/// Bits set from `first` to `last`, both included and within `value`.
fn count_ones(value: &[u8], first: usize, last: usize) -> usize {
    let (from, to) = (first / 8, last / 8);
    let bytes = &value[from..=to];
    let (words, rest) = bytes.as_chunks::<8>();
    let in_words: u32 = words.iter().map(|word| u64::from_ne_bytes(*word).count_ones()).sum();
    let in_rest: u32 = rest.iter().map(|byte| byte.count_ones()).sum();
    let before = (u16::from(value[from]) & !(0xff >> (first % 8))).count_ones();
    let behind = (value[to] & (0x7f >> (last % 8))).count_ones();
    (in_words as usize + in_rest as usize) - before as usize - behind as usize
}

pub(super) fn bitpos(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let wanted = match int(&args[2])? {
        0 => false,
        1 => true,
        _ => return stop("The bit argument must be 1 or 0."),
    };
    let Some(stored) = string(ks, &args[1])? else {
        return Ok(Reply::Int(if wanted { -1 } else { 0 }));
    };
    let value = &stored.value;
    let (bounds, end_given) = match &args[3..] {
        [] => (bit_range(0, -1, false, value), false),
        [start] => (bit_range(int(start)?, -1, false, value), false),
        [start, end, unit @ ..] if unit.len() <= 1 => {
            let start = int(start)?;
            let bits = in_bits(unit.first())?;
            (bit_range(start, int(end)?, bits, value), true)
        }
        _ => return syntax_error(),
    };
    let Some((first, last)) = bounds else { return Ok(Reply::Int(-1)) };
    Ok(match find_bit(value, wanted, first, last) {
        Some(at) => int_of(at),
        // A string goes on with zeros for ever, unless the end was named.
        None if !wanted && !end_given => int_of(value.len() * 8),
        None => Reply::Int(-1),
    })
}

/// The first bit that is as wanted, from `first` to `last`, both included and within `value`.
fn find_bit(value: &[u8], wanted: bool, first: usize, last: usize) -> Option<usize> {
    let flip = if wanted { 0 } else { 0xff };
    let mut at = first / 8;
    let mut byte = (value[at] ^ flip) & (0xff >> (first % 8));
    while byte == 0 {
        at += 1;
        at += value[at..=(last / 8).max(at - 1)].iter().position(|&b| b ^ flip != 0)?;
        byte = value[at] ^ flip;
    }
    let bit = at * 8 + byte.leading_zeros() as usize;
    (bit <= last).then_some(bit)
}

pub(super) fn bitop(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let (operation, target, sources) = (&args[1], &args[2], &args[3..]);
    let combine: fn(&mut u8, u8) = if is(operation, "AND") {
        |x, y| *x &= y
    } else if is(operation, "OR") {
        |x, y| *x |= y
    } else if is(operation, "XOR") {
        |x, y| *x ^= y
    } else if is(operation, "NOT") {
        if sources.len() != 1 {
            return stop("BITOP NOT must be called with a single source key.");
        }
        |_, _| {}
    } else {
        return syntax_error();
    };
    let mut values = Vec::with_capacity(sources.len());
    for key in sources {
        values.push(string(ks, key)?.map_or(Bytes::new(), |stored| stored.value));
    }
    let len = values.iter().map(Bytes::len).max().unwrap_or(0);
    if len == 0 {
        ks.delete(target)?;
        return Ok(Reply::Int(0));
    }
    let mut result = vec![0; len];
    result[..values[0].len()].copy_from_slice(&values[0]);
    if is(operation, "NOT") {
        result.iter_mut().for_each(|x| *x = !*x);
    }
    for value in &values[1..] {
        let (same, beyond) = result.split_at_mut(value.len());
        same.iter_mut().zip(value).for_each(|(x, y)| combine(x, *y));
        beyond.iter_mut().for_each(|x| combine(x, 0));
    }
    ks.put(target, result.into(), STRING_TAG, None)?;
    Ok(int_of(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_and_finding_agree_with_bit_by_bit() {
        let mut rng = crate::env::Rng::new(11);
        for _ in 0..5_000 {
            let mut value = vec![0; 1 + rng.below(24) as usize];
            match rng.below(3) {
                0 => {}
                1 => value.fill(0xff),
                _ => rng.fill(&mut value),
            }
            let bits = value.len() as u64 * 8;
            let first = rng.below(bits) as usize;
            let last = first + rng.below(bits - first as u64) as usize;
            let bit = |at: usize| value[at / 8] >> (7 - at % 8) & 1 == 1;
            let ones = (first..=last).filter(|&at| bit(at)).count();
            assert_eq!(count_ones(&value, first, last), ones, "{value:?} {first} {last}");
            for wanted in [false, true] {
                let found = (first..=last).find(|&at| bit(at) == wanted);
                assert_eq!(
                    find_bit(&value, wanted, first, last),
                    found,
                    "{value:?} {first} {last}"
                );
            }
        }
    }
}

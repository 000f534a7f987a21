//! BITFIELD: integers of 1 to 64 bits at any bit of a string, highest bit first.

use super::bits::bit_offset;
use super::execute::{Outcome, is, stop, string, syntax_error};
use super::number::{int, parse_i64};
use super::strings::unpack;
use super::{Keyspace, STRING_TAG};
use crate::op::Reply;
use bytes::Bytes;

/// `i8`, `u63`: a signed integer has at most 64 bits, an unsigned one 63.
#[derive(Debug, Clone, Copy)]
struct Kind {
    signed: bool,
    bits: u32,
}

impl Kind {
    fn parse(arg: &[u8]) -> Outcome<Kind> {
        let kind = arg.split_first().and_then(|(sign, bits)| {
            let signed = match sign {
                b'i' => true,
                b'u' => false,
                _ => return None,
            };
            let bits = u32::try_from(parse_i64(bits)?).ok()?;
            let max = if signed { 64 } else { 63 };
            (1..=max).contains(&bits).then_some(Kind { signed, bits })
        });
        kind.map_or_else(
            || {
                stop(
                    "Invalid bitfield type. Use something like i16 u8. Note that u64 is not \
                     supported but i64 is.",
                )
            },
            Ok,
        )
    }

    fn min(self) -> i128 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    fn max(self) -> i128 {
        (1 << (self.bits - u32::from(self.signed))) - 1
    }

    /// The integer of this kind that has the low bits of `value`.
    fn wrap(self, value: i128) -> i128 {
        let low = value & ((1 << self.bits) - 1);
        if low > self.max() { low - (1 << self.bits) } else { low }
    }

    fn read(self, bytes: &[u8], offset: usize) -> i128 {
        let mut raw = 0;
        for bit in offset..offset + self.bits as usize {
            let byte = bytes.get(bit / 8).copied().unwrap_or(0);
            raw = raw << 1 | i128::from(byte >> (7 - bit % 8) & 1);
        }
        self.wrap(raw)
    }

    /// Writes the low bits of `value`; `bytes` are long enough.
    fn write(self, bytes: &mut [u8], offset: usize, value: i128) {
        for (i, bit) in (offset..offset + self.bits as usize).rev().enumerate() {
            let mask = 0x80 >> (bit % 8);
            if value >> i & 1 == 1 {
                bytes[bit / 8] |= mask;
            } else {
                bytes[bit / 8] &= !mask;
            }
        }
    }
}

/// What happens to a value that does not fit.
#[derive(Debug, Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

impl Overflow {
    fn apply(self, kind: Kind, value: i128) -> Option<i128> {
        if (kind.min()..=kind.max()).contains(&value) {
            return Some(value);
        }
        match self {
            Overflow::Wrap => Some(kind.wrap(value)),
            Overflow::Saturate => Some(value.clamp(kind.min(), kind.max())),
            Overflow::Fail => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

#[derive(Debug)]
struct Step {
    kind: Kind,
    offset: usize,
    action: Action,
    overflow: Overflow,
}

pub(super) fn bitfield(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let key = &args[1];
    let steps = parse(&args[2..])?;
    let writes = steps.iter().filter(|step| !matches!(step.action, Action::Get));
    let Some(end) = writes.map(|step| step.offset + step.kind.bits as usize).max() else {
        return read_all(&steps, key, ks);
    };
    let old = string(ks, key)?;
    let old_len = old.as_ref().map_or(0, |stored| stored.value.len());
    let (mut value, expire_at_ms) = unpack(ks, old, end.div_ceil(8))?;
    let mut changed = value.len() > old_len;
    let mut replies = Vec::with_capacity(steps.len());
    for step in &steps {
        replies.push(step.run(&mut value, &mut changed));
    }
    if changed {
        ks.put(key, value.freeze(), STRING_TAG, expire_at_ms)?;
    }
    Ok(Reply::Array(replies))
}

pub(super) fn bitfield_ro(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let steps = parse(&args[2..])?;
    if !steps.iter().all(|step| matches!(step.action, Action::Get)) {
        return stop("BITFIELD_RO only supports the GET subcommand");
    }
    read_all(&steps, &args[1], ks)
}

fn read_all(steps: &[Step], key: &[u8], ks: &mut dyn Keyspace) -> Outcome {
    let value = string(ks, key)?.map_or(Bytes::new(), |stored| stored.value);
    Ok(Reply::Array(steps.iter().map(|s| reply(s.kind.read(&value, s.offset))).collect()))
}

impl Step {
    /// Gives the reply, and notes whether the value has changed.
    fn run(&self, value: &mut [u8], changed: &mut bool) -> Reply {
        let old = self.kind.read(value, self.offset);
        let (wanted, give_old) = match self.action {
            Action::Get => return reply(old),
            // A negative number set to an unsigned integer counts as the large one with its bits.
            Action::Set(new) if !self.kind.signed => (i128::from(new.cast_unsigned()), true),
            Action::Set(new) => (i128::from(new), true),
            Action::Add(by) => (old + i128::from(by), false),
        };
        let Some(new) = self.overflow.apply(self.kind, wanted) else { return Reply::Nil };
        if new != old {
            self.kind.write(value, self.offset, new);
            *changed = true;
        }
        reply(if give_old { old } else { new })
    }
}

fn reply(value: i128) -> Reply {
    // A value of any kind fits: the widest are i64 and u63.
    Reply::Int(value as i64)
}

fn parse(args: &[Bytes]) -> Outcome<Vec<Step>> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut rest = args;
    while let Some((word, after)) = rest.split_first() {
        let used = if is(word, "GET") && after.len() >= 2 {
            2
        } else if (is(word, "SET") || is(word, "INCRBY")) && after.len() >= 3 {
            3
        } else if is(word, "OVERFLOW") && !after.is_empty() {
            overflow = parse_overflow(&after[0])?;
            rest = &after[1..];
            continue;
        } else {
            return syntax_error();
        };
        let kind = Kind::parse(&after[0])?;
        let offset = parse_offset(&after[1], kind)?;
        let action = if used == 2 {
            Action::Get
        } else if is(word, "SET") {
            Action::Set(int(&after[2])?)
        } else {
            Action::Add(int(&after[2])?)
        };
        steps.push(Step { kind, offset, action, overflow });
        rest = &after[used..];
    }
    Ok(steps)
}

fn parse_overflow(arg: &[u8]) -> Outcome<Overflow> {
    if is(arg, "WRAP") {
        Ok(Overflow::Wrap)
    } else if is(arg, "SAT") {
        Ok(Overflow::Saturate)
    } else if is(arg, "FAIL") {
        Ok(Overflow::Fail)
    } else {
        stop("Invalid OVERFLOW type specified")
    }
}

/// A bit's number, or `#n` for the n-th integer of that kind.
fn parse_offset(arg: &[u8], kind: Kind) -> Outcome<usize> {
    bit_offset(match arg.split_first() {
        Some((b'#', n)) => parse_i64(n).and_then(|n| n.checked_mul(i64::from(kind.bits))),
        _ => parse_i64(arg),
    })
}

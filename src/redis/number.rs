//! Integers as strictly as Redis reads them: no spaces, no `+`, no leading zeros, no `-0`.

use super::execute::Outcome;
use crate::base::codec::{DECIMAL_BYTES_MAX, decimal_before};
use crate::op::Reply;
use bytes::Bytes;

/// The integer that `bytes` is the one decimal form of; `None` if it is the form of none.
pub(super) fn parse_i64(bytes: &[u8]) -> Option<i64> {
    if bytes.is_empty() || bytes.len() > DECIMAL_BYTES_MAX {
        return None;
    }
    let (negative, digits) = match bytes.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, bytes),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    // Counted below zero, where one more fits.
    let mut value: i64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// The decimal form of an integer, in one allocation.
pub(super) fn i64_text(n: i64) -> Bytes {
    let mut text = [0; DECIMAL_BYTES_MAX];
    let at = decimal_before(&mut text, DECIMAL_BYTES_MAX, n);
    Bytes::copy_from_slice(&text[at..])
}

/// An argument that must be an integer.
pub(super) fn int(arg: &[u8]) -> Outcome<i64> {
    parse_i64(arg).ok_or_else(|| Reply::not_an_integer().into())
}

/// An argument that must be an integer of 32 bits, such as a database's number.
pub(super) fn int32(arg: &[u8]) -> Outcome<i32> {
    i32::try_from(int(arg)?).map_err(|_| {
        let (min, max) = (i32::MIN, i32::MAX);
        Reply::err(format_args!("value is out of range, value must between {min} and {max}")).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_form_of_an_integer_is_read() {
        for n in [0, 1, -1, 9, 10, -10, i64::MAX, i64::MIN, i64::MIN + 1] {
            assert_eq!(parse_i64(n.to_string().as_bytes()), Some(n));
            assert_eq!(i64_text(n), n.to_string());
        }
        let none = [
            "",
            "-",
            "+1",
            "-0",
            "00",
            "01",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "0x1",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "123456789012345678901",
            "a",
            "1\0",
        ];
        for text in none {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
        }
    }
}

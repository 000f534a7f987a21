//! 80-bit floating point, done in software: 64 bits of mantissa, 15 of exponent, as x87 has it.
//!
//! Redis keeps INCRBYFLOAT's numbers as decimal text with 17 places and computes in this format,
//! so the digits it gives follow from it. Addition rounds to nearest, ties to even; reading and
//! printing are exact but for that one rounding.

use std::cmp::Ordering;

/// Longest text read; Redis's bound too.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;
/// Decimal places printed at most.
const PLACES: usize = 17;
/// Exponent of the last mantissa bit: of the largest numbers, and of the smallest.
const EXP_MAX: i32 = 16383 - 63;
const EXP_MIN: i32 = -16382 - 63;

/// `mantissa * 2^exp`, negated if `negative`. The mantissa's top bit is set, except in zero and in
/// numbers of the smallest exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extended {
    negative: bool,
    mantissa: u64,
    exp: i32,
}

impl Extended {
    pub(super) const ZERO: Extended = Extended { negative: false, mantissa: 0, exp: EXP_MIN };

    /// Stands for both infinities, which can be read but never added.
    const INFINITY: Extended = Extended { negative: false, mantissa: 0, exp: i32::MAX };

    /// Reads `[+-]digits[.digits][e[+-]digits]`, `[+-]0xdigits[.digits][p[+-]digits]` (hexadecimal,
    /// the exponent a decimal power of two) or `[+-]inf`, all of it. `None` for anything else, for
    /// digits that are too large to be finite, and for what is not zero but too small to be told
    /// from it.
    pub(super) fn parse(text: &[u8]) -> Option<Extended> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (negative, rest) = match text.split_first()? {
            (b'-', rest) => (true, rest),
            (b'+', rest) => (false, rest),
            _ => (false, text),
        };
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Some(Extended::INFINITY);
        }
        if let [b'0', b'x' | b'X', hex @ ..] = rest {
            return Extended::parse_hex(negative, hex);
        }
        let (digits, places, rest) = read_digits(rest, 10)?;
        let exp10 = match rest.split_first() {
            None => 0,
            Some((b'e' | b'E', exp)) => read_exponent(exp)?,
            Some(_) => return None,
        };
        if digits.is_zero() {
            return Some(Extended { negative, ..Extended::ZERO });
        }
        let exp10 = exp10 - i32::try_from(places).ok()?;
        // Far outside what a text of this length can bring back into range.
        if !(-11_000..=11_000).contains(&exp10) {
            return None;
        }
        let value = if exp10 >= 0 {
            let whole = digits.times_power_of_ten(exp10.unsigned_abs());
            let (top, exp, sticky) = whole.top_bits();
            round(negative, top, exp, sticky)
        } else {
            let below = Big::from(1).times_power_of_ten(exp10.unsigned_abs());
            let (top, exp, sticky) = divide(digits, below);
            round(negative, top, exp, sticky)
        };
        value.filter(|v| v.mantissa != 0)
    }

    /// The rest of [`parse`](Extended::parse), behind `0x`.
    fn parse_hex(negative: bool, text: &[u8]) -> Option<Extended> {
        let (digits, places, rest) = read_digits(text, 16)?;
        let exp2 = match rest.split_first() {
            None => 0,
            Some((b'p' | b'P', exp)) => read_exponent(exp)?,
            Some(_) => return None,
        };
        if digits.is_zero() {
            return Some(Extended { negative, ..Extended::ZERO });
        }
        let (top, exp, sticky) = digits.top_bits();
        // A text holds a few thousand places and the exponent is at most a million: it fits.
        let exp = exp + exp2 - 4 * i32::try_from(places).ok()?;
        round(negative, top, exp, sticky).filter(|v| v.mantissa != 0)
    }

    /// The sum; `None` if it is not finite.
    pub(super) fn add(self, other: Extended) -> Option<Extended> {
        if self == Extended::INFINITY || other == Extended::INFINITY {
            return None;
        }
        let (big, small) = match (self.exp, self.mantissa).cmp(&(other.exp, other.mantissa)) {
            Ordering::Less => (other, self),
            _ => (self, other),
        };
        if small.mantissa == 0 {
            return Some(if big.mantissa == 0 {
                Extended { negative: big.negative && small.negative, ..big }
            } else {
                big
            });
        }
        // One bit of room above for the carry, 63 below; what falls off leaves a sticky bit,
        // which decides ties and nothing else.
        let distance = big.exp.abs_diff(small.exp);
        let wide = u128::from(big.mantissa) << 63;
        let aligned = u128::from(small.mantissa) << 63;
        let (shifted, lost) = match aligned.checked_shr(distance) {
            Some(shifted) => (shifted, shifted << distance != aligned),
            None => (0, true),
        };
        let shifted = shifted | u128::from(lost);
        let sum = if big.negative == small.negative { wide + shifted } else { wide - shifted };
        if sum == 0 {
            return Some(Extended::ZERO);
        }
        round(big.negative, sum, big.exp - 63, false)
    }

    /// The number in decimal with 17 places, without zeros at the end: `3`, `-0.5`, `4.1`.
    pub(super) fn to_text(self) -> String {
        let mut digits = if self.exp >= 0 {
            let mut whole = Big::from(self.mantissa);
            whole.shift_left(self.exp.unsigned_abs());
            whole.to_decimal() + &"0".repeat(PLACES)
        } else {
            // 64 and 57 bits: it fits.
            let scaled = u128::from(self.mantissa) * 10u128.pow(PLACES as u32);
            round_shift(scaled, self.exp.unsigned_abs(), false).to_string()
        };
        if digits.len() <= PLACES {
            digits.insert_str(0, &"0".repeat(PLACES + 1 - digits.len()));
        }
        digits.insert(digits.len() - PLACES, '.');
        let text = digits.trim_end_matches('0').trim_end_matches('.');
        if self.negative && text != "0" { format!("-{text}") } else { text.to_string() }
    }
}

/// Reads digits of base 10 or 16 with at most one point among them: the number without the point,
/// how many digits were behind it, and what follows.
fn read_digits(text: &[u8], base: u32) -> Option<(Big, usize, &[u8])> {
    let digit = |b: u8| char::from(b).to_digit(base);
    let end = text.iter().position(|&b| digit(b).is_none() && b != b'.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let point = number.iter().position(|&b| b == b'.');
    let places = point.map_or(0, |at| number.len() - at - 1);
    let count = number.len() - usize::from(point.is_some());
    if count == 0 || number.iter().filter(|&&b| b == b'.').count() > 1 {
        return None;
    }
    let mut value = Big::from(0);
    for digit in number.iter().filter_map(|&b| digit(b)) {
        value.multiply_add(base, digit);
    }
    Some((value, places, rest))
}

/// Reads an exponent; one beyond a million counts as a million.
fn read_exponent(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text.split_first()? {
        (b'-', digits) => (true, digits),
        (b'+', digits) => (false, digits),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value =
        digits.iter().fold(0, |v: i32, digit| (v * 10 + i32::from(digit - b'0')).min(1_000_000));
    Some(if negative { -value } else { value })
}

/// Rounds `value * 2^exp` to 64 bits; `sticky` says that there is a little more. `None` if it is
/// too large.
fn round(negative: bool, value: u128, exp: i32, sticky: bool) -> Option<Extended> {
    let bits = i32::try_from(128 - value.leading_zeros()).ok()?;
    let drop = (bits - 64).max(EXP_MIN - exp);
    let (mut mantissa, mut exp) = if drop > 0 {
        (round_shift(value, drop.unsigned_abs(), sticky), exp + drop)
    } else {
        (value << drop.unsigned_abs(), exp + drop)
    };
    if mantissa >> 64 != 0 {
        mantissa >>= 1;
        exp += 1;
    }
    let mantissa = u64::try_from(mantissa).ok()?;
    (exp <= EXP_MAX).then_some(Extended { negative, mantissa, exp })
}

/// `value / 2^by` to the nearest, ties to even.
fn round_shift(value: u128, by: u32, sticky: bool) -> u128 {
    if by > 128 {
        return 0;
    }
    let whole = value.checked_shr(by).unwrap_or(0);
    let half = 1u128 << (by - 1);
    let rest = value & (half | (half - 1));
    let up = match rest.cmp(&half) {
        Ordering::Less => false,
        Ordering::Equal => sticky || whole & 1 == 1,
        Ordering::Greater => true,
    };
    whole + u128::from(up)
}

/// The top 66 bits or more of `a / b`, the exponent of their last, and whether there is a rest.
fn divide(mut a: Big, mut b: Big) -> (u128, i32, bool) {
    // Made so long that the quotient has 66 or 67 bits.
    let shift = 66 + b.bits() - a.bits();
    if shift >= 0 {
        a.shift_left(shift.unsigned_abs());
    } else {
        b.shift_left(shift.unsigned_abs());
    }
    let mut quotient = 0u128;
    let steps = u32::try_from(a.bits() - b.bits()).unwrap_or(0);
    b.shift_left(steps);
    for _ in 0..=steps {
        quotient <<= 1;
        if a.cmp(&b) != Ordering::Less {
            a.subtract(&b);
            quotient |= 1;
        }
        b.halve();
    }
    (quotient, -shift, !a.is_zero())
}

/// A whole number of any size: limbs of 32 bits, lowest first, the highest not 0.
#[derive(Debug, Clone)]
struct Big(Vec<u32>);

impl Big {
    fn from(value: u64) -> Big {
        let mut big = Big(vec![value as u32, (value >> 32) as u32]);
        big.trim();
        big
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// Bits up to the highest one set.
    fn bits(&self) -> i32 {
        let top = self.0.last().map_or(0, |limb| 32 - limb.leading_zeros());
        // Texts are short: a few thousand limbs at most.
        (self.0.len() as i32 - 1).max(0) * 32 + top as i32
    }

    fn multiply_add(&mut self, by: u32, plus: u32) {
        let mut carry = u64::from(plus);
        for limb in &mut self.0 {
            let wide = u64::from(*limb) * u64::from(by) + carry;
            *limb = wide as u32;
            carry = wide >> 32;
        }
        if carry != 0 {
            self.0.push(carry as u32);
        }
    }

    fn times_power_of_ten(mut self, mut power: u32) -> Big {
        while power > 0 {
            let step = power.min(9);
            self.multiply_add(10u32.pow(step), 0);
            power -= step;
        }
        self
    }

    fn shift_left(&mut self, by: u32) {
        if self.is_zero() {
            return;
        }
        self.multiply_add(1 << (by % 32), 0);
        self.0.splice(0..0, std::iter::repeat_n(0, by as usize / 32));
    }

    fn halve(&mut self) {
        let mut carry = 0;
        for limb in self.0.iter_mut().rev() {
            let low = *limb & 1;
            *limb = *limb >> 1 | carry << 31;
            carry = low;
        }
        self.trim();
    }

    fn cmp(&self, other: &Big) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Takes away what is not greater.
    fn subtract(&mut self, other: &Big) {
        let mut borrow = 0;
        for (i, limb) in self.0.iter_mut().enumerate() {
            let wide = i64::from(*limb) - i64::from(other.0.get(i).copied().unwrap_or(0)) - borrow;
            *limb = wide as u32;
            borrow = i64::from(wide < 0);
        }
        self.trim();
    }

    /// The top 96 bits or more, the exponent of their last, and whether lower bits are set.
    fn top_bits(&self) -> (u128, i32, bool) {
        let skip = self.0.len().saturating_sub(4);
        let top = self.0[skip..].iter().rev().fold(0, |v: u128, &limb| v << 32 | u128::from(limb));
        (top, skip as i32 * 32, self.0[..skip].iter().any(|&limb| limb != 0))
    }

    fn to_decimal(&self) -> String {
        let mut rest = self.clone();
        let mut groups = Vec::new();
        while !rest.is_zero() {
            let mut carry = 0;
            for limb in rest.0.iter_mut().rev() {
                let wide = carry << 32 | u64::from(*limb);
                *limb = (wide / 1_000_000_000) as u32;
                carry = wide % 1_000_000_000;
            }
            rest.trim();
            groups.push(carry);
        }
        let mut text = groups.pop().unwrap_or(0).to_string();
        for group in groups.iter().rev() {
            text += &format!("{group:09}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        Some(Extended::parse(a.as_bytes())?.add(Extended::parse(b.as_bytes())?)?.to_text())
    }

    #[test]
    fn sums_have_the_digits_of_80_bit_arithmetic() {
        // As an x87 prints them with 17 places.
        let cases = [
            ("0", "0", "0"),
            ("1", "0.25", "1.25"),
            ("3", "1.1", "4.1"),
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("17179869184", "1.5", "17179869185.5"),
            ("1", "-1.1", "-0.1"),
            ("-0", "0", "0"),
            (".5", "5.", "5.5"),
            ("+1", "1", "2"),
            ("9223372036854775807", "0", "9223372036854775807"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("0.00000000000000001", "0", "0.00000000000000001"),
            ("0.000000000000000001", "0", "0"),
            ("1e-4000", "0", "0"),
            ("0x10", "0x1.8p1", "19"),
            ("0x.8", "-0X1P-3", "0.375"),
            ("-0x0p99999", "0x1e", "30"),
        ];
        for (a, b, want) in cases {
            assert_eq!(sum(a, b).as_deref(), Some(want), "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_finite_decimal_number_is_refused() {
        let none = [
            "",
            " 1",
            "1 ",
            "a",
            "1a",
            "--1",
            "1..2",
            ".",
            "e5",
            "1e",
            "1e+",
            "nan",
            "infi",
            "1e5000",
            "-1e99999999999",
            "1e-5000",
            "0x",
            "0x.",
            "0xg",
            "0x1p",
            "0x1p+",
            "0x1e+1",
            "0x1.2.3",
            "0x1p16384",
            "-0x1p-17000",
            "0x1p99999999999",
            "1,5",
            "1\0",
        ];
        for text in none {
            assert_eq!(Extended::parse(text.as_bytes()), None, "{text:?}");
        }
        assert!(Extended::parse(&[b'1'; TEXT_BYTES_MAX + 1]).is_none());
        assert_eq!(sum("1e4932", "1e4932"), None);
        assert!(Extended::parse(b"-Inf").is_some());
        assert_eq!(sum("inf", "-inf"), None);
        assert!(sum("1e4932", "-1e4932").is_some_and(|s| s == "0"));
    }

    #[test]
    fn addition_agrees_with_doubles_where_they_are_exact() {
        let mut rng = crate::env::Rng::new(7);
        let mut number =
            || (rng.below(1 << 41) as f64 - (1u64 << 40) as f64) / (1u64 << rng.below(11)) as f64;
        for _ in 0..20_000 {
            let (a, b) = (number(), number());
            let want = format!("{:.17}", a + b);
            let want = want.trim_end_matches('0').trim_end_matches('.');
            assert_eq!(sum(&format!("{a:.17}"), &format!("{b:.17}")).as_deref(), Some(want));
        }
    }
}

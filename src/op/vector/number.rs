//! Numbers of payloads and filters.

use std::cmp::Ordering;

/// A number, compared exactly with any other: an integer of 64 bits that no float is equal to stays
/// an integer.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// A float, or an integer that one is equal to.
    Float(f64),
    /// Another integer.
    Int(i64),
    /// Another integer, above those of [`Number::Int`].
    Big(u64),
}

impl Number {
    /// The number of a JSON value; one that is no integer of 64 bits is the nearest float.
    pub fn of(number: &serde_json::Number) -> Option<Number> {
        match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Some(Number::int(int)),
            (None, Some(big)) => Some(Number::big(big)),
            // 0 and -0 are one number.
            (None, None) => number.as_f64().map(|x| Number::Float(x + 0.0)),
        }
    }

    /// An integer.
    pub fn int(int: i64) -> Number {
        let float = int as f64;
        // Casts back are exact in 128 bits, and would saturate in 64.
        if float as i128 == i128::from(int) { Number::Float(float) } else { Number::Int(int) }
    }

    /// An integer that may be above those of 64 bits with a sign.
    pub fn big(big: u64) -> Number {
        let float = big as f64;
        match i64::try_from(big) {
            Ok(int) => Number::int(int),
            Err(_) if float as i128 == i128::from(big) => Number::Float(float),
            Err(_) => Number::Big(big),
        }
    }

    /// The integer, if it is kept as one.
    fn integer(self) -> Option<i128> {
        match self {
            Number::Float(_) => None,
            Number::Int(int) => Some(int.into()),
            Number::Big(big) => Some(big.into()),
        }
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        match (*self, *other) {
            (Number::Float(a), Number::Float(b)) => a.total_cmp(&b),
            (Number::Float(a), b) => by_integer(a, b.integer().unwrap_or_default()),
            (a, Number::Float(b)) => by_integer(b, a.integer().unwrap_or_default()).reverse(),
            (a, b) => a.integer().cmp(&b.integer()),
        }
    }
}

/// A float beside an integer that no float is equal to. What is no number stands at the ends, as
/// among floats.
fn by_integer(float: f64, integer: i128) -> Ordering {
    if float.is_nan() {
        return if float.is_sign_negative() { Ordering::Less } else { Ordering::Greater };
    }
    // Beyond 128 bits it is cut to the last of them, which is beyond all of 64.
    match (float.floor() as i128).cmp(&integer) {
        Ordering::Equal => Ordering::Greater,
        order => order,
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_kinds_are_in_one_order() {
        let in_order = [
            "-1e300",
            "-9223372036854775808",
            "-9223372036854775807",
            "-9007199254740993",
            "-9007199254740992.0",
            "-0.5",
            "0",
            "1.5",
            "9007199254740992",
            "9007199254740993",
            "9007199254740994.0",
            "1234567890123456768.0",
            "1234567890123456789",
            "1234567890123456790",
            "9223372036854775807",
            "9223372036854775808",
            "9223372036854775809",
            "18446744073709551614",
            "18446744073709551615",
            "18446744073709551616",
            "1e300",
        ];
        let number = |text: &str| Number::of(&serde_json::from_str(text).unwrap()).unwrap();
        for (at, a) in in_order.iter().enumerate() {
            for (other, b) in in_order.iter().enumerate() {
                assert_eq!(number(a).cmp(&number(b)), at.cmp(&other), "{a} {b}");
            }
        }
        for (a, b) in
            [("42", "42.0"), ("0", "-0.0"), ("9223372036854775808", "9223372036854775808.0")]
        {
            assert_eq!(number(a), number(b));
        }
    }
}

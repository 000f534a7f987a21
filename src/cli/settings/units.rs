//! Sizes and durations as they are written: `256MiB`, `100ms`.
//!
//! A size is a whole number, alone for bytes or with `B`, `KiB`, `MiB`, `GiB` or `TiB`. A duration
//! is a whole number with `ms`, `s`, `m` or `h`; it has no bare form, as nobody would agree on the
//! unit. Signs, fractions, blanks and other cases are refused. What is written back is the largest
//! unit that divides.

use std::time::Duration;

const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

const DURATIONS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes of a size.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    if unit.is_empty() { Some(number) } else { scaled(number, unit, &SIZES) }
}

/// A size of so many bytes.
pub fn format_size(bytes: u64) -> String {
    match SIZES.iter().find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale)) {
        Some((unit, scale)) if *scale > 1 => format!("{}{unit}", bytes / scale),
        _ => bytes.to_string(),
    }
}

/// A duration, in whole milliseconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    scaled(number, unit, &DURATIONS).map(Duration::from_millis)
}

/// A duration as it is written; what is below a millisecond is cut off.
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms == 0 {
        return "0s".to_string();
    }
    let fits = |scale: u64| ms >= u128::from(scale) && ms.is_multiple_of(scale.into());
    match DURATIONS.iter().find(|(_, scale)| fits(*scale)) {
        Some((unit, scale)) => format!("{}{unit}", ms / u128::from(*scale)),
        None => format!("{ms}ms"),
    }
}

/// The digits that a text begins with, and the rest.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit))
}

fn scaled(number: u64, unit: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_numbers_with_a_binary_unit_or_none() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("7B", 7),
            ("1KiB", 1024),
            ("256MiB", 256 << 20),
            ("1GiB", 1 << 30),
            ("2TiB", 2 << 40),
            ("18446744073709551615", u64::MAX),
            ("007MiB", 7 << 20),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "256 MiB",
            " 256MiB",
            "256MiB ",
            "256mib",
            "256MB",
            "256M",
            "1.5GiB",
            "-1",
            "+1",
            "1_000",
            "0x10",
            "1MiB1",
            "18446744073709551616",
            "16777216TiB",
            "٣MiB",
            "1\u{a0}MiB",
        ] {
            assert_eq!(parse_size(text), None, "{text:?}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, ms) in
            [("0ms", 0), ("100ms", 100), ("5s", 5_000), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "5",
            "ms",
            "5 s",
            "5S",
            "5sec",
            "1.5s",
            "-5s",
            "1h30m",
            "5us",
            "5124095576030432h",
            "99999999999999999999s",
        ] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_written_back_is_read_alike() {
        for n in [0, 1, 1023, 1024, 1025, 1 << 20, (1 << 20) + 1, 3 << 30, 5 << 40, u64::MAX] {
            assert_eq!(parse_size(&format_size(n)), Some(n));
        }
        for ms in [0, 1, 999, 1_000, 1_001, 60_000, 90_000, 3_600_000, 86_400_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }
        assert_eq!(format_size(1 << 30), "1GiB");
        assert_eq!(format_size(1536 << 10), "1536KiB");
        assert_eq!(format_duration(Duration::from_millis(90_000)), "90s");
    }
}

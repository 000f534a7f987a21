//! How fresh a read must be, and how that is written.
//!
//! ```text
//! linearizable | lease | stale(BOUND)        BOUND: 250ms, 5s, 2m
//! ```
//! The bound may also follow a colon, `stale:5s`, which shells leave alone.

use crate::base::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Consistency {
    /// It sees every write acknowledged before it began.
    #[default]
    Linearizable,
    /// As linearizable, as long as clocks run at about the same rate.
    Lease,
    /// It sees every write acknowledged at least so many milliseconds before it reached the
    /// replica that answers it, and may miss later ones.
    Stale {
        /// The bound, in ms.
        bound_ms: u64,
    },
}

impl Consistency {
    /// The longest bound of a stale read: a day, in ms.
    pub const BOUND_MS_MAX: u64 = 86_400_000;
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Consistency::Linearizable => f.write_str("linearizable"),
            Consistency::Lease => f.write_str("lease"),
            Consistency::Stale { bound_ms } => write!(f, "stale({bound_ms}ms)"),
        }
    }
}

impl FromStr for Consistency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Consistency> {
        let wrong = || {
            Error::invalid(format!(
                "{text:?} is no consistency: give linearizable, lease or stale(BOUND), such as \
                 stale(500ms)"
            ))
        };
        match text {
            "linearizable" => return Ok(Consistency::Linearizable),
            "lease" => return Ok(Consistency::Lease),
            _ => {}
        }
        let bound = text.strip_prefix("stale").ok_or_else(wrong)?;
        let inner = bound.strip_prefix('(').and_then(|bound| bound.strip_suffix(')'));
        let bound = inner.or_else(|| bound.strip_prefix(':')).ok_or_else(wrong)?;
        let digits = bound.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = bound.split_at(digits);
        let scale: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            _ => return Err(wrong()),
        };
        let number = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
        match number {
            Some(bound_ms) if bound_ms <= Consistency::BOUND_MS_MAX => {
                Ok(Consistency::Stale { bound_ms })
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_and_nothing_else_passes() {
        use Consistency::{Lease, Linearizable, Stale};
        for (text, meant) in [
            ("linearizable", Linearizable),
            ("lease", Lease),
            ("stale(0ms)", Stale { bound_ms: 0 }),
            ("stale(1500ms)", Stale { bound_ms: 1_500 }),
        ] {
            assert_eq!(text.parse::<Consistency>().unwrap(), meant);
            assert_eq!(meant.to_string(), text);
        }
        for (text, bound_ms) in
            [("stale(5s)", 5_000), ("stale:2m", 120_000), ("stale:24m", 1_440_000)]
        {
            assert_eq!(text.parse::<Consistency>().unwrap(), Stale { bound_ms });
        }
        for wrong in [
            "",
            "Lease",
            "stale",
            "stale()",
            "stale(5)",
            "stale(5s",
            "stale:",
            "stale:s",
            "stale:-1s",
            "stale(99999999999999999999ms)",
            "stale:1441m",
            "stale:18446744073709551615m",
        ] {
            assert!(wrong.parse::<Consistency>().is_err(), "{wrong}");
        }
    }
}

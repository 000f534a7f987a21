//! How a log is set up: segment size, durability level, pool.

use crate::base::{Error, Result};
use crate::env::{Appending, Pool};
use crate::log::format::{MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};
use std::fmt;
use std::str::FromStr;

/// What a write waits for before it is acknowledged. At every level an acknowledged write
/// survives the death of the process (`kill -9`); the levels differ in what a power cut may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncLevel {
    /// Written `always`: the record is on the device. A power cut loses nothing acknowledged.
    Always,
    /// Written `interval` or `interval:MS`: a thread syncs every `ms` milliseconds if there is
    /// something to sync. A power cut loses about the last `ms` milliseconds.
    Interval {
        /// Milliseconds between syncs, 1 to 3,600,000.
        ms: u64,
    },
    /// Written `os`: the operating system decides. A power cut loses what it had not yet written
    /// (on Linux about 30 seconds), at most about the last six segments.
    Os,
}

impl SyncLevel {
    /// Milliseconds of `interval` without a number.
    pub const INTERVAL_MS_DEFAULT: u64 = 100;
    /// The longest interval: an hour.
    pub const INTERVAL_MS_MAX: u64 = 3_600_000;
}

impl Default for SyncLevel {
    /// `interval:100`: a tenth of what Redis risks with `appendfsync everysec`, and still too
    /// rare to be felt.
    fn default() -> SyncLevel {
        SyncLevel::Interval { ms: SyncLevel::INTERVAL_MS_DEFAULT }
    }
}

impl fmt::Display for SyncLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyncLevel::Always => f.write_str("always"),
            SyncLevel::Interval { ms } => write!(f, "interval:{ms}"),
            SyncLevel::Os => f.write_str("os"),
        }
    }
}

impl FromStr for SyncLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<SyncLevel> {
        let ms = match text {
            "always" => return Ok(SyncLevel::Always),
            "os" => return Ok(SyncLevel::Os),
            "interval" => Some(SyncLevel::INTERVAL_MS_DEFAULT),
            _ => text.strip_prefix("interval:").and_then(|ms| ms.parse().ok()),
        };
        match ms {
            Some(ms) if (1..=SyncLevel::INTERVAL_MS_MAX).contains(&ms) => {
                Ok(SyncLevel::Interval { ms })
            }
            _ => Err(Error::invalid(format!(
                "\"{text}\" is not a sync level: say always, interval, interval:MS (1 to {}) or os",
                SyncLevel::INTERVAL_MS_MAX
            ))),
        }
    }
}

/// How a log is set up.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Bytes of a segment file, all reserved when it is created; 4 KiB to 1 GiB. Default 16 MiB.
    pub segment_bytes: u64,
    /// What a write waits for. Default `interval:100`.
    pub sync: SyncLevel,
    /// How segments are written. Default [`Appending::Copy`].
    pub appending: Appending,
    /// Segments no longer needed that are kept to be used again; the rest are removed. 0 to 64,
    /// default 2.
    pub recycle_max: usize,
    /// Whether threads prepare segments ahead of need, sync by interval and call back. Without
    /// them everything happens in the calls themselves, in an order that a simulation can repeat:
    /// `interval` then syncs only when asked, and [`Log::on_durable`](crate::log::Log::on_durable)
    /// syncs and calls back before it returns. Default true.
    pub threads: bool,
    /// Without threads, where [`Log::on_durable`](crate::log::Log::on_durable) has its syncs done,
    /// one job for each call. Default `None`: in the call.
    pub syncs: Option<Pool>,
    /// Seed of the salts of a log that does not exist yet; `None` draws one. Default `None`.
    pub seed: Option<u64>,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            segment_bytes: 16 << 20,
            sync: SyncLevel::default(),
            appending: Appending::default(),
            recycle_max: 2,
            threads: true,
            syncs: None,
            seed: None,
        }
    }
}

impl LogOptions {
    /// Refuses values out of their ranges.
    pub(super) fn check(&self) -> Result<()> {
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&self.segment_bytes) {
            return Err(Error::invalid(format!(
                "a log segment of {} bytes: it must have {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}",
                self.segment_bytes
            )));
        }
        if self.recycle_max > 64 {
            return Err(Error::invalid("at most 64 log segments are kept to be used again"));
        }
        match self.sync {
            SyncLevel::Interval { ms } if !(1..=SyncLevel::INTERVAL_MS_MAX).contains(&ms) => {
                Err(Error::invalid(format!("a sync interval of {ms} milliseconds")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_they_are_printed() {
        for text in ["always", "interval:100", "interval:50", "os"] {
            assert_eq!(text.parse::<SyncLevel>().unwrap().to_string(), text);
        }
        assert_eq!("interval".parse::<SyncLevel>().unwrap(), SyncLevel::default());
        for bad in ["", "Always", "interval:", "interval:0", "interval:-1", "interval:3600001"] {
            assert!(bad.parse::<SyncLevel>().is_err(), "{bad}");
        }
    }
}

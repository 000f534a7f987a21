//! What was measured.

use crate::bench::Workload;
use crate::bench::session::Tally;
use crate::env::{Disk, RealDisk};
use hdrhistogram::Histogram;
use std::path::Path;

/// The figures of one stage.
#[derive(Debug, Clone)]
pub struct Figures {
    /// The load.
    pub workload: Workload,
    /// From the first batch sent to the last answer, in nanoseconds.
    pub elapsed_ns: u64,
    /// Latency of every operation, in nanoseconds. An operation's latency is its batch's.
    pub latency: Histogram<u64>,
    /// What was met.
    pub tally: Tally,
    /// Processor time of this process, user and system, where the system tells it.
    pub cpu_seconds: Option<f64>,
}

/// Processor time this process has used, in seconds; `None` where the system does not tell it in
/// `/proc`.
pub fn cpu_seconds() -> Option<f64> {
    /// Linux reports in hundredths of a second to every program, whatever its own tick.
    const TICKS_PER_SECOND: f64 = 100.0;
    let file = RealDisk.open(Path::new("/proc/self/stat")).ok()?;
    let mut buf = [0; 1024];
    let len = file.read_at(&mut buf, 0).ok()?;
    let text = std::str::from_utf8(&buf[..len]).ok()?;
    // The name in parentheses may hold anything; fields are counted from behind it, where field 3
    // (the state) is the first. User and system time are fields 14 and 15.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let user: f64 = fields.get(11)?.parse().ok()?;
    let system: f64 = fields.get(12)?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

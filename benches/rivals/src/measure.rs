//! What a piece of work costs the whole process.

use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::time::Instant;

/// The costs of a stretch of work.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Seconds of processor time of all threads.
    pub cpu_s: f64,
    /// Seconds by the clock.
    pub wall_s: f64,
}

/// Measures `work`.
pub fn cost<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    let (cpu, wall) = (process_cpu_s(), Instant::now());
    let out = work();
    (out, Cost { cpu_s: process_cpu_s() - cpu, wall_s: wall.elapsed().as_secs_f64() })
}

fn process_cpu_s() -> f64 {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

/// The most memory the process has had resident, in bytes.
pub fn peak_rss_bytes() -> u64 {
    field("/proc/self/status", "VmHWM:") * 1024
}

/// Bytes that the process has made dirty.
pub fn dirtied_bytes() -> u64 {
    field("/proc/self/io", "write_bytes:")
}

fn field(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Bytes of the files under `dir`: those for which `is_log` holds, and the others.
pub fn folder_bytes(dir: &Path, is_log: &dyn Fn(&Path) -> bool) -> (u64, u64) {
    let (mut log, mut rest) = (0, 0);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            let (l, r) = folder_bytes(&path, is_log);
            (log, rest) = (log + l, rest + r);
        } else if is_log(&path) {
            log += meta.len();
        } else {
            rest += meta.len();
        }
    }
    (log, rest)
}

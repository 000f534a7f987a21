//! Time: of day for expiry, monotonic for measuring.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time. Implemented by `RealClock` and `SimClock`.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Milliseconds since the Unix epoch. May jump either way.
    fn unix_ms(&self) -> u64;
    /// As [`Clock::unix_ms`], some milliseconds late at most, for a quarter of the time it takes.
    fn rough_unix_ms(&self) -> u64 {
        self.unix_ms()
    }
    /// Microseconds since the Unix epoch. May jump either way.
    fn unix_us(&self) -> u64;
    /// Nanoseconds since some start; never goes back.
    fn monotonic_ns(&self) -> u64;
}

/// The machine's clock.
#[derive(Debug)]
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> RealClock {
        RealClock { start: Instant::now() }
    }
}

impl RealClock {
    /// Holds the thread until the monotonic clock says `at_ns`. It sleeps, and spins at the end,
    /// where a sleep could last too long.
    pub fn wait_until(&self, at_ns: u64) {
        const SPIN_NS: u64 = 100_000;
        loop {
            let left = at_ns.saturating_sub(self.monotonic_ns());
            match left {
                0 => return,
                1..=SPIN_NS => std::hint::spin_loop(),
                _ => std::thread::sleep(Duration::from_nanos(left - SPIN_NS / 2)),
            }
        }
    }
}

impl Default for RealClock {
    fn default() -> RealClock {
        RealClock::new()
    }
}

impl Clock for RealClock {
    fn unix_ms(&self) -> u64 {
        self.unix_us() / 1000
    }

    #[cfg(target_os = "linux")]
    fn rough_unix_ms(&self) -> u64 {
        let at = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let ms = u64::try_from(at.tv_sec).unwrap_or(0).saturating_mul(1000);
        ms.saturating_add(at.tv_nsec as u64 / 1_000_000)
    }

    fn unix_us(&self) -> u64 {
        // A machine whose clock stands before 1970 is taken to stand at it.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
    }

    fn monotonic_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct SimClock {
    us: AtomicU64,
}

impl SimClock {
    /// A clock that stands at `unix_ms`.
    pub fn at(unix_ms: u64) -> SimClock {
        SimClock { us: AtomicU64::new(unix_ms * 1000) }
    }

    /// Moves on by `ms` milliseconds.
    pub fn advance_ms(&self, ms: u64) {
        self.us.fetch_add(ms * 1000, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn unix_ms(&self) -> u64 {
        self.unix_us() / 1000
    }

    fn unix_us(&self) -> u64 {
        self.us.load(Ordering::SeqCst)
    }

    fn monotonic_ns(&self) -> u64 {
        self.unix_us() * 1000
    }
}

//! The time of a process: a runtime of its own whose paused clock is moved along, at a rate of its
//! own, with the one time of the simulation.

use arqondb::env::Clock;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000 * MS;
/// What the calendars say when a simulation begins, in ms.
pub(crate) const EPOCH_MS: u64 = 1_700_000_000_000;
const MILLION: u128 = 1_000_000;

/// A process's time. All of the simulation's times are nanoseconds since its start.
#[derive(Debug)]
pub(crate) struct Local {
    /// The host it runs on.
    pub(crate) site: usize,
    begun: u64,
    /// How much faster than the simulation's its clock runs, in millionths.
    faster_ppm: i64,
    /// By how many ms its calendar is wrong.
    calendar_off_ms: AtomicI64,
    base: OnceLock<Instant>,
    last: AtomicU64,
}

impl Local {
    pub(crate) fn new(site: usize, begun: u64, faster_ppm: i64, calendar_off_ms: i64) -> Local {
        Local {
            site,
            begun,
            faster_ppm,
            calendar_off_ms: AtomicI64::new(calendar_off_ms),
            base: OnceLock::new(),
            last: AtomicU64::new(begun),
        }
    }

    /// Has it begin. Called within its runtime.
    pub(crate) fn begin(&self) {
        self.base.set(Instant::now()).unwrap();
    }

    /// Sets the calendar, by which leases and timeouts must not go.
    pub(crate) fn set_calendar(&self, off_ms: i64) {
        self.calendar_off_ms.store(off_ms, Ordering::Relaxed);
    }

    fn elapsed(&self) -> Duration {
        match (Handle::try_current(), self.base.get()) {
            (Ok(_), Some(base)) => Instant::now().duration_since(*base),
            // What a process that ends still does, it does when it last did something.
            _ => Duration::from_nanos(self.to_local(self.last.load(Ordering::Relaxed))),
        }
    }

    /// The simulation's time.
    pub(crate) fn now(&self) -> u64 {
        let local = self.elapsed().as_nanos();
        let speed = (MILLION as i64 + self.faster_ppm) as u128;
        let now = self.begun + (local * MILLION / speed) as u64;
        self.last.fetch_max(now, Ordering::Relaxed);
        now
    }

    fn to_local(&self, at: u64) -> u64 {
        let speed = (MILLION as i64 + self.faster_ppm) as u128;
        (u128::from(at.saturating_sub(self.begun)) * speed).div_ceil(MILLION) as u64
    }

    /// When the process's own clock shows the simulation's time `at`.
    pub(crate) fn instant(&self, at: u64) -> Instant {
        *self.base.get().unwrap() + Duration::from_nanos(self.to_local(at))
    }
}

impl Clock for Local {
    fn unix_ms(&self) -> u64 {
        self.unix_us() / 1_000
    }

    fn unix_us(&self) -> u64 {
        let ms = EPOCH_MS as i64 + self.calendar_off_ms.load(Ordering::Relaxed);
        ms as u64 * 1_000 + self.begun / 1_000 + self.elapsed().as_micros() as u64
    }

    fn monotonic_ns(&self) -> u64 {
        self.elapsed().as_nanos() as u64
    }
}

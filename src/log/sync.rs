//! Durability: group commit, poison, and the threads behind them.
//!
//! Whoever needs a sync and finds none running leads one, for all that has been written by then;
//! whoever comes meanwhile waits and is served by it or by the next. A failed sync or write
//! poisons the log: everyone who waits and everyone who comes is refused, for good, because after
//! a failed sync the kernel may call pages clean that never reached the device.

use crate::base::{Error, ErrorKind, Result};
use crate::env::Clock;
use crate::log::options::SyncLevel;
use crate::log::record::Position;
use crate::log::segment::Segment;
use crate::log::{Inner, lock};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// Called when a position is durable, or never will be known to be.
pub type DurableFn = Box<dyn FnOnce(Result<()>) + Send>;

/// What the lock of the syncers guards.
#[derive(Default)]
pub(super) struct SyncState {
    leading: bool,
    closed: bool,
    /// A segment was filled and ends here: sync it soon, if it is still there.
    filled: Option<Position>,
    waiting: Vec<(Position, DurableFn)>,
    /// Whether the syncer sleeps, and how many threads wait for a sync to end: waking nobody would
    /// still be a system call.
    idle: bool,
    sleepers: usize,
}

impl std::fmt::Debug for SyncState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncState").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Inner {
    pub(super) fn durable(&self) -> Position {
        Position(self.durable.load(Ordering::Acquire))
    }

    pub(super) fn written(&self) -> Position {
        Position(self.written.load(Ordering::Acquire))
    }

    /// Waits until everything up to `position` is durable.
    pub(super) fn sync_to(&self, position: Position) -> Result<()> {
        if position > self.written() {
            return Err(Error::invalid(format!("position {position} lies behind the log's end")));
        }
        self.sync_by(position, || self.written())
    }

    /// As [`Inner::sync_to`]; whoever leads syncs up to `target`, which is not before `position`.
    fn sync_by(&self, position: Position, target: impl Fn() -> Position) -> Result<()> {
        let mut state = lock(&self.sync);
        loop {
            if position <= self.durable() {
                return Ok(());
            }
            self.check_poison()?;
            if state.leading {
                state.sleepers += 1;
                state = self.synced.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.sleepers -= 1;
            } else {
                state = self.lead(state, &target)?;
            }
        }
    }

    /// Syncs up to `target`, for everyone.
    fn lead<'a>(
        &'a self,
        mut state: MutexGuard<'a, SyncState>,
        target: &impl Fn() -> Position,
    ) -> Result<MutexGuard<'a, SyncState>> {
        state.leading = true;
        drop(state);
        // In this order: what is written now stands in segments that are listed now.
        let target = target();
        let from = self.durable().segment();
        let begun_ns = self.clock.monotonic_ns();
        let synced = self
            .segments_between(from, target.segment())
            .iter()
            .try_for_each(|segment| segment.file.sync_data());
        let outcome = match synced {
            Ok(()) => {
                self.durable.store(target.0, Ordering::Release);
                self.note_sync_ns(self.clock.monotonic_ns() - begun_ns);
                Ok(())
            }
            Err(e) => Err(self.poison(&e)),
        };
        let mut state = lock(&self.sync);
        state.leading = false;
        if state.sleepers > 0 {
            self.synced.notify_all();
        }
        if !state.waiting.is_empty() {
            self.wake_syncer(&mut state);
        }
        outcome.map(|()| state)
    }

    fn wake_syncer(&self, state: &mut SyncState) {
        if std::mem::take(&mut state.idle) {
            self.wake.notify_one();
        }
    }

    /// Slow ones count at once, and are forgotten by and by.
    fn note_sync_ns(&self, ns: u64) {
        let before = self.sync_ns.load(Ordering::Relaxed);
        self.sync_ns.store(ns.max(before - before / 8).max(1), Ordering::Relaxed);
    }

    pub(super) fn on_durable(self: &Arc<Self>, position: Position, f: DurableFn) {
        if position <= self.durable() {
            return f(Ok(()));
        }
        let by_hand = self.options.syncs.as_ref().filter(|_| !self.options.threads);
        let is_later = by_hand.is_some() || self.options.threads && self.start_syncer();
        if position > self.written() || !is_later {
            return f(self.sync_to(position));
        }
        let mut state = lock(&self.sync);
        if state.closed {
            drop(state);
            return f(self.sync_to(position));
        }
        state.waiting.push((position, f));
        self.wake_syncer(&mut state);
        drop(state);
        if let Some(syncs) = by_hand {
            let inner = self.clone();
            syncs.spawn(move || inner.turn_syncer());
        }
    }

    /// One turn of a syncer that has no thread.
    fn turn_syncer(&self) {
        let waits = !lock(&self.sync).waiting.is_empty();
        if !waits {
            return;
        }
        // A failure poisons the log, and everyone is told.
        _ = self.sync_to(self.written());
        for (position, f) in std::mem::take(&mut lock(&self.sync).waiting) {
            let is_durable = position <= self.durable();
            f(if is_durable { Ok(()) } else { self.check_poison() });
        }
    }

    /// At `os` nobody asks for syncs; a segment that has been full for a while is reason enough for
    /// one, so that a power cut has a bound, and damage in old segments can be told from a torn
    /// tail. What follows in the next segment is left alone: its pages would only have to be touched
    /// anew.
    pub(super) fn segment_was_filled(self: &Arc<Self>, end: Position) {
        if self.options.threads && self.options.sync == SyncLevel::Os && self.start_syncer() {
            let mut state = lock(&self.sync);
            state.filled = Some(end);
            self.wake_syncer(&mut state);
        }
    }

    /// The body of the syncer: calls back, syncs for those who wait, and by interval.
    pub(super) fn run_syncer(&self) {
        let interval = match self.options.sync {
            SyncLevel::Interval { ms } => Some(Duration::from_millis(ms)),
            _ => None,
        };
        let mut state = lock(&self.sync);
        loop {
            let answer = self.check_poison();
            let durable = self.durable();
            let (due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut state.waiting)
                .into_iter()
                .partition(|(position, _)| *position <= durable || answer.is_err());
            state.waiting = rest;
            if !due.is_empty() {
                drop(state);
                for (position, f) in due {
                    f(if position <= durable { Ok(()) } else { answer.clone() });
                }
                state = lock(&self.sync);
                continue;
            }
            let filled = state.filled.take();
            let asked = !state.waiting.is_empty();
            if (asked || filled.is_some()) && answer.is_ok() {
                drop(state);
                // A failure poisons the log; everyone is told at the next turn.
                _ = match filled.filter(|_| !asked) {
                    Some(end) => self.sync_by(end, || end),
                    None => self.sync_to(self.written()),
                };
                state = lock(&self.sync);
                continue;
            }
            if state.closed {
                return;
            }
            state.idle = true;
            match interval {
                Some(interval) => {
                    let waited = self.wake.wait_timeout(state, interval);
                    let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    state = guard;
                    state.idle = false;
                    if timeout.timed_out() && !state.closed && self.check_poison().is_ok() {
                        drop(state);
                        _ = self.sync_to(self.written());
                        state = lock(&self.sync);
                    }
                }
                None => state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
            state.idle = false;
        }
    }

    pub(super) fn close_syncer(&self) {
        lock(&self.sync).closed = true;
        self.wake.notify_all();
    }

    /// Makes the log refuse everything from now on; gives the error to answer with.
    pub(super) fn poison(&self, cause: &Error) -> Error {
        let error = self.poison.get_or_init(|| {
            Error::new(
                ErrorKind::Poisoned,
                format!("the log has stopped all writes because one failed ({cause}); restart"),
            )
        });
        self.synced.notify_all();
        self.wake.notify_all();
        error.clone()
    }

    #[inline]
    pub(super) fn check_poison(&self) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(error) => Err(error.clone()),
        }
    }

    fn segments_between(&self, from: u32, to: u32) -> Vec<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.range(from..=to).map(|(_, segment)| segment.clone()).collect()
    }
}

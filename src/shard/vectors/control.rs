//! One job in the background at a time, and its end; and when what failed is tried again.

use crate::shard::vectors::index::lock;
use std::sync::{Condvar, Mutex, PoisonError};

/// A job that runs.
pub(super) struct Ends<'a>(&'a Control);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).running = false;
        self.0.ended.notify_all();
    }
}

/// Whether the background is at work, or may begin to be.
#[derive(Debug, Default)]
pub(super) struct Control {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queued: bool,
    running: bool,
    closed: bool,
}

impl Control {
    /// Whether the caller is to queue a job.
    pub(super) fn may_queue(&self) -> bool {
        let mut state = lock(&self.state);
        let may = !state.queued && !state.running && !state.closed;
        state.queued |= may;
        may
    }

    /// Whether the caller, a job that was queued, may begin. It then holds [`Control::ends`].
    pub(super) fn begin(&self) -> bool {
        let mut state = lock(&self.state);
        state.queued = false;
        if state.closed || state.running {
            return false;
        }
        state.running = true;
        true
    }

    /// As [`Control::begin`], for one that was not queued: waits for the job that runs.
    pub(super) fn begin_here(&self) -> bool {
        let mut state = lock(&self.state);
        while state.running && !state.closed {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let may = !state.closed;
        state.running |= may;
        may
    }

    /// Ends the job that runs when it is dropped.
    pub(super) fn ends(&self) -> Ends<'_> {
        Ends(self)
    }

    /// Whether a job is to come to an end soon.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Lets no more jobs begin, and waits for the one that runs; whether it was open until now.
    pub(super) fn close(&self) -> bool {
        let mut state = lock(&self.state);
        let was_open = !std::mem::replace(&mut state.closed, true);
        while state.running {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        was_open
    }
}

/// Work that fails, again and again: it is tried at ever fewer turns of the upkeep.
#[derive(Debug, Default)]
pub(super) struct Failed {
    in_a_row: u32,
    /// Turns for which nothing of its kind is tried.
    turns_off: u32,
}

impl Failed {
    /// Turns that are left out at most: a minute of them.
    const TURNS_OFF_MAX: u32 = 600;

    /// It has failed; the first time it is tried at the next turn.
    pub(super) fn once_more(&mut self) {
        self.turns_off = ((1 << self.in_a_row.min(16)) - 1).min(Failed::TURNS_OFF_MAX);
        self.in_a_row += 1;
    }

    /// A turn of the upkeep.
    pub(super) fn turn(&mut self) {
        self.turns_off = self.turns_off.saturating_sub(1);
    }

    /// How often it has failed in a row.
    #[cfg(test)]
    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// Whether it is left alone for now.
    pub(super) fn rests(&self) -> bool {
        self.turns_off > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Whoever closed waited for ever for a job that had ended by a panic.
    #[test]
    fn a_job_that_panics_has_ended() {
        let control = Control::default();
        assert!(control.may_queue() && control.begin());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _ended = control.ends();
            panic!("a bug");
        }));
        assert!(panicked.is_err() && control.may_queue() && control.begin());
        drop(control.ends());
        assert!(control.close());
    }

    #[test]
    fn what_fails_rests_for_a_minute_at_most() {
        let mut failed = Failed::default();
        let rests: Vec<u32> = (0..20)
            .map(|_| {
                failed.once_more();
                let turns = (0..).take_while(|_| {
                    let rests = failed.rests();
                    failed.turn();
                    rests
                });
                turns.count() as u32
            })
            .collect();
        assert_eq!(rests[..5], [0, 1, 3, 7, 15]);
        assert_eq!(rests[10..], [600; 10]);
    }
}

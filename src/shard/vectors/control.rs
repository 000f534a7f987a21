//! One job in the background at a time, and its end.

use crate::shard::vectors::index::lock;
use std::sync::{Condvar, Mutex, PoisonError};

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

    /// Whether the caller, a job that was queued, may begin. It then calls [`Control::end`].
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

    pub(super) fn end(&self) {
        lock(&self.state).running = false;
        self.ended.notify_all();
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

//! When a leader stops gathering batches for its next entry.
//!
//! A round of a group costs about the same whatever it carries: messages, syncs, wake-ups. Clients
//! that have just been answered come back soon, so right after an entry has been committed few
//! requests wait and more are on their way; an entry made at once would leave them to the next one,
//! and each entry would carry half of what it could. So a leader waits until as many have come as
//! stood in the last entry and behind it, but not for longer than [`LINGER`], and less and less
//! often where it waits in vain: writers that do not wait for their answers are not held up.

use std::time::Duration;
use tokio::time::Instant;

/// How long an entry may wait for requests that are expected.
pub(crate) const LINGER: Duration = Duration::from_millis(1);
/// Entries that do not wait after one that has waited in vain, at most.
const AT_ONCE_MAX: u32 = 256;

/// Turns of the runtime in which batches may join an entry that is about to be made. A runtime with
/// little to do takes some microseconds for them, a busy one as long as makes up for it.
const TURNS: usize = 8;

/// What a leader has seen of its writers, or its readers.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Requests that are worth waiting for.
    expected: usize,
    /// Whether the next entry waits for them.
    waits: bool,
    /// Entries that will not wait.
    at_once: u32,
    /// How many do not the next time that waiting was in vain.
    penalty: u32,
}

impl Pace {
    /// The pace of a leader that has seen nothing yet.
    pub(crate) fn new() -> Pace {
        Pace { expected: 1, waits: false, at_once: 0, penalty: 1 }
    }

    /// An entry with `carried` requests is done, and `waiting` more have come meanwhile: gives how
    /// many must be there before the next is made, 1 at least.
    pub(crate) fn after(&mut self, carried: usize, waiting: usize, at_most: usize) -> usize {
        self.expected = (carried + waiting).min(at_most);
        self.waits = self.at_once == 0;
        if !self.waits {
            self.at_once -= 1;
            return 1;
        }
        self.expected.max(1)
    }

    /// An entry of `carried` requests is made: all there were when its time had come, or as many as
    /// it waited for.
    pub(crate) fn goes(&mut self, late: bool, carried: usize) {
        if !self.waits {
            return;
        }
        // Nearly all of them will do: one of many clients may be slow, or have left.
        if late && carried * 8 < self.expected * 7 {
            self.at_once = self.penalty;
            self.penalty = (self.penalty * 2).min(AT_ONCE_MAX);
        } else {
            self.penalty = 1;
        }
    }
}

impl Default for Pace {
    fn default() -> Pace {
        Pace::new()
    }
}

/// Lets what is ready run, so that what it places is in the entry too; not for longer than one may
/// wait.
pub(crate) async fn some_turns() {
    let begun = Instant::now();
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
        if begun.elapsed() >= LINGER {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_is_waited_for() {
        let mut pace = Pace::new();
        assert_eq!(pace.after(5, 11, 1024), 16);
        pace.goes(false, 16);
        assert_eq!(pace.after(16, 0, 1024), 16);
        assert_eq!(pace.after(16, 9, 20), 20, "no more than fit");
        assert_eq!(pace.after(0, 0, 1024), 1);
    }

    #[test]
    fn where_nobody_comes_back_ever_fewer_entries_wait() {
        let mut pace = Pace::new();
        let mut waits = 0;
        for _ in 0..1000 {
            let enough = pace.after(4, 4, 1024);
            let waited = enough > 4;
            waits += u32::from(waited);
            pace.goes(waited, 4);
            assert!(pace.expected == 8);
        }
        assert!((1..=12).contains(&waits), "{waits} of 1000 waited");
        // And once they come back, the next that waits finds them.
        let enough = (0..=AT_ONCE_MAX).map(|_| pace.after(4, 4, 1024)).find(|n| *n > 1);
        assert_eq!(enough, Some(8));
        pace.goes(false, 8);
        assert_eq!(pace.after(8, 0, 1024), 8);
    }
}

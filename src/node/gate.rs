//! A gate between requests that run on a runtime's threads and those that wait for a commit with
//! latches held.
//!
//! Whoever runs on a thread of the runtime may have to sleep until a latch is free. One who holds
//! latches until a commit waits for that same runtime: it moves the messages that bring the commit
//! about. So the two never run at a time. The many pass with one atomic addition each way; the few
//! close the gate, wait for those inside to leave, and the many wait meanwhile without a thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

/// Set while the gate is closed, or about to be; below it, how many are inside.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// The gate of one shard.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: AtomicUsize,
    /// Somebody who waits for the others to leave may look again.
    left: Notify,
    opened: Notify,
    closing: Arc<Mutex<()>>,
}

/// The right to run on a thread of the runtime. REQUIRES: let go of before anything is waited for.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a Gate);

/// The right to wait for a commit with latches held.
#[derive(Debug)]
pub(crate) struct Alone {
    gate: Arc<Gate>,
    _turn: OwnedMutexGuard<()>,
}

impl Gate {
    /// Passes, once the gate is open.
    pub(crate) async fn pass(&self) -> Inside<'_> {
        loop {
            if let Some(inside) = self.try_pass() {
                return inside;
            }
            // It hears of every opening from here on.
            let opened = self.opened.notified();
            if self.state.load(Ordering::SeqCst) & CLOSED != 0 {
                opened.await;
            }
        }
    }

    fn try_pass(&self) -> Option<Inside<'_>> {
        let was = self.state.fetch_add(1, Ordering::SeqCst);
        // One who finds it closed leaves again.
        let inside = Inside(self);
        (was & CLOSED == 0).then_some(inside)
    }

    /// Closes the gate, and waits until all have left.
    pub(crate) async fn close(self: &Arc<Self>) -> Alone {
        let turn = self.closing.clone().lock_owned().await;
        // From here on it is opened again by being dropped, also if nobody waits any longer.
        let alone = Alone { gate: self.clone(), _turn: turn };
        self.state.fetch_or(CLOSED, Ordering::SeqCst);
        while self.state.load(Ordering::SeqCst) != CLOSED {
            self.left.notified().await;
        }
        alone
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if self.0.state.fetch_sub(1, Ordering::SeqCst) == CLOSED | 1 {
            // Kept for one who has not begun to wait.
            self.0.left.notify_one();
        }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.gate.state.fetch_and(!CLOSED, Ordering::SeqCst);
        self.gate.opened.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn nobody_passes_while_one_is_alone_and_a_wait_that_is_given_up_opens_again() {
        let gate = Arc::new(Gate::default());
        let (one, other) = (gate.pass().await, gate.pass().await);
        let mut closing = Box::pin(gate.close());
        assert!((&mut closing).now_or_never().is_none(), "two are inside");
        assert!(gate.pass().now_or_never().is_none(), "whoever comes waits for the one before");
        drop(one);
        assert!((&mut closing).now_or_never().is_none(), "one is inside");
        drop(closing);
        let third = gate.pass().now_or_never().expect("nobody closes it any more");
        drop((other, third));

        let alone = gate.close().now_or_never().expect("nobody is inside");
        let (mut passing, mut second) = (Box::pin(gate.pass()), Box::pin(gate.close()));
        assert!((&mut passing).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        drop(alone);
        assert!(passing.await.0.state.load(Ordering::SeqCst) > 0);
        drop(second.await);
        assert_eq!(gate.state.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_two_are_never_there_at_a_time_and_all_have_their_turn() {
        let (gate, inside) = (Arc::new(Gate::default()), Arc::new(AtomicUsize::new(0)));
        let passing = (0..4).map(|_| {
            let (gate, inside) = (gate.clone(), inside.clone());
            tokio::spawn(async move {
                for _ in 0..2_000 {
                    let held = gate.pass().await;
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < CLOSED);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(held);
                }
            })
        });
        let closing = (0..2).map(|_| {
            let (gate, inside) = (gate.clone(), inside.clone());
            tokio::spawn(async move {
                for _ in 0..500 {
                    let alone = gate.close().await;
                    assert_eq!(inside.swap(CLOSED, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    assert_eq!(inside.swap(0, Ordering::SeqCst), CLOSED);
                    drop(alone);
                }
            })
        });
        let all: Vec<_> = passing.chain(closing).collect();
        for task in all {
            task.await.unwrap();
        }
    }
}

//! Group commit of threads that wait.
//!
//! One of them, the leader, syncs for all who have placed something by then. It wakes just those
//! it has served, each once, and one that came too late to be the next leader. Who was served goes
//! on without taking a lock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

/// Threads that wait for what `T` names.
#[derive(Debug)]
pub(super) struct Turns<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    is_led: bool,
    waiting: VecDeque<Arc<Seat<T>>>,
    /// Whether the last leader had served others.
    is_shared: bool,
}

#[derive(Debug)]
struct Seat<T> {
    awaited: T,
    thread: Thread,
    told: AtomicU8,
}

/// What a seat is told: nothing yet, to go on, or to lead.
const NOTHING: u8 = 0;
const SERVED: u8 = 1;
const LEAD: u8 = 2;

impl<T> Seat<T> {
    /// Waits for a word; says whether it is to lead.
    fn is_to_lead(&self) -> bool {
        loop {
            match self.told.load(Ordering::Acquire) {
                NOTHING => std::thread::park(),
                word => return word == LEAD,
            }
        }
    }

    fn tell(&self, word: u8) {
        self.told.store(word, Ordering::Release);
        self.thread.unpark();
    }
}

impl<T> Default for Turns<T> {
    fn default() -> Turns<T> {
        let state = State { is_led: false, waiting: VecDeque::new(), is_shared: false };
        Turns { state: Mutex::new(state) }
    }
}

impl<T: Copy> Turns<T> {
    /// Waits until `is_pending` denies `awaited`. `sync` is called if this thread leads, as often
    /// as it takes; after a call whatever was placed before it must no longer be pending.
    pub(super) fn wait(&self, awaited: T, is_pending: impl Fn(T) -> bool, sync: impl Fn()) {
        let (seat, is_shared) = {
            let mut state = self.lock();
            let seat = state.is_led.then(|| {
                let thread = std::thread::current();
                Arc::new(Seat { awaited, thread, told: AtomicU8::new(NOTHING) })
            });
            state.waiting.extend(seat.clone());
            state.is_led = true;
            (seat, state.is_shared)
        };
        if seat.is_some_and(|seat| !seat.is_to_lead()) {
            return;
        }
        let _turn = Leading { turns: self, is_pending: &is_pending };
        if is_shared {
            // Those who were woken a moment ago may place what they have next.
            std::thread::yield_now();
        }
        while is_pending(awaited) {
            sync();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The leader's turn. It ends by being dropped, also when the leader panics.
struct Leading<'a, T: Copy, P: Fn(T) -> bool> {
    turns: &'a Turns<T>,
    is_pending: &'a P,
}

impl<T: Copy, P: Fn(T) -> bool> Drop for Leading<'_, T, P> {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        let (late, served): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition(|seat| (self.is_pending)(seat.awaited));
        state.waiting = late;
        let next = state.waiting.pop_front();
        state.is_led = next.is_some();
        state.is_shared = !served.is_empty();
        drop(state);
        next.iter().for_each(|seat| seat.tell(LEAD));
        served.iter().for_each(|seat| seat.tell(SERVED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn everyone_goes_on_when_it_is_synced_and_not_before() {
        let (turns, placed, synced) = (Turns::default(), AtomicU64::new(0), AtomicU64::new(0));
        let syncs = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let mine = placed.fetch_add(1, Ordering::SeqCst) + 1;
                        let is_pending = |at| at > synced.load(Ordering::SeqCst);
                        turns.wait(mine, is_pending, || {
                            let through = placed.load(Ordering::SeqCst);
                            std::thread::yield_now();
                            syncs.fetch_add(1, Ordering::SeqCst);
                            synced.store(through, Ordering::SeqCst);
                        });
                        assert!(!is_pending(mine));
                    }
                });
            }
        });
        assert_eq!(synced.load(Ordering::SeqCst), 16_000);
        assert!(syncs.load(Ordering::SeqCst) < 16_000, "nobody was ever served by another");
        assert!(!turns.lock().is_led);
    }

    #[test]
    fn a_leader_that_panics_leaves_the_lead_to_another() {
        let (turns, synced) = (Turns::default(), AtomicU64::new(0));
        let is_pending = |at| at > synced.load(Ordering::SeqCst);
        std::thread::scope(|scope| {
            let (leads, led) = std::sync::mpsc::channel();
            let (turns, synced) = (&turns, &synced);
            let first = scope.spawn(move || {
                turns.wait(1, is_pending, || {
                    leads.send(()).unwrap();
                    while turns.lock().waiting.is_empty() {
                        std::thread::yield_now();
                    }
                    panic!("on purpose");
                });
            });
            led.recv().unwrap();
            turns.wait(2, is_pending, || synced.store(2, Ordering::SeqCst));
            assert!(first.join().is_err());
        });
        assert_eq!(synced.load(Ordering::SeqCst), 2);
    }
}

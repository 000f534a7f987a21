//! A lock for places where nobody else is.
//!
//! What it guards has one user at a time nearly always, for a moment nearly always: now and then a
//! holder waits for the disk. Taking it is one atomic exchange and letting it go one store, half of
//! what a mutex costs, whose second exchange waits for all that its holder wrote. Who does find it taken tries
//! again for a moment, then sleeps.
//!
//! A holder that lets go looks whether anybody sleeps. Without a fence between the two it may, very
//! seldom, miss one who is just lying down: a sleeper therefore looks again after [`NAP_MIN`], and
//! less and less often.

#![expect(unsafe_code, reason = "hands out what is behind a lock")]

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often a waiter tries again before it sleeps.
const TRIES: usize = 100;
/// How long a sleeper that was missed sleeps on, at first and at most.
const NAP_MIN: Duration = Duration::from_millis(1);
const NAP_MAX: Duration = Duration::from_millis(16);

/// A value that one thread at a time may use, for a moment.
#[derive(Debug, Default)]
pub struct Spin<T> {
    taken: AtomicBool,
    /// Threads that sleep, or are about to.
    sleepers: AtomicU32,
    sleeping: Mutex<()>,
    freed: Condvar,
    value: UnsafeCell<T>,
}

// SAFETY: as a mutex: the value is only reached by the holder of the lock.
unsafe impl<T: Send> Sync for Spin<T> {}

/// The right to use the value.
#[derive(Debug)]
pub struct SpinGuard<'a, T> {
    lock: &'a Spin<T>,
    /// As a mutable reference: another thread may share the guard only if it may share the value.
    value: PhantomData<&'a mut T>,
}

impl<T> Spin<T> {
    /// A lock around `value`.
    pub fn new(value: T) -> Spin<T> {
        Spin {
            taken: AtomicBool::new(false),
            sleepers: AtomicU32::new(0),
            sleeping: Mutex::new(()),
            freed: Condvar::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the lock; waits while another has it. A holder that panicked has let it go.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        if self.taken.swap(true, Ordering::Acquire) {
            self.wait();
        }
        SpinGuard { lock: self, value: PhantomData }
    }

    #[cold]
    fn wait(&self) {
        for _ in 0..TRIES {
            if !self.taken.load(Ordering::Relaxed) && !self.taken.swap(true, Ordering::Acquire) {
                return;
            }
            std::hint::spin_loop();
        }
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let mut sleeping = self.sleeping.lock().unwrap_or_else(PoisonError::into_inner);
        let mut nap = NAP_MIN;
        while self.taken.swap(true, Ordering::SeqCst) {
            let woken = self.freed.wait_timeout(sleeping, nap);
            nap = (nap * 2).min(NAP_MAX);
            sleeping = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    #[cold]
    fn wake(&self) {
        // Who has found it taken sleeps once this is free.
        drop(self.sleeping.lock().unwrap_or_else(PoisonError::into_inner));
        self.freed.notify_one();
    }
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard's thread holds the lock, and only through `&mut self` is it changed.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard's thread holds the lock, and `&mut self` excludes other references.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.taken.store(false, Ordering::Release);
        if self.lock.sleepers.load(Ordering::Relaxed) > 0 {
            self.lock.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_free_again_after_a_panic() {
        let sum = Spin::new((0u64, 0u64));
        let rounds = if cfg!(miri) { 50 } else { 20_000 };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        let mut both = sum.lock();
                        both.0 += 1;
                        assert_eq!(both.0, both.1 + 1);
                        both.1 += 1;
                    }
                });
            }
        });
        assert_eq!(*sum.lock(), (4 * rounds, 4 * rounds));
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = sum.lock();
            panic!("on purpose");
        }));
        assert!(broken.is_err());
        assert_eq!(sum.lock().0, 4 * rounds);
    }
}

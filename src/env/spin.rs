//! A lock for places where nobody else is.
//!
//! What it guards has one user at a time by its owner's design; the lock is there so that safety
//! does not rest on that. Taking it is one atomic exchange and letting it go one store, half of
//! what a mutex costs; who does find it taken yields until it is free, and sleeps if that takes
//! long.

#![expect(unsafe_code, reason = "hands out what is behind a lock")]

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a waiter yields before it sleeps, and how long it sleeps at first and at most.
const YIELDS_MAX: usize = 100;
const PAUSE_MIN: Duration = Duration::from_micros(50);
const PAUSE_MAX: Duration = Duration::from_millis(1);

/// A value that one thread at a time may use, for a moment.
#[derive(Debug, Default)]
pub struct Spin<T> {
    taken: AtomicBool,
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
        Spin { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Takes the lock; yields while another has it. A holder that panicked has let it go.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        if self.taken.swap(true, Ordering::Acquire) {
            self.wait();
        }
        SpinGuard { lock: self, value: PhantomData }
    }

    #[cold]
    fn wait(&self) {
        let (mut yields, mut pause) = (0, PAUSE_MIN);
        while self.taken.swap(true, Ordering::Acquire) {
            if yields < YIELDS_MAX {
                std::thread::yield_now();
                yields += 1;
            } else {
                // tidy: sleeps because letting go wakes nobody, which is what makes it cheap
                std::thread::sleep(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
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

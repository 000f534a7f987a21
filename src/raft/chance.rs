//! openraft on tokio, with chance that a simulation can choose.
//!
//! Elections draw random times. A thread for which [`choose_chance`] was called draws them from its
//! seed, so that what happens there happens again; every other one draws from the system's.

use crate::env::rng;
use futures::FutureExt;
use openraft::async_runtime::AsyncRuntime;
use openraft::impls::TokioRuntime;
use openraft::rt::OptionalSend;
use openraft::rt::deterministic_rng::DeterministicRng;
use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

thread_local! {
    static CHOSEN: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Has groups of this thread draw what they draw at random from `seed`.
pub fn choose_chance(seed: u64) {
    CHOSEN.with(|chosen| chosen.set(Some(seed)));
}

fn next_seed() -> u64 {
    CHOSEN.with(|chosen| match chosen.get() {
        None => rng::entropy(),
        Some(seed) => {
            let next = rng::Rng::new(seed).next_u64();
            chosen.set(Some(next));
            next
        }
    })
}

/// Tokio, and chance.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <DeterministicRng<TokioRuntime> as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        type Seeded = DeterministicRng<TokioRuntime>;
        // The generator is only to be had in a task of its own; that one waits for nothing.
        loop {
            let draw = Seeded::scope(next_seed(), async { Seeded::thread_rng() });
            if let Some(rng) = draw.now_or_never() {
                return rng;
            }
        }
    }

    fn new(threads: usize) -> Self {
        Runtime(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

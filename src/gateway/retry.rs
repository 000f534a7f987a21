//! Pauses between attempts, and the budget for them.
//!
//! A repetition takes a token from a bucket that all calls of the gateway share and that fills at
//! a steady rate: when much fails at once, most of it is told so instead of being tried ever
//! harder.

use crate::env::Rng;
use crate::gateway::options::RetryOptions;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// After so many searches in vain the next pauses are longer by one.
const SEARCHES: u32 = 128;
/// So many are quick.
const SEARCHES_QUICK: u32 = 5;

/// Why there is no further attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoMore {
    /// The deadline would pass before it.
    Deadline,
    /// The budget of the gateway is used up.
    Budget,
}

/// Hands out pauses.
#[derive(Debug)]
pub(super) struct Retries {
    options: RetryOptions,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    tokens: f64,
    filled: Option<Instant>,
}

impl Retries {
    pub(super) fn new(options: RetryOptions, rng: Rng) -> Retries {
        let state = State { rng, tokens: f64::from(options.budget), filled: None };
        Retries { options, state: Mutex::new(state) }
    }

    /// How long to wait before an attempt that follows `failures` failed ones in a row (at least
    /// one), at the price of a token.
    pub(super) fn pause(&self, failures: u32, deadline: Instant) -> Result<Duration, NoMore> {
        let doublings = failures.saturating_sub(1).min(20);
        let whole = self.options.pause_first.saturating_mul(1 << doublings);
        self.draw(whole.min(self.options.pause_max), deadline)
    }

    /// The same for the one who looks for a leader: short, the first ones most of all, as one that was
    /// handed the lead has it at once; and growing only when that takes long.
    pub(super) fn search(&self, failures: u32, deadline: Instant) -> Result<Duration, NoMore> {
        let whole = match failures {
            ..=SEARCHES_QUICK => self.options.search / 4,
            _ => self.options.search.saturating_mul(1 + failures / SEARCHES),
        };
        self.draw(whole.min(self.options.pause_max), deadline)
    }

    /// `whole`, give or take a half, at the price of a token.
    fn draw(&self, whole: Duration, deadline: Instant) -> Result<Duration, NoMore> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = state.filled.replace(now).map_or(Duration::ZERO, |filled| now - filled);
        let filling = passed.as_secs_f64() * f64::from(self.options.budget_per_second);
        state.tokens = (state.tokens + filling).min(f64::from(self.options.budget));
        let whole = whole.max(Duration::from_micros(2));
        let half = whole / 2;
        let jitter = state.rng.below(whole.as_micros() as u64 + 1);
        let pause = half + Duration::from_micros(jitter);
        if now + pause >= deadline {
            return Err(NoMore::Deadline);
        }
        if state.tokens < 1.0 {
            return Err(NoMore::Budget);
        }
        state.tokens -= 1.0;
        Ok(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(budget: u32, budget_per_second: u32) -> Retries {
        let options = RetryOptions { budget, budget_per_second, ..RetryOptions::default() };
        Retries::new(options, Rng::new(1))
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest_and_none_is_like_another() {
        let retries = retries(1_000, 0);
        let deadline = Instant::now() + Duration::from_secs(60);
        for (failures, whole) in [(1, 5), (2, 10), (4, 40), (7, 250), (u32::MAX, 250)] {
            let whole = Duration::from_millis(whole);
            let pauses: Vec<Duration> =
                (0..50).map(|_| retries.pause(failures, deadline).unwrap()).collect();
            assert!(pauses.iter().all(|p| (whole / 2..=whole * 3 / 2).contains(p)), "{failures}");
            let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
            assert!(*most - *least > whole / 2, "{failures}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn searches_stay_short_and_grow_only_after_many() {
        let retries = retries(10_000, 0);
        let deadline = Instant::now() + Duration::from_secs(60);
        for (failures, whole) in [(6, 15), (127, 15), (128, 30), (u32::MAX, 250)] {
            let whole = Duration::from_millis(whole);
            for _ in 0..50 {
                let pause = retries.search(failures, deadline).unwrap();
                assert!((whole / 2..=whole * 3 / 2).contains(&pause), "{failures}: {pause:?}");
            }
        }
        assert!(retries.search(1, deadline).unwrap() < Duration::from_millis(6));
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_shared_and_fills_with_time() {
        let retries = retries(3, 10);
        let deadline = Instant::now() + Duration::from_secs(60);
        for _ in 0..3 {
            assert!(retries.pause(1, deadline).is_ok());
        }
        assert_eq!(retries.pause(1, deadline), Err(NoMore::Budget));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(retries.pause(1, deadline).is_ok());
        assert_eq!(retries.pause(1, deadline), Err(NoMore::Budget));
        tokio::time::advance(Duration::from_secs(10)).await;
        let spent = (0..10).filter(|_| retries.pause(1, deadline).is_ok()).count();
        assert_eq!(spent, 3, "no more than it holds");
    }

    #[tokio::test(start_paused = true)]
    async fn no_pause_crosses_the_deadline_and_none_costs_without_one() {
        let retries = retries(1, 0);
        let deadline = Instant::now() + Duration::from_millis(2);
        assert_eq!(retries.pause(1, deadline), Err(NoMore::Deadline));
        assert!(retries.pause(1, deadline + Duration::from_secs(1)).is_ok());
    }
}

//! What the server counts: totals, calls and errors by name, latencies by command.
//!
//! Connections add once for a run of equal commands, not once for each.

use crate::op::Reply;
use crate::op::command::{COMMANDS, Spec};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most kinds of error that are counted apart, so that errors cannot fill the memory.
const ERROR_KINDS_MAX: usize = 128;
/// How many samples of the command rate are averaged.
const SAMPLES: usize = 16;
/// The longest latency told apart, in nanoseconds: a second, as in Redis.
const LATENCY_NS_MAX: u64 = 1_000_000_000;

/// All counters of one server.
#[derive(Debug)]
pub(super) struct Stats {
    pub(super) totals: Totals,
    /// By the number of the command's id.
    commands: Vec<CommandStats>,
    errors: Mutex<BTreeMap<String, u64>>,
    rates: Mutex<Rates>,
}

/// Totals since the start or the last CONFIG RESETSTAT.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) connections: AtomicU64,
    pub(super) connections_rejected: AtomicU64,
    pub(super) commands: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) errors: AtomicU64,
    /// Connections cut since they did not take their replies.
    pub(super) output_limit_cuts: AtomicU64,
    /// Connections cut since they sent too much without an end.
    pub(super) query_limit_cuts: AtomicU64,
}

/// What is counted of one command.
#[derive(Debug)]
pub(super) struct CommandStats {
    pub(super) spec: &'static Spec,
    pub(super) calls: AtomicU64,
    pub(super) ns: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) failed: AtomicU64,
    latency: Mutex<Option<Histogram<u64>>>,
}

/// The last samples of what went on in a second.
#[derive(Debug, Default)]
struct Rates {
    at_ns: u64,
    last: [u64; 3],
    per_second: [[u64; SAMPLES]; 3],
    next: usize,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stats {
    pub(super) fn new() -> Stats {
        let all = COMMANDS
            .iter()
            .copied()
            .flat_map(|spec| std::iter::once(spec).chain(spec.subcommands.iter()));
        let stats = |spec: &'static Spec| CommandStats {
            spec,
            calls: AtomicU64::new(0),
            ns: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            latency: Mutex::new(None),
        };
        let mut commands: Vec<CommandStats> = all.map(stats).collect();
        commands.sort_by_key(|stats| stats.spec.id as usize);
        Stats {
            totals: Totals::default(),
            commands,
            errors: Mutex::default(),
            rates: Mutex::default(),
        }
    }

    fn of(&self, spec: &'static Spec) -> Option<&CommandStats> {
        self.commands.get(spec.id as usize)
    }

    /// Counts `calls` calls of a command that took `ns` each, `failed` of them with an error.
    pub(super) fn called(
        &self,
        spec: &'static Spec,
        calls: u64,
        failed: u64,
        ns: u64,
        latency: bool,
    ) {
        self.totals.commands.fetch_add(calls, Relaxed);
        let Some(stats) = self.of(spec) else { return };
        stats.calls.fetch_add(calls, Relaxed);
        stats.ns.fetch_add(ns.saturating_mul(calls), Relaxed);
        if failed > 0 {
            stats.failed.fetch_add(failed, Relaxed);
        }
        if latency {
            let mut histogram = locked(&stats.latency);
            if histogram.is_none() {
                *histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 2).ok();
            }
            if let Some(histogram) = histogram.as_mut() {
                histogram.saturating_record_n(ns.max(1), calls);
            }
        }
    }

    /// Counts a call refused before it was executed.
    pub(super) fn rejected(&self, spec: &'static Spec) {
        if let Some(stats) = self.of(spec) {
            stats.rejected.fetch_add(1, Relaxed);
        }
    }

    /// Counts an error reply under its first word.
    pub(super) fn error(&self, reply: &Reply) {
        let Reply::Error(text) = reply else { return };
        self.totals.errors.fetch_add(1, Relaxed);
        let word = text.split(' ').next().unwrap_or_default();
        let mut errors = locked(&self.errors);
        if let Some(count) = errors.get_mut(word) {
            *count += 1;
        } else if errors.len() < ERROR_KINDS_MAX {
            errors.insert(word.to_string(), 1);
        }
    }

    /// Errors by first word.
    pub(super) fn errors(&self) -> BTreeMap<String, u64> {
        locked(&self.errors).clone()
    }

    /// Commands that were called or refused, by name.
    pub(super) fn commands(&self) -> Vec<&CommandStats> {
        let seen = |stats: &&CommandStats| {
            stats.calls.load(Relaxed) > 0 || stats.rejected.load(Relaxed) > 0
        };
        let mut all: Vec<_> = self.commands.iter().filter(seen).collect();
        all.sort_by_key(|stats| stats.spec.name);
        all
    }

    /// Takes a sample of the rates; called several times a second.
    pub(super) fn sample(&self, now_ns: u64) {
        let totals = &self.totals;
        let now = [&totals.commands, &totals.bytes_in, &totals.bytes_out]
            .map(|counter| counter.load(Relaxed));
        let mut rates = locked(&self.rates);
        let rates = &mut *rates;
        let elapsed = now_ns.saturating_sub(rates.at_ns);
        if rates.at_ns > 0 && elapsed > 0 {
            for (i, count) in now.iter().enumerate() {
                let more = u128::from(count.saturating_sub(rates.last[i]));
                let rate = more * 1_000_000_000 / u128::from(elapsed);
                rates.per_second[i][rates.next] = u64::try_from(rate).unwrap_or(u64::MAX);
            }
            rates.next = (rates.next + 1) % SAMPLES;
        }
        rates.at_ns = now_ns;
        rates.last = now;
    }

    /// Commands, bytes in and bytes out a second, of late.
    pub(super) fn per_second(&self) -> [u64; 3] {
        locked(&self.rates).per_second.map(|samples| samples.iter().sum::<u64>() / SAMPLES as u64)
    }

    /// CONFIG RESETSTAT.
    pub(super) fn reset(&self) {
        let totals = &self.totals;
        for counter in [
            &totals.connections,
            &totals.connections_rejected,
            &totals.commands,
            &totals.bytes_in,
            &totals.bytes_out,
            &totals.reads,
            &totals.writes,
            &totals.errors,
            &totals.output_limit_cuts,
            &totals.query_limit_cuts,
        ] {
            counter.store(0, Relaxed);
        }
        for stats in &self.commands {
            for counter in [&stats.calls, &stats.ns, &stats.rejected, &stats.failed] {
                counter.store(0, Relaxed);
            }
            *locked(&stats.latency) = None;
        }
        locked(&self.errors).clear();
        *locked(&self.rates) = Rates::default();
    }
}

impl CommandStats {
    /// Latencies in microseconds at these percentages, if any were recorded.
    pub(super) fn percentiles_us(&self, percentages: &[f64]) -> Option<Vec<f64>> {
        let histogram = locked(&self.latency);
        let histogram = histogram.as_ref()?;
        let at = |p: &f64| histogram.value_at_percentile(*p) as f64 / 1000.0;
        Some(percentages.iter().map(at).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_counted_under_its_own_name() {
        let stats = Stats::new();
        for counted in &stats.commands {
            assert_eq!(stats.of(counted.spec).unwrap().spec.name, counted.spec.name);
        }
    }
}

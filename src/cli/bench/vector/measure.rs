//! Searching: how much of the right answer is found, and how fast.

use super::progress;
use crate::base::{Error, ErrorKind};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Interrupt;
use crate::cli::vector::target::{Target, unfitting};
use crate::env::{Clock, RealClock};
use crate::op::vector::{Floats, VectorAnswer, VectorCall, VectorHit, VectorSearch, VectorsFound};
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The longest latency told apart, in nanoseconds: ten minutes.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// What searching with one `ef` gave.
#[derive(Debug)]
pub(super) struct Point {
    /// The candidates kept; none for exact search.
    pub(super) ef: Option<u32>,
    /// The share of the right answers that was found.
    pub(super) recall: f64,
    /// Searches, and from the first sent to the last answered in ns.
    pub(super) searches: u64,
    /// That time.
    pub(super) elapsed_ns: u64,
    /// Latency of a search in ns, as its caller saw it.
    pub(super) latency: Histogram<u64>,
    /// Exact distances, estimates, and nodes looked at, of all searches.
    pub(super) distances: u64,
    /// Estimates.
    pub(super) estimates: u64,
    /// Nodes.
    pub(super) hops: u64,
}

/// The right answers of all queries.
#[derive(Debug)]
pub(super) struct Truth(Vec<Vec<VectorHit>>);

impl Truth {
    /// Of how many neighbours of query `at` are there, and how many of them were found. One that
    /// is as near as the farthest of them is as good.
    fn hits(&self, at: usize, found: &[VectorHit]) -> (u64, u64) {
        let right = &self.0[at];
        let Some(last) = right.last() else { return (0, 0) };
        let is_right = |hit: &&VectorHit| {
            hit.distance <= last.distance || right.iter().any(|one| one.id == hit.id)
        };
        let found = found.iter().filter(is_right).count().min(right.len());
        (right.len() as u64, found as u64)
    }
}

/// What is searched for, in what, and until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    /// The index.
    pub(super) index: &'a str,
    /// Near what.
    pub(super) queries: &'a [Floats],
    /// Hits wanted.
    pub(super) k: u32,
    /// Every query is asked once, and then again until so much time is over.
    pub(super) seconds: f64,
    /// Ends it early, as a failure.
    pub(super) interrupt: &'a Interrupt,
}

impl Ask<'_> {
    fn search(&self, at: usize, ef: Option<u32>) -> VectorSearch {
        let query = &self.queries[at % self.queries.len()];
        VectorSearch {
            query: crate::op::vector::VectorQuery::Vector(query.clone()),
            ef: ef.unwrap_or(0),
            exact: ef.is_none(),
            ..VectorSearch::new(self.index, &[], self.k)
        }
    }

    /// Asks every query once, comparing with every vector.
    pub(super) fn truth(&self, target: &Target) -> Outcome<(Truth, Point)> {
        let bar = progress("exact", self.queries.len() as u64);
        let (clock, mut part) = (RealClock::new(), Part::new()?);
        let began = clock.monotonic_ns();
        let mut right = Vec::with_capacity(self.queries.len());
        for at in 0..self.queries.len() {
            self.interrupt.or(Ok(()))?;
            let sent = clock.monotonic_ns();
            let found = find(target, self.search(at, None))?;
            part.take(clock.monotonic_ns() - sent, &found);
            right.push(found.hits);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let elapsed_ns = clock.monotonic_ns() - began;
        Ok((Truth(right), part.point(None, elapsed_ns, 1.0)))
    }

    /// Searches with `ef`, a thread for each target.
    pub(super) fn measure(&self, targets: &[Target], truth: &Truth, ef: u32) -> Outcome<Point> {
        let clock = RealClock::new();
        let until = clock.monotonic_ns() + (self.seconds * 1e9) as u64;
        let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let one = |target: &Target| {
            let mut part = Part::new()?;
            while !over.load(Ordering::Relaxed) {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let sent = clock.monotonic_ns();
                if at >= self.queries.len() && sent >= until {
                    break;
                }
                self.interrupt.or(Ok(()))?;
                let found = find(target, self.search(at, Some(ef)))?;
                part.take(clock.monotonic_ns() - sent, &found);
                if at < self.queries.len() {
                    let (wanted, right) = truth.hits(at, &found.hits);
                    part.wanted += wanted;
                    part.right += right;
                }
            }
            Ok(part)
        };
        let began = clock.monotonic_ns();
        let parts: Vec<Outcome<Part>> = std::thread::scope(|scope| {
            let run = |target| {
                let part = one(target);
                over.fetch_or(part.is_err(), Ordering::Relaxed);
                part
            };
            let threads: Vec<_> = targets.iter().map(|t| scope.spawn(move || run(t))).collect();
            let panicked = || Err(Failure::failed("a client thread panicked"));
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| panicked())).collect()
        });
        let elapsed_ns = (clock.monotonic_ns() - began).max(1);
        let mut whole = Part::new()?;
        for part in parts {
            whole.add(part?)?;
        }
        let recall = whole.right as f64 / whole.wanted.max(1) as f64;
        Ok(whole.point(Some(ef), elapsed_ns, recall))
    }
}

fn find(target: &Target, search: VectorSearch) -> Outcome<VectorsFound> {
    match target.call(VectorCall::Search(search))? {
        VectorAnswer::Found(found) => Ok(found),
        _ => Err(unfitting()),
    }
}

/// What one thread measured.
struct Part {
    latency: Histogram<u64>,
    wanted: u64,
    right: u64,
    distances: u64,
    estimates: u64,
    hops: u64,
}

impl Part {
    fn new() -> Outcome<Part> {
        let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).map_err(bug)?;
        Ok(Part { latency, wanted: 0, right: 0, distances: 0, estimates: 0, hops: 0 })
    }

    fn take(&mut self, ns: u64, found: &VectorsFound) {
        self.latency.saturating_record(ns.clamp(1, LATENCY_NS_MAX));
        self.distances += found.cost.distances;
        self.estimates += found.cost.estimates;
        self.hops += found.cost.hops;
    }

    fn add(&mut self, other: Part) -> Outcome {
        self.latency.add(&other.latency).map_err(bug)?;
        for (sum, one) in [
            (&mut self.wanted, other.wanted),
            (&mut self.right, other.right),
            (&mut self.distances, other.distances),
            (&mut self.estimates, other.estimates),
            (&mut self.hops, other.hops),
        ] {
            *sum += one;
        }
        Ok(())
    }

    fn point(self, ef: Option<u32>, elapsed_ns: u64, recall: f64) -> Point {
        let Part { latency, distances, estimates, hops, .. } = self;
        let searches = latency.len();
        Point { ef, recall, searches, elapsed_ns, latency, distances, estimates, hops }
    }
}

fn bug(what: impl std::fmt::Display) -> Failure {
    Error::new(ErrorKind::Internal, what.to_string()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_near_as_the_last_neighbour_counts_and_no_more_than_there_are() {
        let hit = VectorHit::new;
        let truth = Truth(vec![vec![hit(1, 0.0), hit(2, 1.0)], vec![]]);
        let of = |found: &[VectorHit]| truth.hits(0, found);
        assert_eq!(of(&[hit(1, 0.0), hit(2, 1.0)]), (2, 2));
        assert_eq!(of(&[hit(1, 0.0), hit(7, 1.0)]), (2, 2), "another as near");
        assert_eq!(of(&[hit(1, 0.0), hit(2, 1.5)]), (2, 2), "measured a little otherwise");
        assert_eq!(of(&[hit(1, 0.0), hit(7, 1.5)]), (2, 1));
        assert_eq!(of(&[hit(1, 0.0), hit(2, 1.0), hit(7, 1.0)]), (2, 2));
        assert_eq!(of(&[]), (2, 0));
        assert_eq!(truth.hits(1, &[hit(1, 0.0)]), (0, 0));
    }
}

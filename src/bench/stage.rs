//! One workload run to its end: threads, the clock, histograms, progress.

use crate::base::{Error, ErrorKind, Result};
use crate::bench::pace::Pace;
use crate::bench::session::Tally;
use crate::bench::{Data, Figures, Op, Session, Target, Workload, figures};
use crate::env::{Clock, RealClock, Rng};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

/// The longest latency told apart, in nanoseconds: ten minutes.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// How a stage is run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The load.
    pub workload: Workload,
    /// Sessions, each with a thread; at least 1.
    pub sessions: u64,
    /// Operations sent before their answers are awaited; at least 1.
    pub pipeline: u64,
    /// Operations to do; `None` for no limit.
    pub ops: Option<u64>,
    /// Seconds to go on for; `None` for no limit.
    pub seconds: Option<f64>,
    /// Operations a second over all sessions; `None` for as many as can be.
    pub rate: Option<f64>,
    /// What the random choices follow from.
    pub seed: u64,
    /// Whether a progress bar is drawn on standard error.
    pub progress: bool,
    /// Ends the stage early when it turns true; its figures are then of what was done.
    pub interrupted: Arc<AtomicBool>,
}

/// How long a session sleeps at most before it looks whether it is to go on.
const NAP_NS: u64 = 100_000_000;

struct Shared<'a> {
    plan: &'a Plan,
    data: &'a Data,
    clock: &'a RealClock,
    start: Barrier,
    stop: AtomicBool,
    done: AtomicU64,
}

impl Shared<'_> {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.plan.interrupted.load(Ordering::Relaxed)
    }
}

struct Measured {
    latency: Histogram<u64>,
    tally: Tally,
    begin_ns: u64,
    end_ns: u64,
}

/// Runs one stage.
///
/// # Errors
/// The first failure of any session; the others stop after the batch they are at.
pub fn run(plan: &Plan, data: &Data, target: &dyn Target, clock: &RealClock) -> Result<Figures> {
    let sessions: Vec<_> = (0..plan.sessions).map(|_| target.open()).collect::<Result<_>>()?;
    let shared = Shared {
        plan,
        data,
        clock,
        start: Barrier::new(sessions.len()),
        stop: AtomicBool::new(false),
        done: AtomicU64::new(0),
    };
    let bar = progress_bar(plan);
    let cpu_before = figures::cpu_seconds();
    let results: Vec<Result<Measured>> = std::thread::scope(|scope| {
        let shared = &shared;
        let bar = &bar;
        let threads: Vec<_> = sessions
            .into_iter()
            .zip(0..)
            .map(|(session, number)| scope.spawn(move || one_session(shared, session, number, bar)))
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|_| Err(bug("a client thread panicked"))))
            .collect()
    });
    let cpu_seconds = figures::cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
    bar.finish_and_clear();

    let mut latency = histogram()?;
    let mut tally = Tally::default();
    let (mut begin_ns, mut end_ns) = (u64::MAX, 0);
    for result in results {
        let measured = result?;
        latency.add(&measured.latency).map_err(bug)?;
        tally += measured.tally;
        begin_ns = begin_ns.min(measured.begin_ns);
        end_ns = end_ns.max(measured.end_ns);
    }
    Ok(Figures {
        workload: plan.workload,
        elapsed_ns: end_ns.saturating_sub(begin_ns).max(1),
        latency,
        tally,
        cpu_seconds,
    })
}

fn one_session(
    shared: &Shared<'_>,
    session: Box<dyn Session>,
    number: u64,
    bar: &ProgressBar,
) -> Result<Measured> {
    let measured = measure(shared, session, number, bar);
    if measured.is_err() {
        shared.stop.store(true, Ordering::Relaxed);
    }
    measured
}

fn measure(
    shared: &Shared<'_>,
    mut session: Box<dyn Session>,
    number: u64,
    bar: &ProgressBar,
) -> Result<Measured> {
    let Shared { plan, data, clock, .. } = shared;
    let mut rng = Rng::new(plan.seed.wrapping_add(number.wrapping_mul(0x9E37_79B9)));
    let pace = Pace {
        interval_ns: plan.rate.map(|rate| 1e9 * plan.pipeline as f64 / rate),
        sessions: plan.sessions,
        session: number,
    };
    let histogram = histogram();
    let mut batch: Vec<Op> = Vec::with_capacity(plan.pipeline.min(10_000) as usize);
    // Every session reaches the barrier, whatever failed before, or the others would wait forever.
    shared.start.wait();
    let begin_ns = clock.monotonic_ns();
    let mut measured =
        Measured { latency: histogram?, tally: Tally::default(), begin_ns, end_ns: begin_ns };
    let deadline = plan.seconds.map(|s| begin_ns.saturating_add((s * 1e9) as u64));

    for index in 0.. {
        let due = pace.due_ns(index).map(|due| begin_ns.saturating_add(due));
        let begun = match due {
            Some(due) if deadline.is_some_and(|end| due >= end) => break,
            Some(due) => {
                while !shared.is_over() && clock.monotonic_ns() + NAP_NS < due {
                    clock.wait_until(clock.monotonic_ns() + NAP_NS);
                }
                if !shared.is_over() {
                    clock.wait_until(due);
                }
                due
            }
            None => clock.monotonic_ns(),
        };
        if shared.is_over() || deadline.is_some_and(|end| begun >= end) {
            break;
        }
        let first = shared.done.fetch_add(plan.pipeline, Ordering::Relaxed);
        let last = plan.ops.map_or(first + plan.pipeline, |ops| ops.min(first + plan.pipeline));
        if first >= last {
            break;
        }
        batch.clear();
        batch.extend((first..last).map(|i| data.op(plan.workload, i, &mut rng)));
        measured.tally += session.run(&batch, data, &mut rng)?;
        measured.end_ns = clock.monotonic_ns();
        let latency_ns = measured.end_ns.saturating_sub(begun).clamp(1, LATENCY_NS_MAX);
        measured.latency.saturating_record_n(latency_ns, batch.len() as u64);
        bar.inc(batch.len() as u64);
    }
    Ok(measured)
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).map_err(bug)
}

fn bug(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, what.to_string())
}

fn progress_bar(plan: &Plan) -> ProgressBar {
    if !plan.progress {
        return ProgressBar::hidden();
    }
    let (bar, template) = match plan.ops {
        Some(ops) => {
            (ProgressBar::new(ops), "{msg:6} {bar:30} {human_pos}/{human_len} {per_sec} ETA {eta}")
        }
        None => (ProgressBar::no_length(), "{msg:6} {spinner} {human_pos} {per_sec} {elapsed}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(plan.workload.name());
    bar
}

//! Loading: how fast vectors are stored, and how fast they are linked into what finds them.

use super::progress;
use crate::base::{Error, ErrorKind, Result};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Interrupt;
use crate::cli::vector::target::Target;
use crate::env::{Clock, RealClock};
use crate::op::vector::{IndexInfo, IndexKind, IndexSpec, Metric, Quantisation, StoredVector};
use crate::vector::{DistanceMetric as Distance, HnswConfig, HnswIndex};
use indicatif::ProgressBar;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Vectors of one write in this process, and of one stream to a server.
const TOGETHER_HERE: usize = 512;
const TOGETHER_SENT: usize = 4_096;
/// So few vectors may wait to be linked for ever: they are compared one by one.
const WAITING_MAX: u64 = 256;
/// So few stay in the graph that grows although their final form is another one.
const UNFORMED_MAX: u64 = 1_024;
/// Time between two looks at an index, and looks without a change after which it is at rest.
const LOOK_NS: u64 = 20_000_000;
const LOOKS_AT_REST: u32 = 75;

/// How long it took to store vectors, to link them, and to give them their form.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Until the last was acknowledged, in ns.
    pub(super) stored_ns: u64,
    /// Until all were linked but some that may wait for ever.
    pub(super) linked_ns: u64,
    /// The index then.
    pub(super) info: IndexInfo,
}

/// Stores all vectors, a thread for each target, and waits until they are linked.
pub(super) fn load(
    targets: &[Target],
    index: &str,
    vectors: &[StoredVector],
    interrupt: &Interrupt,
) -> Outcome<Loaded> {
    let (clock, bar) = (RealClock::new(), progress("store", vectors.len() as u64));
    let began = clock.monotonic_ns();
    let next = AtomicUsize::new(0);
    let store = |target: &Target| {
        let together = match target {
            Target::Local(_) => TOGETHER_HERE,
            Target::Server(..) => TOGETHER_SENT,
        };
        loop {
            let from = next.fetch_add(together, Ordering::Relaxed);
            if from >= vectors.len() || interrupt.flag().load(Ordering::Relaxed) {
                return Ok(());
            }
            let some = &vectors[from..vectors.len().min(from + together)];
            let put = target.put(index, some.to_vec())?;
            if let Some(refused) = put.refused.first() {
                return Err(Failure::usage(format!("a vector was refused: {}", refused.message)));
            }
            bar.inc(some.len() as u64);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = targets.iter().map(|t| scope.spawn(|| store(t))).collect();
        let panicked = || Err(Failure::failed("a client thread panicked"));
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| panicked()))
    })?;
    let stored_ns = clock.monotonic_ns() - began;
    bar.finish_and_clear();
    let Some(target) = targets.first() else { return Err(Failure::failed("nobody loads")) };
    interrupt.or(Ok(()))?;
    let (linked_ns, info) = rest(target, index, began, &clock, interrupt)?;
    Ok(Loaded { stored_ns, linked_ns, info })
}

/// Waits until an index is linked and has its form; tells when it was linked, and what it is then.
fn rest(
    target: &Target,
    index: &str,
    began: u64,
    clock: &RealClock,
    interrupt: &Interrupt,
) -> Outcome<(u64, IndexInfo)> {
    let bar = progress("link", target.describe(index)?.vectors);
    let (mut linked_ns, mut at_rest, mut unchanged) = (None, 0, 0);
    let mut last = None;
    loop {
        interrupt.or(Ok(()))?;
        let info = target.describe(index)?;
        bar.set_position(info.vectors.saturating_sub(info.waiting));
        if info.waiting <= WAITING_MAX && linked_ns.is_none() {
            linked_ns = Some(clock.monotonic_ns() - began);
            bar.set_message("form");
        }
        let is_same = last.as_ref() == Some(&info);
        at_rest = if is_same && has_its_form(&info) { at_rest + 1 } else { 0 };
        unchanged = if is_same { unchanged + 1 } else { 0 };
        // Over several shards more may wait for ever, and stay unformed.
        let is_over = linked_ns.is_some() && at_rest >= LOOKS_AT_REST;
        if is_over || unchanged >= LOOKS_AT_REST * 4 {
            let waited = u64::from(unchanged) * LOOK_NS;
            let linked_ns = linked_ns.unwrap_or(clock.monotonic_ns() - began - waited);
            target.settle();
            bar.finish_and_clear();
            return Ok((linked_ns, target.describe(index)?));
        }
        last = Some(info);
        clock.wait_until(clock.monotonic_ns() + LOOK_NS);
    }
}

/// Whether what is to be sealed is, as far as can be seen from outside.
fn has_its_form(info: &IndexInfo) -> bool {
    let is_plain = info.spec.quantisation == Quantisation::None
        && matches!(info.spec.kind, IndexKind::Hnsw | IndexKind::Auto);
    let is_put = info.spec.kind != IndexKind::Spfresh || info.segments == 0;
    is_put && (is_plain || info.fresh < UNFORMED_MAX) && (info.sealed == 0 || info.disk_bytes > 0)
}

/// Builds the same graph in memory, without a store, and tells how long that took in ns.
pub(super) fn build_in_memory(
    spec: &IndexSpec,
    vectors: &[StoredVector],
    threads: usize,
    interrupt: &Interrupt,
) -> Outcome<u64> {
    let bar = progress("memory", vectors.len() as u64);
    let built = interrupt.or(build(spec, vectors, threads, &bar, interrupt).map_err(Failure::from));
    bar.finish_and_clear();
    built
}

fn build(
    spec: &IndexSpec,
    vectors: &[StoredVector],
    threads: usize,
    bar: &ProgressBar,
    interrupt: &Interrupt,
) -> Result<u64> {
    let metric = match spec.metric {
        Metric::L2 => Distance::L2,
        Metric::Cosine => Distance::Cosine,
        Metric::InnerProduct => Distance::InnerProduct,
    };
    let mut config = HnswConfig::new(spec.dim as usize, metric);
    config.m = spec.m as usize;
    config.ef_construction = spec.ef_construction as usize;
    let mut graph = HnswIndex::new(config);
    let (clock, mut spent) = (RealClock::new(), 0);
    for some in vectors.chunks(TOGETHER_SENT) {
        if interrupt.flag().load(Ordering::Relaxed) {
            break;
        }
        let ids: Vec<u64> = some.iter().map(|one| one.id).collect();
        let floats: Vec<f32> = some.iter().flat_map(|one| one.vector.to_vec()).collect();
        let began = clock.monotonic_ns();
        graph.insert_many(&ids, &floats, threads)?;
        spent += clock.monotonic_ns() - began;
        bar.inc(some.len() as u64);
    }
    match graph.len() {
        0 => Err(Error::new(ErrorKind::Internal, "nothing was built")),
        _ => Ok(spent),
    }
}

//! Many seeds, each in a process of its own: what a program keeps for its whole life (hash keys,
//! counters) is then the same at the start of each.

use crate::run::{Report, run};
use crate::time::SECOND;
use crate::trace::Trace;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The seed of the one simulation that a child is to run.
const ONE: &str = "ARQON_SIM_SEED";
/// How many seeds are run, and from which on.
const MANY: &str = "ARQON_SIM_SEEDS";
const FROM: &str = "ARQON_SIM_FROM";
/// Simulated seconds of trouble in each.
const LENGTH: &str = "ARQON_SIM_SECONDS";
/// Whether there is less to do each second.
const CALM: &str = "ARQON_SIM_CALM";
/// Simulated hours of the long run.
const HOURS: &str = "ARQON_SIM_HOURS";
/// A file for what happened, in words.
const WORDS: &str = "ARQON_SIM_TRACE";
/// How many children run at a time.
const AT_ONCE: &str = "ARQON_SIM_JOBS";
/// How many seeds are run twice.
const TWICE: &str = "ARQON_SIM_TWICE";

fn setting(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok().map(|text| text.parse());
    given.map_or(default, |n| n.unwrap_or_else(|_| panic!("{name} is no number")))
}

fn length() -> u64 {
    setting(LENGTH, 40)
}

/// What is the same for all seeds of a test.
#[derive(Debug, Clone, Copy)]
struct Manner {
    /// Simulated seconds of trouble.
    length: u64,
    calm: bool,
}

/// One simulation; what it came to is printed for whoever started it.
#[test]
fn one_seed() {
    if std::env::var_os(ONE).is_none() {
        // Beside other tests: in a process of its own, which a panic may end.
        assert!(run_all(&[1])[&1].is_ok());
        return;
    }
    let seed = setting(ONE, 1);
    let words = std::env::var_os(WORDS);
    let trace = Trace::new(words.is_some());
    let tell = {
        let trace = trace.clone();
        move || {
            if let (Some(file), Some(words)) = (&words, trace.words()) {
                std::fs::write(file, words).unwrap();
            }
        }
    };
    let last = tell.clone();
    // A task that panics does not end the program by itself.
    std::panic::set_hook(Box::new(move |info| {
        eprintln!("seed {seed}: {info}");
        last();
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            eprintln!("{}", std::backtrace::Backtrace::force_capture());
        }
        std::process::exit(3);
    }));
    let calm = setting(CALM, 0) != 0;
    let report = {
        let trace = trace.clone();
        // A search for an order of a register's requests is as deep as there are of them.
        let thread = std::thread::Builder::new().stack_size(256 << 20);
        let ran = thread.spawn(move || run(seed, length() * SECOND, calm, &trace)).unwrap();
        ran.join().unwrap()
    };
    tell();
    println!("{}", print(&report));
}

fn print(report: &Report) -> String {
    format!(
        "REPORT {:016x} {} {} {} {} {} {} {} {} {} {} {} {} {}",
        report.hash,
        report.events,
        report.simulated_ms,
        report.requests,
        report.unknown,
        report.failed,
        report.faults,
        report.starts,
        report.steps,
        report.splits,
        report.installs,
        report.looks,
        report.heard,
        report.sealed
    )
}

fn read(line: &str) -> Option<Report> {
    let mut words = line.split("REPORT ").nth(1)?.split_whitespace();
    let hash = u64::from_str_radix(words.next()?, 16).ok()?;
    let numbers: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
    let [
        events,
        simulated_ms,
        requests,
        unknown,
        failed,
        faults,
        starts,
        steps,
        splits,
        installs,
        looks,
        heard,
        sealed,
    ] = numbers.try_into().ok()?;
    Some(Report {
        hash,
        events,
        simulated_ms,
        requests,
        unknown,
        failed,
        faults,
        starts,
        steps,
        splits,
        installs,
        looks,
        heard,
        sealed,
    })
}

/// Runs a seed in a child; what it came to, or what it said.
fn run_child(seed: u64, manner: Manner) -> Result<Report, String> {
    let (length, calm) = (manner.length.to_string(), u64::from(manner.calm).to_string());
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "seeds::one_seed", "--nocapture", "--test-threads=1"]);
    child.env(ONE, seed.to_string()).env(LENGTH, &length).env(CALM, &calm);
    let out = child.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let report = said.lines().find_map(read).filter(|_| out.status.success());
    report.ok_or_else(|| {
        let told = String::from_utf8_lossy(&out.stderr);
        format!(
            "{told}\nrun it again: {ONE}={seed} {LENGTH}={length} {CALM}={calm} \
             cargo test --test sim one_seed"
        )
    })
}

type Outcome = Result<Report, String>;

/// Runs seeds, some at a time; says now and then how far it is.
fn run_all(seeds: &[u64]) -> BTreeMap<u64, Outcome> {
    let (ran, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let tell = |_: u64, outcome: &Outcome| {
        failed.fetch_add(u64::from(outcome.is_err()), Ordering::Relaxed);
        let ran = ran.fetch_add(1, Ordering::Relaxed) + 1;
        if ran.is_multiple_of(50) {
            println!("{ran} of {} seeds, {} bad", seeds.len(), failed.load(Ordering::Relaxed));
        }
        true
    };
    run_each(seeds, Manner { length: length(), calm: false }, tell)
}

/// Runs seeds, some at a time, until `tell`, which is told what came of each, wants no more.
fn run_each(
    seeds: &[u64],
    manner: Manner,
    tell: impl Fn(u64, &Outcome) -> bool + Sync,
) -> BTreeMap<u64, Outcome> {
    let (next, done) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    let at_once = setting(AT_ONCE, 2);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let outcome = run_child(*seed, manner);
                    if let Err(told) = &outcome {
                        eprintln!("seed {seed} failed\n{told}");
                    }
                    let goes_on = tell(*seed, &outcome);
                    done.lock().unwrap().insert(*seed, outcome);
                    if !goes_on {
                        break;
                    }
                }
            });
        }
    });
    done.into_inner().unwrap()
}

/// What simulations came to, in words. Gives the seeds that failed.
fn sum_up(outcomes: &BTreeMap<u64, Outcome>, begun: Instant) -> Vec<u64> {
    let reports: Vec<&Report> = outcomes.values().filter_map(|o| o.as_ref().ok()).collect();
    let sum = |of: fn(&Report) -> u64| reports.iter().map(|report| of(report)).sum::<u64>();
    println!(
        "{} seeds: {:.1} simulated hours in {:.0} s, {} requests ({} unknown, {} refused), \
         {} faults, {} starts of processes, {} steps of moves, {} splits, {} snapshots taken over, \
         {} changes of the catalog told, {} vectors sealed in the end, {} messages and events",
        reports.len(),
        sum(|r| r.simulated_ms) as f64 / 3_600_000.0,
        begun.elapsed().as_secs_f64(),
        sum(|r| r.requests),
        sum(|r| r.unknown),
        sum(|r| r.failed),
        sum(|r| r.faults),
        sum(|r| r.starts),
        sum(|r| r.steps),
        sum(|r| r.splits),
        sum(|r| r.installs),
        sum(|r| r.heard),
        sum(|r| r.sealed),
        sum(|r| r.events)
    );
    let hashes = reports.iter().fold(0u64, |all, r| all.rotate_left(1) ^ r.hash);
    println!("trace of all: {hashes:016x}");
    let sealed = sum(|r| r.sealed);
    assert!(reports.len() < 12 || sealed > 0, "no vector was sealed in the end of any");
    outcomes.iter().filter(|(_, o)| o.is_err()).map(|(seed, _)| *seed).collect()
}

#[test]
fn whatever_befalls_a_cluster_its_answers_are_right() {
    let from = setting(FROM, 1);
    let seeds: Vec<u64> = (from..from + setting(MANY, 24)).collect();
    let begun = Instant::now();
    let bad = sum_up(&run_all(&seeds), begun);
    assert!(bad.is_empty(), "seeds {bad:?} failed");
}

/// Goes on for as many simulated hours as `ARQON_SIM_HOURS` says; for one run of some minutes unless
/// told.
#[test]
fn for_hours() {
    let from = setting(FROM, 1) + 2_000_000;
    let seeds: Vec<u64> = (from..from + 1_000_000).collect();
    let (begun, wanted_ms) = (Instant::now(), (setting(HOURS, 0) * 3_600_000).max(1));
    let so_far = Mutex::new((0, 0));
    let tell = |_: u64, outcome: &Outcome| {
        let mut so_far = so_far.lock().unwrap();
        match outcome {
            Ok(report) => so_far.0 += report.simulated_ms,
            Err(_) => so_far.1 += 1,
        }
        let hours = so_far.0 as f64 / 3_600_000.0;
        println!("{hours:.2} hours in {:.0} s, {} bad", begun.elapsed().as_secs_f64(), so_far.1);
        so_far.0 < wanted_ms
    };
    let manner = Manner {
        length: setting(LENGTH, if setting(HOURS, 0) == 0 { 300 } else { 1_200 }),
        calm: true,
    };
    let bad = sum_up(&run_each(&seeds, manner, tell), begun);
    assert!(bad.is_empty(), "seeds {bad:?} failed");
}

#[test]
fn the_same_seed_does_the_same() {
    let from = setting(FROM, 1) + 1_000_000;
    let seeds: Vec<u64> = (from..from + setting(TWICE, 3)).collect();
    let (first, second) = (run_all(&seeds), run_all(&seeds));
    for (seed, report) in &first {
        let report = report.as_ref().unwrap();
        assert_eq!(Ok(report), second[seed].as_ref(), "seed {seed}");
    }
    let hashes: Vec<u64> = first.values().map(|report| report.as_ref().unwrap().hash).collect();
    assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]));
    println!("{} seeds, each twice: the same traces", hashes.len());
}

//! Kills the writing process in the middle of its work and counts what it was promised.

use super::packages::Package;
use super::steps::Step;
use super::store::Store;
use super::writer;
use crate::base::{Error, ErrorKind, Result};
use crate::env::{Clock, Rng, rng};
use crate::log::SyncLevel;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Acknowledgements after which the writer is killed: at least this many, and up to as many more.
const ACKNOWLEDGED_MIN: u64 = 3_000;

/// What the crash showed.
#[derive(Debug)]
pub struct Crash {
    /// Writes the killed process had acknowledged.
    pub acknowledged: u64,
    /// Those of them that are missing or wrong.
    pub lost: u64,
    /// Batches of which one key is there and the other is not.
    pub torn: u64,
    /// Time to open the folder afterwards.
    pub reopen_ns: u64,
    /// What to show.
    pub steps: Vec<Step>,
}

/// Lets a process of this program write into `folder`, kills it, opens the folder, and counts.
///
/// # Errors
/// Those of starting the process and of opening and reading the store. Missing writes are no
/// error here but figures.
pub fn kill_and_count(
    folder: &Path,
    sync: SyncLevel,
    packages: &[Package<'_>],
    clock: &dyn Clock,
) -> Result<Crash> {
    let begun = clock.monotonic_ns();
    let acknowledged = run_and_kill(folder, sync)?;
    let wrote_ns = clock.monotonic_ns() - begun;

    let begun = clock.monotonic_ns();
    let store = Store::open(folder, sync)?;
    let reopen_ns = clock.monotonic_ns() - begun;

    let begun = clock.monotonic_ns();
    let found = count(&store, packages, &acknowledged)?;
    let counted_ns = clock.monotonic_ns() - begun;
    drop(store);

    let promised = acknowledged.len() as u64;
    let steps = vec![
        Step {
            name: "kill -9",
            count: promised,
            ns: wrote_ns,
            result: "writer killed".to_string(),
            story: format!(
                "a second process wrote with 4 threads; after {promised} acknowledgements it was \
                 killed in the middle of its work"
            ),
        },
        Step {
            name: "reopen",
            count: 1,
            ns: reopen_ns,
            result: "log replayed".to_string(),
            story: format!("the folder opened in {:.0} ms", reopen_ns as f64 / 1e6),
        },
        Step {
            name: "verify",
            count: found.batches,
            ns: counted_ns,
            result: format!("{} lost, {} torn", found.lost, found.torn),
            story: format!(
                "of {promised} acknowledged writes {} are lost; {} more had reached the log before \
                 the kill; {} batches are there in part",
                found.lost,
                found.batches.saturating_sub(promised - found.lost),
                found.torn
            ),
        },
    ];
    let (lost, torn) = (found.lost, found.torn);
    Ok(Crash { acknowledged: promised, lost, torn, reopen_ns, steps })
}

/// Starts the writer and kills it after a number of acknowledgements drawn by lot. Gives the
/// numbers acknowledged, those still in the pipe at its death included.
fn run_and_kill(folder: &Path, sync: SyncLevel) -> Result<BTreeSet<u64>> {
    let io = |what, error| Error::io(what, "the writing process", error);
    let program = std::env::current_exe().map_err(|e| Error::io("find", "this program", e))?;
    let mut child = Command::new(program)
        .args(["demo", "--sync", &sync.to_string(), "--writer"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| io("start", e))?;
    let target = ACKNOWLEDGED_MIN + Rng::new(rng::entropy()).below(ACKNOWLEDGED_MIN);
    let mut acknowledged = BTreeSet::new();
    let mut killed = false;
    if let Some(out) = child.stdout.take() {
        let mut lines = BufReader::new(out);
        let mut line = String::new();
        // A line without its end was cut off by the kill: nobody was promised anything by it.
        while lines.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
            if let Ok(number) = line.trim_end().parse() {
                acknowledged.insert(number);
            }
            line.clear();
            if !killed && acknowledged.len() as u64 >= target {
                child.kill().map_err(|e| io("kill", e))?;
                killed = true;
            }
        }
    }
    let status = child.wait().map_err(|e| io("wait for", e))?;
    if killed {
        return Ok(acknowledged);
    }
    Err(Error::new(
        ErrorKind::Internal,
        format!("the writing process ended by itself ({status}) after {}", acknowledged.len()),
    ))
}

struct Found {
    /// Whole batches found.
    batches: u64,
    lost: u64,
    torn: u64,
}

/// Reads all that the writer left and holds it against what it was promised.
fn count(store: &Store, packages: &[Package<'_>], promised: &BTreeSet<u64>) -> Result<Found> {
    let mut present: BTreeMap<u64, u64> = BTreeMap::new();
    let [record, checksum] = ["record:", "checksum:"];
    for (place, prefix) in [record, checksum].into_iter().enumerate() {
        for entry in store.scan(prefix)? {
            let number = std::str::from_utf8(&entry.key[prefix.len()..]).ok();
            let Some(number) = number.and_then(|text| text.parse::<u64>().ok()) else { continue };
            // A value that is not what was written counts as a write that is not there.
            if entry.value == writer::values(number, packages)[place].as_bytes() {
                *present.entry(number).or_default() += 1;
            }
        }
    }
    let whole = |number: &u64| present.get(number) == Some(&2);
    Ok(Found {
        batches: present.values().filter(|keys| **keys == 2).count() as u64,
        lost: promised.iter().filter(|number| !whole(number)).count() as u64,
        torn: present.values().filter(|keys| **keys != 2).count() as u64,
    })
}

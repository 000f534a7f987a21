//! What the demo does with a living store, one function a step.

use super::packages::Package;
use super::store::Store;
use crate::base::{Error, ErrorKind, Result, Seq};
use crate::env::{Clock, Rng};
use crate::op::kv::{Expiry, Write};
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};

/// Packages in one atomic batch; each is two keys.
const BATCH_PACKAGES: usize = 100;
/// The section whose packages the scan lists.
const SECTION: &str = "database";
/// Keys that expire, and after how long.
const SESSIONS: u64 = 100;
const SESSION_MS: u64 = 50;
/// Agents that raise one number with compare-and-swap, and how often each does.
const AGENTS: u64 = 4;
const RAISES: u64 = 250;
/// Keys that change under the snapshot.
const CHANGED: usize = 500;
/// A key that should expire and has not after this long never will.
const EXPIRY_DEADLINE_NS: u64 = 10_000_000_000;

/// What the steps work with.
pub struct Tour<'a> {
    /// The open store.
    pub store: &'a Store,
    /// The data.
    pub packages: &'a [Package<'a>],
    /// Measures.
    pub clock: &'a dyn Clock,
}

/// What a step did.
#[derive(Debug)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// Operations done.
    pub count: u64,
    /// Time they took.
    pub ns: u64,
    /// The outcome in a few words.
    pub result: String,
    /// The outcome in a sentence.
    pub story: String,
}

/// An answer that is not what it must be.
fn wrong(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Internal, what)
}

pub(super) fn put(key: String, value: impl Into<Bytes>) -> Write {
    let (cf, key, value) = (Default::default(), Bytes::from(key), value.into());
    Write::Put { cf, key, value, expiry: Expiry::Never }
}

/// Stores every package, and a key that lists it in its section, in atomic batches.
pub fn load(tour: &Tour<'_>) -> Result<Step> {
    let begun = tour.clock.monotonic_ns();
    let mut bytes = 0;
    for chunk in tour.packages.chunks(BATCH_PACKAGES) {
        let mut writes = Vec::with_capacity(chunk.len() * 2);
        for package in chunk {
            let value = package.to_json();
            bytes += value.len();
            writes.push(put(package.key(), value));
            writes.push(put(package.section_key(), package.short.to_string()));
        }
        tour.store.write(writes)?;
    }
    let (count, ns) = (tour.packages.len() as u64 * 2, tour.clock.monotonic_ns() - begun);
    Ok(Step {
        name: "load",
        count,
        ns,
        result: format!("{count} keys"),
        story: format!(
            "{} packages as {count} keys and {:.1} MB of JSON, in {} atomic batches",
            tour.packages.len(),
            bytes as f64 / 1e6,
            tour.packages.len().div_ceil(BATCH_PACKAGES)
        ),
    })
}

/// Reads every package in random order and compares it with the data.
pub fn read(tour: &Tour<'_>) -> Result<Step> {
    let mut order: Vec<&Package<'_>> = tour.packages.iter().collect();
    let mut rng = Rng::new(1);
    for n in (1..order.len()).rev() {
        order.swap(n, rng.below(n as u64 + 1) as usize);
    }
    let expected: Vec<(String, String)> = order.iter().map(|p| (p.key(), p.to_json())).collect();
    let begun = tour.clock.monotonic_ns();
    for (key, value) in &expected {
        let found = tour.store.get(key)?.ok_or_else(|| wrong(format!("{key} is missing")))?;
        if found.value != value.as_bytes() {
            return Err(wrong(format!("{key} holds something else than was stored")));
        }
    }
    let (count, ns) = (expected.len() as u64, tour.clock.monotonic_ns() - begun);
    Ok(Step {
        name: "read",
        count,
        ns,
        result: "all as stored".to_string(),
        story: format!("{count} packages one at a time in random order, each as it was stored"),
    })
}

/// Lists a section by its prefix, in order and page by page.
pub fn scan(tour: &Tour<'_>) -> Result<Step> {
    let mut expected: Vec<String> = tour
        .packages
        .iter()
        .filter(|package| package.section == SECTION)
        .map(Package::section_key)
        .collect();
    expected.sort();
    let prefix = format!("section:{SECTION}:");
    let begun = tour.clock.monotonic_ns();
    let found = tour.store.scan(&prefix)?;
    let ns = tour.clock.monotonic_ns() - begun;
    if !found.iter().map(|entry| &entry.key[..]).eq(expected.iter().map(|key| key.as_bytes())) {
        return Err(wrong(format!("{} keys under {prefix}", found.len())));
    }
    let names: Vec<String> = found
        .iter()
        .take(3)
        .map(|entry| {
            let name = String::from_utf8_lossy(&entry.key[prefix.len()..]).into_owned();
            format!("{name} ({})", String::from_utf8_lossy(&entry.value))
        })
        .collect();
    Ok(Step {
        name: "scan",
        count: found.len() as u64,
        ns,
        result: format!("section {SECTION}"),
        story: format!("{} packages under {prefix}, first {}", found.len(), names.join(", ")),
    })
}

/// Stores keys that expire, and reads until they are gone.
pub fn expire(tour: &Tour<'_>) -> Result<Step> {
    let key = |n: u64| format!("session:{n}");
    let begun = tour.clock.monotonic_ns();
    let writes = (0..SESSIONS).map(|n| Write::Put {
        cf: Default::default(),
        key: Bytes::from(key(n)),
        value: Bytes::from("thinking"),
        expiry: Expiry::InMs(SESSION_MS),
    });
    tour.store.write(writes.collect())?;
    let seen_at_once = tour.store.get(&key(0))?.is_some();
    let after = || tour.clock.monotonic_ns() - begun;
    if !seen_at_once && after() < SESSION_MS * 1_000_000 {
        return Err(wrong("a session expired before its time"));
    }
    for n in 0..SESSIONS {
        while tour.store.get(&key(n))?.is_some() {
            if after() > EXPIRY_DEADLINE_NS {
                return Err(wrong(format!("{} does not expire", key(n))));
            }
            std::thread::yield_now();
        }
    }
    let ns = after();
    Ok(Step {
        name: "expire",
        count: SESSIONS,
        ns,
        result: format!("set for {SESSION_MS} ms"),
        story: format!(
            "{SESSIONS} sessions set for {SESSION_MS} ms; the last was gone after {:.0} ms",
            ns as f64 / 1e6
        ),
    })
}

/// Several agents raise one number, each by compare-and-swap on the sequence number it read.
pub fn compare_and_swap(tour: &Tour<'_>) -> Result<Step> {
    const KEY: &str = "plan:step";
    let conflicts = AtomicU64::new(0);
    let begun = tour.clock.monotonic_ns();
    std::thread::scope(|scope| -> Result<()> {
        let agents: Vec<_> = (0..AGENTS)
            .map(|_| scope.spawn(|| (0..RAISES).try_for_each(|_| raise(tour, KEY, &conflicts))))
            .collect();
        for agent in agents {
            agent.join().map_err(|_| wrong("an agent's thread panicked"))??;
        }
        Ok(())
    })?;
    let ns = tour.clock.monotonic_ns() - begun;
    let total = AGENTS * RAISES;
    let found = tour.store.get(KEY)?.map(|entry| entry.value);
    if found.as_deref() != Some(total.to_string().as_bytes()) {
        return Err(wrong(format!("{KEY} holds {found:?}, not {total}")));
    }
    let conflicts = conflicts.into_inner();
    Ok(Step {
        name: "swap",
        count: total,
        ns,
        result: format!("{conflicts} conflicts"),
        story: format!(
            "{AGENTS} agents raised one number to {total} by compare-and-swap; {conflicts} lost a \
             race and tried again"
        ),
    })
}

/// Reads a number, and writes the next one if nobody came between; otherwise again.
fn raise(tour: &Tour<'_>, key: &str, conflicts: &AtomicU64) -> Result<()> {
    let mut current = tour.store.get(key)?;
    loop {
        let (number, seq) = match &current {
            Some(entry) => {
                let text = std::str::from_utf8(&entry.value).ok();
                let number = text.and_then(|text| text.parse::<u64>().ok());
                (number.ok_or_else(|| wrong(format!("{key} holds no number")))?, entry.seq)
            }
            None => (0, Seq(0)),
        };
        match tour.store.swap(key, seq, &(number + 1).to_string())? {
            None => return Ok(()),
            Some(stands) => {
                conflicts.fetch_add(1, Ordering::Relaxed);
                current = stands;
            }
        }
    }
}

/// Changes and deletes keys under a snapshot, which goes on showing what was.
pub fn snapshot(tour: &Tour<'_>) -> Result<Step> {
    let changed = &tour.packages[..CHANGED.min(tour.packages.len())];
    let before = tour.store.snapshot()?;
    let mut writes = Vec::new();
    for (n, package) in changed.iter().enumerate() {
        writes.push(match n % 2 {
            0 => put(package.key(), "changed"),
            _ => Write::Delete { cf: Default::default(), key: Bytes::from(package.key()) },
        });
    }
    tour.store.write(writes)?;
    let begun = tour.clock.monotonic_ns();
    for (n, package) in changed.iter().enumerate() {
        let key = package.key();
        if before.get(key.as_bytes())?.as_deref() != Some(package.to_json().as_bytes()) {
            return Err(wrong(format!("the snapshot does not show {key} as it was")));
        }
        let now = tour.store.get(&key)?.map(|entry| entry.value);
        let expected: Option<&[u8]> = (n % 2 == 0).then_some(b"changed");
        if now.as_deref() != expected {
            return Err(wrong(format!("{key} does not show what was written last")));
        }
    }
    let (count, ns) = (changed.len() as u64 * 2, tour.clock.monotonic_ns() - begun);
    Ok(Step {
        name: "snapshot",
        count,
        ns,
        result: "shows what was".to_string(),
        story: format!(
            "{} packages changed or deleted; the snapshot still shows each as it was",
            changed.len()
        ),
    })
}

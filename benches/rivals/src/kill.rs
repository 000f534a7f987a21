//! The class of durability, shown and not believed: a process writes and is killed with SIGKILL in
//! the middle of it; then every row that had been acknowledged is looked for.
//!
//! An engine that lost nothing keeps its writes with the kernel (K), or on the device where it was
//! asked to (D, which only a power cut could prove; that its puts are as slow as the device's syncs
//! is in the table). One that lost rows keeps them in the process (P).

use crate::data::{Values, key16};
use crate::store::{Engine, Result, Setup};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

/// Rows acknowledged when the kill comes, at least.
const ROWS_MIN: u64 = 20_000;

/// Writes for ever and says on standard output which row was acknowledged last.
pub fn write(engine: Engine, dir: &Path) -> Result<()> {
    let (db, values) = (engine.open(dir, Setup::default())?, Values::new());
    let mut out = std::io::stdout().lock();
    for i in 0.. {
        db.put(&key16(i), values.get(i, 100))?;
        writeln!(out, "{i}")?;
    }
    Ok(())
}

/// Counts the rows up to `acknowledged` that are not there or not right.
pub fn count_lost(engine: Engine, dir: &Path, acknowledged: u64) -> Result<u64> {
    let (db, values) = (engine.open(dir, Setup::default())?, Values::new());
    let mut lost = 0;
    for i in 0..=acknowledged {
        let mut right = false;
        db.get(&key16(i), &mut |v| right = v == values.get(i, 100))?;
        lost += u64::from(!right);
    }
    Ok(lost)
}

/// Starts a writer, kills it, and gives how many rows it had acknowledged and how many are lost.
pub fn prove(engine: Engine, dir: &Path, share: f64) -> Result<(u64, u64)> {
    let rows = if engine == Engine::Redb { ROWS_MIN / 10 } else { ROWS_MIN };
    let rows = ((rows as f64 * share) as u64).max(500);
    let mut child = crate::child(&["kill-write", engine.name()], dir)
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    let mut last = None;
    for line in BufReader::new(output).lines() {
        // What was in the pipe when the process died was acknowledged as well.
        let Ok(i) = line?.parse::<u64>() else { break };
        last = Some(i);
        if i == rows {
            child.kill()?;
        }
    }
    child.wait()?;
    let last = last.filter(|last| *last >= rows).ok_or("the writer ended by itself")?;
    let out = crate::child(&["kill-count", engine.name(), &last.to_string()], dir).output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let lost = text
        .trim()
        .parse()
        .map_err(|_| format!("no count of lost rows: {}", String::from_utf8_lossy(&out.stderr)))?;
    Ok((last + 1, lost))
}

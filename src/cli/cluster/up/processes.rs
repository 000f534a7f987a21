//! Processes of a topology on this machine.
//!
//! ```text
//! STATE/NAME.pid   {"pid":123,"started":"..."}: what was started, and when
//! STATE/NAME.log   what it says
//! ```
//! A process is known by its number and the moment it was started: a number that another has by
//! now is nobody's.

use crate::base::{Error, ErrorKind, Result};
use crate::cli::cluster::up::topology::{Part, Topology};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::settings::{Role, Setting, table};
use crate::env::disk::write_atomic;
use crate::env::{Disk, RealDisk, process};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// The longest file of a process.
const FILE_MAX: usize = 4096;
/// How often is looked whether a process listens, or has ended.
const LOOK: Duration = Duration::from_millis(50);
/// How long doors may stay open behind a process that has ended.
const LEFT_OPEN: Duration = Duration::from_secs(2);
/// Bytes of a log's end that are looked at for the last word.
const LAST_WORDS: u64 = 4096;

/// A process that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its number.
    pub pid: u32,
    /// When, see [`process::started`].
    started: String,
}

impl Started {
    /// Whether it runs still.
    pub fn runs(&self) -> bool {
        process::started(self.pid).is_some_and(|at| at == self.started)
    }

    /// Sends it a signal, if it runs.
    fn signal(&self, signal: Signal) -> Outcome {
        if !self.runs() {
            return Ok(());
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::failed(format!("no process {}", self.pid)))?;
        match kill_process(pid, signal) {
            Err(e) if e != rustix::io::Errno::SRCH => {
                Err(Failure::failed(format!("cannot signal process {}: {e}", self.pid)))
            }
            _ => Ok(()),
        }
    }

    /// Asks it to end, or ends it at once.
    ///
    /// # Errors
    /// If that is not allowed.
    pub fn stop(&self, at_once: bool) -> Outcome {
        self.signal(if at_once { Signal::KILL } else { Signal::TERM })
    }

    /// Waits until it has ended; false if it has not by then.
    pub async fn ended(&self, until: Instant) -> bool {
        while self.runs() {
            if Instant::now() >= until {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }
}

fn pid_path(state: &Path, name: &str) -> PathBuf {
    state.join(format!("{name}.pid"))
}

/// The names of all processes that were started from here and not yet forgotten.
///
/// # Errors
/// What the disk answers.
pub fn names(state: &Path) -> Result<Vec<String>> {
    if !RealDisk.exists(state) {
        return Ok(Vec::new());
    }
    let entries = RealDisk.list(state)?.into_iter();
    Ok(entries.filter_map(|entry| entry.name.strip_suffix(".pid").map(String::from)).collect())
}

/// Where a process says what it says.
pub fn log_path(topology: &Topology, part: &Part) -> PathBuf {
    topology.state.join(format!("{}.log", part.name))
}

/// The process of a name, if it was started from here and runs.
///
/// # Errors
/// `Corruption` if its file says nothing.
pub fn running(state: &Path, name: &str) -> Result<Option<Started>> {
    Ok(last(state, name)?.filter(Started::runs))
}

/// The process that was started last under a name, whether it runs or not.
fn last(state: &Path, name: &str) -> Result<Option<Started>> {
    let path = pid_path(state, name);
    if !RealDisk.exists(&path) {
        return Ok(None);
    }
    let mut bytes = vec![0; FILE_MAX];
    let read = RealDisk.open(&path)?.read_at(&mut bytes, 0)?;
    let started = serde_json::from_slice(&bytes[..read]);
    let damaged = |e: serde_json::Error| {
        Error::corruption(&path, 0, "the number of a process", e.to_string())
    };
    started.map(Some).map_err(damaged)
}

/// Forgets a process that has ended.
///
/// # Errors
/// What the disk answers.
pub fn forget(state: &Path, name: &str) -> Result<()> {
    match RealDisk.remove(&pid_path(state, name)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether anybody listens at an address of a part.
pub async fn is_taken(part: &Part) -> Option<String> {
    for address in &part.listens {
        if listens(&address.to_string()).await {
            return Some(address.to_string());
        }
    }
    None
}

async fn listens(address: &str) -> bool {
    let address = address.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
    matches!(timeout(Duration::from_secs(1), TcpStream::connect(address)).await, Ok(Ok(_)))
}

/// Starts a part of a topology in the background, and waits until it listens.
///
/// # Errors
/// If it cannot be started, or ends again: with its last word.
pub async fn start(topology: &Topology, part: &Part, until: Instant) -> Outcome<Started> {
    // The threads of a process that was killed may hold its folder and doors for a moment.
    let before = last(&topology.state, &part.name)?.map(|before| before.pid);
    let is_ending = || before.is_some_and(process::is_ending);
    let mut taken = is_taken(part).await;
    let patience = until.min(Instant::now() + LEFT_OPEN);
    while (taken.is_some() || is_ending()) && Instant::now() < patience {
        sleep(LOOK).await;
        taken = is_taken(part).await;
    }
    if let Some(address) = taken {
        let message = format!(
            "somebody listens on {address}, and it is no process that was started from here"
        );
        return Err(Failure::refused(
            message,
            format!("end it, or give {} another port", part.name),
        ));
    }
    let log = log_path(topology, part);
    let failed = |e| Error::io("start this program again from", &log, e);
    let said = process::log_file_to_go_on(&log)?;
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    // What the environment says of one process must not be said of all of them.
    let own =
        |setting: &&Setting| setting.section() == part.role.name() && !setting.kind.is_secret();
    for setting in table::of_role(Some(part.role)).filter(own) {
        command.env_remove(setting.variable());
        setting.legacy.into_iter().for_each(|name| _ = command.env_remove(name));
    }
    let mut child = command
        .args(&part.args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said)
        // Ctrl-C at this terminal is not meant for it.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let pid = child.id();
    let Some(at) = process::started(pid) else { return Err(gone(part, &log)) };
    let started = Started { pid, started: at };
    let text = serde_json::to_string(&started).map_err(|e| Failure::failed(e.to_string()))?;
    if let Err(error) =
        write_atomic(&RealDisk, &pid_path(&topology.state, &part.name), text.as_bytes())
    {
        // Nobody would find it again.
        _ = child.kill();
        return Err(error.into());
    }
    wait_for_doors(part, &mut child, &log, until).await?;
    Ok(started)
}

async fn wait_for_doors(part: &Part, child: &mut Child, log: &Path, until: Instant) -> Outcome {
    for address in &part.listens {
        while !listens(&address.to_string()).await {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return Err(gone(part, log));
            }
            if Instant::now() >= until {
                let message = format!("{} does not listen on {address} yet", part.name);
                return Err(Failure::unavailable(message).fix(format!("see {}", log.display())));
            }
            sleep(LOOK).await;
        }
    }
    Ok(())
}

/// Waits until a process of one of these roles has ended, or finds that it has; gives the failure
/// that this is.
///
/// # Errors
/// That; or what the disk answers.
pub async fn one_ends(topology: &Topology, roles: &[Role]) -> Outcome {
    let mut all = Vec::new();
    for part in topology.parts.iter().filter(|part| roles.contains(&part.role)) {
        match running(&topology.state, &part.name)? {
            Some(process) => all.push((part, process)),
            None => return Err(gone(part, &log_path(topology, part))),
        }
    }
    loop {
        if let Some((part, _)) = all.iter().find(|(_, process)| !process.runs()) {
            return Err(gone(part, &log_path(topology, part)));
        }
        sleep(LOOK).await;
    }
}

/// The failure of a process that ended by itself.
pub fn gone(part: &Part, log: &Path) -> Failure {
    let words = last_words(log).unwrap_or_default();
    let said = if words.is_empty() { String::new() } else { format!(": {words}") };
    Failure::failed(format!("{} has ended again{said}", part.name))
        .fix(format!("see {}", log.display()))
}

/// The last error, or else line, of a log.
fn last_words(log: &Path) -> Result<String> {
    let file = RealDisk.open(log)?;
    let len = file.len()?;
    let mut bytes = vec![0; len.min(LAST_WORDS) as usize];
    let read = file.read_at(&mut bytes, len.saturating_sub(LAST_WORDS))?;
    let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
    let lines = || text.lines().rev().filter(|line| !line.trim().is_empty());
    let error = lines().find(|line| line.starts_with("error:")).or(lines().next());
    Ok(error.unwrap_or("").trim_start_matches("error:").trim().to_string())
}

//! A process of the program, and what is done to it.
// tidy: sleeps because a process is looked at until it has ended; it has no event to wait for

use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How variables begin that the program takes for its own.
const OURS: [&str; 6] =
    ["ARQON_", "META_SERVER", "DATA_NODE_ID", "DATA_ADDR", "RAFT_ADDR", "GATEWAY_"];

/// The program under test: `ARQON_CHAOS_PROGRAM`, else the one built with this test.
fn program() -> PathBuf {
    let named = std::env::var_os("ARQON_CHAOS_PROGRAM").filter(|path| !path.is_empty());
    named.map_or_else(|| env!("CARGO_BIN_EXE_arqon").into(), PathBuf::from)
}

/// A process; killed when it is let go of.
pub(crate) struct Process {
    child: Child,
    line: Vec<String>,
    log: PathBuf,
}

impl Process {
    /// Starts the program with `args`. `within` is put before it: a command that becomes what it is
    /// given, such as `ip netns exec NAME`.
    pub(crate) fn start(within: &[String], args: &[String], log: &Path) -> Process {
        let program = program().display().to_string();
        let parts = within.iter().cloned().chain([program]).chain(args.iter().cloned());
        let line: Vec<String> = parts.chain(["--with-parent".to_string()]).collect();
        let child = spawn(&line, log);
        Process { child, line, log: log.to_path_buf() }
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) fn kill(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }

    /// Starts it again. It must have ended.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.line, &self.log);
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM, and waits until the process is gone.
    pub(crate) async fn end(&mut self, patience: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "{:?} does not end:\n{}", self.line, self.said());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether it runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of what it has said.
    pub(crate) fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(id, signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}:\n{}\n", self.log.display(), self.said());
        }
    }
}

fn spawn(line: &[String], log: &Path) -> Child {
    let said = OpenOptions::new().create(true).append(true).open(log).unwrap();
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]).stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
    let ours = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in ours.filter(|name| OURS.iter().any(|ours| name.starts_with(ours))) {
        command.env_remove(name);
    }
    command.spawn().unwrap_or_else(|e| panic!("{line:?}: {e}"))
}

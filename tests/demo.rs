//! `arqon demo` as a user runs it: exit code, figures, and nothing left behind.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn the_demo_loses_nothing_and_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_arqon"))
        .args(["demo", "--output", "json"])
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| figures[name].as_u64().unwrap();
    assert!(number("packages") > 4_000 && number("acknowledged") >= 3_000, "{figures}");
    assert_eq!((number("lost"), number("torn")), (0, 0), "{figures}");
    assert_eq!(figures["steps"].as_array().unwrap().len(), 11);
    assert!(figures["recall"].as_f64().unwrap() > 0.95, "{figures}");
    let like = &figures["found"][0];
    assert_eq!((&like["query"], like["packages"].as_array().unwrap().len()), (&"vim".into(), 10));
    assert!(like["packages"].to_string().contains("\"vim-tiny\""), "{like}");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(talk.contains("4036 packages of Debian 12"), "{talk}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// `arqon demo --nodes 3` on a terminal of its own, which `script` makes.
struct Terminal {
    child: Child,
    keys: std::process::ChildStdin,
    shown: Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    /// None where there is no `script`.
    fn open(folder: &Path) -> Option<Terminal> {
        let line = format!("exec {} demo --nodes 3", env!("CARGO_BIN_EXE_arqon"));
        let spawned = Command::new("script")
            .args(["-q", "-e", "-c", &line, "/dev/null"])
            .env("TMPDIR", folder)
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = spawned else {
            println!("skipped, there is no `script` here to make a terminal");
            return None;
        };
        let (keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (send, shown) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(got @ 1..) = screen.read(&mut bytes) {
                _ = send.send(bytes[..got].to_vec());
            }
        });
        Some(Terminal { child, keys, shown, text: String::new() })
    }

    /// Waits until something is shown behind what was waited for last.
    fn wait_for(&mut self, what: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.text.find(what) {
                self.text.drain(..at + what.len());
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(e) => panic!("{what:?} is not shown ({e}), but: {}", self.text),
            }
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Types a line at the prompt, and waits for what is said to it.
    fn say(&mut self, line: &str, answer: &str) {
        self.wait_for("demo> ");
        self.press(&format!("{line}\r"));
        self.wait_for(answer);
    }

    /// The exit code. The rest of what is shown is read, or `script` would wait.
    fn end(mut self) -> i32 {
        while self.shown.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait().unwrap().code().expect("a code")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Processes that were given `folder` to work in.
fn left_behind(folder: &Path) -> Vec<String> {
    let name = format!("TMPDIR={}", folder.display());
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
    let text = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).to_string();
    let ours = processes.filter(|p| text(p.join("environ")).split('\0').any(|part| part == name));
    ours.map(|process| text(process.join("cmdline")).replace('\0', " ")).collect()
}

#[test]
fn on_a_terminal_faults_are_made_by_hand_and_all_ends_with_the_demo() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut terminal) = Terminal::open(folder.path()) else { return };
    terminal.wait_for("recall@10");
    terminal.say("write", "writing");
    // `script`, the demo, and what that has started: a metadata server, nodes, a gateway.
    assert_eq!(left_behind(folder.path()).len(), 7);
    terminal.say("kill 1", "node 1 is down");
    terminal.say("status", "down");
    terminal.say("restart 1", "node 1 is running");
    terminal.say("pause 2", "node 2 is paused");
    terminal.say("resume 2", "node 2 is running");
    terminal.say("kill 9", "no node 9");
    terminal.say("verify", "acknowledged");
    terminal.wait_for("Every acknowledged write is there.");
    terminal.say("quit", "");
    assert_eq!(terminal.end(), 0);
    assert_eq!(left_behind(folder.path()), [""; 0]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn ctrl_c_ends_a_demo_of_processes_and_every_one_of_them() {
    // In the middle of the round, where it is a signal, and at the prompt, where it is a key.
    for (moment, code) in [("packages", 130), ("demo> ", 0)] {
        let folder = tempfile::tempdir().unwrap();
        let Some(mut terminal) = Terminal::open(folder.path()) else { return };
        terminal.wait_for(moment);
        terminal.press("\x03");
        assert_eq!(terminal.end(), code, "{moment}");
        assert_eq!(left_behind(folder.path()), [""; 0], "{moment}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{moment}");
    }
}

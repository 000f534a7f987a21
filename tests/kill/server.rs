//! The server under test: started in a folder, killed by its process id.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

const READY_DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    child: Child,
    /// What it printed, line by line.
    lines: Receiver<String>,
    /// Address of the Redis door.
    pub(crate) redis: String,
    /// Address of the gRPC door.
    pub(crate) grpc: String,
    /// From the start of the process to its being ready to serve.
    pub(crate) ready_after: Duration,
}

impl Server {
    /// Starts the program; it may not be ready yet.
    pub(crate) fn spawn(folder: &Path, sync: &str) -> Server {
        let port_file = folder.join("ports.json");
        let _ = std::fs::remove_file(&port_file);
        let mut child = Command::new(env!("CARGO_BIN_EXE_arqon"))
            .args(["dev", "--redis", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--sync", sync])
            .arg("--data")
            .arg(folder.join("data"))
            .arg("--port-file")
            .arg(&port_file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (sender, lines) = channel();
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
            child.stderr.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
        ];
        for output in outputs.into_iter().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Server {
            child,
            lines,
            redis: String::new(),
            grpc: String::new(),
            ready_after: Duration::ZERO,
        }
    }

    /// Starts the program and waits until it serves.
    pub(crate) fn start(folder: &Path, sync: &str) -> Server {
        let begun = Instant::now();
        let mut server = Server::spawn(folder, sync);
        let mut said = Vec::new();
        loop {
            if let Some((redis, grpc)) = addresses(&folder.join("ports.json")) {
                (server.redis, server.grpc) = (redis, grpc);
                server.ready_after = begun.elapsed();
                return server;
            }
            match server.lines.recv_timeout(Duration::from_millis(2)) {
                Ok(line) => said.push(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let status = server.child.wait().unwrap();
                    panic!("the server ended with {status}; it said:\n{}", said.join("\n"));
                }
            }
            assert!(begun.elapsed() < READY_DEADLINE, "not ready; it said:\n{}", said.join("\n"));
        }
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            while let Ok(line) = self.lines.try_recv() {
                eprintln!("server: {line}");
            }
        }
    }
}

/// The addresses in the port file, once that is whole.
fn addresses(port_file: &Path) -> Option<(String, String)> {
    let text = std::fs::read_to_string(port_file).ok()?;
    let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some((ports["redis"].as_str()?.to_string(), ports["grpc"].as_str()?.to_string()))
}

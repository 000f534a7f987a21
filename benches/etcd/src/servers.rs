//! Three servers of one system, as processes on loopback, their folders below one that is removed
//! with them.
// tidy: sleeps because it asks again whether a server answers, until a deadline

use crate::Result;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// etcd.
    Etcd,
    /// Ours, with so many shards.
    Arqon(u32),
    /// Servers that do nothing, in our protocol.
    Echo,
}

impl System {
    /// The system of a name.
    pub fn named(name: &str) -> Result<System> {
        match name.strip_prefix("arqon-") {
            _ if name == "etcd" => Ok(System::Etcd),
            _ if name == "echo" => Ok(System::Echo),
            Some(shards) => Ok(System::Arqon(shards.parse()?)),
            None => Err(format!("there is no system {name}: etcd, arqon-SHARDS, echo").into()),
        }
    }
}

impl std::fmt::Display for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            System::Etcd => f.write_str("etcd"),
            System::Echo => f.write_str("echo"),
            System::Arqon(shards) => write!(f, "arqon-{shards}"),
        }
    }
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `etcd`.
    pub etcd: PathBuf,
    /// `arqon`.
    pub arqon: PathBuf,
}

/// Servers that run. Dropped, they are ended.
pub struct Servers {
    processes: Vec<Child>,
    /// Where clients find them.
    pub doors: Vec<SocketAddr>,
    _dir: tempfile::TempDir,
}

impl Servers {
    /// Starts them below `dir` and waits until they can be used.
    pub fn start(system: System, programs: &Programs, dir: &Path) -> Result<Servers> {
        let dir = tempfile::Builder::new().prefix("beside-etcd-").tempdir_in(dir)?;
        let mut servers = Servers { processes: Vec::new(), doors: Vec::new(), _dir: dir };
        match system {
            System::Etcd => servers.start_etcd(&programs.etcd)?,
            System::Arqon(shards) => servers.start_arqon(&programs.arqon, shards)?,
            System::Echo => servers.start_echo()?,
        }
        Ok(servers)
    }

    fn start_etcd(&mut self, etcd: &Path) -> Result<()> {
        let ports = free_ports(6)?;
        let peer = |n: usize| format!("http://{}", ports[3 + n]);
        let all: Vec<String> = (0..3).map(|n| format!("n{n}={}", peer(n))).collect();
        for (n, port) in ports.iter().enumerate().take(3) {
            let client = format!("http://{port}");
            let mut command = Command::new(etcd);
            command.arg("--name").arg(format!("n{n}"));
            command.arg("--data-dir").arg(self.dir().join(format!("n{n}")));
            command.arg("--listen-client-urls").arg(&client);
            command.arg("--advertise-client-urls").arg(&client);
            command.arg("--listen-peer-urls").arg(peer(n));
            command.arg("--initial-advertise-peer-urls").arg(peer(n));
            command.arg("--initial-cluster").arg(all.join(","));
            self.spawn(command, &format!("n{n}"))?;
        }
        self.doors = ports[..3].to_vec();
        Ok(())
    }

    fn start_echo(&mut self) -> Result<()> {
        let ports = free_ports(3)?;
        for (n, port) in ports.iter().enumerate() {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("--echo").arg(port.to_string());
            self.spawn(command, &format!("n{n}"))?;
        }
        self.doors = ports;
        Ok(())
    }

    fn start_arqon(&mut self, arqon: &Path, shards: u32) -> Result<()> {
        let ports = free_ports(7)?;
        let meta = format!("http://{}", ports[6]);
        let mut command = Command::new(arqon);
        command.arg("meta").arg("--dir").arg(self.dir().join("meta"));
        command.arg("--listen").arg(ports[6].to_string());
        self.spawn(command, "meta")?;
        for n in 0..3 {
            let mut command = Command::new(arqon);
            command.arg("node").arg(self.dir().join(format!("n{n}"))).arg(ports[n].to_string());
            command.arg("--raft-listen").arg(ports[3 + n].to_string()).arg("--meta").arg(&meta);
            self.spawn(command, &format!("n{n}"))?;
        }
        let mut init = Command::new(arqon);
        init.args(["cluster", "init", "--replicas", "3", "--shards"]).arg(shards.to_string());
        init.arg("--meta").arg(&meta).stdout(Stdio::null()).stderr(Stdio::null());
        if !init.status()?.success() {
            return Err(
                format!("`arqon cluster init` failed; the servers said:{}", self.said()).into()
            );
        }
        self.doors = ports[..3].to_vec();
        Ok(())
    }

    /// The end of what each of them has said.
    fn said(&self) -> String {
        let mut said = String::new();
        for name in ["meta", "n0", "n1", "n2"] {
            let log = std::fs::read_to_string(self.dir().join(format!("{name}.log")));
            let last = log.as_deref().unwrap_or_default().lines().rev().take(3);
            said.extend(last.map(|line| format!("\n  {name}: {line}")));
        }
        said
    }

    fn dir(&self) -> &Path {
        self._dir.path()
    }

    fn spawn(&mut self, mut command: Command, name: &str) -> Result<()> {
        let log = File::create(self.dir().join(format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let what = command.get_program().display().to_string();
        self.processes.push(command.spawn().map_err(|e| format!("cannot start {what}: {e}"))?);
        Ok(())
    }

    /// Processor time of all of them so far.
    pub fn cpu(&self) -> Result<Duration> {
        self.processes.iter().map(|process| cpu_of(process.id())).sum()
    }

    /// Ids of the processes.
    pub fn ids(&self) -> Vec<u32> {
        self.processes.iter().map(Child::id).collect()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for process in &self.processes {
            let id = rustix::process::Pid::from_child(process);
            _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let until = Instant::now() + Duration::from_secs(10);
        for process in &mut self.processes {
            while matches!(process.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
            _ = process.kill();
            _ = process.wait();
        }
    }
}

/// Processor time of a process, its threads that have ended among them.
pub fn cpu_of(id: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // Behind the name, which may hold anything, in brackets.
    let rest = stat.rsplit_once(')').ok_or("a strange /proc/PID/stat")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

fn free_ports(count: usize) -> Result<Vec<SocketAddr>> {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<_>>()?;
    Ok(held.iter().map(TcpListener::local_addr).collect::<std::io::Result<_>>()?)
}

//! `arqon demo --nodes N`: a cluster of processes of this program on one machine; it is written to
//! while the process that leads most is killed, and every acknowledged write is looked for. A person
//! at a terminal may go on from there.

use super::meaning::{self, Meaning};
use super::records::{Acknowledged, Writing, key, load, longest_gap, missing};
use super::{packages, ports, prompt, vectors};
use crate::base::{Error, ErrorKind, Result};
use crate::catalog::{Action, FORMAT_VERSION, NodeId, View};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Value;
use crate::env::disk::read_exact_at;
use crate::env::{Disk, RealClock, RealDisk, rng};
use crate::op::route::slot_of;
use crate::rpc::Client;
use crate::rpc::client::ClientOptions;
use crate::rpc::cluster::MetaClient;
use crate::rpc::link::{Hello, Role};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Shards of the cluster.
pub(super) const SHARDS: u32 = 4;
/// What a client waits for an answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(3);
/// Writing before the kill, and after it.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(4);
/// How long the parts may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether they still run.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes of a process's log that say why it has ended.
const LAST_WORDS: u64 = 2 << 10;

/// A process of the cluster; killed when it is let go of.
pub(super) struct Process {
    child: Child,
    args: Vec<String>,
    log: PathBuf,
    pub(super) is_paused: bool,
}

impl Process {
    fn start(folder: &Path, name: &str, args: Vec<String>) -> Result<Process> {
        let log = folder.join(format!("{name}.txt"));
        let child = spawn(&args, &log)?;
        Ok(Process { child, args, log, is_paused: false })
    }

    /// Kills it, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        self.is_paused = false;
    }

    /// Starts it again, if it does not run.
    pub(super) fn restart(&mut self) -> Result<()> {
        if !self.is_running() {
            self.child = spawn(&self.args, &self.log)?;
        }
        Ok(())
    }

    /// Stops it where it is, or lets it go on.
    pub(super) fn pause(&mut self, pause: bool) -> Result<()> {
        if self.is_running() {
            crate::env::process::pause(self.child.id(), pause)?;
            self.is_paused = pause;
        }
        Ok(())
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// That it has ended by itself, and why.
    fn has_ended(&self) -> Error {
        let name = self.log.file_stem().unwrap_or_default().to_string_lossy();
        let said = last_of(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let last: Vec<&str> = said.lines().rev().filter(|l| !l.trim().is_empty()).take(3).collect();
        let last = last.into_iter().rev().map(str::trim).collect::<Vec<_>>().join(" ");
        let message = match last.is_empty() {
            true => format!("the process {name} has ended without a word"),
            false => format!("the process {name} has ended: {last}"),
        };
        Error::new(ErrorKind::Unavailable, message)
    }
}

/// The end of a file.
fn last_of(path: &Path) -> Result<Vec<u8>> {
    let file = RealDisk.open(path)?;
    let len = file.len()?;
    let from = len.saturating_sub(LAST_WORDS);
    let mut last = vec![0; (len - from) as usize];
    read_exact_at(&*file, path, &mut last, from)?;
    Ok(last)
}

/// What comes of `work`, unless one of the processes ends meanwhile: then that.
async fn unless_one_ends<T>(
    processes: &mut [&mut Process],
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut work = std::pin::pin!(work);
    loop {
        if let Ok(done) = timeout(LOOK, &mut work).await {
            return done;
        }
        if let Some(process) = processes.iter_mut().find_map(|p| (!p.is_running()).then_some(p)) {
            return Err(process.has_ended());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(args: &[String], log: &Path) -> Result<Child> {
    let failed = |e| Error::io("start this program again from", log, e);
    let program = std::env::current_exe().map_err(failed)?;
    let said = crate::env::process::log_file(log)?;
    let command = Command::new(program)
        .args(args)
        .arg("--with-parent")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said)
        .spawn();
    command.map_err(failed)
}

/// A cluster of processes.
pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<u64, Process>,
    pub(super) meta: MetaClient,
    pub(super) client: Client,
    _meta_process: Process,
    _gateway: Process,
}

/// Shows a cluster of `nodes` nodes in `folder`.
///
/// # Errors
/// If anything is not as it should be.
pub fn tour(context: &mut Context, folder: &Path, nodes: u64, interrupt: &Interrupt) -> Outcome {
    let runtime = crate::cli::roles::runtime()?;
    let outcome = runtime.block_on(show(context, folder, nodes, interrupt));
    runtime.shutdown_background();
    outcome
}

async fn show(context: &mut Context, folder: &Path, nodes: u64, stop: &Interrupt) -> Outcome {
    let text = packages::unpack()?;
    let packages = packages::parse(&text)?;
    let begun = Instant::now();
    let replicas = if nodes >= 3 { 3 } else { 1 };
    let mut cluster = stop.or(start(folder, nodes, replicas).await.map_err(Failure::from))?;
    context.say(format_args!(
        "{} processes in {}: a metadata server, {nodes} nodes, a gateway; {SHARDS} shards of \
         {replicas} replicas, up after {:.1} s.",
        nodes + 2,
        folder.display(),
        begun.elapsed().as_secs_f64()
    ));
    let begun = Instant::now();
    let rows: Vec<(String, String)> =
        packages.iter().take(2_000).map(|p| (p.key(), p.to_json())).collect();
    stop.or(load(&cluster.client, &rows).await.map_err(Failure::from))?;
    context.say(format_args!(
        "load: {} packages, each on the disks of a majority before it was answered, in {:.1} s.",
        rows.len(),
        begun.elapsed().as_secs_f64()
    ));

    let meaning = stop.or(by_meaning(&cluster.client).map_err(Failure::from))?;
    context.say(format_args!("meaning: {}.", meaning.step.story));

    let writing = Writing::begin(&cluster.client, 0);
    sleep(BEFORE).await;
    let view = cluster.meta.view();
    let victim = leads_most(&view).ok_or_else(|| Failure::failed("nobody leads a shard"))?;
    let led: Vec<_> =
        view.shards().filter(|s| s.leader_node() == Some(victim)).map(|s| s.slots).collect();
    let killed_at = writing.begun.elapsed();
    if let Some(process) = cluster.nodes.get_mut(&victim.0) {
        process.kill();
    }
    context.say(format_args!(
        "kill -9: node {victim}, which led {} of {SHARDS} shards, {:.1} s into the writing.",
        led.len(),
        killed_at.as_secs_f64()
    ));
    sleep(AFTER).await;
    let (acknowledged, failed) = stop.or(writing.end().await.map_err(Failure::from))?;
    let of_led = |a: &&Acknowledged| {
        let slot = slot_of(key(a.number).as_bytes());
        led.iter().any(|slots| slots.contains(slot))
    };
    let gap = longest_gap(acknowledged.iter().filter(of_led), killed_at);
    let slowest = acknowledged.iter().map(|a| a.took).max().unwrap_or_default();
    context.say(format_args!(
        "write: {} writes acknowledged, {failed} failed; the shards of the killed node took none \
         for {:.0} ms; the slowest answer took {:.0} ms.",
        acknowledged.len(),
        gap.as_secs_f64() * 1e3,
        slowest.as_secs_f64() * 1e3
    ));
    if let Some(process) = cluster.nodes.get_mut(&victim.0) {
        process.restart()?;
    }
    let lost =
        stop.or(missing(&cluster.client, &acknowledged, &rows).await.map_err(Failure::from))?;
    context.printer.record(&[
        ("nodes", Value::from(nodes)),
        ("shards", Value::from(u64::from(SHARDS))),
        ("killed", Value::from(victim.0)),
        ("acknowledged", Value::from(acknowledged.len() as u64)),
        ("failed", Value::from(failed)),
        ("lost", Value::from(lost)),
        ("recall", Value::Float(meaning.recall, 4)),
        ("gap_ms", Value::Float(gap.as_secs_f64() * 1e3, 0)),
        ("slowest_ms", Value::Float(slowest.as_secs_f64() * 1e3, 0)),
    ])?;
    context.printer.finish(None)?;
    if lost > 0 {
        return Err(Failure::failed(format!("{lost} acknowledged writes are lost")));
    }
    if failed > 0 && replicas > 1 {
        return Err(Failure::failed(format!("{failed} writes failed within {DEADLINE:?}")));
    }
    context.say("Every acknowledged write is there.");
    match context.can_ask() {
        true => prompt::run(context, &mut cluster, acknowledged, &rows, stop).await,
        false => Ok(()),
    }
}

/// Puts the embeddings of packages into an index over all shards, and looks for some by meaning.
fn by_meaning(client: &Client) -> Result<Meaning> {
    let (embeddings, clock) = (vectors::unpack()?, RealClock::new());
    // REQUIRES: a runtime of several threads, which others go on with meanwhile.
    let handle = tokio::runtime::Handle::current();
    let ask = |request| tokio::task::block_in_place(|| handle.block_on(client.execute(request)));
    meaning::create(&ask, &embeddings)?;
    let put = client.put_vectors(meaning::INDEX, meaning::stored(&embeddings));
    let put = tokio::task::block_in_place(|| handle.block_on(put))?;
    if let Some(refused) = put.refused.first() {
        return Err(Error::invalid(format!("a vector was refused: {}", refused.message)));
    }
    meaning::find(&ask, &embeddings, 20, &clock)
}

/// Starts the processes, and waits until every shard has a leader.
async fn start(folder: &Path, nodes: u64, replicas: u32) -> Result<Cluster> {
    RealDisk.create_dir_all(folder)?;
    let local = |port: u16| format!("127.0.0.1:{port}");
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let ports = ports::free_ports(2 * nodes as usize + 3)?;
    let dir = |name: &str| folder.join(name).display().to_string();
    let args = |args: &[&str]| args.iter().map(|arg| arg.to_string()).collect::<Vec<_>>();
    let (meta_port, grpc, redis) = (ports[0], ports[1], ports[2]);
    let meta_args = args(&["meta", "--dir", &dir("meta"), "--listen", &local(meta_port)]);
    let mut meta_process = Process::start(folder, "meta", meta_args)?;
    let meta = MetaClient::new(&[local(meta_port)], Hello::nameless(Role::Tool, [0; 16]))?;
    let deadline = Instant::now() + PATIENCE;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&rng::entropy().max(1).to_le_bytes());
    let init = Action::InitCluster { id, name: "demo".into(), version: FORMAT_VERSION };
    unless_one_ends(&mut [&mut meta_process], meta.propose(init, deadline)).await?;
    let mut processes = BTreeMap::new();
    for node in 1..=nodes {
        let at = 3 + 2 * (node as usize - 1);
        let node_args = args(&[
            "node",
            &dir(&format!("node-{node}")),
            &local(ports[at]),
            "--raft-listen",
            &local(ports[at + 1]),
            "--meta",
            &url(meta_port),
            "--id",
            &node.to_string(),
        ]);
        processes.insert(node, Process::start(folder, &format!("node-{node}"), node_args)?);
    }
    let mut all: Vec<&mut Process> = processes.values_mut().collect();
    all.push(&mut meta_process);
    let there = meta.wait_for(deadline, |view| view.nodes().count() as u64 >= nodes);
    unless_one_ends(&mut all, there).await?;
    let create = Action::CreateShards { count: SHARDS, replicas, nodes: Vec::new() };
    unless_one_ends(&mut all, meta.propose(create, deadline)).await?;
    let led = |view: &View| view.shards().count() > 0 && view.shards().all(|s| s.leader.is_some());
    unless_one_ends(&mut all, meta.wait_for(deadline, led)).await?;
    let gateway_args = args(&[
        "gateway",
        "--meta",
        &url(meta_port),
        "--addr",
        &local(grpc),
        "--redis-addr",
        &local(redis),
    ]);
    let mut gateway = Process::start(folder, "gateway", gateway_args)?;
    let options = ClientOptions { call_timeout: DEADLINE, ..ClientOptions::default() };
    let at = url(grpc);
    let connected = async {
        loop {
            match Client::connect(&at, options.clone()).await {
                Ok(client) => return Ok(client),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    all.push(&mut gateway);
    let client = unless_one_ends(&mut all, connected).await?;
    Ok(Cluster { nodes: processes, meta, client, _meta_process: meta_process, _gateway: gateway })
}

/// The node that leads the most shards.
fn leads_most(view: &View) -> Option<NodeId> {
    let leads = |node: NodeId| view.shards().filter(|s| s.leader_node() == Some(node)).count();
    view.nodes().map(|node| node.id).max_by_key(|node| (leads(*node), std::cmp::Reverse(node.0)))
}

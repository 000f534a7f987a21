//! `arqon cluster up`: a cluster as a file describes it.
//!
//! In reading order:
//! - [`topology`]: the file. [`units`]: its processes as units of systemd.
//! - [`processes`]: its processes on this machine.
//! - here the command; [`down`]: its opposite.
//!
//! Invariants owed to whoever runs it:
//! - What runs is left alone; what is there is checked against the file, never changed.
//! - Interrupted anywhere and run again it comes to the same end.
//! - No process is ended but one that was started from here, by number and moment.

pub mod down;
pub mod processes;
pub mod topology;
pub mod units;

use crate::base::ErrorKind;
use crate::catalog::View;
use crate::cli::cluster::init::{Wanted, bring_up};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::{Format, Value};
use crate::cli::settings::Role;
use crate::env::{Disk, RealDisk};
use crate::op::Request;
use crate::rpc::Client;
use crate::rpc::client::ClientOptions;
use crate::rpc::cluster::MetaClient;
use crate::rpc::link::{Hello, Role as LinkRole};
use bytes::Bytes;
use processes::{log_path, names, one_ends, running, start};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use topology::{Part, SAMPLE, Topology};

/// Bring up a cluster as a file describes it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster up --sample > topology.toml
  arqon cluster up -f topology.toml --dry-run
  arqon cluster up -f topology.toml
  arqon cluster up -f topology.toml --print systemd

It starts the processes that do not run, in the background, initialises the cluster if it is new and
waits until it serves. What runs is left alone, so it may be run again at any time; where the
cluster is not as the file says, it tells. Logs and process ids are below the file's `state`.
`arqon cluster down` stops what it started.")]
pub struct Up {
    /// The topology
    #[arg(short, long, value_name = "FILE", required_unless_present = "sample")]
    file: Option<PathBuf>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print units for a service manager instead of starting anything
    #[arg(long, value_enum, value_name = "MANAGER", conflicts_with = "dry_run")]
    print: Option<Manager>,
    /// Print a topology to begin with
    #[arg(long, conflicts_with_all = ["file", "dry_run", "print"])]
    sample: bool,
    /// Seconds to wait until it serves
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
}

/// What looks after processes.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Manager {
    /// Linux.
    Systemd,
}

impl Up {
    /// Runs it.
    pub async fn run(self, context: &mut Context) -> Outcome {
        let Some(file) = self.file.as_ref().filter(|_| !self.sample) else {
            return print(context, "topology", SAMPLE);
        };
        let topology = Topology::read(file)?;
        if let Some(Manager::Systemd) = self.print {
            let program = crate::env::process::executable();
            return print(context, "units", &units::text(&topology, &program));
        }
        if self.dry_run {
            return plan(context, &topology);
        }
        let until = Instant::now() + Duration::from_secs(self.wait);
        RealDisk.create_dir_all(&topology.state)?;
        // Two at once would start everything twice.
        let _lock = RealDisk.lock(&topology.state.join("LOCK"))?;
        context.printer.list("parts", &["part", "state", "pid", "address", "log"])?;
        for role in [Role::Meta, Role::Node] {
            bring(context, &topology, role, until).await?;
        }
        let hello = Hello::nameless(LinkRole::Tool, [0; 16]);
        let client = MetaClient::new(&topology.meta(), hello)?;
        let wanted = Wanted {
            name: topology.name.clone(),
            shards: topology.shards,
            replicas: topology.replicas,
            deadline: until,
        };
        // Nobody waits for a process that has ended.
        let view = tokio::select! {
            view = bring_up(&client, &wanted, context) => view?,
            ended = one_ends(&topology, &[Role::Meta, Role::Node]) => return ended,
        };
        let differences = differences(&topology, &view)?;
        bring(context, &topology, Role::Gateway, until).await?;
        let doors = tokio::select! {
            doors = serves(&topology, until) => doors?,
            ended = one_ends(&topology, &topology::ROLES) => return ended,
        };
        for difference in &differences {
            context.say(format_args!("differs from {}: {difference}", file.display()));
        }
        context.printer.footer("cluster", view.cluster().map(|c| c.name.clone()));
        context.printer.footer("shards", view.shards().count() as u64);
        context.printer.footer_json("differences", differences.into());
        context.printer.finish(None)?;
        context.say(format_args!("Serves at {}.", doors.join(", ")));
        context.say(next_step(&topology, file));
        Ok(())
    }
}

/// Prints a text as it is, or as a field where data is asked for.
fn print(context: &mut Context, name: &'static str, text: &str) -> Outcome {
    match context.printer.format() {
        Format::Table | Format::Plain => {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes())?;
            Ok(out.flush()?)
        }
        _ => {
            context.printer.record(&[(name, Value::from(text.to_string()))])?;
            context.printer.finish(None)
        }
    }
}

/// Says what would be done.
fn plan(context: &mut Context, topology: &Topology) -> Outcome {
    context.printer.list("parts", &["part", "would", "command"])?;
    for part in &topology.parts {
        let would = if running(&topology.state, &part.name)?.is_some() { "leave" } else { "start" };
        let command = format!("arqon {}", part.args.join(" "));
        context.printer.row(vec![
            Value::from(part.name.clone()),
            Value::from(would),
            Value::from(command),
        ])?;
    }
    context.printer.footer("cluster", topology.name.clone());
    context.printer.footer("shards", u64::from(topology.shards));
    context.printer.footer("replicas", u64::from(topology.replicas));
    context.printer.finish(None)
}

/// Starts the processes of a role that do not run.
async fn bring(context: &mut Context, topology: &Topology, role: Role, until: Instant) -> Outcome {
    for part in topology.of(role) {
        let (state, process) = match running(&topology.state, &part.name)? {
            Some(process) => ("running", process),
            None => ("started", start(topology, part, until).await?),
        };
        context.printer.row(vec![
            Value::from(part.name.clone()),
            Value::from(state),
            Value::from(u64::from(process.pid)),
            Value::from(part.reached.to_string()),
            Value::from(log_path(topology, part).display().to_string()),
        ])?;
    }
    Ok(())
}

/// Where a cluster is not as the file says.
///
/// # Errors
/// If it is another cluster.
fn differences(topology: &Topology, view: &View) -> Outcome<Vec<String>> {
    let name = view.cluster().map(|cluster| cluster.name.clone()).unwrap_or_default();
    if name != topology.name {
        let message = format!(
            "the metadata servers keep the cluster {name}, and the file describes {}",
            topology.name
        );
        let failure = Failure::from(crate::base::Error::new(ErrorKind::Conflict, message));
        return Err(failure.fix("name the cluster so, or give the file folders of its own"));
    }
    let mut found = Vec::new();
    let shards = view.shards().count() as u64;
    if shards != u64::from(topology.shards) {
        found.push(format!("there are {shards} shards, not {}", topology.shards));
    }
    let odd = view.shards().filter(|shard| shard.desired != topology.replicas).count();
    if odd > 0 {
        found.push(format!(
            "{odd} shards have another number of replicas than {}",
            topology.replicas
        ));
    }
    let told: BTreeSet<String> =
        topology.of(Role::Node).map(|part| part.reached.to_string()).collect();
    let removed = crate::catalog::records::NodeState::Removed;
    let live: Vec<_> = view.nodes().filter(|node| node.state != removed).collect();
    for node in live.iter().filter(|node| !told.contains(&node.profile.raft_addr)) {
        found.push(format!("node {} at {} is not in the file", node.id, node.profile.raft_addr));
    }
    for address in told.iter().filter(|at| live.iter().all(|n| n.profile.raft_addr != **at)) {
        found.push(format!("the node at {address} has not registered yet"));
    }
    for name in names(&topology.state)? {
        let is_known = topology.parts.iter().any(|part| part.name == name);
        if !is_known && running(&topology.state, &name)?.is_some() {
            found.push(format!("{name} runs and is not in the file; `arqon cluster down` ends it"));
        }
    }
    Ok(found)
}

/// Waits until clients are answered; gives where.
async fn serves(topology: &Topology, until: Instant) -> Outcome<Vec<String>> {
    let gateways: Vec<&Part> = topology.of(Role::Gateway).collect();
    let parts = if gateways.is_empty() { topology.of(Role::Node).collect() } else { gateways };
    let mut doors = Vec::new();
    for part in parts {
        // A gateway's first door, as a node's, is for gRPC.
        let Some(address) = part.listens.first() else { continue };
        let address = address.to_string().replace("0.0.0.0:", "127.0.0.1:");
        let url = format!("http://{}", address.replace("[::]:", "[::1]:"));
        loop {
            match answers(&url).await {
                Ok(()) => break,
                Err(error) if Instant::now() >= until => {
                    let failure = Failure::from(error.context(&part.name));
                    return Err(failure.fix(format!("see {}", log_path(topology, part).display())));
                }
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
        doors.push(format!("{url} (gRPC)"));
        if part.role == Role::Gateway
            && let Some(redis) = part.listens.get(1)
        {
            doors.push(format!("{redis} (Redis)"));
        }
    }
    Ok(doors)
}

async fn answers(url: &str) -> crate::base::Result<()> {
    let options = ClientOptions { call_timeout: Duration::from_secs(5), ..Default::default() };
    let client = Client::connect(url, options).await?;
    let key = Bytes::from_static(b"arqon cluster up");
    client.execute(Request::Get { cf: Default::default(), key }).await.map(drop)
}

fn next_step(topology: &Topology, file: &std::path::Path) -> String {
    let meta = topology.meta();
    let at = meta.first().map_or("", String::as_str);
    let try_it = match topology.of(Role::Gateway).next() {
        Some(gateway) => {
            let address = |at: usize| gateway.listens.get(at).map(ToString::to_string);
            let (grpc, redis) = (address(0).unwrap_or_default(), address(1).unwrap_or_default());
            format!("arqon repl --addr {redis} --grpc {grpc}")
        }
        None => format!("arqon cluster status --meta http://{at}"),
    };
    format!("Try: {try_it}    Stop: arqon cluster down -f {}", file.display())
}

//! `arqon bench`: flags that benches of keys share, and the run over the stages; [`vector`] stands
//! for itself.

pub mod kv;
mod kv_target;
pub mod redis;
mod redis_target;
pub mod vector;

use crate::bench::{self, Data, Figures, Plan, Target, Workload};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Value;
use crate::env::RealClock;
use std::io::IsTerminal;

/// `arqon bench`.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Kv(kv::Kv),
    Redis(redis::Redis),
    Vector(vector::Vector),
}

impl Bench {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        match self.what {
            What::Kv(kv) => kv.run(context),
            What::Redis(redis) => redis.run(context),
            What::Vector(vector) => vector.run(context),
        }
    }
}

/// Flags of every bench of keys.
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// Stages to run, in this order [default: fill read mixed scan]
    #[arg(value_enum)]
    workloads: Vec<Workload>,
    /// Keys to work on
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Bytes of a key
    #[arg(long, value_name = "BYTES", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    key_size: u32,
    /// Bytes of a value; values do not compress
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=67_108_864))]
    value_size: u32,
    /// Operations of a stage [default: as many as keys for fill, no limit for others]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    ops: Option<u64>,
    /// Seconds a stage lasts [default: no limit for fill, 5 for others without --ops]
    #[arg(long, value_name = "S", value_parser = positive)]
    seconds: Option<f64>,
    /// Operations a second, all clients together: latency then counts from the moment an
    /// operation was due, sent or not [default: as fast as answers come]
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,
    /// Share of reads in mixed
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=100))]
    read_percent: u32,
    /// Keys that a scan reads
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    scan_keys: u32,
    /// What all random choices follow from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Who puts the load on, and until when.
pub struct Clients<'a> {
    /// Sessions, each with a thread.
    pub sessions: u64,
    /// Operations sent before their answers are awaited.
    pub pipeline: u64,
    /// Ends the bench early.
    pub interrupt: &'a Interrupt,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() && x > 0.0 => Ok(x),
        _ => Err("give a number above 0".to_string()),
    }
}

impl Load {
    fn workloads(&self) -> Vec<Workload> {
        if self.workloads.is_empty() {
            return vec![Workload::Fill, Workload::Read, Workload::Mixed, Workload::Scan];
        }
        self.workloads.clone()
    }

    /// The keys and values, with keys that begin with `prefix`.
    pub fn data(&self, prefix: &str) -> Data {
        let mut data = Data::new(
            self.keys,
            prefix,
            self.key_size as usize,
            self.value_size as usize,
            self.seed,
        );
        data.read_percent = self.read_percent;
        data.scan_keys = self.scan_keys;
        data
    }

    fn plan(&self, workload: Workload, clients: &Clients<'_>) -> Plan {
        let fill = workload == Workload::Fill;
        let ops = self.ops.or((fill && self.seconds.is_none()).then_some(self.keys));
        let seconds = self.seconds.or((!fill && self.ops.is_none()).then_some(5.0));
        Plan {
            workload,
            sessions: clients.sessions,
            pipeline: clients.pipeline,
            ops,
            seconds,
            rate: self.rate,
            seed: self.seed,
            progress: std::io::stderr().is_terminal(),
            interrupted: clients.interrupt.flag(),
        }
    }

    /// Runs the stages and prints a row for each. `settings` says what was measured, for the
    /// reader of the figures.
    pub fn run(
        &self,
        context: &mut Context,
        target: &dyn Target,
        data: &Data,
        clients: &Clients<'_>,
        settings: Vec<(&'static str, Value)>,
    ) -> Outcome {
        let clock = RealClock::new();
        context.printer.list("stages", COLUMNS)?;
        for (name, value) in settings {
            context.printer.footer(name, value);
        }
        self.describe(context, clients);
        for workload in self.workloads() {
            let plan = self.plan(workload, clients);
            let ran = bench::run(&plan, data, target, &clock);
            let figures = clients.interrupt.or(ran.map_err(Failure::from))?;
            context.printer.row(row(&figures))?;
            if workload == Workload::Read && figures.tally.missing == figures.latency.len() {
                context.say("note: read found no key; run fill first");
            }
        }
        Ok(())
    }

    fn describe(&self, context: &mut Context, clients: &Clients<'_>) {
        let cpus = std::thread::available_parallelism().map_or(0, |n| n.get() as u64);
        context.printer.footer("clients", clients.sessions);
        context.printer.footer("pipeline", clients.pipeline);
        context.printer.footer("keys", self.keys);
        context.printer.footer("key_bytes", u64::from(self.key_size));
        context.printer.footer("value_bytes", u64::from(self.value_size));
        context.printer.footer("rate", self.rate.map_or(Value::Null, |r| Value::Float(r, 1)));
        context.printer.footer("cpus", cpus);
        context.printer.footer("arqon", env!("CARGO_PKG_VERSION"));
    }
}

/// Sessions are threads; more than this is a mistake.
pub const SESSIONS_MAX: u64 = 10_000;

/// Refuses a number of sessions out of range.
pub fn check_sessions(flag: &str, sessions: u64) -> Outcome {
    if (1..=SESSIONS_MAX).contains(&sessions) {
        return Ok(());
    }
    Err(Failure::usage(format!("{flag} is {sessions}; it takes 1 to {SESSIONS_MAX}")))
}

/// Latencies are in microseconds. An operation's latency is its batch's.
const COLUMNS: &[&str] = &[
    "workload",
    "ops",
    "seconds",
    "ops_per_s",
    "mib_per_s",
    "p50_us",
    "p90_us",
    "p99_us",
    "p999_us",
    "max_us",
    "cpu_us_per_op",
    "missing",
];

fn row(figures: &Figures) -> Vec<Value> {
    let ops = figures.latency.len();
    let seconds = figures.elapsed_ns as f64 / 1e9;
    let us = |ns: u64| Value::Float(ns as f64 / 1e3, 1);
    let cpu_us = figures.cpu_seconds.map(|s| s * 1e6 / ops.max(1) as f64);
    vec![
        Value::from(figures.workload.name()),
        Value::from(ops),
        Value::Float(seconds, 3),
        Value::Float(ops as f64 / seconds, 0),
        Value::Float(figures.tally.bytes as f64 / seconds / 1_048_576.0, 1),
        us(figures.latency.value_at_quantile(0.5)),
        us(figures.latency.value_at_quantile(0.9)),
        us(figures.latency.value_at_quantile(0.99)),
        us(figures.latency.value_at_quantile(0.999)),
        us(figures.latency.max()),
        cpu_us.map_or(Value::Null, |us| Value::Float(us, 2)),
        Value::from(figures.tally.missing),
    ]
}

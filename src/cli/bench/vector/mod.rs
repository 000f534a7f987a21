//! `arqon bench vector`: recall and throughput of searches, never one without the other.
//!
//! In reading order:
//! - this file: the flags, the run, the rows.
//! - [`data`]: what is loaded and searched for.
//! - [`load`]: storing and linking. [`measure`]: searching.

mod data;
mod load;
mod measure;

use super::check_sessions;
use crate::base::ErrorKind;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::folder::remove_tree;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Value;
use crate::cli::vector::create::Made;
use crate::cli::vector::input::FileFormat;
use crate::cli::vector::target::Target;
use crate::env::rng;
use crate::log::SyncLevel;
use crate::node::Options;
use crate::op::vector::VectorCall;
use crate::op::vector::search::EF_MAX;
use data::{Data, Source};
use indicatif::{ProgressBar, ProgressStyle};
use measure::{Ask, Point};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// The index that is made, unless a name is given.
const INDEX: &str = "arqon-bench";

/// Measure searches among vectors: recall and throughput together
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon bench vector
  arqon bench vector --vectors 100000 --dim 384 --metric cosine --ef 16,64,256 --threads 2
  arqon bench vector --file docs.f16 --format f16 --dim 384 --metric cosine --queries q.f16
  arqon bench vector --addr 127.0.0.1:9379 --quantisation packed --output json
  arqon bench vector --data ./arqon-data --index docs --queries q.f16 --format f16

Vectors are stored in an index, which is dropped in the end, in a folder of its own below the
system's temporary folder, in --data DIR, or in the server at --addr. What is to be found is worked
out by exact search; recall is the share of the k nearest of all queries that a search with ef
candidates finds. The rows: store (until all are acknowledged), link (until they are in the graph),
memory (with --in-memory: the same graph built without a store), exact, and search for each ef. With
--output json and ndjson each is an object on a line of its own.

Without --file the vectors are made up in clusters, which are easier to search than most real ones.")]
pub struct Vector {
    /// Server to measure [default: the engine in this process]
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["data", "sync", "memory"])]
    addr: Option<String>,
    /// Data folder to work in [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// When a write is answered: always, interval, interval:MS or os
    #[arg(long, value_name = "LEVEL", default_value = "interval")]
    sync: SyncLevel,
    /// Memory in MiB, half of it for indexes
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(8..=1 << 20))]
    memory: u64,
    /// Search this index, which is there, and load nothing
    #[arg(long, value_name = "NAME", requires = "queries", conflicts_with_all = ["file", "in_memory"])]
    index: Option<String>,
    /// File of vectors to load [default: vectors in clusters, made up]
    #[arg(long, value_name = "FILE", requires = "format")]
    file: Option<PathBuf>,
    /// File of queries [default: with --file its last vectors, which are not loaded then]
    #[arg(long, value_name = "FILE", requires = "format")]
    queries: Option<PathBuf>,
    /// How vectors stand in the files
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FileFormat>,
    /// Numbers in a vector [default: what the file says; 128 of those made up]
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    dim: Option<u32>,
    /// Vectors to load [default: all of the file; 20000 of those made up]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    vectors: Option<u64>,
    /// Queries [default: all of their file; else 200]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    query_count: Option<u64>,
    /// Neighbours of a query
    #[arg(long, value_name = "K", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    k: u32,
    /// Candidates to keep, one after the other
    #[arg(long, value_name = "EF,..", value_delimiter = ',', default_value = "16,32,64,128,256",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(EF_MAX)))]
    ef: Vec<u32>,
    /// Threads that store and search, each with a connection of its own to a server
    #[arg(long, visible_alias = "clients", value_name = "N", default_value_t = 1)]
    threads: u64,
    /// Seconds that each ef is measured, at least until every query was asked once
    #[arg(long, value_name = "S", default_value = "2", value_parser = super::positive)]
    seconds: f64,
    /// What made up vectors follow from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Build the same graph in memory too, without a store, on the 2 threads that the background has
    #[arg(long)]
    in_memory: bool,
    /// Keep the index
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    made: Made,
}

impl Vector {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        check_sessions("--threads", self.threads)?;
        // Before there is anything to leave behind.
        let data = self.data_of()?;
        let interrupt = Interrupt::watch()?;
        let temporary = (self.addr.is_none() && self.data.is_none())
            .then(|| std::env::temp_dir().join(format!("arqon-bench-{:016x}", rng::entropy())));
        let folder = self.data.clone().or(temporary.clone());
        let targets = self.targets(folder.as_deref());
        let measured = targets.and_then(|targets| {
            let ran = self.load_and_search(context, &targets, data, &interrupt);
            interrupt.or(ran)
        });
        if let Some(folder) = temporary {
            // What cannot be removed is left for the system to clean up; the figures stand.
            _ = remove_tree(&folder);
        }
        measured
    }

    /// A target for each thread.
    fn targets(&self, folder: Option<&Path>) -> Outcome<Vec<Target>> {
        let open = |_| match (&self.addr, folder) {
            (Some(addr), _) => Target::server(addr),
            (None, Some(folder)) => Target::folder(folder, self.sync, self.memory, true),
            (None, None) => Err(Failure::usage("give --addr or --data")),
        };
        let first = open(0)?;
        let mut targets = Vec::new();
        for number in 1..self.threads {
            targets.push(match &first {
                Target::Local(db) => Target::Local(db.clone()),
                Target::Server(..) => open(number)?,
            });
        }
        targets.push(first);
        Ok(targets)
    }

    fn data_of(&self) -> Outcome<Data> {
        let count = self.query_count.map_or(usize::MAX, |n| n as usize);
        let most = self.vectors.map_or(usize::MAX, |n| n as usize);
        let dim = self.dim.map(|dim| dim as usize);
        let source = |path| self.format.map(|format| Source { path, format });
        let asked = |dim| match self.queries.as_deref().and_then(source) {
            Some(source) => {
                let read = data::read(source, dim, count)?;
                Ok(Some(read.into_iter().map(|one| one.vector).collect::<Vec<_>>()))
            }
            None => Outcome::Ok(None),
        };
        if self.index.is_some() {
            let queries = asked(dim)?.unwrap_or_default();
            let dim = queries.first().map_or(0, |query| query.len());
            return Ok(Data { dim, vectors: Vec::new(), queries });
        }
        let few = if self.query_count.is_some() { count } else { 200 };
        let Some(source) = self.file.as_deref().and_then(source) else {
            let vectors = self.vectors.unwrap_or(20_000) as usize;
            let mut data = data::clustered(dim.unwrap_or(128), vectors, few, self.seed);
            data.queries = asked(Some(data.dim))?.unwrap_or(data.queries);
            return Ok(data);
        };
        let own_queries = if self.queries.is_none() { few } else { 0 };
        let mut vectors = data::read(source, dim, most.saturating_add(own_queries))?;
        let dim = vectors.first().map_or(0, |one| one.vector.len());
        if vectors.len() <= own_queries {
            let message = format!("{} vectors are too few to take queries of", vectors.len());
            return Err(Failure::usage(message).fix("give fewer with --query-count"));
        }
        let last = vectors.split_off(vectors.len() - own_queries);
        let last = last.into_iter().map(|one| one.vector).collect();
        Ok(Data { dim, vectors, queries: asked(Some(dim))?.unwrap_or(last) })
    }

    fn load_and_search(
        &self,
        context: &mut Context,
        targets: &[Target],
        data: Data,
        interrupt: &Interrupt,
    ) -> Outcome {
        let Some(target) = targets.first() else { return Err(Failure::failed("nobody measures")) };
        let name = self.index.as_deref().unwrap_or(INDEX);
        if self.index.is_some() {
            let has = target.describe(name)?.spec.dim as usize;
            if has != data.dim {
                let of = data.dim;
                let message =
                    format!("index {name} has vectors of {has} numbers, the queries {of}");
                return Err(Failure::usage(message));
            }
            return self.report(context, targets, &data, interrupt);
        }
        target.call(VectorCall::Create(self.made.spec(name, data.dim as u32))).map_err(
            |failure| match failure.code == ErrorKind::AlreadyExists.name() {
                true => failure.fix(format!("drop it with: arqon vector drop {name}")),
                false => failure,
            },
        )?;
        let ran = self.report(context, targets, &data, interrupt);
        if !self.keep {
            let dropped = target.call(VectorCall::Drop { index: name.to_string() });
            return ran.and(dropped.map(drop));
        }
        ran
    }

    fn report(
        &self,
        context: &mut Context,
        targets: &[Target],
        data: &Data,
        interrupt: &Interrupt,
    ) -> Outcome {
        let Some(target) = targets.first() else { return Err(Failure::failed("nobody measures")) };
        let name = self.index.as_deref().unwrap_or(INDEX);
        let mut rows = Rows { context, k: self.k };
        rows.begin()?;
        let count = data.vectors.len() as u64;
        let info = if self.index.is_none() {
            let loaded = load::load(targets, name, &data.vectors, interrupt)?;
            rows.rate("store", count, loaded.stored_ns)?;
            rows.rate("link", count, loaded.linked_ns)?;
            if self.in_memory {
                let threads = Options::default().background_threads;
                let spec = &loaded.info.spec;
                let ns = load::build_in_memory(spec, &data.vectors, threads, interrupt)?;
                rows.rate("memory", count, ns)?;
            }
            loaded.info
        } else {
            target.describe(name)?
        };
        let (index, queries) = (name, &data.queries[..]);
        let ask = Ask { index, queries, k: self.k, seconds: self.seconds, interrupt };
        let (truth, exact) = ask.truth(target)?;
        rows.point(&exact)?;
        // Fewer candidates than neighbours are not kept: what is told is what was done.
        let mut kept: Vec<u32> = self.ef.iter().map(|ef| (*ef).max(self.k)).collect();
        kept.dedup();
        for ef in kept {
            rows.point(&ask.measure(targets, &truth, ef)?)?;
        }
        let per = |bytes: u64| bytes as f64 / info.vectors.max(1) as f64;
        rows.context.say(format_args!(
            "{} vectors of {} numbers, {}, {}, {}, m {}, ef_construction {}; {} queries of {} \
             neighbours on {} threads; {:.0} bytes of memory a vector, and {:.0} on disk beside its \
             record",
            info.vectors,
            info.spec.dim,
            info.spec.metric.name(),
            info.spec.kind.name(),
            info.spec.quantisation.name(),
            info.spec.m,
            info.spec.ef_construction,
            queries.len(),
            self.k,
            self.threads,
            per(info.memory_bytes),
            per(info.disk_bytes),
        ));
        Ok(())
    }
}

/// The rows as they are measured.
struct Rows<'a> {
    context: &'a mut Context,
    k: u32,
}

/// Latencies are in microseconds; distances, estimates and hops are those of one search.
const COLUMNS: &[&str] = &[
    "stage",
    "ef",
    "recall",
    "count",
    "seconds",
    "per_second",
    "p50_us",
    "p99_us",
    "distances",
    "estimates",
    "hops",
];

impl Rows<'_> {
    fn begin(&mut self) -> Outcome {
        match self.context.printer.format().is_json() {
            true => Ok(()),
            false => self.context.printer.list("stages", COLUMNS),
        }
    }

    fn rate(&mut self, stage: &str, count: u64, ns: u64) -> Outcome {
        let seconds = ns.max(1) as f64 / 1e9;
        let mut row = vec![
            Value::from(stage),
            Value::Null,
            Value::Null,
            Value::from(count),
            Value::Float(seconds, 3),
            Value::Float(count as f64 / seconds, 0),
        ];
        row.resize(COLUMNS.len(), Value::Null);
        self.row(row)
    }

    fn point(&mut self, point: &Point) -> Outcome {
        let seconds = point.elapsed_ns.max(1) as f64 / 1e9;
        let us = |quantile| point.latency.value_at_quantile(quantile) as f64 / 1e3;
        let each = |sum: u64| Value::Float(sum as f64 / point.searches.max(1) as f64, 1);
        self.row(vec![
            Value::from(if point.ef.is_some() { "search" } else { "exact" }),
            point.ef.map_or(Value::Null, |ef| Value::from(u64::from(ef))),
            Value::Float(point.recall, 4),
            Value::from(point.searches),
            Value::Float(seconds, 3),
            Value::Float(point.searches as f64 / seconds, 0),
            Value::Float(us(0.5), 1),
            Value::Float(us(0.99), 1),
            each(point.distances),
            each(point.estimates),
            each(point.hops),
        ])
    }

    fn row(&mut self, row: Vec<Value>) -> Outcome {
        if !self.context.printer.format().is_json() {
            return self.context.printer.row(row);
        }
        let named = COLUMNS.iter().zip(&row).filter(|(_, value)| **value != Value::Null);
        let mut object: serde_json::Map<String, serde_json::Value> =
            named.map(|(name, value)| (name.to_string(), value.json())).collect();
        if object.contains_key("recall") {
            object.insert("k".to_string(), self.k.into());
        }
        self.context.printer.object(&object.into())
    }
}

/// A bar on standard error, where that is a terminal.
fn progress(what: &'static str, count: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{msg:6} {bar:30} {human_pos}/{human_len} {per_sec}, {eta} left";
    let bar = ProgressBar::new(count).with_message(what);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

//! `arqon demo`: the main job on real data, with figures, in seconds.
//!
//! In reading order:
//! - [`packages`]: the data: a sample of Debian's package index inside the program.
//! - [`store`]: the engine as the demo uses it, in a folder of its own.
//! - [`steps`]: load, read, scan, expire, compare-and-swap, snapshot.
//! - [`vectors`]: embeddings of packages; [`meaning`]: packages found by them.
//! - [`writer`], [`crash`]: a second process that writes until it is killed, and the count of what
//!   it was promised afterwards.
//! - [`cluster`]: the same with a cluster of processes, whose leader is killed; [`ports`]: where they
//!   listen; [`records`]: what is written meanwhile; [`prompt`]: faults by hand, for a person at a
//!   terminal.
//!
//! Every step checks what it finds; the first thing missing ends the demo as a failure, and the
//! files stay for a look at them.

pub mod cluster;
pub mod crash;
pub mod meaning;
pub mod packages;
pub mod ports;
pub mod prompt;
pub mod records;
pub mod steps;
pub mod store;
pub mod vectors;
pub mod writer;

use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::folder::remove_tree;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Value;
use crate::env::{Clock, RealClock, rng};
use crate::log::SyncLevel;
use std::path::PathBuf;
use steps::Step;
use store::Store;

/// Show the main job on real data: load, read, scan, find by meaning, expire, swap, kill -9, reopen
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon demo
  arqon demo --sync always --keep
  arqon demo --output json
  arqon demo --nodes 3

With --nodes it starts a cluster of processes on this machine, writes, kills the node that leads
most, writes on, and looks for every acknowledged write. On a terminal a prompt follows, with which
to kill, restart, pause and resume nodes.

It works in a folder of its own below the system's temporary folder, and removes it in the end.
Exit code 1 means that something was not as it should be; the files are kept then.")]
pub struct Demo {
    /// When a write is acknowledged: always (synced), interval (synced soon), os (with the kernel)
    #[arg(long, value_name = "LEVEL", default_value_t)]
    sync: SyncLevel,
    /// Show a cluster of so many nodes instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: Option<u64>,
    /// Keep the files
    #[arg(long)]
    keep: bool,
    /// Write into this folder until killed, and print what was acknowledged
    #[arg(long, hide = true, value_name = "DIR")]
    writer: Option<PathBuf>,
}

impl Demo {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        if let Some(folder) = &self.writer {
            return Ok(writer::write_until_killed(folder, self.sync)?);
        }
        let folder = std::env::temp_dir().join(format!("arqon-demo-{:016x}", rng::entropy()));
        let interrupt = Interrupt::watch()?;
        let outcome = interrupt.or(match self.nodes {
            Some(nodes) => cluster::tour(context, &folder, nodes, &interrupt),
            None => self.tour(context, &folder, &interrupt),
        });
        let is_over = |failure: &Failure| failure.exit == Exit::Interrupted;
        match (&outcome, self.keep) {
            (Ok(()), false) => remove_tree(&folder)?,
            // Nothing there is worth a look, and there may be nothing there yet.
            (Err(failure), false) if is_over(failure) => _ = remove_tree(&folder),
            _ => context.say(format_args!("The files are kept in {}.", folder.display())),
        }
        outcome
    }

    fn tour(
        &self,
        context: &mut Context,
        folder: &std::path::Path,
        interrupt: &Interrupt,
    ) -> Outcome {
        let clock = RealClock::new();
        let text = packages::unpack()?;
        let packages = packages::parse(&text)?;
        context.say(format_args!(
            "{} packages of Debian 12, from the program itself, into {} at sync {}.",
            packages.len(),
            folder.display(),
            self.sync,
        ));
        context.printer.list("steps", &["step", "count", "ms", "per_second", "result"])?;

        let store = Store::open(folder, self.sync)?;
        let tour = steps::Tour { store: &store, packages: &packages, clock: &clock };
        for step in [
            steps::load,
            steps::read,
            steps::scan,
            steps::expire,
            steps::compare_and_swap,
            steps::snapshot,
        ] {
            show(context, interrupt.or(step(&tour).map_err(Failure::from))?)?;
        }
        let embeddings = vectors::unpack()?;
        let ask = |request| store.execute(request);
        let embedded = meaning::embed(&tour, &embeddings);
        show(context, interrupt.or(embedded.map_err(Failure::from))?)?;
        let meaning = meaning::find(&ask, &embeddings, 1, &clock);
        let meaning = interrupt.or(meaning.map_err(Failure::from))?;
        let found = [&meaning.like, &meaning.asked]
            .map(|(query, names)| serde_json::json!({ "query": query, "packages": names }));
        show(context, meaning.step)?;
        drop(store);

        let crash = crash::kill_and_count(folder, self.sync, &packages, &clock);
        let crash = interrupt.or(crash.map_err(Failure::from))?;
        let (lost, torn) = (crash.lost, crash.torn);
        context.printer.footer("packages", packages.len() as u64);
        context.printer.footer("recall", Value::Float(meaning.recall, 4));
        context.printer.footer_json("found", serde_json::json!(found));
        context.printer.footer("acknowledged", crash.acknowledged);
        context.printer.footer("lost", lost);
        context.printer.footer("torn", torn);
        context.printer.footer("reopen_ms", Value::Float(crash.reopen_ns as f64 / 1e6, 1));
        for step in crash.steps {
            show(context, step)?;
        }
        let store = Store::open(folder, self.sync)?;
        let again = meaning::find(&|request| store.execute(request), &embeddings, 10, &clock);
        let again = interrupt.or(again.map_err(Failure::from))?;
        if again.like != meaning.like || again.asked != meaning.asked {
            return Err(Failure::failed("other packages are found by meaning than before"));
        }
        drop(store);
        if lost > 0 || torn > 0 {
            return Err(Failure::failed(format!(
                "{lost} acknowledged writes are lost and {torn} batches are there in part"
            )));
        }
        context.say(format_args!(
            "Every one of the {} acknowledged writes survived kill -9, in {:.1} s all told.",
            crash.acknowledged,
            clock.monotonic_ns() as f64 / 1e9
        ));
        Ok(())
    }
}

fn show(context: &mut Context, step: Step) -> Outcome {
    context.say(format_args!("{}: {}", step.name, step.story));
    let rate = (step.count > 0 && step.ns > 0).then(|| step.count * 1_000_000_000 / step.ns);
    context.printer.row(vec![
        Value::from(step.name),
        Value::from(step.count),
        Value::Float(step.ns as f64 / 1e6, 1),
        Value::from(rate),
        Value::from(step.result),
    ])
}

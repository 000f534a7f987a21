//! Floor 10: the program: flags, prompts, screens. A command line becomes a call of the library,
//! and its data and errors take the one form that all commands share.
//!
//! Words: a *leaf* is a subcommand that does something (`sst dump`), in a file of its own; a
//! *failure* is an error on its way out of the program.
//!
//! In reading order:
//! - [`args`]: the command line as data, global flags, help.
//! - [`exit`], [`failure`]: exit codes, and errors with the next step.
//! - [`output`]: the one renderer; [`color`]: when to colour.
//! - [`context`]: what a leaf gets: printer, talk, `--yes`.
//! - [`interrupt`]: Ctrl-C and SIGTERM.
//! - [`settings`]: what the servers can be told, from flags, variables, a file or defaults.
//! - [`folder`]: where things lie in a data folder. [`record`]: a stored record as the offline tools print it.
//! - the leaves, a folder or file for each word of the command line.
//!
//! Invariants owed to whoever runs the program:
//! - Standard output carries data only; everything else goes to standard error.
//! - With a JSON format standard output is valid JSON whatever happens, and the exit code is the
//!   same as without.
//! - Exit codes and the names of errors do not change their meaning.
//! - Without a terminal nothing is asked, coloured or animated.
//! - A closed pipe ends the program quietly.

pub mod args;
pub mod bench;
pub mod check;
pub mod cluster;
pub mod color;
pub mod config;
pub mod context;
pub mod demo;
pub mod dev;
pub mod exit;
pub mod failure;
pub mod folder;
pub mod interrupt;
pub mod manifest;
pub mod output;
pub mod record;
pub mod repl;
pub mod roles;
pub mod settings;
pub mod sst;
pub mod vector;
pub mod wal;

use args::{Cli, Globals};
use clap::FromArgMatches;
use context::Context;
use exit::Exit;
use failure::Outcome;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program with this process's arguments.
pub fn main() -> ExitCode {
    ExitCode::from(run(std::env::args_os().collect()).code())
}

fn run(args: Vec<OsString>) -> Exit {
    let early = Globals::glimpse(&args);
    let parsed = args::command(early.color.unwrap_or_default())
        .try_get_matches_from(&args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return refuse_line(error, &early),
    };
    let mut context = match Context::new(&cli.globals) {
        Ok(context) => context,
        Err(failure) => return Context::plain(&early).end(Err(failure)),
    };
    let outcome = cli.command.run(&mut context);
    context.end(outcome)
}

/// Ends a run whose command line asks for help or is wrong.
fn refuse_line(error: clap::Error, early: &Globals) -> Exit {
    if !error.use_stderr() {
        // Help and version are data. A reader that has gone needs none.
        _ = error.print();
        return Exit::Ok;
    }
    let context = Context::plain(early);
    if !context.printer.format().is_json() {
        _ = error.print();
        return Exit::Usage;
    }
    context.end(Err(args::usage_failure(&error)))
}

impl args::Command {
    fn run(self, context: &mut Context) -> Outcome {
        match self {
            args::Command::Repl(repl) => repl.run(context),
            args::Command::Sst(sst) => sst.run(context),
            args::Command::Vector(vector) => vector.run(context),
            args::Command::Wal(wal) => wal.run(context),
            args::Command::Manifest(manifest) => manifest.run(context),
            args::Command::Dev(dev) => dev.run(context),
            args::Command::Meta(meta) => meta.run(context),
            args::Command::Node(node) => node.run(context),
            args::Command::Gateway(gateway) => gateway.run(context),
            args::Command::Cluster(cluster) => cluster.run(context),
            args::Command::Config(config) => config.run(context),
            args::Command::Check(check) => check.run(context),
            args::Command::Bench(bench) => bench.run(context),
            args::Command::Demo(demo) => demo.run(context),
        }
    }
}

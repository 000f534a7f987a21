//! The command line as data: global flags, the tree of subcommands, and their help.

use crate::cli::bench::Bench;
use crate::cli::check::Check;
use crate::cli::cluster::Cluster;
use crate::cli::color::When;
use crate::cli::config::Config;
use crate::cli::demo::Demo;
use crate::cli::dev::Dev;
use crate::cli::exit;
use crate::cli::failure::Failure;
use crate::cli::manifest::Manifest;
use crate::cli::output::Format;
use crate::cli::repl::Repl;
use crate::cli::roles::gateway::Gateway;
use crate::cli::roles::meta::Meta;
use crate::cli::roles::node::Node;
use crate::cli::sst::Sst;
use crate::cli::vector::Vector;
use crate::cli::wal::Wal;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "arqon",
    version,
    about = "A database for AI agents: keys and values, vectors and temporal graphs in one engine",
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    styles = Styles::styled()
        .header(AnsiColor::Yellow.on_default().bold())
        .usage(AnsiColor::Yellow.on_default().bold())
        .literal(AnsiColor::Cyan.on_default())
        .placeholder(AnsiColor::Green.on_default())
)]
pub struct Cli {
    /// Flags that stand anywhere.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes, before or behind its name.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Globals {
    /// Form of the data on standard output [default: $ARQON_OUTPUT, else table]
    #[arg(long, short = 'o', global = true, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// When to colour [default: auto]
    #[arg(long, global = true, value_enum, value_name = "WHEN")]
    pub color: Option<When>,
    /// Do what would otherwise be asked about or refused
    #[arg(long, short = 'y', global = true)]
    pub yes: bool,
}

impl Globals {
    /// What `--output` and `--color` say on a command line that may be wrong elsewhere.
    pub fn glimpse(args: &[OsString]) -> Globals {
        let mut found = Globals::default();
        let mut args = args.iter().skip(1).map(|arg| arg.to_string_lossy());
        while let Some(arg) = args.next() {
            if arg == "--" {
                break;
            }
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name.to_string(), Some(value.to_string())),
                None if arg.starts_with("-o") && arg.len() > 2 => {
                    ("-o".to_string(), Some(arg[2..].to_string()))
                }
                None => (arg.to_string(), None),
            };
            if !matches!(name.as_str(), "--output" | "-o" | "--color") {
                continue;
            }
            let Some(value) = value.or_else(|| args.next().map(|v| v.to_string())) else { break };
            if name == "--color" {
                found.color = clap::ValueEnum::from_str(&value, false).ok();
            } else {
                found.output = Format::from_name(&value);
            }
        }
        found
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve Redis and gRPC clients from one process, for development
    Dev(Dev),
    /// Keep the metadata of a cluster: one of 1, 3 or 5 such servers
    Meta(Meta),
    /// Keep shards of a cluster, and answer clients for all of it
    Node(Box<Node>),
    /// Serve Redis and gRPC clients of a cluster, without keeping anything
    Gateway(Gateway),
    /// Bring a cluster to life, look at it, hand a shard's lead over
    Cluster(Cluster),
    /// Open a console: any Redis command, and words for keys of every column family
    Repl(Repl),
    /// Keep vectors in indexes, and find the nearest of them
    Vector(Vector),
    /// Show, check and explain the settings of the servers
    Config(Config),
    /// Check all of a data folder: log, manifests, every table
    Check(Check),
    /// Look into sorted tables of keys on disk
    Sst(Sst),
    /// Look into the log of a node
    Wal(Wal),
    /// Look into the history of files of an engine
    Manifest(Manifest),
    /// Measure throughput and latency
    Bench(Bench),
    /// Show the main job on real data: load, read, scan, expire, swap, snapshot, kill -9, reopen
    Demo(Demo),
}

/// The parser, with the exit codes in every leaf's help.
pub fn command(color: When) -> clap::Command {
    let color = match color {
        When::Auto => clap::ColorChoice::Auto,
        When::Always => clap::ColorChoice::Always,
        When::Never => clap::ColorChoice::Never,
    };
    with_exit_codes(Cli::command().color(color))
}

fn with_exit_codes(command: clap::Command) -> clap::Command {
    let command = command.mut_subcommands(with_exit_codes);
    let help = match command.get_after_help() {
        Some(examples) => format!("{examples}\n\n{}", exit::HELP),
        None => exit::HELP.to_string(),
    };
    command.after_help(help)
}

/// A wrong command line as machine-readable output tells it.
pub fn usage_failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut parts = text.split("\n\n");
    let lead = parts.next().unwrap_or("").trim_start_matches("error: ");
    let message: Vec<&str> = lead.lines().map(str::trim).collect();
    let fix = parts
        .map(str::trim)
        .find(|part| part.starts_with("tip: ") || part.starts_with("For more information"))
        .map(|part| part.trim_start_matches("tip: ").to_string());
    let failure = Failure::usage(message.join(" "));
    failure.fix(fix.unwrap_or_else(|| "see arqon --help".to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glimpse(line: &str) -> (Option<Format>, Option<When>) {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let found = Globals::glimpse(&args);
        (found.output, found.color)
    }

    #[test]
    fn the_parser_is_sound() {
        command(When::Auto).debug_assert();
    }

    #[test]
    fn the_output_format_is_seen_on_a_wrong_line() {
        assert_eq!(glimpse("arqon nonsense --output json"), (Some(Format::Json), None));
        assert_eq!(
            glimpse("arqon --output=csv x --color never"),
            (Some(Format::Csv), Some(When::Never))
        );
        assert_eq!(glimpse("arqon -ojson"), (Some(Format::Json), None));
        assert_eq!(glimpse("arqon -- --output json"), (None, None));
        assert_eq!(glimpse("arqon --output"), (None, None));
    }

    #[test]
    fn every_leaf_has_a_sentence_and_examples() {
        fn walk(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                let path = format!("{path} {}", sub.get_name());
                assert!(sub.get_about().is_some(), "{path} has no summary");
                if !sub.has_subcommands() {
                    let help = sub.get_after_help().map(|h| h.to_string()).unwrap_or_default();
                    assert!(help.contains("Examples:") && help.contains(&path), "{path}");
                    assert!(help.contains("Exit codes:"), "{path}");
                }
                walk(sub, &path);
            }
        }
        walk(&command(When::Auto), "arqon");
    }
}

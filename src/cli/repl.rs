//! `arqon repl`.

use crate::base::ErrorKind;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Outcome, of_redis_error};
use crate::cli::output::Format;
use crate::log::SyncLevel;
use crate::node::Options;
use crate::op::Consistency;
use crate::repl::backend::Backend;
use crate::repl::console::{self, Source};
use crate::repl::embedded::Embedded;
use crate::repl::print::Style;
use crate::repl::server::Server;
use crate::repl::session::{Session, Trouble};
use std::io::IsTerminal;
use std::path::PathBuf;

/// Where `arqon dev` serves by default.
const REDIS_ADDR: &str = "127.0.0.1:6379";
const GRPC_ADDR: &str = "127.0.0.1:9379";

/// Open a console: any Redis command, and words for keys of every column family
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon repl
  arqon repl --addr 127.0.0.1:6379 -c 'SET greeting hello' -c 'GET greeting'
  arqon repl --data ./arqon-data -c 'SCAN user: LIMIT 10'
  arqon repl --file setup.txt --yes
  echo 'GET greeting' | arqon repl --output json

Answers are typed on a terminal and raw elsewhere; --output json and ndjson print a JSON value a
line, plain is raw, csv and tsv print a line an entry. In JSON a byte string has \\xHH for a byte
that is not UTF-8 and two backslashes for one; all else in it stands for itself.
A server that is silent for 60 seconds ends the command with exit code 6. Type HELP for the
console's own words.")]
pub struct Repl {
    /// Address of a server's Redis door [default: 127.0.0.1:6379]
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
    /// Address of the same server's gRPC door, for the console's words [default: 127.0.0.1:9379,
    /// if --addr is not given]
    #[arg(long, value_name = "HOST:PORT")]
    grpc: Option<String>,
    /// How fresh what the console's words read must be: linearizable, lease or stale(BOUND), such
    /// as stale(500ms) [default: as the server has it]
    #[arg(long, value_name = "CONSISTENCY", conflicts_with = "data")]
    consistency: Option<Consistency>,
    /// Open this data folder in this process instead of talking to a server
    #[arg(long, value_name = "DIR", conflicts_with_all = ["addr", "grpc"])]
    data: Option<PathBuf>,
    /// With --data: when a write is answered: always, interval, interval:MS or os
    #[arg(long, value_name = "LEVEL", default_value = "interval", requires = "data")]
    sync: SyncLevel,
    /// Execute this line instead of prompting; may be given several times
    #[arg(short = 'c', long = "command", value_name = "LINE")]
    commands: Vec<String>,
    /// Execute the lines of a file instead of prompting
    #[arg(long, value_name = "FILE", conflicts_with = "commands")]
    file: Option<PathBuf>,
    /// Print answers as they are, without types and quotes
    #[arg(long)]
    raw: bool,
}

impl Repl {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let backend = self.backend()?;
        let style = self.style(context);
        let person = self.commands.is_empty() && self.file.is_none();
        let source = match self.file {
            Some(path) => Source::File(path),
            None if !person => Source::Commands(self.commands),
            None if !std::io::stdin().is_terminal() => Source::Pipe,
            None => Source::Person { history: history_file(), color: context.color_out },
        };
        if matches!(source, Source::Person { .. }) {
            context.say("Type HELP for help, Ctrl-D to leave.");
        }
        let mut session = Session::new(
            backend,
            style,
            context.yes,
            Box::new(std::io::stdout()),
            Box::new(std::io::stderr()),
        );
        let interactive = matches!(source, Source::Person { .. });
        console::run(&mut session, source, context.can_ask()).map_err(of_printing)?;
        match session.first_trouble() {
            // A person has seen it and gone on.
            Some(_) if interactive => Ok(()),
            Some(Trouble::Reply(text)) => Err(Failure::told(of_redis_error(text).exit)),
            Some(Trouble::Error(e)) => Err(Failure::told(Exit::of(e.kind()))),
            None => Ok(()),
        }
    }

    fn backend(&self) -> Outcome<Box<dyn Backend>> {
        if let Some(dir) = &self.data {
            let options =
                Options { sync: self.sync, create_if_missing: false, ..Options::default() };
            let embedded = Embedded::open(dir, options).map_err(|e| {
                let kind = e.kind();
                let failure = Failure::from(e);
                match kind {
                    ErrorKind::Refused => {
                        failure.fix("talk to the process that has it: arqon repl")
                    }
                    ErrorKind::NotFound => failure.fix("make one with: arqon dev --data DIR"),
                    _ => failure,
                }
            })?;
            return Ok(Box::new(embedded));
        }
        // The default gRPC door may belong to another server than an address given.
        let grpc = self.grpc.as_deref().or(self.addr.is_none().then_some(GRPC_ADDR));
        let addr = self.addr.as_deref().unwrap_or(REDIS_ADDR);
        let server = Server::connect(addr, grpc, self.consistency).map_err(|e| {
            Failure::from(e)
                .fix("start a server with: arqon dev; or name one with --addr HOST:PORT")
        })?;
        Ok(Box::new(server))
    }

    fn style(&self, context: &Context) -> Style {
        match context.printer.format() {
            Format::Json | Format::Ndjson => Style::Json,
            Format::Csv => Style::Separated(','),
            Format::Tsv => Style::Separated('\t'),
            Format::Plain => Style::Raw,
            Format::Table if self.raw => Style::Raw,
            Format::Table if context.output_given || std::io::stdout().is_terminal() => {
                Style::Typed { color: context.color_out }
            }
            Format::Table => Style::Raw,
        }
    }
}

/// A closed pipe ends quietly here too, and a full device is that of the output, which no later
/// try will find emptier.
fn of_printing(error: crate::base::Error) -> Failure {
    let source = std::error::Error::source(&error).and_then(|e| e.downcast_ref::<std::io::Error>());
    match source {
        Some(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Failure::pipe_closed(),
        Some(e) if e.kind() == std::io::ErrorKind::StorageFull => {
            Failure { code: "io", ..Failure::failed(error.message()) }
        }
        _ => Failure::from(error),
    }
}

/// `$XDG_STATE_HOME/arqon/history`, by default below `~/.local/state`.
fn history_file() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let state = var("XDG_STATE_HOME").or_else(|| Some(var("HOME")?.join(".local/state")))?;
    Some(state.join("arqon/history"))
}

//! `arqon dev`: everything in one process, for one machine.
//!
//! In reading order: here the flags and the life of the process; [`doors`]: listening and serving.

pub mod doors;

use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Signals;
use crate::cli::output::{Format, Value};
use crate::env::{RealDisk, disk::write_atomic};
use crate::log::SyncLevel;
use crate::node::{Options, Standalone};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Serve Redis and gRPC clients from one process, for development
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon dev
  arqon dev --data /tmp/try --sync always
  arqon dev --redis 127.0.0.1:0 --grpc 127.0.0.1:0 --port-file ports.json

Ctrl-C or SIGTERM stops it cleanly; a second one at once. What it prints goes to standard error;
with --output json the addresses are printed to standard output when it serves.

Sync levels: always (on the device before the answer), interval or interval:MS (every MS
milliseconds, 100 by default), os (when the system likes). An answered write survives the death of
the process at each of them; they differ in what a power cut may take.")]
pub struct Dev {
    /// Folder of the data, made if need be
    #[arg(long, value_name = "DIR", default_value = "./arqon-data")]
    data: PathBuf,
    /// Address for Redis clients; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6379")]
    redis: String,
    /// Address for gRPC clients; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9379")]
    grpc: String,
    /// When a write is answered: always, interval, interval:MS or os
    #[arg(long, value_name = "LEVEL", default_value = "interval")]
    sync: SyncLevel,
    /// Memory for unflushed writes and cached blocks together, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(8..=1_048_576))]
    memory: u64,
    /// File that gets {"redis":"HOST:PORT","grpc":"HOST:PORT"} when clients are served
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,
    /// Listen on other addresses than loopback: everyone who can reach them can read and write
    #[arg(long)]
    allow_remote: bool,
}

/// Addresses that are served.
struct Bound {
    redis: SocketAddr,
    grpc: SocketAddr,
}

impl Dev {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::failed(format!("cannot start the threads: {e}")))?;
        let outcome = runtime.block_on(self.serve(context));
        // What still runs belongs to connections that were cut off.
        runtime.shutdown_background();
        outcome
    }

    async fn serve(self, context: &mut Context) -> Outcome {
        let redis = doors::addresses("--redis", &self.redis, self.allow_remote)?;
        let grpc = doors::addresses("--grpc", &self.grpc, self.allow_remote)?;
        let (redis, redis_addr) = doors::listen("--redis", &redis).await?;
        let (grpc, grpc_addr) = doors::listen("--grpc", &grpc).await?;
        let bound = Bound { redis: redis_addr, grpc: grpc_addr };
        let mut signals = Signals::new()?;

        let node = self.open()?;
        let db = node.db();
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(doors::serve(Arc::new(node), redis, grpc, stopped));
        if let Some(file) = &self.port_file {
            write_port_file(file, &bound)?;
        }
        self.announce(context, &bound)?;

        let mut serving = std::pin::pin!(serving);
        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = signals.next() => {
                context.say("stopping");
                _ = stop.send(true);
                tokio::select! {
                    ended = &mut serving => ended,
                    () = signals.next() => return Err(Failure::told(Exit::Interrupted)),
                }
            }
        };
        ended.map_err(|_| Failure::failed("a server thread panicked"))??;
        if let Some(file) = &self.port_file {
            // It would name doors that are closed. One that is gone already is fine.
            _ = crate::env::Disk::remove(&RealDisk, file);
        }
        db.sync()?;
        Ok(())
    }

    fn open(&self) -> Outcome<Standalone> {
        let options = Options {
            sync: self.sync,
            memory_budget_bytes: self.memory << 20,
            ..Options::default()
        };
        Standalone::open(&self.data, options).map_err(|e| {
            let refused = e.kind() == crate::base::ErrorKind::Refused;
            let failure = Failure::from(e);
            if refused { failure.fix("name another folder with --data DIR") } else { failure }
        })
    }

    fn announce(&self, context: &mut Context, bound: &Bound) -> Outcome {
        let Bound { redis, grpc } = bound;
        if context.output_given || context.printer.format() != Format::Table {
            context.printer.record(&[
                ("redis", Value::from(redis.to_string())),
                ("grpc", Value::from(grpc.to_string())),
                ("data", Value::from(self.data.display().to_string())),
                ("sync", Value::from(self.sync.to_string())),
            ])?;
            return context.printer.finish(None);
        }
        let repl = match (self.redis.as_str(), self.grpc.as_str()) {
            ("127.0.0.1:6379", "127.0.0.1:9379") => "arqon repl".to_string(),
            _ => format!("arqon repl --addr {redis} --grpc {grpc}"),
        };
        let (version, data, sync) = (env!("CARGO_PKG_VERSION"), self.data.display(), self.sync);
        context.say(format_args!("arqon {version} serves {data}, sync {sync}"));
        context.say(format_args!("  redis  {redis}    redis-cli -p {}", redis.port()));
        context.say(format_args!("  grpc   {grpc}    service arqondb.v1.ArqonDb"));
        context.say(format_args!("Try: {repl}"));
        if self.allow_remote && !(redis.ip().is_loopback() && grpc.ip().is_loopback()) {
            context.say("warning: everyone who can reach these addresses can read and write");
        }
        context.say("Ctrl-C stops it cleanly.");
        Ok(())
    }
}

fn write_port_file(file: &Path, bound: &Bound) -> Outcome {
    let Bound { redis, grpc } = bound;
    // Addresses hold nothing that JSON would escape.
    let text = format!("{{\"redis\":\"{redis}\",\"grpc\":\"{grpc}\"}}\n");
    let file = match file.parent() {
        // A bare name lies in the current folder, which must have a name to be synced.
        Some(dir) if dir.as_os_str().is_empty() => Path::new(".").join(file),
        _ => file.to_path_buf(),
    };
    Ok(write_atomic(&RealDisk, &file, text.as_bytes())?)
}

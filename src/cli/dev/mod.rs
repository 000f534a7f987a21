//! `arqon dev`: everything in one process, for one machine.
//!
//! In reading order: here the flags and the life of the process; [`doors`]: listening and serving.

pub mod doors;

use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Signals;
use crate::cli::output::{Format, Value};
use crate::cli::settings::exposure::Guard;
use crate::cli::settings::{DevSettings, Flags};
use crate::env::{RealDisk, disk::write_atomic};
use crate::node::Standalone;
use std::net::SocketAddr;
use std::path::Path;
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
the process at each of them; they differ in what a power cut may take.

--memory takes 64MiB or 1GiB; a plain number is MiB. Every setting may also stand in a file or a
variable: see arqon config show --role dev --origin.")]
pub struct Dev {
    #[command(flatten)]
    settings: Flags<DevSettings>,
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
        let (settings, effective) = self.settings.load(context)?;
        let guard = Guard::of_dev(&settings);
        let dev = &settings.dev;
        let redis = guard.admit(&effective, "dev.redis_addr", &dev.redis_addr)?;
        let grpc = guard.admit(&effective, "dev.grpc_addr", &dev.grpc_addr)?;
        let (redis_door, redis_addr) = doors::listen("--redis", &redis.addresses).await?;
        let (grpc_door, grpc_addr) = doors::listen("--grpc", &grpc.addresses).await?;
        let bound = Bound { redis: redis_addr, grpc: grpc_addr };
        let mut signals = Signals::new()?;

        let node = open(&settings)?;
        let db = node.db();
        let (stop, stopped) = watch::channel(false);
        let grace = settings.server.drain;
        let serving =
            tokio::spawn(doors::serve(Arc::new(node), redis_door, grpc_door, grace, stopped));
        if let Some(file) = &dev.port_file {
            write_port_file(file, &bound)?;
        }
        announce(context, &settings, &bound)?;
        if context.printer.format() == Format::Table && !context.output_given {
            for notice in redis.notice.iter().chain(&grpc.notice) {
                context.say(format_args!("warning: {notice}"));
            }
            context.say("Ctrl-C stops it cleanly.");
        }

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
        if let Some(file) = &dev.port_file {
            // It would name doors that are closed. One that is gone already is fine.
            _ = crate::env::Disk::remove(&RealDisk, file);
        }
        db.sync()?;
        Ok(())
    }
}

fn open(settings: &DevSettings) -> Outcome<Standalone> {
    Standalone::open(&settings.dev.data, settings.storage.options()).map_err(|e| {
        let refused = e.kind() == crate::base::ErrorKind::Refused;
        let failure = Failure::from(e);
        if refused { failure.fix("name another folder with --data DIR") } else { failure }
    })
}

fn announce(context: &mut Context, settings: &DevSettings, bound: &Bound) -> Outcome {
    let Bound { redis, grpc } = bound;
    let (data, sync) = (settings.dev.data.display(), settings.storage.sync);
    if context.output_given || context.printer.format() != Format::Table {
        context.printer.record(&[
            ("redis", Value::from(redis.to_string())),
            ("grpc", Value::from(grpc.to_string())),
            ("data", Value::from(data.to_string())),
            ("sync", Value::from(sync.to_string())),
        ])?;
        return context.printer.finish(None);
    }
    let repl = match (redis.to_string().as_str(), grpc.to_string().as_str()) {
        ("127.0.0.1:6379", "127.0.0.1:9379") => "arqon repl".to_string(),
        _ => format!("arqon repl --addr {redis} --grpc {grpc}"),
    };
    let version = env!("CARGO_PKG_VERSION");
    context.say(format_args!("arqon {version} serves {data}, sync {sync}"));
    context.say(format_args!("  redis  {redis}    redis-cli -p {}", redis.port()));
    context.say(format_args!("  grpc   {grpc}    service arqondb.v1.ArqonDb"));
    context.say(format_args!("Try: {repl}"));
    Ok(())
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

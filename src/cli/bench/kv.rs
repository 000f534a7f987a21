//! `arqon bench kv`.

use super::kv_target::KvTarget;
use super::{Clients, Load, check_sessions};
use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::folder::remove_tree;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Value;
use crate::env::rng;
use crate::log::SyncLevel;
use crate::node::{Db, Options};
use std::path::{Path, PathBuf};

/// What keys of this bench begin with, so that they cannot meet a user's.
const PREFIX: &str = "arqon-bench:";

/// Measure the engine in this process
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon bench kv
  arqon bench kv fill read --keys 1000000 --threads 8 --sync always
  arqon bench kv mixed --rate 20000 --seconds 30 --output json
  arqon bench kv read --data ./bench-data

Without --data it works in a folder of its own below the system's temporary folder, which is often
in memory: name one on the device that is to be measured. Keys begin with arqon-bench:.")]
pub struct Kv {
    #[command(flatten)]
    load: Load,
    /// Threads that read and write
    #[arg(long, visible_alias = "clients", value_name = "N", default_value_t = 4)]
    threads: u64,
    /// Writes in one batch, and reads behind one another
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pipeline: u64,
    /// When a write is answered: always, interval, interval:MS or os
    #[arg(long, value_name = "LEVEL", default_value = "interval")]
    sync: SyncLevel,
    /// Memory for unflushed writes and cached blocks together, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(8..=1_048_576))]
    memory: u64,
    /// Data folder to work in; kept [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Kv {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        check_sessions("--threads", self.threads)?;
        let (folder, temporary) = match self.data.clone() {
            Some(folder) => (folder, false),
            None => {
                let name = format!("arqon-bench-{:016x}", rng::entropy());
                (std::env::temp_dir().join(name), true)
            }
        };
        // Before there is a folder to leave behind.
        let interrupt = Interrupt::watch()?;
        let measured = self.measure(context, &folder, &interrupt);
        if temporary {
            // What cannot be removed is left for the system to clean up; the figures stand.
            _ = remove_tree(&folder);
        }
        measured
    }

    fn measure(&self, context: &mut Context, folder: &Path, interrupt: &Interrupt) -> Outcome {
        let options = Options {
            sync: self.sync,
            memory_budget_bytes: self.memory << 20,
            ..Options::default()
        };
        let target = KvTarget { db: Db::open_with(folder, options)? };
        let data = self.load.data(PREFIX);
        let settings = vec![
            ("target", Value::from("kv")),
            ("sync", Value::from(self.sync.to_string())),
            ("memory_bytes", Value::from(self.memory << 20)),
            ("data", Value::from(folder.display().to_string())),
        ];
        let clients = Clients { sessions: self.threads, pipeline: self.pipeline, interrupt };
        self.load.run(context, &target, &data, &clients, settings)
    }
}

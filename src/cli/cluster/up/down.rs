//! `arqon cluster down`: what `arqon cluster up` started is stopped.

use crate::cli::cluster::up::processes::{Started, forget, names, running};
use crate::cli::cluster::up::topology::Topology;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::cli::settings::Role;
use crate::env::{Disk, RealDisk};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// Stop what `arqon cluster up` started
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster down -f topology.toml
  arqon cluster down -f topology.toml --kill

Gateways first, then nodes, then metadata servers; each ends what it is at. Data stays, and `arqon
cluster up` starts them again. A process is ended only if it is the one that was started.")]
pub struct Down {
    /// The topology
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Kill what has not ended in time
    #[arg(long)]
    kill: bool,
    /// Seconds that each kind of process may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
}

impl Down {
    /// Runs it.
    pub async fn run(self, context: &mut Context) -> Outcome {
        let topology = Topology::read(&self.file)?;
        context.printer.list("parts", &["part", "state", "pid"])?;
        if !RealDisk.exists(&topology.state) {
            return context.printer.finish(None);
        }
        let _lock = RealDisk.lock(&topology.state.join("LOCK"))?;
        let mut left = Vec::new();
        for role in [Role::Gateway, Role::Node, Role::Meta] {
            let mut asked: Vec<(String, Started)> = Vec::new();
            // Those that have left the file since are among them.
            let of_role = |name: &String| name.starts_with(&format!("{}-", role.name()));
            for name in names(&topology.state)?.into_iter().filter(of_role) {
                match running(&topology.state, &name)? {
                    Some(process) => {
                        process.stop(false)?;
                        asked.push((name, process));
                    }
                    None => forget(&topology.state, &name)?,
                }
            }
            let until = Instant::now() + Duration::from_secs(self.wait);
            for (name, process) in asked {
                let mut state = "stopped";
                if !process.ended(until).await {
                    state = "still running";
                    if self.kill {
                        process.stop(true)?;
                        process.ended(Instant::now() + Duration::from_secs(5)).await;
                        state = "killed";
                    }
                }
                if process.runs() {
                    left.push(name.clone());
                } else {
                    forget(&topology.state, &name)?;
                }
                context.printer.row(vec![
                    Value::from(name),
                    Value::from(state),
                    Value::from(u64::from(process.pid)),
                ])?;
            }
        }
        if left.is_empty() {
            return context.printer.finish(None);
        }
        let message = format!("{} have not ended after {} s", left.join(", "), self.wait);
        Err(Failure::unavailable(message).fix("wait for them; or say --kill"))
    }
}

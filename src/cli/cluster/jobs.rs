//! `arqon cluster jobs`: what is under way, and calling it off.

use super::MetaArgs;
use crate::catalog::records::Job;
use crate::catalog::{Action, JobChange, JobId, View};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::meta::jobs::{Order, Task};
use std::time::Duration;
use tokio::time::Instant;

/// Show jobs, or call one off
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster jobs
  arqon cluster jobs --all --output json
  arqon cluster jobs --cancel 7

A job that is called off stops where it is; what it left half done (a replica that was catching
up, one too many) is mended by itself. The moves that a called off drain or rebalance made are
called off with it.")]
pub struct Jobs {
    #[command(flatten)]
    meta: MetaArgs,
    /// Those that have ended as well, as far as they are remembered
    #[arg(long, conflicts_with = "cancel")]
    all: bool,
    /// Call this one off
    #[arg(long, value_name = "ID")]
    cancel: Option<u64>,
}

impl Jobs {
    /// Runs it.
    pub async fn run(self, context: &mut Context) -> Outcome {
        let (client, mut view) = self.meta.view().await?;
        if let Some(id) = self.cancel {
            let change = JobChange::Cancel { text: "by its operator".into() };
            let action = Action::ChangeJob { job: JobId(id), change };
            let deadline = Instant::now() + Duration::from_secs(10);
            let applied = client.propose(action, deadline).await.map_err(|error| {
                Failure::from(error).fix("see `arqon cluster jobs` for those under way")
            })?;
            let known = |view: &View| view.revision() >= applied.revision;
            view = client.wait_for(deadline, known).await?;
        }
        let columns = ["job", "kind", "shard", "node", "state", "what", "result"];
        context.printer.list("jobs", &columns)?;
        for job in view.jobs() {
            let is_shown = match self.cancel {
                Some(id) => job.id == JobId(id),
                None => self.all || job.state.is_active(),
            };
            if is_shown {
                context.printer.row(row(&view, job))?;
            }
        }
        context.printer.finish(None)
    }
}

fn row(view: &View, job: &Job) -> Vec<Value> {
    vec![
        Value::from(job.id.0),
        Value::from(job.kind.name()),
        Value::from(job.shard.map(|shard| shard.0)),
        Value::from(job.node.map(|node| node.0)),
        Value::from(job.state.name()),
        Value::from(what(view, job)),
        Value::from(job.text.clone()),
    ]
}

/// What a job is to do.
fn what(view: &View, job: &Job) -> Option<String> {
    let on = |replica| {
        let node = job.shard.and_then(|shard| view.shard(shard)?.replica(replica));
        node.map_or("a node it left".to_string(), |r| format!("node {}", r.node))
    };
    let Order { task, parent } = Order::of(job).ok()?;
    let what = match task {
        Task::Leader { to } => format!("lead to {}", on(to)),
        Task::Replica { from: Some(from), to: Some(to) } => format!("{} to node {to}", on(from)),
        Task::Replica { from: Some(from), to: None } => format!("off {}", on(from)),
        Task::Replica { from: None, to } => {
            format!("to {}", to.map_or("nowhere".to_string(), |to| format!("node {to}")))
        }
        Task::Many { made } => format!("{made} moves"),
    };
    Some(parent.map_or(what.clone(), |parent| format!("{what}, for job {parent}")))
}

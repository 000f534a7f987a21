//! Making a job, and following it to its end.

use crate::base::ErrorKind;
use crate::catalog::records::{Job, JobKind, JobState};
use crate::catalog::{Action, JobId, NodeId, Outcome as Answer, ShardId, View};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Signals;
use crate::cli::output::Value;
use crate::meta::jobs::Order;
use crate::rpc::cluster::MetaClient;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long the metadata plane may take for one change.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked what keeps a job, when nothing changes.
const LOOK: Duration = Duration::from_secs(5);

/// How to wait for a job.
#[derive(Debug, Clone, clap::Args)]
pub struct Waiting {
    /// Return at once; the job goes on by itself
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// Seconds to wait at most; the job goes on behind that [default: until it is done]
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

/// A job to be made.
pub(super) struct Wanted {
    pub(super) kind: JobKind,
    pub(super) shard: Option<ShardId>,
    pub(super) node: Option<NodeId>,
    pub(super) order: Order,
}

/// Makes the job, or finds the one that does just that.
pub(super) async fn create(client: &MetaClient, wanted: &Wanted) -> Outcome<JobId> {
    let view = client.view();
    let is_it = |job: &&Job| {
        let same = (job.kind, job.shard, job.node) == (wanted.kind, wanted.shard, wanted.node);
        let ordered = Order::of(job).map(|order| order.task).ok();
        job.state.is_active() && same && (job.shard.is_none() || ordered == Some(wanted.order.task))
    };
    if let Some(job) = view.jobs().find(is_it) {
        return Ok(job.id);
    }
    let Wanted { kind, shard, node, order } = wanted;
    let steps = order.encode();
    let action = Action::CreateJob { kind: *kind, shard: *shard, node: *node, steps };
    let made = client.propose(action, Instant::now() + PATIENCE).await;
    match made.map(|applied| applied.outcome) {
        Ok(Answer::Job(id)) => Ok(id),
        Ok(_) => Err(Failure::failed("the metadata plane gave the job no number")),
        Err(error) if error.kind() == ErrorKind::Conflict => Err(Failure::from(error)
            .fix("see `arqon cluster jobs`; `arqon cluster jobs --cancel ID` calls one off")),
        Err(error) => Err(error.into()),
    }
}

/// Follows a job to its end and prints it. `progress` says how far it is: told whenever that
/// changes.
pub(super) async fn follow(
    context: &mut Context,
    client: &MetaClient,
    id: JobId,
    waiting: &Waiting,
    mut progress: impl FnMut(&View) -> Option<String>,
) -> Outcome {
    if waiting.no_wait {
        // What is printed is the job as it was made.
        let soon = Instant::now() + PATIENCE;
        let view = client.wait_for(soon, |view| view.job(id).is_some()).await?;
        return print(context, view.job(id));
    }
    let mut signals = Signals::new()?;
    let end = waiting.wait.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut views = client.views();
    let mut told = None;
    loop {
        let view = views.borrow_and_update().clone();
        match view.job(id) {
            Some(job) if !job.state.is_active() => {
                judge(job)?;
                return print(context, Some(job));
            }
            _ => {}
        }
        let now = progress(&view);
        if now != told
            && let Some(now) = &now
        {
            context.say(now);
        }
        told = now;
        let goes_on = format!("job {id} goes on by itself; see `arqon cluster jobs`");
        let look = Instant::now() + LOOK;
        tokio::select! {
            changed = views.changed() => if changed.is_err() {
                return Err(Failure::unavailable("the metadata plane is not followed any more"));
            },
            () = sleep_until(end.map_or(look, |end| end.min(look))) => {
                if end.is_some_and(|end| Instant::now() >= end) {
                    let message = format!("job {id} is not done after the time given");
                    let late = Failure { exit: Exit::Deadline, ..Failure::unavailable(message) };
                    return Err(Failure { code: "deadline", ..late }.fix(goes_on));
                }
            }
            () = signals.next() => return Err(Failure::interrupted().fix(goes_on)),
        }
    }
}

/// An end that is none to be content with.
fn judge(job: &Job) -> Outcome {
    let (id, text) = (job.id, &job.text);
    match job.state {
        JobState::Failed => Err(Failure::failed(format!("job {id} failed: {text}"))
            .fix("see `arqon cluster status`; what was left half done is mended by itself")),
        JobState::Cancelled => Err(Failure {
            code: "conflict",
            exit: Exit::Conflict,
            ..Failure::failed(format!("job {id} was called off: {text}"))
        }),
        _ => Ok(()),
    }
}

fn print(context: &mut Context, job: Option<&Job>) -> Outcome {
    if let Some(job) = job {
        context.printer.record(&[
            ("job", Value::from(job.id.0)),
            ("kind", Value::from(job.kind.name())),
            ("shard", Value::from(job.shard.map(|shard| shard.0))),
            ("node", Value::from(job.node.map(|node| node.0))),
            ("state", Value::from(job.state.name())),
            ("result", Value::from(job.text.clone())),
        ])?;
    }
    context.printer.finish(None)
}

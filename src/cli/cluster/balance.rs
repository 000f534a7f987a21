//! `arqon cluster rebalance` and `join`: nodes get their share.

use super::MetaArgs;
use super::follow::{Waiting, Wanted, create, follow};
use crate::catalog::plan::{Figures, Move, ShardFigures, rebalance};
use crate::catalog::records::{JobKind, NodeState};
use crate::catalog::{Action, NodeId, ShardId, View};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::meta::jobs::Order;
use crate::rpc::cluster::MetaClient;
use std::time::Duration;
use tokio::time::Instant;

/// Spread replicas and leads evenly over the nodes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster rebalance --dry-run
  arqon cluster rebalance
  arqon cluster rebalance --no-wait --output json

First failure domains, then the number of replicas, then bytes, then leads by load. Bytes and load
are what the nodes last reported; nodes that are even enough are left alone.")]
pub struct Rebalance {
    #[command(flatten)]
    meta: MetaArgs,
    /// Print the first moves, and make none
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    waiting: Waiting,
}

/// Let a node take part: wait for it, and give it its share
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster join 4
  arqon cluster join 4 --wait 600
  arqon cluster join 4 --no-wait

On the new machine start `arqon node DIR ADDR --meta URL`: it registers by itself, and says its
number. This waits until it is there, lets a drained node take replicas again, and then spreads
replicas and leads over all nodes as `arqon cluster rebalance` does.")]
pub struct Join {
    #[command(flatten)]
    meta: MetaArgs,
    /// The node
    #[arg(value_name = "NODE")]
    node: u64,
    #[command(flatten)]
    waiting: Waiting,
    /// Seconds to wait for the node itself
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    start: u64,
}

impl Rebalance {
    /// Runs it.
    pub async fn run(self, context: &mut Context) -> Outcome {
        let (client, view) = self.meta.view().await?;
        if self.dry_run {
            return planned(context, &client, &view).await;
        }
        spread(context, &client, &self.waiting).await
    }
}

impl Join {
    /// Runs it.
    pub async fn run(self, context: &mut Context) -> Outcome {
        let (client, view) = self.meta.view().await?;
        let node = NodeId(self.node);
        let state = |view: &View| view.node(node).map(|node| node.state);
        let until = Instant::now() + Duration::from_secs(self.start);
        match state(&view) {
            Some(NodeState::Removed) => {
                let message = format!("node {node} was removed for good");
                let fix = "start it with an empty folder: it comes back under another number";
                return Err(Failure::refused(message, fix));
            }
            Some(NodeState::Draining) => {
                let (expected, to) = (NodeState::Draining, NodeState::Active);
                let drains = view.jobs().find(|job| {
                    job.state.is_active() && job.kind.needs_node() && job.node == Some(node)
                });
                if let Some(job) = drains {
                    let message = format!("job {} is emptying node {node}", job.id);
                    let fix = format!("call it off first: arqon cluster jobs --cancel {}", job.id);
                    return Err(Failure::refused(message, fix));
                }
                client.propose(Action::SetNodeState { node, expected, to }, until).await?;
            }
            Some(NodeState::Active) => {}
            _ => context.say(format_args!("waiting for node {node}")),
        }
        let is_there = |view: &View| state(view) == Some(NodeState::Active);
        client.wait_for(until, is_there).await.map_err(|_| {
            let now = state(&client.view()).map_or("not there", NodeState::name);
            let message = format!("node {node} is {now} after {} s", self.start);
            Failure { exit: Exit::Deadline, ..Failure::unavailable(message) }
                .fix("start it: arqon node DIR ADDR --meta URL; it says its number")
        })?;
        spread(context, &client, &self.waiting).await
    }
}

async fn spread(context: &mut Context, client: &MetaClient, waiting: &Waiting) -> Outcome {
    let order = Order::many(0);
    let wanted = Wanted { kind: JobKind::Rebalance, shard: None, node: None, order };
    let job = create(client, &wanted).await?;
    follow(context, client, job, waiting, |view| {
        let of_it = |other: &&crate::catalog::records::Job| {
            Order::of(other).is_ok_and(|order| order.parent == Some(job))
        };
        let made: Vec<_> = view.jobs().filter(of_it).collect();
        let over = made.iter().filter(|job| !job.state.is_active()).count();
        Some(format!("{over} of {} moves so far are over", made.len()))
    })
    .await
}

/// What a rebalancing would begin with.
async fn planned(context: &mut Context, client: &MetaClient, view: &View) -> Outcome {
    let soon = Instant::now() + Duration::from_secs(5);
    let figures: ShardFigures = match client.reports(soon).await {
        Ok(reports) => {
            let figure = |r: &crate::rpc::cluster::report::ShardReport| {
                (ShardId(r.shard), Figures { bytes: r.bytes, load: r.requests_per_second })
            };
            reports.iter().map(figure).collect()
        }
        Err(_) => {
            context.say("no bytes and loads are known: this goes by numbers alone");
            ShardFigures::new()
        }
    };
    let plan = rebalance(view, &figures, usize::MAX);
    context.printer.list("moves", &["shard", "what", "from", "to", "bytes"])?;
    for moved in &plan.moves {
        let shard = view.shard(moved.shard());
        let on = |replica| shard?.replica(replica).map(|r| r.node.0);
        let (what, from, to) = match *moved {
            Move::Leader { to, .. } => {
                ("lead", shard.and_then(|s| s.leader_node()).map(|n| n.0), on(to))
            }
            Move::Replica { from, to, .. } => ("replica", from.and_then(on), to.map(|to| to.0)),
        };
        let bytes = figures.get(&moved.shard()).map(|figures| figures.bytes);
        context.printer.row(vec![
            Value::from(moved.shard().0),
            Value::from(what),
            Value::from(from),
            Value::from(to),
            bytes.filter(|_| what == "replica").map_or(Value::Null, Value::Size),
        ])?;
    }
    context.printer.finish(None)
}

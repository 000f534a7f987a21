//! `arqon cluster drain` and `remove`: everything leaves a node.

use super::MetaArgs;
use super::follow::{Waiting, Wanted, create, follow};
use crate::catalog::plan::{ShardFigures, drain};
use crate::catalog::records::{JobKind, NodeState};
use crate::catalog::{NodeId, View};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Outcome};
use crate::meta::jobs::Order;
use std::io::Write;

/// Move everything off a node, and keep it empty
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster drain 3
  arqon cluster drain 3 --wait 600
  arqon cluster drain 3 --no-wait --output json

Leads are handed over first; then each replica is made anew elsewhere before it goes, a few at a
time. Clients notice nothing. The node stays in the cluster and takes nothing new until `arqon
cluster join 3`. To call it off: `arqon cluster jobs --cancel ID`.")]
pub struct Drain {
    #[command(flatten)]
    meta: MetaArgs,
    /// The node
    #[arg(value_name = "NODE")]
    node: u64,
    #[command(flatten)]
    waiting: Waiting,
}

/// Move everything off a node, and strike it off for good
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster remove 3 --yes
  arqon cluster remove 3 --yes --wait 600

Drains the node as `arqon cluster drain` does, if it holds anything, and then takes it off the
list. Its number is never given again; with an empty folder the same machine may come back as
another node. A node that is dead is removed in the same way.")]
pub struct Remove {
    #[command(flatten)]
    meta: MetaArgs,
    /// The node
    #[arg(value_name = "NODE")]
    node: u64,
    #[command(flatten)]
    waiting: Waiting,
}

impl Drain {
    /// Runs it.
    pub async fn run(self, context: &mut Context) -> Outcome {
        empty(context, &self.meta, NodeId(self.node), JobKind::DrainNode, &self.waiting).await
    }
}

impl Remove {
    /// Runs it.
    pub async fn run(self, context: &mut Context) -> Outcome {
        empty(context, &self.meta, NodeId(self.node), JobKind::RemoveNode, &self.waiting).await
    }
}

async fn empty(
    context: &mut Context,
    meta: &MetaArgs,
    node: NodeId,
    kind: JobKind,
    waiting: &Waiting,
) -> Outcome {
    let (client, view) = meta.view().await?;
    let known = view.node(node).ok_or_else(|| no_node(node))?;
    if known.state == NodeState::Removed {
        let message = format!("node {node} was removed already");
        let failure = Failure { exit: Exit::Conflict, ..Failure::failed(message) };
        return Err(Failure { code: "already_exists", ..failure });
    }
    if kind == JobKind::RemoveNode {
        agree(context, node)?;
    }
    let wanted = Wanted { kind, shard: None, node: Some(node), order: Order::many(0) };
    let job = create(&client, &wanted).await?;
    let all = view.shards_on(node).count();
    follow(context, &client, job, waiting, |view| Some(progress(view, node, all))).await
}

fn no_node(node: NodeId) -> Failure {
    let failure = Failure::usage(format!("there is no node {node}"));
    let failure = Failure { exit: Exit::NotFound, code: "not_found", ..failure };
    failure.fix("see `arqon cluster status --nodes`")
}

fn progress(view: &View, node: NodeId, all: usize) -> String {
    let left = view.shards_on(node).count();
    let gone = all.max(left) - left;
    let stuck = drain(view, node, &ShardFigures::new(), usize::MAX).stuck;
    let is_moving = view.jobs().any(|job| job.state.is_active() && job.shard.is_some());
    if stuck.is_empty() || is_moving {
        return format!("node {node}: {gone} of {} shards are gone", all.max(left));
    }
    let stuck: Vec<String> = stuck.iter().map(ToString::to_string).collect();
    format!(
        "node {node}: {gone} of {} shards are gone; nowhere to go for shard {}: start one more \
         `arqon node`, this goes on by itself then",
        all.max(left),
        stuck.join(", ")
    )
}

/// Asks whether a node is to be removed for good.
fn agree(context: &Context, node: NodeId) -> Outcome {
    if context.yes {
        return Ok(());
    }
    let question = format!("node {node} would be struck off for good");
    let refused = || Failure::refused(&question, "say --yes; or `arqon cluster drain` to empty it");
    if !context.can_ask() {
        return Err(refused());
    }
    // A question that nobody sees gets no answer.
    _ = write!(std::io::stderr(), "{question}. Go on? [y/N] ");
    let mut answer = String::new();
    _ = std::io::stdin().read_line(&mut answer);
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(refused()),
    }
}

//! `arqon cluster move`: a replica goes to another node.

use super::MetaArgs;
use super::follow::{Waiting, Wanted, create, follow};
use crate::catalog::plan::{Move, Step, next_step};
use crate::catalog::records::{JobKind, NodeState};
use crate::catalog::{NodeId, ShardId, View};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Outcome};
use crate::meta::jobs::Order;

const HINT: &str = "see `arqon cluster status` for shards, nodes and replicas";

/// Move a replica of a shard to another node
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster move 3 --from 1 --to 4
  arqon cluster move 3 --from 1 --to 4 --no-wait

The new replica catches up and votes before the old one goes. If the old one leads, the lead is
handed over first.")]
pub struct Place {
    #[command(flatten)]
    meta: MetaArgs,
    /// The shard
    #[arg(value_name = "SHARD")]
    shard: u64,
    /// The node that has the replica
    #[arg(long, value_name = "NODE")]
    from: u64,
    /// The node that shall have it
    #[arg(long, value_name = "NODE")]
    to: u64,
    #[command(flatten)]
    waiting: Waiting,
}

impl Place {
    /// Runs it.
    pub async fn run(self, context: &mut Context) -> Outcome {
        let (client, view) = self.meta.view().await?;
        let moved = self.checked(&view)?;
        let shard = moved.shard();
        let wanted = Wanted {
            kind: JobKind::MoveReplica,
            shard: Some(shard),
            node: None,
            order: Order::of_move(&moved, None),
        };
        let job = create(&client, &wanted).await?;
        follow(context, &client, job, &self.waiting, |view| progress(view, &moved)).await
    }

    fn checked(&self, view: &View) -> Outcome<Move> {
        let (shard, from, to) = (ShardId(self.shard), NodeId(self.from), NodeId(self.to));
        let missing = |what: String| {
            let failure = Failure { exit: Exit::NotFound, ..Failure::usage(what) };
            Failure { code: "not_found", ..failure }.fix(HINT)
        };
        let record =
            view.shard(shard).ok_or_else(|| missing(format!("there is no shard {shard}")))?;
        let replica = record
            .replica_on(from)
            .ok_or_else(|| missing(format!("shard {shard} has no replica on node {from}")))?;
        let node = view.node(to).ok_or_else(|| missing(format!("there is no node {to}")))?;
        if record.replica_on(to).is_some() {
            let message = format!("shard {shard} has a replica on node {to} already");
            let failure = Failure { exit: Exit::Conflict, ..Failure::usage(message) };
            return Err(Failure { code: "already_exists", ..failure }.fix(HINT));
        }
        if !matches!(node.state, NodeState::Active | NodeState::Joining) {
            let message = format!("node {to} is {} and takes no replica", node.state);
            return Err(Failure::refused(
                message,
                "name another; `arqon cluster join` brings a drained node back",
            ));
        }
        Ok(Move::Replica { shard, from: Some(replica.id), to: Some(to) })
    }
}

fn progress(view: &View, moved: &Move) -> Option<String> {
    let shard = moved.shard();
    Some(match next_step(view, moved).ok()? {
        Step::AddLearner(node) => format!("shard {shard}: waits for its turn on node {node}"),
        Step::AwaitLearner(_) => format!("shard {shard}: the new replica is catching up"),
        Step::Promote(_) => format!("shard {shard}: the new replica has caught up"),
        Step::TransferLeader(_) => format!("shard {shard}: the lead is handed over"),
        Step::Leave(_) | Step::AwaitRemoval(_) => format!("shard {shard}: the old replica goes"),
        Step::Finished => return None,
    })
}

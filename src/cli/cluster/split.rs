//! `arqon cluster split`: one shard becomes two.

use super::MetaArgs;
use crate::catalog::{Action, Outcome as Applied, ShardChange, ShardId, View};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Split a shard in two
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster split 3
  arqon cluster split 3 --at 9000 --meta http://10.0.0.5:8379

The upper slots become a shard of their own, with replicas on the same nodes; `arqon cluster \
rebalance` moves them. Nothing is copied, and clients notice at most a short pause.")]
pub struct Split {
    #[command(flatten)]
    meta: MetaArgs,
    /// The shard
    #[arg(value_name = "SHARD")]
    shard: u64,
    /// The first slot of the new shard; the middle if none is named
    #[arg(long, value_name = "SLOT")]
    at: Option<u16>,
    /// Seconds to wait until the new shard is led
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
}

impl Split {
    /// Runs it.
    pub async fn run(self, context: &mut Context) -> Outcome {
        let (client, view) = self.meta.view().await?;
        let hint = "see `arqon cluster status` for the shards and their slots";
        let id = ShardId(self.shard);
        let shard = view
            .shard(id)
            .ok_or_else(|| Failure::usage(format!("there is no shard {id}")).fix(hint))?;
        let deadline = Instant::now() + Duration::from_secs(self.wait.max(1));
        // One that is under way already is waited for.
        let pending = match &shard.split {
            Some(pending) => pending.clone(),
            None => {
                let middle = shard.slots.first + shard.slots.count() / 2;
                let at = self.at.unwrap_or(middle);
                if shard.slots.split(at).is_none() {
                    let text = format!("slot {at} does not divide the slots {}", shard.slots);
                    return Err(Failure::usage(text).fix(hint));
                }
                let change = ShardChange::BeginSplit(at);
                let begin = Action::ChangeShard { shard: id, expected: shard.epoch, change };
                match client.propose(begin, deadline).await?.outcome {
                    Applied::Shard(shard) => shard.split,
                    _ => None,
                }
                .ok_or_else(|| Failure::failed("the catalog began no split"))?
            }
        };
        let is_led = |view: &View| {
            view.shard(pending.child)
                .is_some_and(|child| child.leader.is_some_and(|leader| leader.term > 0))
        };
        let view = client.wait_for(deadline, is_led).await.map_err(|_| {
            Failure::unavailable(format!(
                "shard {id} is not split yet; the split stays asked for and goes on by itself"
            ))
            .fix("see `arqon cluster status`: a shard is split by its leader, with a majority")
        })?;
        context.printer.list("shards", &["shard", "slots", "leader"])?;
        for shard in [id, pending.child].iter().filter_map(|id| view.shard(*id)) {
            context.printer.row(vec![
                Value::from(shard.id.0),
                Value::from(shard.slots.to_string()),
                Value::from(shard.leader_node().map(|node| node.0)),
            ])?;
        }
        context.printer.finish(None)
    }
}

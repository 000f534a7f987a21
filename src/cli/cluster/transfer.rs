//! `arqon cluster transfer-leader`: another node leads a shard.

use super::MetaArgs;
use crate::catalog::{NodeId, ShardId, View};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::gateway::{Node, RemoteShards};
use std::time::Duration;
use tokio::time::Instant;

/// Make another node lead a shard
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster transfer-leader 3 --to 2
  arqon cluster transfer-leader 3 --to 2 --meta http://10.0.0.5:8379")]
pub struct Transfer {
    #[command(flatten)]
    meta: MetaArgs,
    /// The shard
    #[arg(value_name = "SHARD")]
    shard: u64,
    /// The node that shall lead it; it has a replica
    #[arg(long, value_name = "NODE")]
    to: u64,
}

impl Transfer {
    /// Runs it.
    pub async fn run(self, context: &mut Context) -> Outcome {
        let (client, view) = self.meta.view().await?;
        let (shard, to) = (ShardId(self.shard), NodeId(self.to));
        let hint = "see `arqon cluster status` for shards, their replicas and leaders";
        let missing = |what: String| Failure::usage(what).fix(hint);
        let record =
            view.shard(shard).ok_or_else(|| missing(format!("there is no shard {shard}")))?;
        let replica = record
            .replica_on(to)
            .ok_or_else(|| missing(format!("shard {shard} has no replica on node {to}")))?;
        let leader = record.leader_node().and_then(|node| view.node(node));
        let leader = leader.ok_or_else(|| {
            Failure::unavailable(format!("nobody leads shard {shard} now")).fix(hint)
        })?;
        if leader.id != to {
            let from = Node {
                id: leader.id,
                address: leader.profile.raft_addr.as_str().into(),
                redis: None,
            };
            let shards = RemoteShards::new(client.clone());
            shards.transfer(&from, shard.0, replica.id.0, Duration::from_secs(5)).await?;
            let leads = |view: &View| {
                view.shard(shard).and_then(crate::catalog::records::Shard::leader_node) == Some(to)
            };
            client.wait_for(Instant::now() + Duration::from_secs(5), leads).await?;
        }
        let fields = [("shard", Value::from(shard.0)), ("leader", Value::from(to.0))];
        context.printer.record(&fields)?;
        context.printer.finish(None)
    }
}

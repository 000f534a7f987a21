//! `arqon cluster status`: nodes and shards.

use super::MetaArgs;
use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::output::Value;

/// Show nodes and shards
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster status
  arqon cluster status --nodes
  arqon cluster status --meta http://10.0.0.5:8379 --output json")]
pub struct Status {
    #[command(flatten)]
    meta: MetaArgs,
    /// The nodes instead of the shards
    #[arg(long)]
    nodes: bool,
}

impl Status {
    /// Runs it.
    pub async fn run(self, context: &mut Context) -> Outcome {
        let (_, view) = self.meta.view().await?;
        let cluster = view.cluster().map(|c| c.name.clone()).unwrap_or_default();
        if self.nodes {
            let columns = ["node", "state", "shards", "leads", "data", "raft", "version"];
            context.printer.list("nodes", &columns)?;
            for node in view.nodes() {
                let leads = view.shards().filter(|s| s.leader_node() == Some(node.id)).count();
                context.printer.row(vec![
                    Value::from(node.id.0),
                    Value::from(node.state.name()),
                    Value::from(view.shards_on(node.id).count() as u64),
                    Value::from(leads as u64),
                    Value::from(node.profile.data_url.clone()),
                    Value::from(node.profile.raft_addr.clone()),
                    Value::from(node.profile.software.clone()),
                ])?;
            }
        } else {
            context.printer.list("shards", &["shard", "slots", "leader", "replicas"])?;
            for shard in view.shards() {
                let replica = |r: &crate::catalog::records::Replica| match r.state {
                    crate::catalog::records::ReplicaState::Ready => r.node.to_string(),
                    state => format!("{} ({state})", r.node),
                };
                let replicas: Vec<String> = shard.replicas.iter().map(replica).collect();
                context.printer.row(vec![
                    Value::from(shard.id.0),
                    Value::from(shard.slots.to_string()),
                    Value::from(shard.leader_node().map(|node| node.0)),
                    Value::from(replicas.join(" ")),
                ])?;
            }
        }
        context.printer.footer("cluster", cluster);
        context.printer.footer("revision", view.revision());
        context.printer.finish(None)
    }
}

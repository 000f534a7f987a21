//! `arqon cluster init`: identity and shards.

use super::MetaArgs;
use crate::base::ErrorKind;
use crate::catalog::records::NodeState;
use crate::catalog::{Action, FORMAT_VERSION, View};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::env::rng;
use crate::rpc::cluster::MetaClient;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Give a new cluster its identity and its shards
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster init
  arqon cluster init --name prod --shards 8 --replicas 3 --meta http://10.0.0.5:8379
  arqon cluster init --replicas 1 --wait 5

Run it once metadata servers and nodes are started, in any order: it waits for as many nodes as a
shard has replicas. Run again it finishes what was begun, and changes nothing that is done.")]
pub struct Init {
    #[command(flatten)]
    meta: MetaArgs,
    /// Name of the cluster, for people
    #[arg(long, value_name = "NAME", default_value = "arqon")]
    name: String,
    /// Shards; few and large ones are the fastest
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    shards: u32,
    /// Replicas of each shard
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=7))]
    replicas: u32,
    /// Seconds to wait for nodes and leaders
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
}

impl Init {
    /// Runs it.
    pub async fn run(self, context: &mut Context) -> Outcome {
        let client = self.meta.client()?;
        let wanted = Wanted {
            name: self.name,
            shards: self.shards,
            replicas: self.replicas,
            deadline: Instant::now() + Duration::from_secs(self.wait),
        };
        let view = bring_up(&client, &wanted, context).await?;
        let name = view.cluster().map(|c| c.name.clone()).unwrap_or_default();
        context.printer.record(&[
            ("cluster", Value::from(name)),
            ("nodes", Value::from(fit(&view) as u64)),
            ("shards", Value::from(view.shards().count() as u64)),
        ])?;
        context.printer.finish(None)
    }
}

/// What a new cluster shall be.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) shards: u32,
    pub(super) replicas: u32,
    /// Until when nodes and leaders are waited for.
    pub(super) deadline: Instant,
}

/// Gives a cluster its identity and its shards, as far as it has none, and waits until each shard
/// has a leader.
pub(super) async fn bring_up(
    client: &MetaClient,
    wanted: &Wanted,
    context: &Context,
) -> Outcome<Arc<View>> {
    let &Wanted { shards: count, replicas, deadline, .. } = wanted;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&rng::entropy().to_le_bytes());
    id[8..].copy_from_slice(&rng::entropy().max(1).to_le_bytes());
    let init = Action::InitCluster { id, name: wanted.name.clone(), version: FORMAT_VERSION };
    done_or_there(client.propose(init, deadline).await.map(drop))?;
    let begun = Instant::now();
    let waited = || begun.elapsed().as_secs();
    let enough = |view: &View| view.shards().next().is_some() || fit(view) >= replicas as usize;
    context.say(format_args!("waiting for {replicas} nodes"));
    client.wait_for(deadline, enough).await.map_err(|_| {
        let there = fit(&client.view());
        Failure::unavailable(format!(
            "{there} nodes are there after {} s, and a shard has {replicas} replicas",
            waited()
        ))
        .fix("start more with `arqon node`, or say --replicas 1; then run this again")
    })?;
    let create = Action::CreateShards { count, replicas, nodes: Vec::new() };
    done_or_there(client.propose(create, deadline).await.map(drop))?;
    let led = |view: &View| {
        view.shards().next().is_some() && view.shards().all(|shard| shard.leader.is_some())
    };
    client.wait_for(deadline, led).await.map_err(|_| {
        Failure::unavailable(format!("not every shard has a leader after {} s", waited()))
            .fix("see `arqon cluster status`; run this again to wait on")
    })
}

/// How many nodes may take replicas.
fn fit(view: &View) -> usize {
    let fit = |state| matches!(state, NodeState::Active | NodeState::Joining);
    view.nodes().filter(|node| fit(node.state)).count()
}

/// What was done before is done.
fn done_or_there(outcome: crate::base::Result<()>) -> Outcome {
    match outcome {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}

//! `arqon cluster status`: nodes and shards.

use super::MetaArgs;
use crate::catalog::View;
use crate::catalog::records::{Node, NodeState, Replica, ReplicaState, Role, Shard};
use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::output::Value;
use crate::rpc::cluster::report::ShardReport;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long figures are waited for.
const FIGURES: Duration = Duration::from_secs(1);

/// Show nodes, shards, and what is amiss
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster status
  arqon cluster status --nodes
  arqon cluster status --meta http://10.0.0.5:8379 --output json

A shard is ok; lacks replicas; moves (has one that is coming or going); or has no quorum: then
nothing is read or written there until nodes come back. Bytes, keys and load are what the nodes
last reported, some seconds ago.")]
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
        let (client, view) = self.meta.view().await?;
        let reports = client.reports(Instant::now() + FIGURES).await.unwrap_or_default();
        let reports: BTreeMap<u64, ShardReport> =
            reports.into_iter().map(|report| (report.shard, report)).collect();
        if self.nodes {
            nodes(context, &view, &reports)?;
        } else {
            shards(context, &view, &reports)?;
        }
        sum_up(context, &view);
        context.printer.finish(None)
    }
}

fn nodes(context: &mut Context, view: &View, reports: &BTreeMap<u64, ShardReport>) -> Outcome {
    let columns = ["node", "state", "shards", "leads", "bytes", "data", "raft", "version"];
    context.printer.list("nodes", &columns)?;
    for node in view.nodes() {
        let leads = view.shards().filter(|s| s.leader_node() == Some(node.id)).count();
        let bytes = view.shards_on(node.id).filter_map(|s| reports.get(&s.id.0)).map(|r| r.bytes);
        context.printer.row(vec![
            Value::from(node.id.0),
            Value::from(node.state.name()),
            Value::from(view.shards_on(node.id).count() as u64),
            Value::from(leads as u64),
            Value::Size(bytes.sum()),
            Value::from(node.profile.data_url.clone()),
            Value::from(node.profile.raft_addr.clone()),
            Value::from(node.profile.software.clone()),
        ])?;
    }
    Ok(())
}

fn shards(context: &mut Context, view: &View, reports: &BTreeMap<u64, ShardReport>) -> Outcome {
    let columns = ["shard", "slots", "leader", "replicas", "state", "bytes", "keys", "load"];
    context.printer.list("shards", &columns)?;
    for shard in view.shards() {
        let replica = |r: &Replica| match r.state {
            ReplicaState::Ready => r.node.to_string(),
            state => format!("{} ({state})", r.node),
        };
        let replicas: Vec<String> = shard.replicas.iter().map(replica).collect();
        let report = reports.get(&shard.id.0);
        context.printer.row(vec![
            Value::from(shard.id.0),
            Value::from(shard.slots.to_string()),
            Value::from(shard.leader_node().map(|node| node.0)),
            Value::from(replicas.join(" ")),
            Value::from(state(view, shard)),
            report.map_or(Value::Null, |report| Value::Size(report.bytes)),
            Value::from(report.map(|report| report.keys)),
            Value::from(report.map(|report| report.requests_per_second)),
        ])?;
    }
    Ok(())
}

/// How a shard is, in a word that is worse than those behind it.
fn state(view: &View, shard: &Shard) -> &'static str {
    let is_there = |r: &&Replica| {
        let state = view.node(r.node).map(|node| node.state);
        r.is_live_voter() && !matches!(state, Some(NodeState::Suspect | NodeState::Dead))
    };
    let voters = shard.replicas.iter().filter(|r| r.role == Role::Voter);
    let stay = voters.filter(|r| r.state != ReplicaState::Leaving).count();
    let there = shard.replicas.iter().filter(is_there).count();
    if 2 * there <= stay {
        "no quorum"
    } else if there < shard.desired as usize {
        "lacks replicas"
    } else if shard.replicas.len() > there || there > shard.desired as usize {
        "moves"
    } else {
        "ok"
    }
}

/// The whole in a few words: fields of JSON, and a line for people.
fn sum_up(context: &mut Context, view: &View) {
    let mut by_state: BTreeMap<&str, u64> = BTreeMap::new();
    for Node { state, .. } in view.nodes() {
        *by_state.entry(state.name()).or_default() += 1;
    }
    let mut shards: BTreeMap<&str, u64> = BTreeMap::new();
    for shard in view.shards() {
        *shards.entry(state(view, shard)).or_default() += 1;
    }
    let jobs = view.jobs().filter(|job| job.state.is_active()).count() as u64;
    let told = |counts: &BTreeMap<&str, u64>| {
        let each: Vec<String> = counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
        if each.is_empty() { "none".to_string() } else { each.join(", ") }
    };
    let name = view.cluster().map(|c| c.name.clone()).unwrap_or_default();
    if !context.printer.format().is_json() {
        let (nodes, shards) = (told(&by_state), told(&shards));
        context.say(format_args!("cluster {name}: nodes: {nodes}; shards: {shards}; jobs: {jobs}"));
    }
    context.printer.footer("cluster", name);
    context.printer.footer("revision", view.revision());
    context.printer.footer_json("node_states", serde_json::json!(by_state));
    context.printer.footer_json("shard_states", serde_json::json!(shards));
    context.printer.footer("active_jobs", jobs);
}

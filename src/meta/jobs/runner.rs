//! The loop that does what is decided, on the metadata node that leads.

use super::decide::{Deed, Situation, decide};
use crate::base::Result;
use crate::catalog::{Action, Command, NodeId, ReplicaId, ShardId, encode_command};
use crate::meta::server::Inner;
use crate::rpc::cluster::method;
use crate::rpc::link::CallError;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How often it looks when nothing changes.
const EVERY: Duration = Duration::from_millis(500);
/// Two looks are so far apart at least.
const APART: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a shard may take to change its leader.
const TRANSFER: Duration = Duration::from_secs(5);
/// The class of links for calls.
const CALLS: u8 = 3;

/// Runs jobs while this metadata node leads, until it is stopped.
pub(in crate::meta) async fn run(meta: Weak<Inner>) {
    let begun = meta
        .upgrade()
        .map(|meta| (meta.options.seeds.next_seed().max(1), meta.revisions.subscribe()));
    let Some((owner, mut revisions)) = begun else { return };
    let mut transfers: BTreeMap<ShardId, JoinHandle<()>> = BTreeMap::new();
    loop {
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            () = sleep(EVERY) => {}
        }
        let Some(meta) = meta.upgrade() else { return };
        transfers.retain(|_, transfer| !transfer.is_finished());
        if meta.leads() {
            let mut changes = Vec::new();
            for deed in decided(&meta, owner) {
                match deed {
                    Deed::Change(action) => changes.push(propose(&meta, action)),
                    Deed::Transfer { shard, from, to } => {
                        transfers.entry(shard).or_insert_with(|| {
                            tokio::spawn(transfer(meta.clone(), shard, from, to))
                        });
                    }
                }
            }
            // What fails now is decided anew.
            futures::future::join_all(changes).await;
        }
        drop(meta);
        // A command that is refused for ever must not keep a processor.
        sleep(APART).await;
    }
}

fn decided(meta: &Inner, owner: u64) -> Vec<Deed> {
    let (view, then_ms) = meta.machine.read(|m| (m.catalog.view().clone(), m.catalog.now_ms()));
    if view.cluster().is_none() {
        return Vec::new();
    }
    let figures = meta.figures.of_shards();
    let situation = Situation {
        view: &view,
        now_ms: then_ms.max(meta.options.clock.unix_ms()),
        owner,
        figures: &figures,
        limits: &meta.options.limits,
    };
    decide(&situation)
}

async fn propose(meta: &Inner, action: Action) {
    if let Ok(command) = encode_command(&Command { now_ms: 0, id: None, action }) {
        _ = meta.propose(command.into(), true, PATIENCE).await;
    }
}

async fn transfer(meta: Arc<Inner>, shard: ShardId, from: NodeId, to: ReplicaId) {
    if ask_to_transfer(&meta, shard, from, to).await.is_err() {
        // It is asked again, but not without a pause.
        sleep(EVERY).await;
    }
}

async fn ask_to_transfer(meta: &Inner, shard: ShardId, from: NodeId, to: ReplicaId) -> Result<()> {
    let address =
        meta.machine.read(|m| m.catalog.view().node(from).map(|n| n.profile.raft_addr.clone()));
    if let Some(address) = address {
        meta.nodes.set(from.0, &address);
    }
    let body = [shard.0.to_le_bytes(), to.0.to_le_bytes()].concat();
    let link = meta.nodes.get(from.0, CALLS)?;
    let done = link.call(method::TRANSFER, body.into(), Instant::now() + TRANSFER).await;
    done.map(|_| ()).map_err(CallError::into_error)
}

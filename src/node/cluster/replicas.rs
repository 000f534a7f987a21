//! What runs here, brought in line with the catalog.

use crate::base::{Error, ErrorKind, Result};
use crate::catalog::records::{Role, Shard as Record};
use crate::catalog::{NodeId, ShardId, View};
use crate::lsm::{Engine, EngineOptions};
use crate::node::cluster::member::Inner;
use crate::raft::{Group, ShardHandle};
use crate::shard::{Shard, ShardOptions};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A replica that runs here.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) group: Group,
    pub(super) handle: ShardHandle,
    sessions: watch::Receiver<u64>,
    /// The shard as the catalog had it when that was last looked at.
    pub(super) record: Record,
}

impl Running {
    /// The session in which this replica may place batches; 0 while another leads.
    pub(super) fn session(&self) -> u64 {
        *self.sessions.borrow()
    }

    /// The version of its slots that this replica has come to.
    pub(super) fn epoch(&self) -> u64 {
        self.handle.get().map_or(1, |shard| shard.engine().part_epoch().max(1))
    }

    /// The node of the replica that leads, if known.
    pub(super) fn leader(&self) -> Option<u64> {
        let leader = self.group.status().leader?;
        self.record.replicas.iter().find(|r| r.id.0 == leader).map(|r| r.node.0)
    }
}

/// The replicas that run here.
#[derive(Default)]
pub(super) struct Replicas(Mutex<BTreeMap<ShardId, Running>>);

impl Replicas {
    fn map(&self) -> MutexGuard<'_, BTreeMap<ShardId, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The replica of a shard.
    pub(super) fn get(&self, shard: ShardId) -> Option<Running> {
        self.map().get(&shard).cloned()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Running> {
        self.map().values().cloned().collect()
    }

    pub(super) fn clear(&self) {
        self.map().clear();
    }
}

impl Inner {
    /// Starts, stops and removes replicas as the catalog says. False if something could not be
    /// done: it is tried again.
    pub(super) async fn reconcile(self: &Arc<Self>, view: &View) -> bool {
        // Another cluster's catalog says nothing of what is here.
        if view.cluster().is_none_or(|cluster| cluster.id != self.identity.cluster) {
            return view.revision() == 0;
        }
        for node in view.nodes() {
            self.links.set(node.id.0, &node.profile.raft_addr);
        }
        let own = self.identity.node;
        let mut all_well = true;
        for record in view.shards() {
            let Some(replica) = record.replicas.iter().find(|r| r.node.0 == own) else { continue };
            let running = self.replicas.get(record.id);
            let done = match running {
                Some(running) => {
                    running.group.set_places(places(record));
                    if let Some(kept) = self.replicas.map().get_mut(&record.id) {
                        kept.record = record.clone();
                    }
                    Ok(())
                }
                None if self.awaits_split(record) => {
                    all_well = false;
                    continue;
                }
                None => self.begin(record, replica.id.0).await,
            };
            all_well &= done.is_ok();
        }
        // Of a shard that is known, and known to be elsewhere: what is not known is kept.
        let is_elsewhere = |shard: &ShardId| {
            view.shard(*shard).is_some_and(|record| record.replica_on(NodeId(own)).is_none())
        };
        let running: Vec<ShardId> = self.replicas.map().keys().copied().collect();
        for gone in running.into_iter().filter(is_elsewhere) {
            self.replicas.map().remove(&gone);
            all_well &= self.host.remove(gone.group()).await.is_ok();
        }
        all_well
    }

    async fn begin(self: &Arc<Self>, record: &Record, replica: u64) -> Result<()> {
        let group = record.id.group();
        let known = self.host.replicas().into_iter().find(|(id, _)| *id == group);
        if known.is_some_and(|(_, known)| known != replica) {
            // One that was removed while this node was away.
            self.host.remove(group).await?;
        }
        let is_new = known.is_none_or(|(_, known)| known != replica);
        let node = Arc::downgrade(self);
        let shards = self.meta.view().shards().count().max(1) as u64;
        let open = move |dir: &std::path::Path, log| {
            let gone = || Error::new(ErrorKind::Unavailable, "the node is stopping");
            let node = node.upgrade().ok_or_else(gone)?;
            let part = node.options.memory_budget_bytes / 16;
            let mut options =
                EngineOptions::new(dir).with_memtable_budget((7 * part / shards).max(4 << 20));
            options.table.codec = node.options.compression;
            let engine = Engine::open(
                node.options.disk.clone(),
                node.background.clone(),
                node.cache.clone(),
                options,
            )?;
            let seeds = &node.options.seeds;
            let (seed, last_cursor) = (seeds.next_seed(), seeds.next_seed());
            let options = ShardOptions { count_keys: true, seed, last_cursor };
            let shard = Shard::new(engine, Box::new(log), options);
            shard.start()?;
            Ok(shard)
        };
        let options = self.options.group.clone();
        let (running, handle) =
            self.host.start_shard(group, replica, options, is_new, open).await?;
        running.set_places(places(record));
        // The first of a new shard's begins its group, again if it was stopped before it had;
        // whoever comes later is told by its leader.
        let first = record.replicas.first().is_some_and(|first| first.id.0 == replica);
        if first && record.leader.is_none() && record.epoch.range == 1 {
            let voters = record.replicas.iter().filter(|r| r.role == Role::Voter).map(|r| r.id.0);
            running.initialize(voters.collect()).await?;
        }
        self.lead_child(record, replica, &running);
        let sessions = running.sessions().unwrap_or_else(|| watch::channel(0).1);
        let running = Running { group: running, handle, sessions, record: record.clone() };
        self.replicas.map().insert(record.id, running);
        Ok(())
    }
}

fn places(record: &Record) -> impl Iterator<Item = (u64, NodeId)> {
    record.replicas.iter().map(|replica| (replica.id.0, NodeId(replica.node.0)))
}

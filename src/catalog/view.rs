//! The view: the catalog's contents as subscribers hold them, and following changes.
//!
//! The catalog itself keeps its records in a view and changes it by the events it gives out, so a
//! copy that took the same changes is equal to it.

use crate::base::{CfId, Error, ErrorKind, Result};
use crate::catalog::event::{Change, Event};
use crate::catalog::ids::{JobId, NodeId, ShardId};
use crate::catalog::records::{Cluster, Family, Index, Job, Node, NodeState, Shard, User};
use crate::op::route::SLOTS;
use std::collections::BTreeMap;

/// A copy of the catalog's contents at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    pub(super) revision: u64,
    pub(super) cluster: Option<Cluster>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) shards: BTreeMap<ShardId, Shard>,
    /// The shards by their first slot; follows `shards`.
    by_slot: BTreeMap<u16, ShardId>,
    pub(super) families: BTreeMap<String, Family>,
    pub(super) indexes: BTreeMap<String, Index>,
    pub(super) users: BTreeMap<String, User>,
    pub(super) jobs: BTreeMap<JobId, Job>,
}

impl View {
    /// How many changes led here.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The cluster's identity; `None` until it is initialised.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// The node with this id, removed ones too.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// All nodes by id, removed ones too.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// The shard with this id.
    pub fn shard(&self, id: ShardId) -> Option<&Shard> {
        self.shards.get(&id)
    }

    /// All shards in slot order.
    pub fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.by_slot.values().filter_map(|id| self.shards.get(id))
    }

    /// The shard that holds this slot; `None` before shards are created, or for no slot at all.
    pub fn shard_of_slot(&self, slot: u16) -> Option<&Shard> {
        let (_, id) = self.by_slot.range(..=slot).next_back()?;
        self.shards.get(id).filter(|shard| shard.slots.contains(slot))
    }

    /// The shards that have a replica on a node, in slot order. Looks at every shard.
    pub fn shards_on(&self, node: NodeId) -> impl Iterator<Item = &Shard> {
        self.shards().filter(move |shard| shard.replica_on(node).is_some())
    }

    /// The column family of this name.
    pub fn family(&self, name: &str) -> Option<&Family> {
        self.families.get(name)
    }

    /// The column family with this id. Looks at every family.
    pub fn family_of_id(&self, id: CfId) -> Option<&Family> {
        self.families.values().find(|family| family.id == id)
    }

    /// All column families by name.
    pub fn families(&self) -> impl Iterator<Item = &Family> {
        self.families.values()
    }

    /// The index of this name.
    pub fn index(&self, name: &str) -> Option<&Index> {
        self.indexes.get(name)
    }

    /// All indexes by name.
    pub fn indexes(&self) -> impl Iterator<Item = &Index> {
        self.indexes.values()
    }

    /// The user of this name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// All users by name.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }

    /// The job with this id.
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// All jobs in the order of creation.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    /// The active job that concerns this shard. Looks at every job.
    pub fn job_of_shard(&self, shard: ShardId) -> Option<&Job> {
        self.jobs.values().find(|job| job.state.is_active() && job.shard == Some(shard))
    }

    /// Takes the next change. One that is not the next is [`ErrorKind::Conflict`], and the view
    /// is as before: ask for the changes since [`View::revision`].
    pub fn follow(&mut self, change: &Change) -> Result<()> {
        if Some(change.revision) != self.revision.checked_add(1) {
            let message = format!(
                "the view is at revision {} and cannot take change {}; ask for the changes since",
                self.revision, change.revision
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        change.events.iter().for_each(|event| self.absorb(event));
        self.revision = change.revision;
        Ok(())
    }

    fn absorb(&mut self, event: &Event) {
        match event {
            Event::ClusterChanged(cluster) => self.cluster = Some(cluster.clone()),
            Event::NodeChanged(node) => {
                self.nodes.insert(node.id, node.clone());
            }
            Event::ShardChanged(shard) => self.put_shard(shard.clone()),
            Event::ShardsSplit { parent, child } => {
                self.put_shard(parent.clone());
                self.put_shard(child.clone());
            }
            Event::CfChanged { name, value } => set(&mut self.families, name, value),
            Event::IndexChanged { name, value } => set(&mut self.indexes, name, value),
            Event::UserChanged { name, value } => set(&mut self.users, name, value),
            Event::JobChanged { id, value } => {
                set(&mut self.jobs, id, &value.as_deref().cloned());
            }
        }
    }

    pub(super) fn put_shard(&mut self, shard: Shard) {
        if let Some(before) = self.shards.get(&shard.id)
            && self.by_slot.get(&before.slots.first) == Some(&shard.id)
        {
            self.by_slot.remove(&before.slots.first);
        }
        self.by_slot.insert(shard.slots.first, shard.id);
        self.shards.insert(shard.id, shard);
    }

    /// What always holds: the shards cover every slot once or there are none, no node has two
    /// replicas of a shard, every replica's node is registered, and no shard has two active jobs.
    /// Gives what does not. Cost: one look at everything.
    pub fn check(&self) -> Result<(), String> {
        let mut next = 0;
        for shard in self.shards() {
            let slots = shard.slots;
            if slots.first != next || slots.last < slots.first || slots.last >= SLOTS {
                return Err(format!("shard {} has slots {slots} instead of {next}-", shard.id));
            }
            next = slots.last + 1;
            self.check_replicas(shard)?;
        }
        let listed = self.by_slot.len() == self.shards.len();
        if !listed || (next != SLOTS && !self.shards.is_empty()) {
            return Err(format!("the shards end at slot {next}"));
        }
        let mut seen = BTreeMap::new();
        for job in self.jobs.values().filter(|job| job.state.is_active()) {
            if let Some(shard) = job.shard
                && let Some(first) = seen.insert(shard, job.id)
            {
                return Err(format!("jobs {first} and {} both concern shard {shard}", job.id));
            }
        }
        Ok(())
    }

    fn check_replicas(&self, shard: &Shard) -> Result<(), String> {
        for (i, replica) in shard.replicas.iter().enumerate() {
            let node = self.nodes.get(&replica.node);
            if node.is_none_or(|node| node.state == NodeState::Removed) {
                return Err(format!(
                    "replica {} is on node {}, not there",
                    replica.id, replica.node
                ));
            }
            let others = &shard.replicas[..i];
            if others.iter().any(|r| r.node == replica.node || r.id == replica.id) {
                return Err(format!("shard {} is on node {} twice", shard.id, replica.node));
            }
        }
        let paired = |split: &super::records::PendingSplit| {
            split.replicas.len() == shard.replicas.len() && shard.slots.split(split.at).is_some()
        };
        if !shard.split.as_ref().is_none_or(paired) {
            return Err(format!("the pending split of shard {} does not fit it", shard.id));
        }
        Ok(())
    }
}

fn set<K: Ord + Clone, V: Clone>(map: &mut BTreeMap<K, V>, key: &K, value: &Option<V>) {
    match value {
        Some(value) => map.insert(key.clone(), value.clone()),
        None => map.remove(key),
    };
}

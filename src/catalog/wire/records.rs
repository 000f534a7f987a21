//! Records.
//!
//! ```text
//! message Cluster { bytes id = 1; string name = 2; uint32 version = 3; uint64 created_ms = 4; }
//! message Profile { string data_url = 1; string raft_addr = 2; map<string, string> labels = 3;
//!                   uint64 disk_bytes = 4; uint32 cores = 5; string software = 6;
//!                   uint32 speaks = 7; }
//! message Node    { uint64 id = 1; fixed64 incarnation = 2; Profile profile = 3; uint32 state = 4;
//!                   uint64 since_ms = 5; }
//! message Replica { uint64 id = 1; uint64 node = 2; uint32 role = 3; uint32 state = 4; }
//! message Epoch   { uint64 config = 1; uint64 range = 2; }
//! message Leader  { uint64 replica = 1; uint64 term = 2; }
//! message PendingSplit { uint32 at = 1; uint64 child = 2; repeated uint64 replicas = 3; }
//! message Shard   { uint64 id = 1; uint32 first = 2; uint32 last = 3; Epoch epoch = 4;
//!                   repeated Replica replicas = 5; uint32 desired = 6; Leader leader = 7;
//!                   PendingSplit split = 8; }
//! message Family  { uint32 id = 1; string name = 2; }
//! message Index   { uint64 id = 1; string name = 2; string kind = 3; bytes config = 4;
//!                   repeated uint64 nodes = 5; }
//! message User    { string name = 1; uint32 role = 2; bytes verifier = 3; bool disabled = 4; }
//! message Lease   { fixed64 owner = 1; uint64 until_ms = 2; }
//! message Job     { uint64 id = 1; uint32 kind = 2; optional uint64 shard = 3;
//!                   optional uint64 node = 4; bytes steps = 5; uint32 attempts = 6;
//!                   uint32 state = 7; Lease lease = 8; string text = 9; uint64 created_ms = 10;
//!                   uint64 changed_ms = 11; }
//! ```

use super::{all, malformed, required, unknown};
use crate::base::{CfId, Result};
use crate::catalog::ids::{IndexId, JobId, NodeId, ReplicaId, ShardId};
use crate::catalog::records;
use crate::op::route::{SLOTS, SlotRange};
use prost::Message;
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Cluster {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint32, tag = "3")]
    version: u32,
    #[prost(uint64, tag = "4")]
    created_ms: u64,
}

impl Cluster {
    pub(super) fn of(from: &records::Cluster) -> Cluster {
        let records::Cluster { id, name, version, created_ms } = from.clone();
        Cluster { id: id.to_vec(), name, version, created_ms }
    }

    pub(super) fn read(self) -> Result<records::Cluster> {
        let Cluster { id, name, version, created_ms } = self;
        Ok(records::Cluster { id: read_cluster_id(id)?, name, version, created_ms })
    }
}

pub(super) fn read_cluster_id(id: Vec<u8>) -> Result<[u8; 16]> {
    id.try_into().map_err(|id: Vec<u8>| malformed("a cluster's id", &format!("{} bytes", id.len())))
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Profile {
    #[prost(string, tag = "1")]
    data_url: String,
    #[prost(string, tag = "2")]
    raft_addr: String,
    #[prost(btree_map = "string, string", tag = "3")]
    labels: BTreeMap<String, String>,
    #[prost(uint64, tag = "4")]
    disk_bytes: u64,
    #[prost(uint32, tag = "5")]
    cores: u32,
    #[prost(string, tag = "6")]
    software: String,
    #[prost(uint32, tag = "7")]
    speaks: u32,
}

impl Profile {
    pub(super) fn of(from: &records::NodeProfile) -> Profile {
        let from = from.clone();
        let records::NodeProfile { data_url, raft_addr, labels, .. } = from;
        let records::NodeProfile { disk_bytes, cores, software, speaks, .. } = from;
        Profile { data_url, raft_addr, labels, disk_bytes, cores, software, speaks }
    }

    pub(super) fn read(self) -> Result<records::NodeProfile> {
        let Profile { data_url, raft_addr, labels, disk_bytes, cores, software, speaks } = self;
        Ok(records::NodeProfile {
            data_url,
            raft_addr,
            labels,
            disk_bytes,
            cores,
            software,
            speaks,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(fixed64, tag = "2")]
    incarnation: u64,
    #[prost(message, optional, tag = "3")]
    profile: Option<Profile>,
    #[prost(uint32, tag = "4")]
    state: u32,
    #[prost(uint64, tag = "5")]
    since_ms: u64,
}

impl Node {
    pub(super) fn of(from: &records::Node) -> Node {
        let (id, incarnation, since_ms) = (from.id.0, from.incarnation, from.since_ms);
        let profile = Some(Profile::of(&from.profile));
        Node { id, incarnation, profile, state: from.state as u32, since_ms }
    }

    pub(super) fn read(self) -> Result<records::Node> {
        Ok(records::Node {
            id: NodeId(self.id),
            incarnation: self.incarnation,
            profile: required("a node", self.profile, Profile::read)?,
            state: read_node_state(self.state)?,
            since_ms: self.since_ms,
        })
    }
}

pub(super) fn read_node_state(state: u32) -> Result<records::NodeState> {
    records::NodeState::from_number(state).ok_or_else(|| unknown("a node's state"))
}

#[derive(Clone, PartialEq, Message)]
struct Replica {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(uint32, tag = "3")]
    role: u32,
    #[prost(uint32, tag = "4")]
    state: u32,
}

impl Replica {
    fn of(from: &records::Replica) -> Replica {
        let (role, state) = (from.role as u32, from.state as u32);
        Replica { id: from.id.0, node: from.node.0, role, state }
    }

    fn read(self) -> Result<records::Replica> {
        let role = records::Role::from_number(self.role);
        let state = records::ReplicaState::from_number(self.state);
        let (Some(role), Some(state)) = (role, state) else { return Err(unknown("a replica")) };
        Ok(records::Replica { id: ReplicaId(self.id), node: NodeId(self.node), role, state })
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Epoch {
    #[prost(uint64, tag = "1")]
    config: u64,
    #[prost(uint64, tag = "2")]
    range: u64,
}

impl Epoch {
    pub(super) fn of(from: &records::Epoch) -> Epoch {
        Epoch { config: from.config, range: from.range }
    }

    pub(super) fn read(self) -> Result<records::Epoch> {
        Ok(records::Epoch { config: self.config, range: self.range })
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Leader {
    #[prost(uint64, tag = "1")]
    replica: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PendingSplit {
    #[prost(uint32, tag = "1")]
    at: u32,
    #[prost(uint64, tag = "2")]
    child: u64,
    #[prost(uint64, repeated, tag = "3")]
    replicas: Vec<u64>,
}

impl PendingSplit {
    fn of(from: &records::PendingSplit) -> PendingSplit {
        let replicas = from.replicas.iter().map(|id| id.0).collect();
        PendingSplit { at: u32::from(from.at), child: from.child.0, replicas }
    }

    fn read(self) -> Result<records::PendingSplit> {
        let replicas = self.replicas.into_iter().map(ReplicaId).collect();
        Ok(records::PendingSplit { at: read_slot(self.at)?, child: ShardId(self.child), replicas })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Shard {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint32, tag = "2")]
    first: u32,
    #[prost(uint32, tag = "3")]
    last: u32,
    #[prost(message, optional, tag = "4")]
    epoch: Option<Epoch>,
    #[prost(message, repeated, tag = "5")]
    replicas: Vec<Replica>,
    #[prost(uint32, tag = "6")]
    desired: u32,
    #[prost(message, optional, tag = "7")]
    leader: Option<Leader>,
    #[prost(message, optional, tag = "8")]
    split: Option<PendingSplit>,
}

impl Shard {
    pub(super) fn of(from: &records::Shard) -> Shard {
        Shard {
            id: from.id.0,
            first: u32::from(from.slots.first),
            last: u32::from(from.slots.last),
            epoch: Some(Epoch::of(&from.epoch)),
            replicas: from.replicas.iter().map(Replica::of).collect(),
            desired: from.desired,
            leader: from.leader.map(|l| Leader { replica: l.replica.0, term: l.term }),
            split: from.split.as_ref().map(PendingSplit::of),
        }
    }

    pub(super) fn read(self) -> Result<records::Shard> {
        let slots = SlotRange { first: read_slot(self.first)?, last: read_slot(self.last)? };
        if slots.first > slots.last {
            return Err(malformed("a shard", &format!("its slots are {slots}")));
        }
        let leader = |l: Leader| records::Leader { replica: ReplicaId(l.replica), term: l.term };
        Ok(records::Shard {
            id: ShardId(self.id),
            slots,
            epoch: required("a shard", self.epoch, Epoch::read)?,
            replicas: all(self.replicas, Replica::read)?,
            desired: self.desired,
            leader: self.leader.map(leader),
            split: self.split.map(PendingSplit::read).transpose()?,
        })
    }
}

/// A slot's number, or any that an operator may have given for one.
pub(super) fn read_split_slot(slot: u32) -> Result<u16> {
    u16::try_from(slot).map_err(|_| malformed("a slot", &slot))
}

fn read_slot(slot: u32) -> Result<u16> {
    read_split_slot(slot).ok().filter(|s| *s < SLOTS).ok_or_else(|| malformed("a slot", &slot))
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Family {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(string, tag = "2")]
    name: String,
}

impl Family {
    pub(super) fn of(from: &records::Family) -> Family {
        Family { id: from.id.0, name: from.name.clone() }
    }

    pub(super) fn read(self) -> Result<records::Family> {
        Ok(records::Family { id: CfId(self.id), name: self.name })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Index {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(bytes = "vec", tag = "4")]
    config: Vec<u8>,
    #[prost(uint64, repeated, tag = "5")]
    nodes: Vec<u64>,
}

impl Index {
    pub(super) fn of(from: &records::Index) -> Index {
        let records::Index { id, name, kind, config, nodes } = from.clone();
        Index { id: id.0, name, kind, config, nodes: nodes.into_iter().map(|n| n.0).collect() }
    }

    pub(super) fn read(self) -> Result<records::Index> {
        let Index { id, name, kind, config, nodes } = self;
        let nodes = nodes.into_iter().map(NodeId).collect();
        Ok(records::Index { id: IndexId(id), name, kind, config, nodes })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct User {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    role: u32,
    #[prost(bytes = "vec", tag = "3")]
    verifier: Vec<u8>,
    #[prost(bool, tag = "4")]
    disabled: bool,
}

impl User {
    pub(super) fn of(from: &records::User) -> User {
        let records::User { name, role, verifier, disabled } = from.clone();
        User { name, role: role as u32, verifier, disabled }
    }

    pub(super) fn read(self) -> Result<records::User> {
        let User { name, role, verifier, disabled } = self;
        Ok(records::User { name, role: read_user_role(role)?, verifier, disabled })
    }
}

pub(super) fn read_user_role(role: u32) -> Result<records::UserRole> {
    records::UserRole::from_number(role).ok_or_else(|| unknown("a user's role"))
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Lease {
    #[prost(fixed64, tag = "1")]
    owner: u64,
    #[prost(uint64, tag = "2")]
    until_ms: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Job {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(uint64, optional, tag = "3")]
    shard: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    node: Option<u64>,
    #[prost(bytes = "vec", tag = "5")]
    steps: Vec<u8>,
    #[prost(uint32, tag = "6")]
    attempts: u32,
    #[prost(uint32, tag = "7")]
    state: u32,
    #[prost(message, optional, tag = "8")]
    lease: Option<Lease>,
    #[prost(string, tag = "9")]
    text: String,
    #[prost(uint64, tag = "10")]
    created_ms: u64,
    #[prost(uint64, tag = "11")]
    changed_ms: u64,
}

impl Job {
    pub(super) fn of(from: &records::Job) -> Job {
        Job {
            id: from.id.0,
            kind: from.kind as u32,
            shard: from.shard.map(|id| id.0),
            node: from.node.map(|id| id.0),
            steps: from.steps.clone(),
            attempts: from.attempts,
            state: from.state as u32,
            lease: from.lease.map(|l| Lease { owner: l.owner, until_ms: l.until_ms }),
            text: from.text.clone(),
            created_ms: from.created_ms,
            changed_ms: from.changed_ms,
        }
    }

    pub(super) fn read(self) -> Result<records::Job> {
        let state = records::JobState::from_number(self.state);
        let lease = |l: Lease| records::Lease { owner: l.owner, until_ms: l.until_ms };
        Ok(records::Job {
            id: JobId(self.id),
            kind: read_job_kind(self.kind)?,
            shard: self.shard.map(ShardId),
            node: self.node.map(NodeId),
            steps: self.steps,
            attempts: self.attempts,
            state: state.ok_or_else(|| unknown("a job's state"))?,
            lease: self.lease.map(lease),
            text: self.text,
            created_ms: self.created_ms,
            changed_ms: self.changed_ms,
        })
    }
}

pub(super) fn read_job_kind(kind: u32) -> Result<records::JobKind> {
    records::JobKind::from_number(kind).ok_or_else(|| unknown("a job's kind"))
}

//! A catalog with a few nodes and shards, and short ways to say commands.

use arqondb::catalog::records::{NodeProfile, NodeState, Shard, UserRole};
use arqondb::catalog::{
    Action, Applied, Catalog, Command, NodeId, Outcome, Refusal, ShardChange, ShardId,
};
use std::collections::BTreeMap;

pub(crate) const START_MS: u64 = 1_700_000_000_000;

pub(crate) fn profile(labels: &[(&str, &str)]) -> NodeProfile {
    NodeProfile {
        data_url: "http://10.0.0.1:7379".into(),
        raft_addr: "10.0.0.1:7380".into(),
        labels: labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        disk_bytes: 1 << 40,
        cores: 8,
        software: "0.1.0".into(),
        speaks: 1,
    }
}

pub(crate) fn init() -> Action {
    Action::InitCluster { id: [7; 16], name: "test".into(), version: 1 }
}

pub(crate) fn register(incarnation: u64, labels: &[(&str, &str)]) -> Action {
    Action::RegisterNode { wanted: None, incarnation, profile: profile(labels) }
}

pub(crate) fn user(name: &str, role: UserRole) -> Action {
    Action::CreateUser { name: name.into(), role, verifier: b"hash".to_vec() }
}

/// Applies at a fixed time, without a request id.
pub(crate) fn apply(catalog: &mut Catalog, action: Action) -> Result<Applied, Refusal> {
    catalog.apply(&Command { now_ms: START_MS, id: None, action })
}

pub(crate) fn done(catalog: &mut Catalog, action: Action) -> Outcome {
    apply(catalog, action).unwrap().outcome
}

/// A change of a shard, with the epoch it has.
pub(crate) fn change(catalog: &Catalog, shard: ShardId, change: ShardChange) -> Action {
    let expected = catalog.view().shard(shard).unwrap().epoch;
    Action::ChangeShard { shard, expected, change }
}

pub(crate) fn change_shard(catalog: &mut Catalog, shard: ShardId, of: ShardChange) -> Shard {
    let action = change(catalog, shard, of);
    match done(catalog, action) {
        Outcome::Shard(shard) => shard,
        other => panic!("a shard's change answers {other:?}"),
    }
}

pub(crate) fn set_state(catalog: &mut Catalog, node: NodeId, to: NodeState) {
    let expected = catalog.view().node(node).unwrap().state;
    done(catalog, Action::SetNodeState { node, expected, to });
}

pub(crate) fn kill(catalog: &mut Catalog, node: NodeId) {
    set_state(catalog, node, NodeState::Suspect);
    set_state(catalog, node, NodeState::Dead);
}

/// Nodes 1 to `zones.len()`, active, each in its zone; incarnation 100 + id.
pub(crate) fn cluster(zones: &[&str]) -> Catalog {
    let mut catalog = Catalog::new();
    done(&mut catalog, init());
    for (i, zone) in zones.iter().enumerate() {
        let incarnation = 101 + i as u64;
        let labels: &[(&str, &str)] = if zone.is_empty() { &[] } else { &[("zone", zone)] };
        let Outcome::Node(node) = done(&mut catalog, register(incarnation, labels)) else {
            panic!("registering answers the node's id");
        };
        done(&mut catalog, Action::Heartbeat { node, incarnation });
    }
    catalog
}

pub(crate) fn with_shards(zones: &[&str], count: u32, replicas: u32) -> Catalog {
    let mut catalog = cluster(zones);
    done(&mut catalog, Action::CreateShards { count, replicas, nodes: Vec::new() });
    catalog
}

/// Replicas by node.
pub(crate) fn counts(catalog: &Catalog) -> BTreeMap<NodeId, usize> {
    let mut counts: BTreeMap<NodeId, usize> =
        catalog.view().nodes().map(|node| (node.id, 0)).collect();
    for replica in catalog.view().shards().flat_map(|shard| &shard.replicas) {
        *counts.entry(replica.node).or_default() += 1;
    }
    counts
}

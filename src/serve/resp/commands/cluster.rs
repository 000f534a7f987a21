//! CLUSTER: what is behind the door, as clients of Redis Cluster read it.
//!
//! In Redis a node leads its slots or copies those of one other; here it may lead some and have
//! copies of others. Where a node has one part to play, it is the leader's.

use super::unsupported;
use crate::op::command::{self, Id, Spec};
use crate::op::route::{SLOTS, SlotRange, slot_of};
use crate::op::topology::{Topology, TopologyNode};
use crate::op::{KvOps, Reply};
use crate::serve::resp::frame::Command;
use std::fmt::Write;

/// How far the port of Redis's cluster bus lies above that for clients.
const BUS_PORT_ABOVE: u32 = 10_000;

/// Executes CLUSTER, READONLY and READWRITE.
pub(super) fn execute<K: KvOps>(kv: &K, spec: &'static Spec, args: &Command) -> Reply {
    let Some(topology) = kv.topology() else {
        return Reply::err("This instance has cluster support disabled");
    };
    match spec.id {
        Id::ClusterHelp => command::help_reply(spec),
        Id::ClusterInfo => info(&topology),
        Id::ClusterKeyslot => Reply::Int(slot_of(&args[2]).into()),
        Id::ClusterMyid => Reply::bulk(myself(&topology).map_or_else(String::new, name)),
        Id::ClusterNodes => nodes(&topology),
        Id::ClusterShards => shards(&topology),
        Id::ClusterSlots => slots(&topology),
        // Whoever is asked asks the leader: a replica's answer is as good.
        Id::Readonly | Id::Readwrite => Reply::OK,
        _ => unsupported(spec),
    }
}

fn myself(topology: &Topology) -> Option<&TopologyNode> {
    topology.nodes.get(topology.myself)
}

fn name(node: &TopologyNode) -> String {
    node.name.clone()
}

fn int(n: impl Into<i64>) -> Reply {
    Reply::Int(n.into())
}

fn info(topology: &Topology) -> Reply {
    let assigned: u32 = topology.ranges.iter().map(|range| count(range.slots)).sum();
    let leaders = leaders(topology).len();
    let state = if assigned == u32::from(SLOTS) { "ok" } else { "fail" };
    let (known, epoch) = (topology.nodes.len(), topology.epoch);
    let text = format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:{assigned}\r\n\
         cluster_slots_ok:{assigned}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n\
         cluster_known_nodes:{known}\r\ncluster_size:{leaders}\r\n\
         cluster_current_epoch:{epoch}\r\ncluster_my_epoch:{epoch}\r\n\
         cluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n\
         total_cluster_links_buffer_limit_exceeded:0\r\n"
    );
    Reply::Verbatim("txt", text)
}

fn count(slots: SlotRange) -> u32 {
    u32::from(slots.last) - u32::from(slots.first) + 1
}

/// The places of the nodes that lead, in the order of their first slots.
fn leaders(topology: &Topology) -> Vec<usize> {
    let mut leaders = Vec::new();
    for range in &topology.ranges {
        if !leaders.contains(&range.leader) {
            leaders.push(range.leader);
        }
    }
    leaders
}

fn nodes(topology: &Topology) -> Reply {
    let mut text = String::new();
    for (place, node) in topology.nodes.iter().enumerate() {
        let led = topology.ranges.iter().filter(|range| range.leader == place);
        let copied = topology.ranges.iter().find(|range| range.replicas.contains(&place));
        let leader = copied.filter(|_| led.clone().next().is_none());
        let leader = leader.and_then(|range| topology.nodes.get(range.leader));
        let (bus, epoch) = (u32::from(node.port) + BUS_PORT_ABOVE, topology.epoch);
        let mine = if place == topology.myself { "myself," } else { "" };
        let part = if leader.is_some() { "slave" } else { "master" };
        let of = leader.map_or("-", |leader| leader.name.as_str());
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{} {}:{}@{bus} {mine}{part} {of} 0 0 {epoch} connected",
            node.name, node.host, node.port
        );
        for SlotRange { first, last } in led.map(|range| range.slots) {
            let _ = if first == last {
                write!(text, " {first}")
            } else {
                write!(text, " {first}-{last}")
            };
        }
        text.push('\n');
    }
    Reply::Verbatim("txt", text)
}

fn slots(topology: &Topology) -> Reply {
    let node = |place: &usize| {
        topology.nodes.get(*place).map(|node| {
            Reply::Array(vec![
                Reply::bulk(node.host.clone()),
                int(node.port),
                Reply::bulk(node.name.clone()),
                Reply::Map(Vec::new()),
            ])
        })
    };
    let range = |range: &crate::op::topology::TopologyRange| {
        let mut parts = vec![int(range.slots.first), int(range.slots.last)];
        parts.extend(std::iter::once(&range.leader).chain(&range.replicas).filter_map(node));
        Reply::Array(parts)
    };
    Reply::Array(topology.ranges.iter().map(range).collect())
}

fn shards(topology: &Topology) -> Reply {
    let shard = |leader: usize| {
        let led = topology.ranges.iter().filter(|range| range.leader == leader);
        let slots = led.clone().flat_map(|range| [range.slots.first, range.slots.last]);
        let mut places = vec![leader];
        for replica in led.flat_map(|range| &range.replicas) {
            if !places.contains(replica) {
                places.push(*replica);
            }
        }
        let nodes = places.into_iter().filter_map(|place| {
            let node = topology.nodes.get(place)?;
            let part = if place == leader { "master" } else { "replica" };
            Some(Reply::Map(vec![
                (Reply::bulk("id"), Reply::bulk(node.name.clone())),
                (Reply::bulk("port"), int(node.port)),
                (Reply::bulk("ip"), Reply::bulk(node.host.clone())),
                (Reply::bulk("endpoint"), Reply::bulk(node.host.clone())),
                (Reply::bulk("role"), Reply::bulk(part)),
                (Reply::bulk("replication-offset"), Reply::Int(0)),
                (Reply::bulk("health"), Reply::bulk("online")),
            ]))
        });
        Reply::Map(vec![
            (Reply::bulk("slots"), Reply::Array(slots.map(int).collect())),
            (Reply::bulk("nodes"), Reply::Array(nodes.collect())),
        ])
    };
    Reply::Array(leaders(topology).into_iter().map(shard).collect())
}

//! What clients of Redis Cluster are told: who answers for which slots.
//!
//! A node is told of if Redis clients reach it. The slots of one that they do not reach are this
//! gateway's own, which passes what it gets on to the node.

use crate::gateway::map::{Node, ShardMap};
use crate::op::topology::{Topology, TopologyNode, TopologyRange};
use crate::op::{Reply, Request};

/// This gateway as Redis clients see it.
#[derive(Debug)]
pub(super) struct Myself(TopologyNode);

impl Myself {
    /// `None` if `address` is no `host:port`.
    pub(super) fn at(address: &str, client: u64) -> Option<Myself> {
        node(address, GATEWAY, client).map(Myself)
    }
}

/// Begins the names of gateways and of nodes, so that none is another's.
const GATEWAY: u32 = 0x6A7E_0000;
const NODE: u32 = 0;

fn node(address: &str, kind: u32, id: u64) -> Option<TopologyNode> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
    Some(TopologyNode { name: format!("{kind:08x}{id:032x}"), host, port: port.parse().ok()? })
}

/// The cluster as Redis clients are told of it; `None` if they reach nobody for some of the slots
/// that have a shard.
pub(super) fn topology(map: &ShardMap, own: Option<&Myself>) -> Option<Topology> {
    let mut nodes: Vec<TopologyNode> = own.iter().map(|own| own.0.clone()).collect();
    let myself = 0;
    let mut place = |replica: &Node| {
        let node = node(replica.redis.as_deref()?, NODE, replica.id.0)?;
        Some(nodes.iter().position(|known| known.name == node.name).unwrap_or_else(|| {
            nodes.push(node);
            nodes.len() - 1
        }))
    };
    let mut ranges: Vec<TopologyRange> = Vec::with_capacity(map.shards().len());
    for shard in map.shards() {
        let leading = shard.leading().or(shard.replicas.first());
        let range = match leading.and_then(&mut place) {
            Some(leader) => {
                let replicas = shard.replicas.iter().filter_map(&mut place);
                let replicas = replicas.filter(|replica| *replica != leader).collect();
                TopologyRange { slots: shard.slots, leader, replicas }
            }
            None if own.is_some() => {
                TopologyRange { slots: shard.slots, leader: myself, replicas: Vec::new() }
            }
            None => return None,
        };
        match ranges.last_mut() {
            Some(last)
                if last.slots.last + 1 == range.slots.first
                    && last.leader == range.leader
                    && last.replicas == range.replicas =>
            {
                last.slots.last = range.slots.last;
            }
            _ => ranges.push(range),
        }
    }
    (!nodes.is_empty()).then(|| Topology { nodes, ranges, myself, epoch: map.version() })
}

/// Where the client of a Redis command shall go instead, if its slot is led elsewhere.
pub(super) fn moved(
    request: &Request,
    slot: u16,
    map: &ShardMap,
    own: Option<&str>,
) -> Option<Reply> {
    let (Request::Redis(_) | Request::RedisTransaction { .. } | Request::Watch { .. }) = request
    else {
        return None;
    };
    let there = map.shard_of(slot)?.leading()?.redis.as_deref()?;
    (Some(there) != own).then(|| Reply::Error(format!("MOVED {slot} {there}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::map::{MapCache, NodeId, ShardInfo};
    use crate::op::route::{ShardId, SlotRange};

    fn shard(id: u64, first: u16, last: u16, leader: u64, redis: bool) -> ShardInfo {
        let node = |id: u64| Node {
            id: NodeId(id),
            address: format!("n{id}").into(),
            redis: redis.then(|| format!("10.0.0.{id}:6379").into()),
        };
        let replicas = vec![node(leader), node(leader + 1)];
        let slots = SlotRange { first, last };
        ShardInfo { id: ShardId(id), epoch: 1, slots, leader: Some(NodeId(leader)), replicas }
    }

    fn told(shards: &[ShardInfo], own: Option<&str>) -> Option<Topology> {
        let cache = MapCache::default();
        cache.learn(shards);
        let own = own.and_then(|own| Myself::at(own, 7));
        cache.load().topology(own.as_ref()).map(|t| Topology::clone(&t))
    }

    #[test]
    fn nodes_that_clients_reach_answer_for_their_slots_and_the_gateway_for_the_rest() {
        let shards = [shard(1, 0, 99, 1, true), shard(2, 100, 16383, 2, false)];
        let told = told(&shards, Some("[::1]:7000")).unwrap();
        let hosts: Vec<_> = told.nodes.iter().map(|n| (n.host.as_str(), n.port)).collect();
        assert_eq!(hosts, [("::1", 7000), ("10.0.0.1", 6379), ("10.0.0.2", 6379)]);
        assert_eq!(told.leader_of(99), Some(1));
        assert_eq!(told.ranges[0].replicas, [2]);
        assert_eq!(told.leader_of(100), Some(told.myself));
        assert!(told.nodes.iter().all(|n| n.name.len() == 40));
        assert_eq!(told.nodes[1].name, format!("{:040x}", 1));
    }

    #[test]
    fn a_gateway_alone_is_one_node_with_all_slots() {
        let shards = [shard(1, 0, 99, 1, false), shard(2, 100, 16383, 2, false)];
        let alone = told(&shards, Some("gw:6379")).unwrap();
        assert_eq!((alone.nodes.len(), alone.ranges.len()), (1, 1));
        assert_eq!(alone.ranges[0].slots, SlotRange::ALL);
        assert_eq!(told(&shards, None), None);
        assert_eq!(told(&shards, Some("no address")), None);
        assert_eq!(told(&[], None), None);
    }
}

//! Placement: its properties over random clusters.

use crate::world::{counts, profile, with_shards};
use arqondb::catalog::NodeId;
use arqondb::catalog::placement::{Candidate, LEVELS, choose, domain_cap};
use arqondb::catalog::records::{Node, NodeState};
use arqondb::env::Rng;
use std::collections::BTreeMap;

const CLUSTERS: u64 = 3_000;

fn node(id: u64, state: NodeState, labels: &[(&str, &str)]) -> Node {
    Node { id: NodeId(id), incarnation: id, profile: profile(labels), state, since_ms: 0 }
}

fn random_cluster(rng: &mut Rng) -> Vec<Node> {
    let spread = [1, 2, 3, 4, 6][rng.below(5) as usize];
    let labelled: Vec<bool> = LEVELS.iter().map(|_| rng.one_in(2)).collect();
    let mut nodes = Vec::new();
    for id in 1..=1 + rng.below(14) {
        let state = match rng.below(12) {
            0 => NodeState::Suspect,
            1 => NodeState::Joining,
            2 => NodeState::Draining,
            3 => NodeState::Dead,
            _ => NodeState::Active,
        };
        let mut node = node(id, state, &[]);
        for (level, labelled) in LEVELS.iter().zip(&labelled) {
            if *labelled && !rng.one_in(10) {
                let value = format!("{level}{}", rng.below(spread));
                node.profile.labels.insert(level.to_string(), value);
            }
        }
        nodes.push(node);
    }
    nodes
}

/// A node's domain at a level, spelled another way than placement does.
fn domain(node: &Node, level: usize) -> Vec<Option<String>> {
    let mut path: Vec<_> =
        LEVELS[..=level].iter().map(|name| node.profile.labels.get(*name).cloned()).collect();
    if level + 1 == LEVELS.len() && path[level].is_none() {
        path.push(Some(node.id.to_string()));
    }
    path
}

fn by_domain<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
    level: usize,
) -> BTreeMap<Vec<Option<String>>, usize> {
    let mut counts = BTreeMap::new();
    for node in nodes {
        *counts.entry(domain(node, level)).or_default() += 1;
    }
    counts
}

#[test]
fn placement_keeps_its_promises_over_random_clusters() {
    let mut rng = Rng::new(11);
    let (mut placed, mut capped) = (0, 0);
    for _ in 0..CLUSTERS {
        let nodes = random_cluster(&mut rng);
        let load = rng.below(5) + 1;
        let candidates: Vec<Candidate> = nodes
            .iter()
            .filter_map(|n| Candidate::new(n, rng.below(load), rng.below(100)))
            .collect();
        let count = 1 + rng.below(5) as usize;
        let kept: Vec<&Node> = nodes.iter().filter(|_| rng.one_in(6)).take(4).collect();
        let may = |n: &&Node| {
            use NodeState::{Active, Joining, Suspect};
            matches!(n.state, Active | Joining | Suspect) && kept.iter().all(|k| k.id != n.id)
        };
        let free: Vec<&Node> = nodes.iter().filter(may).collect();
        let active: Vec<&Node> =
            free.iter().filter(|n| n.state == NodeState::Active).copied().collect();
        let chosen = choose(&candidates, &kept, count);
        assert_eq!(chosen.is_some(), free.len() >= count, "placed when and only when it can be");
        let Some(chosen) = chosen else { continue };
        placed += 1;
        assert_eq!(chosen.len(), count);
        let set: Vec<&Node> =
            chosen.iter().map(|id| *free.iter().find(|n| n.id == *id).unwrap()).collect();
        let distinct = set.iter().map(|n| n.id).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(distinct.len(), count, "never two replicas on a node");
        let pool = if active.len() >= count { &active } else { &free };
        assert!(set.iter().all(|n| pool.iter().any(|p| p.id == n.id)), "active nodes first");
        capped += check_cap(pool, &kept, &set);
    }
    assert!(placed > CLUSTERS / 2 && capped > placed / 3, "{placed} placed, {capped} capped");
}

/// Whether a level had domains enough, and then that no domain holds more than its share.
fn check_cap(pool: &[&Node], kept: &[&Node], set: &[&Node]) -> u64 {
    let cap = domain_cap(kept.len() + set.len());
    for level in 0..LEVELS.len() {
        let had = by_domain(kept.iter().copied(), level);
        let room = by_domain(pool.iter().copied(), level).into_iter().map(|(domain, free)| {
            let had = had.get(&domain).copied().unwrap_or(0);
            free.min(cap.saturating_sub(had))
        });
        if room.sum::<usize>() < set.len() {
            continue;
        }
        for (domain, count) in by_domain(kept.iter().chain(set).copied(), level) {
            let had = had.get(&domain).copied().unwrap_or(0);
            assert!(count <= cap.max(had), "{count} replicas in {domain:?}, the cap is {cap}");
        }
        return 1;
    }
    0
}

#[test]
fn at_most_a_minority_is_in_one_domain() {
    assert_eq!([1, 2, 3, 4, 5, 6, 7].map(domain_cap), [1, 1, 1, 1, 2, 2, 3]);
    for (zones, replicas) in
        [(&["a", "a", "b", "b", "c", "c"][..], 3), (&["a", "a", "b", "c", "c"], 5)]
    {
        let catalog = with_shards(zones, 16, replicas);
        for shard in catalog.view().shards() {
            let zone = |n: NodeId| &catalog.view().node(n).unwrap().profile.labels["zone"];
            for lost in ["a", "b", "c"] {
                let left = shard.replicas.iter().filter(|r| zone(r.node) != lost).count();
                assert!(2 * left > shard.replicas.len(), "without zone {lost} {left} are left");
            }
        }
    }
}

#[test]
fn racks_of_one_name_in_two_zones_are_two_racks() {
    let labels: [&[(&str, &str)]; 4] = [
        &[("zone", "a"), ("rack", "1")],
        &[("zone", "a"), ("rack", "1")],
        &[("zone", "b"), ("rack", "1")],
        &[("zone", "b"), ("rack", "2")],
    ];
    let nodes: Vec<Node> =
        (1..).zip(labels).map(|(id, labels)| node(id, NodeState::Active, labels)).collect();
    let candidates: Vec<_> = nodes.iter().filter_map(|n| Candidate::new(n, 0, 0)).collect();
    // Two zones cannot hold three replicas one each, three racks can.
    let mut chosen = choose(&candidates, &[], 3).unwrap();
    chosen.sort();
    assert_eq!(chosen, [NodeId(1), NodeId(3), NodeId(4)]);
}

#[test]
fn replicas_and_first_leaders_are_spread_evenly() {
    let equal: &[&[&str]] =
        &[&["", "", "", "", ""], &["", "", "", ""], &["a", "a", "b", "b", "c", "c"]];
    for zones in equal {
        let catalog = with_shards(zones, 32, 3);
        let counts = counts(&catalog);
        let (min, max) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        assert!(max - min <= 1, "{counts:?}");
        let mut first: BTreeMap<NodeId, usize> = BTreeMap::new();
        for shard in catalog.view().shards() {
            *first.entry(shard.replicas[0].node).or_default() += 1;
        }
        let fair = 32usize.div_ceil(zones.len());
        assert!(first.values().all(|n| *n <= fair + 1), "{first:?}");
    }
}

//! Placement: which nodes a shard's replicas go to. A pure function of what is given.
//!
//! Failure domains are nested: a node's domain at a level is the path of its labels down to it,
//! so racks of the same name in two zones are two racks. Of a set of `n` replicas at most
//! [`domain_cap`]`(n)` go into one domain of the widest level that has domains enough for that:
//! the loss of one domain then leaves a majority. Nodes without a label share one domain at that
//! level, since nothing says that they do not; at the level `host` a node without a label is a
//! host of its own.

use crate::catalog::ids::NodeId;
use crate::catalog::records::{Node, NodeState};
use std::collections::BTreeMap;

/// Labels that name failure domains, the widest first.
pub const LEVELS: [&str; 4] = ["region", "zone", "rack", "host"];

/// A node's failure domains, one a level.
type Domains = [String; LEVELS.len()];

/// A node that may take a replica, and what it carries already.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Whether it is active; others are taken only if these are too few.
    pub active: bool,
    /// Replicas on it.
    pub replicas: u64,
    /// Bytes of those replicas; decides among nodes of as many replicas.
    pub bytes: u64,
    domains: Domains,
}

impl Candidate {
    /// The node as a candidate; `None` if it is draining, dead or removed.
    pub fn new(node: &Node, replicas: u64, bytes: u64) -> Option<Candidate> {
        let active = match node.state {
            NodeState::Active => true,
            NodeState::Joining | NodeState::Suspect => false,
            NodeState::Draining | NodeState::Dead | NodeState::Removed => return None,
        };
        Some(Candidate { node: node.id, active, replicas, bytes, domains: domains(node) })
    }
}

/// How many of `replicas` replicas may be in one failure domain.
pub fn domain_cap(replicas: usize) -> usize {
    (replicas.saturating_sub(1) / 2).max(1)
}

/// Chooses nodes for `count` more replicas of a shard that has replicas on `kept`. Gives them in
/// the order of preference; `None` if there are too few.
///
/// Never a node twice, nor one of `kept`. Active nodes only, if they are enough. Of those, in this
/// order: the cap of the widest level that can hold it; replicas spread over as many domains as
/// there are, the widest level first; the node with the fewest replicas, then the fewest bytes,
/// then the lowest id.
/// Cost: `count` looks at every candidate.
pub fn choose(candidates: &[Candidate], kept: &[&Node], count: usize) -> Option<Vec<NodeId>> {
    let cap = domain_cap(kept.len() + count);
    let mut used = Used::default();
    kept.iter().for_each(|node| used.add(&domains(node)));
    let free = candidates.iter().filter(|c| kept.iter().all(|node| node.id != c.node));
    let (active, others): (Vec<&Candidate>, Vec<&Candidate>) = free.partition(|c| c.active);
    let mut pool = active;
    if pool.len() < count {
        pool.extend(others);
    }
    let capped = (0..LEVELS.len()).find(|level| used.room(&pool, *level, cap) >= count);
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let fits = |c: &(usize, &&Candidate)| {
            capped.is_none_or(|level| used.of(level, &c.1.domains) < cap)
        };
        let preference = |c: &(usize, &&Candidate)| {
            let spread: [usize; LEVELS.len()] =
                std::array::from_fn(|level| used.of(level, &c.1.domains));
            (!c.1.active, spread, c.1.replicas, c.1.bytes, c.1.node)
        };
        let (at, best) = pool.iter().enumerate().filter(fits).min_by_key(preference)?;
        used.add(&best.domains);
        chosen.push(best.node);
        pool.remove(at);
    }
    Some(chosen)
}

/// For each level, the most replicas that one of its domains holds: smaller is better spread.
pub fn crowding(nodes: &[&Node]) -> [usize; LEVELS.len()] {
    let mut used = Used::default();
    nodes.iter().for_each(|node| used.add(&domains(node)));
    used.0.map(|level| level.into_values().max().unwrap_or(0))
}

fn domains(node: &Node) -> Domains {
    let labels = &node.profile.labels;
    let mut path = String::new();
    LEVELS.map(|level| {
        // No label holds a space, so no two paths are spelled alike.
        path.push(' ');
        match labels.get(level) {
            Some(value) => path.push_str(value),
            None if level == "host" => path.push_str(&format!(" node {}", node.id)),
            None => {}
        }
        path.clone()
    })
}

/// Replicas by domain, for each level.
#[derive(Default)]
struct Used([BTreeMap<String, usize>; LEVELS.len()]);

impl Used {
    fn add(&mut self, domains: &Domains) {
        for (level, domain) in self.0.iter_mut().zip(domains) {
            *level.entry(domain.clone()).or_default() += 1;
        }
    }

    fn of(&self, level: usize, domains: &Domains) -> usize {
        self.0[level].get(&domains[level]).copied().unwrap_or(0)
    }

    /// How many of `pool` fit under `cap` at `level`.
    fn room(&self, pool: &[&Candidate], level: usize, cap: usize) -> usize {
        let mut free: BTreeMap<&str, usize> = BTreeMap::new();
        for candidate in pool {
            let domain = free.entry(&candidate.domains[level]).or_default();
            *domain += usize::from(self.of(level, &candidate.domains) + *domain < cap);
        }
        free.values().sum()
    }
}

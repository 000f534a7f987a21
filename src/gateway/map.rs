//! Which shard has which slots, and who leads it.
//!
//! A [`ShardMap`] is a snapshot that never changes; [`MapCache`] holds the newest. What is learned
//! is taken only if it is newer: the epoch of a shard rises with every change of its slots, and
//! shards that come of a split or a merge have a higher one than those whose slots they took. A
//! shard that lost some of its slots to newer ones keeps the others, at its old epoch: whoever
//! calls it learns what became of them. Who leads a shard is learned from its nodes, and from the
//! catalog only with the shard itself: the catalog is told last.

pub use crate::base::NodeId;
use crate::gateway::redis_cluster;
use crate::op::Topology;
use crate::op::route::{SLOTS, ShardId, SlotRange};
use arc_swap::ArcSwap;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// A node, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Where calls reach it, in whatever form the calls need.
    pub address: Arc<str>,
    /// `host:port` at which Redis clients reach it, if they do.
    pub redis: Option<Arc<str>>,
}

/// A shard as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardInfo {
    /// Its number.
    pub id: ShardId,
    /// Rises with every change of its slots.
    pub epoch: u64,
    /// The slots it has.
    pub slots: SlotRange,
    /// Which of the replicas leads, if known.
    pub leader: Option<NodeId>,
    /// The nodes with a copy.
    pub replicas: Vec<Node>,
}

impl ShardInfo {
    /// The replica on a node.
    pub fn replica(&self, node: NodeId) -> Option<&Node> {
        self.replicas.iter().find(|replica| replica.id == node)
    }

    /// The replica that leads, if known.
    pub fn leading(&self) -> Option<&Node> {
        self.replica(self.leader?)
    }

    /// Whether it is the same shard with the same slots.
    pub fn is_same(&self, other: &ShardInfo) -> bool {
        (self.id, self.epoch, self.slots) == (other.id, other.epoch, other.slots)
    }

    fn is_sound(&self) -> bool {
        self.slots.first <= self.slots.last && self.slots.last < SLOTS
    }

    /// Whether what is said here may replace what is known of slots they share.
    fn supersedes(&self, known: &ShardInfo) -> bool {
        self.epoch > known.epoch || self.epoch == known.epoch && self.id == known.id
    }
}

/// The shards at one moment, in the order of their slots, none overlapping.
#[derive(Debug, Default)]
pub struct ShardMap {
    shards: Vec<Arc<ShardInfo>>,
    /// Rises with every change.
    version: u64,
    topology: OnceLock<Option<Arc<Topology>>>,
}

impl ShardMap {
    /// The shards in the order of their slots.
    pub fn shards(&self) -> &[Arc<ShardInfo>] {
        &self.shards
    }

    /// How often it has changed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The place among the shards of the one that has `slot`. Cost: a binary search.
    pub fn place_of(&self, slot: u16) -> Option<usize> {
        let at = self.shards.partition_point(|shard| shard.slots.last < slot);
        self.shards.get(at).filter(|shard| shard.slots.contains(slot)).map(|_| at)
    }

    /// The shard that has `slot`.
    pub fn shard_of(&self, slot: u16) -> Option<&Arc<ShardInfo>> {
        self.place_of(slot).map(|at| &self.shards[at])
    }

    /// Whether slots lie in one shard, or are all without one.
    pub(super) fn is_one_shard(&self, slots: &[u16]) -> bool {
        let mut places = slots.iter().map(|slot| self.place_of(*slot));
        let first = places.next();
        places.all(|place| Some(place) == first)
    }

    /// Whether every slot has a shard.
    pub fn is_whole(&self) -> bool {
        let mut next = 0;
        for shard in &self.shards {
            if shard.slots.first != next {
                return false;
            }
            next = shard.slots.last + 1;
        }
        next == SLOTS
    }

    /// Whether a shard is still as it is here, whoever leads it.
    pub fn holds(&self, shard: &ShardInfo) -> bool {
        self.shard_of(shard.slots.first).is_some_and(|known| known.is_same(shard))
    }

    /// What Redis clients are told of it, made once.
    pub(super) fn topology(&self, own: Option<&redis_cluster::Myself>) -> Option<Arc<Topology>> {
        self.topology.get_or_init(|| redis_cluster::topology(self, own).map(Arc::new)).clone()
    }

    /// This map with what `news` has that is newer; `None` if that is nothing.
    fn with(&self, news: &[ShardInfo]) -> Option<ShardMap> {
        let mut shards = self.shards.clone();
        let mut changed = false;
        for new in news.iter().filter(|new| new.is_sound()) {
            let overlaps =
                |s: &ShardInfo| s.slots.first <= new.slots.last && new.slots.first <= s.slots.last;
            let shared: Vec<_> = shards.iter().filter(|shard| overlaps(shard)).collect();
            let is_news = !matches!(shared[..], [known] if **known == *new);
            if !is_news || !shared.iter().all(|known| new.supersedes(known)) {
                continue;
            }
            changed = true;
            let mut kept = Vec::with_capacity(shards.len() + 2);
            for shard in shards {
                if overlaps(&shard) {
                    kept.extend(rest_of(&shard, new.slots).map(Arc::new));
                } else {
                    kept.push(shard);
                }
            }
            kept.push(Arc::new(new.clone()));
            kept.sort_by_key(|shard| shard.slots.first);
            shards = kept;
        }
        let version = self.version + 1;
        changed.then(|| ShardMap { shards, version, topology: OnceLock::new() })
    }
}

/// What a shard keeps of its slots without `taken`.
fn rest_of(shard: &ShardInfo, taken: SlotRange) -> impl Iterator<Item = ShardInfo> {
    let before = (shard.slots.first < taken.first)
        .then(|| SlotRange { first: shard.slots.first, last: taken.first - 1 });
    let behind = (taken.last < shard.slots.last)
        .then(|| SlotRange { first: taken.last + 1, last: shard.slots.last });
    let shard = shard.clone();
    before.into_iter().chain(behind).map(move |slots| ShardInfo { slots, ..shard.clone() })
}

/// The newest map.
#[derive(Debug)]
pub(super) struct MapCache {
    newest: ArcSwap<ShardMap>,
    /// Its version.
    version: watch::Sender<u64>,
}

impl Default for MapCache {
    fn default() -> MapCache {
        MapCache { newest: ArcSwap::default(), version: watch::Sender::new(0) }
    }
}

impl MapCache {
    pub(super) fn load(&self) -> Arc<ShardMap> {
        self.newest.load_full()
    }

    /// Told when there is a newer one.
    pub(super) fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Takes what is newer; says whether anything was. Of a shard that is known, the leader stays
    /// who it was.
    pub(super) fn learn(&self, news: &[ShardInfo]) -> bool {
        self.change(|map| {
            let news: Vec<ShardInfo> = news
                .iter()
                .map(|new| {
                    let known = map.shard_of(new.slots.first).filter(|known| known.is_same(new));
                    let leader = known.map_or(new.leader, |known| known.leader);
                    ShardInfo { leader, ..new.clone() }
                })
                .collect();
            map.with(&news)
        })
    }

    /// Takes note of who leads a shard; `None`: that `not` does not. The shard must still be as
    /// it was.
    pub(super) fn note_leader(&self, shard: &ShardInfo, leader: Option<&Node>, not: NodeId) {
        self.change(|map| {
            let known = map.shard_of(shard.slots.first).filter(|known| known.is_same(shard))?;
            let mut news = ShardInfo::clone(known);
            match leader {
                Some(leader) => {
                    news.leader = Some(leader.id);
                    match news.replicas.iter_mut().find(|replica| replica.id == leader.id) {
                        Some(replica) => *replica = leader.clone(),
                        None => news.replicas.push(leader.clone()),
                    }
                }
                None if known.leader == Some(not) => news.leader = None,
                None => return None,
            }
            map.with(&[news])
        });
    }

    fn change(&self, change: impl Fn(&ShardMap) -> Option<ShardMap>) -> bool {
        let mut changed = false;
        self.newest.rcu(|map| match change(map) {
            Some(next) => {
                changed = true;
                Arc::new(next)
            }
            None => {
                changed = false;
                Arc::clone(map)
            }
        });
        if changed {
            self.version.send_modify(|version| *version += 1);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;

    fn shard(id: u64, epoch: u64, first: u16, last: u16) -> ShardInfo {
        let replicas = (1..=3).map(node).collect();
        let slots = SlotRange { first, last };
        ShardInfo { id: ShardId(id), epoch, slots, leader: None, replicas }
    }

    fn node(id: u64) -> Node {
        Node { id: NodeId(id), address: format!("n{id}").into(), redis: None }
    }

    fn shape(map: &ShardMap) -> String {
        let one =
            |s: &Arc<ShardInfo>| format!("{}@{}:{}-{}", s.id, s.epoch, s.slots.first, s.slots.last);
        map.shards().iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_what_is_newer_is_taken() {
        let cache = MapCache::default();
        assert!(cache.learn(&[shard(2, 1, 8192, 16383), shard(1, 1, 0, 8191)]));
        assert!(cache.load().is_whole());
        assert!(!cache.learn(&[shard(1, 1, 0, 8191)]), "nothing new");
        assert!(!cache.learn(&[shard(3, 1, 0, 16383)]), "another shard at the same epoch");
        assert!(!cache.learn(&[shard(1, 0, 0, 16383)]), "an old one");
        assert!(!cache.learn(&[shard(4, 9, 5, 4), shard(4, 9, 0, 16384)]), "no slots at all");
        assert_eq!(shape(&cache.load()), "1@1:0-8191 2@1:8192-16383");
        assert_eq!(cache.load().version(), 1);
    }

    #[test]
    fn a_split_may_be_learned_in_parts_and_leaves_no_hole() {
        let cache = MapCache::default();
        cache.learn(&[shard(1, 1, 0, 16383)]);
        let old = cache.load().shard_of(0).unwrap().clone();
        assert!(cache.learn(&[shard(2, 2, 100, 199)]));
        assert_eq!(shape(&cache.load()), "1@1:0-99 2@2:100-199 1@1:200-16383");
        assert!(cache.load().is_whole() && !cache.load().holds(&old));
        assert!(cache.learn(&[shard(1, 2, 0, 99), shard(3, 2, 200, 16383)]));
        assert_eq!(shape(&cache.load()), "1@2:0-99 2@2:100-199 3@2:200-16383");
        assert!(!cache.learn(&[shard(1, 1, 0, 16383)]), "back to before the split");
        assert!(cache.learn(&[shard(4, 3, 0, 16383)]), "a merge");
        assert_eq!(shape(&cache.load()), "4@3:0-16383");
    }

    #[test]
    fn a_leader_is_noted_only_for_the_shard_as_it_is() {
        let cache = MapCache::default();
        cache.learn(&[shard(1, 1, 0, 16383)]);
        let old = cache.load().shard_of(0).unwrap().clone();
        let leader = |cache: &MapCache| cache.load().shard_of(0).unwrap().leader;
        cache.note_leader(&old, Some(&node(2)), NodeId(1));
        assert_eq!(leader(&cache), Some(NodeId(2)));
        assert!(cache.load().holds(&old), "whoever leads it");
        cache.note_leader(&old, None, NodeId(1));
        assert_eq!(leader(&cache), Some(NodeId(2)), "another had led");
        cache.note_leader(&old, None, NodeId(2));
        assert_eq!(leader(&cache), None);
        // A hint may name a node that the map did not know, or knew elsewhere.
        let moved = Node { address: "elsewhere".into(), ..node(9) };
        cache.note_leader(&old, Some(&moved), NodeId(1));
        assert_eq!(cache.load().shard_of(0).unwrap().leading(), Some(&moved));
        // The catalog is the last to be told of leaders.
        let told = |leader| ShardInfo { leader: Some(NodeId(leader)), ..shard(1, 1, 0, 16383) };
        let replicas = cache.load().shard_of(0).unwrap().replicas.clone();
        cache.learn(&[ShardInfo { replicas, ..told(1) }]);
        assert_eq!(leader(&cache), Some(NodeId(9)));
        cache.learn(&[shard(1, 2, 0, 16383)]);
        cache.note_leader(&old, Some(&node(3)), NodeId(1));
        assert_eq!(leader(&cache), None);
        let mut versions = cache.versions();
        cache.learn(&[ShardInfo { epoch: 3, ..told(2) }]);
        assert!(versions.has_changed().unwrap() && leader(&cache) == Some(NodeId(2)));
        versions.borrow_and_update();
        cache.learn(&[ShardInfo { epoch: 3, ..told(1) }]);
        assert!(!versions.has_changed().unwrap(), "nothing new");
    }

    #[test]
    fn random_news_keep_the_map_in_order_and_the_epoch_of_a_slot_rising() {
        let mut rng = Rng::new(3);
        let cache = MapCache::default();
        let mut epochs = vec![0; usize::from(SLOTS)];
        for _ in 0..2_000 {
            let first = rng.below(u64::from(SLOTS)) as u16;
            let last = first.saturating_add(rng.below(3_000) as u16).min(SLOTS - 1);
            let news = shard(rng.below(20), rng.below(60), first, last);
            cache.learn(std::slice::from_ref(&news));
            let map = cache.load();
            for pair in map.shards().windows(2) {
                assert!(pair[0].slots.last < pair[1].slots.first);
            }
            for slot in (0..SLOTS).step_by(331) {
                let epoch = map.shard_of(slot).map_or(0, |shard| shard.epoch);
                assert!(epoch >= epochs[usize::from(slot)], "slot {slot}");
                epochs[usize::from(slot)] = epoch;
            }
        }
        assert!(cache.load().shards().len() > 5);
    }
}

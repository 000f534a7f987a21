//! Range tombstones, and the question asked of them: what is the newest that covers this key?
//!
//! A [`TombstoneSet`] never changes. It is a segment tree over the sorted boundaries of its
//! tombstones: a tombstone is filed at the O(log n) tree nodes that together make up its range,
//! so memory is O(n log n) however they overlap, and a question walks one path from leaf to root.
//! [`RangeDeletes`] is a list of such sets, cheap to clone: a memtable adds to it by merging sets
//! of equal size (Bentley and Saxe 1980), a reader collects those of all its sources in one.

use crate::base::Seq;
use std::sync::Arc;

/// All keys from `start` up to and without `end` are gone, as far as they are older than `seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeTombstone {
    /// The first user key of the range.
    pub start: Box<[u8]>,
    /// The user key behind the range; not above `start` if the range is empty.
    pub end: Box<[u8]>,
    /// Sequence number of the delete.
    pub seq: Seq,
}

impl RangeTombstone {
    /// A tombstone from its parts.
    pub fn new(start: &[u8], end: &[u8], seq: Seq) -> RangeTombstone {
        RangeTombstone { start: start.into(), end: end.into(), seq }
    }

    /// Whether it covers no key.
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// Memory it holds, in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<RangeTombstone>() + self.start.len() + self.end.len()
    }
}

/// Where a key stands among tombstones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span<'a> {
    /// The newest tombstone that covers the key, not newer than asked for.
    pub seq: Option<Seq>,
    /// The user key from which on the answer is the same; `None` if from the beginning.
    pub since: Option<&'a [u8]>,
    /// The first user key behind the asked one at which the answer may change; `None` if it is
    /// the same up to the end.
    pub until: Option<&'a [u8]>,
}

/// Tombstones that never change, indexed for lookup.
#[derive(Debug, Default)]
pub struct TombstoneSet {
    /// By start, then newest first.
    tombstones: Vec<RangeTombstone>,
    /// Tombstone and whether its end is meant (else its start), sorted by key, each key once.
    bounds: Vec<(u32, bool)>,
    /// Where the sequence numbers of tree node `i` end in `seqs`. Node 1 is the root; the leaves,
    /// one for each gap between bounds, stand from `bounds.len()` on.
    node_ends: Vec<u32>,
    /// Sequence numbers by tree node, ascending in each.
    seqs: Vec<Seq>,
}

impl TombstoneSet {
    /// A set of the given tombstones, in any order; empty ones are left out. Takes
    /// O(n log n) time and memory.
    pub fn new(mut tombstones: Vec<RangeTombstone>) -> TombstoneSet {
        tombstones.retain(|t| !t.is_empty());
        tombstones.sort_by(|a, b| a.start.cmp(&b.start).then(b.seq.cmp(&a.seq)));
        tombstones.dedup();
        let mut bounds: Vec<(u32, bool)> =
            (0..tombstones.len() as u32).flat_map(|i| [(i, false), (i, true)]).collect();
        bounds.sort_by(|a, b| bound(&tombstones, *a).cmp(bound(&tombstones, *b)));
        bounds.dedup_by(|a, b| bound(&tombstones, *a) == bound(&tombstones, *b));
        let mut set = TombstoneSet { tombstones, bounds, node_ends: Vec::new(), seqs: Vec::new() };
        let mut filed = Vec::new();
        for t in &set.tombstones {
            let from = set.bounds.partition_point(|b| set.key(*b) < &*t.start);
            let to = set.bounds.partition_point(|b| set.key(*b) < &*t.end);
            let (mut left, mut right) = (from + set.bounds.len(), to + set.bounds.len());
            while left < right {
                if left & 1 == 1 {
                    filed.push((left as u32, t.seq));
                    left += 1;
                }
                if right & 1 == 1 {
                    right -= 1;
                    filed.push((right as u32, t.seq));
                }
                left /= 2;
                right /= 2;
            }
        }
        filed.sort_unstable();
        let mut rest = filed.iter().peekable();
        for node in 0..(2 * set.bounds.len()) as u32 {
            while let Some((_, seq)) = rest.next_if(|(n, _)| *n == node) {
                set.seqs.push(*seq);
            }
            set.node_ends.push(set.seqs.len() as u32);
        }
        set
    }

    /// Tombstones in the set.
    pub fn len(&self) -> usize {
        self.tombstones.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.tombstones.is_empty()
    }

    /// The tombstones by start, the newest first where starts are equal.
    pub fn iter(&self) -> impl Iterator<Item = &RangeTombstone> {
        self.tombstones.iter()
    }

    /// Memory it holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.tombstones.iter().map(RangeTombstone::bytes).sum::<usize>()
            + size_of_val(&self.bounds[..])
            + size_of_val(&self.node_ends[..])
            + size_of_val(&self.seqs[..])
    }

    /// The newest tombstone not newer than `at` that covers `user_key`. O(log² n).
    pub fn covering_seq(&self, user_key: &[u8], at: Seq) -> Option<Seq> {
        self.stab(self.bounds_up_to(user_key), at)
    }

    /// As [`TombstoneSet::covering_seq`], and how far the answer holds.
    pub fn span(&self, user_key: &[u8], at: Seq) -> Span<'_> {
        let below = self.bounds_up_to(user_key);
        let bound = |i: usize| self.bounds.get(i).map(|b| self.key(*b));
        let since = below.checked_sub(1).and_then(bound);
        Span { seq: self.stab(below, at), since, until: bound(below) }
    }

    fn key(&self, b: (u32, bool)) -> &[u8] {
        bound(&self.tombstones, b)
    }

    fn bounds_up_to(&self, user_key: &[u8]) -> usize {
        self.bounds.partition_point(|b| self.key(*b) <= user_key)
    }

    fn stab(&self, below: usize, at: Seq) -> Option<Seq> {
        if below == 0 || below == self.bounds.len() {
            return None;
        }
        let mut node = self.bounds.len() + below - 1;
        let mut newest = None;
        while node > 0 {
            let seqs = &self.seqs[self.node_ends[node - 1] as usize..self.node_ends[node] as usize];
            let older = seqs.partition_point(|s| *s <= at);
            newest = newest.max(older.checked_sub(1).map(|i| seqs[i]));
            node /= 2;
        }
        newest
    }
}

fn bound(tombstones: &[RangeTombstone], (i, is_end): (u32, bool)) -> &[u8] {
    let t = &tombstones[i as usize];
    if is_end { &t.end } else { &t.start }
}

/// Tombstones of one or more sources. Clones share the sets.
#[derive(Debug, Clone, Default)]
pub struct RangeDeletes {
    sets: Vec<Arc<TombstoneSet>>,
}

impl RangeDeletes {
    /// The tombstones of one set.
    pub fn of(set: Arc<TombstoneSet>) -> RangeDeletes {
        let mut all = RangeDeletes::default();
        all.add_set(set);
        all
    }

    /// Adds one tombstone. O(log² n) on average.
    pub fn add(&mut self, tombstone: RangeTombstone) {
        let mut tombstones = vec![tombstone];
        while self.sets.last().is_some_and(|s| s.len() <= tombstones.len()) {
            if let Some(set) = self.sets.pop() {
                tombstones.extend(set.iter().cloned());
            }
        }
        self.add_set(Arc::new(TombstoneSet::new(tombstones)));
    }

    /// Adds the tombstones of another source.
    pub fn extend(&mut self, other: &RangeDeletes) {
        self.sets.extend(other.sets.iter().cloned());
    }

    /// Adds a set.
    pub fn add_set(&mut self, set: Arc<TombstoneSet>) {
        if !set.is_empty() {
            self.sets.push(set);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Tombstones in all.
    pub fn len(&self) -> usize {
        self.sets.iter().map(|s| s.len()).sum()
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.sets.iter().map(|s| s.bytes()).sum()
    }

    /// The tombstones, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &RangeTombstone> {
        self.sets.iter().flat_map(|s| s.iter())
    }

    /// The newest tombstone not newer than `at` that covers `user_key`.
    pub fn covering_seq(&self, user_key: &[u8], at: Seq) -> Option<Seq> {
        self.sets.iter().filter_map(|s| s.covering_seq(user_key, at)).max()
    }

    /// As [`RangeDeletes::covering_seq`], and how far the answer holds.
    pub fn span(&self, user_key: &[u8], at: Seq) -> Span<'_> {
        let mut all = Span { seq: None, since: None, until: None };
        for set in &self.sets {
            let span = set.span(user_key, at);
            all.seq = all.seq.max(span.seq);
            all.since = all.since.max(span.since);
            all.until = match (all.until, span.until) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;

    #[test]
    fn answers_are_those_of_a_plain_search() {
        let mut rng = Rng::new(3);
        for round in 0..200 {
            let mut all = RangeDeletes::default();
            let mut list = Vec::new();
            for seq in 1..=rng.below(40) {
                let key = |rng: &mut Rng| [b'a' + rng.below(6) as u8, rng.below(5) as u8];
                let (a, b) = (key(&mut rng), key(&mut rng));
                let start = &a[..rng.below(3) as usize];
                let t = RangeTombstone::new(start, &b, Seq(seq * 2));
                list.push(t.clone());
                all.add(t);
            }
            assert_eq!(all.len(), list.iter().filter(|t| !t.is_empty()).count());
            let covering = |key: &[u8], at: Seq| {
                let covers = |t: &&RangeTombstone| &*t.start <= key && key < &*t.end && t.seq <= at;
                list.iter().filter(covers).map(|t| t.seq).max()
            };
            for _ in 0..200 {
                let key = [b'a' + rng.below(7) as u8, rng.below(6) as u8];
                let key = &key[..rng.below(3) as usize];
                let at = Seq(rng.below(90));
                assert_eq!(all.covering_seq(key, at), covering(key, at), "round {round}");
                let span = all.span(key, at);
                assert_eq!(span.seq, covering(key, at));
                let mut next = key.to_vec();
                next.push(0);
                assert!(span.since.is_none_or(|s| s <= key && covering(s, at) == span.seq));
                assert!(span.since.is_some() || covering(b"", at) == span.seq);
                assert!(span.until.is_none_or(|u| u > key));
                if span.until.is_none_or(|u| &next[..] < u) {
                    assert_eq!(covering(&next, at), span.seq);
                }
            }
        }
    }

    #[test]
    fn nested_ranges_take_little_memory() {
        let nested = (0..4000u32).map(|i| {
            RangeTombstone::new(&i.to_be_bytes(), &(10_000 - i).to_be_bytes(), Seq(u64::from(i)))
        });
        let set = TombstoneSet::new(nested.collect());
        assert!(set.bytes() < 4000 * 400, "{}", set.bytes());
        assert_eq!(set.covering_seq(&5000u32.to_be_bytes(), Seq(70)), Some(Seq(70)));
    }
}

//! The walk from block to block.
//!
//! Of all nodes met whose blocks were not read, the nearest by their codes are read next. All nodes
//! of a block are compared exactly and all their neighbours met. The walk ends when the nearest
//! estimate left lies so far beyond the `k`th hit that it is unlikely to be wrong by as much: so an
//! easy query reads little and a hard one more, which at equal recall costs a sixth less than a
//! fixed number of candidates.

use super::layout::NONE;
use super::pages::{Pages, corrupt, offset};
use super::resident::Resident;
use crate::base::Result;
use crate::vector::beam::{Beam, Key, distance_of, key, slot_of};
use crate::vector::code::spectral::SpectralQuery;
use crate::vector::hit::{Hit, SearchStats};
use crate::vector::ids::Mix;
use crate::vector::kernel::{Kernels, kernels};
use crate::vector::measure::{Measure, ScaledQuery};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

/// Guides that a walk among them keeps.
const GUIDES_KEPT: usize = 48;
/// Guides that it begins at.
const GUIDES_FIRST: usize = 16;

/// Blocks that are read at once: a walk that reads them one by one reads a little less, and waits
/// for the disk each time.
const BLOCKS_AT_ONCE: usize = 4;
/// Pages that are read at once where all are known.
const PAGES_AT_ONCE: usize = 64;
/// A walk is not stopped before it has visited so many times `ef` nodes, unless it is at its end.
const VISITED_PER_EF: usize = 8;
/// How many of the nearest show whether a walk has come near.
const FRONT: usize = 8;
/// Nodes met, and bytes of pages, for which a walk that is kept for the next search has room.
const KEPT_MAX: usize = 1 << 15;
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Pages that a walk with a filter may read in any case.
const PAGES_FREE: u64 = 32;

/// What is asked of a walk.
pub(super) struct Goal<'a> {
    pub(super) k: usize,
    pub(super) ef: usize,
    /// Nothing farther is wanted.
    pub(super) distance_max: Option<f32>,
    pub(super) accept: &'a dyn Fn(u64) -> bool,
    /// Pages by which all that match can be found otherwise.
    pub(super) pages_otherwise: Option<u64>,
}

impl Goal<'_> {
    /// How many deviations beyond the limit an estimate is still of interest: the more, the wider
    /// the search.
    fn deviations(&self) -> f32 {
        let deviations = (self.ef as f32).sqrt() / 10.0;
        // Those at the border of a range count as much as the nearest.
        if self.distance_max.is_some() { 2.0 * deviations } else { deviations }
    }
}

/// What a search needs, and the next one again.
#[derive(Debug)]
pub(super) struct Walk {
    query: ScaledQuery,
    codes: SpectralQuery,
    kernels: &'static Kernels,
    /// Nodes whose blocks were not read when they were met, by their estimates.
    ahead: BinaryHeap<Reverse<Key>>,
    beam: Beam,
    met: Met,
    blocks: Met,
    /// The nearest that match, in order.
    pub(super) hits: Vec<Hit>,
    /// The few nearest, whether they match or not.
    front: Vec<Hit>,
    buffer: Vec<u8>,
    payload: Vec<u8>,
    halves: Vec<u16>,
    pub(super) stats: SearchStats,
}

/// Nodes that were met.
type Met = HashSet<u32, Mix>;

impl Default for Walk {
    fn default() -> Walk {
        Walk {
            query: ScaledQuery::default(),
            codes: SpectralQuery::default(),
            kernels: kernels(),
            ahead: BinaryHeap::new(),
            beam: Beam::default(),
            met: Met::default(),
            blocks: Met::default(),
            hits: Vec::new(),
            front: Vec::new(),
            buffer: Vec::new(),
            payload: Vec::new(),
            halves: Vec::new(),
            stats: SearchStats::default(),
        }
    }
}

impl Walk {
    /// Makes it ready for a prepared query.
    pub(super) fn begin(&mut self, of: &Resident, query: &[f32]) {
        of.model.prepare(query, &mut self.codes);
        self.query.set(query, of.header.scale);
        self.hits.clear();
        self.front.clear();
        self.blocks.clear();
        self.stats = SearchStats::default();
    }

    /// Whether it takes little memory, however many vectors there are: else the next search begins
    /// with an empty one.
    pub(super) fn is_small(&self) -> bool {
        let sets = self.met.capacity() + self.blocks.capacity() + self.ahead.capacity();
        sets <= KEPT_MAX && self.payload.capacity().max(self.buffer.capacity()) <= KEPT_BYTES_MAX
    }

    fn estimate(&mut self, of: &Resident, node: u32) -> f32 {
        self.stats.estimates += 1;
        // One that is no number tells nothing: the node has to be looked at.
        of.model.estimate(self.kernels, &self.codes, of.codes.row(node)).max(f32::MIN)
    }

    /// Puts the guides nearest to the query ahead, by their codes.
    fn ask_guides(&mut self, of: &Resident) {
        let mut beam = std::mem::take(&mut self.beam);
        beam.reset(GUIDES_KEPT);
        self.met.clear();
        let mut fresh: Vec<u32> = (0..of.guides.len().min(GUIDES_FIRST) as u32).collect();
        self.met.extend(fresh.iter().copied());
        loop {
            for rank in fresh.drain(..) {
                let estimate = self.estimate(of, of.guides[rank as usize]);
                beam.offer(key(estimate, rank));
            }
            let Some(next) = beam.next() else { break };
            self.stats.hops += 1;
            let width = of.header.guide_links;
            let links = &of.guide_links[slot_of(next) as usize * width..][..width];
            let links = links.iter().take_while(|rank| **rank != NONE);
            fresh.extend(links.filter(|rank| self.met.insert(**rank)));
        }
        self.met.clear();
        self.ahead.clear();
        for guide in beam.keys() {
            let node = of.guides[slot_of(*guide) as usize];
            if self.met.insert(node) {
                self.ahead.push(Reverse(key(distance_of(*guide), node)));
            }
        }
        self.beam = beam;
    }

    /// Beyond this an estimate is of no interest.
    fn limit(&self, of: &Resident, goal: &Goal<'_>) -> f32 {
        let farthest = match (self.hits.len() >= goal.k, goal.distance_max) {
            (true, _) => self.hits[goal.k - 1].distance,
            (false, None) => f32::INFINITY,
            // Until it has come near, all it meets lies beyond the range.
            (false, Some(_)) if self.front.len() < FRONT => f32::INFINITY,
            (false, Some(max)) => self.front[FRONT - 1].distance.max(max),
        };
        let margin = goal.deviations() * of.header.error * self.codes.length;
        farthest + margin.max(self.codes.rounding)
    }

    /// Reads the blocks of the nodes nearest by their codes, from near ones on. False if it gave
    /// up, as what matches is too far between.
    pub(super) fn walk(
        &mut self,
        of: &Resident,
        goal: &Goal<'_>,
        from: &dyn Pages,
    ) -> Result<bool> {
        self.ask_guides(of);
        let layout = of.header.layout();
        let mut visited = 0;
        let mut batch: Vec<u32> = Vec::new();
        loop {
            batch.clear();
            let limit = self.limit(of, goal);
            let is_late = visited >= goal.ef.max(goal.k).saturating_mul(VISITED_PER_EF)
                && self.hits.len() >= goal.k
                && goal.distance_max.is_none();
            while batch.len() < BLOCKS_AT_ONCE && !is_late {
                let Some(Reverse(next)) = self.ahead.peek().copied() else { break };
                if distance_of(next) > limit {
                    break;
                }
                self.ahead.pop();
                visited += 1;
                let block = layout.block_of(slot_of(next));
                if self.blocks.insert(block) {
                    batch.push(block);
                }
            }
            if batch.is_empty() {
                return Ok(true);
            }
            self.read(of, &batch, goal, true, from)?;
            if self.is_hopeless(goal) {
                return Ok(false);
            }
        }
    }

    /// Whether it would read more pages for `k` hits, at the rate so far, than finding all that
    /// match otherwise.
    fn is_hopeless(&self, goal: &Goal<'_>) -> bool {
        let Some(otherwise) = goal.pages_otherwise else { return false };
        let (read, found) = (self.stats.pages_read, self.hits.len() as u64);
        let most = otherwise + PAGES_FREE;
        read > most
            || read >= PAGES_FREE
                && found < goal.k as u64
                && read.saturating_mul(goal.k as u64) > most * (found + 1)
    }

    /// Reads the blocks of `nodes`, those nearest by their codes first, until none that is left can
    /// be near enough.
    pub(super) fn read_nearest(
        &mut self,
        of: &Resident,
        nodes: &[u32],
        goal: &Goal<'_>,
        from: &dyn Pages,
    ) -> Result<()> {
        let layout = of.header.layout();
        let keys: Vec<Reverse<Key>> =
            nodes.iter().map(|node| Reverse(key(self.estimate(of, *node), *node))).collect();
        // Few of many are read: they need not be sorted.
        let mut keys = BinaryHeap::from(keys);
        let mut batch = Vec::new();
        loop {
            let limit = self.limit(of, goal);
            while batch.len() < BLOCKS_AT_ONCE
                && let Some(Reverse(next)) = keys.pop()
            {
                if distance_of(next) > limit {
                    keys.clear();
                    break;
                }
                let block = layout.block_of(slot_of(next));
                if self.blocks.insert(block) {
                    batch.push(block);
                }
            }
            if batch.is_empty() {
                return Ok(());
            }
            self.read(of, &batch, goal, false, from)?;
            batch.clear();
        }
    }

    /// Reads all these blocks that were not read.
    pub(super) fn read_all(
        &mut self,
        of: &Resident,
        blocks: impl Iterator<Item = u32>,
        goal: &Goal<'_>,
        from: &dyn Pages,
    ) -> Result<()> {
        let blocks: Vec<u32> = blocks.filter(|block| self.blocks.insert(*block)).collect();
        let at_once = (PAGES_AT_ONCE / of.header.layout().pages).max(1);
        blocks.chunks(at_once).try_for_each(|some| self.read(of, some, goal, false, from))
    }

    /// Reads blocks and compares with their nodes; with `goes_on` their neighbours go ahead.
    fn read(
        &mut self,
        of: &Resident,
        blocks: &[u32],
        goal: &Goal<'_>,
        goes_on: bool,
        from: &dyn Pages,
    ) -> Result<()> {
        if blocks.is_empty() {
            return Ok(());
        }
        let mut payload = std::mem::take(&mut self.payload);
        let read = of.read_blocks(blocks, from, &mut self.buffer, &mut payload);
        self.stats.pages_read += (blocks.len() * of.header.layout().pages) as u64;
        let done = read.and_then(|()| {
            let parts = payload.chunks_exact(of.header.layout().block_bytes());
            blocks.iter().zip(parts).try_for_each(|(block, bytes)| {
                self.compare(of, *block, bytes, goal)?;
                if goes_on { self.look_around(of, *block, bytes, goal) } else { Ok(()) }
            })
        });
        self.payload = payload;
        done
    }

    /// The exact distances of a block's nodes.
    fn compare(&mut self, of: &Resident, block: u32, bytes: &[u8], goal: &Goal<'_>) -> Result<()> {
        let header = &of.header;
        let measure = Measure::new(header.metric);
        for place in 0..header.nodes_in(block) {
            let (id, vector, _) = header.layout().parts(bytes, place);
            self.halves.clear();
            let halves = vector.as_chunks::<2>().0.iter().map(|half| u16::from_le_bytes(*half));
            self.halves.extend(halves);
            let distance = self.query.distance(measure, &self.halves);
            self.stats.distances += 1;
            if !distance.is_finite() {
                let at = offset(header.block_at(block));
                return Err(corrupt(at, "a vector", "numbers that are not finite"));
            }
            let hit = Hit { id, distance };
            if goal.distance_max.is_some() {
                offer(&mut self.front, hit, FRONT);
            }
            if goal.distance_max.is_none_or(|max| distance <= max) && (goal.accept)(id) {
                offer(&mut self.hits, hit, goal.k);
            }
        }
        Ok(())
    }

    /// Puts the neighbours of a block's nodes ahead that were not met.
    fn look_around(
        &mut self,
        of: &Resident,
        block: u32,
        bytes: &[u8],
        goal: &Goal<'_>,
    ) -> Result<()> {
        let header = &of.header;
        self.stats.hops += 1;
        let limit = self.limit(of, goal);
        for place in 0..header.nodes_in(block) {
            let (_, _, links) = header.layout().parts(bytes, place);
            for link in links.as_chunks::<4>().0.iter().map(|link| u32::from_le_bytes(*link)) {
                if link == NONE {
                    break;
                }
                if link as usize >= header.nodes {
                    let at = offset(header.block_at(block));
                    return Err(corrupt(at, "links to nodes", link.to_string()));
                }
                if self.met.insert(link) {
                    let estimate = self.estimate(of, link);
                    // The limit only falls.
                    if estimate <= limit {
                        self.ahead.push(Reverse(key(estimate, link)));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Puts a hit in its place among the `k` nearest.
fn offer(hits: &mut Vec<Hit>, hit: Hit, k: usize) {
    if hits.len() >= k && hits[k - 1].order(&hit).is_le() {
        return;
    }
    let at = hits.partition_point(|other| other.order(&hit).is_lt());
    if hits.get(at) != Some(&hit) {
        hits.insert(at, hit);
        hits.truncate(k);
    }
}

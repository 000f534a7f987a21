//! Where walks through a sealed graph begin.
//!
//! Links lead from each vector to near ones; few lead from a group of vectors to another far away,
//! and a walk whose beam is full of one group does not leave it. So there are many *doors*, all over
//! the graph, and a walk begins at the nearest of them. Some are nodes of its highest levels, which are
//! drawn by lot; the others are each the farthest from all before it (Gonzalez 1985), so that of groups
//! far apart, if there are fewer than doors, each has one, unless it is so small that none of its nodes
//! is among those that are looked at. Doors are looked through 32 at a time by codes of one bit a
//! dimension.

use super::beam::{Beam, distance_of, key};
use super::code::signs::{QueryTables, SignCodes};
use super::hnsw::Graph;
use super::kernel::{Kernels, SCAN_WIDTH, kernels};
use super::metric::DistanceMetric;
use super::rows::Rows;
use std::cmp::Reverse;

/// Doors at most, whatever the size of the graph.
pub(super) const DOORS_MAX: usize = 2_048;
/// So many times the root of the number of nodes are those far from each other.
const PER_ROOT: f64 = 2.0;
/// So many are drawn.
const DRAWN: usize = SCAN_WIDTH;
/// Nodes that are looked at for each door.
const CANDIDATES: usize = 8;
/// At so many doors a walk begins.
pub(super) const BEGINNINGS: usize = 8;

/// The doors of a graph.
#[derive(Debug)]
pub(super) struct Doors {
    ranks: Vec<u32>,
    /// `L2`, unless it is by the inner product that nodes are near. Cosine is of unit vectors.
    form: DistanceMetric,
    /// The middle of each 32 of them.
    centers: Rows<f32>,
    blocks: Vec<SignCodes>,
}

impl Doors {
    /// Doors at these nodes, near ones beside each other; `rotated` has a node's vector, rotated and
    /// moved as queries are (for the inner product all may be moved alike). `dim` is its length, a multiple of 4.
    pub(super) fn new(
        metric: DistanceMetric,
        dim: usize,
        ranks: Vec<u32>,
        mut rotated: impl FnMut(u32, &mut Vec<f32>),
    ) -> Doors {
        let form = match metric {
            DistanceMetric::InnerProduct => DistanceMetric::InnerProduct,
            DistanceMetric::L2 | DistanceMetric::Cosine => DistanceMetric::L2,
        };
        let (mut centers, mut blocks) = (Rows::new(dim), Vec::new());
        let (mut one, mut all) = (Vec::new(), Vec::new());
        for ranks in ranks.chunks(SCAN_WIDTH) {
            all.clear();
            let mut center = vec![0.0; dim];
            for rank in ranks {
                rotated(*rank, &mut one);
                all.extend_from_slice(&one);
                center.iter_mut().zip(&one).for_each(|(c, x)| *c += x / ranks.len() as f32);
            }
            blocks.push(SignCodes::new(form, &center, all.chunks_exact(dim)));
            centers.push(&center);
        }
        Doors { ranks, form, centers, blocks }
    }

    /// Puts the doors that seem nearest to a rotated query into a beam: not by their distance, but
    /// in the order of it. `tables` are the query's.
    pub(super) fn nearest(
        &self,
        kernels: &Kernels,
        rotated: &[f32],
        tables: &QueryTables,
        beam: &mut Beam,
    ) {
        let mut estimates = [0.0; SCAN_WIDTH];
        for (at, block) in self.blocks.iter().enumerate() {
            let center = self.centers.row(at as u32);
            let base = match self.form {
                DistanceMetric::L2 => (kernels.l2)(rotated, center),
                _ => -(kernels.dot)(rotated, center),
            };
            let limit = if beam.is_full() { distance_of(beam.limit()) } else { f32::INFINITY };
            let scan = tables.scan(&block.codes, (&block.add, &block.mul), base, limit);
            let mut below = (kernels.scan)(&scan, &mut estimates);
            while below != 0 {
                let place = below.trailing_zeros() as usize;
                below &= below - 1;
                beam.offer(key(estimates[place], self.ranks[at * SCAN_WIDTH + place]));
            }
        }
    }

    /// The nodes.
    pub(super) fn ranks(&self) -> &[u32] {
        &self.ranks
    }

    /// Bytes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let codes = self.blocks.iter().map(|block| size_of::<SignCodes>() + block.codes.len());
        size_of_val(&self.ranks[..]) + self.centers.memory_bytes() + codes.sum::<usize>()
    }
}

/// Doors for the graph of these live slots, as places among them, near ones beside each other.
pub(super) fn choose(graph: &Graph, live: &[u32]) -> Vec<u32> {
    let wanted = DRAWN + (PER_ROOT * (live.len() as f64).sqrt()).ceil() as usize;
    let wanted = wanted.next_multiple_of(SCAN_WIDTH).min(DOORS_MAX).min(live.len());
    let mut places: Vec<u32> = (0..live.len() as u32).collect();
    places.sort_by_key(|place| Reverse(graph.level(live[*place as usize])));
    places.truncate(wanted * CANDIDATES);
    let slots: Vec<u32> = places.iter().map(|place| live[*place as usize]).collect();
    let mut is_taken = farthest(graph, &slots, wanted.saturating_sub(DRAWN).max(1));
    let more = wanted - is_taken.iter().filter(|taken| **taken).count();
    is_taken.iter_mut().filter(|taken| !**taken).take(more).for_each(|taken| *taken = true);
    let taken = places.into_iter().zip(is_taken).filter_map(|(place, is)| is.then_some(place));
    let mut taken: Vec<u32> = taken.collect();
    put_near_together(&mut taken, &|place| graph.vector(live[place as usize]));
    taken
}

/// Which of these slots are among `count`, the first and then always the farthest from all before;
/// fewer if the others are where these are.
fn farthest(graph: &Graph, slots: &[u32], count: usize) -> Vec<bool> {
    let mut is_taken = vec![false; slots.len()];
    let mut apart = vec![f32::INFINITY; slots.len()];
    let mut distances = vec![0.0; slots.len()];
    for _ in 0..count {
        let far = (0..slots.len()).max_by(|a, b| apart[*a].total_cmp(&apart[*b]).then(b.cmp(a)));
        let Some(next) = far.filter(|at| apart[*at] > 0.0) else { break };
        is_taken[next] = true;
        (kernels().l2_rows)(graph.vector(slots[next]), &graph.vectors, slots, &mut distances);
        apart.iter_mut().zip(&distances).for_each(|(apart, d)| *apart = apart.min(*d));
        apart[next] = 0.0;
    }
    is_taken
}

/// Orders nodes so that those of each 32 are near each other.
fn put_near_together<'a>(nodes: &mut [u32], vector: &impl Fn(u32) -> &'a [f32]) {
    if nodes.len() <= SCAN_WIDTH {
        return;
    }
    let l2 = kernels().l2;
    let farthest_from = |from: u32| {
        let far = nodes.iter().max_by(|a, b| {
            let [a, b] = [**a, **b].map(|node| l2(vector(from), vector(node)));
            a.total_cmp(&b)
        });
        far.copied().unwrap_or(from)
    };
    let one = farthest_from(nodes[0]);
    let two = farthest_from(one);
    let lean = |node: &u32| l2(vector(one), vector(*node)) - l2(vector(two), vector(*node));
    let mut leans: Vec<(f32, u32)> = nodes.iter().map(|node| (lean(node), *node)).collect();
    leans.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    nodes.iter_mut().zip(leans).for_each(|(node, (_, leaning))| *node = leaning);
    // Whole blocks on the one side; there are more nodes than one block has.
    let half = (nodes.len() / 2).next_multiple_of(SCAN_WIDTH);
    let (low, high) = nodes.split_at_mut(half);
    put_near_together(low, vector);
    put_near_together(high, vector);
}

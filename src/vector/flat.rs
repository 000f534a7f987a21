//! Exact search without a graph.
//!
//! Comparing with all vectors is bound by memory, so it goes through codes of a byte a number first:
//! a quarter of the bytes. Their [bounds](super::code::sq8) leave a few vectors over, which are
//! compared as they are. The answer is exact, whatever the data.

use super::code::sq8::{ByteCodes, ByteQuery};
use super::filter::{Filter, SearchRequest};
use super::hit::{Answer, Hit, SearchStats, nearest};
use super::hnsw::HnswConfig;
use super::ids::IdMap;
use super::kernel::{Kernels, kernels};
use super::measure::Measure;
use super::metric::DistanceMetric;
use super::rows::Rows;
use crate::base::{Error, ErrorKind, Result};
use std::collections::BinaryHeap;

/// Vectors in memory, all of which a search compares with: exact, without anything to build, and
/// faster than a graph for few vectors or few matches.
///
/// ```
/// use arqondb::engine::vector::{DistanceMetric, FlatIndex};
///
/// # fn main() -> arqondb::Result<()> {
/// let mut index = FlatIndex::new(128, DistanceMetric::Cosine)?;
/// index.insert(1, vec![0.1; 128])?;
/// assert_eq!(index.search(&[0.2; 128], 5)?[0].id, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FlatIndex {
    dim: usize,
    measure: Measure,
    kernels: &'static Kernels,
    codes: ByteCodes,
    vectors: Rows<f32>,
    ids: Vec<u64>,
    slots: IdMap,
}

impl FlatIndex {
    /// An empty index of vectors of `dim` floats.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] if `dim` is not from 1 to 65,536.
    pub fn new(dim: usize, metric: DistanceMetric) -> Result<FlatIndex> {
        HnswConfig::new(dim, metric).check()?;
        Ok(FlatIndex {
            dim,
            measure: Measure::new(metric),
            kernels: kernels(),
            codes: ByteCodes::new(metric, dim),
            vectors: Rows::new(Rows::<f32>::aligned_stride(dim)),
            ids: Vec::new(),
            slots: IdMap::default(),
        })
    }

    /// Vectors in the index.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Inserts a vector; one that had the id before is replaced.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] if the vector has no distances, as for
    /// [`HnswIndex::insert`](super::HnswIndex::insert).
    pub fn insert(&mut self, id: u64, vector: impl AsRef<[f32]>) -> Result<()> {
        let vector = self.measure.metric.prepare(vector.as_ref(), self.dim)?;
        if self.len() >= u32::MAX as usize {
            return Err(Error::new(ErrorKind::Refused, "an index holds fewer than 2^32 vectors"));
        }
        self.remove(id);
        let slot = self.vectors.push(&vector);
        self.codes.push(&vector);
        self.ids.push(id);
        self.slots.insert(id, slot);
        Ok(())
    }

    /// Removes a vector; false if there was none.
    pub fn remove(&mut self, id: u64) -> bool {
        let Some(slot) = self.slots.remove(id) else { return false };
        self.vectors.swap_remove(slot);
        self.codes.rows.swap_remove(slot);
        self.ids.swap_remove(slot as usize);
        if let Some(moved) = self.ids.get(slot as usize) {
            self.slots.insert(*moved, slot);
        }
        true
    }

    /// The vector with this id, as it is compared: at unit length under cosine.
    pub fn get(&self, id: u64) -> Option<&[f32]> {
        self.slots.get(id).map(|slot| &self.vectors.row(slot)[..self.dim])
    }

    /// The `k` vectors nearest to `query`.
    ///
    /// # Errors
    ///
    /// As [`HnswIndex::search`](super::HnswIndex::search).
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<Hit>> {
        Ok(self.answer(&SearchRequest::new(query, k))?.hits)
    }

    /// Answers a request with all its options but `ef`, and says what it cost.
    ///
    /// # Errors
    ///
    /// As [`HnswIndex::search`](super::HnswIndex::search).
    pub fn answer(&self, request: &SearchRequest<'_>) -> Result<Answer> {
        let query = self.measure.metric.prepare(request.query, self.dim)?;
        request.width(1)?;
        let mut near = self.estimate(&self.codes.prepare(&query), request);
        let mut distances = Vec::new();
        let limit = near.limit();
        near.candidates.retain(|(low, _)| *low <= limit);
        let slots: Vec<u32> = near.candidates.iter().map(|(_, slot)| *slot).collect();
        self.measure.rows(&query, &self.vectors, &slots, &mut distances);
        let found = slots.iter().zip(&distances);
        let mut hits: Vec<Hit> = found
            .map(|(slot, distance)| Hit { id: self.ids[*slot as usize], distance: *distance })
            .filter(|hit| request.distance_max.is_none_or(|max| hit.distance <= max))
            .collect();
        nearest(&mut hits, request.k);
        let (distances, estimates) = (slots.len() as u64, near.estimates);
        let stats = SearchStats { distances, estimates, exact: true, ..SearchStats::default() };
        Ok(Answer { hits, stats })
    }

    /// All that may be among the nearest that match.
    fn estimate(&self, query: &ByteQuery, request: &SearchRequest<'_>) -> Near {
        let limit = request.distance_max.unwrap_or(f32::INFINITY);
        let mut near = Near { k: request.k, cap: limit, ..Near::default() };
        let mut look_at = |slot: u32| {
            let (low, high) = self.codes.bounds(self.kernels, query, slot);
            near.estimates += 1;
            near.offer(low, high, slot);
        };
        match request.filter {
            Filter::Ids(ids) => {
                let mut slots: Vec<u32> = ids.iter().filter_map(|id| self.slots.get(*id)).collect();
                slots.sort_unstable();
                slots.dedup();
                slots.into_iter().for_each(&mut look_at);
            }
            Filter::All => (0..self.len() as u32).for_each(&mut look_at),
            Filter::Where(accepts) => (0..self.len() as u32)
                .filter(|slot| accepts(self.ids[*slot as usize]))
                .for_each(&mut look_at),
        }
        near
    }

    /// Gives memory back that its vectors do not need, after most of them have gone. Costs a copy of
    /// the others.
    pub fn shrink_to_fit(&mut self) {
        self.vectors.shrink_to_fit();
        self.codes.rows.shrink_to_fit();
        self.ids.shrink_to_fit();
        self.slots.shrink_to_fit();
    }

    /// Bytes of memory that its vectors, codes and ids take.
    pub fn memory_bytes(&self) -> usize {
        let ids = self.ids.len() * size_of::<u64>() + self.slots.memory_bytes();
        self.vectors.memory_bytes() + self.codes.rows.memory_bytes() + ids
    }
}

/// Vectors that may be among the `k` nearest.
#[derive(Debug, Default)]
struct Near {
    k: usize,
    /// Nothing farther is wanted.
    cap: f32,
    /// The `k` smallest upper bounds, as keys in the order of floats.
    highs: BinaryHeap<u64>,
    /// Lower bounds and slots.
    candidates: Vec<(f32, u32)>,
    estimates: u64,
}

impl Near {
    /// `k` vectors are certainly as near as this.
    #[inline(always)]
    fn limit(&self) -> f32 {
        match self.highs.peek() {
            Some(key) if self.highs.len() == self.k => super::beam::distance_of(*key).min(self.cap),
            _ => self.cap,
        }
    }

    #[inline(always)]
    fn offer(&mut self, low: f32, high: f32, slot: u32) {
        // A bound that is no number excludes nothing.
        if low > self.limit() {
            return;
        }
        self.candidates.push((if low.is_nan() { f32::NEG_INFINITY } else { low }, slot));
        let high = if high.is_nan() { f32::INFINITY } else { high };
        self.highs.push(super::beam::key(high, slot & (u32::MAX >> 1)));
        if self.highs.len() > self.k {
            self.highs.pop();
        }
    }
}

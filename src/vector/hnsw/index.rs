//! The index as its users see it.

use super::config::HnswConfig;
use super::graph::Graph;
use crate::base::{Error, Result};
use crate::vector::beam::Scratches;
use crate::vector::filter::SearchRequest;
use crate::vector::hit::{Answer, Hit};
use crate::vector::parallel;
use crate::vector::segment::{Kind, SegmentReader, SegmentWriter};
use std::collections::HashMap;

/// Vectors in memory that are found by their nearness.
///
/// Answers are in order of distance, then id, and the same each time. A search takes `&self`, so
/// many threads may search at once.
///
/// ```
/// use arqondb::engine::vector::{DistanceMetric, HnswConfig, HnswIndex};
///
/// # fn main() -> arqondb::Result<()> {
/// let config = HnswConfig::new(128, DistanceMetric::Cosine);
/// let mut index = HnswIndex::new(config);
/// index.insert(1, vec![0.1; 128])?;
/// let query = vec![0.2; 128];
/// for hit in index.search(&query, 5, None)? {
///     println!("{} at {}", hit.id, hit.distance);
/// }
/// # assert_eq!(index.search(&query, 5, Some(100))?[0].id, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HnswIndex {
    pub(in crate::vector) graph: Graph,
    scratches: Scratches,
    /// Whether it repairs itself when many nodes are dead.
    repairs_itself: bool,
}

impl HnswIndex {
    /// An empty index. Settings out of bounds are refused by the first insertion and search.
    pub fn new(config: HnswConfig) -> HnswIndex {
        HnswIndex::of(Graph::new(config))
    }

    pub(in crate::vector) fn of(graph: Graph) -> HnswIndex {
        HnswIndex { graph, scratches: Scratches::default(), repairs_itself: true }
    }

    /// Leaves it to the caller to repair it, with [`HnswIndex::repair_some`].
    pub(crate) fn repaired_by_hand(self) -> HnswIndex {
        HnswIndex { repairs_itself: false, ..self }
    }

    /// The settings.
    pub fn config(&self) -> &HnswConfig {
        &self.graph.config
    }

    /// Vectors in the index.
    pub fn len(&self) -> usize {
        self.graph.live()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Inserts a vector; one that had the id before is replaced. Costs as much as a search with
    /// `ef_construction`, twice over.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::base::ErrorKind::InvalidArgument) if the vector has
    /// not `dim` floats, holds a NaN or an infinity, is so long that distances overflow, or is
    /// zero under cosine, or if a setting is out of bounds. Nothing is changed then.
    pub fn insert(&mut self, id: u64, vector: impl AsRef<[f32]>) -> Result<()> {
        self.insert_many(&[id], vector.as_ref(), 1)
    }

    /// Inserts many vectors, on up to `threads` threads: `vectors` holds `dim` floats for each id,
    /// one vector behind the other. Of vectors with the same id the last one counts. The index is
    /// the same whatever the number of threads.
    ///
    /// # Errors
    ///
    /// As [`HnswIndex::insert`], with the id of the vector that is refused; none is inserted then.
    pub fn insert_many(&mut self, ids: &[u64], vectors: &[f32], threads: usize) -> Result<()> {
        let HnswConfig { dim, metric, .. } = self.graph.config;
        self.graph.config.check()?;
        if Some(vectors.len()) != ids.len().checked_mul(dim) {
            return Err(match ids.len() {
                1 => Error::invalid(format!(
                    "the vector has {} dimensions, the index {dim}",
                    vectors.len()
                )),
                n => {
                    Error::invalid(format!("{} floats are not {n} vectors of {dim}", vectors.len()))
                }
            });
        }
        let last: HashMap<u64, usize> = ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        let rows: Vec<(u64, &[f32])> = ids
            .iter()
            .zip(vectors.chunks_exact(dim))
            .enumerate()
            .filter(|(at, (id, _))| last.get(id) == Some(at))
            .map(|(_, (id, row))| (*id, row))
            .collect();
        // All of them are checked before the first is inserted; brought to unit length one by one.
        let refused = parallel::map(threads, rows.len(), |i| {
            let (id, row) = rows[i];
            metric.check(row, dim).err().map(|e| e.context(format!("vector {id}")))
        });
        if let Some(refused) = refused.into_iter().flatten().next() {
            return Err(refused);
        }
        self.graph.check_room(rows.len())?;
        for (id, _) in &rows {
            self.graph.bury(*id);
        }
        // Replaced ones leave before the new ones come, who would find the dead in their place.
        self.repair_if_due(threads);
        self.graph.reserve(rows.len());
        let mut slots = Vec::with_capacity(rows.len());
        for (id, row) in rows {
            let prepared = metric.prepare(row, dim)?;
            slots.push(self.graph.place(id, &prepared));
        }
        self.graph.link_all(&slots, threads, &self.scratches);
        Ok(())
    }

    /// Removes a vector: from now on no answer holds it. False if there was none. Now and then,
    /// when a tenth of all nodes is dead, it repairs the whole graph; see [`HnswIndex::repair`].
    pub fn remove(&mut self, id: u64) -> bool {
        let was_there = self.graph.bury(id);
        self.repair_if_due(1);
        was_there
    }

    /// Takes what was removed out of the graph and makes its memory free for new vectors. Costs
    /// about as much as inserting a quarter of the nodes that are linked with a removed one.
    pub fn repair(&mut self, threads: usize) {
        self.graph.repair(threads, &self.scratches);
    }

    /// Goes on with a repair, or begins one: mends about so many lists of links. False once
    /// all that was removed before it began is out of the graph. Costs, of 384 floats, some 25 us a
    /// list, and a pass over all of the graph's links at the end.
    pub(crate) fn repair_some(&mut self, lists: usize, threads: usize) -> bool {
        self.graph.repair_some(lists, threads, &self.scratches)
    }

    /// Whether a repair has begun that is still to be gone on with.
    pub(crate) fn is_in_repair(&self) -> bool {
        self.graph.sweep.is_some()
    }

    /// Gives the memory back of what was removed and is out of the graph. Costs a copy of all; nothing
    /// while a repair goes on.
    pub(crate) fn shrink(&mut self) {
        self.graph.shrink();
    }

    /// Nodes that there is memory for: those of vectors, of what was removed and is in the graph still,
    /// and those that new vectors will take.
    pub(crate) fn slots(&self) -> usize {
        self.graph.slot_count()
    }

    /// Ends a repair where it is: what is dead stays.
    pub(crate) fn give_up_repair(&mut self) {
        self.graph.sweep = None;
    }

    /// Vectors that were removed and whose nodes are in the graph still.
    pub(crate) fn dead(&self) -> usize {
        self.graph.dead
    }

    fn repair_if_due(&mut self, threads: usize) {
        if self.repairs_itself && self.graph.needs_repair() {
            self.repair(threads);
        }
    }

    /// Whether a vector with this id is in the index.
    pub fn contains(&self, id: u64) -> bool {
        self.graph.slot(id).is_some()
    }

    /// The vector with this id, as it is compared: at unit length under cosine.
    pub fn get(&self, id: u64) -> Option<&[f32]> {
        self.graph.slot(id).map(|slot| self.graph.vector(slot))
    }

    /// Whether floats of 16 bits under one scale for all keep each vector well: the largest number of
    /// each that is not zero is at least 2^-18 of the largest of all, and keeps its 11 bits, as do
    /// those of the same vector that are up to 64 times smaller.
    pub fn fits_halves(&self) -> bool {
        let slots = (0..self.graph.slot_count() as u32).filter(|slot| self.graph.is_live(*slot));
        let largest =
            |slot| self.graph.vector(slot).iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let sizes = slots.map(largest).filter(|size| *size > 0.0);
        let (least, most) = sizes.fold((f32::MAX, 0.0f32), |(a, b), x| (a.min(x), b.max(x)));
        least >= most * 2.0f32.powi(-18)
    }

    /// The ids of all vectors, in no order.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        let slots = 0..self.graph.slot_count() as u32;
        slots.filter(|slot| self.graph.is_live(*slot)).map(|slot| self.graph.ids[slot as usize])
    }

    /// The `k` vectors nearest to `query`, or all if there are fewer. `ef` overrides the setting
    /// `ef_search`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::base::ErrorKind::InvalidArgument) if the query is no
    /// vector that could be inserted, or `k` or `ef` is 0 or above 2^20.
    pub fn search(&self, query: &[f32], k: usize, ef: Option<usize>) -> Result<Vec<Hit>> {
        Ok(self.answer(&SearchRequest { ef, ..SearchRequest::new(query, k) })?.hits)
    }

    /// The `k` nearest vectors, certainly: the query is compared with every one.
    ///
    /// # Errors
    ///
    /// As [`HnswIndex::search`].
    pub fn exact(&self, query: &[f32], k: usize) -> Result<Vec<Hit>> {
        Ok(self.answer(&SearchRequest { exact: true, ..SearchRequest::new(query, k) })?.hits)
    }

    /// Answers a request with all its options, and says what it cost.
    ///
    /// With a filter the answer has `k` hits if as many match. With `distance_max` alone, set `k`
    /// to the most hits that are of use.
    ///
    /// # Errors
    ///
    /// As [`HnswIndex::search`].
    pub fn answer(&self, request: &SearchRequest<'_>) -> Result<Answer> {
        self.graph.config.check()?;
        self.scratches.with(|scratch| self.graph.search(request, scratch))
    }

    /// Answers many requests on up to `threads` threads, in their order.
    ///
    /// # Errors
    ///
    /// The first error of a request.
    pub fn answer_many(
        &self,
        requests: &[SearchRequest<'_>],
        threads: usize,
    ) -> Result<Vec<Answer>> {
        let answers = parallel::map(threads, requests.len(), |i| self.answer(&requests[i]));
        answers.into_iter().collect()
    }

    /// The instructions that distances are computed with: `avx512`, `avx2`, `neon` or `scalar`.
    pub fn instructions(&self) -> &'static str {
        self.graph.measure.instructions()
    }

    /// Bytes of memory that its vectors, links and ids take.
    pub fn memory_bytes(&self) -> usize {
        self.graph.memory_bytes()
    }

    /// The index in its stored form, with checksums. Costs a copy of all its memory.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = SegmentWriter::new(Kind::Hnsw);
        self.graph.write(&mut out);
        out.finish()
    }

    /// The index of these bytes: it answers as the one that wrote them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corruption`](crate::base::ErrorKind::Corruption), with the offset, if they are
    /// not what [`HnswIndex::to_bytes`] wrote; [`ErrorKind::Unsupported`](crate::base::ErrorKind)
    /// if a newer version wrote them.
    pub fn from_bytes(bytes: &[u8]) -> Result<HnswIndex> {
        let mut from = SegmentReader::new(bytes, Kind::Hnsw)?;
        let graph = Graph::read(&mut from)?;
        from.finish()?;
        Ok(HnswIndex::of(graph))
    }
}

//! The index as its users see it.

use super::pages::Pages;
use super::resident::Resident;
use super::walk::{Goal, Walk};
use super::writer::{self, PageSink};
use crate::base::{Error, Result};
use crate::vector::filter::{Filter, SearchRequest};
use crate::vector::hit::Answer;
use crate::vector::hnsw::HnswIndex;
use crate::vector::kernel::half::to_f32;
use crate::vector::metric::DistanceMetric;
use std::sync::{Mutex, PoisonError};

/// The most floats of a vector on disk: its codes are learnt from a matrix of so many squared.
pub(super) const DIM_MAX: usize = 4096;
/// The most bytes of a code.
const CODE_BYTES_MAX: usize = 256;
/// The fewest that are chosen by themselves.
const CODE_BYTES_MIN: usize = 8;
/// Blocks read at once when all are.
const BLOCKS_AT_ONCE: u32 = 64;

/// So many pages of the directory, which lie in a row, are read in the time of one elsewhere.
const IN_A_ROW: f64 = 2.0;

/// Pages that a walk reads where one in `1 / share` matches, roughly: as measured on embeddings of
/// text, 19 at an `ef` of 10, 26 at 64 and 50 at 300 without a filter, and 1.7 times as many for each
/// halving of the matches.
fn walk_pages(ef: usize, share: f64) -> f64 {
    (13.0 + 2.0 * (ef as f64).sqrt()) * share.powf(-0.8)
}

/// What is kept in memory of vectors on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskHnswConfig {
    /// Bytes of a vector's code in memory, from 1 to 256; an eighth of `dim` if `None`. More find
    /// the same neighbours with fewer reads.
    pub code_bytes: Option<usize>,
}

impl DiskHnswConfig {
    /// Whether each setting is within its bounds.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::base::ErrorKind::InvalidArgument), with the setting
    /// and its bounds.
    pub fn check(&self) -> Result<()> {
        match self.code_bytes {
            Some(bytes) if !(1..=CODE_BYTES_MAX).contains(&bytes) => {
                let bounds = format!("it may be from 1 to {CODE_BYTES_MAX}");
                Err(Error::invalid(format!("code_bytes is {bytes}; {bounds}")))
            }
            _ => Ok(()),
        }
    }

    /// Bytes of a code of vectors of `dim` floats.
    pub(super) fn code_bytes_of(&self, dim: usize) -> usize {
        let by_itself = (dim / 8).clamp(CODE_BYTES_MIN, CODE_BYTES_MAX);
        self.code_bytes.unwrap_or(by_itself).min(dim)
    }
}

/// A sealed graph on disk: links and vectors are read page by page, and only codes of some bytes a
/// vector are in memory.
///
/// Vectors are kept as floats of 16 bits, which are exact for embeddings of that precision and for
/// small integers; distances are computed from these. At 384 dimensions a vector takes 61 bytes of
/// memory (48 of code, 4 of factors, 4 of guides, the rest what the codes mean, for 60,000 vectors)
/// and 1,100 bytes on disk.
///
/// ```
/// use arqondb::engine::vector::{
///     DiskHnswConfig, DiskHnswIndex, DistanceMetric, HnswConfig, HnswIndex, PAGE_BYTES, Pages,
///     SearchRequest,
/// };
///
/// struct Memory(Vec<u8>);
///
/// impl Pages for Memory {
///     fn count(&self) -> u64 {
///         (self.0.len() / PAGE_BYTES) as u64
///     }
///     fn read(&self, pages: &[u64], out: &mut Vec<u8>) -> arqondb::Result<()> {
///         for page in pages {
///             out.extend_from_slice(&self.0[*page as usize * PAGE_BYTES..][..PAGE_BYTES]);
///         }
///         Ok(())
///     }
/// }
///
/// # fn main() -> arqondb::Result<()> {
/// let mut graph = HnswIndex::new(HnswConfig::new(16, DistanceMetric::L2));
/// for id in 0..100 {
///     graph.insert(id, vec![id as f32; 16])?;
/// }
/// let mut bytes = Vec::new();
/// let config = DiskHnswConfig::default();
/// DiskHnswIndex::write(graph, &config, 1, &mut |page| {
///     bytes.extend_from_slice(page);
///     Ok(())
/// })?;
/// let pages = Memory(bytes);
/// let index = DiskHnswIndex::open(&pages)?;
/// let answer = index.answer(&SearchRequest::new(&[7.2; 16], 3), &pages)?;
/// assert_eq!(answer.hits[0].id, 7);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DiskHnswIndex {
    resident: Resident,
    walks: Mutex<Vec<Walk>>,
}

impl DiskHnswIndex {
    /// Writes a graph as a segment, on up to `threads` threads, page by page into `sink`; what was
    /// removed from it is left out. Costs about as much as a third of building the graph, and
    /// besides the graph the memory of the codes and of some thousand nodes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::base::ErrorKind::InvalidArgument) if a setting is out
    /// of bounds, [`ErrorKind::Unsupported`](crate::base::ErrorKind::Unsupported) if the graph's
    /// `m` is above 31 or its vectors have more than 4,096 floats, and those of `sink`.
    pub fn write(
        index: HnswIndex,
        config: &DiskHnswConfig,
        threads: usize,
        sink: &mut PageSink<'_>,
    ) -> Result<()> {
        writer::write(index, config, threads, sink)
    }

    /// Opens a segment: reads what is kept in memory.
    ///
    /// # Errors
    ///
    /// Those of reading; [`ErrorKind::Corruption`](crate::base::ErrorKind::Corruption), with the
    /// offset, if the pages are not what was written;
    /// [`ErrorKind::Unsupported`](crate::base::ErrorKind::Unsupported) if a newer version wrote
    /// them.
    pub fn open(pages: &dyn Pages) -> Result<DiskHnswIndex> {
        Ok(DiskHnswIndex { resident: Resident::read(pages)?, walks: Mutex::default() })
    }

    /// Floats of a vector.
    pub fn dim(&self) -> usize {
        self.resident.header.dim
    }

    /// How distances are measured.
    pub fn metric(&self) -> DistanceMetric {
        self.resident.header.metric
    }

    /// Vectors in the segment.
    pub fn len(&self) -> usize {
        self.resident.header.nodes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that it takes while no search runs.
    pub fn memory_bytes(&self) -> usize {
        self.resident.memory_bytes()
    }

    /// Answers a request with all its options, and says what it cost. `ef` says how far beyond the
    /// `k`th hit it looks, which grows with its square root: on 61,436 embeddings of text `ef` 10
    /// finds 97 of 100 of the 10 nearest in 19 reads, 64 finds 98.5 in 26, 300 finds 99.5 in 50.
    /// With as many as there are vectors it compares with all.
    ///
    /// With a filter by ids their nodes are looked up, a page for each 340 ids of the segment at
    /// most, and those nearest by their codes are read. A filter by a test is asked about what a
    /// walk reads, or, where a walk would read more pages than that, about all ids; so it reads
    /// about as many pages as the cheaper of the two, and either fewer than comparing with all that
    /// match, which is a page or so for each.
    ///
    /// # Errors
    ///
    /// As [`HnswIndex::search`], those of reading, and
    /// [`ErrorKind::Corruption`](crate::base::ErrorKind::Corruption) if a page is damaged.
    pub fn answer(&self, request: &SearchRequest<'_>, pages: &dyn Pages) -> Result<Answer> {
        let header = &self.resident.header;
        let query = header.metric.prepare(request.query, header.dim)?;
        let ef = request.width(header.ef_search)?;
        // A poisoned list means that a push or a pop panicked, which leaves it whole.
        let kept = self.walks.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut walk = kept.unwrap_or_default();
        walk.begin(&self.resident, &query);
        let found = self.search(&mut walk, ef, request, pages);
        let answer = Answer { hits: std::mem::take(&mut walk.hits), stats: walk.stats };
        if walk.is_small() {
            self.walks.lock().unwrap_or_else(PoisonError::into_inner).push(walk);
        }
        found.map(|()| answer)
    }

    fn search(
        &self,
        walk: &mut Walk,
        ef: usize,
        request: &SearchRequest<'_>,
        pages: &dyn Pages,
    ) -> Result<()> {
        let of = &self.resident;
        let layout = of.header.layout();
        let takes = request.filter.test();
        let is_filtered = !matches!(request.filter, Filter::All);
        let goal = Goal {
            k: request.k,
            ef,
            distance_max: request.distance_max,
            accept: &takes,
            pages_otherwise: is_filtered.then(|| of.header.directory_pages()),
        };
        if let Filter::Ids(ids) = request.filter {
            let nodes = of.nodes_of(ids, pages, &mut walk.stats.pages_read)?;
            walk.stats.exact = request.exact;
            return match request.exact {
                true => walk.read_all(of, nodes.iter().map(|n| layout.block_of(*n)), &goal, pages),
                false => walk.read_nearest(of, &nodes, &goal, pages),
            };
        }
        let is_walked = !is_filtered || {
            let share = of.estimated_share(&takes);
            walk_pages(ef, share)
                <= of.header.directory_pages() as f64 / IN_A_ROW + walk_pages(ef, 1.0)
        };
        // It would read all pages, in the order of their distances.
        let is_wide = request.distance_max.is_none() && ef.max(request.k) >= self.len();
        let is_done = !request.exact && !is_wide && is_walked && walk.walk(of, &goal, pages)?;
        // Within a distance there may be fewer than are wanted.
        let is_short = walk.hits.len() < request.k.min(self.len());
        if is_done && (!is_short || request.distance_max.is_some()) {
            return Ok(());
        }
        if is_filtered && !request.exact {
            let nodes = of.nodes_where(&takes, pages, &mut walk.stats.pages_read)?;
            return walk.read_nearest(of, &nodes, &goal, pages);
        }
        walk.stats.exact = true;
        walk.read_all(of, 0..layout.blocks(self.len()) as u32, &goal, pages)
    }

    /// Whether a vector with this id is in the segment. Costs a read.
    ///
    /// # Errors
    ///
    /// Those of reading, and a damaged page.
    pub fn contains(&self, id: u64, pages: &dyn Pages) -> Result<bool> {
        Ok(!self.resident.nodes_of(&[id], pages, &mut 0)?.is_empty())
    }

    /// The vector with this id, as it is compared: in 16-bit floats, at unit length under cosine.
    /// Costs two reads.
    ///
    /// # Errors
    ///
    /// Those of reading, and a damaged page.
    pub fn get(&self, id: u64, pages: &dyn Pages) -> Result<Option<Vec<f32>>> {
        let nodes = self.resident.nodes_of(&[id], pages, &mut 0)?;
        let mut found = None;
        for node in nodes {
            let block = self.resident.header.layout().block_of(node);
            self.show(&[block], pages, &mut |other, vector| {
                if other == id {
                    found = Some(vector.to_vec());
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// Shows all vectors with their ids, in the order they lie in. Reads every block once.
    ///
    /// # Errors
    ///
    /// Those of reading and of `show`, and a damaged page.
    pub fn for_each(
        &self,
        pages: &dyn Pages,
        show: &mut dyn FnMut(u64, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let blocks: Vec<u32> =
            (0..self.resident.header.layout().blocks(self.len()) as u32).collect();
        let some = blocks.chunks(BLOCKS_AT_ONCE as usize);
        some.into_iter().try_for_each(|some| self.show(some, pages, show))
    }

    fn show(
        &self,
        blocks: &[u32],
        pages: &dyn Pages,
        show: &mut dyn FnMut(u64, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let header = &self.resident.header;
        let layout = header.layout();
        let (mut buffer, mut payload) = (Vec::new(), Vec::new());
        self.resident.read_blocks(blocks, pages, &mut buffer, &mut payload)?;
        let mut vector = Vec::with_capacity(header.dim);
        for (block, bytes) in blocks.iter().zip(payload.chunks_exact(layout.block_bytes())) {
            for place in 0..header.nodes_in(*block) {
                let (id, halves, _) = layout.parts(bytes, place);
                let halves = halves.as_chunks::<2>().0.iter().map(|half| u16::from_le_bytes(*half));
                vector.clear();
                vector.extend(halves.map(|half| to_f32(half) / header.scale));
                show(id, &vector)?;
            }
        }
        Ok(())
    }
}

//! What searches a sealed segment, and which form the settings ask for.

use crate::base::{IndexId, Result};
use crate::env::Disk;
use crate::op::vector::{IndexKind, IndexSpec, Metric, Quantisation};
use crate::shard::vectors::posted::takes_postings;
use crate::shard::vectors::segment::{
    self, GRAPH, IN_PAGES, PACKED, SegmentPages, WITH_CODES, write, write_parts,
};
use crate::shard::vectors::sorted::SortedRows;
use crate::vector::{
    Answer, CompactIndex, DiskHnswConfig, DiskHnswIndex, DistanceMetric, FetchLive, HnswConfig,
    HnswIndex, PackedIndex, PageSink, PqConfig, PqHnswIndex, SearchRequest,
};
use std::path::Path;

/// Vectors from which an index of kind `auto` takes product codes.
const AUTO_PQ_ROWS: usize = 100_000;
/// If these have so many parts, or parts of so few numbers.
const AUTO_PQ_PARTS: usize = 16;
const AUTO_PQ_FLOATS: usize = 4;

/// What searches a segment.
#[derive(Debug)]
pub(super) enum Form {
    Hnsw(HnswIndex),
    Pq(Box<PqHnswIndex>),
    Packed(PackedIndex),
    Compact(CompactIndex),
    /// With the pages of its file.
    Disk(Box<DiskHnswIndex>, SegmentPages),
}

/// The graph's settings.
pub(super) fn graph_config(spec: &IndexSpec) -> HnswConfig {
    HnswConfig {
        m: spec.m as usize,
        ef_construction: spec.ef_construction as usize,
        ef_search: spec.ef_search as usize,
        ..HnswConfig::new(spec.dim as usize, metric(spec.metric))
    }
}

/// The settings of product codes.
pub(super) fn pq_config(spec: &IndexSpec) -> PqConfig {
    let config = PqConfig::new(spec.dim as usize, metric(spec.metric));
    match spec.num_sub {
        0 => config,
        num_sub => PqConfig { num_sub: num_sub as usize, ..config },
    }
}

pub(super) fn metric(metric: Metric) -> DistanceMetric {
    match metric {
        Metric::L2 => DistanceMetric::L2,
        Metric::Cosine => DistanceMetric::Cosine,
        Metric::InnerProduct => DistanceMetric::InnerProduct,
    }
}

/// Whether a graph of so many vectors keeps its form when it is sealed.
pub(super) fn is_plain(spec: &IndexSpec, rows: usize) -> bool {
    spec.quantisation == Quantisation::None
        && !takes_codes(spec, rows)
        && !takes_pages(spec)
        && !takes_postings(spec)
}

/// Whether what is sealed lies on disk.
pub(super) fn takes_pages(spec: &IndexSpec) -> bool {
    spec.kind == IndexKind::DiskHnsw
}

fn takes_codes(spec: &IndexSpec, rows: usize) -> bool {
    match spec.kind {
        IndexKind::PqHnsw => true,
        IndexKind::Auto => rows >= AUTO_PQ_ROWS && is_worth_codes(spec),
        IndexKind::Hnsw | IndexKind::DiskHnsw | IndexKind::Spfresh => false,
    }
}

/// Whether product codes say enough of a vector: one of few divisors is cut into few parts, and one byte
/// for all of 37 numbers finds one neighbour in seven.
fn is_worth_codes(spec: &IndexSpec) -> bool {
    let dim = spec.dim as usize;
    let parts = match spec.num_sub as usize {
        0 => PqConfig::new(dim, metric(spec.metric)).num_sub,
        parts => parts,
    };
    parts >= AUTO_PQ_PARTS || dim <= parts * AUTO_PQ_FLOATS
}

/// Bytes of a graph of so many vectors, in memory or in a file, about: a vector has its numbers, links
/// of 4 bytes (twice as many at the ground as above), and an id with what finds it.
pub(super) fn graph_bytes(spec: &IndexSpec, rows: usize) -> usize {
    rows.saturating_mul(4 * spec.dim as usize + 12 * spec.m as usize + 64)
}

/// Bytes that are in memory for a moment while a graph of so many vectors gets the form of the
/// settings and a file, about: the graph, the same as bytes of a file, and as much again for what codes are
/// learnt from. A packed form takes a copy of the vectors to be made, beside it and the graph, and is then
/// there twice: a row has 6 bytes a dimension, and 32 neighbours.
pub(super) fn making_bytes(spec: &IndexSpec, rows: usize) -> usize {
    if spec.quantisation != Quantisation::Packed {
        return graph_bytes(spec, rows).saturating_mul(3);
    }
    let dim = spec.dim as usize;
    let packed = 6 * dim + 512;
    rows.saturating_mul((graph_bytes(spec, 1) + 4 * dim + packed).max(2 * packed))
}

/// The name of a file to be written.
pub(super) struct Place<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) path: &'a Path,
    pub(super) index: IndexId,
}

impl Form {
    /// Brings a graph to the form that the settings ask for, and writes its file; gives that form and
    /// the file's length. Costs a copy of the graph's memory, and for other forms than a plain graph
    /// the making of them.
    ///
    /// # Errors
    /// What the disk answers.
    pub(super) fn write(
        graph: HnswIndex,
        spec: &IndexSpec,
        threads: usize,
        rows: &SortedRows,
        Place { disk, path, index }: Place<'_>,
    ) -> Result<(Form, u64)> {
        if takes_pages(spec) && graph.fits_halves() {
            let config = DiskHnswConfig::default();
            let put = |sink: &mut PageSink<'_>| DiskHnswIndex::write(graph, &config, threads, sink);
            let ((), file_bytes) = write_parts(disk, path, index, rows, (IN_PAGES, put))?;
            let form = segment::read(disk, path, index)?.form(path, spec)?;
            return Ok((form, file_bytes));
        }
        if spec.quantisation == Quantisation::None && takes_codes(spec, graph.len()) {
            let made =
                PqHnswIndex::from_hnsw_on(graph, pq_config(spec), spec.rerank_k as usize, threads)?;
            let file_bytes = write(disk, path, index, rows, (WITH_CODES, &made.to_bytes()))?;
            return Ok((Form::Pq(Box::new(made)), file_bytes));
        }
        if spec.quantisation == Quantisation::Packed && graph.fits_halves() {
            let put = |sink: &mut PageSink<'_>| {
                let bytes = graph.to_bytes();
                sink(&(bytes.len() as u64).to_le_bytes())?;
                sink(&bytes)?;
                drop(bytes);
                let made = PackedIndex::from_hnsw(graph, threads)?;
                sink(&made.to_bytes())?;
                Ok(made)
            };
            let (made, file_bytes) = write_parts(disk, path, index, rows, (PACKED, put))?;
            return Ok((Form::Packed(made), file_bytes));
        }
        // Also of a packed one that does not fit 16 bits: one scale for all would make nothing of some.
        let file_bytes = write(disk, path, index, rows, (GRAPH, &graph.to_bytes()))?;
        Ok((Form::of_graph(graph, spec, threads)?, file_bytes))
    }

    /// Whether the form is made of a graph whenever it is opened: files hold the graph alone.
    pub(super) fn is_made_of_graphs(spec: &IndexSpec) -> bool {
        matches!(spec.quantisation, Quantisation::Compact4 | Quantisation::Compact8)
    }

    /// A graph in the form of the settings' quantisation, if that is made of graphs, or as it is.
    pub(super) fn of_graph(graph: HnswIndex, spec: &IndexSpec, threads: usize) -> Result<Form> {
        Ok(match spec.quantisation {
            Quantisation::None | Quantisation::Packed => Form::Hnsw(graph),
            Quantisation::Compact4 => Form::Compact(CompactIndex::from_hnsw(graph, 4, threads)?),
            Quantisation::Compact8 => Form::Compact(CompactIndex::from_hnsw(graph, 8, threads)?),
        })
    }

    /// Answers a request; `fetch` shows vectors that are not in memory.
    pub(super) fn answer(
        &self,
        request: &SearchRequest<'_>,
        fetch: &mut FetchLive<'_>,
    ) -> Result<Answer> {
        match self {
            Form::Hnsw(index) => index.answer(request),
            Form::Pq(index) => index.answer(request),
            Form::Packed(index) => index.answer(request),
            Form::Compact(index) => index.answer(request, fetch),
            Form::Disk(index, pages) => index.answer(request, pages),
        }
    }

    /// Vectors in it.
    pub(super) fn len(&self) -> usize {
        match self {
            Form::Hnsw(index) => index.len(),
            Form::Pq(index) => index.len(),
            Form::Packed(index) => index.len(),
            Form::Compact(index) => index.len(),
            Form::Disk(index, _) => index.len(),
        }
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Form::Hnsw(index) => index.memory_bytes(),
            Form::Pq(index) => index.memory_bytes(),
            Form::Packed(index) => index.memory_bytes(),
            Form::Compact(index) => index.memory_bytes(),
            Form::Disk(index, _) => index.memory_bytes(),
        }
    }

    /// Whether it is what the settings ask for, or as near to that as its vectors allow.
    pub(super) fn is_final(&self, spec: &IndexSpec) -> bool {
        let takes_halves = takes_pages(spec) || spec.quantisation == Quantisation::Packed;
        match self {
            Form::Hnsw(graph) => {
                is_plain(spec, graph.len()) || (takes_halves && !graph.fits_halves())
            }
            _ => true,
        }
    }

    /// Whether it has 16 bits of each number, and compares with these.
    pub(super) fn keeps_halves(&self) -> bool {
        matches!(self, Form::Packed(_) | Form::Disk(..))
    }

    /// Whether it has the numbers of its vectors as they were given: else records are read for them.
    pub(super) fn has_floats(&self) -> bool {
        matches!(self, Form::Hnsw(_) | Form::Pq(_))
    }

    /// The bytes of its graph, if it is in memory.
    pub(super) fn graph_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Form::Hnsw(index) => Some(index.to_bytes()),
            // What its codes are of is the same; they are trained anew.
            Form::Pq(_) | Form::Packed(_) | Form::Compact(_) | Form::Disk(..) => None,
        }
    }

    /// Whether searches read it from disk, so that damage shows only then.
    pub(super) fn is_on_disk(&self) -> bool {
        matches!(self, Form::Disk(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes of one byte found one of seven neighbours in an index that had chosen them by itself.
    #[test]
    fn an_index_chooses_codes_only_where_they_have_enough_parts() {
        for (dim, num_sub, chosen) in [
            (384, 0, true),
            (1_536, 0, true),
            (100, 0, true),
            (8, 0, true),
            (37, 0, false),
            (383, 0, false),
            (382, 0, false),
            (384, 8, false),
        ] {
            let spec = IndexSpec { num_sub, ..IndexSpec::new("v", dim, Metric::L2) };
            assert!(!takes_codes(&spec, AUTO_PQ_ROWS - 1));
            assert_eq!(takes_codes(&spec, AUTO_PQ_ROWS), chosen, "{dim} {num_sub}");
            let asked = IndexSpec { kind: IndexKind::PqHnsw, ..spec };
            assert!(takes_codes(&asked, 10));
        }
    }
}

//! Sealed parts of an index: what searches them, and the files they are kept in.
//!
//! ```text
//! header, 44 bytes
//!   0   8   magic "ArqonVSg"
//!   8   2   version, 1
//!   10  1   what the index bytes are: 1 a graph, 2 a graph with product codes
//!   11  1   0
//!   12  8   index
//!   20  8   number of rows, n
//!   28  8   length of the index bytes
//!   36  4   CRC32C of the rows
//!   40  4   CRC32C of bytes 0 to 39
//! rows, n * 16
//!   0   8   id; ids rise
//!   8   8   sequence number of the record that the vector is of
//! index bytes: with checksums of their own, see `vector/segment.rs`
//! ```
//! All integers are little-endian. Nothing stands behind the index bytes. A file is written whole,
//! synced, and then named by the index's `STATE`; one that no `STATE` names counts for nothing.

use crate::base::checksum::crc32c_append;
use crate::base::codec::Reader;
use crate::base::{Error, IndexId, Result};
use crate::env::Disk;
use crate::env::disk::read_exact_at;
use crate::op::vector::{IndexKind, IndexSpec, Metric, Quantisation};
use crate::vector::{
    Answer, CompactIndex, DistanceMetric, Fetch, HnswConfig, HnswIndex, PackedIndex, PqConfig,
    PqHnswIndex, SearchRequest,
};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"ArqonVSg";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 44;
const ROW_BYTES: usize = 16;
/// Vectors from which an index of kind `auto` takes product codes.
const AUTO_PQ_ROWS: usize = 100_000;

/// What searches a segment.
#[derive(Debug)]
pub(super) enum Form {
    Hnsw(HnswIndex),
    Pq(Box<PqHnswIndex>),
    Packed(PackedIndex),
    Compact(CompactIndex),
}

/// A vector's id, and the sequence number of the record that it is of.
pub(super) type Row = (u64, u64);

/// A sealed part of an index.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Its number: the name of its file.
    pub(super) number: u64,
    pub(super) form: Arc<Form>,
    /// In the order of ids.
    pub(super) rows: Arc<Vec<Row>>,
    /// Those of its ids that are replaced or deleted.
    pub(super) dead: HashSet<u64>,
    /// Whether its file is durable; its length in bytes.
    pub(super) file_bytes: Option<u64>,
    /// Whether its form is the one that the index's settings ask for.
    pub(super) is_final: bool,
}

impl Segment {
    /// Whether a vector is in it and counts.
    pub(super) fn has(&self, id: u64) -> bool {
        self.seq_of(id).is_some() && !self.dead.contains(&id)
    }

    /// The sequence number of a vector's record.
    pub(super) fn seq_of(&self, id: u64) -> Option<u64> {
        seq_in(&self.rows, id)
    }

    /// Vectors that count.
    pub(super) fn live(&self) -> usize {
        self.rows.len() - self.dead.len()
    }

    /// The rows that count.
    pub(super) fn live_rows(&self) -> impl Iterator<Item = Row> {
        self.rows.iter().copied().filter(|(id, _)| !self.dead.contains(id))
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.form.memory_bytes() + self.rows.len() * ROW_BYTES + self.dead.len() * 16
    }
}

/// The sequence number that sorted rows have for an id.
pub(super) fn seq_in(rows: &[Row], id: u64) -> Option<u64> {
    rows.binary_search_by_key(&id, |row| row.0).ok().map(|at| rows[at].1)
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

/// Whether a graph of so many vectors takes another form when it is sealed.
pub(super) fn is_plain(spec: &IndexSpec, rows: usize) -> bool {
    spec.quantisation == Quantisation::None && !takes_codes(spec, rows)
}

fn takes_codes(spec: &IndexSpec, rows: usize) -> bool {
    match spec.kind {
        IndexKind::PqHnsw => true,
        IndexKind::Auto => rows >= AUTO_PQ_ROWS,
        IndexKind::Hnsw | IndexKind::DiskHnsw | IndexKind::Spfresh => false,
    }
}

impl Form {
    /// The form that the settings ask for of a graph, and the bytes to keep it in. Costs a copy of
    /// the graph's memory, and for other forms than a plain graph the making of them.
    pub(super) fn of_graph(
        graph: HnswIndex,
        spec: &IndexSpec,
        threads: usize,
    ) -> Result<(Form, u8, Vec<u8>)> {
        if graph.is_empty() {
            let bytes = graph.to_bytes();
            return Ok((Form::Hnsw(graph), 1, bytes));
        }
        if spec.quantisation == Quantisation::None && takes_codes(spec, graph.len()) {
            let index = PqHnswIndex::from_hnsw(graph, pq_config(spec), spec.rerank_k as usize)?;
            let bytes = index.to_bytes();
            return Ok((Form::Pq(Box::new(index)), 2, bytes));
        }
        let bytes = graph.to_bytes();
        Ok((Form::packed(graph, spec, threads)?, 1, bytes))
    }

    /// A graph in the form of the settings' quantisation.
    fn packed(graph: HnswIndex, spec: &IndexSpec, threads: usize) -> Result<Form> {
        Ok(match spec.quantisation {
            Quantisation::None => Form::Hnsw(graph),
            Quantisation::Packed => Form::Packed(PackedIndex::from_hnsw(graph, threads)?),
            Quantisation::Compact4 => Form::Compact(CompactIndex::from_hnsw(graph, 4, threads)?),
            Quantisation::Compact8 => Form::Compact(CompactIndex::from_hnsw(graph, 8, threads)?),
        })
    }

    /// Answers a request; `fetch` brings vectors that are not in memory.
    pub(super) fn answer(
        &self,
        request: &SearchRequest<'_>,
        fetch: &mut Fetch<'_>,
    ) -> Result<Answer> {
        match self {
            Form::Hnsw(index) => index.answer(request),
            Form::Pq(index) => index.answer(request),
            Form::Packed(index) => index.answer(request),
            Form::Compact(index) => index.answer(request, fetch),
        }
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Form::Hnsw(index) => index.memory_bytes(),
            Form::Pq(index) => index.memory_bytes(),
            Form::Packed(index) => index.memory_bytes(),
            Form::Compact(index) => index.memory_bytes(),
        }
    }

    /// The bytes of its graph, if it is in memory.
    pub(super) fn graph_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Form::Hnsw(index) => Some(index.to_bytes()),
            // What its codes are of is the same; they are trained anew.
            Form::Pq(_) | Form::Packed(_) | Form::Compact(_) => None,
        }
    }
}

/// The path of a segment's file.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number}.seg"))
}

/// Writes a segment's file whole, durable but for its name; gives its length.
///
/// # Errors
/// What the disk answers.
pub(super) fn write(
    disk: &dyn Disk,
    path: &Path,
    index: IndexId,
    rows: &[Row],
    (kind, bytes): (u8, &[u8]),
) -> Result<u64> {
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&[kind, 0]);
    head.extend_from_slice(&index.0.to_le_bytes());
    head.extend_from_slice(&(rows.len() as u64).to_le_bytes());
    head.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    let mut table = Vec::with_capacity(rows.len() * ROW_BYTES);
    for (id, seq) in rows {
        table.extend_from_slice(&id.to_le_bytes());
        table.extend_from_slice(&seq.to_le_bytes());
    }
    head.extend_from_slice(&crc32c_append(0, &table).to_le_bytes());
    let sum = crc32c_append(0, &head);
    head.extend_from_slice(&sum.to_le_bytes());
    let file = disk.create(path)?;
    file.write_at(&head, 0)?;
    file.write_at(&table, HEADER_BYTES as u64)?;
    file.write_at(bytes, (HEADER_BYTES + table.len()) as u64)?;
    file.sync_data()?;
    Ok((HEADER_BYTES + table.len() + bytes.len()) as u64)
}

/// What a segment's file holds.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) rows: Vec<Row>,
    kind: u8,
    bytes: Vec<u8>,
    pub(super) file_bytes: u64,
}

/// Reads a segment's file.
///
/// # Errors
/// `Corruption` with the place if it is not what was written for this index; what the disk answers.
pub(super) fn read(disk: &dyn Disk, path: &Path, index: IndexId) -> Result<Stored> {
    let file = disk.open(path)?;
    let len = file.len()?;
    let wrong = |at: u64, expected: &str, found: String| {
        Error::corruption(path, at, expected.to_string(), found)
    };
    let mut head = [0; HEADER_BYTES];
    read_exact_at(&*file, path, &mut head, 0)?;
    let sum = crc32c_append(0, &head[..40]);
    let mut fields = Reader::new(&head);
    let short = || wrong(0, "a header", format!("{len} bytes"));
    let magic = fields.take(8).ok_or_else(short)?;
    if magic != MAGIC {
        return Err(wrong(0, "the magic ArqonVSg", format!("{magic:02x?}")));
    }
    let version = fields.u16().ok_or_else(short)?;
    let kind = fields.u8().ok_or_else(short)?;
    _ = fields.u8();
    let of = fields.u64().ok_or_else(short)?;
    let (count, bytes) = (fields.u64().ok_or_else(short)?, fields.u64().ok_or_else(short)?);
    let (table_sum, head_sum) = (fields.u32().ok_or_else(short)?, fields.u32().ok_or_else(short)?);
    if head_sum != sum {
        return Err(wrong(40, &format!("checksum {sum:08x}"), format!("{head_sum:08x}")));
    }
    if version != VERSION || of != index.0 {
        let found = format!("version {version} of index {of}");
        return Err(wrong(8, &format!("version {VERSION} of index {index}"), found));
    }
    let table_bytes = count.checked_mul(ROW_BYTES as u64);
    let whole = table_bytes.and_then(|t| t.checked_add(bytes)?.checked_add(HEADER_BYTES as u64));
    if whole != Some(len) {
        return Err(wrong(20, "lengths that make up the file", format!("{count} and {bytes}")));
    }
    let mut table = vec![0; len as usize - HEADER_BYTES - bytes as usize];
    read_exact_at(&*file, path, &mut table, HEADER_BYTES as u64)?;
    let found = crc32c_append(0, &table);
    if found != table_sum {
        return Err(wrong(36, &format!("checksum {found:08x}"), format!("{table_sum:08x}")));
    }
    let row = |row: &[u8; ROW_BYTES]| {
        let (id, seq) = row.split_at(8);
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        (number(id), number(seq))
    };
    let rows: Vec<Row> = table.as_chunks::<ROW_BYTES>().0.iter().map(row).collect();
    if !rows.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(wrong(HEADER_BYTES as u64, "ids that rise", "others".into()));
    }
    let mut index_bytes = vec![0; bytes as usize];
    read_exact_at(&*file, path, &mut index_bytes, len - bytes)?;
    Ok(Stored { rows, kind, bytes: index_bytes, file_bytes: len })
}

impl Stored {
    /// The graph alone.
    ///
    /// # Errors
    /// `Corruption` if it is damaged, or not one of these settings and rows.
    pub(super) fn graph(&self, path: &Path, spec: &IndexSpec) -> Result<HnswIndex> {
        let graph = match self.kind {
            1 => HnswIndex::from_bytes(&self.bytes),
            2 => PqHnswIndex::from_bytes(&self.bytes).map(PqHnswIndex::into_hnsw),
            kind => Err(Error::corruption(path, 10, "a kind of index", kind.to_string())),
        }?;
        self.check(path, spec, &graph)?;
        Ok(graph)
    }

    /// What searches it as it is: a form that is not kept in files is made in the background.
    ///
    /// # Errors
    /// As [`Stored::graph`].
    pub(super) fn form(&self, path: &Path, spec: &IndexSpec) -> Result<Form> {
        if self.kind == 2 && spec.quantisation == Quantisation::None {
            let index = PqHnswIndex::from_bytes(&self.bytes)?;
            let same = index.config().hnsw == graph_config(spec) && index.len() == self.rows.len();
            return match same {
                true => Ok(Form::Pq(Box::new(index))),
                false => Err(foreign(path)),
            };
        }
        Ok(Form::Hnsw(self.graph(path, spec)?))
    }

    fn check(&self, path: &Path, spec: &IndexSpec, graph: &HnswIndex) -> Result<()> {
        let is_of_spec = *graph.config() == graph_config(spec);
        let has_rows =
            graph.len() == self.rows.len() && self.rows.iter().all(|(id, _)| graph.contains(*id));
        if is_of_spec && has_rows { Ok(()) } else { Err(foreign(path)) }
    }
}

fn foreign(path: &Path) -> Error {
    Error::corruption(path, HEADER_BYTES as u64, "a graph of the rows", "another")
}

//! Sealed parts of an index: what searches them, and the files they are kept in.
//!
//! ```text
//! header, 44 bytes
//!   0   8   magic "ArqonVSg"
//!   8   2   version, 1
//!   10  1   what the index bytes are: 1 a graph, 2 a graph with product codes, 3 the length of a
//!           graph (u64), the graph, and its packed form, 4 a graph in pages, 5 what belongs to
//!           postings, see `posted`
//!   11  1   0
//!   12  8   index
//!   20  8   number of rows, n
//!   28  8   length of the index bytes
//!   36  4   CRC32C of the rows
//!   40  4   CRC32C of bytes 0 to 39
//! rows, n * 16
//!   0   8   id; ids rise
//!   8   8   sequence number of the record that the vector is of
//! zeros, for kind 4: up to a multiple of 4,096
//! index bytes: with checksums of their own, see `vector/segment.rs` and `vector/disk`
//! ```
//! All integers are little-endian. Nothing stands behind the index bytes. A file is written whole,
//! synced, and then named by the index's `STATE`; one that no `STATE` names counts for nothing.

use crate::base::checksum::crc32c_append;
use crate::base::codec::Reader;
use crate::base::{Error, IndexId, Result};
use crate::env::Disk;
use crate::env::File;
use crate::env::disk::read_exact_at;
use crate::op::vector::{IndexSpec, Quantisation};
use crate::shard::vectors::form::{Form, graph_config, metric, takes_pages};
use crate::shard::vectors::sorted::SortedRows;
use crate::vector::{
    DiskHnswIndex, HnswIndex, IdSet, PAGE_BYTES, PackedIndex, PageSink, Pages, PqHnswIndex,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"ArqonVSg";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 44;
const ROW_BYTES: usize = 16;
/// Index bytes that are written at once.
const WRITTEN_AT_ONCE: usize = 1 << 20;
/// What the index bytes are; a number is never given to another.
pub(super) const GRAPH: u8 = 1;
pub(super) const WITH_CODES: u8 = 2;
pub(super) const PACKED: u8 = 3;
pub(super) const IN_PAGES: u8 = 4;
pub(super) const POSTED: u8 = 5;

/// A vector's id, and the sequence number of the record that it is of.
pub(super) type Row = (u64, u64);

/// A sealed part of an index.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Its number: the name of its file.
    pub(super) number: u64,
    pub(super) form: Arc<Form>,
    pub(super) rows: Arc<SortedRows>,
    /// Those of its ids that are replaced or deleted.
    pub(super) dead: IdSet,
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
        self.rows.get(id)
    }

    /// Vectors that count.
    pub(super) fn live(&self) -> usize {
        self.rows.len() - self.dead.len()
    }

    /// The rows that count.
    pub(super) fn live_rows(&self) -> impl Iterator<Item = Row> {
        self.rows.iter().filter(|(id, _)| !self.dead.contains(id))
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        let dead = self.dead.capacity() * (size_of::<u64>() + 1);
        self.form.memory_bytes() + self.rows.memory_bytes() + dead
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
    rows: &SortedRows,
    (kind, bytes): (u8, &[u8]),
) -> Result<u64> {
    write_parts(disk, path, index, rows, (kind, |sink: &mut PageSink<'_>| sink(bytes)))
        .map(|((), file_bytes)| file_bytes)
}

/// As [`write`], of index bytes that `put` gives part by part: no more of them are in memory than it has
/// at once. Gives also what `put` does.
pub(super) fn write_parts<T>(
    disk: &dyn Disk,
    path: &Path,
    index: IndexId,
    rows: &SortedRows,
    (kind, put): (u8, impl FnOnce(&mut PageSink<'_>) -> Result<T>),
) -> Result<(T, u64)> {
    let table = table(rows);
    let file = disk.create(path)?;
    let from = bytes_at(kind, rows.len() as u64);
    let (mut at, mut buffer) = (from, Vec::with_capacity(WRITTEN_AT_ONCE));
    let mut write = |bytes: &[u8]| -> Result<()> {
        file.write_at(bytes, at)?;
        at += bytes.len() as u64;
        Ok(())
    };
    let given = put(&mut |part| {
        if buffer.len() + part.len() > WRITTEN_AT_ONCE {
            write(&buffer)?;
            buffer.clear();
        }
        if part.len() > WRITTEN_AT_ONCE {
            return write(part);
        }
        buffer.extend_from_slice(part);
        Ok(())
    });
    let given = given.and_then(|given| write(&buffer).map(|()| given));
    let written = given.and_then(|given| {
        file.write_at(&table, HEADER_BYTES as u64)?;
        file.write_at(&header(kind, index, &table, at - from), 0)?;
        file.sync_data()?;
        Ok((given, at))
    });
    if written.is_err() {
        // Half of one takes room that there may be none of.
        _ = disk.remove(path);
    }
    written
}

/// Where the index bytes begin behind so many rows: pages at a multiple of their size.
fn bytes_at(kind: u8, rows: u64) -> u64 {
    let at = HEADER_BYTES as u64 + rows * ROW_BYTES as u64;
    if kind == IN_PAGES { at.next_multiple_of(PAGE_BYTES as u64) } else { at }
}

fn table(rows: &SortedRows) -> Vec<u8> {
    let mut table = Vec::with_capacity(rows.len() * ROW_BYTES);
    for (id, seq) in rows.iter() {
        table.extend_from_slice(&id.to_le_bytes());
        table.extend_from_slice(&seq.to_le_bytes());
    }
    table
}

fn header(kind: u8, index: IndexId, table: &[u8], bytes: u64) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&[kind, 0]);
    head.extend_from_slice(&index.0.to_le_bytes());
    head.extend_from_slice(&((table.len() / ROW_BYTES) as u64).to_le_bytes());
    head.extend_from_slice(&bytes.to_le_bytes());
    head.extend_from_slice(&crc32c_append(0, table).to_le_bytes());
    let sum = crc32c_append(0, &head);
    head.extend_from_slice(&sum.to_le_bytes());
    head
}

/// A segment's file, its rows read.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) rows: SortedRows,
    kind: u8,
    file: Arc<dyn File>,
    /// Where the index bytes are.
    at: u64,
    pub(super) file_bytes: u64,
}

/// Opens a segment's file.
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
    let fits = count <= len / ROW_BYTES as u64;
    let at = if fits { bytes_at(kind, count) } else { 0 };
    if !fits || at.checked_add(bytes) != Some(len) {
        return Err(wrong(20, "lengths that make up the file", format!("{count} and {bytes}")));
    }
    let mut table = vec![0; count as usize * ROW_BYTES];
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
    let rows = table.as_chunks::<ROW_BYTES>().0.iter().map(row);
    if !rows.clone().is_sorted_by(|a, b| a.0 < b.0) {
        return Err(wrong(HEADER_BYTES as u64, "ids that rise", "others".into()));
    }
    let rows = SortedRows::of(rows);
    Ok(Stored { rows, kind, file, at, file_bytes: len })
}

impl Stored {
    /// The graph alone.
    ///
    /// # Errors
    /// `Corruption` if it is damaged, or not one of these settings and rows; what the disk answers.
    pub(super) fn graph(&self, path: &Path, spec: &IndexSpec) -> Result<HnswIndex> {
        let graph = match self.kind {
            GRAPH => HnswIndex::from_bytes(&self.bytes(path, self.at, self.file_bytes)?),
            WITH_CODES => PqHnswIndex::from_bytes(&self.bytes(path, self.at, self.file_bytes)?)
                .map(PqHnswIndex::into_hnsw),
            PACKED => {
                let packed_at = self.packed_at(path)?;
                HnswIndex::from_bytes(&self.bytes(path, self.at + 8, packed_at)?)
            }
            kind => Err(Error::corruption(path, 10, "a kind of index", kind.to_string())),
        }?;
        let is_of_spec = *graph.config() == graph_config(spec);
        let has_rows =
            graph.len() == self.rows.len() && self.rows.iter().all(|(id, _)| graph.contains(id));
        if is_of_spec && has_rows { Ok(graph) } else { Err(foreign(path)) }
    }

    /// What searches it as it is: a form that is not kept in files is made in the background.
    ///
    /// # Errors
    /// As [`Stored::graph`].
    pub(super) fn form(&self, path: &Path, spec: &IndexSpec) -> Result<Form> {
        match self.kind {
            WITH_CODES if spec.quantisation == Quantisation::None => {
                let bytes = self.bytes(path, self.at, self.file_bytes)?;
                let index = PqHnswIndex::from_bytes(&bytes)?;
                let is_it = index.config().hnsw == graph_config(spec);
                let form = Form::Pq(Box::new(index));
                if is_it && form.len() == self.rows.len() { Ok(form) } else { Err(foreign(path)) }
            }
            PACKED if spec.quantisation == Quantisation::Packed => {
                let bytes = self.bytes(path, self.packed_at(path)?, self.file_bytes)?;
                let index = PackedIndex::from_bytes(&bytes)?;
                let is_it = *index.config() == graph_config(spec);
                let form = Form::Packed(index);
                if is_it && form.len() == self.rows.len() { Ok(form) } else { Err(foreign(path)) }
            }
            IN_PAGES if takes_pages(spec) => {
                let count = (self.file_bytes - self.at) / PAGE_BYTES as u64;
                let file = self.file.clone();
                let pages = SegmentPages { file, path: path.to_path_buf(), at: self.at, count };
                let index = DiskHnswIndex::open(&pages)?;
                let is_it =
                    index.dim() == spec.dim as usize && index.metric() == metric(spec.metric);
                let form = Form::Disk(Box::new(index), pages);
                let is_it = is_it && form.len() == self.rows.len();
                if is_it { Ok(form) } else { Err(foreign(path)) }
            }
            _ => Ok(Form::Hnsw(self.graph(path, spec)?)),
        }
    }

    /// What belongs to postings; `None` if it is of something else.
    ///
    /// # Errors
    /// What the disk answers.
    pub(super) fn posted(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        match self.kind {
            POSTED => self.bytes(path, self.at, self.file_bytes).map(Some),
            _ => Ok(None),
        }
    }

    /// Where the packed form begins, behind the graph.
    fn packed_at(&self, path: &Path) -> Result<u64> {
        let mut len = [0; 8];
        read_exact_at(&*self.file, path, &mut len, self.at)?;
        let len = u64::from_le_bytes(len);
        let at = self.at.checked_add(8).and_then(|at| at.checked_add(len));
        at.filter(|at| *at <= self.file_bytes).ok_or_else(|| {
            Error::corruption(path, self.at, "the length of a graph", len.to_string())
        })
    }

    fn bytes(&self, path: &Path, from: u64, to: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; to.saturating_sub(from) as usize];
        read_exact_at(&*self.file, path, &mut bytes, from)?;
        Ok(bytes)
    }
}

/// The pages of a segment's file.
#[derive(Debug)]
pub(super) struct SegmentPages {
    file: Arc<dyn File>,
    path: PathBuf,
    at: u64,
    count: u64,
}

impl Pages for SegmentPages {
    fn count(&self) -> u64 {
        self.count
    }

    fn read(&self, pages: &[u64], out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        out.resize(pages.len() * PAGE_BYTES, 0);
        let mut rest = out.as_mut_slice();
        // Those that lie side by side are one read.
        for run in pages.chunk_by(|a, b| a + 1 == *b) {
            let (part, others) = rest.split_at_mut(run.len() * PAGE_BYTES);
            let at = self.at + run[0] * PAGE_BYTES as u64;
            read_exact_at(&*self.file, &self.path, part, at)?;
            rest = others;
        }
        Ok(())
    }
}

fn foreign(path: &Path) -> Error {
    Error::corruption(path, HEADER_BYTES as u64, "a graph of the rows", "another")
}

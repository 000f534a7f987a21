//! One index of each kind, over the same vectors.

use crate::{cpu_s, floats, say};
use arqondb::engine::vector::{
    Answer, CompactIndex, DiskHnswConfig, DiskHnswIndex, DistanceMetric, FlatIndex, HnswConfig,
    HnswIndex, PAGE_BYTES, PackedIndex, Pages, Postings, PqConfig, PqHnswIndex, SearchRequest,
    SpfreshConfig, SpfreshIndex,
};
use arqondb::{Error, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

pub(crate) struct Indexes {
    dim: usize,
    hnsw: HnswIndex,
    packed: PackedIndex,
    pq: PqHnswIndex,
    compact: CompactIndex,
    disk: DiskHnswIndex,
    segment: Segment,
    spfresh: SpfreshIndex,
    postings: Map,
    pub(crate) flat: FlatIndex,
    base: File,
}

impl Indexes {
    pub(crate) fn build(
        base_path: &str,
        dim: usize,
        metric: DistanceMetric,
        threads: usize,
        folder: &str,
    ) -> Result<Indexes> {
        let base = floats(base_path);
        let count = base.len() / dim;
        let ids: Vec<u64> = (0..count as u64).collect();
        let begin = || (cpu_s(), Instant::now());
        let built = |kind: &str, begun: (f64, Instant), bytes: usize, is_new: bool| {
            say(&json!({
                "built": format!("arqon {kind}"), "threads": threads, "cpu_s": cpu_s() - begun.0,
                "wall_s": begun.1.elapsed().as_secs_f64(), "was_kept": !is_new,
                "bytes_per_vector": bytes as f64 / count as f64,
            }));
        };
        let path = |name: &str| Path::new(folder).join(name);
        let kept = |name: &str| std::fs::read(path(name)).ok();
        let keep = |name: &str, bytes: &[u8]| {
            std::fs::write(path(name), bytes).map_err(|e| Error::io("write", path(name), e))
        };
        let begun = begin();
        let stored = kept("hnsw");
        let is_new = stored.is_none();
        let hnsw = match &stored {
            Some(bytes) => HnswIndex::from_bytes(bytes)?,
            None => {
                let mut hnsw = HnswIndex::new(HnswConfig::new(dim, metric));
                hnsw.insert_many(&ids, &base, threads)?;
                hnsw
            }
        };
        built("hnsw", begun, hnsw.memory_bytes(), is_new);
        let stored = hnsw.to_bytes();
        keep("hnsw", &stored)?;
        let graph = || HnswIndex::from_bytes(&stored);
        let begun = begin();
        let bytes = kept("packed");
        let packed = match &bytes {
            Some(bytes) => PackedIndex::from_bytes(bytes)?,
            None => PackedIndex::from_hnsw(graph()?, threads)?,
        };
        built("packed", begun, packed.memory_bytes(), bytes.is_none());
        keep("packed", &packed.to_bytes())?;
        let begun = begin();
        let compact = CompactIndex::from_hnsw(graph()?, 4, threads)?;
        built("compact", begun, compact.memory_bytes(), true);
        let begun = begin();
        // A byte for each four floats.
        let pq = PqConfig { num_sub: dim / 4, ..PqConfig::new(dim, metric) };
        let bytes = kept("pq");
        let pq = match &bytes {
            Some(bytes) => PqHnswIndex::from_bytes(bytes)?,
            None => PqHnswIndex::from_hnsw(graph()?, pq, 100)?,
        };
        built("pq", begun, pq.memory_bytes(), bytes.is_none());
        keep("pq", &pq.to_bytes())?;
        let begun = begin();
        let is_new = !path("segment").exists();
        if is_new {
            Segment::write(graph()?, threads, &path("segment"))?;
        }
        let segment = Segment::open(&path("segment"))?;
        let disk = DiskHnswIndex::open(&segment)?;
        built("disk", begun, disk.memory_bytes(), is_new);
        let begun = begin();
        let bytes = kept("spfresh").zip(kept("postings"));
        let (spfresh, postings) = match &bytes {
            Some((bytes, postings)) => {
                (SpfreshIndex::from_bytes(bytes)?, Map::from_bytes(postings))
            }
            None => spfresh(SpfreshConfig::new(dim, metric), &ids, &base, threads)?,
        };
        built("spfresh", begun, spfresh.memory_bytes(), bytes.is_none());
        keep("spfresh", &spfresh.to_bytes())?;
        keep("postings", &postings.to_bytes())?;
        let begun = begin();
        let mut flat = FlatIndex::new(dim, metric)?;
        for (id, row) in ids.iter().zip(base.chunks_exact(dim)) {
            flat.insert(*id, row)?;
        }
        built("exact", begun, flat.memory_bytes(), true);
        let base = File::open(base_path).expect("the file was read before");
        Ok(Indexes { dim, hnsw, packed, pq, compact, disk, segment, spfresh, postings, flat, base })
    }

    pub(crate) fn answer(&self, kind: &str, request: &SearchRequest<'_>) -> Result<Answer> {
        let mut fetch = |ids: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
            ids.iter().try_for_each(|id| {
                let mut row = Vec::new();
                self.read_row(*id, &mut row)?;
                show(*id, &row);
                Ok(())
            })
        };
        match kind {
            "hnsw" => self.hnsw.answer(request),
            "packed" => self.packed.answer(request),
            "pq" => self.pq.answer(request),
            "exact" => self.flat.answer(request),
            "disk" => self.disk.answer(request, &self.segment),
            "spfresh" => self.spfresh.answer(request, &mut fetch, &self.postings),
            _ => self.compact.answer(request, &mut fetch),
        }
    }

    fn read_row(&self, id: u64, out: &mut Vec<f32>) -> Result<()> {
        let mut row = vec![0; self.dim * 4];
        let at = id * row.len() as u64;
        let read = self.base.read_exact_at(&mut row, at);
        read.map_err(|e| Error::io("read", "the vectors", e))?;
        out.extend(row.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)));
        Ok(())
    }
}

fn spfresh(
    config: SpfreshConfig,
    ids: &[u64],
    base: &[f32],
    threads: usize,
) -> Result<(SpfreshIndex, Map)> {
    let mut postings = Map::default();
    let mut index = SpfreshIndex::build(config, ids, base, threads, &mut postings)?;
    let mut fetch = |ids: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
        ids.iter().for_each(|id| show(*id, &base[*id as usize * config.dim..][..config.dim]));
        Ok(())
    };
    while index.step(&mut fetch, &mut postings)? {}
    Ok((index, postings))
}

/// A segment in a file.
struct Segment {
    file: File,
    pages: u64,
}

impl Segment {
    fn write(graph: HnswIndex, threads: usize, path: &Path) -> Result<()> {
        let failed = |e| Error::io("write", path, e);
        let mut out = BufWriter::new(File::create(path).map_err(failed)?);
        DiskHnswIndex::write(graph, &DiskHnswConfig::default(), threads, &mut |page| {
            out.write_all(page).map_err(failed)
        })?;
        out.flush().map_err(failed)
    }

    fn open(path: &Path) -> Result<Segment> {
        let failed = |e| Error::io("read", path, e);
        let file = File::open(path).map_err(failed)?;
        let pages = file.metadata().map_err(failed)?.len() / PAGE_BYTES as u64;
        Ok(Segment { file, pages })
    }
}

impl Pages for Segment {
    fn count(&self) -> u64 {
        self.pages
    }

    fn read(&self, pages: &[u64], out: &mut Vec<u8>) -> Result<()> {
        out.resize(pages.len() * PAGE_BYTES, 0);
        for (number, page) in pages.iter().zip(out.chunks_exact_mut(PAGE_BYTES)) {
            let read = self.file.read_exact_at(page, number * PAGE_BYTES as u64);
            read.map_err(|e| Error::io("read", "the segment", e))?;
        }
        Ok(())
    }
}

/// Postings in memory.
#[derive(Default)]
pub(crate) struct Map(BTreeMap<u64, Vec<u8>>);

impl Map {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, bytes) in &self.0 {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        out
    }

    fn from_bytes(mut bytes: &[u8]) -> Map {
        let mut map = Map::default();
        while let Some((head, rest)) = bytes.split_first_chunk::<16>() {
            let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
            let (posting, rest) = rest.split_at(word(8) as usize);
            map.0.insert(word(0), posting.to_vec());
            bytes = rest;
        }
        map
    }
}

impl Postings for Map {
    fn read(&self, numbers: &[u64], show: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let bytes = |number: &u64| self.0.get(number).map_or(&[][..], Vec::as_slice);
        numbers.iter().try_for_each(|number| show(*number, bytes(number)))
    }

    fn append(&mut self, number: u64, entries: &[u8]) -> Result<()> {
        self.0.entry(number).or_default().extend_from_slice(entries);
        Ok(())
    }

    fn replace(&mut self, number: u64, entries: Option<&[u8]>) -> Result<()> {
        match entries {
            Some(entries) => self.0.insert(number, entries.to_vec()),
            None => self.0.remove(&number),
        };
        Ok(())
    }
}

//! The sections of a graph with product codes in a [segment](crate::vector::segment): those of the
//! graph (see `hnsw/stored.rs`), then
//!
//! ```text
//! settings   4 num_sub, 4 num_centroids, 4 max_iter, 4 rerank_k, 1 whether the codes are trained
//! centroids  dim * num_centroids * 4   f32: part by part, in each dimension by dimension; if trained
//! codes      n * num_sub               one byte for each part, slot by slot; if trained
//! ```

use super::pq_hnsw::{Codes, PqHnswConfig, PqHnswIndex};
use crate::base::Result;
use crate::base::codec::Reader;
use crate::vector::code::pq::{Centroids, Pq, PqConfig};
use crate::vector::hnsw::{Graph, HnswIndex};
use crate::vector::rows::Rows;
use crate::vector::segment::{Kind, SegmentReader, SegmentWriter};

impl PqHnswIndex {
    /// The index in its stored form, with checksums. Costs a copy of all its memory.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = SegmentWriter::new(Kind::PqHnsw);
        self.index.graph.write(&mut out);
        let PqHnswConfig { pq, rerank_k, .. } = *self.config();
        let mut settings = Vec::new();
        for value in [pq.num_sub, pq.num_centroids, pq.max_iter, rerank_k] {
            settings.extend_from_slice(&(value as u32).to_le_bytes());
        }
        settings.push(u8::from(self.codes.is_some()));
        out.section(settings.into_iter().map(|byte| [byte]));
        if let Some(codes) = &self.codes {
            let centroids = codes.pq.parts.iter().flat_map(|part| &part.columns);
            out.section(centroids.map(|x| x.to_le_bytes()));
            let rows = 0..codes.rows.len() as u32;
            out.section(rows.flat_map(|row| codes.rows.row(row)).map(|byte| [*byte]));
        }
        out.finish()
    }

    /// The index of these bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corruption`](crate::base::ErrorKind::Corruption), with the offset, if they are
    /// not what [`PqHnswIndex::to_bytes`] wrote; [`ErrorKind::Unsupported`](crate::base::ErrorKind)
    /// if a newer version wrote them.
    pub fn from_bytes(bytes: &[u8]) -> Result<PqHnswIndex> {
        let mut from = SegmentReader::new(bytes, Kind::PqHnsw)?;
        let graph = Graph::read(&mut from)?;
        let (dim, metric) = (graph.config().dim, graph.config().metric);
        let section = from.section()?;
        let mut reader = Reader::new(section.bytes);
        let mut read = || -> Option<(PqHnswConfig, bool)> {
            let mut number = || reader.u32().map(|value| value as usize);
            let (num_sub, num_centroids) = (number()?, number()?);
            let (max_iter, rerank_k) = (number()?, number()?);
            let pq = PqConfig { dim, num_sub, num_centroids, metric, max_iter };
            let is_trained = match reader.u8()? {
                0 => false,
                1 => true,
                _ => return None,
            };
            let config = PqHnswConfig { hnsw: *graph.config(), pq, rerank_k };
            reader.is_empty().then_some((config, is_trained))
        };
        let malformed = || section.corrupt(0, "settings", "others");
        let (config, is_trained) = read().ok_or_else(malformed)?;
        config.check().map_err(|_| malformed())?;
        let codes = match is_trained {
            true => Some(read_codes(&mut from, config.pq, graph.slot_count())?),
            false => None,
        };
        from.finish()?;
        let mut index = PqHnswIndex::with(config, HnswIndex::of(graph));
        index.codes = codes;
        Ok(index)
    }
}

fn read_codes(from: &mut SegmentReader<'_>, config: PqConfig, slots: usize) -> Result<Codes> {
    let section = from.section()?;
    let numbers = section.numbers::<4>(config.dim * config.num_centroids)?;
    let floats: Vec<f32> = numbers.iter().map(|x| f32::from_le_bytes(*x)).collect();
    if let Some(at) = floats.iter().position(|x| !x.is_finite()) {
        return Err(section.corrupt(4 * at, "a finite number", floats[at]));
    }
    let (dim, count) = (config.dim / config.num_sub, config.num_centroids);
    let part = |columns: &[f32]| Centroids { dim, count, columns: columns.to_vec() };
    let parts = floats.chunks_exact(dim * count).map(part).collect();
    let section = from.section()?;
    section.numbers::<1>(slots * config.num_sub)?;
    if let Some(at) = section.bytes.iter().position(|code| usize::from(*code) >= count) {
        return Err(section.corrupt(at, "the number of a centroid", section.bytes[at]));
    }
    let mut rows = Rows::new(config.num_sub);
    rows.reserve(slots);
    for row in section.bytes.chunks_exact(config.num_sub) {
        rows.push(row);
    }
    Ok(Codes { pq: Pq { config, parts }, rows })
}

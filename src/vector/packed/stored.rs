//! The sections of a packed graph in a [segment](crate::vector::segment).
//!
//! ```text
//! settings  1 metric, 4 dim, 4 m, 4 ef_construction, 4 ef_search, 8 seed, 4 n, f32 scale
//! ids       n * 8            in ascending order
//! doors     4 each           nodes that a walk begins at, 2,048 at most, near ones beside each other
//! nodes     n * (2 * dim + 16 for 4 dimensions + 384)
//!           a row's parts (see `row.rs`) without what fills it up: vector, codes, add, mul, links
//! ```

use super::index::PackedIndex;
use super::row::{Layout, NONE};
use crate::base::Result;
use crate::base::codec::Reader;
use crate::vector::beam::SLOTS_MAX;
use crate::vector::doors::DOORS_MAX;
use crate::vector::hnsw::HnswConfig;
use crate::vector::kernel::SCAN_WIDTH;
use crate::vector::metric::DistanceMetric;
use crate::vector::rows::Rows;
use crate::vector::segment::{Kind, Section, SegmentReader, SegmentWriter};

/// The exponent of 16-bit floats that are not finite.
const NOT_FINITE: u16 = 0x7c00;

impl PackedIndex {
    /// The index in its stored form, with checksums. Costs a copy of all its memory.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = SegmentWriter::new(Kind::Packed);
        let HnswConfig { dim, metric, m, ef_construction, ef_search, seed } = self.config;
        let mut settings = vec![metric.code()];
        for value in [dim, m, ef_construction, ef_search] {
            settings.extend_from_slice(&(value as u32).to_le_bytes());
        }
        settings.extend_from_slice(&seed.to_le_bytes());
        settings.extend_from_slice(&(self.len() as u32).to_le_bytes());
        settings.extend_from_slice(&self.scale.to_le_bytes());
        out.section([settings].into_iter());
        out.section(self.ids.iter().map(|id| id.to_le_bytes()));
        out.section(self.doors.ranks().iter().map(|door| door.to_le_bytes()));
        out.section((0..self.len() as u32).map(|slot| self.layout.stored(&self.rows, slot)));
        out.finish()
    }

    /// The index of these bytes: it answers as the one that wrote them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corruption`](crate::base::ErrorKind::Corruption), with the offset, if they are
    /// not what [`PackedIndex::to_bytes`] wrote;
    /// [`ErrorKind::Unsupported`](crate::base::ErrorKind) if a newer version wrote them.
    pub fn from_bytes(bytes: &[u8]) -> Result<PackedIndex> {
        let mut from = SegmentReader::new(bytes, Kind::Packed)?;
        let section = from.section()?;
        let (config, count, scale) =
            read_settings(section).ok_or_else(|| section.corrupt(0, "settings", "others"))?;
        config.check().map_err(|e| section.corrupt(0, "settings", e.message()))?;
        let section = from.section()?;
        let ids: Vec<u64> =
            section.numbers::<8>(count)?.iter().map(|id| u64::from_le_bytes(*id)).collect();
        if !ids.is_sorted_by(|a, b| a < b) {
            return Err(section.corrupt(0, "ids in ascending order", "others"));
        }
        let section = from.section()?;
        let doors = section.numbers::<4>((section.bytes.len() / 4).min(DOORS_MAX))?;
        let doors: Vec<u32> = doors.iter().map(|door| u32::from_le_bytes(*door)).collect();
        let is_reached = !doors.is_empty() || count == 0;
        if !is_reached || doors.iter().any(|door| *door as usize >= count) {
            return Err(section.corrupt(0, "nodes to begin at", doors.len()));
        }
        let section = from.section()?;
        from.finish()?;
        let layout = Layout::new(config.dim);
        let size = layout.stored_bytes();
        section.numbers::<1>(count * size)?;
        let mut rows = Rows::new(layout.stride);
        rows.extend_to(count, 0);
        for (slot, bytes) in section.bytes.chunks_exact(size).enumerate() {
            if !layout.restore(&mut rows, slot as u32, bytes, count) {
                return Err(section.corrupt(
                    size * slot,
                    "finite numbers and links to nodes",
                    slot,
                ));
            }
        }
        let mut index = PackedIndex::of(config, rows, ids, scale);
        index.open(doors);
        Ok(index)
    }
}

/// The settings, the number of nodes, and what vectors are multiplied by.
fn read_settings(section: Section<'_>) -> Option<(HnswConfig, usize, f32)> {
    let mut reader = Reader::new(section.bytes);
    let metric = DistanceMetric::from_code(reader.u8()?)?;
    let config = HnswConfig {
        metric,
        dim: reader.u32()? as usize,
        m: reader.u32()? as usize,
        ef_construction: reader.u32()? as usize,
        ef_search: reader.u32()? as usize,
        seed: reader.u64()?,
    };
    let (count, scale) = (reader.u32()? as usize, f32::from_bits(reader.u32()?));
    let is_good = reader.is_empty() && count < SLOTS_MAX && scale.is_normal() && scale > 0.0;
    is_good.then_some((config, count, scale))
}

impl Layout {
    fn stored_bytes(&self) -> usize {
        2 * self.dim + self.code_bytes() + 3 * 4 * SCAN_WIDTH
    }

    fn stored(&self, rows: &Rows<u8>, slot: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.stored_bytes());
        out.extend(self.vector(rows, slot).iter().flat_map(|half| half.to_le_bytes()));
        out.extend_from_slice(self.codes(rows, slot));
        let (add, mul) = self.factors(rows, slot);
        out.extend(add.iter().chain(mul).flat_map(|factor| factor.to_le_bytes()));
        out.extend(self.links(rows, slot).iter().flat_map(|link| link.to_le_bytes()));
        out
    }

    /// Writes a stored node into its row. False if it is none of an index of `count`. REQUIRES:
    /// `bytes` is as long as a node.
    fn restore(&self, rows: &mut Rows<u8>, slot: u32, bytes: &[u8], count: usize) -> bool {
        let (vector, rest) = bytes.split_at(2 * self.dim);
        let (codes, rest) = rest.split_at(self.code_bytes());
        let halves: Vec<u16> =
            vector.as_chunks::<2>().0.iter().map(|half| u16::from_le_bytes(*half)).collect();
        let numbers: Vec<u32> =
            rest.as_chunks::<4>().0.iter().map(|x| u32::from_le_bytes(*x)).collect();
        let (factors, links) = numbers.split_at(2 * SCAN_WIDTH);
        let factors: Vec<f32> = factors.iter().map(|bits| f32::from_bits(*bits)).collect();
        let (add, mul) = factors.split_at(SCAN_WIDTH);
        // The estimate of a neighbour that is not there is infinite.
        let is_good = halves.iter().all(|half| half & NOT_FINITE != NOT_FINITE)
            && mul.iter().all(|x| x.is_finite())
            && links.iter().zip(add).all(|(link, add)| match *link {
                NONE => *add == f32::INFINITY,
                link => (link as usize) < count && add.is_finite(),
            });
        if is_good {
            self.put(rows, slot, &halves, codes, (add, mul), links);
        }
        is_good
    }
}

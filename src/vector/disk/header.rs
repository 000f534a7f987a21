//! The first page, and where everything else follows from it.
//!
//! ```text
//! page 0
//!   0   8  magic "ArqonDsk"
//!   8   2  version, 1
//!   10  1  metric
//!   11  1  0
//!   12  4  dim
//!   16  4  bytes of a code
//!   20  4  directions that codes are made of
//!   24  4  nodes
//!   28  4  nodes in memory that a walk begins among (guides)
//!   32  4  links of a guide
//!   36  4  ef_search
//!   40  4  f32, by what vectors are multiplied
//!   44  4  f32, how far estimates are off: one deviation, for a query of length 1
//! pages from 1:   what is kept in memory, see `resident.rs`
//! pages behind:   blocks of nodes, see `layout.rs`
//! pages behind:   the directory, see `directory.rs`
//! ```
//!
//! All integers are little-endian, floats are IEEE 754.

use super::directory;
use super::layout::Layout;
use super::pages::{PAYLOAD_BYTES, corrupt};
use crate::base::codec::Reader;
use crate::base::{Error, ErrorKind, Result};
use crate::vector::beam::SLOTS_MAX;
use crate::vector::code::spectral::{CENTROIDS, FACTOR_BYTES};
use crate::vector::filter::EF_MAX;
use crate::vector::metric::{DIM_MAX, DistanceMetric};

const MAGIC: &[u8; 8] = b"ArqonDsk";
const VERSION: u16 = 1;

/// The numbers of a segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Header {
    pub(super) metric: DistanceMetric,
    pub(super) dim: usize,
    pub(super) code_bytes: usize,
    pub(super) directions: usize,
    pub(super) nodes: usize,
    pub(super) guides: usize,
    pub(super) guide_links: usize,
    pub(super) ef_search: usize,
    pub(super) scale: f32,
    pub(super) error: f32,
}

impl Header {
    pub(super) fn layout(&self) -> Layout {
        Layout::new(self.dim)
    }

    /// Bytes of what is kept in memory.
    pub(super) fn resident_bytes(&self) -> u64 {
        let [dim, parts, directions, nodes, guides] =
            [self.dim, self.code_bytes, self.directions, self.nodes, self.guides].map(|n| n as u64);
        let model =
            4 * dim + 4 + 2 * dim * directions + parts * (4 + 4) + CENTROIDS as u64 * directions;
        let codes = nodes * (parts + FACTOR_BYTES as u64);
        let guides = guides * 4 * (1 + self.guide_links as u64);
        model + codes + guides + 8 * self.directory_pages()
    }

    /// The first page of the first block.
    pub(super) fn blocks_at(&self) -> u64 {
        1 + self.resident_bytes().div_ceil(PAYLOAD_BYTES as u64)
    }

    /// The first page of a block.
    pub(super) fn block_at(&self, block: u32) -> u64 {
        self.blocks_at() + u64::from(block) * self.layout().pages as u64
    }

    /// Nodes in a block: only the last may have fewer than others. REQUIRES: there is the block.
    pub(super) fn nodes_in(&self, block: u32) -> usize {
        let size = self.layout().nodes;
        size.min(self.nodes - block as usize * size)
    }

    /// The first page of the directory.
    pub(super) fn directory_at(&self) -> u64 {
        self.block_at(self.layout().blocks(self.nodes) as u32)
    }

    pub(super) fn directory_pages(&self) -> u64 {
        self.nodes.div_ceil(directory::ENTRIES) as u64
    }

    /// All pages.
    pub(super) fn pages(&self) -> u64 {
        self.directory_at() + self.directory_pages()
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[self.metric.code(), 0]);
        let numbers = [
            self.dim,
            self.code_bytes,
            self.directions,
            self.nodes,
            self.guides,
            self.guide_links,
            self.ef_search,
        ];
        out.extend(numbers.iter().flat_map(|n| (*n as u32).to_le_bytes()));
        out.extend([self.scale, self.error].iter().flat_map(|x| x.to_le_bytes()));
        out
    }

    /// The header of a segment of `count` pages.
    pub(super) fn read(payload: &[u8], count: u64) -> Result<Header> {
        if !payload.starts_with(MAGIC) {
            let found = format!("{:02x?}", payload.get(..8).unwrap_or(payload));
            return Err(corrupt(0, "the magic ArqonDsk", found));
        }
        let mut reader = Reader::new(&payload[MAGIC.len()..]);
        let version = reader.u16().unwrap_or(0);
        if version != VERSION {
            let message = format!("a vector segment of version {version}; this program reads 1");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let header = read_numbers(&mut reader).ok_or_else(|| corrupt(10, "settings", "others"))?;
        if header.pages() != count {
            let expected = format!("{} pages", header.pages());
            return Err(corrupt(12, expected, format!("{count} pages")));
        }
        Ok(header)
    }
}

fn read_numbers(reader: &mut Reader<'_>) -> Option<Header> {
    let metric = DistanceMetric::from_code(reader.u8()?)?;
    reader.u8()?;
    let mut number = || reader.u32().map(|n| n as usize);
    let header = Header {
        metric,
        dim: number()?,
        code_bytes: number()?,
        directions: number()?,
        nodes: number()?,
        guides: number()?,
        guide_links: number()?,
        ef_search: number()?,
        scale: f32::from_bits(reader.u32()?),
        error: f32::from_bits(reader.u32()?),
    };
    let is_within = (1..=DIM_MAX).contains(&header.dim)
        && (1..=header.dim).contains(&header.directions)
        && (1..=header.directions).contains(&header.code_bytes)
        && header.nodes < SLOTS_MAX
        && header.guides <= header.nodes
        && header.guide_links <= 512
        && (1..=EF_MAX).contains(&header.ef_search)
        && header.scale.is_normal()
        && header.scale > 0.0
        && header.error.is_finite()
        && header.error >= 0.0;
    is_within.then_some(header)
}

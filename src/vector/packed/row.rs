//! What a node's row holds.
//!
//! ```text
//! offset            bytes
//! 0                 2 * dim, up to a multiple of 64   the vector, 16-bit floats
//! codes             16 for 4 dimensions               codes, as Kernels::scan reads them
//! add               32 * 4                            f32, the constant part of each estimate
//! mul               32 * 4                            f32, the factor of each estimate
//! links             32 * 4                            u32, the neighbours; NONE fills the list up
//! ```

use crate::vector::code::signs::{GROUP, SignCodes};
use crate::vector::kernel::SCAN_WIDTH;
use crate::vector::kernel::half::from_f32;
use crate::vector::metric::DistanceMetric;
use crate::vector::rows::Rows;

/// Fills up a list of links.
pub(super) const NONE: u32 = u32::MAX;

/// The places of the parts of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) dim: usize,
    /// Dimensions of a code: as many as the vector's, up to a multiple of a group.
    pub(super) code_dim: usize,
    codes: usize,
    add: usize,
    mul: usize,
    links: usize,
    pub(super) stride: usize,
}

impl Layout {
    pub(super) fn new(dim: usize) -> Layout {
        let code_dim = dim.next_multiple_of(GROUP);
        let codes = (2 * dim).next_multiple_of(64);
        let add = codes + code_dim / GROUP * 16;
        let (mul, links) = (add + 4 * SCAN_WIDTH, add + 8 * SCAN_WIDTH);
        let stride = (links + 4 * SCAN_WIDTH).next_multiple_of(64);
        Layout { dim, code_dim, codes, add, mul, links, stride }
    }

    #[inline(always)]
    pub(super) fn vector<'a>(&self, rows: &'a Rows<u8>, slot: u32) -> &'a [u16] {
        rows.part(slot, 0, self.dim)
    }

    #[inline(always)]
    pub(super) fn codes<'a>(&self, rows: &'a Rows<u8>, slot: u32) -> &'a [u8] {
        &rows.row(slot)[self.codes..self.add]
    }

    /// The constant parts and the factors.
    #[inline(always)]
    pub(super) fn factors<'a>(
        &self,
        rows: &'a Rows<u8>,
        slot: u32,
    ) -> (&'a [f32; SCAN_WIDTH], &'a [f32; SCAN_WIDTH]) {
        (rows.array(slot, self.add), rows.array(slot, self.mul))
    }

    #[inline(always)]
    pub(super) fn links<'a>(&self, rows: &'a Rows<u8>, slot: u32) -> &'a [u32] {
        rows.part(slot, self.links, SCAN_WIDTH)
    }

    /// Writes a node's vector, as 16-bit floats of what is `scale` times as large.
    pub(super) fn put_vector(&self, rows: &mut Rows<u8>, slot: u32, vector: &[f32], scale: f32) {
        let out = rows.part_mut::<u16>(slot, 0, self.dim);
        for (out, value) in out.iter_mut().zip(vector) {
            *out = from_f32(value * scale);
        }
    }

    /// Writes a node's neighbours.
    pub(super) fn put_links(&self, rows: &mut Rows<u8>, slot: u32, part: &Neighbours) {
        let SignCodes { codes, add, mul } = &part.codes;
        self.put_parts(rows, slot, codes, (add, mul), &part.links);
    }

    /// Writes a whole node. REQUIRES: each part is as long as it should be.
    pub(super) fn put(
        &self,
        rows: &mut Rows<u8>,
        slot: u32,
        vector: &[u16],
        codes: &[u8],
        factors: (&[f32], &[f32]),
        links: &[u32],
    ) {
        rows.part_mut(slot, 0, self.dim).copy_from_slice(vector);
        self.put_parts(rows, slot, codes, factors, links);
    }

    fn put_parts(
        &self,
        rows: &mut Rows<u8>,
        slot: u32,
        codes: &[u8],
        (add, mul): (&[f32], &[f32]),
        links: &[u32],
    ) {
        rows.row_mut(slot)[self.codes..self.add].copy_from_slice(codes);
        rows.part_mut(slot, self.add, SCAN_WIDTH).copy_from_slice(add);
        rows.part_mut(slot, self.mul, SCAN_WIDTH).copy_from_slice(mul);
        rows.part_mut(slot, self.links, SCAN_WIDTH).copy_from_slice(links);
    }

    /// Bytes of the codes of a node's neighbours.
    pub(super) fn code_bytes(&self) -> usize {
        self.add - self.codes
    }
}

/// What a row holds of a node's neighbours.
pub(super) struct Neighbours {
    codes: SignCodes,
    links: [u32; SCAN_WIDTH],
}

impl Neighbours {
    /// Encodes the neighbours `list` of a node, 32 at most. `rotated` has the rotated vectors.
    pub(super) fn new(
        layout: Layout,
        metric: DistanceMetric,
        rotated: &Rows<f32>,
        node: u32,
        list: &[u32],
    ) -> Neighbours {
        let vector = |slot: u32| &rotated.row(slot)[..layout.code_dim];
        let mut links = [NONE; SCAN_WIDTH];
        links[..list.len()].copy_from_slice(list);
        let codes = SignCodes::new(metric, vector(node), list.iter().map(|link| vector(*link)));
        Neighbours { codes, links }
    }
}

//! What a node's row holds, and how the distance of a neighbour is estimated.
//!
//! ```text
//! offset            bytes
//! 0                 2 * dim, up to a multiple of 64   the vector, 16-bit floats
//! codes             16 for 4 dimensions               codes, as Kernels::scan reads them
//! add               32 * 4                            f32, the constant part of each estimate
//! mul               32 * 4                            f32, the factor of each estimate
//! links             32 * 4                            u32, the neighbours; NONE fills the list up
//! ```
//!
//! Let `c` be the node's vector, `r` a neighbour's and `q` the query, all rotated, and `s` the signs
//! of `r - c`. Of `r - c` the code keeps `s`, and the estimate takes it to be `s` stretched to
//! `|r - c|^2 / sum |r - c|`, which makes the estimate right on average:
//!
//! ```text
//! <q - c, r - c>  is about  f * (<q, s> - <c, s>)     f = |r - c|^2 / sum |r - c|
//! |q - r|^2 = |q - c|^2 + |r - c|^2 - 2 <q - c, r - c>
//! ```
//!
//! so `add = |r - c|^2 + 2 f <c, s>` and `mul = -2 f` are known when the row is made; cosine is half
//! of it, as vectors have unit length. For the inner product
//! `-<q, r> = -<q, c> - <q - c, r - c> - <c, r - c>`.

use crate::vector::kernel::SCAN_WIDTH;
use crate::vector::kernel::half::from_f32;
use crate::vector::metric::DistanceMetric;
use crate::vector::rows::Rows;

/// Fills up a list of links.
pub(super) const NONE: u32 = u32::MAX;
/// Dimensions of a code that one table of 16 serves.
const GROUP: usize = 4;

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
        self.put_parts(rows, slot, &part.codes, (&part.add, &part.mul), &part.links);
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
    codes: Vec<u8>,
    add: [f32; SCAN_WIDTH],
    mul: [f32; SCAN_WIDTH],
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
        let mut part = Neighbours {
            codes: vec![0; layout.code_dim / GROUP * 16],
            // No estimate of a neighbour that is not there is below any limit.
            add: [f32::INFINITY; SCAN_WIDTH],
            mul: [0.0; SCAN_WIDTH],
            links: [NONE; SCAN_WIDTH],
        };
        let center = &rotated.row(node)[..layout.code_dim];
        for (place, link) in list.iter().enumerate() {
            let to = &rotated.row(*link)[..layout.code_dim];
            part.links[place] = *link;
            (part.add[place], part.mul[place]) = factors(metric, center, to);
            for (at, (to, center)) in to.iter().zip(center).enumerate() {
                let shift = at % GROUP + if place < 16 { 0 } else { GROUP };
                part.codes[at / GROUP * 16 + place % 16] |= u8::from(to > center) << shift;
            }
        }
        part
    }
}

/// The constant part and the factor of the estimate of a neighbour.
fn factors(metric: DistanceMetric, center: &[f32], to: &[f32]) -> (f32, f32) {
    let (mut squared, mut sum, mut signed, mut along) = (0.0f32, 0.0f32, 0.0f32, 0.0f32);
    for (to, center) in to.iter().zip(center) {
        let apart = to - center;
        squared += apart * apart;
        sum += apart.abs();
        signed += if apart > 0.0 { *center } else { -center };
        along += apart * center;
    }
    // A neighbour in the same place: no direction, and no distance from the node.
    let stretch = if sum > 0.0 { squared / sum } else { 0.0 };
    match metric {
        DistanceMetric::L2 => (squared + 2.0 * stretch * signed, -2.0 * stretch),
        DistanceMetric::Cosine => (0.5 * squared + stretch * signed, -stretch),
        DistanceMetric::InnerProduct => (stretch * signed - along, -stretch),
    }
}

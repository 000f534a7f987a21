//! Codes of one bit a dimension for 32 vectors around another (RaBitQ: Gao and Long 2024), and what a
//! query is looked up in.
//!
//! Let `c` be the vector in the middle, `r` another and `q` the query, all rotated, and `s` the signs
//! of `r - c`. Of `r - c` the code keeps `s`, and the estimate takes it to be `s` stretched to
//! `|r - c|^2 / sum |r - c|`, which makes the estimate right on average:
//!
//! ```text
//! <q - c, r - c>  is about  f * (<q, s> - <c, s>)     f = |r - c|^2 / sum |r - c|
//! |q - r|^2 = |q - c|^2 + |r - c|^2 - 2 <q - c, r - c>
//! ```
//!
//! so `add = |r - c|^2 + 2 f <c, s>` and `mul = -2 f` are known when the code is made; cosine is half
//! of it, as vectors have unit length. For the inner product
//! `-<q, r> = -<q, c> - <q - c, r - c> - <c, r - c>`.

use crate::vector::kernel::{SCAN_WIDTH, Scan};
use crate::vector::metric::DistanceMetric;

/// Dimensions of a code that one table of 16 serves.
pub(in crate::vector) const GROUP: usize = 4;

/// The largest constant part of an estimate.
const ADD_MAX: f32 = f32::MAX / 4.0;

/// Codes of up to 32 vectors. The estimate of one that is not there is infinite.
#[derive(Debug)]
pub(in crate::vector) struct SignCodes {
    /// As [`Kernels::scan`](crate::vector::kernel::Kernels) reads them, 16 bytes for 4 dimensions.
    pub(in crate::vector) codes: Vec<u8>,
    pub(in crate::vector) add: [f32; SCAN_WIDTH],
    pub(in crate::vector) mul: [f32; SCAN_WIDTH],
}

impl SignCodes {
    /// The codes of `others`, 32 at most, around `center`. REQUIRES: all are rotated and as long as
    /// the center, a multiple of [`GROUP`].
    pub(in crate::vector) fn new<'a>(
        metric: DistanceMetric,
        center: &[f32],
        others: impl Iterator<Item = &'a [f32]>,
    ) -> SignCodes {
        let mut made = SignCodes {
            codes: vec![0; center.len() / GROUP * 16],
            add: [f32::INFINITY; SCAN_WIDTH],
            mul: [0.0; SCAN_WIDTH],
        };
        for (place, to) in others.enumerate() {
            (made.add[place], made.mul[place]) = factors(metric, center, to);
            for (at, (to, center)) in to.iter().zip(center).enumerate() {
                let shift = at % GROUP + if place < 16 { 0 } else { GROUP };
                made.codes[at / GROUP * 16 + place % 16] |= u8::from(to > center) << shift;
            }
        }
        made
    }
}

/// The constant part and the factor of an estimate.
fn factors(metric: DistanceMetric, center: &[f32], to: &[f32]) -> (f32, f32) {
    let (mut squared, mut sum, mut signed, mut along) = (0.0f32, 0.0f32, 0.0f32, 0.0f32);
    for (to, center) in to.iter().zip(center) {
        let apart = to - center;
        squared += apart * apart;
        sum += apart.abs();
        signed += if apart > 0.0 { *center } else { -center };
        along += apart * center;
    }
    // One in the same place: no direction, and no distance from the center.
    let stretch = if sum > 0.0 { squared / sum } else { 0.0 };
    let (add, mul) = match metric {
        DistanceMetric::L2 => (squared + 2.0 * stretch * signed, -2.0 * stretch),
        DistanceMetric::Cosine => (0.5 * squared + stretch * signed, -stretch),
        DistanceMetric::InnerProduct => (stretch * signed - along, -stretch),
    };
    // Infinite means that there is none. What the longest vectors there may be come to is near it.
    (if add.is_nan() { 0.0 } else { add.clamp(-ADD_MAX, ADD_MAX) }, mul)
}

/// Tables for the inner products of a query and signs: for each 4 dimensions the 16 sums that 4
/// signs can have, as bytes.
#[derive(Debug, Default)]
pub(in crate::vector) struct QueryTables {
    tables: Vec<u8>,
    sums: Vec<f32>,
    shift: f32,
    scale: f32,
}

impl QueryTables {
    /// Makes the tables of a rotated query.
    pub(in crate::vector) fn fill(&mut self, rotated: &[f32]) {
        let groups = rotated.len() / 4;
        self.sums.clear();
        let (mut low, mut range) = (0.0f32, 0.0f32);
        for group in rotated.as_chunks::<4>().0 {
            // The sum of those with a set bit, minus the sum of the others.
            let [a, b, c, d] = *group;
            let pairs = [-a - b, a - b, b - a, a + b];
            let others = [-c - d, c - d, d - c, c + d];
            for other in others {
                self.sums.extend(pairs.map(|pair| pair + other));
            }
            let size: f32 = group.iter().map(|value| value.abs()).sum();
            low -= size;
            range = range.max(2.0 * size);
        }
        // All sums of table entries fit into 16 bits.
        let steps = (65_535 / groups.max(1)).min(255) as f32;
        self.scale = if range > 0.0 { range / steps } else { 1.0 };
        self.shift = low;
        self.tables.clear();
        let per_step = 1.0 / self.scale;
        for (sums, group) in self.sums.as_chunks::<16>().0.iter().zip(rotated.as_chunks::<4>().0) {
            let size: f32 = group.iter().map(|value| value.abs()).sum();
            // Rounded; no entry is negative, and the cast keeps those in range that rounding
            // brought out of it.
            self.tables.extend(sums.map(|sum| ((sum + size) * per_step + 0.5) as u8));
        }
    }

    /// A scan of codes: `base` is the query's distance from their center.
    #[inline(always)]
    pub(in crate::vector) fn scan<'a>(
        &'a self,
        codes: &'a [u8],
        (add, mul): (&'a [f32; SCAN_WIDTH], &'a [f32; SCAN_WIDTH]),
        base: f32,
        limit: f32,
    ) -> Scan<'a> {
        let (shift, scale) = (self.shift, self.scale);
        Scan { tables: &self.tables, codes, add, mul, base, shift, scale, limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was infinite was a neighbour that no walk went to, and a file that was called damaged.
    #[test]
    fn the_longest_vectors_have_estimates() {
        let x = (f32::MAX / 16.0 / 1024.0).sqrt() * 0.99;
        let center = vec![-x; 1024];
        let mut to = center.clone();
        to[0] += 30.0 * x;
        for metric in [DistanceMetric::L2, DistanceMetric::InnerProduct] {
            let (add, mul) = factors(metric, &center, &to);
            assert!(add.is_finite() && mul.is_finite(), "{metric:?}: {add} {mul}");
        }
    }
}

//! RaBitQ with several bits a dimension (Gao et al. 2025): a rotated vector is replaced by the point
//! of a grid in whose direction it lies.
//!
//! Let `o` be a vector less the center of all, rotated, and `q` the query likewise. A code has a
//! whole number `u` of 4 or 8 bits for each dimension, which stands for `v = u - (2^bits - 1) / 2`.
//! Taking `o` to be `v` stretched to `|o|^2 / <v, o>` gives an estimate that is right on average:
//!
//! ```text
//! <q, o>  is about  f * <q, v>              f = |o|^2 / <v, o>
//! |q - o|^2 = |q|^2 + |o|^2 - 2 <q, o>
//! ```
//!
//! How far it may be off follows from the angle between `o` and `v`, of which `t` is the cosine: the
//! part of `o` that `v` does not tell has length `|o| sqrt(1 - t^2) / t`, and the query's share of
//! it is that of a random direction in `D` dimensions, beyond 1.9 / sqrt(D) of `|q|` seldom.
//!
//! ```text
//! a row:  codes (D bytes, or D / 2), then f32 each: add, mul, error
//! ```

use super::rotation::Rotation;
use crate::vector::kernel::Kernels;
use crate::vector::metric::DistanceMetric;
use crate::vector::rows::Rows;

/// Stretches of the grid that are tried for each vector.
const TRIES: usize = 8;
/// Deviations within which nearly all estimates lie.
const DEVIATIONS: f32 = 1.9;
/// The square of what is lost by rounding a query of unit length to 8 bits: its largest number is
/// of 3.5 deviations, cut into 127 steps, each of which is a twelfth of its square off on average.
const QUERY_ROUNDING: f32 = (3.5 / 127.0) * (3.5 / 127.0) / 12.0;
/// Numbers behind a code.
const FACTORS: usize = 3;

/// Codes of vectors, and what they are relative to.
#[derive(Debug)]
pub(in crate::vector) struct RabitCodes {
    metric: DistanceMetric,
    bits: u8,
    /// Dimensions of a code; even.
    dim: usize,
    rotation: Rotation,
    center: Vec<f32>,
    rows: Rows<u8>,
}

/// A query, as it is compared with codes.
#[derive(Debug, Default)]
pub(in crate::vector) struct RabitQuery {
    rotated: Vec<f32>,
    codes: Vec<i8>,
    /// What 1 in the product of codes stands for.
    scale: f32,
    /// The product of the grid's middle and the codes.
    middle: f32,
    base: f32,
    length: f32,
}

impl RabitQuery {
    /// The query, rotated, and relative to the center unless the metric is the inner product.
    pub(in crate::vector) fn rotated(&self) -> &[f32] {
        &self.rotated
    }
}

impl RabitCodes {
    /// No codes yet, of `bits` (4 or 8) a dimension, for vectors around `center`.
    pub(in crate::vector) fn new(
        metric: DistanceMetric,
        bits: u8,
        center: Vec<f32>,
        seed: u64,
    ) -> RabitCodes {
        let dim = center.len().next_multiple_of(8);
        let bytes = dim * usize::from(bits) / 8;
        let rotation = Rotation::new(dim, seed);
        let rows = Rows::new(bytes + 4 * FACTORS);
        RabitCodes { metric, bits, dim, rotation, center, rows }
    }

    fn code_bytes(&self) -> usize {
        self.dim * usize::from(self.bits) / 8
    }

    /// The half of the grid's width.
    fn middle(&self) -> f32 {
        ((1u32 << self.bits) - 1) as f32 / 2.0
    }

    pub(in crate::vector) fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes()
    }

    pub(in crate::vector) fn reserve(&mut self, more: usize) {
        self.rows.reserve(more);
    }

    /// Numbers of a rotated vector, a multiple of 8.
    pub(in crate::vector) fn dim(&self) -> usize {
        self.dim
    }

    /// A prepared vector relative to the center, rotated.
    pub(in crate::vector) fn rotate(&self, vector: &[f32], out: &mut Vec<f32>) {
        let apart: Vec<f32> = vector.iter().zip(&self.center).map(|(x, c)| x - c).collect();
        self.rotation.apply(&apart, out);
    }

    /// A row for a prepared vector.
    pub(in crate::vector) fn encode(&self, vector: &[f32]) -> Vec<u8> {
        let mut rotated = Vec::new();
        self.rotate(vector, &mut rotated);
        let squared: f32 = rotated.iter().map(|x| x * x).sum();
        let (codes, product, grid_squared) = self.best_codes(&rotated);
        let stretch = if product > 0.0 { squared / product } else { 0.0 };
        let (add, mul) = match self.metric {
            DistanceMetric::L2 => (squared, -2.0 * stretch),
            DistanceMetric::Cosine => (0.5 * squared, -stretch),
            DistanceMetric::InnerProduct => (0.0, -stretch),
        };
        // |o|^2 (1 - t^2) / t^2 with t^2 = <v, o>^2 / (|v|^2 |o|^2), and what rounding the query adds.
        let stretched = stretch * stretch * grid_squared;
        let rest = (stretched - squared).max(0.0) + QUERY_ROUNDING * stretched;
        let off = DEVIATIONS * (rest / self.dim as f32).sqrt();
        let error = if self.metric == DistanceMetric::L2 { 2.0 * off } else { off };
        let mut row = self.pack(&codes);
        for factor in [add, mul, error] {
            // As the machine has them: they are read in place.
            row.extend_from_slice(&factor.to_ne_bytes());
        }
        row
    }

    /// The grid point nearest in direction, its product with the vector, its squared length.
    fn best_codes(&self, rotated: &[f32]) -> (Vec<u8>, f32, f32) {
        let largest = rotated.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let middle = self.middle();
        let mut best = (vec![0; rotated.len()], 0.0, 0.0, -1.0);
        for attempt in 0..TRIES {
            // The outermost numbers may be cut off if that brings the others nearer.
            let reach = largest * (1.0 - attempt as f32 / (TRIES + 2) as f32);
            let steps = if reach > 0.0 { middle / reach } else { 0.0 };
            let code = |x: &f32| (x * steps + middle).round().clamp(0.0, 2.0 * middle) as u8;
            let codes: Vec<u8> = rotated.iter().map(code).collect();
            let (mut product, mut squared) = (0.0, 0.0);
            for (code, x) in codes.iter().zip(rotated) {
                let v = f32::from(*code) - middle;
                product += v * x;
                squared += v * v;
            }
            let cosine = product / f32::sqrt(squared);
            if cosine > best.3 {
                best = (codes, product, squared, cosine);
            }
        }
        (best.0, best.1, best.2)
    }

    fn pack(&self, codes: &[u8]) -> Vec<u8> {
        if self.bits == 8 {
            return codes.to_vec();
        }
        let (first, second) = codes.split_at(self.dim / 2);
        first.iter().zip(second).map(|(low, high)| low | high << 4).collect()
    }

    pub(in crate::vector) fn push(&mut self, row: &[u8]) {
        self.rows.push(row);
    }

    #[inline(always)]
    pub(in crate::vector) fn prefetch(&self, slot: u32) {
        self.rows.prefetch(slot, self.rows.stride());
    }

    /// Makes a prepared query ready for [`RabitCodes::estimate`].
    pub(in crate::vector) fn prepare(&self, query: &[f32], out: &mut RabitQuery) {
        let is_product = self.metric == DistanceMetric::InnerProduct;
        let apart: Vec<f32> = query
            .iter()
            .zip(&self.center)
            .map(|(q, c)| if is_product { *q } else { q - c })
            .collect();
        self.rotation.apply(&apart, &mut out.rotated);
        let squared: f32 = out.rotated.iter().map(|x| x * x).sum();
        let largest = out.rotated.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        out.scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        let steps = 1.0 / out.scale;
        out.codes.clear();
        out.codes.extend(out.rotated.iter().map(|x| (x * steps).round() as i8));
        let sum: i32 = out.codes.iter().map(|code| i32::from(*code)).sum();
        out.middle = sum as f32 * self.middle();
        out.length = squared.sqrt();
        out.base = match self.metric {
            DistanceMetric::L2 => squared,
            DistanceMetric::Cosine => 0.5 * squared,
            DistanceMetric::InnerProduct => {
                -query.iter().zip(&self.center).map(|(q, c)| q * c).sum::<f32>()
            }
        };
    }

    /// The estimated distance of a code.
    #[inline(always)]
    pub(in crate::vector) fn estimate(&self, k: &Kernels, query: &RabitQuery, slot: u32) -> f32 {
        let codes = &self.rows.row(slot)[..self.code_bytes()];
        let product = match self.bits {
            8 => (k.dot_u8)(codes, &query.codes),
            _ => (k.dot_u4)(codes, &query.codes),
        };
        let [add, mul, _] = self.factors(slot);
        let product = query.scale * (product as f32 - query.middle);
        query.base + add + mul * product
    }

    /// How much nearer than its estimate a code's vector may be.
    pub(in crate::vector) fn error(&self, query: &RabitQuery, slot: u32) -> f32 {
        self.factors(slot)[2] * query.length
    }

    #[inline(always)]
    fn factors(&self, slot: u32) -> &[f32; FACTORS] {
        self.rows.array(slot, self.code_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;
    use crate::vector::kernel::kernels;
    use crate::vector::measure::Measure;

    fn vector(rng: &mut Rng, dim: usize) -> Vec<f32> {
        let one = |rng: &mut Rng| {
            (0..4).map(|_| rng.below(1 << 20) as f32 / (1 << 20) as f32 - 0.5).sum::<f32>()
        };
        (0..dim).map(|i| one(rng) * if i % 7 == 0 { 3.0 } else { 1.0 }).collect()
    }

    #[test]
    fn estimates_are_right_on_average_and_within_their_bounds() {
        let mut rng = Rng::new(9);
        for (metric, bits, dim, off_max) in [
            (DistanceMetric::L2, 4, 96, 0.02),
            (DistanceMetric::Cosine, 4, 100, 0.02),
            (DistanceMetric::InnerProduct, 4, 61, 0.12),
            (DistanceMetric::L2, 8, 96, 0.003),
            (DistanceMetric::Cosine, 8, 7, 0.02),
        ] {
            let prepared = |rng: &mut Rng| metric.prepare(&vector(rng, dim), dim).unwrap();
            let center = prepared(&mut rng);
            let mut codes = RabitCodes::new(metric, bits, center, 3);
            let vectors: Vec<Vec<f32>> = (0..200).map(|_| prepared(&mut rng)).collect();
            for vector in &vectors {
                let row = codes.encode(vector);
                codes.push(&row);
            }
            let query = prepared(&mut rng);
            let mut ready = RabitQuery::default();
            codes.prepare(&query, &mut ready);
            let measure = Measure::new(metric);
            let (mut sum, mut off, mut size, mut outside) = (0.0f64, 0.0f64, 0.0f64, 0);
            for (slot, vector) in vectors.iter().enumerate() {
                let exact = measure.pair(&query, vector);
                let error = codes.estimate(kernels(), &ready, slot as u32) - exact;
                sum += f64::from(error);
                off += f64::from(error.abs());
                size += f64::from(exact.abs().max(0.1));
                outside += usize::from(error.abs() > codes.error(&ready, slot as u32));
            }
            let what = format!("{metric:?} of {bits} bits and {dim} dimensions");
            assert!(off / size <= off_max, "{what}: off by {}", off / size);
            assert!(sum.abs() <= 0.5 * off, "{what}: {sum} of {off} in one direction");
            // Two of a hundred lie beyond 1.9 deviations on one side, in theory.
            assert!(outside <= 200 * 12 / 100, "{what}: {outside} out of bounds");
        }
    }
}

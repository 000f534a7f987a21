//! Scalar quantisation to bytes, with a bound that always holds.
//!
//! A vector is `scale * (code - 128)` but for a rest whose length is kept. Of a query likewise, and
//! so the inner product of both is known up to
//!
//! ```text
//! |<x, q> - <x', q'>|  <=  |x - x'| |q'| + |x| |q - q'|
//! ```
//!
//! which no data can break: who compares exactly all that the bounds leave over has the exact answer.
//!
//! ```text
//! a row:  dim bytes of code, up to a multiple of 4, then f32 each: scale, length of the rest, length
//! ```

use crate::vector::kernel::Kernels;
use crate::vector::metric::DistanceMetric;
use crate::vector::rows::Rows;

/// Numbers behind a code.
const FACTORS: usize = 3;
/// What stands for 0.
const ZERO: f32 = 128.0;
/// Lengths are made longer by this share, for what rounding may have taken.
const ROUNDING: f32 = 1e-5;
/// Bounds are made wider by this share of the squares that go into a distance: twice that of a
/// length, and what the sums of floats may be off.
const SQUARES_ROUNDING: f32 = 4e-5;
/// And by this, for products that are too small to be told from nothing.
const UNDERFLOW: f32 = 4.0 * f32::MIN_POSITIVE;

/// Codes of vectors.
#[derive(Debug)]
pub(in crate::vector) struct ByteCodes {
    metric: DistanceMetric,
    dim: usize,
    pub(in crate::vector) rows: Rows<u8>,
}

/// A query, as it is compared with codes.
#[derive(Debug)]
pub(in crate::vector) struct ByteQuery {
    codes: Vec<i8>,
    scale: f32,
    /// The sum of the codes, 128 times.
    zero: f32,
    length: f32,
    coded_length: f32,
    rest_length: f32,
}

impl ByteCodes {
    pub(in crate::vector) fn new(metric: DistanceMetric, dim: usize) -> ByteCodes {
        ByteCodes { metric, dim, rows: Rows::new(dim.next_multiple_of(4) + 4 * FACTORS) }
    }

    /// Appends the code of a prepared vector.
    pub(in crate::vector) fn push(&mut self, vector: &[f32]) {
        let (codes, scale) = rounded(vector);
        let rest = rest_length(vector, &codes, scale);
        let mut row: Vec<u8> = codes.iter().map(|code| (*code as u8) ^ 0x80).collect();
        row.resize(self.dim.next_multiple_of(4), 0x80);
        for factor in [scale, rest, length(vector)] {
            // As the machine has them: they are read in place.
            row.extend_from_slice(&factor.to_ne_bytes());
        }
        self.rows.push(&row);
    }

    /// Makes a prepared query ready for [`ByteCodes::bounds`].
    pub(in crate::vector) fn prepare(&self, query: &[f32]) -> ByteQuery {
        let (codes, scale) = rounded(query);
        let rest_length = rest_length(query, &codes, scale);
        let length = length(query);
        let zero = ZERO * codes.iter().map(|code| f32::from(*code)).sum::<f32>();
        ByteQuery { codes, scale, zero, length, coded_length: length + rest_length, rest_length }
    }

    /// The distance of a vector lies between these.
    #[inline(always)]
    pub(in crate::vector) fn bounds(
        &self,
        k: &Kernels,
        query: &ByteQuery,
        slot: u32,
    ) -> (f32, f32) {
        let product = (k.dot_u8)(&self.rows.row(slot)[..self.dim], &query.codes);
        let [scale, rest, length] = *self.factors(slot);
        // The scales of two small vectors have no product.
        let product = scale * (product as f32 - query.zero) * query.scale;
        let off = rest * query.coded_length + length * query.rest_length;
        let (distance, off, size) = match self.metric {
            DistanceMetric::L2 => {
                let squares = length * length + query.length * query.length;
                (squares - 2.0 * product, 2.0 * off, squares)
            }
            DistanceMetric::Cosine => (1.0 - product, off, 2.0),
            DistanceMetric::InnerProduct => (-product, off, length * query.length),
        };
        let off = off + SQUARES_ROUNDING * size + UNDERFLOW;
        (distance - off, distance + off)
    }

    #[inline(always)]
    fn factors(&self, slot: u32) -> &[f32; FACTORS] {
        self.rows.array(slot, self.dim.next_multiple_of(4))
    }
}

/// The nearest whole numbers from -127 to 127, and what 1 of them stands for.
fn rounded(vector: &[f32]) -> (Vec<i8>, f32) {
    let largest = vector.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let scale = (largest / 127.0).max(f32::MIN_POSITIVE);
    (vector.iter().map(|x| (x / scale).round() as i8).collect(), scale)
}

fn length(vector: &[f32]) -> f32 {
    let squared: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    squared.sqrt() as f32 * (1.0 + ROUNDING)
}

fn rest_length(vector: &[f32], codes: &[i8], scale: f32) -> f32 {
    let rest = vector.iter().zip(codes).map(|(x, code)| x - scale * f32::from(*code));
    length(&rest.collect::<Vec<f32>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;
    use crate::vector::kernel::kernels;
    use crate::vector::measure::Measure;

    #[test]
    fn every_distance_lies_within_its_bounds() {
        let mut rng = Rng::new(12);
        for metric in DistanceMetric::ALL {
            for (dim, size) in [
                (1, 1.0f32),
                (1, 1e-15),
                (1, 1e-20),
                (4, 3e-20),
                (2, 1e-25),
                (1, 1e12),
                (2, 1e12),
                (3, 1e-18),
                (50, 1e12),
                (384, 1.0),
            ] {
                let vector = |rng: &mut Rng| -> Vec<f32> {
                    let one = |rng: &mut Rng| (rng.below(2001) as f32 - 1000.3) / 1000.0;
                    let v: Vec<f32> = (0..dim).map(|_| size * one(rng) * one(rng)).collect();
                    metric.prepare(&v, dim).unwrap()
                };
                let mut codes = ByteCodes::new(metric, dim);
                let vectors: Vec<Vec<f32>> = (0..100).map(|_| vector(&mut rng)).collect();
                vectors.iter().for_each(|vector| codes.push(vector));
                let query = vector(&mut rng);
                let ready = codes.prepare(&query);
                for (slot, vector) in vectors.iter().enumerate() {
                    let exact = Measure::new(metric).pair(&query, vector);
                    let (low, high) = codes.bounds(kernels(), &ready, slot as u32);
                    let what = format!("{metric:?} {dim} {size}: {low} {exact} {high}");
                    assert!(low <= exact && exact <= high, "{what}");
                    let reach = 0.05 * (length(vector) + length(&query)).powi(2).max(1e-30);
                    assert!(dim < 50 || high - low <= reach, "{what}");
                }
            }
        }
    }
}

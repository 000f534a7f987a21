//! A random rotation, quick to apply.
//!
//! Codes of few bits for each dimension are as good as the dimensions are alike. A rotation makes
//! them so: whatever the data, each dimension gets its share of every other. It flips signs at
//! random and takes sums and differences of all pairs at all distances (the Walsh-Hadamard
//! transform), four times, on the first and the last dimensions in turn, as many as a power of two
//! holds.

use crate::env::Rng;

const ROUNDS: usize = 4;

/// A rotation of vectors of a fixed dimension.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::vector) struct Rotation {
    dim: usize,
    /// A sign for each dimension and round.
    signs: Vec<f32>,
}

impl Rotation {
    /// The rotation that `seed` stands for. Vectors shorter than `dim` are filled up with zeros.
    pub(in crate::vector) fn new(dim: usize, seed: u64) -> Rotation {
        let mut rng = Rng::new(seed);
        let sign = |_| if rng.one_in(2) { 1.0 } else { -1.0 };
        Rotation { dim, signs: (0..dim * ROUNDS).map(sign).collect() }
    }

    /// Rotates a vector; its length stays.
    pub(in crate::vector) fn apply(&self, vector: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(vector);
        out.resize(self.dim, 0.0);
        let window = 1 << self.dim.ilog2();
        let scale = 1.0 / (window as f32).sqrt();
        for (round, signs) in self.signs.chunks_exact(self.dim).enumerate() {
            for (value, sign) in out.iter_mut().zip(signs) {
                *value *= sign;
            }
            let from = if round % 2 == 0 { 0 } else { self.dim - window };
            let part = &mut out[from..from + window];
            sums_and_differences(part);
            part.iter_mut().for_each(|value| *value *= scale);
        }
    }
}

/// The Walsh-Hadamard transform, not scaled. REQUIRES: the length is a power of two.
fn sums_and_differences(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_angles_stay_and_dimensions_become_alike() {
        for dim in [1, 2, 7, 64, 100, 384] {
            let rotation = Rotation::new(dim, 5);
            let (mut a, mut b) = (Vec::new(), Vec::new());
            let mut axis = vec![0.0; dim];
            axis[dim / 3] = 2.0;
            let ramp: Vec<f32> = (0..dim).map(|i| i as f32).collect();
            rotation.apply(&axis, &mut a);
            rotation.apply(&ramp, &mut b);
            let dot: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            let expected = 2.0 * (dim / 3) as f32;
            assert!((dot - expected).abs() < 1e-3 * dim as f32, "{dim}: {dot}, not {expected}");
            assert!((a.iter().map(|a| a * a).sum::<f32>() - 4.0).abs() < 1e-4);
            let largest = a.iter().fold(0.0f32, |m, a| m.max(a.abs()));
            assert!(dim < 64 || largest < 2.0 * 5.0 / (dim as f32).sqrt(), "{dim}: {largest}");
        }
    }
}

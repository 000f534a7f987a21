//! The directions in which vectors vary most.
//!
//! Found by orthogonal iteration: directions are multiplied by the covariance and made orthogonal
//! again, round after round. Directions of about equal variance stay mixed, which does no harm: what
//! is wanted is that most of the variance lies in the first of them.

use crate::env::Rng;
use crate::vector::kernel::kernels;
use crate::vector::parallel;

/// Vectors that are looked at.
const SAMPLE_MAX: usize = 4096;
const ROUNDS: usize = 8;
const SEED: u64 = 0x7063_6172;

/// Where vectors lie and how they vary.
#[derive(Debug)]
pub(super) struct Principal {
    pub(super) mean: Vec<f32>,
    /// Orthogonal directions of unit length, one behind the other; the first has most variance.
    pub(super) directions: Vec<f32>,
    /// The variance along each direction, in units of `unit` squared.
    pub(super) variances: Vec<f32>,
    /// The root of the mean squared distance from the mean, or 1 if all are in one place: a normal
    /// number.
    pub(super) unit: f32,
}

impl Principal {
    /// Bytes of memory that [`Principal::find`] takes, about.
    pub(super) fn finding_bytes(dim: usize, count: usize, wanted: usize) -> usize {
        // The columns, the covariance and half of it again, and the directions twice.
        4 * (dim * count.min(SAMPLE_MAX) + dim * dim + dim * dim / 2 + 2 * wanted * dim)
    }

    /// Looks at vectors, of which `vector(0)` to `vector(count - 1)` exist, for `wanted` directions,
    /// `dim` at most. REQUIRES: there is a vector.
    pub(super) fn find<'a>(
        dim: usize,
        count: usize,
        vector: impl Fn(usize) -> &'a [f32],
        wanted: usize,
        threads: usize,
    ) -> Principal {
        let rows = count.min(SAMPLE_MAX);
        let sample = |row: usize| vector((row as u64 * count as u64 / rows as u64) as usize);
        let mut sums = vec![0.0f64; dim];
        for row in 0..rows {
            sums.iter_mut().zip(sample(row)).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / rows as f64) as f32).collect();
        let apart = |row: usize| sample(row).iter().zip(&mean).map(|(x, m)| x - m);
        let squared = |row: usize| apart(row).map(|x| f64::from(x) * f64::from(x)).sum::<f64>();
        let mean_squared = (0..rows).map(squared).sum::<f64>() / rows as f64;
        let unit = mean_squared.sqrt() as f32;
        let unit = if unit.is_normal() { unit } else { 1.0 };
        // Column by column, so that a covariance is an inner product.
        let mut columns = vec![0.0f32; dim * rows];
        for row in 0..rows {
            for (column, x) in columns.chunks_exact_mut(rows).zip(apart(row)) {
                column[row] = x / unit;
            }
        }
        let dot = kernels().dot;
        let column = |d: usize| &columns[d * rows..][..rows];
        let halves = parallel::map(threads, dim, |a| -> Vec<f32> {
            (0..=a).map(|b| dot(column(a), column(b)) / rows as f32).collect()
        });
        let mut covariance = vec![0.0f32; dim * dim];
        for (a, half) in halves.iter().enumerate() {
            for (b, value) in half.iter().enumerate() {
                covariance[a * dim + b] = *value;
                covariance[b * dim + a] = *value;
            }
        }
        let (directions, variances) = iterate(&covariance, dim, wanted.min(dim), threads);
        Principal { mean, directions, variances, unit }
    }
}

/// The directions of most variance and what it is.
fn iterate(covariance: &[f32], dim: usize, wanted: usize, threads: usize) -> (Vec<f32>, Vec<f32>) {
    let dot = kernels().dot;
    let times = |direction: &[f32]| -> Vec<f32> {
        covariance.chunks_exact(dim).map(|row| dot(row, direction)).collect()
    };
    let mut rng = Rng::new(SEED);
    let mut some = || rng.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0;
    let mut directions: Vec<Vec<f32>> =
        (0..wanted).map(|_| (0..dim).map(|_| some()).collect()).collect();
    make_orthogonal(&mut directions);
    for _ in 0..ROUNDS {
        directions = parallel::map(threads, wanted, |i| times(&directions[i]));
        make_orthogonal(&mut directions);
    }
    // Once leaves rounding behind.
    make_orthogonal(&mut directions);
    let variance = |i: usize| dot(&times(&directions[i]), &directions[i]).max(0.0);
    let variances = parallel::map(threads, wanted, variance);
    let mut order: Vec<usize> = (0..wanted).collect();
    order.sort_by(|a, b| variances[*b].total_cmp(&variances[*a]).then(a.cmp(b)));
    let sorted = order.iter().flat_map(|i| directions[*i].iter().copied()).collect();
    (sorted, order.iter().map(|i| variances[*i]).collect())
}

/// Gram and Schmidt. What is nothing but rounding becomes zero.
fn make_orthogonal(directions: &mut [Vec<f32>]) {
    let dot = kernels().dot;
    for i in 0..directions.len() {
        let (before, rest) = directions.split_at_mut(i);
        let direction = &mut rest[0];
        let length_before = dot(direction, direction).sqrt();
        for other in before.iter() {
            let along = dot(direction, other);
            direction.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
        }
        let length = dot(direction, direction).sqrt();
        let is_noise = length <= 1e-5 * length_before || length < 1e-30;
        let scale = if is_noise { 0.0 } else { 1.0 / length };
        direction.iter_mut().for_each(|x| *x *= scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_axes_of_a_cloud_come_first() {
        let mut rng = Rng::new(4);
        let mut some = || rng.below(2001) as f32 / 1000.0 - 1.0;
        let axes = [[0.6f32, 0.8, 0.0, 0.0], [0.8, -0.6, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];
        let rows: Vec<Vec<f32>> = (0..3000)
            .map(|_| {
                let along = [9.0 * some(), 3.0 * some(), some()];
                (0..4).map(|d| 5.0 + (0..3).map(|i| along[i] * axes[i][d]).sum::<f32>()).collect()
            })
            .collect();
        let found = Principal::find(4, rows.len(), |i| &rows[i], 4, 2);
        assert!(found.mean.iter().all(|m| (m - 5.0).abs() < 0.3), "{:?}", found.mean);
        for (axis, direction) in axes.iter().zip(found.directions.chunks(4)) {
            let cosine: f32 = axis.iter().zip(direction).map(|(a, b)| a * b).sum();
            assert!(cosine.abs() > 0.99, "{direction:?}");
        }
        assert!(found.variances[3] < 1e-4, "{:?}", found.variances);
    }

    #[test]
    fn vectors_in_one_place_have_no_directions() {
        let row = [3.0f32, 4.0];
        let found = Principal::find(2, 10, |_| &row, 2, 1);
        assert_eq!((found.unit, found.variances), (1.0, vec![0.0, 0.0]));
    }
}

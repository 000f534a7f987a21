//! What is loaded and what is searched for: a file's vectors, or vectors that a seed gives.

use crate::base::Error;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::vector::input::{FileFormat, Vectors};
use crate::env::Rng;
use crate::op::vector::{Floats, StoredVector};
use bytes::Bytes;
use std::path::Path;

/// Vectors read from a file at once.
const TOGETHER: usize = 4_096;
/// Numbers that decide a generated vector: as many ways it can differ from another.
const INNER: usize = 20;

/// Vectors and queries of one dimension.
#[derive(Debug)]
pub(super) struct Data {
    /// Numbers in a vector.
    pub(super) dim: usize,
    /// What is loaded.
    pub(super) vectors: Vec<StoredVector>,
    /// What is searched for.
    pub(super) queries: Vec<Floats>,
}

/// A file of vectors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    /// Where it is.
    pub(super) path: &'a Path,
    /// How they stand in it.
    pub(super) format: FileFormat,
}

/// The first `most` vectors of a file.
pub(super) fn read(
    source: Source<'_>,
    dim: Option<usize>,
    most: usize,
) -> Outcome<Vec<StoredVector>> {
    let mut file = Vectors::open(source.path, source.format, dim)?;
    let mut all: Vec<StoredVector> = Vec::new();
    loop {
        let some = file.next(TOGETHER.min(most - all.len()))?;
        if some.is_empty() {
            break;
        }
        all.extend(some);
    }
    let dim = dim.or(all.first().map(|one| one.vector.len())).unwrap_or(0);
    match all.iter().find(|one| one.vector.len() != dim) {
        None if all.is_empty() => {
            Err(Failure::usage(format!("{} has no vectors", source.path.display())))
        }
        None => Ok(all),
        Some(other) => Err(Error::invalid(format!(
            "{}: vector {} has {} numbers, others {dim}",
            source.path.display(),
            other.id,
            other.vector.len()
        ))
        .into()),
    }
}

/// `vectors` vectors and `queries` queries that follow from `seed`: clusters of unequal size and
/// width, bent and blurred, so that neither all are alike nor a few numbers tell them apart.
pub(super) fn clustered(dim: usize, vectors: usize, queries: usize, seed: u64) -> Data {
    let mut rng = Rng::new(seed);
    let count = ((vectors as f64).sqrt() as usize).clamp(1, 2_000);
    let clusters: Vec<Cluster> = (0..count).map(|_| Cluster::draw(&mut rng)).collect();
    let spread: Vec<f32> =
        (0..INNER * dim).map(|_| bell(&mut rng) / (INNER as f32).sqrt()).collect();
    let mut one = || {
        // The lower of two: early clusters are the larger ones.
        let at = rng.below(count as u64).min(rng.below(count as u64)) as usize;
        let inner = clusters[at].point(&mut rng);
        let numbers: Vec<f32> = spread
            .chunks_exact(INNER)
            .map(|row| {
                let sum: f32 = row.iter().zip(&inner).map(|(a, b)| a * b).sum();
                (0.7 * sum).tanh() + 0.05 * bell(&mut rng)
            })
            .collect();
        Floats::of(&numbers)
    };
    let all: Vec<Floats> = (0..vectors + queries).map(|_| one()).collect();
    let (loaded, asked) = all.split_at(vectors);
    let stored = |(id, vector): (u64, &Floats)| StoredVector {
        id,
        vector: vector.clone(),
        payload: Bytes::new(),
    };
    Data { dim, vectors: (0..).zip(loaded).map(stored).collect(), queries: asked.to_vec() }
}

struct Cluster {
    centre: [f32; INNER],
    width: [f32; INNER],
}

impl Cluster {
    fn draw(rng: &mut Rng) -> Cluster {
        let wide = 0.35 + 0.55 * rng.below(1_000) as f32 / 1_000.0;
        Cluster {
            centre: std::array::from_fn(|_| bell(rng)),
            width: std::array::from_fn(|_| wide * (0.35 * bell(rng)).exp()),
        }
    }

    fn point(&self, rng: &mut Rng) -> [f32; INNER] {
        std::array::from_fn(|at| self.centre[at] + self.width[at] * bell(rng))
    }
}

/// A number around 0 with a deviation of 1: four even ones added up, which is bell enough.
fn bell(rng: &mut Rng) -> f32 {
    let bits = rng.next_u64();
    let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
    (sum as f32 / 65_536.0 - 2.0) * 3f32.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_all_of_the_data() {
        let (one, same, other) =
            (clustered(24, 300, 10, 5), clustered(24, 300, 10, 5), clustered(24, 300, 10, 6));
        assert_eq!((one.vectors.len(), one.queries.len(), one.dim), (300, 10, 24));
        assert!(one.vectors == same.vectors && one.queries == same.queries);
        assert!(one.vectors != other.vectors);
        assert!(one.vectors.iter().all(|v| v.vector.to_vec().iter().all(|x| x.is_finite())));
    }

    #[test]
    fn vectors_lie_in_clusters() {
        let data = clustered(32, 2_000, 20, 1);
        let rows: Vec<Vec<f32>> = data.vectors.iter().map(|v| v.vector.to_vec()).collect();
        let distance =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f32>();
        for query in &data.queries {
            let query = query.to_vec();
            let mut all: Vec<f32> = rows.iter().map(|row| distance(&query, row)).collect();
            all.sort_by(f32::total_cmp);
            assert!(all[10] < all[1_000] / 2.0, "{} and {}", all[10], all[1_000]);
        }
    }
}

//! Product quantisation (Jégou et al. 2011): a vector is cut into parts of equal length, and each
//! part is replaced by the number of the nearest of up to 256 centroids.

pub(in crate::vector) use super::kmeans::Centroids;
use crate::base::{Error, Result};
use crate::env::Rng;
use crate::vector::metric::{DIM_MAX, DistanceMetric};
use crate::vector::parallel;

/// Vectors that centroids are trained on.
const SAMPLE_MAX: usize = 16_384;
/// Seed of the training.
const SEED: u64 = 0x7071;
/// Entries of a part's row in a table, however many centroids there are.
const ROW: usize = 256;

/// The settings of product quantisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PqConfig {
    /// Floats in a vector.
    pub dim: usize,
    /// Parts of a vector, and bytes of its code; it divides `dim`. By default 32, or the largest
    /// divisor of `dim` below.
    pub num_sub: usize,
    /// Centroids for each part, from 1 to 256; by default 256.
    pub num_centroids: usize,
    /// How distances are measured.
    pub metric: DistanceMetric,
    /// Rounds of the training; by default 20.
    pub max_iter: usize,
}

impl PqConfig {
    /// The default settings for vectors of `dim` floats.
    pub fn new(dim: usize, metric: DistanceMetric) -> PqConfig {
        let num_sub = (1..=32).rev().find(|n| dim.is_multiple_of(*n)).unwrap_or(1);
        PqConfig { dim, num_sub, num_centroids: 256, metric, max_iter: 20 }
    }

    /// Whether each setting is within its bounds.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::base::ErrorKind::InvalidArgument), with the setting
    /// and its bounds.
    pub fn check(&self) -> Result<()> {
        let settings = [
            ("dim", self.dim, 1, DIM_MAX),
            ("num_sub", self.num_sub, 1, self.dim),
            ("num_centroids", self.num_centroids, 1, ROW),
            ("max_iter", self.max_iter, 1, 1000),
        ];
        for (name, value, min, max) in settings {
            if !(min..=max).contains(&value) {
                let message = format!("{name} is {value}; it may be from {min} to {max}");
                return Err(Error::invalid(message));
            }
        }
        if !self.dim.is_multiple_of(self.num_sub) {
            let message =
                format!("num_sub is {}, which does not divide dim, {}", self.num_sub, self.dim);
            return Err(Error::invalid(message));
        }
        Ok(())
    }
}

/// Trained centroids.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::vector) struct Pq {
    pub(in crate::vector) config: PqConfig,
    /// Those of each part.
    pub(in crate::vector) parts: Vec<Centroids>,
}

impl Pq {
    /// Trains centroids on prepared vectors, of which `vector(0)` to `vector(count - 1)` exist.
    /// REQUIRES: the settings were checked, and there is a vector.
    pub(in crate::vector) fn train<'a>(
        config: PqConfig,
        count: usize,
        vector: impl Fn(usize) -> &'a [f32] + Sync,
        threads: usize,
    ) -> Pq {
        let sub = config.dim / config.num_sub;
        let rows = count.min(SAMPLE_MAX);
        let parts = parallel::map(threads, config.num_sub, |part| {
            let mut points = Vec::with_capacity(rows * sub);
            for row in 0..rows {
                points.extend_from_slice(&vector(row * count / rows)[part * sub..][..sub]);
            }
            let mut rng = Rng::new(SEED ^ part as u64);
            Centroids::train(&points, sub, config.num_centroids, config.max_iter, &mut rng)
        });
        Pq { config, parts }
    }

    /// The code of a prepared vector.
    pub(in crate::vector) fn encode(&self, vector: &[f32]) -> Vec<u8> {
        let mut distances = Vec::new();
        let parts = vector.chunks_exact(self.config.dim / self.config.num_sub).zip(&self.parts);
        parts.map(|(part, centroids)| centroids.nearest(part, &mut distances).0 as u8).collect()
    }

    /// For each part of a prepared query the distances of all centroids: a code's distance is the
    /// sum of one entry from each row.
    pub(in crate::vector) fn table(&self, query: &[f32], table: &mut Vec<f32>) {
        table.clear();
        table.resize(ROW * self.parts.len(), 0.0);
        let sub = self.config.dim / self.config.num_sub;
        let rows = table.chunks_exact_mut(ROW).zip(query.chunks_exact(sub)).zip(&self.parts);
        for ((row, part), centroids) in rows {
            let row = &mut row[..self.config.num_centroids];
            match self.config.metric {
                DistanceMetric::InnerProduct => {
                    centroids.products(part, row);
                    row.iter_mut().for_each(|entry| *entry = -*entry);
                }
                DistanceMetric::L2 => centroids.squared_distances(part, row),
                // Of unit vectors it is half the squared distance.
                DistanceMetric::Cosine => {
                    centroids.squared_distances(part, row);
                    row.iter_mut().for_each(|entry| *entry *= 0.5);
                }
            }
        }
    }
}

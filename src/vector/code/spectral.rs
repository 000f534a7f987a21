//! Product codes along the directions in which vectors vary most.
//!
//! Embeddings vary much in a few directions and little in most. So a vector less the mean is turned
//! into those [directions](super::principal), which are cut into one part for each byte of the code:
//! a part has as many directions as need 8 bits together, two or three at the front and dozens at
//! the end, where all bits are given out so that each saves as much error as any other (reverse
//! water-filling). Directions of so little variance that none is left for them are dropped. Each
//! part is replaced by the nearest of 256 centroids, as in [product quantisation](super::pq).
//!
//! Let `o` be the vector less the mean and `v` what its code stands for. As in
//! [RaBitQ](super::rabitq) the estimate takes `o` to be `v` stretched to `|o|^2 / <v, o>`: it is
//! right on average, which a centroid, being a mean and so too short, is not, and for a query that
//! is the vector itself but for rounding. At 48 bytes for 384
//! dimensions of text the 20 nearest by their estimates hold 94 of 100 of the 10 nearest; product
//! codes of the same size 86, RaBitQ of one bit a dimension 86 in 56 bytes.
//!
//! ```text
//! a row:  a byte for each part, then f16 each: |o|^2 / unit^2, |o|^2 / <v, o>
//! ```
//!
//! The second factor is 0 if `v` says next to nothing of `o`. Then the estimate is the least that the
//! distance may be, by the lengths alone.

use super::kmeans::Centroids;
use super::principal::Principal;
use crate::env::Rng;
use crate::vector::kernel::half::{from_f32, to_f32};
use crate::vector::kernel::{Kernels, kernels};
use crate::vector::metric::DistanceMetric;
use crate::vector::parallel;

/// Centroids of a part, and entries of its row in a table.
pub(in crate::vector) const CENTROIDS: usize = 256;
/// Bits that 256 centroids are worth.
const PART_BITS: f32 = 8.0;
/// Bytes behind a code.
pub(in crate::vector) const FACTOR_BYTES: usize = 4;
/// The most directions: finding them costs the square of their number.
const DIRECTIONS_MAX: usize = 768;
/// Vectors that centroids are trained on, and rounds of it.
const SAMPLE_MAX: usize = 8192;
const ROUNDS: usize = 10;
const SEED: u64 = 0x7370_6563;
/// The largest factor that 16 bits hold, and how much one may be off, as a share of it.
const HALF_MAX: f32 = 65_504.0;
const HALF_ERROR: f32 = 1.0 / 2048.0;
/// Share of a vector below which its code is taken to say nothing of it.
const SAYS_NOTHING: f32 = 1e-3;

/// Directions and centroids: what codes mean.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::vector) struct SpectralModel {
    pub(in crate::vector) metric: DistanceMetric,
    pub(in crate::vector) dim: usize,
    pub(in crate::vector) mean: Vec<f32>,
    /// About how far vectors are from the mean.
    pub(in crate::vector) unit: f32,
    /// As 16-bit floats, one behind the other.
    pub(in crate::vector) directions: Vec<u16>,
    pub(in crate::vector) parts: Vec<Part>,
}

/// The centroids of some directions, in units of the model.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::vector) struct Part {
    pub(in crate::vector) dim: usize,
    /// What 1 in a column stands for.
    pub(in crate::vector) scale: f32,
    /// `columns[d * 256 + c]` is direction `d` of centroid `c`.
    pub(in crate::vector) columns: Vec<i8>,
}

/// A query, as it is compared with codes.
#[derive(Debug, Default)]
pub(in crate::vector) struct SpectralQuery {
    metric: DistanceMetric,
    table: Vec<f32>,
    base: f32,
    /// How far the query is from the mean; its own length under the inner product.
    pub(in crate::vector) length: f32,
    /// The most that the estimate of a vector equal to the query is off, if its code says anything
    /// of it: what 16 bits do not hold of its factors.
    pub(in crate::vector) rounding: f32,
}

impl SpectralModel {
    /// Learns codes of at most `bytes` bytes from prepared vectors, of which `vector(0)` to
    /// `vector(count - 1)` exist. REQUIRES: there is a vector; `bytes` is not 0.
    pub(in crate::vector) fn train<'a>(
        metric: DistanceMetric,
        dim: usize,
        bytes: usize,
        count: usize,
        vector: impl Fn(usize) -> &'a [f32] + Sync,
        threads: usize,
    ) -> SpectralModel {
        let bytes = bytes.min(dim);
        let wanted = dim.min(8 * bytes).min(DIRECTIONS_MAX);
        let found = Principal::find(dim, count, &vector, wanted, threads);
        let dims = shares(&found.variances, bytes);
        let used: usize = dims.iter().sum();
        let directions = found.directions[..used * dim].iter().map(|x| from_f32(*x)).collect();
        let (mean, unit) = (found.mean, found.unit);
        let mut model = SpectralModel { metric, dim, mean, unit, directions, parts: Vec::new() };
        let rows = count.min(SAMPLE_MAX);
        let sample = |row: usize| vector((row as u64 * count as u64 / rows as u64) as usize);
        let turned = parallel::map(threads, rows, |row| model.turned(&model.apart(sample(row))));
        let starts: Vec<usize> =
            dims.iter().scan(0, |at, dim| Some(std::mem::replace(at, *at + dim))).collect();
        model.parts = parallel::map(threads, dims.len(), |part| {
            let mut points = Vec::with_capacity(rows * dims[part]);
            for row in &turned {
                points.extend_from_slice(&row[starts[part]..][..dims[part]]);
            }
            let mut rng = Rng::new(SEED ^ part as u64);
            Part::of(&Centroids::train(&points, dims[part], CENTROIDS, ROUNDS, &mut rng))
        });
        model
    }

    /// Bytes of memory that [`SpectralModel::train`] takes, about.
    pub(in crate::vector) fn training_bytes(dim: usize, bytes: usize, count: usize) -> usize {
        let directions = dim.min(8 * bytes.min(dim)).min(DIRECTIONS_MAX);
        // Turned vectors, and once more as the points of their parts.
        let turned = 2 * 4 * count.min(SAMPLE_MAX) * directions;
        turned.max(Principal::finding_bytes(dim, count, directions))
    }

    /// Bytes of a row.
    pub(in crate::vector) fn row_bytes(&self) -> usize {
        self.parts.len() + FACTOR_BYTES
    }

    /// How many directions there are.
    pub(in crate::vector) fn used(&self) -> usize {
        self.directions.len() / self.dim
    }

    /// Bytes in memory.
    pub(in crate::vector) fn memory_bytes(&self) -> usize {
        let columns: usize = self.parts.iter().map(|part| part.columns.len()).sum();
        let parts = self.parts.len() * size_of::<Part>();
        4 * self.mean.len() + 2 * self.directions.len() + columns + parts
    }

    /// A vector less the mean, in units of the model.
    fn apart(&self, vector: &[f32]) -> Vec<f32> {
        vector.iter().zip(&self.mean).map(|(x, m)| (x - m) / self.unit).collect()
    }

    /// How far a vector goes in each direction.
    fn turned(&self, vector: &[f32]) -> Vec<f32> {
        let dot = kernels().dot_f16;
        self.directions.chunks_exact(self.dim).map(|direction| dot(vector, direction)).collect()
    }

    /// Appends a row for a prepared vector. Gives the length of what the code does not tell of it,
    /// in units of the model: always a number, which is kept.
    pub(in crate::vector) fn encode(&self, vector: &[f32], out: &mut Vec<u8>) -> f32 {
        let apart = self.apart(vector);
        let squared: f32 = apart.iter().map(|x| x * x).sum();
        let turned = self.turned(&apart);
        let mut rest = turned.as_slice();
        let (mut product, mut code_squared) = (0.0, 0.0);
        let mut distances = Vec::new();
        for part in &self.parts {
            let (point, after) = rest.split_at(part.dim);
            rest = after;
            let code = part.nearest(point, &mut distances);
            product += part.product(point, code);
            code_squared += part.squared(code);
            out.push(code);
        }
        let says_something = product > SAYS_NOTHING * squared;
        let stretch = if says_something { squared / product } else { 0.0 };
        for factor in [squared, stretch] {
            out.extend_from_slice(&from_f32(factor.min(HALF_MAX)).to_le_bytes());
        }
        let rest: f32 = match says_something {
            // |o - f v|^2, where f <o, v> is |o|^2.
            true => (stretch * stretch * code_squared - squared).max(0.0).sqrt(),
            false => squared.sqrt(),
        };
        rest.min(f32::MAX)
    }

    /// Makes a prepared query ready for [`SpectralModel::estimate`].
    pub(in crate::vector) fn prepare(&self, query: &[f32], out: &mut SpectralQuery) {
        self.prepare_for(self.metric, query, out);
    }

    /// Makes a query ready for [`SpectralModel::estimate`] that gives distances under another metric
    /// than the model's: under L2 and cosine it may be of any length.
    pub(in crate::vector) fn prepare_for(
        &self,
        metric: DistanceMetric,
        query: &[f32],
        out: &mut SpectralQuery,
    ) {
        let apart: Vec<f32> = match metric {
            DistanceMetric::InnerProduct => query.iter().map(|q| q / self.unit).collect(),
            _ => self.apart(query),
        };
        // Not in units of the model: of vectors that lie close together these are small, and the
        // square of one far away would be no number.
        let squared = |q: f32, m: f32| f64::from(q - m) * f64::from(q - m);
        let squared: f64 = match metric {
            DistanceMetric::InnerProduct => query.iter().map(|q| squared(*q, 0.0)).sum(),
            _ => query.iter().zip(&self.mean).map(|(q, m)| squared(*q, *m)).sum(),
        };
        let turned = self.turned(&apart);
        out.metric = metric;
        out.table.clear();
        out.table.resize(CENTROIDS * self.parts.len(), 0.0);
        let mut rest = turned.as_slice();
        for (part, row) in self.parts.iter().zip(out.table.chunks_exact_mut(CENTROIDS)) {
            let (point, after) = rest.split_at(part.dim);
            rest = after;
            part.products(point, row);
        }
        out.length = squared.sqrt() as f32;
        let squared = squared as f32;
        // Both factors round, the second counts twice under L2; and a tenth more for all sums.
        let rounding = 1.1 * HALF_ERROR * squared;
        out.rounding = match metric {
            DistanceMetric::L2 => 3.0 * rounding,
            DistanceMetric::Cosine => 1.5 * rounding,
            DistanceMetric::InnerProduct => rounding,
        };
        out.base = match metric {
            DistanceMetric::L2 => squared,
            DistanceMetric::Cosine => 0.5 * squared,
            DistanceMetric::InnerProduct => {
                -query.iter().zip(&self.mean).map(|(q, m)| q * m).sum::<f32>()
            }
        };
    }

    /// The estimated distance of a row; of vectors that are far from those that codes were learnt
    /// from it may be no number. REQUIRES: it is as long as [`SpectralModel::row_bytes`].
    #[inline(always)]
    pub(in crate::vector) fn estimate(
        &self,
        k: &Kernels,
        query: &SpectralQuery,
        row: &[u8],
    ) -> f32 {
        let (codes, factors) = row.split_at(self.parts.len());
        let sum = (k.lookup)(&query.table, codes);
        let squared = to_f32(u16::from_le_bytes([factors[0], factors[1]]));
        let stretch = to_f32(u16::from_le_bytes([factors[2], factors[3]]));
        let unit_squared = self.unit * self.unit;
        if stretch == 0.0 {
            return self.least(query, squared);
        }
        query.base
            + unit_squared
                * match query.metric {
                    DistanceMetric::L2 => squared - 2.0 * stretch * sum,
                    DistanceMetric::Cosine => 0.5 * squared - stretch * sum,
                    DistanceMetric::InnerProduct => -stretch * sum,
                }
    }
}

impl SpectralModel {
    /// The least distance of a vector of which no more is known than its squared length.
    #[cold]
    fn least(&self, query: &SpectralQuery, squared: f32) -> f32 {
        let length = squared.sqrt() * self.unit;
        let apart = query.length - length;
        // One that is longer than 16 bits hold may be as long as the query.
        let apart = if squared >= HALF_MAX { apart.min(0.0) } else { apart };
        let apart = apart * apart;
        match query.metric {
            DistanceMetric::L2 => apart,
            DistanceMetric::Cosine => 0.5 * apart,
            DistanceMetric::InnerProduct => query.base - query.length * length,
        }
    }
}

impl Part {
    /// Centroids as bytes.
    fn of(centroids: &Centroids) -> Part {
        let largest = centroids.columns.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let scale = (largest / 127.0).clamp(f32::MIN_POSITIVE, f32::MAX);
        let columns = centroids.columns.iter().map(|x| (x / scale).round() as i8).collect();
        Part { dim: centroids.dim, scale, columns }
    }

    fn nearest(&self, point: &[f32], distances: &mut Vec<f32>) -> u8 {
        distances.clear();
        distances.resize(CENTROIDS, 0.0);
        for (value, column) in point.iter().zip(self.columns.chunks_exact(CENTROIDS)) {
            let value = value / self.scale;
            for (distance, center) in distances.iter_mut().zip(column) {
                let apart = value - f32::from(*center);
                *distance += apart * apart;
            }
        }
        let mut best = (0, f32::INFINITY);
        for (c, distance) in distances.iter().enumerate() {
            if *distance < best.1 {
                best = (c, *distance);
            }
        }
        best.0 as u8
    }

    /// The inner product of a point and a centroid.
    fn product(&self, point: &[f32], code: u8) -> f32 {
        let center = self.columns.chunks_exact(CENTROIDS).map(|column| column[usize::from(code)]);
        self.scale * point.iter().zip(center).map(|(x, c)| x * f32::from(c)).sum::<f32>()
    }

    /// The squared length of a centroid.
    fn squared(&self, code: u8) -> f32 {
        let center = self.columns.chunks_exact(CENTROIDS).map(|column| column[usize::from(code)]);
        self.scale * self.scale * center.map(|c| f32::from(c) * f32::from(c)).sum::<f32>()
    }

    /// The inner product of a point and each centroid. REQUIRES: `out` is zero.
    fn products(&self, point: &[f32], out: &mut [f32]) {
        for (value, column) in point.iter().zip(self.columns.chunks_exact(CENTROIDS)) {
            let value = value * self.scale;
            for (out, center) in out.iter_mut().zip(column) {
                *out += value * f32::from(*center);
            }
        }
    }
}

/// How many directions each of `parts` parts has. REQUIRES: there are no more parts than variances.
fn shares(variances: &[f32], parts: usize) -> Vec<usize> {
    let bits = |level: f32| -> Vec<f32> {
        // The first is the largest; a direction without variance gets nothing.
        let bits = |variance: &f32| (0.5 * (variance / variances[0]).log2() + level).max(0.0);
        variances.iter().map(bits).collect()
    };
    // How many bits the first direction has: the more, the more directions have some.
    let (mut low, mut high) = (0.0f32, 64.0f32);
    for _ in 0..40 {
        let level = (low + high) / 2.0;
        match bits(level).iter().sum::<f32>() > PART_BITS * parts as f32 {
            true => high = level,
            false => low = level,
        }
    }
    let bits = bits(low);
    let used = bits.iter().filter(|bits| **bits > 0.0).count().max(parts);
    let each = bits.iter().sum::<f32>() / parts as f32;
    let (mut dims, mut at, mut taken) = (Vec::with_capacity(parts), 0, 0.0f32);
    for part in 1..=parts {
        let from = at;
        let last = used - (parts - part);
        while at < last
            && (at == from || part == parts || taken + bits[at] / 2.0 < each * part as f32)
        {
            taken += bits[at];
            at += 1;
        }
        dims.push(at - from);
    }
    dims
}

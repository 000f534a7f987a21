//! A metric and the kernels that compute it.

use super::kernel::half::to_f32;
use super::kernel::{Kernels, kernels};
use super::metric::DistanceMetric;
use super::rows::Rows;

/// Distances of prepared vectors (see [`DistanceMetric::prepare`]) under one metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measure {
    pub(super) metric: DistanceMetric,
    kernels: &'static Kernels,
}

impl Measure {
    pub(super) fn new(metric: DistanceMetric) -> Measure {
        Measure { metric, kernels: kernels() }
    }

    /// The instructions that distances are computed with.
    pub(super) fn instructions(self) -> &'static str {
        self.kernels.name
    }

    /// The distance that an inner product, or a squared distance under L2, amounts to.
    #[inline]
    pub(super) fn distance(self, sum: f32) -> f32 {
        match self.metric {
            DistanceMetric::L2 => sum,
            // Rounding may leave the product of two unit vectors a little above 1.
            DistanceMetric::Cosine => (1.0 - sum).max(0.0),
            DistanceMetric::InnerProduct => -sum,
        }
    }

    /// The distance of two vectors.
    pub(super) fn pair(self, a: &[f32], b: &[f32]) -> f32 {
        self.distance(match self.metric {
            DistanceMetric::L2 => (self.kernels.l2)(a, b),
            _ => (self.kernels.dot)(a, b),
        })
    }

    /// The distances of a vector and the rows `slots`; the same bits as [`Measure::pair`] gives.
    #[inline]
    pub(super) fn rows(self, a: &[f32], rows: &Rows<f32>, slots: &[u32], out: &mut Vec<f32>) {
        out.resize(slots.len(), 0.0);
        if self.metric == DistanceMetric::L2 {
            return (self.kernels.l2_rows)(a, rows, slots, out);
        }
        (self.kernels.dot_rows)(a, rows, slots, out);
        for distance in out {
            *distance = self.distance(*distance);
        }
    }
}

/// A query to be compared with vectors in 16-bit floats that are `scale` times as large.
#[derive(Debug, Default)]
pub(super) struct ScaledQuery {
    scale: f32,
    scaled: Vec<f32>,
    /// The query as it is, if it is so much longer than the vectors that the product would
    /// overflow.
    doubles: Vec<f64>,
}

impl ScaledQuery {
    /// Beyond this the squares of scaled queries overflow.
    const LENGTH_MAX: f64 = (1u64 << 60) as f64;

    /// Makes a prepared query ready.
    pub(super) fn set(&mut self, query: &[f32], scale: f32) {
        self.scale = scale;
        self.scaled.clear();
        self.doubles.clear();
        let squared: f64 = query.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        match squared.sqrt() * f64::from(scale) <= ScaledQuery::LENGTH_MAX {
            true => self.scaled.extend(query.iter().map(|x| x * scale)),
            false => self.doubles.extend(query.iter().map(|x| f64::from(*x))),
        }
    }

    /// Its distance from a vector.
    #[inline(always)]
    pub(super) fn distance(&self, measure: Measure, vector: &[u16]) -> f32 {
        if self.scaled.is_empty() {
            return self.far_distance(measure, vector);
        }
        let sum = match measure.metric {
            DistanceMetric::L2 => (measure.kernels.l2_f16)(&self.scaled, vector),
            _ => (measure.kernels.dot_f16)(&self.scaled, vector),
        };
        measure.distance(sum / self.scale / self.scale)
    }

    #[cold]
    fn far_distance(&self, measure: Measure, vector: &[u16]) -> f32 {
        let scale = f64::from(self.scale);
        let vector = vector.iter().map(|half| f64::from(to_f32(*half)) / scale);
        let pairs = self.doubles.iter().zip(vector);
        let sum: f64 = match measure.metric {
            DistanceMetric::L2 => pairs.map(|(a, b)| (a - b) * (a - b)).sum(),
            _ => pairs.map(|(a, b)| a * b).sum(),
        };
        measure.distance(sum as f32)
    }
}

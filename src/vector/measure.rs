//! A metric and the kernels that compute it.

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

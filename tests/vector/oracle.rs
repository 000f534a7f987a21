//! Exact answers in double precision, and how an answer is judged.

use arqondb::engine::vector::{DistanceMetric, Hit};
use std::collections::BTreeMap;

/// Vectors by id.
#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) vectors: BTreeMap<u64, Vec<f32>>,
    /// How far off a distance may be, besides rounding: what is lost by keeping vectors in 16 bits.
    pub(crate) slack: f64,
}

pub(crate) fn distance(metric: DistanceMetric, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    match metric {
        DistanceMetric::L2 => pairs().map(|(a, b)| (a - b) * (a - b)).sum(),
        DistanceMetric::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        DistanceMetric::InnerProduct => -dot(a, b),
    }
}

impl Oracle {
    pub(crate) fn of(rows: impl Iterator<Item = (u64, Vec<f32>)>) -> Oracle {
        Oracle { vectors: rows.collect(), slack: 0.0 }
    }

    /// The `k` nearest of those that `accept` takes.
    pub(crate) fn nearest(
        &self,
        metric: DistanceMetric,
        query: &[f32],
        k: usize,
        accept: impl Fn(u64) -> bool,
    ) -> Vec<(f64, u64)> {
        let taken = self.vectors.iter().filter(|(id, _)| accept(**id));
        let mut all: Vec<(f64, u64)> =
            taken.map(|(id, vector)| (distance(metric, query, vector), *id)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        all.truncate(k);
        all
    }

    /// Asserts what holds of every answer: in order, no id twice, every distance the right one,
    /// nothing that was removed or is not accepted, as many hits as there can be. Gives the share
    /// of hits that are as near as the `k` nearest are.
    pub(crate) fn judge(
        &self,
        metric: DistanceMetric,
        query: &[f32],
        k: usize,
        accept: impl Fn(u64) -> bool,
        hits: &[Hit],
    ) -> f64 {
        let truth = self.nearest(metric, query, k, &accept);
        assert_eq!(hits.len(), truth.len(), "as many hits as match, up to {k}");
        let Some((worst, _)) = truth.last().copied() else { return 1.0 };
        for pair in hits.windows(2) {
            let order = pair[0].distance.total_cmp(&pair[1].distance);
            assert!(order.then(pair[0].id.cmp(&pair[1].id)).is_lt(), "{pair:?}");
        }
        let mut good = 0;
        for hit in hits {
            let vector = self.vectors.get(&hit.id).expect("a hit is in the index");
            assert!(accept(hit.id), "{} does not match", hit.id);
            let exact = distance(metric, query, vector);
            let size = 1.0 + vector.iter().chain(query).map(|x| f64::from(*x).powi(2)).sum::<f64>();
            let slack = (1e-6 + self.slack) * size;
            assert!((f64::from(hit.distance) - exact).abs() <= slack, "{hit:?} is at {exact}");
            good += usize::from(exact <= worst + slack);
        }
        good as f64 / truth.len() as f64
    }
}

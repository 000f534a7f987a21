//! k-means (Lloyd 1982), for points of few dimensions and up to 256 centroids.

use crate::env::Rng;

/// Centroids, laid out for comparing one point with all: `columns[d * count + c]` is dimension `d`
/// of centroid `c`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::vector) struct Centroids {
    pub(in crate::vector) dim: usize,
    pub(in crate::vector) count: usize,
    pub(in crate::vector) columns: Vec<f32>,
}

impl Centroids {
    /// Places `count` centroids among `points`, in `rounds` rounds at most. With fewer different
    /// points than centroids some centroids are equal. REQUIRES: there is a point.
    pub(super) fn train(
        points: &[f32],
        dim: usize,
        count: usize,
        rounds: usize,
        rng: &mut Rng,
    ) -> Centroids {
        let rows = points.len() / dim;
        let mut centroids = Centroids { dim, count, columns: vec![0.0; dim * count] };
        for c in 0..count {
            // Evenly spread over the points, each at a random place of its stretch.
            let (from, to) = (c * rows / count, ((c + 1) * rows / count).max(c * rows / count + 1));
            let at = from + rng.below((to - from) as u64) as usize;
            centroids.set(c, &points[at.min(rows - 1) * dim..][..dim]);
        }
        let mut nearest = vec![(0, 0.0); rows];
        let mut distances = Vec::new();
        for _ in 0..rounds {
            let mut is_changed = false;
            for (point, nearest) in points.chunks_exact(dim).zip(&mut nearest) {
                let found = centroids.nearest(point, &mut distances);
                is_changed |= found != *nearest;
                *nearest = found;
            }
            centroids.move_to_means(points, &nearest);
            if !is_changed {
                break;
            }
        }
        centroids
    }

    /// Moves each centroid to the mean of its points; one without points to the point that is
    /// farthest from its own.
    fn move_to_means(&mut self, points: &[f32], nearest: &[(usize, f32)]) {
        let mut sums = vec![0.0f64; self.dim * self.count];
        let mut members = vec![0usize; self.count];
        for (point, (c, _)) in points.chunks_exact(self.dim).zip(nearest) {
            members[*c] += 1;
            for (sum, value) in sums[c * self.dim..].iter_mut().zip(point) {
                *sum += f64::from(*value);
            }
        }
        let mut farthest: Vec<usize> = Vec::new();
        for c in 0..self.count {
            if members[c] == 0 {
                if farthest.is_empty() {
                    farthest = (0..nearest.len()).collect();
                    farthest.sort_by(|a, b| nearest[*a].1.total_cmp(&nearest[*b].1).then(b.cmp(a)));
                }
                if let Some(at) = farthest.pop() {
                    let point = points[at * self.dim..][..self.dim].to_vec();
                    self.set(c, &point);
                }
                continue;
            }
            let mean = |sum: &f64| (sum / members[c] as f64) as f32;
            let mean: Vec<f32> = sums[c * self.dim..][..self.dim].iter().map(mean).collect();
            self.set(c, &mean);
        }
    }

    fn set(&mut self, c: usize, point: &[f32]) {
        for (d, value) in point.iter().enumerate() {
            self.columns[d * self.count + c] = *value;
        }
    }

    /// The squared distance of a point from each centroid.
    pub(super) fn squared_distances(&self, point: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        for (value, column) in point.iter().zip(self.columns.chunks_exact(self.count)) {
            for (out, center) in out.iter_mut().zip(column) {
                *out += (value - center) * (value - center);
            }
        }
    }

    /// The inner product of a point and each centroid.
    pub(super) fn products(&self, point: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        for (value, column) in point.iter().zip(self.columns.chunks_exact(self.count)) {
            for (out, center) in out.iter_mut().zip(column) {
                *out += value * center;
            }
        }
    }

    /// The nearest centroid and its squared distance; of equal ones the first.
    pub(super) fn nearest(&self, point: &[f32], distances: &mut Vec<f32>) -> (usize, f32) {
        distances.resize(self.count, 0.0);
        self.squared_distances(point, distances);
        let mut best = (0, f32::INFINITY);
        for (c, distance) in distances.iter().enumerate() {
            if *distance < best.1 {
                best = (c, *distance);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separate_groups_get_a_centroid_each() {
        let mut rng = Rng::new(1);
        let mut points = Vec::new();
        for i in 0..200u32 {
            let group = (i % 4) as f32 * 100.0;
            points.extend([group + rng.below(10) as f32, -group]);
        }
        let centroids = Centroids::train(&points, 2, 8, 20, &mut rng);
        let mut distances = Vec::new();
        for point in points.chunks_exact(2) {
            assert!(centroids.nearest(point, &mut distances).1 < 50.0);
        }
    }

    #[test]
    fn fewer_points_than_centroids_do_no_harm() {
        let centroids = Centroids::train(&[1.0, 2.0, 5.0], 1, 16, 5, &mut Rng::new(2));
        let mut distances = Vec::new();
        for point in [1.0, 2.0, 5.0] {
            assert_eq!(centroids.nearest(&[point], &mut distances).1, 0.0);
        }
    }
}

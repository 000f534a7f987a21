//! Short codes that stand for vectors.
//!
//! In reading order:
//! - `kmeans`: centroids among points.
//! - `pq`: a number of a centroid for each part of a vector.
//! - `sq8`: a byte for each number, with bounds that always hold.
//! - `rotation`: makes all dimensions alike.
//! - `rabitq`: some bits for each dimension of a rotated vector.

mod kmeans;
pub(super) mod pq;
pub(super) mod rabitq;
pub(super) mod rotation;
pub(super) mod sq8;

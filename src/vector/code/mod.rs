//! Short codes that stand for vectors.
//!
//! In reading order:
//! - `kmeans`: centroids among points.
//! - `pq`: a number of a centroid for each part of a vector.
//! - `sq8`: a byte for each number, with bounds that always hold.
//! - `rotation`: makes all dimensions alike.
//! - `rabitq`: some bits for each dimension of a rotated vector.
//! - `signs`: one bit for each dimension of 32 rotated vectors around another.
//! - `principal`: the directions in which vectors vary most.
//! - `spectral`: product codes along these, the shortest that find their way.

mod kmeans;
pub(super) mod pq;
mod principal;
pub(super) mod rabitq;
pub(super) mod rotation;
pub(super) mod signs;
pub(super) mod spectral;
pub(super) mod sq8;

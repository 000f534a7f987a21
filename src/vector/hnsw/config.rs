//! The settings of a graph.

use crate::base::{Error, Result};
use crate::vector::filter::EF_MAX;
use crate::vector::metric::{DIM_MAX, DistanceMetric};

/// The largest number of links of a node on an upper level.
const M_MAX: usize = 512;

/// The settings of an [`HnswIndex`](super::HnswIndex).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HnswConfig {
    /// Floats in a vector, from 1 to 65,536.
    pub dim: usize,
    /// How distances are measured.
    pub metric: DistanceMetric,
    /// Links of a node, twice as many on the lowest level; 2 to 512, by default 16. More links
    /// find more of the true neighbours in data of many dimensions, and take 8 bytes each.
    pub m: usize,
    /// Candidates among which the links of a new node are chosen; by default 200.
    pub ef_construction: usize,
    /// Candidates that a search keeps, unless it says otherwise; by default 64. More find more of
    /// the true neighbours, and take longer.
    pub ef_search: usize,
    /// What the levels of nodes are drawn from. The same insertions with the same seed make the
    /// same graph.
    pub seed: u64,
}

impl HnswConfig {
    /// The default settings for vectors of `dim` floats.
    pub fn new(dim: usize, metric: DistanceMetric) -> HnswConfig {
        HnswConfig { dim, metric, m: 16, ef_construction: 200, ef_search: 64, seed: 0 }
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
            ("m", self.m, 2, M_MAX),
            ("ef_construction", self.ef_construction, 1, EF_MAX),
            ("ef_search", self.ef_search, 1, EF_MAX),
        ];
        for (name, value, min, max) in settings {
            if !(min..=max).contains(&value) {
                let message = format!("{name} is {value}; it may be from {min} to {max}");
                return Err(Error::invalid(message));
            }
        }
        Ok(())
    }
}

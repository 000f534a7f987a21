//! The settings of an index in postings.

use crate::base::{Error, Result};
use crate::vector::code::spectral::SpectralModel;
use crate::vector::filter::EF_MAX;
use crate::vector::metric::DistanceMetric;

/// The most floats of a vector: its codes are learnt from a matrix of so many squared.
const DIM_MAX: usize = 4096;
const CODE_BYTES_MAX: usize = 256;
const CODE_BYTES_MIN: usize = 8;

/// The settings of a [`SpfreshIndex`](super::SpfreshIndex).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpfreshConfig {
    /// Floats in a vector, from 1 to 4,096.
    pub dim: usize,
    /// How distances are measured.
    pub metric: DistanceMetric,
    /// Bytes of a vector's code, from 1 to 256; a seventh of `dim` if `None`. More find the same
    /// neighbours with fewer vectors fetched.
    pub code_bytes: Option<usize>,
    /// Bytes that a posting has at most before it is split, from 1,024 to 65,536; by default 4,096,
    /// a page.
    pub posting_bytes: usize,
    /// Postings that a vector at a border has an entry in, from 1 to 8; by default 4.
    pub replicas_max: usize,
    /// Postings that a search reads, unless it says otherwise; by default 64.
    pub ef_search: usize,
}

impl SpfreshConfig {
    /// The default settings for vectors of `dim` floats.
    pub fn new(dim: usize, metric: DistanceMetric) -> SpfreshConfig {
        let (code_bytes, posting_bytes) = (None, 4096);
        SpfreshConfig { dim, metric, code_bytes, posting_bytes, replicas_max: 4, ef_search: 64 }
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
            ("code_bytes", self.code_bytes(), 1, CODE_BYTES_MAX),
            ("posting_bytes", self.posting_bytes, 1024, 65_536),
            ("replicas_max", self.replicas_max, 1, 8),
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

    /// Bytes of memory that it takes to learn codes from so many vectors, beside the vectors.
    pub fn learning_bytes(&self, vectors: usize) -> usize {
        SpectralModel::training_bytes(self.dim, self.code_bytes(), vectors)
    }

    /// Bytes of a code.
    pub(super) fn code_bytes(&self) -> usize {
        let by_itself = (self.dim / 7).clamp(CODE_BYTES_MIN, CODE_BYTES_MAX).min(self.dim);
        self.code_bytes.unwrap_or(by_itself)
    }
}

//! How much indexes of vectors may take, how large their parts get, and their answers.

use crate::base::{Error, ErrorKind, Result};
use crate::op::vector::{ANSWER_BYTES_MAX, StoredVector};

/// Bytes of the vectors that codes are learnt from.
const LEARNT_BYTES: u64 = 64 << 20;

/// Settings of a shard's indexes of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VectorLimits {
    /// The most memory that they may take together, in bytes: beyond it no vector is taken in.
    pub bytes_max: u64,
    /// Threads that a graph is built on, at least 1.
    pub threads: usize,
    /// Vectors of the graph that grows at which it is sealed. All other sizes follow from it.
    pub segment_rows: usize,
}

impl Default for VectorLimits {
    fn default() -> VectorLimits {
        VectorLimits { bytes_max: u64::MAX, threads: 1, segment_rows: 131_072 }
    }
}

impl VectorLimits {
    /// Vectors compared one by one from which they are linked.
    pub(super) fn link_at(&self) -> usize {
        (self.segment_rows / 16).clamp(4, 256)
    }

    /// The most vectors that may wait to be linked before writers are stopped.
    pub(super) fn waiting_max(&self) -> usize {
        self.segment_rows.saturating_mul(8).max(64)
    }

    /// Dead nodes that a graph may have however small it is.
    pub(super) fn dead_min(&self) -> usize {
        (self.segment_rows / 16).clamp(4, 256)
    }

    /// Vectors from which the graph that grows is written down.
    pub(super) fn kept_min(&self) -> usize {
        (self.segment_rows / 4).clamp(8, 4_096)
    }

    /// Vectors of the graph that grows at which those of kind `spfresh` are put into postings.
    pub(super) fn posted_at(&self) -> usize {
        (self.segment_rows / 4).max(4)
    }

    /// Bytes that a posting may have.
    pub(super) fn posting_bytes(&self) -> usize {
        (self.segment_rows * 16).clamp(1_024, 4_096)
    }

    /// Bytes of changed postings that are kept in memory, about.
    pub(super) fn posted_bytes(&self) -> usize {
        (self.segment_rows * 32).clamp(1_024, 4 << 20)
    }

    /// The most vectors of so many floats that codes are learnt from: they are in memory, twice.
    pub(super) fn learnt_max(&self, dim: u32) -> usize {
        self.learnt_anew_max(dim).min(self.segment_rows).max(4)
    }

    /// As [`VectorLimits::learnt_max`], of vectors that are in postings already.
    pub(super) fn learnt_anew_max(&self, dim: u32) -> usize {
        let bytes = (self.bytes_max / 8).clamp(1 << 20, LEARNT_BYTES);
        (bytes as usize / (4 * dim as usize)).max(4)
    }

    /// Vectors that are sealed where nothing was written for a while, so that they take their form.
    pub(super) fn idle_min(&self) -> usize {
        (self.segment_rows / 16).clamp(4, 1_024)
    }
}

/// What an answer has room for.
#[derive(Debug, Default)]
pub(super) struct AnswerRoom {
    bytes: usize,
}

impl AnswerRoom {
    /// Takes a vector that is given whole.
    ///
    /// # Errors
    /// `Refused` if the answer gets too large.
    pub(super) fn take(&mut self, stored: &StoredVector) -> Result<()> {
        self.bytes += stored.vector.as_bytes().len() + stored.payload.len();
        if self.bytes > ANSWER_BYTES_MAX {
            let message = format!(
                "the vectors and payloads of this answer take more than {} MiB; ask for fewer at a \
                 time",
                ANSWER_BYTES_MAX >> 20
            );
            return Err(Error::new(ErrorKind::Refused, message));
        }
        Ok(())
    }
}

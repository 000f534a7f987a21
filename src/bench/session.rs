//! The seam between a workload and what is measured: the embedded engine, a Redis server.

use crate::base::Result;
use crate::bench::{Data, Op};
use crate::env::Rng;

/// Something to measure: the embedded engine or a Redis server.
pub trait Target: Sync {
    /// A client of it.
    fn open(&self) -> Result<Box<dyn Session>>;
}

/// One client. It answers a batch before it takes the next.
pub trait Session: Send {
    /// Executes a batch and waits for its answers.
    fn run(&mut self, batch: &[Op], data: &Data, rng: &mut Rng) -> Result<Tally>;
}

/// What a batch met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Reads that found no key.
    pub missing: u64,
    /// Keys and values read and written, in bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.missing += other.missing;
        self.bytes += other.bytes;
    }
}

//! The catalog as what a group replicates.

use crate::base::Result;
use crate::catalog::{Catalog, encode_answer};
use crate::raft::Memory;

/// The catalog in memory.
#[derive(Debug, Default)]
pub(super) struct CatalogMemory(pub(super) Catalog);

impl Memory for CatalogMemory {
    fn apply(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        self.0.apply_bytes(command).map(|answer| encode_answer(&answer))
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
        self.0 = Catalog::restore(snapshot)?;
        Ok(())
    }
}

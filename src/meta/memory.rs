//! The catalog as what a group replicates.

use crate::base::Result;
use crate::catalog::{Catalog, encode_answer};
use crate::raft::Memory;
use tokio::sync::watch;

/// The catalog in memory.
#[derive(Debug)]
pub(super) struct CatalogMemory {
    pub(super) catalog: Catalog,
    /// Its revision, told whenever it has changed.
    revisions: watch::Sender<u64>,
}

impl CatalogMemory {
    pub(super) fn new(revisions: watch::Sender<u64>) -> CatalogMemory {
        CatalogMemory { catalog: Catalog::new(), revisions }
    }

    fn tell(&self) {
        let now = self.catalog.view().revision();
        self.revisions.send_if_modified(|told| std::mem::replace(told, now) != now);
    }
}

impl Memory for CatalogMemory {
    fn apply(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        let answer = self.catalog.apply_bytes(command)?;
        self.tell();
        Ok(encode_answer(&answer))
    }

    fn snapshot(&self) -> Vec<u8> {
        self.catalog.snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
        self.catalog = Catalog::restore(snapshot)?;
        self.tell();
        Ok(())
    }
}

//! The slow check, of an engine that is open.

use crate::base::Result;
use crate::lsm::check::{CheckReport, check_state};
use crate::lsm::engine::{Engine, lock};

impl Engine {
    /// Checks everything on disk against the manifest, while reads and writes go on. Slow: it
    /// reads every sstable. What is in memtables is not looked at.
    ///
    /// # Errors
    /// What the disk answers; damage is in the report.
    pub fn check(&self) -> Result<CheckReport> {
        let inner = &self.inner;
        // The views keep the files of this moment.
        let (state, views) = {
            let manifest = lock(&inner.manifest);
            let views: Vec<_> = inner.all_trees().iter().map(|tree| tree.view()).collect();
            (manifest.state().clone(), views)
        };
        let report = check_state(&inner.disk, &inner.options.dir, &state, &inner.cache);
        drop(views);
        report
    }
}

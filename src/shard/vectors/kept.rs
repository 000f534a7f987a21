//! The graph that grows, written down so that a start need not link all of it anew.

use crate::shard::vectors::index::State;
use crate::shard::vectors::segment::Row;
use crate::shard::vectors::sorted::SortedRows;
use std::sync::Arc;

/// A file of the graph that grows.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) number: u64,
    pub(super) rows: Arc<SortedRows>,
    /// Nodes that stand in it, those among them that are dead or free.
    pub(super) slots: usize,
    pub(super) file_bytes: u64,
    /// Vectors that had been put into the graph.
    pub(super) linked: usize,
}

impl State {
    /// Rows of the graph that grows.
    pub(super) fn fresh_rows(&self) -> SortedRows {
        let seq = |id: u64| self.seqs.get(&id).copied().unwrap_or_default();
        let mut rows: Vec<Row> = self.fresh.ids().map(|id| (id, seq(id))).collect();
        rows.sort_unstable();
        SortedRows::of(rows)
    }

    /// Vectors that were put into the graph that grows since it was last written down.
    pub(super) fn changed_since_kept(&self) -> usize {
        self.linked - self.kept.as_ref().map_or(0, |kept| kept.linked)
    }

    /// Whether most of that file is of vectors that are gone, and what would be written now is smaller.
    pub(super) fn is_kept_hollow(&self) -> bool {
        let kept = self.kept.as_ref().map_or(0, |kept| kept.slots);
        let most = 2 * self.fresh.len() + self.limits.dead_min();
        !self.fresh.is_empty() && kept > most && self.fresh.slots() <= most
    }

    /// Whether there are files of it, or are to be.
    pub(super) fn has_files(&self) -> bool {
        self.kept.is_some() || !self.segments.is_empty() || self.posted.is_some()
    }

    /// The graph that grew stands in a file, written when it had been sealed so often. Another may have
    /// taken its place since.
    pub(super) fn set_kept(&mut self, file: Kept, seals: u64) {
        if self.seals == seals {
            self.kept = Some(file);
        }
    }
}

//! The window: recent changes, so that a subscriber goes on where it stopped.

use crate::base::{Error, ErrorKind, Result};
use crate::catalog::event::Change;
use crate::catalog::limits::WINDOW_WEIGHT_MAX;
use std::collections::VecDeque;

/// The changes of the revisions behind `floor`, without holes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Window {
    pub(super) floor: u64,
    pub(super) changes: VecDeque<Change>,
    weight: usize,
}

impl Window {
    /// The changes of a snapshot, as they were.
    pub(super) fn restored(floor: u64, changes: Vec<Change>) -> Window {
        let mut window = Window { floor, ..Window::default() };
        changes.into_iter().for_each(|change| window.push(change));
        window
    }

    /// Adds the next change; the oldest leave until the rest fit. One change that is alone too
    /// large leaves at once.
    pub(super) fn push(&mut self, change: Change) {
        self.weight += change.weight();
        self.changes.push_back(change);
        while self.weight > WINDOW_WEIGHT_MAX
            && let Some(oldest) = self.changes.pop_front()
        {
            self.weight -= oldest.weight();
            self.floor = oldest.revision;
        }
    }

    /// The changes behind `revision`.
    pub(super) fn since(&self, revision: u64) -> Result<impl Iterator<Item = &Change>> {
        let newest = self.floor + self.changes.len() as u64;
        if revision < self.floor {
            let message = format!(
                "changes up to revision {} are collected; take a full copy, then follow from there",
                self.floor
            );
            return Err(Error::new(ErrorKind::Compacted, message));
        }
        if revision > newest {
            let message =
                format!("this replica is at revision {newest} only; ask again, or another");
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(self.changes.iter().skip((revision - self.floor) as usize))
    }
}

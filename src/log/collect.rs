//! Giving segments back that no group needs.
//!
//! The states that stand in them are appended anew, what must outlive them is made durable (states,
//! for an older one of the slot may stand in what goes, and truncations: an entry that one voids
//! may go only when it is voided for good), and only then the files go, oldest first. What else was
//! written need not be durable first: nobody needs what goes, and a log may end anywhere behind
//! what was synced.

use crate::base::Result;
use crate::log::record::{Position, Record, RecordRef};
use crate::log::segment::Segment;
use crate::log::{Inner, lock, read};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard};

impl Inner {
    /// Retires the oldest segments as far as nobody needs them.
    pub(super) fn collect(self: &Arc<Self>) -> Result<()> {
        let _one_at_a_time = lock(&self.collecting);
        let mut writer = self.writer.lock();
        let unneeded = writer.retention.unneeded();
        let Some(&newest) = unneeded.last() else { return Ok(()) };
        // Under the lock: a state set meanwhile must not be overwritten by its older self.
        let mut states: Vec<Record> = Vec::new();
        for position in writer.retention.states_up_to(newest) {
            states.push(self.read(position)?);
        }
        let records: Vec<RecordRef<'_>> = states.iter().map(Record::as_ref).collect();
        // One by one, so that together they may exceed what one append takes.
        for record in &records {
            self.append_locked(&mut writer, std::slice::from_ref(record), 0, None)?;
        }
        let must_stay = writer.retention.last_to_outlive();
        drop(writer);
        if let Some(position) = must_stay {
            self.sync_to(position)?;
        }
        for number in unneeded {
            self.retire(number)?;
        }
        Ok(())
    }

    fn retire(&self, number: u32) -> Result<()> {
        let taken = self.segments_mut().remove(&number);
        if let Some(segment) = taken {
            // What the device has not yet would be written to it only to be written over.
            let is_clean = segment.number < self.durable().segment();
            if let Err(e) = self.supply.retire(&segment, is_clean) {
                // It stays, and so do those behind it: a log has no holes.
                self.keep_segment(segment);
                return Err(e);
            }
            self.supply.sync_names().map_err(|e| self.poison(&e))?;
        }
        self.writer.lock().retention.forget(number);
        Ok(())
    }

    pub(super) fn read(&self, position: Position) -> Result<Record> {
        read::record(&self.segments, position, self.written())
    }

    pub(super) fn segments(&self) -> RwLockReadGuard<'_, BTreeMap<u32, Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn segments_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<u32, Arc<Segment>>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep_segment(&self, segment: Arc<Segment>) {
        self.segments_mut().insert(segment.number, segment);
    }

    /// Bytes of the `count` oldest segments.
    pub(super) fn bytes_of_oldest(&self, count: usize) -> u64 {
        self.segments().values().take(count).map(|segment| segment.bytes).sum()
    }
}

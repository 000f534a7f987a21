//! Giving segments back that no group needs.
//!
//! The states that stand in them are appended anew, everything written so far is made durable (so
//! that a truncation outlives the entries it voids), and only then the files go, oldest first.

use crate::base::Result;
use crate::log::record::{Position, Record, RecordRef};
use crate::log::segment::Segment;
use crate::log::{Inner, lock, read};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

impl Inner {
    /// Retires the oldest segments as far as nobody needs them.
    pub(super) fn collect(self: &Arc<Self>) -> Result<()> {
        let _one_at_a_time = lock(&self.collecting);
        let mut writer = lock(&self.writer);
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
        drop(writer);
        self.sync_to(self.written())?;
        for number in unneeded {
            self.retire(number)?;
        }
        Ok(())
    }

    fn retire(&self, number: u32) -> Result<()> {
        let removed = {
            let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
            segments.remove(&number)
        };
        if let Some(segment) = removed {
            self.supply.retire(segment)?;
        }
        lock(&self.writer).retention.forget(number);
        Ok(())
    }

    pub(super) fn read(&self, position: Position) -> Result<Record> {
        read::record(&self.segments, position, self.written())
    }

    pub(super) fn segments(&self) -> RwLockReadGuard<'_, BTreeMap<u32, Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep_segment(&self, segment: Arc<Segment>) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.insert(segment.number, segment);
    }

    /// Bytes of the segments numbered `number` and of the next ones, `count` in all.
    pub(super) fn bytes_of_oldest(&self, count: usize) -> u64 {
        self.segments().values().take(count).map(|segment| segment.bytes).sum()
    }
}

//! The slots of a shard, which a split changes.
//!
//! A request is sent to a shard because of the slots of its keys, and waits for many things before
//! it is evaluated: until the replica is ready to lead, for its turn, for room. A split that was
//! applied meanwhile has given its keys away, and what it wrote would be in no shard. So whoever may
//! write holds the slots while it is evaluated and placed, at the version that it was sent for.

use crate::base::{Error, ErrorKind, Result};
use crate::shard::Shard;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

/// Shared by those who need the slots as they are.
#[derive(Debug, Default)]
pub(crate) struct Slots(RwLock<()>);

/// The slots stay as they are as long as it lives.
#[derive(Debug)]
pub(crate) struct SlotsHeld<'a>(#[expect(dead_code, reason = "held")] RwLockReadGuard<'a, ()>);

/// Nobody holds the slots as long as it lives.
#[derive(Debug)]
pub(crate) struct SlotsChanging<'a>(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'a, ()>);

impl Shard {
    /// The version of the shard's slots, from 1: each split makes the next.
    pub(crate) fn epoch(&self) -> u64 {
        self.engine().part_epoch().max(1)
    }

    /// Holds the shard's slots at version `epoch`. Waits for nothing.
    ///
    /// # Errors
    /// `Unavailable` if they are of another version, or are changing.
    pub(crate) fn hold_slots(&self, epoch: u64) -> Result<SlotsHeld<'_>> {
        let held = match self.slots.0.try_read() {
            Ok(held) => Some(held),
            Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let held = held.filter(|_| self.epoch() == epoch);
        held.map(SlotsHeld).ok_or_else(split_meanwhile)
    }

    /// Waits until nobody holds the slots. Whoever does waits for nothing that is behind the entry
    /// which changes them: nothing is placed between its proposal and its end.
    pub(crate) fn change_slots(&self) -> SlotsChanging<'_> {
        SlotsChanging(self.slots.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one is told that came for the slots before.
pub(crate) fn split_meanwhile() -> Error {
    Error::new(ErrorKind::Unavailable, "the shard was split meanwhile; try again")
}

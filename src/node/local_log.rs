//! The node's own log as a shard's log.
//!
//! At `os` and `interval` an entry is committed as soon as it is in the page cache, which is when
//! the append returns. At `always` it is committed when it is on the disk: whoever waits syncs for
//! everyone (group commit), then commits through the index that was synced.

use crate::base::{Error, GroupId, LogIndex, Result};
use crate::log::{Log, Position, RecordKind, RecordRef, SyncLevel};
use crate::shard::{self, Placed, Shard};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One group of the node's log.
pub struct LocalLog {
    log: Arc<Log>,
    group: GroupId,
    sync: SyncLevel,
    last: Mutex<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    index: LogIndex,
    position: Position,
}

impl LocalLog {
    /// The group's stream, to go on behind `last` (the last index recovered).
    pub fn new(log: Arc<Log>, group: GroupId, sync: SyncLevel, last: LogIndex) -> LocalLog {
        let position = log.written();
        LocalLog { log, group, sync, last: Mutex::new(Last { index: last, position }) }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl shard::Log for LocalLog {
    fn place(&self, batch: &[u8]) -> Result<Placed> {
        let mut last = self.last();
        let index = last.index.next();
        let record =
            RecordRef { group: self.group, kind: RecordKind::Entry, index, payload: batch };
        last.position = self.log.append(&[record])?;
        last.index = index;
        Ok(match self.sync {
            SyncLevel::Always => Placed::Pending(Some(index)),
            SyncLevel::Interval { .. } | SyncLevel::Os => Placed::Committed(index),
        })
    }

    fn drive(&self, shard: &Arc<Shard>, wait: bool) {
        let last = *self.last();
        if wait {
            settle(shard, last.index, self.log.sync_to(last.position));
        } else {
            let shard = shard.clone();
            let done = move |outcome| settle(&shard, last.index, outcome);
            self.log.on_durable(last.position, Box::new(done));
        }
    }
}

/// Commits what was synced, or fails all that is pending: a log that could not sync stays stopped.
fn settle(shard: &Arc<Shard>, index: LogIndex, outcome: Result<()>) {
    let committed = outcome.and_then(|()| shard.commit_through(index));
    if let Err(error) = committed {
        let stopped = Error::new(error.kind(), error.message());
        shard.fail_pending(&stopped, true);
    }
}

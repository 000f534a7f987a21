//! The node's own log as a shard's log.
//!
//! At `os` and `interval` an entry is committed as soon as it is in the page cache, which is when
//! the append returns. At `always` it is committed when it is on the disk: one who waits syncs for
//! everyone (group commit) and commits through the index that was synced.

use crate::base::{Error, GroupId, LogIndex, Result};
use crate::log::{Log, Position, RecordKind, RecordRef, SyncLevel};
use crate::node::turns::Turns;
use crate::shard::{self, Placed, Shard, Ticket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One group of the node's log.
pub struct LocalLog {
    log: Arc<Log>,
    group: GroupId,
    sync: SyncLevel,
    /// Where the last batch placed stands. Its position is stored before its index: whoever reads
    /// them the other way round syncs at least as far as the index says.
    last_position: AtomicU64,
    last_index: AtomicU64,
    turns: Turns<Ticket>,
}

impl LocalLog {
    /// The group's stream, to go on behind `last` (the last index recovered).
    pub fn new(log: Arc<Log>, group: GroupId, sync: SyncLevel, last: LogIndex) -> LocalLog {
        let (last_position, last_index) = (log.written().0.into(), last.0.into());
        LocalLog { log, group, sync, last_position, last_index, turns: Turns::default() }
    }

    /// The last batch placed: its index, and a position that is at least its.
    fn last(&self) -> (LogIndex, Position) {
        let index = LogIndex(self.last_index.load(Ordering::Acquire));
        (index, Position(self.last_position.load(Ordering::Acquire)))
    }
}

impl shard::Log for LocalLog {
    fn place(&self, batch: &[u8]) -> Result<Placed> {
        let index = LogIndex(self.last_index.load(Ordering::Relaxed)).next();
        let record =
            RecordRef { group: self.group, kind: RecordKind::Entry, index, payload: batch };
        let position = self.log.append(&[record])?;
        self.last_position.store(position.0, Ordering::Release);
        self.last_index.store(index.0, Ordering::Release);
        Ok(match self.sync {
            SyncLevel::Always => Placed::Pending(Some(index)),
            SyncLevel::Interval { .. } | SyncLevel::Os => Placed::Committed(index),
        })
    }

    fn drive(&self, shard: &Arc<Shard>) {
        let (index, position) = self.last();
        let shard = shard.clone();
        let done = move |outcome| settle(&shard, index, outcome);
        self.log.on_durable(position, Box::new(done));
    }

    fn drive_until(&self, shard: &Arc<Shard>, ticket: Ticket) {
        let sync = || {
            let (index, position) = self.last();
            settle(shard, index, self.log.sync_to(position));
        };
        self.turns.wait(ticket, |ticket| shard.is_pending(ticket), sync);
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

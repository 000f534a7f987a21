//! Cutting a group's log by size.
//!
//! Above [`GroupOptions::log_bytes`] the oldest entries go that no follower needs. What a follower
//! has not got is kept for it, and what lies behind a snapshot that is on its way; above
//! [`GroupOptions::log_bytes_max`] nothing is: who lags is sent a snapshot. What goes is in the
//! state machine's folder first.

use crate::base::{Error, ErrorKind, Result};
use crate::raft::machine::Machine;
use crate::raft::options::GroupOptions;
use crate::raft::replica::Replica;
use crate::raft::vocabulary::TypeConfig;
use openraft::Raft;
use openraft::async_runtime::WatchReceiver;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Time for what is applied to be brought into the folder.
const HOLD_PATIENCE: Duration = Duration::from_secs(10);

/// Keeps the log within its bounds until the group stops.
pub(crate) async fn run(
    raft: Raft<TypeConfig, Machine>,
    replica: Arc<Replica>,
    own: u64,
    options: GroupOptions,
) {
    let mut turns = tokio::time::interval(LOOK_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        replica.drop_idle_copy().await;
        let bytes = replica.store.bytes();
        if bytes <= options.log_bytes {
            continue;
        }
        let is_over = bytes > options.log_bytes_max;
        // Some room, so that not every turn cuts.
        let Some(upto) = replica.store.index_to_leave(options.log_bytes / 4 * 3) else { continue };
        if cut(&raft, &replica, own, upto, is_over).await.is_err() {
            return;
        }
    }
}

/// Cuts the log up to and with an entry, as far as followers do not need it, or whatever they
/// need.
pub(crate) async fn cut(
    raft: &Raft<TypeConfig, Machine>,
    replica: &Arc<Replica>,
    own: u64,
    mut upto: u64,
    whatever: bool,
) -> Result<()> {
    let stopped = |fatal: openraft::error::Fatal<TypeConfig>| {
        Error::new(ErrorKind::Unavailable, fatal.to_string())
    };
    let (applied, needed) = {
        let metrics = raft.metrics();
        let now = metrics.borrow_watched();
        let others = now.replication.iter().flatten().filter(|(id, _)| **id != own);
        // The entry that a follower has matched may go, those behind it not.
        let matched = others.map(|(_, at)| at.map_or(0, |at| at.index)).min();
        (now.last_applied.map_or(0, |id| id.index), matched)
    };
    upto = upto.min(applied);
    if !whatever {
        let copied = replica.copied().map(|index| index.0.saturating_sub(1));
        upto = upto.min(needed.unwrap_or(u64::MAX)).min(copied.unwrap_or(u64::MAX));
    }
    if upto == 0 || replica.store.purged().is_some_and(|purged| purged.index >= upto) {
        return Ok(());
    }
    replica.ask_to_hold(upto);
    raft.trigger().snapshot().await.map_err(stopped)?;
    let held = |m: &openraft::RaftMetrics<TypeConfig>| m.snapshot.is_some_and(|s| s.index >= upto);
    let wait = raft.wait(Some(HOLD_PATIENCE));
    // If it could not be, openraft cuts up to what is held.
    _ = wait.metrics(held, "what is cut is held").await;
    raft.trigger().purge_log(upto).await.map_err(stopped)
}

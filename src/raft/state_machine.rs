//! Committed entries applied to a shard.
//!
//! What has been applied is not written down entry by entry: the shard's tables hold everything up
//! to the index that the engine says it would replay from, and what came behind is in the log and
//! is applied again after a restart. The membership is kept in a slot of the log, written when one
//! is applied. Entries are purged only below what the tables hold, so the term at that point is
//! found in the log itself.

use crate::base::{LogIndex, Result};
use crate::raft::log_store::{LogStore, io_error};
use crate::raft::vocabulary::{Entry, LogId, Outcome, Payload, StoredMembership, TypeConfig};
use crate::shard::Shard;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use std::io;
use std::sync::Arc;

/// A shard as a group's state machine.
pub struct StateMachine {
    shard: Arc<Shard>,
    store: LogStore,
    last: Option<LogId>,
    membership: StoredMembership,
}

impl StateMachine {
    /// The state machine over `shard`, whose engine holds what its tables hold.
    pub fn new(shard: Arc<Shard>, store: LogStore) -> StateMachine {
        let held = shard.engine().replay_from();
        let saved = store.applied();
        let membership = saved.as_ref().map(|(_, m)| m.clone()).unwrap_or_default();
        let last = held.0.checked_sub(1).and_then(|index| store.log_id(index)).or_else(|| {
            let (last, _) = saved?;
            last.filter(|id| id.index < held.0)
        });
        StateMachine { shard, store, last, membership }
    }

    fn apply_entry(&mut self, entry: &Entry) -> Result<()> {
        match &entry.payload {
            Payload::Blank => {}
            Payload::Normal(proposal) => {
                self.shard.apply_entry(LogIndex(entry.log_id.index + 1), &proposal.parts()?)?;
            }
            Payload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                self.store.save_applied(Some(&entry.log_id), &self.membership)?;
            }
        }
        self.last = Some(entry.log_id);
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = ();
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + openraft::OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            self.apply_entry(&entry).map_err(io_error)?;
            if let Some(responder) = responder {
                responder.send(Outcome::default());
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<NoSnapshots> {
        None
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<TypeConfig>,
        _snapshot: (),
    ) -> io::Result<()> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, ()>>> {
        Ok(None)
    }
}

/// Replicas that catch up by snapshot come with the cluster; until then a group keeps its log,
/// and every attempt to build a snapshot is refused.
pub struct NoSnapshots;

impl RaftSnapshotBuilder<TypeConfig> for NoSnapshots {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, ()>> {
        Err(no_snapshots())
    }
}

fn no_snapshots() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this version ships no snapshots between replicas")
}

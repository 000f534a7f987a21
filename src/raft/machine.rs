//! A group's state as openraft drives it.

use crate::base::{Error, ErrorKind, LogIndex, Result};
use crate::raft::log_store::io_error;
use crate::raft::replica::{Replica, Staged};
use crate::raft::vocabulary::{
    Entry, LogId, Outcome, Payload, SnapshotMeta, StoredMembership, TypeConfig,
};
use futures::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::SnapshotOf;
use std::io;
use std::sync::Arc;

/// Entries applied, in order, to the state machine of a group.
pub struct Machine {
    replica: Arc<Replica>,
    last: Option<LogId>,
}

/// A snapshot, as it passes through openraft.
pub enum Shipment {
    /// What this node's folder holds; it is copied when it is sent.
    Ours,
    /// One that was received and checked.
    Received(Staged),
}

impl Machine {
    pub(crate) fn new(replica: Arc<Replica>) -> Result<Machine> {
        let last = replica.point()?.and_then(|meta| meta.last_log_id);
        Ok(Machine { replica, last })
    }

    async fn apply_entry(&mut self, entry: &Entry) -> Result<Outcome> {
        let parts = match &entry.payload {
            Payload::Blank | Payload::Membership(_) => Vec::new(),
            Payload::Normal(proposal) => proposal.parts()?,
        };
        let index = LogIndex(entry.log_id.index + 1);
        let outcome = match self.replica.is_slow(&parts) {
            false => self.replica.apply(index, &parts)?,
            true => {
                let replica = self.replica.clone();
                self.replica.work.run(move || replica.apply(index, &parts)).await?
            }
        };
        self.last = Some(entry.log_id);
        Ok(Outcome(outcome))
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Shipment;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last, self.replica.membership()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let outcome = self.apply_entry(&entry).await.map_err(io_error)?;
            if let Payload::Membership(membership) = &entry.payload {
                let kept = StoredMembership::new(Some(entry.log_id), membership.clone());
                let keep = || self.replica.keep(kept.clone());
                self.replica.store.with_room(keep).await.map_err(io_error)?;
            }
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { replica: self.replica.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        shipment: Shipment,
    ) -> io::Result<()> {
        let Shipment::Received(staged) = shipment else {
            let ours = "openraft asked to install what the state holds already";
            return Err(io_error(Error::new(ErrorKind::Internal, ours)));
        };
        let (replica, to) = (self.replica.clone(), meta.clone());
        let installed = self.replica.work.run(move || replica.install(&to, staged)).await;
        installed.map_err(io_error)?;
        self.last = meta.last_log_id;
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<SnapshotOf<TypeConfig, Shipment>>> {
        let point = self.replica.point().map_err(io_error)?;
        Ok(point.map(|meta| openraft::Snapshot { meta, snapshot: Shipment::Ours }))
    }
}

/// Brings what is applied into the state machine's folder: that is all a snapshot is before it is
/// sent.
pub struct Builder {
    replica: Arc<Replica>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Shipment;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, Shipment>> {
        let replica = self.replica.clone();
        // A full device, say, leaves what is held where it was; an error would end the group.
        _ = self.replica.work.run(move || replica.hold()).await;
        let meta = self.replica.point().map_err(io_error)?.unwrap_or_default();
        Ok(openraft::Snapshot { meta, snapshot: Shipment::Ours })
    }
}

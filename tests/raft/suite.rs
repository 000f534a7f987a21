//! openraft's own conformance suite over our log store. Its state machine part runs against a
//! state machine in memory: the suite writes entries that are no write batches.

use arqondb::base::GroupId;
use arqondb::env::SimDisk;
use arqondb::log::{Log, LogOptions, SyncLevel};
use arqondb::raft::vocabulary::{LogId, Outcome, Payload, StoredMembership, TypeConfig};
use arqondb::raft::{LogStore, Recovered};
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{OptionalSend, StorageError};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

type Snap = (Option<LogId>, StoredMembership);

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    last: Option<LogId>,
    membership: StoredMembership,
    snapshot: Option<Snap>,
}

impl RaftSnapshotBuilder<TypeConfig> for Memory {
    type SnapshotData = Snap;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, Snap>> {
        let mut inner = self.0.lock().unwrap();
        let data = (inner.last, inner.membership.clone());
        inner.snapshot = Some(data.clone());
        Ok(snapshot(data))
    }
}

fn snapshot(data: Snap) -> SnapshotOf<TypeConfig, Snap> {
    let meta = openraft::SnapshotMeta { last_log_id: data.0, last_membership: data.1.clone() };
    openraft::Snapshot { meta, snapshot: data }
}

impl RaftStateMachine<TypeConfig> for Memory {
    type SnapshotData = Snap;
    type SnapshotBuilder = Memory;

    async fn applied_state(&mut self) -> io::Result<Snap> {
        let inner = self.0.lock().unwrap();
        Ok((inner.last, inner.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let mut inner = self.0.lock().unwrap();
            if let Payload::Membership(m) = &entry.payload {
                inner.membership = StoredMembership::new(Some(entry.log_id), m.clone());
            }
            inner.last = Some(entry.log_id);
            if let Some(responder) = responder {
                responder.send(Outcome::default());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Memory {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        data: Snap,
    ) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        inner.last = meta.last_log_id;
        inner.membership = meta.last_membership.clone();
        inner.snapshot = Some(data);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, Snap>>> {
        Ok(self.0.lock().unwrap().snapshot.clone().map(snapshot))
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Memory> for Builder {
    async fn build(&self) -> Result<((), LogStore, Memory), StorageError<TypeConfig>> {
        let options = LogOptions {
            sync: SyncLevel::Always,
            segment_bytes: 64 << 10,
            threads: false,
            seed: Some(1),
            ..LogOptions::default()
        };
        let disk = SimDisk::new().shared();
        let log = Log::open(disk, Path::new("/log"), options, &mut |_, _| Ok(())).unwrap();
        let store = LogStore::new(Arc::new(log), GroupId(3), Recovered::default());
        Ok(((), store, Memory::default()))
    }
}

#[test]
fn the_log_store_passes_openrafts_suite() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Suite::test_all(Builder)).unwrap();
}

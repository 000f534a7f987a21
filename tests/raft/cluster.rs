//! Three replicas in one process: simulated disks, a network of function calls, paused time.

use arqondb::base::{CfId, GroupId, Result, Seq};
use arqondb::env::sim_disk::Crash;
use arqondb::env::{Pool, SimDisk};
use arqondb::log::{Log, LogOptions, SyncLevel};
use arqondb::lsm::{BlockCache, Engine, EngineOptions, IterOptions};
use arqondb::op::{Request, Response};
use arqondb::raft::vocabulary::TypeConfig;
use arqondb::raft::{LogStore, Recovered, StateMachine, proposals};
use arqondb::shard::{Shard, ShardOptions};
use arqondb::{Error, ErrorKind};
use bytes::Bytes;
use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use openraft::{Config, EmptyNode, OptionalSend, Raft, RaftNetworkFactory, RaftNetworkV2};
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Group = Raft<TypeConfig, StateMachine>;
/// Every record of a replica: family and key to value and sequence number.
pub(crate) type State = BTreeMap<(CfId, Bytes), (Bytes, Seq)>;

const GROUP: GroupId = GroupId(7);
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Default)]
struct Router(Arc<Mutex<BTreeMap<u64, Group>>>);

impl Router {
    fn get(&self, id: u64) -> std::result::Result<Group, RPCError<TypeConfig>> {
        let found = self.0.lock().unwrap().get(&id).cloned();
        found.ok_or_else(|| Unreachable::from_string(format!("{id} is down")).into())
    }
}

struct Link {
    router: Router,
    target: u64,
}

impl RaftNetworkFactory<TypeConfig> for Router {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Link {
        Link { router: self.clone(), target }
    }
}

fn remote(error: impl std::fmt::Display) -> RPCError<TypeConfig> {
    Unreachable::from_string(error).into()
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> std::result::Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        tokio::task::yield_now().await;
        self.router.get(self.target)?.append_entries(rpc).await.map_err(remote)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> std::result::Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        tokio::task::yield_now().await;
        self.router.get(self.target)?.vote(rpc).await.map_err(remote)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> std::result::Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        tokio::task::yield_now().await;
        self.router.get(self.target)?.pre_vote(rpc).await.map_err(remote)
    }

    async fn full_snapshot(
        &mut self,
        _vote: VoteOf<TypeConfig>,
        _snapshot: SnapshotOf<TypeConfig, ()>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> std::result::Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(Unreachable::from_string("no snapshots are sent").into())
    }
}

struct Replica {
    disk: SimDisk,
    shard: Arc<Shard>,
    raft: Group,
    session: tokio::sync::watch::Receiver<u64>,
}

/// A cluster of replicas numbered from 1.
pub(crate) struct Cluster {
    router: Router,
    replicas: BTreeMap<u64, Replica>,
    down: BTreeMap<u64, SimDisk>,
}

impl Cluster {
    pub(crate) async fn start(size: u64, _seed: u64) -> Cluster {
        let mut cluster = Cluster {
            router: Router::default(),
            replicas: BTreeMap::new(),
            down: (1..=size).map(|id| (id, SimDisk::new())).collect(),
        };
        for id in 1..=size {
            cluster.restart(id).await;
        }
        let members: BTreeMap<u64, EmptyNode> = (1..=size).map(|id| (id, EmptyNode {})).collect();
        cluster.replicas[&1].raft.initialize(members).await.unwrap();
        cluster.leader().await;
        cluster
    }

    /// Starts a replica on the disk it left behind.
    pub(crate) async fn restart(&mut self, id: u64) {
        let disk = self.down.remove(&id).unwrap();
        let replica = open(id, disk, self.router.clone()).await;
        self.router.0.lock().unwrap().insert(id, replica.raft.clone());
        self.replicas.insert(id, replica);
    }

    /// Ends a replica, and leaves the disk as the crash would.
    pub(crate) async fn crash(&mut self, id: u64, crash: Crash) {
        let replica = self.replicas.remove(&id).unwrap();
        self.router.0.lock().unwrap().remove(&id);
        // From this moment nothing it does reaches its disk.
        replica.disk.stop_at(Some(0));
        let after = replica.disk.crash(crash);
        _ = replica.raft.shutdown().await;
        drop(replica);
        self.down.insert(id, after);
    }

    pub(crate) async fn stop(self) {
        for replica in self.replicas.into_values() {
            replica.raft.shutdown().await.unwrap();
        }
    }

    /// A replica that leads and takes batches, once there is one.
    pub(crate) async fn leader(&self) -> u64 {
        let opened = self.replicas.iter().map(|(id, replica)| {
            let mut session = replica.session.clone();
            Box::pin(async move {
                let open = session.wait_for(|session| *session != 0).await.is_ok();
                if !open {
                    std::future::pending::<()>().await;
                }
                *id
            })
        });
        let found = tokio::time::timeout(PATIENCE, futures::future::select_all(opened)).await;
        found.expect("a leader is found").0
    }

    /// Executes on whoever leads; tries again as long as nothing was proposed, and when the
    /// outcome is unknown, with the same request id.
    pub(crate) async fn execute(&self, request: impl Fn() -> Request) -> Result<Response> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let leader = self.leader().await;
            match self.execute_on(leader, request()).await {
                Err(e)
                    if tokio::time::Instant::now() < deadline
                        && matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Unknown) =>
                {
                    tokio::task::yield_now().await;
                }
                outcome => return outcome,
            }
        }
    }

    pub(crate) async fn execute_on(&self, id: u64, request: Request) -> Result<Response> {
        let shard = &self.replicas[&id].shard;
        let answer = shard.execute(request, 1_000_000)?;
        let (send, receive) = tokio::sync::oneshot::channel();
        shard.when_committed(answer.rests_on, move |outcome| _ = send.send(outcome));
        let outcome = tokio::time::timeout(Duration::from_secs(5), receive).await;
        match outcome {
            Ok(Ok(outcome)) => outcome.map(|()| answer.response),
            _ => Err(Error::new(ErrorKind::Unknown, "no outcome in time")),
        }
    }

    pub(crate) fn flush(&self, id: u64) {
        if let Some(replica) = self.replicas.get(&id) {
            replica.shard.engine().flush_all().unwrap();
        }
    }

    /// What each replica holds, once all have applied as much.
    pub(crate) async fn converge(&self) -> BTreeMap<u64, State> {
        let leader = self.leader().await;
        // A last entry that all must apply, so that nothing can still be on its way.
        let last = self.replicas[&leader].raft.write_blank().await.unwrap().log_id.index;
        for replica in self.replicas.values() {
            let wait = replica.raft.wait(Some(PATIENCE));
            wait.applied_index_at_least(Some(last), "the last entry").await.unwrap();
        }
        self.replicas.iter().map(|(id, replica)| (*id, state(&replica.shard))).collect()
    }
}

fn state(shard: &Shard) -> State {
    let mut state = State::new();
    for cf in [CfId::DEFAULT, CfId::EXPIRY, CfId::DEDUP] {
        let mut iter = shard.engine().iter(cf, IterOptions::default()).unwrap();
        iter.first().unwrap();
        while iter.valid() {
            let key = (cf, Bytes::copy_from_slice(iter.key()));
            state.insert(key, (Bytes::copy_from_slice(iter.value()), iter.seq()));
            iter.next().unwrap();
        }
    }
    state
}

async fn open(id: u64, disk: SimDisk, router: Router) -> Replica {
    let mut recovered = Recovered::default();
    let options = LogOptions {
        sync: SyncLevel::Always,
        segment_bytes: 64 << 10,
        threads: false,
        seed: Some(id),
        ..LogOptions::default()
    };
    let log = Log::open(disk.shared(), Path::new("/log"), options, &mut |position, record| {
        if record.group == GROUP { recovered.take(position, &record) } else { Ok(()) }
    })
    .unwrap();
    let engine = Engine::open(
        disk.shared(),
        Pool::manual(),
        BlockCache::new(1 << 20),
        EngineOptions::new("/shard"),
    )
    .unwrap();
    let (shard_log, proposer) = proposals();
    let options = ShardOptions { count_keys: true, seed: id };
    let shard = Shard::new(engine, Box::new(shard_log), options);
    let store = LogStore::new(Arc::new(log), GROUP, recovered);
    let machine = StateMachine::new(shard.clone(), store.clone());
    let config = Config {
        heartbeat_interval: 50,
        election_timeout_min: 300,
        election_timeout_max: 500,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        snapshot_policy: openraft::SnapshotPolicy::Never,
        ..Config::default()
    };
    let config = Arc::new(config.validate().unwrap());
    let raft = Raft::new(id, config, router, store, machine).await.unwrap();
    let session = proposer.sessions();
    tokio::spawn(proposer.run(raft.clone(), Arc::downgrade(&shard)));
    Replica { disk, shard, raft, session }
}

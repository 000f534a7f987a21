//! Nodes in one process: simulated disks, a simulated network, paused time.
// tidy: sleeps because time is simulated

use crate::raft::net::Net;
use arqondb::base::{CfId, GroupId, Result, Seq};
use arqondb::env::sim_disk::Crash;
use arqondb::env::{Pool, Rng, SimDisk};
use arqondb::log::{Log, LogOptions, SyncLevel};
use arqondb::lsm::{BlockCache, Engine, EngineOptions, IterOptions};
use arqondb::op::{Request, Response};
use arqondb::raft::{
    Consistency, Group, GroupOptions, GroupStatus, Host, HostOptions, Memory, MemoryMachine,
    NodeId, Recoveries, ShardHandle, Work,
};
use arqondb::shard::{Shard, ShardOptions};
use arqondb::{Error, ErrorKind};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Every record of a replica: family and key to value and sequence number.
pub(crate) type State = BTreeMap<(CfId, Bytes), (Bytes, Seq)>;

pub(crate) const GROUP: GroupId = GroupId(7);
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A state without anything in it.
struct Nothing;

impl Memory for Nothing {
    fn apply(&mut self, _command: &[u8]) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }

    fn restore(&mut self, _snapshot: &[u8]) -> Result<()> {
        Ok(())
    }
}

struct Node {
    disk: SimDisk,
    log: Arc<Log>,
    host: Host,
    group: Group,
    shard: ShardHandle,
    /// A replica that was started before the group's.
    first: Option<(Group, ShardHandle)>,
    /// The node's timer of groups that hibernate.
    _timer: JoinSet<()>,
}

/// Opens the shard of a node.
fn opener(
    disk: SimDisk,
    id: u64,
) -> impl Fn(&Path, arqondb::raft::RaftLog) -> Result<Arc<Shard>> + Send + Sync {
    move |dir, log| {
        let (pool, cache) = (Pool::manual(), BlockCache::new(1 << 20));
        let options = EngineOptions {
            memtable_budget_bytes: 4 << 20,
            write_buffer_bytes: 1 << 20,
            ..EngineOptions::new(dir)
        };
        let engine = Engine::open(disk.shared(), pool, cache, options)?;
        Ok(Shard::new(
            engine,
            Box::new(log),
            ShardOptions { count_keys: true, seed: id, ..ShardOptions::default() },
        ))
    }
}

/// A cluster of nodes numbered from 1; the replica on a node is numbered 100 above it.
pub(crate) struct Cluster {
    pub(crate) net: Net,
    pub(crate) options: GroupOptions,
    pub(crate) snapshot_rate: u64,
    /// Another group, and the number of its replica above the node's, which nodes that start again
    /// start before theirs.
    pub(crate) before: Option<(GroupId, u64)>,
    nodes: BTreeMap<u64, Node>,
    down: BTreeMap<u64, SimDisk>,
    starts: u64,
    last: u64,
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

pub(crate) fn replica(node: u64) -> u64 {
    node + 100
}

impl Cluster {
    pub(crate) async fn start(size: u64, seed: u64) -> Cluster {
        Cluster::start_with(size, seed, GroupOptions::default()).await
    }

    pub(crate) async fn start_with(size: u64, seed: u64, options: GroupOptions) -> Cluster {
        arqondb::raft::chance::choose_chance(seed);
        let mut cluster = Cluster {
            net: Net::new(seed),
            options,
            snapshot_rate: 0,
            before: None,
            nodes: BTreeMap::new(),
            down: BTreeMap::new(),
            starts: seed << 8,
            last: 0,
        };
        for _ in 0..size {
            cluster.add_node().await;
        }
        let voters = (1..=size).map(replica).collect();
        cluster.nodes[&1].group.initialize(voters).await.unwrap();
        cluster.leader().await;
        cluster
    }

    /// A new node with an empty replica; gives its number.
    pub(crate) async fn add_node(&mut self) -> u64 {
        self.last += 1;
        self.down.insert(self.last, SimDisk::new());
        self.open(self.last, true).await.unwrap();
        self.last
    }

    /// Another group on all nodes, led by the first, which has taken one command and takes no more.
    pub(crate) async fn add_idle_group(&mut self, idle: GroupId) {
        let nodes: Vec<u64> = self.nodes.keys().copied().collect();
        let mut groups = Vec::new();
        for id in &nodes {
            let node = &self.nodes[id];
            let machine = MemoryMachine::new(node.disk.shared(), Nothing);
            let options = self.options.clone();
            let created = node.host.create(idle, replica(*id), options, Box::new(machine));
            let group = created.await.unwrap();
            group.set_places(nodes.iter().map(|id| (replica(*id), NodeId(*id))));
            groups.push(group);
        }
        groups[0].initialize(nodes.iter().map(|id| replica(*id)).collect()).await.unwrap();
        let leads = |s: &GroupStatus| s.leader.is_some() && s.applied.is_some();
        for group in &groups {
            group.wait_until(leads, PATIENCE).await.unwrap();
        }
    }

    /// Starts a node on the disk it left behind.
    pub(crate) async fn restart(&mut self, id: u64) {
        self.open(id, false).await.unwrap();
    }

    async fn open(&mut self, id: u64, create: bool) -> Result<()> {
        let disk = self.down.remove(&id).unwrap();
        self.starts += 1;
        let opened = self.try_open(id, disk.clone(), create).await;
        match opened {
            Ok(node) => {
                self.nodes.insert(id, node);
                self.spread_places();
                Ok(())
            }
            Err(error) => {
                self.net.detach(NodeId(id));
                self.down.insert(id, disk);
                Err(error)
            }
        }
    }

    /// As [`Cluster::restart`] of a node that may not be able to.
    pub(crate) async fn try_restart(&mut self, id: u64) -> Result<()> {
        self.open(id, false).await
    }

    async fn try_open(&self, id: u64, disk: SimDisk, create: bool) -> Result<Node> {
        let mut recovered = Recoveries::default();
        let options = LogOptions {
            sync: SyncLevel::Always,
            segment_bytes: 64 << 10,
            threads: false,
            seed: Some(id),
            ..LogOptions::default()
        };
        let mut take =
            |position, record: arqondb::log::RecordRef<'_>| recovered.take(position, &record);
        let log = Arc::new(Log::open(disk.shared(), Path::new("/log"), options, &mut take)?);
        let host_options = HostOptions {
            snapshot_bytes_per_second: self.snapshot_rate,
            log_bytes_max: 256 << 10,
            ..HostOptions::new("/groups", Work::Inline, self.starts)
        };
        let port = self.net.port(NodeId(id));
        let host = Host::new(host_options, disk.shared(), log.clone(), port, recovered)?;
        self.net.attach(NodeId(id), host.clone());
        let open = opener(disk.clone(), id);
        let options = self.options.clone();
        let every = options.election_max / 4;
        let mut first = None;
        if let Some((other, above)) = self.before {
            let is_new = host.replicas().iter().all(|(known, _)| *known != other);
            let (options, open) = (options.clone(), opener(disk.clone(), id));
            first = Some(host.start_shard(other, id + above, options, is_new, open).await?);
        }
        let (group, shard) = host.start_shard(GROUP, replica(id), options, create, open).await?;
        let (mut timer, timed) = (JoinSet::new(), host.clone());
        timer.spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                timed.hibernate();
            }
        });
        Ok(Node { disk, log, host, group, shard, first, _timer: timer })
    }

    /// Stops a node's replica and begins it again in the same process.
    pub(crate) async fn begin_again(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.host.stop(GROUP).await;
        let (open, options) = (opener(node.disk.clone(), id), self.options.clone());
        let begun = node.host.start_shard(GROUP, replica(id), options, false, open).await;
        (node.group, node.shard) = begun.unwrap();
        self.spread_places();
    }

    /// Starts the replica of another shard's group on a node: the one that is there, or an empty one.
    pub(crate) async fn start_other(
        &self,
        id: u64,
        group: GroupId,
        replica: u64,
    ) -> Result<(Group, ShardHandle)> {
        let node = &self.nodes[&id];
        if let Some((known, shard)) = node.first.as_ref().filter(|(known, _)| known.id() == group) {
            return Ok((known.clone(), shard.clone()));
        }
        let is_new = node.host.replicas().iter().all(|(known, _)| *known != group);
        let open = opener(node.disk.clone(), id);
        node.host.start_shard(group, replica, self.options.clone(), is_new, open).await
    }

    pub(crate) fn shard(&self, id: u64) -> Arc<Shard> {
        self.nodes[&id].shard.get().unwrap()
    }

    fn spread_places(&self) {
        for node in self.nodes.values() {
            node.group.set_places((1..=self.last).map(|id| (replica(id), NodeId(id))));
        }
    }

    /// Ends a node, and leaves the disk as the crash would.
    pub(crate) async fn crash(&mut self, id: u64, crash: Crash) {
        let node = self.nodes.remove(&id).unwrap();
        self.net.detach(NodeId(id));
        // From this moment nothing it does reaches its disk.
        node.disk.stop_at(Some(0));
        let after = node.disk.crash(crash);
        node.host.stop_all().await;
        drop(node);
        self.down.insert(id, after);
        self.tell_lost(id);
    }

    /// A node ends in order.
    pub(crate) async fn shut_down(&mut self, id: u64) {
        let node = self.nodes.remove(&id).unwrap();
        node.host.stop_all().await;
        self.net.detach(NodeId(id));
        let disk = node.disk.clone();
        drop(node);
        self.down.insert(id, disk.crash(Crash::Process));
        self.tell_lost(id);
    }

    /// A node that is down never comes back.
    pub(crate) fn forget(&mut self, id: u64) {
        self.down.remove(&id);
    }

    /// The disk of a node that is down.
    pub(crate) fn disk(&mut self, id: u64) -> &mut SimDisk {
        self.down.get_mut(&id).unwrap()
    }

    /// The disk of a node that runs.
    pub(crate) fn live_disk(&self, id: u64) -> &SimDisk {
        &self.nodes[&id].disk
    }

    fn tell_lost(&self, id: u64) {
        self.nodes.values().for_each(|node| node.host.lost(NodeId(id)));
    }

    pub(crate) async fn stop(self) {
        for node in self.nodes.into_values() {
            node.host.stop_all().await;
        }
    }

    pub(crate) fn group(&self, id: u64) -> &Group {
        &self.nodes[&id].group
    }

    pub(crate) fn host(&self, id: u64) -> &Host {
        &self.nodes[&id].host
    }

    pub(crate) fn status(&self, id: u64) -> GroupStatus {
        self.nodes[&id].group.status()
    }

    pub(crate) fn log_bytes_on_disk(&self, id: u64) -> u64 {
        self.nodes[&id].log.bytes_on_disk()
    }

    pub(crate) fn running(&self) -> BTreeSet<u64> {
        self.nodes.keys().copied().collect()
    }

    /// A node whose replica leads and takes batches, once there is one.
    pub(crate) async fn leader(&self) -> u64 {
        self.leader_among(&self.running()).await
    }

    pub(crate) async fn leader_among(&self, among: &BTreeSet<u64>) -> u64 {
        let opened = among.iter().map(|id| {
            let mut session = self.nodes[id].group.sessions().unwrap();
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
        self.execute_among(&self.running(), request).await
    }

    pub(crate) async fn execute_among(
        &self,
        among: &BTreeSet<u64>,
        request: impl Fn() -> Request,
    ) -> Result<Response> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut turn = 0;
        loop {
            // Somebody may still think that it leads: ask others too.
            let leaders: Vec<u64> = match tokio::time::Instant::now() < deadline {
                true => among.iter().copied().filter(|id| self.leads(*id)).collect(),
                false => Vec::new(),
            };
            let leader = match leaders.len() {
                0 => self.leader_among(among).await,
                n => leaders[turn % n],
            };
            turn += 1;
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

    fn leads(&self, id: u64) -> bool {
        self.nodes[&id].group.sessions().is_some_and(|session| *session.borrow() != 0)
    }

    pub(crate) async fn execute_on(&self, id: u64, request: Request) -> Result<Response> {
        let shard = self.nodes[&id].shard.get()?;
        let answer = shard.execute(request, 1_000_000)?;
        let (send, receive) = tokio::sync::oneshot::channel();
        shard.when_committed(answer.rests_on, move |outcome| _ = send.send(outcome));
        let outcome = tokio::time::timeout(Duration::from_secs(5), receive).await;
        match outcome {
            Ok(Ok(outcome)) => outcome.map(|()| answer.response),
            _ => Err(Error::new(ErrorKind::Unknown, "no outcome in time")),
        }
    }

    /// Reads on a node with a consistency.
    pub(crate) async fn read_on(
        &self,
        id: u64,
        consistency: Consistency,
        request: Request,
    ) -> Result<Response> {
        self.nodes[&id].group.ready_to_read(consistency, Duration::from_secs(2)).await?;
        self.nodes[&id].shard.get()?.execute(request, 1_000_000).map(|answer| answer.response)
    }

    /// The session of a node's replica, 0 if none is open.
    pub(crate) fn session(&self, id: u64) -> u64 {
        self.nodes[&id].group.sessions().map_or(0, |sessions| *sessions.borrow())
    }

    /// Evaluates a read on a node, which found itself in a session, and gives the answer as it does:
    /// once what it rests on has committed, and the node is sure that it has led all the while.
    pub(crate) async fn read_confirmed_on(
        &self,
        id: u64,
        session: u64,
        request: Request,
    ) -> Result<Response> {
        let group = &self.nodes[&id].group;
        let response = self.execute_on(id, request).await?;
        group
            .confirm_session(session, Consistency::Linearizable, Duration::from_secs(2), 1)
            .await?;
        Ok(response)
    }

    pub(crate) fn flush(&self, id: u64) {
        if let Some(node) = self.nodes.get(&id) {
            node.shard.get().unwrap().engine().flush_all().unwrap();
        }
    }

    pub(crate) fn held(&self, id: u64) -> u64 {
        self.nodes[&id].shard.get().unwrap().engine().replay_from().0
    }

    /// What each running replica holds, once all have applied as much.
    pub(crate) async fn converge(&self) -> BTreeMap<u64, State> {
        // A last entry that all must apply, so that nothing can still be on its way.
        let marker = || Request::Write {
            writes: vec![arqondb::op::kv::Write::Put {
                cf: CfId::DEFAULT,
                key: Bytes::from_static(b"the-last"),
                value: Bytes::from_static(b"of-all"),
                expiry: arqondb::op::kv::Expiry::Never,
            }],
            id: None,
        };
        self.execute(marker).await.unwrap();
        let leader = self.leader().await;
        let last = self.status(leader).last;
        for node in self.nodes.values() {
            node.group.wait_until(|status| status.applied >= last, PATIENCE).await.unwrap();
        }
        self.nodes.iter().map(|(id, node)| (*id, state(&node.shard.get().unwrap()))).collect()
    }
}

pub(crate) fn state(shard: &Shard) -> State {
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

/// What a client has been told, against what is there in the end.
#[derive(Default)]
pub(crate) struct Oracle {
    acknowledged: BTreeMap<String, String>,
    attempted: BTreeMap<String, BTreeSet<String>>,
    requests: u64,
}

impl Oracle {
    /// Writes a random key with a value of about `bytes`, and keeps what became of it.
    pub(crate) async fn write(
        &mut self,
        cluster: &Cluster,
        among: &BTreeSet<u64>,
        rng: &mut Rng,
        bytes: usize,
    ) {
        self.requests += 1;
        let key = format!("key-{}", rng.below(20));
        let value = format!("{}-{}", self.requests, "x".repeat(bytes));
        let request = self.requests;
        match cluster.execute_among(among, || put(&key, &value, request)).await {
            Ok(Response::Committed { .. }) => {
                self.attempted.remove(&key);
                self.acknowledged.insert(key, value);
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => _ = self.attempted.entry(key).or_default().insert(value),
        }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// All replicas hold the same, every acknowledged write among it.
    pub(crate) fn check(&self, seed: u64, states: &BTreeMap<u64, State>) {
        let (first, state) = states.iter().next().unwrap();
        for (id, other) in states {
            assert!(other == state, "seed {seed}: replica {id} differs from replica {first}");
        }
        for (key, value) in &self.acknowledged {
            let (found, _) = &state[&(CfId::DEFAULT, Bytes::copy_from_slice(key.as_bytes()))];
            let found = String::from_utf8_lossy(found).into_owned();
            let later = self.attempted.get(key).is_some_and(|values| values.contains(&found));
            assert!(&found == value || later, "seed {seed}: {key} is {found}, told {value}");
        }
    }
}

pub(crate) fn put(key: &str, value: &str, request: u64) -> Request {
    use arqondb::op::kv::{Expiry, RequestId, Write};
    let put = Write::Put {
        cf: CfId::DEFAULT,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        expiry: if request.is_multiple_of(7) { Expiry::InMs(1 << 40) } else { Expiry::Never },
    };
    Request::Write { writes: vec![put], id: Some(RequestId { client: 1, request }) }
}

//! Three nodes over gRPC on the loopback, on real disks and in real time.

use arqondb::base::{CfId, GroupId};
use arqondb::env::{Pool, RealDisk};
use arqondb::log::{Log, LogOptions, SyncLevel};
use arqondb::lsm::{BlockCache, Engine, EngineOptions};
use arqondb::op::{Request, Response};
use arqondb::raft::grpc::{GrpcPeers, Identity, Peer};
use arqondb::raft::{
    Class, Consistency, Group, GroupOptions, Host, HostOptions, NodeId, Peers, RaftLog, Recoveries,
    ShardHandle, Work,
};
use arqondb::shard::{Shard, ShardOptions};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(30);

struct Node {
    peers: GrpcPeers,
    host: Host,
    groups: Vec<(Group, ShardHandle)>,
    server: JoinHandle<()>,
}

impl Node {
    /// Node `id` in `dir`, with a replica of each group.
    async fn start(
        dir: &Path,
        id: u64,
        listener: tokio::net::TcpListener,
        known: &BTreeMap<NodeId, Peer>,
        groups: u64,
    ) -> Node {
        let disk: Arc<dyn arqondb::env::Disk> = Arc::new(RealDisk);
        let dir = dir.join(format!("node-{id}"));
        let identity = Identity { cluster: [1; 16], node: NodeId(id), incarnation: id * 1000 };
        let peers = GrpcPeers::new(identity);
        peers.set_peers(known.clone());
        let mut recovered = Recoveries::default();
        let mut take =
            |position, record: arqondb::log::RecordRef<'_>| recovered.take(position, &record);
        let options = LogOptions { sync: SyncLevel::Always, ..LogOptions::default() };
        let log = Arc::new(Log::open(disk.clone(), &dir.join("log"), options, &mut take).unwrap());
        let work = Work::Pool(Pool::threads("raft-work", 2));
        let options = HostOptions::new(dir.join("groups"), work, id);
        let port: Arc<dyn Peers> = Arc::new(peers.clone());
        let host = Host::new(options, disk.clone(), log, port, recovered).unwrap();
        peers.attach(host.clone());
        let serving = peers.clone();
        let server = tokio::spawn(async move {
            _ = serving.serve_on(listener, std::future::pending()).await;
        });
        let mut started = Vec::new();
        for group in 1..=groups {
            let (pool, cache) = (Pool::threads("bg", 1), BlockCache::new(1 << 20));
            let disk = disk.clone();
            let open = move |dir: &Path, log: RaftLog| {
                let options = EngineOptions::new(dir).with_memtable_budget(16 << 20);
                let engine = Engine::open(disk.clone(), pool.clone(), cache.clone(), options)?;
                Ok(Shard::new(engine, Box::new(log), ShardOptions { count_keys: false, seed: id }))
            };
            let options = GroupOptions::default();
            let started_one = host.start_shard(GroupId(group), id, options, true, open).await;
            let (group, shard) = started_one.unwrap();
            group.set_places((1..=3).map(|id| (id, NodeId(id))));
            started.push((group, shard));
        }
        Node { peers, host, groups: started, server }
    }

    async fn stop(self) {
        self.host.stop_all().await;
        self.server.abort();
    }
}

async fn leader(nodes: &[Node], group: usize) -> usize {
    let led = nodes.iter().enumerate().map(|(at, node)| {
        let mut session = node.groups[group].0.sessions().unwrap();
        Box::pin(async move {
            session.wait_for(|session| *session != 0).await.unwrap();
            at
        })
    });
    let found = tokio::time::timeout(PATIENCE, futures::future::select_all(led)).await;
    found.expect("a leader is found").0
}

async fn write(shard: &ShardHandle, key: String) -> bool {
    use arqondb::op::kv::{Expiry, Write};
    let put = Write::Put {
        cf: CfId::DEFAULT,
        key: key.into(),
        value: Bytes::from_static(&[7; 100]),
        expiry: Expiry::Never,
    };
    let shard = shard.get().unwrap();
    let request = Request::Write { writes: vec![put], id: None };
    let Ok(answer) = shard.execute(request, 1_000_000) else { return false };
    let (send, receive) = tokio::sync::oneshot::channel();
    shard.when_committed(answer.rests_on, move |outcome| _ = send.send(outcome));
    receive.await.unwrap().is_ok()
}

#[test]
fn three_nodes_over_grpc_commit_read_and_refuse_a_wiped_node() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let mut listeners = Vec::new();
        let mut known = BTreeMap::new();
        for id in 1..=3u64 {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            known.insert(NodeId(id), Peer { address, incarnation: id * 1000 });
            listeners.push(listener);
        }
        let mut nodes = Vec::new();
        for (id, listener) in (1..=3).zip(listeners) {
            nodes.push(Node::start(dir.path(), id, listener, &known, 2).await);
        }
        for (group, node) in nodes.iter().take(2).enumerate() {
            node.groups[group].0.initialize((1..=3).collect()).await.unwrap();
        }
        for group in 0..2 {
            let leads = leader(&nodes, group).await;
            let shard = &nodes[leads].groups[group].1;
            let writes = (0..300).map(|n| write(shard, format!("key-{n}")));
            let done = futures::future::join_all(writes).await;
            assert!(done.into_iter().all(|committed| committed));
            for node in &nodes {
                let (group, shard) = &node.groups[group];
                group.ready_to_read(Consistency::Linearizable, PATIENCE).await.unwrap();
                let key = Bytes::from_static(b"key-299");
                let get = Request::Get { cf: CfId::DEFAULT, key };
                let answer = shard.get().unwrap().execute(get, 1_000_000).unwrap();
                assert!(matches!(answer.response, Response::Entry(Some(_))));
            }
        }

        // One that comes back as another than it was is not spoken to, either way.
        let wiped = Identity { cluster: [1; 16], node: NodeId(3), incarnation: 1 };
        let wiped = GrpcPeers::new(wiped);
        wiped.set_peers(known.clone());
        wiped.attach(nodes[2].host.clone());
        let refused = async {
            // The stream is refused after it was asked for: then sending is.
            while wiped.send(NodeId(1), Class::Control, Bytes::from_static(b"x")).is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.expect("a wiped node is refused");
        _ = &nodes[0].peers;
        for node in nodes {
            node.stop().await;
        }
    });
}

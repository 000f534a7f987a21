//! Starting and stopping the parts of a cluster.

use arqondb::base::Result;
use arqondb::catalog::{Action, View};
use arqondb::gateway::{Gateway, GatewayOptions, RemoteShards};
use arqondb::meta::{Meta, MetaOptions};
use arqondb::node::cluster::{Member, MemberOptions};
use arqondb::rpc::cluster::MetaClient;
use arqondb::rpc::link::{Hello, Role, listen};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Longer than anything here takes on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// A part that listens.
struct Listening {
    address: String,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

async fn bind(address: &str) -> TcpListener {
    let until = soon();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(e) => assert!(Instant::now() < until, "{address}: {e}"),
        }
        tokio::task::yield_now().await;
    }
}

fn serve<S: arqondb::rpc::link::LinkService>(listener: TcpListener, part: S) -> Listening {
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(listen(listener, Arc::new(part), stopped));
    Listening { address, stop, task }
}

impl Listening {
    async fn end(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap().unwrap();
    }
}

pub(crate) struct Node {
    pub(crate) member: Member,
    link: Listening,
}

pub(crate) struct World {
    dir: TempDir,
    metas: Vec<(Meta, Listening)>,
    pub(crate) nodes: BTreeMap<usize, Node>,
    addresses: BTreeMap<usize, String>,
    change: Change,
}

/// What a node's options are changed by.
type Change = Box<dyn Fn(&mut MemberOptions) + Send + Sync>;

impl World {
    /// Metadata nodes that lead nothing yet, and no node.
    pub(crate) async fn start(metas: u64) -> World {
        let dir = tempfile::tempdir().unwrap();
        let mut listeners = Vec::new();
        for _ in 0..metas {
            listeners.push(bind("127.0.0.1:0").await);
        }
        let address = |l: &TcpListener| l.local_addr().unwrap().to_string();
        let peers: Vec<(u64, String)> = (1..).zip(listeners.iter().map(address)).collect();
        let mut started = Vec::new();
        for ((id, _), listener) in peers.iter().zip(listeners) {
            let folder = dir.path().join(format!("meta-{id}"));
            let options = MetaOptions::new(folder, *id, peers.clone());
            let meta = Meta::open(options).await.unwrap();
            started.push((meta.clone(), serve(listener, meta)));
        }
        let (nodes, addresses) = (BTreeMap::new(), BTreeMap::new());
        World { dir, metas: started, nodes, addresses, change: Box::new(|_| {}) }
    }

    pub(crate) fn meta_addresses(&self) -> Vec<String> {
        self.metas.iter().map(|(_, link)| link.address.clone()).collect()
    }

    pub(crate) fn client(&self) -> MetaClient {
        let hello = Hello::nameless(Role::Tool, [0; 16]);
        MetaClient::new(&self.meta_addresses(), hello).unwrap()
    }

    pub(crate) fn folder(&self, node: usize) -> std::path::PathBuf {
        self.dir.path().join(format!("node-{node}"))
    }

    /// Starts a node in its folder, where it was before.
    pub(crate) async fn start_node(&mut self, node: usize) {
        let address = self.addresses.get(&node).cloned().unwrap_or("127.0.0.1:0".into());
        let listener = bind(&address).await;
        let address = listener.local_addr().unwrap().to_string();
        let mut options = options(&self.folder(node), self.meta_addresses(), &address);
        (self.change)(&mut options);
        let member = Member::open(options).await.unwrap();
        let link = serve(listener, member.clone());
        self.addresses.insert(node, address);
        self.nodes.insert(node, Node { member, link });
    }

    /// Stops a node: what it leads is handed over.
    pub(crate) async fn stop_node(&mut self, node: usize) {
        let Node { member, link } = self.nodes.remove(&node).unwrap();
        member.stop().await;
        link.end().await;
    }

    /// `nodes` nodes, and `shards` shards with `replicas` replicas each.
    pub(crate) async fn cluster(metas: u64, nodes: usize, shards: u32, replicas: u32) -> World {
        World::cluster_with(metas, nodes, shards, replicas, |_| {}).await
    }

    /// As [`World::cluster`], with other options for its nodes.
    pub(crate) async fn cluster_with(
        metas: u64,
        nodes: usize,
        shards: u32,
        replicas: u32,
        change: impl Fn(&mut MemberOptions) + Send + Sync + 'static,
    ) -> World {
        let mut world = World { change: Box::new(change), ..World::start(metas).await };
        let client = world.client();
        let init = Action::InitCluster { id: [7; 16], name: "test".into(), version: 1 };
        client.propose(init, soon()).await.unwrap();
        for node in 1..=nodes {
            world.start_node(node).await;
        }
        let create = Action::CreateShards { count: shards, replicas, nodes: Vec::new() };
        client.propose(create, soon()).await.unwrap();
        let led = |view: &View| {
            view.shards().count() == shards as usize && view.shards().all(|s| s.leader.is_some())
        };
        client.wait_for(soon(), led).await.unwrap();
        world
    }

    pub(crate) fn gateway(&self) -> Arc<Gateway<RemoteShards>> {
        let shards = RemoteShards::new(self.client());
        Arc::new(Gateway::new(
            shards,
            GatewayOptions { call_timeout: PATIENCE, ..Default::default() },
        ))
    }
}

fn options(dir: &Path, meta: Vec<String>, address: &str) -> MemberOptions {
    MemberOptions { memory_budget_bytes: 64 << 20, ..MemberOptions::new(dir, meta, address) }
}

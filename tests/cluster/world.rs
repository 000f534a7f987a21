//! Starting and stopping the parts of a cluster.

use arqondb::base::Result;
use arqondb::catalog::{Action, View};
use arqondb::gateway::{Gateway, GatewayOptions, RemoteShards};
use arqondb::meta::{Meta, MetaOptions};
use arqondb::node::cluster::{Member, MemberOptions};
use arqondb::raft::{GroupOptions, GroupStatus};
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
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(listen(listener, Arc::new(part), stopped));
    Listening { stop, task }
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

/// How a world differs from the usual one.
#[derive(Clone)]
pub(crate) struct Ways {
    pub(crate) suspect_after: Duration,
    pub(crate) dead_after: Duration,
    pub(crate) group: GroupOptions,
    /// What a node's options are changed by.
    pub(crate) change: Change,
}

type Change = Arc<dyn Fn(&mut MemberOptions) + Send + Sync>;

impl Default for Ways {
    fn default() -> Ways {
        let options = MetaOptions::new("", 1, Vec::new());
        let (suspect_after, dead_after) = (options.suspect_after, options.dead_after);
        // Groups hibernate wherever a test leaves them alone.
        let hibernate_after = Duration::from_secs(1);
        let group = GroupOptions { hibernate_after, ..GroupOptions::default() };
        let change = Arc::new(|_: &mut MemberOptions| {});
        Ways { suspect_after, dead_after, group, change }
    }
}

impl Ways {
    /// Nodes are dead soon after they have fallen silent.
    pub(crate) fn hasty() -> Ways {
        let (suspect_after, dead_after) = (Duration::from_secs(2), Duration::from_secs(4));
        Ways { suspect_after, dead_after, ..Ways::default() }
    }
}

pub(crate) struct World {
    dir: TempDir,
    ways: Ways,
    metas: BTreeMap<u64, (Meta, Listening)>,
    meta_peers: Vec<(u64, String)>,
    pub(crate) nodes: BTreeMap<usize, Node>,
    addresses: BTreeMap<usize, String>,
}

impl World {
    /// Metadata nodes that lead nothing yet, and no node.
    pub(crate) async fn start(metas: u64, ways: Ways) -> World {
        let dir = tempfile::tempdir().unwrap();
        let mut listeners = Vec::new();
        for _ in 0..metas {
            listeners.push(bind("127.0.0.1:0").await);
        }
        let address = |l: &TcpListener| l.local_addr().unwrap().to_string();
        let peers: Vec<(u64, String)> = (1..).zip(listeners.iter().map(address)).collect();
        let mut world = World {
            dir,
            ways,
            metas: BTreeMap::new(),
            meta_peers: peers.clone(),
            nodes: BTreeMap::new(),
            addresses: BTreeMap::new(),
        };
        for ((id, _), listener) in peers.iter().zip(listeners) {
            world.open_meta(*id, listener).await;
        }
        world
    }

    async fn open_meta(&mut self, id: u64, listener: TcpListener) {
        let folder = self.dir.path().join(format!("meta-{id}"));
        let Ways { suspect_after, dead_after, .. } = self.ways;
        let until = soon();
        // One that was stopped lets go of its folder when its last call has ended.
        let meta = loop {
            let options = MetaOptions {
                suspect_after,
                dead_after,
                ..MetaOptions::new(&folder, id, self.meta_peers.clone())
            };
            match Meta::open(options).await {
                Ok(meta) => break meta,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            tokio::task::yield_now().await;
        };
        self.metas.insert(id, (meta.clone(), serve(listener, meta)));
    }

    /// Starts a metadata node that was stopped.
    pub(crate) async fn start_meta(&mut self, id: u64) {
        let at = self.meta_peers.iter().find(|(peer, _)| *peer == id).unwrap().1.clone();
        self.open_meta(id, bind(&at).await).await;
    }

    /// Starts a metadata node that may not be able to.
    pub(crate) async fn try_start_meta(&mut self, id: u64) -> Result<()> {
        let at = self.meta_peers.iter().find(|(peer, _)| *peer == id).unwrap().1.clone();
        let listener = bind(&at).await;
        let options = MetaOptions::new(self.meta_folder(id), id, self.meta_peers.clone());
        let meta = Meta::open(options).await?;
        self.metas.insert(id, (meta.clone(), serve(listener, meta)));
        Ok(())
    }

    /// Stops a metadata node.
    pub(crate) async fn stop_meta(&mut self, id: u64) {
        let (meta, link) = self.metas.remove(&id).unwrap();
        meta.stop().await;
        link.end().await;
    }

    pub(crate) async fn wait_for_leading_meta(&self) -> u64 {
        let until = soon();
        loop {
            if let Some(leads) = self.leading_meta() {
                return leads;
            }
            assert!(Instant::now() < until, "no metadata node leads");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until three replicas vote, the newest of a metadata node among them.
    pub(crate) async fn wait_for_meta_voters(&self, id: u64) {
        let meta = &self.metas[&id].0;
        let own = meta.group().replica();
        let is_settled = |s: &GroupStatus| {
            matches!(&s.voters[..], [voters] if voters.len() == 3 && voters.contains(&own))
                && s.learners.is_empty()
        };
        meta.group().wait_until(is_settled, PATIENCE).await.unwrap();
    }

    /// Opens another metadata node under a number, in a folder of its own.
    pub(crate) async fn open_double_meta(&self, id: u64) -> Result<Meta> {
        let folder = self.dir.path().join("double");
        Meta::open(MetaOptions::new(folder, id, self.meta_peers.clone())).await
    }

    pub(crate) fn meta_folder(&self, id: u64) -> std::path::PathBuf {
        self.dir.path().join(format!("meta-{id}"))
    }

    /// Waits until a metadata node has come to a revision.
    pub(crate) async fn meta_reaches(&self, id: u64, revision: u64) {
        let until = soon();
        while self.metas[&id].0.view().revision() < revision {
            assert!(Instant::now() < until, "{:?}", self.metas[&id].0.group().status());
            tokio::task::yield_now().await;
        }
    }

    /// The metadata node that leads, if one does now.
    pub(crate) fn leading_meta(&self) -> Option<u64> {
        self.metas.iter().find(|(_, (meta, _))| meta.leads()).map(|(id, _)| *id)
    }

    /// The metadata nodes that run.
    pub(crate) fn metas(&self) -> Vec<u64> {
        self.metas.keys().copied().collect()
    }

    pub(crate) fn meta_addresses(&self) -> Vec<String> {
        self.meta_peers.iter().map(|(_, address)| address.clone()).collect()
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
        self.try_start_node(node).await.unwrap();
    }

    /// As [`World::start_node`] of one that may not be able to.
    pub(crate) async fn try_start_node(&mut self, node: usize) -> Result<()> {
        let address = self.addresses.get(&node).cloned().unwrap_or("127.0.0.1:0".into());
        let listener = bind(&address).await;
        let address = listener.local_addr().unwrap().to_string();
        let mut options = options(&self.folder(node), self.meta_addresses(), &address, &self.ways);
        (self.ways.change)(&mut options);
        let member = Member::open(options).await?;
        let link = serve(listener, member.clone());
        self.addresses.insert(node, address);
        self.nodes.insert(node, Node { member, link });
        Ok(())
    }

    /// Stops a node: what it leads is handed over.
    pub(crate) async fn stop_node(&mut self, node: usize) {
        let Node { member, link } = self.nodes.remove(&node).unwrap();
        member.stop().await;
        link.end().await;
    }

    /// `nodes` nodes, and `shards` shards with `replicas` replicas each.
    pub(crate) async fn cluster(metas: u64, nodes: usize, shards: u32, replicas: u32) -> World {
        World::cluster_with(metas, nodes, shards, replicas, Ways::default()).await
    }

    /// As [`World::cluster`], in other ways.
    pub(crate) async fn cluster_with(
        metas: u64,
        nodes: usize,
        shards: u32,
        replicas: u32,
        ways: Ways,
    ) -> World {
        let mut world = World::start(metas, ways).await;
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

fn options(dir: &Path, meta: Vec<String>, address: &str, ways: &Ways) -> MemberOptions {
    MemberOptions {
        memory_budget_bytes: 64 << 20,
        heartbeat: Duration::from_millis(200),
        group: ways.group.clone(),
        ..MemberOptions::new(dir, meta, address)
    }
}

//! A cluster of processes.
// tidy: sleeps because it asks processes until they answer; they have no event to wait for

use crate::net::Net;
use crate::program::Process;
use arqondb::catalog::{Action, FORMAT_VERSION, NodeId, ShardId, View};
use arqondb::cli::demo::ports::free_ports;
use arqondb::gateway::{Node, RemoteShards};
use arqondb::op::route::SlotRange;
use arqondb::rpc::Client;
use arqondb::rpc::client::ClientOptions;
use arqondb::rpc::cluster::MetaClient;
use arqondb::rpc::link::{Hello, Role};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

/// Longer than anything here takes on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// What a client waits for an answer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3);

pub(crate) fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// One scenario at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What a cluster is made of.
pub(crate) struct Layout {
    pub(crate) metas: usize,
    pub(crate) nodes: usize,
    pub(crate) gateways: usize,
    pub(crate) shards: u32,
    /// Folders that lie elsewhere than the others.
    pub(crate) folders: BTreeMap<usize, PathBuf>,
    /// Hosts of their own for the nodes.
    pub(crate) net: Option<Arc<Net>>,
    /// Settings of the nodes: variable and value.
    pub(crate) settings: Vec<(&'static str, String)>,
}

impl Default for Layout {
    fn default() -> Layout {
        Layout {
            metas: 1,
            nodes: 3,
            gateways: 2,
            shards: 4,
            folders: BTreeMap::new(),
            net: None,
            settings: Vec::new(),
        }
    }
}

pub(crate) struct Cluster {
    pub(crate) metas: Vec<Process>,
    /// By number.
    pub(crate) nodes: BTreeMap<u64, Process>,
    pub(crate) gateways: Vec<Process>,
    pub(crate) meta: MetaClient,
    /// Where the gateways' gRPC doors are.
    pub(crate) doors: Vec<String>,
    /// Where the nodes answer clients themselves.
    pub(crate) own_doors: BTreeMap<u64, String>,
    _dir: TempDir,
    _alone: MutexGuard<'static, ()>,
}

fn strings<const N: usize>(args: [&str; N]) -> Vec<String> {
    args.map(str::to_string).to_vec()
}

impl Cluster {
    /// Starts the processes, and waits until every shard has a leader.
    pub(crate) async fn start(layout: Layout) -> Cluster {
        let alone = ALONE.lock().await;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let ports = free_ports(layout.metas + 2 * layout.gateways + 2 * layout.nodes).unwrap();
        let mut ports = ports.into_iter();
        let host = layout.net.as_ref().map_or("127.0.0.1".into(), |net| net.host());
        let mut local = || format!("{host}:{}", ports.next().unwrap());

        let meta_addresses: Vec<String> = (0..layout.metas).map(|_| local()).collect();
        let urls = |all: &[String]| {
            all.iter().map(|at| format!("http://{at}")).collect::<Vec<_>>().join(",")
        };
        let peers = urls(&meta_addresses);
        let metas = meta_addresses.iter().enumerate().map(|(i, at)| {
            let name = format!("meta-{}", i + 1);
            let folder = path(&name).display().to_string();
            let args = ["meta", "--dir", &folder, "--listen", at, "--peers", &peers];
            let mut args = strings(args);
            args.push("--allow-remote".into());
            Process::start(&[], &args, &path(&format!("{name}.txt")))
        });
        let metas: Vec<Process> = metas.collect();
        let meta = MetaClient::new(&meta_addresses, Hello::nameless(Role::Tool, [0; 16])).unwrap();
        let id = *b"chaos-cluster-id";
        let init = Action::InitCluster { id, name: "chaos".into(), version: FORMAT_VERSION };
        meta.propose(init, soon()).await.unwrap();

        let mut nodes = BTreeMap::new();
        let mut own_doors = BTreeMap::new();
        for node in 1..=layout.nodes {
            let [data, raft] = match &layout.net {
                Some(net) => [7379, 7380].map(|port| format!("{}:{port}", net.address(node))),
                None => [local(), local()],
            };
            let within = layout.net.as_ref().map_or(Vec::new(), |net| net.within(node));
            let folder = layout.folders.get(&node).cloned();
            let folder = folder.unwrap_or_else(|| path(&format!("node-{node}")));
            let (folder, id) = (folder.display().to_string(), node.to_string());
            let mut args = strings(["node", &folder, &data, "--raft-listen", &raft]);
            args.extend(strings(["--meta", &peers, "--id", &id, "--allow-remote"]));
            for (name, value) in &layout.settings {
                args.extend([(*name).to_string(), value.clone()]);
            }
            let log = path(&format!("node-{node}.txt"));
            nodes.insert(node as u64, Process::start(&within, &args, &log));
            own_doors.insert(node as u64, data);
        }
        let all = layout.nodes;
        let there = meta.wait_for(soon(), |view| view.nodes().count() >= all).await;
        assert!(there.is_ok(), "{}", nodes[&1].said());
        let replicas = layout.nodes.min(3) as u32;
        let create = Action::CreateShards { count: layout.shards, replicas, nodes: Vec::new() };
        meta.propose(create, soon()).await.unwrap();

        let mut gateways = Vec::new();
        let mut doors = Vec::new();
        for i in 0..layout.gateways {
            let (grpc, redis) = (local(), local());
            let mut args = strings(["gateway", "--meta", &peers, "--addr", &grpc]);
            args.extend(strings(["--redis-addr", &redis, "--allow-remote"]));
            gateways.push(Process::start(&[], &args, &path(&format!("gateway-{i}.txt"))));
            doors.push(grpc);
        }
        let cluster =
            Cluster { metas, nodes, gateways, meta, doors, own_doors, _dir: dir, _alone: alone };
        cluster.all_led().await;
        cluster.all_answer().await;
        cluster
    }

    /// Waits until every shard has a leader.
    pub(crate) async fn all_led(&self) {
        let led = |view: &View| {
            view.shards().next().is_some() && view.shards().all(|s| s.leader.is_some())
        };
        self.meta.wait_for(soon(), led).await.unwrap();
    }

    /// Waits until every gateway answers for every shard.
    pub(crate) async fn all_answer(&self) {
        for door in &self.doors {
            let client = connect(door);
            for shard in self.meta.view().shards() {
                let key = key_in(shard.slots);
                let until = soon();
                while let Err(error) = client.get(Default::default(), key.clone()).await {
                    assert!(Instant::now() < until, "{door}: {error}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// The node that leads the most shards, and those.
    pub(crate) fn leads_most(&self) -> (u64, Vec<(ShardId, SlotRange)>) {
        let view = self.meta.view();
        let led = |node: u64| {
            let of = view.shards().filter(|s| s.leader_node() == Some(NodeId(node)));
            of.map(|s| (s.id, SlotRange { first: s.slots.first, last: s.slots.last })).collect()
        };
        let all = self.nodes.keys().map(|node| (*node, led(*node)));
        all.max_by_key(|(_, led): &(u64, Vec<_>)| led.len()).unwrap()
    }

    /// Has another node lead a shard.
    pub(crate) async fn transfer(&self, shard: ShardId, to: u64) -> arqondb::base::Result<()> {
        let view = self.meta.view();
        let record = view.shard(shard).unwrap();
        let replica = record.replica_on(NodeId(to)).unwrap().id.0;
        let leader = record.leader_node().and_then(|node| view.node(node)).unwrap();
        let from =
            Node { id: leader.id, address: leader.profile.raft_addr.as_str().into(), redis: None };
        let shards = RemoteShards::new(self.meta.clone());
        shards.transfer(&from, shard.0, replica, Duration::from_secs(5)).await
    }

    /// The highest term of each shard, as the catalog has it.
    pub(crate) fn terms(&self) -> BTreeMap<u64, u64> {
        let view = self.meta.view();
        view.shards().map(|s| (s.id.0, s.leader.map_or(0, |leader| leader.term))).collect()
    }

    /// Starts a node again and waits until it answers clients.
    pub(crate) async fn restart(&mut self, node: u64) {
        self.nodes.get_mut(&node).unwrap().restart();
        self.answers(node).await;
    }

    /// Waits until a node answers clients.
    pub(crate) async fn answers(&mut self, node: u64) {
        let client = connect(&self.own_doors[&node]);
        let until = soon();
        while client.ping().await.is_err() {
            let process = self.nodes.get_mut(&node).unwrap();
            assert!(process.is_alive(), "node {node} has ended:\n{}", process.said());
            assert!(Instant::now() < until, "node {node}:\n{}", process.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A client of a door, connected with its first call.
pub(crate) fn connect(door: &str) -> Client {
    let options = ClientOptions { call_timeout: DEADLINE, ..ClientOptions::default() };
    Client::connect_lazy(door, options).unwrap()
}

/// A key whose slot is among `slots`.
fn key_in(slots: SlotRange) -> String {
    let keys = (0..).map(|i| format!("probe:{i}"));
    let mut fit = keys.filter(|key| slots.contains(arqondb::op::route::slot_of(key.as_bytes())));
    fit.next().unwrap()
}

//! What a door under test serves from: one engine or, with `ARQON_TEST_SHARDS=8`, a gateway over
//! so many, or, with `ARQON_TEST_NODES=3` (and eight shards unless told otherwise), one over a
//! cluster of so many nodes. Tests that look at the engine itself fail then; all others must not
//! notice.

#[allow(dead_code)]
#[path = "../cluster/world.rs"]
mod nodes;

use arqondb::base::Result;
use arqondb::env::SimClock;
use arqondb::gateway::{Gateway, GatewayOptions, LocalShards, RemoteShards};
use arqondb::node::cluster::MemberOptions;
use arqondb::op::{Consistency, KvOps, Request, Response, Topology};
use nodes::{Ways, World};
use std::process::Command;
use std::sync::Arc;
use tokio::runtime::Runtime;

pub(crate) enum Behind<K: KvOps> {
    One(Arc<K>),
    Many(Box<Gateway<LocalShards<Arc<K>>>>),
    Nodes(Box<Cluster>),
}

/// How many of something the environment asks for.
fn asked(name: &str) -> Option<u32> {
    std::env::var(name).ok().map(|n| n.parse().unwrap())
}

impl<K: KvOps> Behind<K> {
    /// `first`, or as many more as the environment asks for beside it.
    pub(crate) fn new(first: Arc<K>, more: impl Fn() -> K) -> Behind<K> {
        let shards = asked("ARQON_TEST_SHARDS");
        if let Some(nodes) = asked("ARQON_TEST_NODES") {
            return Behind::Nodes(Box::new(Cluster::start(nodes as usize, shards.unwrap_or(8))));
        }
        let shards = shards.unwrap_or(1);
        if shards < 2 {
            return Behind::One(first);
        }
        let more = (1..shards).map(|_| Arc::new(more()));
        let all = std::iter::once(first).chain(more).collect();
        let shards = LocalShards::new(all);
        Behind::Many(Box::new(Gateway::new(shards, GatewayOptions::default())))
    }
}

impl<K: KvOps> KvOps for Behind<K> {
    async fn pipeline(&self, requests: Vec<Request>) -> Vec<Result<Response>> {
        match self {
            Behind::One(one) => one.pipeline(requests).await,
            Behind::Many(many) => many.pipeline(requests).await,
            Behind::Nodes(cluster) => cluster.gateway.pipeline(requests).await,
        }
    }

    async fn pipeline_at(
        &self,
        consistency: Consistency,
        requests: Vec<Request>,
    ) -> Vec<Result<Response>> {
        match self {
            Behind::One(one) => one.pipeline_at(consistency, requests).await,
            Behind::Many(many) => many.pipeline_at(consistency, requests).await,
            Behind::Nodes(cluster) => cluster.gateway.pipeline_at(consistency, requests).await,
        }
    }

    fn topology(&self) -> Option<Arc<Topology>> {
        match self {
            Behind::One(one) => one.topology(),
            Behind::Many(many) => many.topology(),
            Behind::Nodes(cluster) => cluster.gateway.topology(),
        }
    }
}

/// A cluster on threads of its own, and a gateway to it.
pub(crate) struct Cluster {
    gateway: Arc<Gateway<RemoteShards>>,
    runtime: Option<Runtime>,
    world: Option<World>,
}

impl Cluster {
    pub(crate) fn start(nodes: usize, shards: u32) -> Cluster {
        // A test may stand in a runtime already, where it must not wait for another.
        let started = std::thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(2).enable_all().build().unwrap();
            let (world, gateway) = runtime.block_on(async {
                // The time at which the doors' tests begin.
                let clock = Arc::new(SimClock::at(1_700_000_000_000));
                let clocked = move |options: &mut MemberOptions| options.clock = clock.clone();
                let replicas = nodes.min(3) as u32;
                let ways = Ways { change: Arc::new(clocked), ..Ways::default() };
                let world = World::cluster_with(1, nodes, shards, replicas, ways).await;
                let gateway = world.gateway();
                gateway.refresh().await.unwrap();
                (world, gateway)
            });
            Cluster { gateway, runtime: Some(runtime), world: Some(world) }
        });
        started.join().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let (world, runtime) = (self.world.take(), self.runtime.take());
        if let Some(runtime) = runtime {
            let within = runtime.enter();
            drop(world);
            drop(within);
            runtime.shutdown_background();
        }
    }
}

/// Runs tests of this program again, before a gateway over three nodes and eight shards: those
/// whose names hold one of `tests` and none of `skipped`. At least `least` must pass.
pub(crate) fn again(tests: &[&str], skipped: &[&str], least: usize) {
    if std::env::var_os("ARQON_TEST_NODES").is_some() {
        return;
    }
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.env("ARQON_TEST_NODES", "3").args(tests);
    program.args(skipped.iter().flat_map(|name| ["--skip", name]));
    let output = program.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    let passed = told.split_once("test result: ok. ").and_then(|(_, rest)| rest.split_once(' '));
    let passed: usize = passed.unwrap().0.parse().unwrap();
    assert!(passed >= least, "only {passed} tests ran:\n{told}");
}

//! A process of the cluster: a runtime of its own on the one thread, with a disk, a clock and an
//! end of the network.
// tidy: sleeps because time is simulated

use crate::echo::EchoingShards;
use crate::net::{SimDoor, SimNet};
use crate::shape::Shape;
use crate::time::Local;
use arqondb::base::{ErrorKind, Result};
use arqondb::catalog::ShardId;
use arqondb::env::rng::Seeds;
use arqondb::env::{Pool, SimDisk, Workers};
use arqondb::gateway::{Gateway, GatewayOptions, RemoteShards};
use arqondb::meta::{Meta, MetaOptions};
use arqondb::node::cluster::{Member, MemberOptions};
use arqondb::raft::{Group, GroupOptions, ShardHandle};
use arqondb::rpc::cluster::MetaClient;
use arqondb::rpc::link::{Hello, Link, LinkOptions, Role, listen};
use std::future::Future;
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::Instant;

/// What a process is, with what it opens once that is open.
#[derive(Clone)]
pub(crate) enum Part {
    Meta(Opened<Meta>),
    Node(Opened<Member>),
    /// A gateway with its clients, or whoever else only asks.
    Client,
}

/// Something that is opened in the background, or why it could not be.
pub(crate) type Opened<T> = Arc<Mutex<Option<Result<T>>>>;

/// What all processes of a simulation have in common.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) net: SimNet,
    pub(crate) seeds: Seeds,
    pub(crate) metas: Vec<(u64, String)>,
    pub(crate) group: GroupOptions,
    pub(crate) write_buffer_bytes: Option<u64>,
    /// One in so many calls of shards comes twice.
    pub(crate) echoes: u64,
}

impl Common {
    pub(crate) fn meta_addresses(&self) -> Vec<String> {
        self.metas.iter().map(|(_, address)| address.clone()).collect()
    }

    fn link(&self, local: &Arc<Local>) -> LinkOptions {
        LinkOptions { net: self.net.port(local), ..LinkOptions::default() }
    }

    /// A client of the metadata plane. Called within a runtime.
    pub(crate) fn client(&self, local: &Arc<Local>) -> MetaClient {
        let hello = Hello::nameless(Role::Tool, [0; 16]);
        let (link, client) = (self.link(local), self.seeds.next_seed());
        MetaClient::with(&self.meta_addresses(), hello, link, client).unwrap()
    }

    /// Links to all metadata nodes. Called within a runtime.
    pub(crate) fn links_to_metas(&self, local: &Arc<Local>) -> Vec<Link> {
        let hello = Hello::nameless(Role::Tool, [0; 16]);
        self.metas.iter().map(|(_, at)| Link::new(at, hello, self.link(local))).collect()
    }

    /// A gateway. Called within a runtime.
    pub(crate) fn gateway(
        &self,
        local: &Arc<Local>,
        options: GatewayOptions,
    ) -> Arc<Gateway<EchoingShards>> {
        let options = GatewayOptions { seed: self.seeds.next_seed(), ..options };
        let shards = RemoteShards::new(self.client(local));
        let shards = EchoingShards::new(shards, self.seeds.next_seed(), self.echoes);
        Arc::new(Gateway::new(shards, options))
    }
}

/// A process.
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) local: Arc<Local>,
    pub(crate) part: Part,
    pub(crate) disk: SimDisk,
    runtime: Option<Runtime>,
    background: Pool,
    syncs: Pool,
    /// Ends a metadata node or a node in order, and says when that is done.
    pub(crate) leaving: Option<Arc<Mutex<bool>>>,
}

impl Process {
    /// A process with nothing in it yet.
    pub(crate) fn new(name: String, local: Local, disk: SimDisk) -> Process {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let local = Arc::new(local);
        {
            let _within = runtime.enter();
            local.begin();
        }
        Process {
            name,
            local,
            part: Part::Client,
            disk,
            runtime: Some(runtime),
            background: Pool::manual(),
            syncs: Pool::manual(),
            leaving: None,
        }
    }

    fn workers(&self) -> Workers {
        Workers::Simulated { background: self.background.clone(), syncs: self.syncs.clone() }
    }

    /// Has a task run in it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.as_ref().unwrap().spawn(task);
    }

    /// Does something within its runtime, at its time.
    pub(crate) fn within<T>(&self, f: impl FnOnce() -> T) -> T {
        let _within = self.runtime.as_ref().unwrap().enter();
        f()
    }

    /// Starts a metadata node.
    pub(crate) fn start_meta(&mut self, common: &Common, id: u64) {
        let address = common.metas[id as usize - 1].1.clone();
        let options = MetaOptions {
            group: GroupOptions {
                log_bytes: 8 << 10,
                log_bytes_max: 32 << 10,
                ..common.group.clone()
            },
            disk: self.disk.shared(),
            clock: self.local.clone(),
            segment_bytes: 32 << 10,
            link: common.link(&self.local),
            workers: self.workers(),
            seeds: common.seeds.clone(),
            ..MetaOptions::new("/meta", id, common.metas.clone())
        };
        let opened: Opened<Meta> = Arc::default();
        self.part = Part::Meta(opened.clone());
        let door = common.net.door(&self.local, &address);
        self.spawn(async move {
            let meta = Meta::open(options).await;
            *opened.lock().unwrap() = Some(meta.clone());
            if let Ok(meta) = meta {
                serve(door, meta).await;
            }
        });
    }

    /// Starts a node.
    pub(crate) fn start_node(&mut self, common: &Common, number: usize) {
        let address = format!("node-{number}:7380");
        let options = MemberOptions {
            memory_budget_bytes: 4 << 20,
            write_buffer_bytes: common.write_buffer_bytes,
            // Few are written: of those a shard has, some are sealed all the same.
            vector_segment_rows: 4,
            group: common.group.clone(),
            disk: self.disk.shared(),
            clock: self.local.clone(),
            segment_bytes: 32 << 10,
            log_bytes_max: 512 << 10,
            link: common.link(&self.local),
            workers: self.workers(),
            seeds: common.seeds.clone(),
            snapshot_bytes_per_second: 1 << 20,
            ..MemberOptions::new("/node", common.meta_addresses(), &address)
        };
        let opened: Opened<Member> = Arc::default();
        self.part = Part::Node(opened.clone());
        let door = common.net.door(&self.local, &address);
        self.spawn(async move {
            let member = Member::open(options).await;
            *opened.lock().unwrap() = Some(member.clone());
            if let Ok(member) = member {
                tokio::select! {
                    () = serve(door, member.clone()) => {}
                    // As the program does: it ends, and says why.
                    error = member.failed() => *opened.lock().unwrap() = Some(Err(error)),
                }
            }
        });
    }

    /// Begins to end it in order.
    pub(crate) fn leave(&mut self) {
        let done = Arc::new(Mutex::new(false));
        self.leaving = Some(done.clone());
        match (self.member(), self.meta()) {
            (Some(member), _) => self.spawn(async move {
                member.stop().await;
                *done.lock().unwrap() = true;
            }),
            (_, Some(meta)) => self.spawn(async move {
                meta.stop().await;
                *done.lock().unwrap() = true;
            }),
            _ => *done.lock().unwrap() = true,
        }
    }

    /// The node, if this is one and it is open.
    pub(crate) fn member(&self) -> Option<Member> {
        let Part::Node(opened) = &self.part else { return None };
        opened.lock().unwrap().as_ref()?.as_ref().ok().cloned()
    }

    /// The metadata node, if this is one and it is open.
    pub(crate) fn meta(&self) -> Option<Meta> {
        let Part::Meta(opened) = &self.part else { return None };
        opened.lock().unwrap().as_ref()?.as_ref().ok().cloned()
    }

    /// Why it could not be opened.
    pub(crate) fn refused(&self) -> Option<arqondb::Error> {
        match &self.part {
            Part::Meta(opened) => opened.lock().unwrap().as_ref()?.as_ref().err().cloned(),
            Part::Node(opened) => opened.lock().unwrap().as_ref()?.as_ref().err().cloned(),
            Part::Client => None,
        }
    }

    /// The replicas that run in it.
    pub(crate) fn replicas(&self) -> Vec<(ShardId, Group, ShardHandle)> {
        self.member().map_or(Vec::new(), |member| member.running())
    }

    /// Why one of its groups has stopped by itself, if one has.
    pub(crate) fn stopped(&self) -> Option<String> {
        if self.leaving.is_some() {
            return None;
        }
        let of_meta = self.meta().and_then(|meta| meta.group().status().stopped);
        let mut of_shards = self.replicas().into_iter().filter_map(|(_, g, _)| g.status().stopped);
        of_meta.or_else(|| of_shards.next())
    }

    /// Runs it until its clock shows the simulation's time `until`; with `sync`, what waits to be
    /// synced is; with `work`, some of what is to be done in the background.
    pub(crate) fn run_until(&self, until: u64, sync: bool, work: bool) {
        let (syncs, background) = (&self.syncs, &self.background);
        let until = self.local.instant(until);
        self.runtime.as_ref().unwrap().block_on(async move {
            if sync {
                syncs.wait_idle();
            }
            if work {
                background.run_one();
            }
            tokio::time::sleep_until(until).await;
        });
    }

    /// Lets a time pass in which it did not run.
    pub(crate) fn awake(&self, now: u64) {
        let to = self.local.instant(now);
        self.runtime.as_ref().unwrap().block_on(async move {
            tokio::time::advance(to.saturating_duration_since(Instant::now())).await;
        });
    }

    /// Ends it as it is: nothing it does from now on reaches its disk.
    pub(crate) fn end(mut self) {
        self.disk.stop_at(Some(0));
        self.part = Part::Client;
        drop(self.runtime.take());
    }
}

/// Whether one that could not be opened may try again: the others were not there, or the disk had no
/// room.
pub(crate) fn may_try_again(kind: ErrorKind) -> bool {
    use ErrorKind::{Deadline, OutOfSpace, Unavailable, Unknown};
    matches!(kind, Unavailable | Deadline | Unknown | OutOfSpace)
}

async fn serve<S: arqondb::rpc::link::LinkService>(door: SimDoor, part: S) {
    let (_stop, stopped) = watch::channel(false);
    _ = listen(door, Arc::new(part), stopped).await;
}

/// Times of a group that simulations of networks with so much latency want.
pub(crate) fn group_options(shape: &Shape) -> GroupOptions {
    GroupOptions {
        heartbeat: shape.heartbeat,
        election_min: 3 * shape.heartbeat,
        election_max: 5 * shape.heartbeat,
        log_bytes: shape.log_bytes,
        log_bytes_max: 3 * shape.log_bytes,
        hibernate_after: shape.hibernate_after,
        ..GroupOptions::default()
    }
}

//! [`Member`]: a node of a cluster, open.

use crate::base::{CfId, Error, ErrorKind, GroupId, LogIndex, NodeId, Result};
use crate::catalog::records::NodeProfile;
use crate::catalog::{Action, FORMAT_VERSION, Outcome, ShardId, View};
use crate::env::disk::FileLock;
use crate::env::{Appending, Disk, Pool};
use crate::log::{Log, LogOptions, RecordKind, RecordRef};
use crate::lsm::BlockCache;
use crate::node::cluster::copies::Copies;
use crate::node::cluster::identity::{self, Identity};
use crate::node::cluster::options::MemberOptions;
use crate::node::cluster::replicas::{Replicas, Troubles};
use crate::node::cluster::report;
use crate::node::cluster::split::Splitting;
use crate::raft::{Class, Group, Host, HostOptions, Peers, Recoveries, ShardHandle, Work};
use crate::rpc::cluster::MetaClient;
use crate::rpc::link::{Hello, Links, Role};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Threads for requests that read much.
const SLOW_THREADS: usize = 4;
/// Threads for what groups do that may wait for the disk. None of them waits for a request, some of
/// which wait for groups.
const GROUP_THREADS: usize = 2;
/// How long the metadata plane may take to answer one question.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sweeps of a shard in one turn of the upkeep, and how long all of a node may take, in ns: each waits
/// for a majority.
const SWEEPS_A_TURN: usize = 64;
const SWEEPING_NS: u64 = 200_000_000;
/// How long it takes before keys are counted again that could not be counted, the first time and at
/// most.
const RECOUNT_FIRST: Duration = Duration::from_secs(10);
const RECOUNT_MAX: Duration = Duration::from_secs(3_600);
/// How often it is looked whether the log has failed.
const LOOK: Duration = Duration::from_millis(500);

/// A node of a cluster. Clones share it; [`Member::stop`] ends it.
#[derive(Clone)]
pub struct Member {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) options: MemberOptions,
    pub(super) identity: Identity,
    pub(super) host: Host,
    pub(super) meta: MetaClient,
    pub(super) links: Links,
    pub(super) replicas: Replicas,
    pub(super) copies: Copies,
    pub(super) splitting: Splitting,
    pub(super) cache: Arc<BlockCache>,
    pub(super) background: Pool,
    pub(super) slow: Pool,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    _lock: Box<dyn FileLock>,
}

/// The groups' messages over links.
struct LinkPeers(Links);

impl Peers for LinkPeers {
    fn send(&self, to: NodeId, class: Class, message: Bytes) -> Result<()> {
        self.0.post(to.0, class as u8, message)
    }
}

impl Member {
    /// Opens the folder, registers the node and starts what the catalog says is here. Returns when
    /// the node is registered; waits for the metadata plane as long as that takes. REQUIRES: a
    /// runtime.
    ///
    /// # Errors
    /// `Refused` if the folder is somebody else's, has lost its log or all of its replicas, or the
    /// catalog refuses the node; `Corruption`; what the disk answers.
    pub async fn open(options: MemberOptions) -> Result<Member> {
        let disk = options.disk.clone();
        let (lock, mut identity) = identity::claim(&*disk, &options.dir, &options.seeds)?;
        must_have_log(&*disk, &options.dir, &identity)?;
        let mut recovered = Recoveries::default();
        let log_options = LogOptions {
            sync: options.sync,
            segment_bytes: options.segment_bytes,
            // Each entry is synced, whatever the level.
            appending: Appending::Call,
            threads: options.workers.has_threads(),
            syncs: options.workers.syncs(),
            seed: Some(options.seeds.next_seed()),
            ..LogOptions::default()
        };
        let mut take = |position, record: RecordRef<'_>| recovered.take(position, &record);
        let log =
            Arc::new(Log::open(disk.clone(), &options.dir.join("log"), log_options, &mut take)?);

        let hello = hello(&identity);
        let link = options.link.clone();
        let meta = MetaClient::with(&options.meta, hello, link, options.seeds.next_seed())?;
        let registered = register(&meta, &options, &identity).await?;
        if registered != identity {
            identity = registered;
            begin_log(&log)?;
            disk.sync_dir(&options.dir)?;
            identity::write(&*disk, &options.dir, identity)?;
        }

        let links = Links::new(self::hello(&identity), options.link.clone());
        let slow = options.workers.pool("arqon-slow", SLOW_THREADS);
        let work = Work::Pool(options.workers.pool("arqon-groups", GROUP_THREADS));
        let nonce = options.seeds.next_seed();
        let mut host_options = HostOptions::new(options.dir.join("groups"), work, nonce);
        host_options.log_bytes_max = options.log_bytes_max;
        host_options.snapshot_bytes_per_second = options.snapshot_bytes_per_second;
        let peers = Arc::new(LinkPeers(links.clone()));
        let copies = Copies::open(&disk, &options.dir, options.snapshot_bytes_per_second)?;
        let host = Host::new(host_options, disk, log, peers, recovered)?;
        must_have_groups(&host, &options.dir, &identity)?;
        let inner = Arc::new(Inner {
            cache: BlockCache::new(options.memory_budget_bytes / 16 * 6),
            background: options.workers.background("arqon-bg", options.background_threads.max(1)),
            options,
            identity,
            host,
            meta,
            links,
            replicas: Replicas::default(),
            copies,
            splitting: Splitting::default(),
            slow,
            tasks: Mutex::default(),
            _lock: lock,
        });
        let member = Member { inner };
        let tasks = vec![
            tokio::spawn(follow(Arc::downgrade(&member.inner))),
            tokio::spawn(beat(Arc::downgrade(&member.inner))),
            tokio::spawn(tend(Arc::downgrade(&member.inner))),
            tokio::spawn(tend_log(Arc::downgrade(&member.inner))),
            tokio::spawn(recount(Arc::downgrade(&member.inner))),
            tokio::spawn(hibernate(Arc::downgrade(&member.inner))),
            tokio::spawn(report::run(Arc::downgrade(&member.inner))),
        ];
        *member.inner.tasks() = tasks;
        Ok(member)
    }

    /// The node's number.
    pub fn id(&self) -> u64 {
        self.inner.identity.node
    }

    /// The catalog as this node knows it.
    pub fn view(&self) -> Arc<View> {
        self.inner.meta.view()
    }

    /// The replicas that run here: their shards, their groups, and what holds their records.
    pub fn running(&self) -> Vec<(ShardId, Group, ShardHandle)> {
        let all = self.inner.replicas.all().into_iter();
        all.map(|replica| (replica.record.id, replica.group, replica.handle)).collect()
    }

    /// The client of the metadata plane.
    pub fn meta(&self) -> &MetaClient {
        &self.inner.meta
    }

    /// Why replicas that should run here do not, as that changes.
    pub fn troubles(&self) -> watch::Receiver<Troubles> {
        self.inner.replicas.troubles()
    }

    /// Waits until the node can go on no more, and says why: its log has failed.
    pub async fn failed(&self) -> Error {
        loop {
            if let Some(error) = self.inner.host.log_failed() {
                let message = format!(
                    "the log in {} takes nothing any more, so this node ends: {error}; see to its \
                     disk, and start it again",
                    self.inner.options.dir.display()
                );
                return Error::new(error.kind(), message);
            }
            sleep(LOOK).await;
        }
    }

    /// Hands over what it leads, as far as others can take it, and ends: what was answered is on
    /// disk.
    pub async fn stop(&self) {
        self.inner.hand_over().await;
        let tasks = std::mem::take(&mut *self.inner.tasks());
        for task in tasks {
            task.abort();
            _ = task.await;
        }
        self.inner.copies.clear();
        self.inner.replicas.clear();
        self.inner.host.stop_all().await;
    }
}

impl Inner {
    fn tasks(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn receive(&self, from: &Hello, class: u8, body: Bytes) {
        if from.role == Role::Node
            && let Some(class) = Class::ALL.into_iter().find(|c| *c as u8 == class)
        {
            self.host.receive(NodeId(from.node), class, body);
        }
    }
}

/// Makes a first record durable, of a group that is never here: from then on a log without anything in
/// it is one that was lost.
fn begin_log(log: &Log) -> Result<()> {
    let (group, kind) = (GroupId(0), RecordKind::Truncate);
    let end = log.append(&[RecordRef { group, kind, index: LogIndex(0), payload: &[] }])?;
    log.sync_to(end)
}

/// A node that has a number has a log, see [`begin_log`]: it may have voted and acknowledged in what
/// is gone.
fn must_have_log(disk: &dyn Disk, dir: &Path, identity: &Identity) -> Result<()> {
    let log = dir.join("log");
    if identity.node == 0 || disk.exists(&log) && !disk.list(&log)?.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} is gone, and with it what node {} has acknowledged; remove node {} from the cluster, and \
         start a new one in an empty folder",
        log.display(),
        identity.node,
        identity.node
    );
    Err(Error::new(ErrorKind::Refused, message))
}

/// All replicas at once are not damaged, they are elsewhere: were they taken for lost, each would be
/// given up and made anew, beside what may only be out of sight.
fn must_have_groups(host: &Host, dir: &Path, identity: &Identity) -> Result<()> {
    if !host.has_lost_all()? {
        return Ok(());
    }
    let message = format!(
        "{} holds none of the replicas that the log knows; if it is a mount, mount it; if it is lost, \
         remove node {} from the cluster, and start a new one in an empty folder",
        dir.join("groups").display(),
        identity.node
    );
    Err(Error::new(ErrorKind::Refused, message))
}

pub(super) fn hello(identity: &Identity) -> Hello {
    let Identity { incarnation, node, cluster } = *identity;
    Hello { role: Role::Node, cluster, node, incarnation }
}

/// Makes the node known, and learns its number and its cluster.
async fn register(
    meta: &MetaClient,
    options: &MemberOptions,
    identity: &Identity,
) -> Result<Identity> {
    let known = Some(identity.node).filter(|node| *node != 0);
    if let (Some(known), Some(wanted)) = (known, options.id)
        && known != wanted
    {
        let message = format!(
            "this folder is node {known}'s, not node {wanted}'s; name its own folder, or leave the \
             number out"
        );
        return Err(Error::new(ErrorKind::Refused, message));
    }
    let profile = NodeProfile {
        data_url: options.data_url.clone(),
        raft_addr: options.raft_addr.clone(),
        labels: options.labels.clone(),
        disk_bytes: options.disk.free_bytes(&options.dir).unwrap_or(0),
        cores: std::thread::available_parallelism().map_or(0, |n| n.get() as u32),
        software: env!("CARGO_PKG_VERSION").to_string(),
        speaks: FORMAT_VERSION,
    };
    loop {
        let action = Action::RegisterNode {
            wanted: known.or(options.id).map(NodeId),
            incarnation: identity.incarnation,
            profile: profile.clone(),
        };
        let was_initialised = meta.view().cluster().is_some();
        let error = match meta.propose(action, Instant::now() + PATIENCE).await {
            Ok(applied) => match applied.outcome {
                Outcome::Node(node) => {
                    let deadline = Instant::now() + PATIENCE;
                    // What an older copy says of replicas here may be of those before them.
                    let is_new = |view: &View| {
                        view.cluster().is_some() && view.revision() >= applied.revision
                    };
                    let view = meta.wait_for(deadline, is_new).await;
                    // The changes come from a metadata node that cannot be reached just now.
                    let Ok(view) = view else { continue };
                    let cluster = view.cluster().map(|c| c.id).unwrap_or_default();
                    if identity.cluster != [0; 16] && identity.cluster != cluster {
                        return Err(another_cluster());
                    }
                    return Ok(Identity { node: node.0, cluster, ..*identity });
                }
                _ => Error::new(ErrorKind::Internal, "the catalog gave no number"),
            },
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Unknown | ErrorKind::Deadline => {}
            // The cluster was not initialised yet: its operator is about to, or has meanwhile.
            ErrorKind::Refused if !was_initialised => {}
            _ => return Err(error),
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn another_cluster() -> Error {
    let message = "this folder belongs to a node of another cluster; name another folder, or the \
                   metadata nodes of its own cluster";
    Error::new(ErrorKind::Refused, message)
}

/// Keeps what runs here in line with the catalog.
async fn follow(node: Weak<Inner>) {
    let Some(mut views) = node.upgrade().map(|node| node.meta.views()) else { return };
    loop {
        let Some(inner) = node.upgrade() else { return };
        let view = views.borrow_and_update().clone();
        let all_well = inner.reconcile(&view).await;
        inner.bring_families(&view).await;
        inner.bring_indexes(&view).await;
        inner.lead(&view).await;
        drop(inner);
        // Leaders change without a change of the catalog.
        let pause = Duration::from_millis(if all_well { 100 } else { 500 });
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            () = sleep(pause) => {}
        }
    }
}

/// Tells the metadata plane that the node is alive.
async fn beat(node: Weak<Inner>) {
    loop {
        let Some(inner) = node.upgrade() else { return };
        let Identity { incarnation, node: id, .. } = inner.identity;
        let action = Action::Heartbeat { node: NodeId(id), incarnation };
        let every = inner.options.heartbeat;
        // One that does not get through is followed by the next.
        _ = inner.meta.propose(action, Instant::now() + every * 4).await;
        drop(inner);
        sleep(every).await;
    }
}

/// Serves groups in which nothing is written.
async fn hibernate(node: Weak<Inner>) {
    let Some(every) = node.upgrade().map(|inner| inner.options.group.election_max / 4) else {
        return;
    };
    loop {
        sleep(every).await;
        let Some(inner) = node.upgrade() else { return };
        inner.host.hibernate();
    }
}

/// Looks after the log, which may have to wait for a group.
async fn tend_log(node: Weak<Inner>) {
    loop {
        sleep(Duration::from_secs(1)).await;
        let Some(inner) = node.upgrade() else { return };
        // What a group cannot let go of now it does the next time.
        _ = inner.host.tend().await;
    }
}

/// Counts the keys of shards led here whose counts a split has left wrong: until then each DBSIZE
/// looks at all of them. One at a time, and what is not to be had less and less often.
async fn recount(node: Weak<Inner>) {
    let mut again = BTreeMap::<ShardId, (Instant, Duration)>::new();
    loop {
        sleep(Duration::from_secs(1)).await;
        let Some(inner) = node.upgrade() else { return };
        let here = inner.replicas.all().into_iter().filter(|running| running.session() != 0);
        again.retain(|shard, _| inner.replicas.get(*shard).is_some());
        for running in here {
            let (id, Ok(shard)) = (running.record.id, running.handle.get()) else { continue };
            let due = again.get(&id).is_none_or(|(at, _)| *at <= Instant::now());
            let is_exact = shard.engine().counts(CfId::DEFAULT).is_ok_and(|counts| counts.exact);
            if is_exact || !due {
                continue;
            }
            let job = move || shard.recount_beside();
            if !matches!(crate::node::pipeline::on(&inner.slow, job).await, Ok(true)) {
                let pause = again.get(&id).map_or(RECOUNT_FIRST, |(_, pause)| *pause);
                again.insert(id, (Instant::now() + pause, (pause * 2).min(RECOUNT_MAX)));
            }
        }
    }
}

/// Looks after engines and expired keys.
async fn tend(node: Weak<Inner>) {
    for turn in 0u64.. {
        sleep(Duration::from_millis(100)).await;
        let Some(inner) = node.upgrade() else { return };
        let idle = turn.is_multiple_of(10).then(|| inner.copies.take_idle());
        let limits = turn.is_multiple_of(10).then(|| inner.vector_limits());
        let here = inner.replicas.all();
        let here = here.iter().filter_map(|r| Some((r.handle.get().ok()?, r.session() != 0)));
        let (here, clock): (Vec<_>, _) = (here.collect(), inner.options.clock.clone());
        let job = move || {
            drop(idle);
            for (shard, _) in &here {
                shard.engine().tend_at(clock.monotonic_ns() / 1000);
                if let Some(limits) = limits {
                    shard.limit_vectors(limits);
                }
                shard.tend_vectors();
            }
            let mut led: Vec<_> =
                here.iter().filter(|(_, leads)| *leads).map(|(shard, _)| shard).collect();
            let until = clock.monotonic_ns() + SWEEPING_NS;
            for _ in 0..SWEEPS_A_TURN {
                // What a sweep cannot do now it does the next time.
                led.retain(|shard| matches!(shard.sweep_expired(clock.unix_ms()), Ok(n) if n > 0));
                if led.is_empty() || clock.monotonic_ns() >= until {
                    break;
                }
            }
            Ok(())
        };
        _ = crate::node::pipeline::on(&inner.slow, job).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SimDisk;

    #[test]
    fn a_node_that_has_a_number_and_lost_its_log_is_refused() {
        let (disk, dir) = (SimDisk::new(), Path::new("/node"));
        let new = Identity { incarnation: 1, node: 0, cluster: [0; 16] };
        let known = Identity { node: 3, cluster: [1; 16], ..new };
        must_have_log(&disk, dir, &new).unwrap();
        let refused = must_have_log(&disk, dir, &known).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused);
        assert!(refused.message().contains("remove node 3"), "{refused}");
        disk.create_dir_all(&dir.join("log")).unwrap();
        assert!(must_have_log(&disk, dir, &known).is_err(), "an empty one is none");
        disk.create(&dir.join("log/1")).unwrap();
        must_have_log(&disk, dir, &known).unwrap();
    }
}

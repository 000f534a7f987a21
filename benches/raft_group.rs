//! Writes a second of one replicated shard: three nodes in this process, each with its own log on
//! the disk of the temporary folder, synced before an acknowledgement; messages between them cost
//! a task switch. With as many batches in an entry as have gathered, and with one.
//!
//! `cargo bench --bench raft_group`
// tidy: sleeps because it measures what is done in a time

use arqondb::base::{CfId, GroupId, Result};
use arqondb::env::{Disk, Pool, RealDisk};
use arqondb::log::{Log, LogOptions, SyncLevel};
use arqondb::lsm::{BlockCache, Engine, EngineOptions};
use arqondb::op::Request;
use arqondb::op::kv::{Expiry, Write};
use arqondb::raft::{
    Class, Group, GroupOptions, Host, HostOptions, NodeId, Peers, RaftLog, Recoveries, ShardHandle,
    Work,
};
use arqondb::shard::{Shard, ShardOptions};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const GROUP: GroupId = GroupId(1);
const TIME: Duration = Duration::from_secs(3);
const VALUE_BYTES: usize = 256;

type Failed = Box<dyn std::error::Error>;
type Inbox = mpsc::UnboundedSender<(NodeId, Class, Bytes)>;

/// Messages handed from task to task.
#[derive(Clone, Default)]
struct Inboxes(Arc<Mutex<BTreeMap<NodeId, Inbox>>>);

struct Port {
    inboxes: Inboxes,
    own: NodeId,
}

impl Peers for Port {
    fn send(&self, to: NodeId, class: Class, message: Bytes) -> Result<()> {
        let inboxes = self.inboxes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inbox) = inboxes.get(&to) {
            _ = inbox.send((self.own, class, message));
        }
        Ok(())
    }
}

async fn start(
    dir: &Path,
    id: u64,
    inboxes: &Inboxes,
    options: GroupOptions,
) -> Result<(Host, Group, ShardHandle)> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let dir = dir.join(format!("node-{id}"));
    let mut recovered = Recoveries::default();
    let log_options = LogOptions { sync: SyncLevel::Always, ..LogOptions::default() };
    let mut take =
        |position, record: arqondb::log::RecordRef<'_>| recovered.take(position, &record);
    let log = Arc::new(Log::open(disk.clone(), &dir.join("log"), log_options, &mut take)?);
    let work = Work::Pool(Pool::threads("raft-work", 1));
    let port = Arc::new(Port { inboxes: inboxes.clone(), own: NodeId(id) });
    let host_options = HostOptions::new(dir.join("groups"), work, id);
    let host = Host::new(host_options, disk.clone(), log, port, recovered)?;
    let (send, mut receive) = mpsc::unbounded_channel();
    inboxes.0.lock().unwrap_or_else(PoisonError::into_inner).insert(NodeId(id), send);
    let receiver = host.clone();
    tokio::spawn(async move {
        while let Some((from, class, message)) = receive.recv().await {
            receiver.receive(from, class, message);
        }
    });
    let pool = Pool::threads("bg", 1);
    let open = move |dir: &Path, log: RaftLog| {
        let options = EngineOptions::new(dir).with_memtable_budget(128 << 20);
        let engine = Engine::open(disk.clone(), pool.clone(), BlockCache::new(8 << 20), options)?;
        Ok(Shard::new(
            engine,
            Box::new(log),
            ShardOptions { count_keys: false, seed: id, ..ShardOptions::default() },
        ))
    };
    let (group, shard) = host.start_shard(GROUP, id, options, true, open).await?;
    group.set_places((1..=3).map(|id| (id, NodeId(id))));
    Ok((host, group, shard))
}

async fn write(shard: &ShardHandle, key: u64) -> bool {
    let put = Write::Put {
        cf: CfId::DEFAULT,
        key: Bytes::copy_from_slice(&key.to_be_bytes()),
        value: Bytes::from_static(&[7; VALUE_BYTES]),
        expiry: Expiry::Never,
    };
    let Ok(shard) = shard.get() else { return false };
    let request = Request::Write { writes: vec![put], id: None };
    let Ok(answer) = shard.execute(request, 1_000_000) else { return false };
    let (send, receive) = tokio::sync::oneshot::channel();
    shard.when_committed(answer.rests_on, move |outcome| _ = send.send(outcome));
    matches!(receive.await, Ok(Ok(())))
}

/// Writes a second of so many clients, each with one write at a time; and the median and 99th
/// percentile of a write, in microseconds.
async fn measure(shard: &ShardHandle, clients: u64) -> (f64, u64, u64) {
    let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let tasks = (0..clients).map(|_| {
        let (shard, stop, next) = (shard.clone(), stop.clone(), next.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let at = Instant::now();
                if write(&shard, next.fetch_add(1, Ordering::Relaxed) % 100_000).await {
                    times.push(at.elapsed().as_micros() as u64);
                }
            }
            times
        })
    });
    let tasks: Vec<_> = tasks.collect();
    tokio::time::sleep(TIME).await;
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap_or_default());
    }
    let seconds = begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    (times.len() as f64 / seconds, at(50), at(99))
}

async fn run(entry_batches: usize) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let inboxes = Inboxes::default();
    let options = GroupOptions { entry_batches, ..GroupOptions::default() };
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(start(dir.path(), id, &inboxes, options.clone()).await?);
    }
    nodes[0].1.initialize((1..=3).collect()).await?;
    let led = nodes.iter().filter_map(|(_, group, shard)| {
        let (mut session, shard) = (group.sessions()?, shard.clone());
        Some(Box::pin(async move {
            _ = session.wait_for(|session| *session != 0).await;
            shard
        }))
    });
    let (shard, ..) = futures::future::select_all(led).await;
    println!("batches in an entry, at most: {entry_batches}");
    for clients in [1, 16, 64, 256] {
        let (writes, p50, p99) = measure(&shard, clients).await;
        println!("  {clients:>4} clients: {writes:>9.0} writes/s, p50 {p50} us, p99 {p99} us");
    }
    for (host, ..) in &nodes {
        host.stop_all().await;
    }
    Ok(())
}

fn main() -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for entry_batches in [1, 1024] {
        runtime.block_on(run(entry_batches))?;
    }
    Ok(())
}

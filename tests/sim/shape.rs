//! What a seed makes of a simulation: how large the cluster is, and what befalls it.

use crate::time::{MS, SECOND};
use crate::vectors::FORMS;
use arqondb::env::Rng;
use arqondb::op::vector::{IndexKind, Quantisation};
use std::time::Duration;

/// What may befall a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A node's process is killed, or its host loses power.
    CrashNode,
    /// A metadata node's is.
    CrashMeta,
    /// A gateway's is, with its clients.
    CrashGateway,
    /// Every node's host loses power at once.
    CrashAll,
    /// A node or metadata node is ended in order and started again.
    Restart,
    /// A process does not run for a while.
    Pause,
    /// Who leads is heard by clients alone, until others lead. If its clock lags it does not know.
    Overtaken,
    /// One host hears nobody and is heard by nobody.
    Isolate,
    /// The hosts fall into two parts.
    Halves,
    /// Some ways lead nowhere; those back do.
    OneWay,
    /// Two parts that only one host connects.
    Bridge,
    /// Connections break.
    Reset,
    /// A disk takes long to sync.
    SlowDisk,
    /// A disk is full.
    NoSpace,
    /// A sync fails.
    SyncError,
    /// A calendar is set.
    Calendar,
    /// Who leads is lost, and whoever votes for the next loses power at once.
    Contest,
    /// Hosts whose disks take long to sync lose power.
    Blackout,
}

const ALL: [Fault; 18] = [
    Fault::CrashNode,
    Fault::CrashMeta,
    Fault::CrashGateway,
    Fault::CrashAll,
    Fault::Restart,
    Fault::Pause,
    Fault::Overtaken,
    Fault::Isolate,
    Fault::Halves,
    Fault::OneWay,
    Fault::Bridge,
    Fault::Reset,
    Fault::SlowDisk,
    Fault::NoSpace,
    Fault::SyncError,
    Fault::Calendar,
    Fault::Contest,
    Fault::Blackout,
];

/// A simulation's measures.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) metas: u64,
    pub(crate) nodes: usize,
    pub(crate) shards: u32,
    pub(crate) replicas: u32,
    pub(crate) gateways: usize,
    /// Clients of each gateway.
    pub(crate) clients: usize,
    /// The most that a client rests between two requests.
    pub(crate) rest_max: u64,
    /// No message takes less, nor are processes run for longer at a time.
    pub(crate) latency_min: u64,
    pub(crate) latency_max: u64,
    /// A leader's.
    pub(crate) heartbeat: Duration,
    /// How much faster or slower a clock may run, in millionths.
    pub(crate) rate_ppm: u64,
    /// How much slower those of some nodes run at most, in millionths: nobody reads by leases then. Who
    /// leads and is cut off takes itself for the leader for longer than the others do.
    pub(crate) lag_ppm: u64,
    /// Only these come about.
    pub(crate) faults: Vec<Fault>,
    /// Mean time between two.
    pub(crate) fault_every: u64,
    /// Whether replicas are moved and leaders changed.
    pub(crate) moves: bool,
    /// Bytes of a shard's log: with few, whoever was away is sent a snapshot.
    pub(crate) log_bytes: u64,
    /// Whether shards are split.
    pub(crate) splits: bool,
    /// Whether connections stall for seconds now and then.
    pub(crate) stalls: bool,
    /// One in so many calls of shards comes twice.
    pub(crate) echoes: u64,
    /// Bytes of a memtable: with few, families are written to tables at different times.
    pub(crate) write_buffer_bytes: Option<u64>,
    /// Idle time after which a group hibernates; zero for never.
    pub(crate) hibernate_after: Duration,
    /// What the index of vectors is.
    pub(crate) index: (IndexKind, Quantisation),
    /// How long it all goes on.
    pub(crate) length: u64,
}

impl Shape {
    /// Of a `calm` one there is less to do each second, so that more of them can be simulated: its
    /// ways are longer, and so is all that is waited for.
    pub(crate) fn draw(rng: &mut Rng, length: u64, calm: bool) -> Shape {
        let nodes = 3 + rng.below(3) as usize;
        // Each seed has some of the faults: where all come, some never get to show.
        let mut faults: Vec<Fault> = ALL.into_iter().filter(|_| rng.one_in(3)).collect();
        if faults.is_empty() {
            faults.push(ALL[rng.below(ALL.len() as u64) as usize]);
        }
        let lag_ppm = if rng.one_in(4) { 800_000 } else { 0 };
        if lag_ppm > 0 && !faults.contains(&Fault::Overtaken) {
            faults.push(Fault::Overtaken);
        }
        let slower = if calm { 20 } else { 1 };
        let latency_min = if calm { 20 * MS } else { 4 * MS };
        Shape {
            metas: if rng.one_in(3) { 1 } else { 3 },
            nodes,
            shards: 1 + rng.below(4) as u32,
            replicas: if nodes == 5 && rng.one_in(2) { 5 } else { 3 },
            gateways: 2 + rng.below(2) as usize,
            clients: 2 + rng.below(3) as usize,
            rest_max: slower * if rng.one_in(2) { 60 * MS } else { 400 * MS },
            latency_min,
            latency_max: latency_min + if rng.one_in(4) { 26 * MS } else { 4 * MS },
            heartbeat: Duration::from_millis(if calm { 500 } else { 100 }),
            rate_ppm: if rng.one_in(2) { 50_000 } else { 200 },
            faults,
            fault_every: slower.min(4) * if rng.one_in(3) { SECOND } else { 4 * SECOND },
            moves: rng.one_in(2),
            log_bytes: if rng.one_in(2) { 2 << 10 } else { 16 << 10 },
            splits: rng.one_in(3),
            stalls: rng.one_in(3),
            echoes: [6, 30, 1_000][rng.below(3) as usize],
            write_buffer_bytes: match rng.below(3) {
                0 => None,
                1 => Some(4 << 10),
                _ => Some(16 << 10),
            },
            hibernate_after: Duration::from_millis(200 * rng.below(2)),
            lag_ppm,
            index: FORMS[rng.below(FORMS.len() as u64) as usize],
            length,
        }
    }
}

//! Settings of a node of a cluster.

use crate::env::rng::Seeds;
use crate::env::{Clock, Disk, RealClock, RealDisk, Workers};
use crate::log::{LogOptions, SyncLevel};
use crate::lsm::Codec;
use crate::raft::GroupOptions;
use crate::rpc::link::LinkOptions;
use crate::shard::VectorLimits;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How a node of a cluster is opened.
#[derive(Debug, Clone)]
pub struct MemberOptions {
    /// Its folder.
    pub dir: PathBuf,
    /// Addresses of metadata nodes, `host:port`.
    pub meta: Vec<String>,
    /// The number its operator chose; `None` takes the next one, or the one it has.
    pub id: Option<u64>,
    /// Where clients and gateways reach it, `http://host:port`.
    pub data_url: String,
    /// Where other nodes reach it, `host:port`.
    pub raft_addr: String,
    /// Failure domains: `zone`, `rack`, `host`.
    pub labels: BTreeMap<String, String>,
    /// Memory of all shards, in bytes. Default: 256 MiB.
    pub memory_budget_bytes: u64,
    /// Bytes after which a family's memtable of one shard is written as a table, 4 KiB or more.
    /// `None`: as the memory budget allows.
    pub write_buffer_bytes: Option<u64>,
    /// How tables are compressed. Default: LZ4.
    pub compression: Codec,
    /// Background threads for flushes and compactions. Default: 2.
    pub background_threads: usize,
    /// Vectors of an index on a shard after which the graph that grows is sealed and another begun.
    /// Default: 131,072.
    pub vector_segment_rows: usize,
    /// Between two words to the metadata plane that it is alive. Default: 500 ms.
    pub heartbeat: Duration,
    /// Bytes a second of the snapshots it sends. Default: 64 MiB.
    pub snapshot_bytes_per_second: u64,
    /// When the log is on the disk. `Always` is what a majority's acknowledgement means; anything
    /// else loses acknowledged writes if a majority loses power at once. Default: `Always`.
    pub sync: SyncLevel,
    /// Settings of its groups.
    pub group: GroupOptions,
    /// Where the folder lies. Default: the operating system's files.
    pub disk: Arc<dyn Disk>,
    /// What time it is. Default: the machine's clock.
    pub clock: Arc<dyn Clock>,
    /// Bytes of a segment of its log. Default: 16 MiB.
    pub segment_bytes: u64,
    /// Bytes of the log on disk above which groups are asked to let go of its oldest part. Default:
    /// 1 GiB.
    pub log_bytes_max: u64,
    /// How it reaches the others. Default: over TCP.
    pub link: LinkOptions,
    /// Where it works. Default: on threads of its own.
    pub workers: Workers,
    /// Where it takes its seeds from. Default: the outside world.
    pub seeds: Seeds,
}

impl MemberOptions {
    /// The defaults.
    pub fn new(dir: impl Into<PathBuf>, meta: Vec<String>, raft_addr: &str) -> MemberOptions {
        MemberOptions {
            dir: dir.into(),
            meta,
            id: None,
            data_url: format!("http://{raft_addr}"),
            raft_addr: raft_addr.to_string(),
            labels: BTreeMap::new(),
            memory_budget_bytes: 256 << 20,
            write_buffer_bytes: None,
            compression: Codec::default(),
            background_threads: 2,
            vector_segment_rows: VectorLimits::default().segment_rows,
            heartbeat: Duration::from_millis(500),
            snapshot_bytes_per_second: 64 << 20,
            sync: SyncLevel::Always,
            group: GroupOptions::default(),
            disk: RealDisk::shared(),
            clock: Arc::new(RealClock::new()),
            segment_bytes: LogOptions::default().segment_bytes,
            log_bytes_max: 1 << 30,
            link: LinkOptions::default(),
            workers: Workers::default(),
            seeds: Seeds::default(),
        }
    }
}

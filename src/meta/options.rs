//! Settings of a metadata node.

use crate::base::{Error, Result};
use crate::env::rng::Seeds;
use crate::env::{Clock, Disk, RealClock, RealDisk, Workers};
use crate::log::LogOptions;
use crate::meta::jobs::Limits;
use crate::raft::GroupOptions;
use crate::rpc::link::LinkOptions;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How a metadata node is opened.
#[derive(Debug, Clone)]
pub struct MetaOptions {
    /// Its folder.
    pub dir: PathBuf,
    /// Its number among the metadata nodes, from 1. One whose folder was lost is taken in again under
    /// its number by a majority of the others.
    pub id: u64,
    /// All metadata nodes, this one among them: number, and `host:port`. One, three or five. The
    /// same at each of them.
    pub peers: Vec<(u64, String)>,
    /// A node that was not heard of for so long is suspect. Default 3 s.
    pub suspect_after: Duration,
    /// A suspect node that was not heard of for so long is dead. Default 5 minutes; above
    /// `suspect_after`.
    pub dead_after: Duration,
    /// How much is moved at a time.
    pub limits: Limits,
    /// Settings of the group.
    pub group: GroupOptions,
    /// Where the folder lies. Default: the operating system's files.
    pub disk: Arc<dyn Disk>,
    /// What time it is. Default: the machine's clock.
    pub clock: Arc<dyn Clock>,
    /// Bytes of a segment of its log. Default: 16 MiB.
    pub segment_bytes: u64,
    /// How it reaches the others. Default: over TCP.
    pub link: LinkOptions,
    /// Where it works. Default: on threads of its own.
    pub workers: Workers,
    /// Where it takes its seeds from. Default: the outside world.
    pub seeds: Seeds,
}

impl MetaOptions {
    /// The defaults.
    pub fn new(dir: impl Into<PathBuf>, id: u64, peers: Vec<(u64, String)>) -> MetaOptions {
        MetaOptions {
            dir: dir.into(),
            id,
            peers,
            suspect_after: Duration::from_secs(3),
            dead_after: Duration::from_secs(300),
            limits: Limits::default(),
            group: GroupOptions::default(),
            disk: RealDisk::shared(),
            clock: Arc::new(RealClock::new()),
            segment_bytes: LogOptions::default().segment_bytes,
            link: LinkOptions::default(),
            workers: Workers::default(),
            seeds: Seeds::default(),
        }
    }

    /// Whether a number is that of another metadata node.
    pub(super) fn is_other(&self, number: u64) -> bool {
        number != self.id && self.peers.iter().any(|(id, _)| *id == number)
    }

    /// # Errors
    /// `InvalidArgument`, with what to mend.
    pub fn validate(&self) -> Result<()> {
        if !matches!(self.peers.len(), 1 | 3 | 5) {
            let message = format!(
                "there are one, three or five metadata nodes, not {}: an even number survives no \
                 more losses than one less",
                self.peers.len()
            );
            return Err(Error::invalid(message));
        }
        let mut ids: Vec<u64> = self.peers.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let is_number = |id: &u64| (1..=u64::from(u32::MAX)).contains(id);
        if ids.len() != self.peers.len() || !ids.iter().all(is_number) {
            let message = "the numbers of metadata nodes are from 1 to 4294967295, each once";
            return Err(Error::invalid(message));
        }
        if !ids.contains(&self.id) {
            let message = format!("metadata node {} is not among its own peers", self.id);
            return Err(Error::invalid(message));
        }
        if self.dead_after <= self.suspect_after {
            return Err(Error::invalid("a node is dead later than it is suspect"));
        }
        let lease_ms = self.limits.lease.as_millis();
        if self.limits.moves_per_node == 0 || !(100..=3_600_000).contains(&lease_ms) {
            let message = "a node has one move at a time at least, and a job is held for 100 ms to \
                           an hour";
            return Err(Error::invalid(message));
        }
        Ok(())
    }
}

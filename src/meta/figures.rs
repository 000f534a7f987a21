//! What nodes say of the shards they lead: in memory only, and gone with the leader.

use crate::catalog::ShardId;
use crate::catalog::plan::{Figures, ShardFigures};
use crate::rpc::cluster::report::ShardReport;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What was not said again for so long counts no more.
const KEPT: Duration = Duration::from_secs(60);

/// The last word on each shard.
#[derive(Debug, Default)]
pub(super) struct Reports(Mutex<BTreeMap<ShardId, (Instant, ShardReport)>>);

impl Reports {
    /// Takes what a node says.
    pub(super) fn take(&self, reports: Vec<ShardReport>) {
        let now = Instant::now();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (at, _)| now.duration_since(*at) < KEPT);
        kept.extend(reports.into_iter().map(|report| (ShardId(report.shard), (now, report))));
    }

    /// All that is known.
    pub(super) fn all(&self) -> Vec<ShardReport> {
        let now = Instant::now();
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = kept.values().filter(|(at, _)| now.duration_since(*at) < KEPT);
        fresh.map(|(_, report)| *report).collect()
    }

    /// The same as plans want it.
    pub(super) fn of_shards(&self) -> ShardFigures {
        let figure = |r: ShardReport| {
            (ShardId(r.shard), Figures { bytes: r.bytes, load: r.requests_per_second })
        };
        self.all().into_iter().map(figure).collect()
    }
}

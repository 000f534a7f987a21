//! What a node says of the shards it leads: beside the heartbeat, to nobody's log.

use crate::base::CfId;
use crate::node::cluster::member::Inner;
use crate::node::pipeline;
use crate::rpc::cluster::report::ShardReport;
use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two reports.
const EVERY: Duration = Duration::from_secs(5);

/// Reports until the node stops.
pub(super) async fn run(node: Weak<Inner>) {
    // The operations that each shard had seen, and when.
    let mut before: BTreeMap<u64, (Instant, u64)> = BTreeMap::new();
    loop {
        sleep(EVERY).await;
        let Some(inner) = node.upgrade() else { return };
        let mut reports = Vec::new();
        let mut seen = BTreeMap::new();
        for replica in inner.replicas.all().into_iter().filter(|r| r.session() != 0) {
            let Ok(shard) = replica.handle.get() else { continue };
            let look = move || {
                let engine = shard.engine();
                let stats = engine.stats();
                let keys = engine.counts(CfId::DEFAULT).map_or(0, |counts| counts.keys);
                let operations = stats.gets + stats.iterators + engine.visible_seq().0;
                Ok((stats.table_bytes + stats.memtable_bytes, keys, operations))
            };
            let looked = pipeline::on(&inner.slow, look).await;
            let Ok((bytes, keys, operations)) = looked else { continue };
            let (id, now) = (replica.record.id.0, Instant::now());
            let requests_per_second = before.get(&id).map_or(0, |(then, known)| {
                let ms = now.duration_since(*then).as_millis().max(1) as u64;
                operations.saturating_sub(*known).saturating_mul(1_000) / ms
            });
            seen.insert(id, (now, operations));
            reports.push(ShardReport { shard: id, bytes, keys, requests_per_second });
        }
        before = seen;
        // One that does not get through is followed by the next.
        _ = inner.meta.report(&reports, Instant::now() + EVERY).await;
    }
}

//! Requests on a shard of a group.

use crate::base::{Error, ErrorKind, Result};
use crate::catalog::{ShardId, View};
use crate::env::{Clock, Pool};
use crate::node::cluster::member::Inner;
use crate::node::cluster::replicas::Running;
use crate::node::pipeline::{self, Execution};
use crate::op::kv::Stats;
use crate::raft::Consistency;
use crate::rpc::cluster::{Freshness, ShardAnswer, ShardCall, ShardFact, Stop};
use crate::shard::{Shard, Ticket};
use std::sync::Arc;
use std::time::Duration;

/// A replica that leads, for one pipeline.
struct Leading<'a> {
    shard: Arc<Shard>,
    running: Running,
    /// The session in which it began.
    session: u64,
    /// The version of the shard's slots that was asked for.
    epoch: u64,
    slow: &'a Pool,
    clock: &'a dyn Clock,
    consistency: Consistency,
    patience: Duration,
}

impl Execution for Leading<'_> {
    fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }

    fn now_ms(&self) -> u64 {
        self.clock.unix_ms()
    }

    fn slow(&self) -> &Pool {
        self.slow
    }

    async fn stats(&self) -> Result<Stats> {
        let (shard, now_ms) = (self.shard.clone(), self.now_ms());
        pipeline::on(self.slow, move || {
            let mut stats = shard.stats(now_ms)?;
            stats.sync = "always";
            Ok(stats)
        })
        .await
    }

    async fn commit(&self, ticket: Ticket) {
        let (send, receive) = tokio::sync::oneshot::channel();
        self.shard.when_committed(ticket, move |_| _ = send.send(()));
        // What has not committed by then is unknown, and told so by its ticket.
        _ = tokio::time::timeout(self.patience, receive).await;
    }

    async fn confirm(&self) -> Result<()> {
        let ready = self.running.group.ready_to_read(self.consistency, self.patience).await;
        // Whoever asked may ask another replica.
        ready.map_err(|e| Error::new(ErrorKind::Unavailable, e.message().to_string()))?;
        if self.shard.engine().part_epoch().max(1) != self.epoch {
            let message = "the shard was split meanwhile; try again";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        if self.running.session() == self.session {
            return Ok(());
        }
        // Another may have led, and written, between the evaluation and now.
        let message = "this node lost the lead of the shard meanwhile; try again";
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

impl Inner {
    /// Executes a call on this node's replica of its shard, if that leads.
    pub(super) async fn execute(&self, call: ShardCall, patience: Duration) -> ShardAnswer {
        let view = self.meta.view();
        let (running, session) = match self.leading(&call, &view) {
            Ok(leading) => leading,
            Err(stop) => return ShardAnswer { answers: Vec::new(), stop: Some(stop) },
        };
        let shard = match running.handle.get() {
            Ok(shard) => shard,
            Err(error) => {
                return ShardAnswer { answers: Vec::new(), stop: Some(Stop::NotDone(error)) };
            }
        };
        let leading = Leading {
            shard,
            session,
            epoch: call.epoch,
            running,
            slow: &self.slow,
            clock: &*self.options.clock,
            consistency: match call.freshness {
                Freshness::Linearizable => Consistency::Linearizable,
                Freshness::Lease | Freshness::Stale { .. } => Consistency::Lease,
            },
            patience,
        };
        let answers = pipeline::run(&leading, call.requests).await;
        ShardAnswer { answers, stop: None }
    }

    fn leading(&self, call: &ShardCall, view: &View) -> Result<(Running, u64), Stop> {
        let id = ShardId(call.shard);
        let running = self.replicas.get(id);
        let Some(running) = running.filter(|r| r.epoch() == call.epoch) else {
            return Err(Stop::WrongEpoch { covering: facts(view) });
        };
        let session = running.session();
        if session != 0 {
            return Ok((running, session));
        }
        match running.leader() {
            Some(leader) if leader == self.identity.node => Err(Stop::NotDone(Error::new(
                ErrorKind::Unavailable,
                "this node has just been elected and is not ready yet; try again soon",
            ))),
            leader => Err(Stop::NotLeader { leader }),
        }
    }
}

/// All shards as the catalog has them.
pub(super) fn facts(view: &View) -> Vec<ShardFact> {
    let address = |node| view.node(node).map(|n| n.profile.raft_addr.clone()).unwrap_or_default();
    let fact = |shard: &crate::catalog::records::Shard| ShardFact {
        shard: shard.id.0,
        epoch: shard.epoch.range,
        first: shard.slots.first,
        last: shard.slots.last,
        leader: shard.leader_node().map(|node| node.0),
        replicas: shard.replicas.iter().map(|r| (r.node.0, address(r.node))).collect(),
    };
    view.shards().map(fact).collect()
}

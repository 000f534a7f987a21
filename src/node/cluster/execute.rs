//! Requests on a shard of a group.

use crate::base::{CfId, Error, ErrorKind, Result};
use crate::catalog::{ShardId, View};
use crate::env::Pool;
use crate::node::cluster::member::Inner;
use crate::node::cluster::replicas::Running;
use crate::node::gate::Gate;
use crate::node::pipeline::{self, Execution};
use crate::op::Request;
use crate::op::kv::Stats;
use crate::raft::Consistency;
use crate::rpc::cluster::{Freshness, ShardAnswer, ShardCall, ShardFact, Stop};
use crate::shard::{Shard, Ticket, split_meanwhile};
use std::sync::Arc;
use std::time::Duration;

/// How long one that has just been elected may take to be ready, before who asks is sent away: the
/// time that a hand-over is noticed for.
const OPENING: Duration = Duration::from_millis(150);

/// A replica that leads, for one pipeline.
struct Leading<'a> {
    shard: Arc<Shard>,
    running: Running,
    /// The session in which it began.
    session: u64,
    /// The version of the shard's slots that was asked for.
    epoch: u64,
    node: &'a Inner,
    consistency: Consistency,
    patience: Duration,
}

impl Execution for Leading<'_> {
    fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }

    fn gate(&self) -> &Arc<Gate> {
        &self.running.gate
    }

    fn now_ms(&self) -> u64 {
        self.node.options.clock.unix_ms()
    }

    fn slow(&self) -> &Pool {
        &self.node.slow
    }

    fn epoch(&self) -> Option<u64> {
        Some(self.epoch)
    }

    async fn stats(&self) -> Result<Stats> {
        let mut stats = pipeline::stats(&self.shard, self.slow(), self.now_ms()).await?;
        stats.log_bytes = self.running.group.status().log_bytes;
        // Of what the shards led here share each has its part: a cluster's figures are summed.
        let led = self.node.replicas.all().iter().filter(|r| r.session() != 0).count();
        let led = (led as u64).max(1);
        stats.cache_bytes /= led;
        stats.memory_budget_bytes = self.node.options.memory_budget_bytes / led;
        Ok(stats)
    }

    async fn commit(&self, ticket: Ticket) {
        let (send, receive) = tokio::sync::oneshot::channel();
        self.shard.when_committed(ticket, move |_| _ = send.send(()));
        // What has not committed by then is unknown, and told so by its ticket.
        _ = tokio::time::timeout(self.patience, receive).await;
    }

    async fn confirm(&self, evaluations: usize) -> Result<()> {
        let group = &self.running.group;
        let confirm = |consistency| {
            group.confirm_session(self.session, consistency, self.patience, evaluations)
        };
        let mut leads = confirm(self.consistency).await;
        if leads.is_err() && self.consistency == Consistency::Lease {
            // It has run out: a majority says whether this is still the leader.
            leads = confirm(Consistency::Linearizable).await;
        }
        // Whoever asked may ask another replica.
        leads.map_err(|e| Error::new(ErrorKind::Unavailable, e.message().to_string()))?;
        if self.shard.epoch() != self.epoch {
            return Err(split_meanwhile());
        }
        Ok(())
    }
}

impl Inner {
    /// Executes a call on this node's replica of its shard, if that leads, or need not.
    pub(super) async fn execute(&self, call: ShardCall, patience: Duration) -> ShardAnswer {
        if call.requests.iter().any(is_for_catalog) {
            let message =
                "column families and indexes of a cluster are created and dropped in its catalog";
            let error = Error::new(ErrorKind::Refused, message);
            return ShardAnswer { answers: Vec::new(), stop: Some(Stop::NotDone(error)) };
        }
        let view = self.meta.view();
        if let Some(answer) = self.execute_stale(&call, &view, patience, false).await {
            return answer;
        }
        let (running, session) = match self.leading(&call, &view, patience).await {
            Ok(leading) => leading,
            Err(stop) => {
                let stale = self.execute_stale(&call, &view, patience, true).await;
                return stale.unwrap_or(ShardAnswer { answers: Vec::new(), stop: Some(stop) });
            }
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
            node: self,
            consistency: match call.freshness {
                Freshness::Linearizable => Consistency::Linearizable,
                Freshness::Lease | Freshness::Stale { .. } => Consistency::Lease,
            },
            patience,
        };
        if !matches!(call.freshness, Freshness::Stale { .. }) {
            return self.answer(&leading, call.requests).await;
        }
        let answer = self.answer(&leading, call.requests.clone()).await;
        if answer.answers.iter().any(|answer| answer.is_ok()) {
            return answer;
        }
        // One that no majority hears any more may still be fresh enough.
        self.execute_stale(&call, &view, patience, true).await.unwrap_or(answer)
    }

    /// Executes requests. A family that the catalog has and the shard has not yet is not missing.
    pub(super) async fn answer<E: Execution>(&self, on: &E, requests: Vec<Request>) -> ShardAnswer {
        let coming = self.coming_families(on.shard(), &requests);
        let mut answers = pipeline::run(on, requests).await;
        for (at, cf) in coming {
            if let Some(Err(error)) = answers.get_mut(at)
                && error.kind() == ErrorKind::NotFound
            {
                let message = format!("column family {cf} is being created; try again soon");
                *error = Error::new(ErrorKind::Unavailable, message);
            }
        }
        ShardAnswer { answers, stop: None }
    }

    /// The requests, by their place, that name a family which the catalog has and the shard has not
    /// yet.
    fn coming_families(&self, shard: &Shard, requests: &[Request]) -> Vec<(usize, CfId)> {
        let mut coming = Vec::new();
        for (at, request) in requests.iter().enumerate() {
            let is_coming = |cf: &CfId| {
                *cf != CfId::DEFAULT
                    && !shard.has_family(*cf)
                    && self.meta.view().family_of_id(*cf).is_some()
            };
            coming.extend(request.families().find(is_coming).map(|cf| (at, cf)));
        }
        coming
    }

    /// The replica of a call's shard, if it has the slots that the caller thinks.
    pub(super) fn replica_of(&self, call: &ShardCall, view: &View) -> Result<Running, Stop> {
        let running = self.replicas.get(ShardId(call.shard));
        let running = running.filter(|r| r.epoch() == call.epoch);
        running.ok_or_else(|| Stop::WrongEpoch { covering: facts(view) })
    }

    async fn leading(
        &self,
        call: &ShardCall,
        view: &View,
        patience: Duration,
    ) -> Result<(Running, u64), Stop> {
        let running = self.replica_of(call, view)?;
        let mut session = running.session();
        if session == 0 {
            let leader = running.leader();
            if leader != Some(self.identity.node) {
                return Err(Stop::NotLeader { leader });
            }
            session = running.opening(patience.min(OPENING)).await;
            // An entry that it had not come to before may have split it.
            self.replica_of(call, view)?;
        }
        if session != 0 {
            return Ok((running, session));
        }
        Err(Stop::NotDone(Error::new(
            ErrorKind::Unavailable,
            "this node has just been elected and is not ready yet; try again soon",
        )))
    }
}

/// What no shard may do by itself.
fn is_for_catalog(request: &Request) -> bool {
    match request {
        Request::CreateCf { .. } | Request::DropCf { .. } => true,
        Request::Vector(call) => call.is_for_catalog(),
        _ => false,
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

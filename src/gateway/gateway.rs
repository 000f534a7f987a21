//! [`Gateway`], and the way of a pipeline through it.

use crate::base::{Error, ErrorKind, Result};
use crate::env::Rng;
use crate::gateway::calls::{Consistency, ShardCalls};
use crate::gateway::freshness;
use crate::gateway::map::{MapCache, ShardInfo, ShardMap};
use crate::gateway::options::GatewayOptions;
use crate::gateway::plan::Pending;
use crate::gateway::redis_cluster::Myself;
use crate::gateway::retry::Retries;
use crate::gateway::search::Searches;
use crate::op::kv::RequestId;
use crate::op::route::{Route, ShardId};
use crate::op::txn::Txn;
use crate::op::{KvOps, Request, Response, Topology};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The least time between two questions for the shards that nobody waits for.
const REFRESH_PAUSE: Duration = Duration::from_millis(50);

/// Many shards as one database.
pub struct Gateway<C> {
    pub(super) calls: C,
    pub(super) options: GatewayOptions,
    pub(super) map: MapCache,
    pub(super) retries: Retries,
    pub(super) searches: Searches,
    pub(super) rng: std::sync::Mutex<Rng>,
    /// Who this gateway is, to Redis clients.
    pub(super) myself: Option<Myself>,
    /// The client id of requests that come without one, and the number of the next.
    client: u64,
    pub(super) next_request: AtomicU64,
    /// Transactions that are finished everywhere, which their homes have not been told.
    pub(super) finished: std::sync::Mutex<Vec<Txn>>,
    /// The last stamps seen of shards, as far as transactions over several go.
    pub(super) stamps: std::sync::Mutex<HashMap<ShardId, u64>>,
    /// Held by who asks for the shards: when that was last done.
    refreshing: Mutex<Option<Instant>>,
}

impl<C: ShardCalls> Gateway<C> {
    /// A gateway that knows no shard yet: it asks for them with the first request, or when told
    /// to [`refresh`](Gateway::refresh).
    pub fn new(calls: C, options: GatewayOptions) -> Gateway<C> {
        let mut rng = Rng::new(options.seed);
        let client = rng.next_u64();
        let call_timeout = options.call_timeout.min(GatewayOptions::CALL_TIMEOUT_MAX);
        let myself = options.redis_address.as_deref().and_then(|at| Myself::at(at, client));
        Gateway {
            calls,
            map: MapCache::default(),
            retries: Retries::new(options.retry, rng.fork()),
            searches: Searches::new(),
            rng: std::sync::Mutex::new(rng),
            myself,
            client,
            next_request: AtomicU64::new(1),
            finished: std::sync::Mutex::default(),
            stamps: std::sync::Mutex::default(),
            refreshing: Mutex::new(None),
            options: GatewayOptions { call_timeout, ..options },
        }
    }

    /// What lies below.
    pub fn calls(&self) -> &C {
        &self.calls
    }

    /// The shards as they are known.
    pub fn map(&self) -> Arc<ShardMap> {
        self.map.load()
    }

    /// Takes what is newer than what is known, as a subscription brings it. Who leads a shard that is
    /// known is learned from nodes alone.
    pub fn learn(&self, shards: &[ShardInfo]) {
        self.map.learn(shards);
    }

    /// Asks for the shards.
    ///
    /// # Errors
    /// What asking fails with; then the map stays as it was.
    pub async fn refresh(&self) -> Result<()> {
        let mut last = self.refreshing.lock().await;
        *last = Some(Instant::now());
        let shards = self.calls.shards().await?;
        self.map.learn(&shards);
        Ok(())
    }

    /// Asks for the shards, unless somebody else does or has just done so. If that fails, what is
    /// known has to do.
    pub(super) async fn refresh_alone(&self) {
        let Ok(mut last) = self.refreshing.try_lock() else { return };
        let now = Instant::now();
        if last.is_some_and(|last| now - last < REFRESH_PAUSE) {
            return;
        }
        *last = Some(now);
        if let Ok(shards) = self.calls.shards().await {
            self.map.learn(&shards);
        }
    }

    /// Gives a write an id, so that it can be repeated.
    fn identify(&self, request: &mut Request) {
        if let Request::Write { id, .. } | Request::PutIf { id, .. } = request {
            id.get_or_insert_with(|| self.next_id());
        }
    }

    /// An id for a request that comes without one.
    pub(super) fn next_id(&self) -> RequestId {
        let request = self.next_request.fetch_add(1, Ordering::Relaxed);
        RequestId { client: self.client, request }
    }

    /// Executes a request that is no part of a run.
    async fn execute_alone(
        &self,
        request: Request,
        route: Route,
        deadline: Instant,
    ) -> Result<Response> {
        match route {
            Route::Catalog => self.catalog(request, deadline).await,
            _ => self.everywhere(request, deadline).await,
        }
    }
}

impl<C: ShardCalls> KvOps for Gateway<C> {
    async fn pipeline(&self, requests: Vec<Request>) -> Vec<Result<Response>> {
        let deadline = Instant::now() + self.options.call_timeout;
        let mut answers = Vec::with_capacity(requests.len());
        let mut run = Vec::with_capacity(requests.len());
        for mut request in requests {
            self.identify(&mut request);
            let route = Route::of(&request);
            if !matches!(route, Route::EveryShard | Route::Catalog) {
                run.push(Pending { request, route, maybe: false });
                continue;
            }
            if !run.is_empty() {
                let before = std::mem::take(&mut run);
                answers.extend(Box::pin(self.settle(before, deadline)).await);
            }
            answers.push(Box::pin(self.execute_alone(request, route, deadline)).await);
        }
        if !run.is_empty() {
            answers.extend(self.settle(run, deadline).await);
        }
        answers
    }

    async fn pipeline_at(
        &self,
        consistency: Consistency,
        requests: Vec<Request>,
    ) -> Vec<Result<Response>> {
        freshness::with(consistency, self.pipeline(requests)).await
    }

    fn topology(&self) -> Option<Arc<Topology>> {
        self.map.load().topology(self.myself.as_ref())
    }
}

impl<C> std::fmt::Debug for Gateway<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shards = self.map.load().shards().len();
        f.debug_struct("Gateway").field("client", &self.client).field("shards", &shards).finish()
    }
}

/// The error of a request that found no shard.
pub(super) fn no_shard(slot: u16) -> Error {
    Error::new(ErrorKind::Unavailable, format!("no shard is known for slot {slot}"))
}

/// The error of an answer of the wrong kind.
pub(super) fn unfitting(asked: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("a shard's answer does not fit {asked}"))
}

//! Settings of a gateway.

use crate::env::rng::entropy;
use crate::gateway::calls::Consistency;
use crate::gateway::map::NodeId;
use std::sync::Arc;
use std::time::Duration;

/// Settings of a gateway.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// The longest a pipeline may take, retries included. Default 30 s. At most 5 minutes: shards
    /// remember request ids for ten.
    pub call_timeout: Duration,
    /// How fresh reads are. Default: linearizable.
    pub consistency: Consistency,
    /// How long one attempt may take at first; after one that took longer the next may take twice as
    /// long. What may not be repeated has until the deadline. Default 1 s.
    pub attempt_timeout: Duration,
    /// The node on which, or near which, this gateway runs: stale reads are asked of it first.
    /// Default: none.
    pub near: Option<NodeId>,
    /// The most shards that one fan-out calls at a time. Default 16; at least 1.
    pub fan_out_max: usize,
    /// The most bytes that the merged answer of a fan-out may take. Default 512 MiB.
    pub answer_bytes_max: usize,
    /// Pauses between attempts, and their budget.
    pub retry: RetryOptions,
    /// `host:port` at which Redis clients reach this gateway. It is what cluster clients are told
    /// of the slots whose node has no such address. Default: none.
    pub redis_address: Option<Arc<str>>,
    /// Answers a Redis command whose slot is led elsewhere with `MOVED` instead of passing it on.
    /// Default: off.
    pub moved: bool,
    /// Seed of the client id and of pauses. Default: differs from gateway to gateway.
    pub seed: u64,
}

/// How a call that did not get through is repeated.
#[derive(Debug, Clone, Copy)]
pub struct RetryOptions {
    /// The first pause; each further one is twice as long, give or take a half. Default 5 ms.
    pub pause_first: Duration,
    /// The longest pause. Default 250 ms.
    pub pause_max: Duration,
    /// How often the replicas of a shard without a known leader are asked, by one caller at a time.
    /// Default 15 ms.
    pub search: Duration,
    /// How many repetitions the gateway may have in hand. Default 10,000.
    pub budget: u32,
    /// How many are added each second. Default 2,000.
    pub budget_per_second: u32,
}

impl GatewayOptions {
    /// The longest [`call_timeout`](GatewayOptions::call_timeout).
    pub const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(300);
}

impl Default for GatewayOptions {
    fn default() -> GatewayOptions {
        GatewayOptions {
            call_timeout: Duration::from_secs(30),
            consistency: Consistency::default(),
            attempt_timeout: Duration::from_secs(1),
            near: None,
            fan_out_max: 16,
            answer_bytes_max: 512 << 20,
            retry: RetryOptions::default(),
            redis_address: None,
            moved: false,
            seed: entropy(),
        }
    }
}

impl Default for RetryOptions {
    fn default() -> RetryOptions {
        RetryOptions {
            pause_first: Duration::from_millis(5),
            pause_max: Duration::from_millis(250),
            search: Duration::from_millis(15),
            budget: 10_000,
            budget_per_second: 2_000,
        }
    }
}

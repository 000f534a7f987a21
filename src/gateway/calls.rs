//! The seam below the gateway: calls to shards, and how they fail.

use crate::base::{Error, Result};
use crate::gateway::map::{Node, ShardInfo};
pub use crate::op::Consistency;
use crate::op::route::ShardId;
use crate::op::{Request, Response};
use std::future::Future;
use tokio::time::Instant;

/// Whom a call is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The shard.
    pub shard: ShardId,
    /// The epoch at which the caller knows it. At any other the call has no effect.
    pub epoch: u64,
    /// The node to ask.
    pub node: Node,
    /// How fresh reads must be.
    pub consistency: Consistency,
}

/// What became of a call.
#[derive(Debug)]
pub struct Called {
    /// The answers to its first requests, in order.
    pub answers: Vec<Result<Response>>,
    /// What the requests behind those met; none if all are answered.
    pub stopped: Option<CallFailure>,
}

/// Why requests have no answer of their own.
#[derive(Debug, Clone)]
pub enum CallFailure {
    /// The node does not lead the shard. Nothing was done.
    NotLeader {
        /// Who does, if it knows.
        leader: Option<Node>,
    },
    /// The shard is not what the caller knows, or not there. Nothing was done.
    WrongEpoch {
        /// The shards that have its slots now, as far as the node knows.
        covering: Vec<ShardInfo>,
    },
    /// Nothing was sent, or nothing was begun.
    Unreachable(Error),
    /// It may have happened.
    Unknown(Error),
}

/// What lies below a gateway. Implemented over shards of this process and over the network.
///
/// A request's own answer may be an error too. There [`Unavailable`] and [`Busy`] say that it had
/// no effect and may be repeated, [`Unknown`] that it may have happened, every other kind that it
/// had no effect and will not have one.
///
/// [`Unavailable`]: crate::base::ErrorKind::Unavailable
/// [`Busy`]: crate::base::ErrorKind::Busy
/// [`Unknown`]: crate::base::ErrorKind::Unknown
pub trait ShardCalls: Send + Sync + 'static {
    /// Executes `requests` in order on one shard, until `deadline` at the latest.
    fn call(
        &self,
        to: &Target,
        requests: &[Request],
        deadline: Instant,
    ) -> impl Future<Output = Called> + Send;

    /// Executes a request for the cluster's catalog. Whom to ask there is for the calls to find:
    /// of failures only [`CallFailure::Unknown`] is told from the others.
    fn catalog(&self, request: &Request, deadline: Instant) -> impl Future<Output = Called> + Send;

    /// All shards as they are known now. It is asked when the map is empty or proves stale, one
    /// call at a time, and may be dropped half-way.
    fn shards(&self) -> impl Future<Output = Result<Vec<ShardInfo>>> + Send;
}

impl Called {
    /// Every request is answered.
    pub fn all(answers: Vec<Result<Response>>) -> Called {
        Called { answers, stopped: None }
    }

    /// No request is.
    pub fn failed(failure: CallFailure) -> Called {
        Called { answers: Vec::new(), stopped: Some(failure) }
    }
}

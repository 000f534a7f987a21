//! Floor 8: the gateway, the role without state: route, retry, fan out, merge.
//!
//! It takes pipelines of requests as any [`KvOps`](crate::op::KvOps) does, sends each request to
//! the shard of its hash slot through one seam, [`ShardCalls`], and gives the answers in order.
//! What it keeps can be lost: a map of the shards, learned from below, and counters.
//!
//! Words: a *run* is the requests of a pipeline up to the next one for every shard; a *group* is
//! the requests of a run for one shard, sent as one call; an *attempt* is one such call. A *fan-out*
//! is a request for every shard (or those a prefix leaves).
//!
//! In reading order:
//! - [`calls`]: the seam below, and how a call fails; [`local`]: shards in this process;
//!   [`remote`]: those of a cluster's nodes; `lanes`: small calls sent as one.
//! - [`options`]: its settings, [`GatewayOptions`].
//! - [`map`]: which shard has which slots, who leads it; learned forward only.
//! - `gateway`: [`Gateway`], and the way of a pipeline through it.
//! - `plan`: a run divided into groups. `split`: reads of many keys, divided and put together.
//! - `together`: what must be seen as one and reaches into several shards. `commit`: how it is
//!   committed over them. `locks`: what of that stands in the way of others.
//! - `attempts`: a group until it is answered: leaders, epochs, deadlines. `absorb`: what an
//!   attempt's answers settle. `retry`: pauses, and the budget for them. `search`: who looks for
//!   a leader. `freshness`: how fresh a pipeline's reads must be, and whom that lets it ask.
//! - `scatter`: a request for many shards, and the merge of their answers.
//! - `scan`, `redis_scan`, `everywhere`: the fan-outs that there are.
//! - `families`: column families, which the catalog names and the shards keep.
//! - `vectors`: indexes of vectors, which the catalog names and every shard has a part of;
//!   `vector_search`: searches of them.
//! - `redis_cluster`: what clients of Redis Cluster are told.
//!
//! Invariants owed to the doors:
//! - Requests of one pipeline to one shard happen in their order; a fan-out happens after all
//!   before it and before all behind it.
//! - What one request writes in several shards happens in all or in none, and nobody sees a part.
//! - A write happens once at most. It is repeated only if it did not begin or has a request id.
//! - A write that may have happened is reported as unknown, never as failed.
//! - A fan-out is answered for all shards concerned or with an error, never for a part of them.
//! - No request outlives the deadline of its pipeline.

mod absorb;
mod attempts;
pub mod calls;
mod commit;
mod everywhere;
mod families;
mod freshness;
#[expect(clippy::module_inception, reason = "the folder is named after what this file defines")]
mod gateway;
mod lanes;
pub mod local;
mod locks;
pub mod map;
pub mod options;
mod plan;
mod redis_cluster;
mod redis_scan;
pub mod remote;
mod retry;
mod scan;
mod scatter;
mod search;
mod split;
mod together;
mod vector_search;
mod vectors;

pub use calls::{CallFailure, Called, Consistency, ShardCalls, Target};
pub use gateway::Gateway;
pub use local::LocalShards;
pub use map::{Node, NodeId, ShardInfo, ShardMap};
pub use options::{GatewayOptions, RetryOptions};
pub use remote::RemoteShards;

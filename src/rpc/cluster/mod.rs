//! What the programs of a cluster ask each other, over [`link`](crate::rpc::link)s.
//!
//! In reading order:
//! - [`method`]: the numbers of the calls.
//! - [`meta`]: [`MetaClient`]: changing the catalog, and following it.
//! - [`report`]: what a node says of the shards it leads.
//! - [`shard_call`]: requests for a shard of a node, and what became of them.
//! - [`copy_call`]: a copy of a shard, held by a node and read file by file.

pub mod copy_call;
pub mod meta;
pub mod method;
pub mod report;
pub mod shard_call;

pub use meta::MetaClient;
pub use shard_call::{Freshness, ShardAnswer, ShardCall, ShardFact, Stop};

//! Requests whose keys lie in several shards and that must be seen as one: which they are, and the
//! way of each.
//!
//! A write of several keys, a transaction, and a read that computes something of several keys are
//! committed over the shards, see `commit`. A read that lists keys is divided, see `split`, and
//! done without locks: what its keys are is remembered in every shard, the keys are read, and what
//! they are is asked again. If nothing has changed, there was a moment at which all that was read
//! was so. If something changes time and again, the read is committed as a write is.

use crate::base::Result;
use crate::gateway::absorb::{Group, in_doubt};
use crate::gateway::calls::ShardCalls;
use crate::gateway::gateway::{Gateway, unfitting};
use crate::gateway::map::{ShardInfo, ShardMap};
use crate::gateway::plan::Pending;
use crate::gateway::split::{Split, split};
use crate::op::kv::{RedisCall, Watched};
use crate::op::route::Route;
use crate::op::{Reply, Request, Response};
use bytes::Bytes;
use futures::future::join_all;
use std::sync::Arc;
use tokio::time::Instant;

/// How often a read without locks is tried.
const READS: u32 = 4;

/// Whether a request must be seen as one and reaches into several shards.
pub(super) fn spans(pending: &Pending, map: &ShardMap) -> bool {
    match &pending.route {
        Route::Slots(slots) => {
            !map.is_one_shard(slots) && !matches!(pending.request, Request::Watch { .. })
        }
        _ => false,
    }
}

/// A part of a read in its shard, with what its keys were before it.
struct Part {
    shard: Arc<ShardInfo>,
    keys: Vec<Bytes>,
    before: Vec<Watched>,
    answer: Result<Response>,
}

impl<C: ShardCalls> Gateway<C> {
    /// Executes a request that [`spans`] several shards.
    pub(super) async fn together(&self, pending: Pending, deadline: Instant) -> Result<Response> {
        let Pending { request, maybe, .. } = pending;
        if maybe && !matches!(request, Request::Write { .. }) {
            // It was tried when its keys lay in one shard, and bears no name by which that is known.
            return Err(in_doubt(&crate::base::Error::new(
                crate::base::ErrorKind::Unavailable,
                "the shard of its keys was divided meanwhile",
            )));
        }
        for _ in 0..READS {
            let Some(split) = split(&request, &self.map.load()) else { break };
            if let Some(answer) = self.read_together(split, deadline).await {
                return answer;
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        self.commit(request, maybe, deadline).await
    }

    /// A read of all parts as of one moment; `None` if there was none.
    async fn read_together(&self, split: Split, deadline: Instant) -> Option<Result<Response>> {
        let Split { parts, join } = split;
        let reads = parts.into_iter().map(|(slot, part)| self.read_part(slot, part, deadline));
        let mut before = Vec::new();
        for part in join_all(reads).await {
            before.push(match part? {
                Ok(part) => part,
                Err(error) => return Some(Err(error)),
            });
        }
        let again = before.iter().map(|part| {
            let keys = part.keys.clone();
            self.ask(&part.shard, Request::Watch { keys }, deadline)
        });
        for (part, again) in before.iter().zip(join_all(again).await) {
            match again? {
                Ok(Response::Watched(after)) if after == part.before => {}
                Ok(Response::Watched(_)) => return None,
                Ok(_) => return Some(Err(unfitting("what keys are"))),
                Err(error) => return Some(Err(error)),
            }
        }
        Some(join.join(before.into_iter().map(|part| part.answer).collect()))
    }

    /// Reads a part; `None` if its shard has changed, or the part itself shows that its keys have.
    async fn read_part(&self, slot: u16, part: Request, deadline: Instant) -> Option<Result<Part>> {
        let shard = match self.find_shard(slot, deadline).await {
            Ok(shard) => shard,
            Err(error) => return Some(Err(error)),
        };
        let Request::Redis(RedisCall { args, .. }) = &part else {
            return Some(Err(unfitting("a read of many keys")));
        };
        let keys = args[1..].to_vec();
        let mut group = Group::default();
        group.push(Request::Watch { keys: keys.clone() }, false);
        group.push(part, false);
        let outcome = self.call_shard(&shard, group, deadline).await;
        let [before, answer] = <[_; 2]>::try_from(outcome.answers).ok()?;
        let (before, answer) = (before?, answer?);
        match before {
            Ok(Response::Watched(before)) => {
                // Of an absent key that came and went between no number is left.
                let is_torn = match &answer {
                    Ok(Response::Redis(Reply::Array(values))) => values
                        .iter()
                        .zip(&before)
                        .any(|(value, key)| *value != Reply::Nil && !key.existed),
                    Ok(Response::Redis(Reply::Int(n))) => {
                        let existed = before.iter().filter(|key| key.existed).count();
                        usize::try_from(*n) != Ok(existed)
                    }
                    _ => false,
                };
                (!is_torn).then_some(Ok(Part { shard, keys, before, answer }))
            }
            Ok(_) => Some(Err(unfitting("what keys are"))),
            Err(error) => Some(Err(error)),
        }
    }
}

/// The answer to a transaction that reaches into every shard.
pub(super) fn refusal_of_every_shard() -> Result<Response> {
    Ok(Response::Redis(Reply::Error(
        "CROSSSLOT A command of the transaction reaches into every shard: execute it outside of \
         MULTI"
            .to_string(),
    )))
}

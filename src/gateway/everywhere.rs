//! Requests for every shard.

use crate::base::{Error, ErrorKind, Result};
use crate::gateway::calls::ShardCalls;
use crate::gateway::gateway::{Gateway, unfitting};
use crate::gateway::plan::Pending;
use crate::gateway::scatter::{Gathered, Merging, slots_of_prefix};
use crate::gateway::together::refusal_of_every_shard;
use crate::op::command::{self, Id};
use crate::op::kv::{RedisCall, Stats};
use crate::op::route::{Route, SlotRange};
use crate::op::{Reply, Request, Response};
use bytes::Bytes;
use std::sync::PoisonError;
use tokio::time::Instant;

impl<C: ShardCalls> Gateway<C> {
    /// Executes a request whose route is every shard.
    pub(super) async fn everywhere(&self, request: Request, deadline: Instant) -> Result<Response> {
        match request {
            Request::Scan(scan) => self.scan(scan, deadline).await,
            Request::DeleteByPrefix { ref prefix, .. } => {
                let concerned = slots_of_prefix(prefix);
                let answers = self.write_shards(concerned, deadline, &request).await?;
                let counts = answers.into_iter().map(|answer| match answer {
                    Response::Deleted(n) => Ok(n),
                    _ => Err(unfitting("a delete by prefix")),
                });
                counts.sum::<Result<u64>>().map(Response::Deleted)
            }
            Request::Stats => {
                let answers = self.read_shards(SlotRange::ALL, deadline, &request).await?;
                stats(answers).map(|stats| Response::Stats(Box::new(stats)))
            }
            Request::Redis(call) => self.redis_everywhere(call, deadline).await,
            Request::Vector(call) => self.vectors(*call, deadline).await,
            Request::RedisTransaction { .. } => self.transaction(request, deadline).await,
            _ => Err(Error::new(ErrorKind::Internal, "the request is not one for every shard")),
        }
    }

    async fn redis_everywhere(&self, call: RedisCall, deadline: Instant) -> Result<Response> {
        match call.spec.id {
            Id::Scan => self.redis_scan(call, deadline).await,
            Id::Randomkey => self.random_key(call, deadline).await,
            Id::Dbsize => {
                let counts = self.counts(deadline).await?;
                Ok(Response::Redis(Reply::Int(counts.into_iter().map(|(_, n)| n).sum())))
            }
            Id::Keys => {
                let pattern = call.args.get(1).map_or(&[][..], |pattern| pattern);
                let concerned = slots_of_prefix(literal_prefix(pattern));
                let request = Request::Redis(call);
                let answers = self.read_shards(concerned, deadline, &request).await?;
                keys_in_order(answers).map(Response::Redis)
            }
            _ => {
                let request = Request::Redis(call);
                let answers = self.write_shards(SlotRange::ALL, deadline, &request).await?;
                // All say the same, or one tells of what was wrong with the call.
                let is_error = |answer: &&Response| matches!(answer, Response::Redis(reply) if reply.is_error());
                let told = answers.iter().find(is_error).or(answers.first());
                told.cloned().ok_or_else(|| unfitting("the command"))
            }
        }
    }

    /// How many keys each shard has.
    async fn counts(&self, deadline: Instant) -> Result<Vec<(SlotRange, i64)>> {
        let args = vec![Bytes::from_static(b"DBSIZE")];
        let spec = command::lookup(&args).map_err(|_| unfitting("DBSIZE"))?;
        let request = Request::Redis(RedisCall { spec, args });
        let answers = self.read_shards(SlotRange::ALL, deadline, &request).await?;
        let count =
            |(shard, answer): (std::sync::Arc<crate::gateway::ShardInfo>, Response)| match answer {
                Response::Redis(Reply::Int(n)) => Ok((shard.slots, n)),
                _ => Err(unfitting("DBSIZE")),
            };
        answers.into_iter().map(count).collect()
    }

    /// RANDOMKEY: a shard is drawn by how many keys it has, and draws one of them.
    async fn random_key(&self, call: RedisCall, deadline: Instant) -> Result<Response> {
        loop {
            let mut counts = self.counts(deadline).await?;
            let all: i64 = counts.iter().map(|(_, n)| n).sum();
            if all <= 0 {
                return Ok(Response::Redis(Reply::Nil));
            }
            let mut drawn = {
                let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
                rng.below(all.unsigned_abs()) as i64
            };
            counts.retain(|(_, n)| {
                drawn -= n;
                drawn < 0
            });
            let Some((slots, _)) = counts.first() else { return Err(unfitting("DBSIZE")) };
            let shard = self.find_shard(slots.first, deadline).await?;
            match self.ask(&shard, Request::Redis(call.clone()), deadline).await {
                // It has lost its keys, or is not there any more.
                Some(Ok(Response::Redis(Reply::Nil))) | None => {}
                Some(answer) => return answer,
            }
        }
    }

    /// A transaction with a command for every shard: there must be one shard.
    async fn transaction(&self, request: Request, deadline: Instant) -> Result<Response> {
        if self.shards_of(&[SlotRange::ALL], deadline).await?.len() > 1 {
            return refusal_of_every_shard();
        }
        let run = vec![Pending { request, route: Route::EveryShard, maybe: false }];
        self.settle(run, deadline).await.pop().unwrap_or_else(|| Err(unfitting("a transaction")))
    }
}

/// The bytes that every match of a pattern begins with.
pub(super) fn literal_prefix(pattern: &[u8]) -> &[u8] {
    let literal = pattern.iter().take_while(|b| !b"*?[\\".contains(b)).count();
    &pattern[..literal]
}

/// The keys of all shards, in the order of keys.
fn keys_in_order(answers: Gathered) -> Result<Reply> {
    let mut merging: Merging<Bytes, Bytes> = Merging::new(answers.len(), false, Bytes::clone);
    for (at, (_, answer)) in answers.into_iter().enumerate() {
        let keys = match answer {
            Response::Redis(Reply::Array(keys)) => keys,
            Response::Redis(error @ Reply::Error(_)) => return Ok(error),
            _ => return Err(unfitting("KEYS")),
        };
        let keys = keys.into_iter().map(|key| match key {
            Reply::Bulk(key) => Ok(key),
            _ => Err(unfitting("KEYS")),
        });
        merging.extend(at, keys.collect::<Result<Vec<_>>>()?);
    }
    let keys = std::iter::from_fn(|| merging.pop()).map(|(key, _)| Reply::Bulk(key));
    Ok(Reply::Array(keys.collect()))
}

/// The figures of all shards as those of one: sums, and of words the first.
fn stats(answers: Gathered) -> Result<Stats> {
    let mut whole: Option<Stats> = None;
    let mut ttl_ms = 0_u128;
    for (_, answer) in answers {
        let Response::Stats(one) = answer else { return Err(unfitting("figures")) };
        ttl_ms += u128::from(one.avg_ttl_ms) * u128::from(one.expires);
        let Some(sum) = &mut whole else {
            whole = Some(*one);
            continue;
        };
        for (sum, one) in [
            (&mut sum.keys, one.keys),
            (&mut sum.expires, one.expires),
            (&mut sum.expired_keys, one.expired_keys),
            (&mut sum.keyspace_hits, one.keyspace_hits),
            (&mut sum.keyspace_misses, one.keyspace_misses),
            (&mut sum.last_seq, one.last_seq),
            (&mut sum.memtable_bytes, one.memtable_bytes),
            (&mut sum.cache_bytes, one.cache_bytes),
            (&mut sum.table_bytes, one.table_bytes),
            (&mut sum.log_bytes, one.log_bytes),
            (&mut sum.memory_budget_bytes, one.memory_budget_bytes),
        ] {
            *sum = sum.saturating_add(one);
        }
        sum.log_failed |= one.log_failed;
        for (name, value) in one.more {
            match sum.more.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum = sum.saturating_add(value),
                None => sum.more.push((name, value)),
            }
        }
    }
    let mut whole = whole.unwrap_or_default();
    let mean = ttl_ms.checked_div(u128::from(whole.expires)).unwrap_or(0);
    whole.avg_ttl_ms = u64::try_from(mean).unwrap_or(u64::MAX);
    Ok(whole)
}

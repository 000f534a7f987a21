//! A run of requests, divided into groups by shard and executed.
//!
//! Groups are executed at the same time. What found its shard changed is divided again by the
//! newer map, in the same order.

use crate::base::Result;
use crate::gateway::absorb::{Group, Outcome, in_doubt};
use crate::gateway::calls::ShardCalls;
use crate::gateway::gateway::{Gateway, no_shard, unfitting};
use crate::gateway::map::{ShardInfo, ShardMap};
use crate::gateway::redis_cluster;
use crate::gateway::split::{Join, split};
use crate::gateway::together::{refusal_of_every_shard, spans};
use crate::op::route::Route;
use crate::op::{Request, Response};
use futures::future::{BoxFuture, join_all};
use std::sync::Arc;
use tokio::time::Instant;

/// A request of a run.
pub(super) struct Pending {
    pub(super) request: Request,
    pub(super) route: Route,
    /// Whether an attempt may have succeeded.
    pub(super) maybe: bool,
}

/// Where the answer to a request comes from.
enum Source {
    Ready(Result<Response>),
    /// A place in a group.
    Group(usize, usize),
    /// Several of them.
    Parts(Vec<(usize, usize)>, Join),
}

/// Requests by the shard that has their slots.
struct Plan {
    map: Arc<ShardMap>,
    /// Groups, each with the slot that it began with.
    groups: Vec<(u16, Group)>,
    /// Shard by shard, its group. The last is of slots that have no shard.
    group_of: Vec<Option<usize>>,
}

impl Plan {
    fn new(map: Arc<ShardMap>) -> Plan {
        let group_of = vec![None; map.shards().len() + 1];
        Plan { map, groups: Vec::new(), group_of }
    }

    fn add(&mut self, slot: u16, request: Request, maybe: bool) -> (usize, usize) {
        let shard = self.map.place_of(slot).unwrap_or(self.group_of.len() - 1);
        let group = *self.group_of[shard].get_or_insert_with(|| {
            self.groups.push((slot, Group::default()));
            self.groups.len() - 1
        });
        (group, self.groups[group].1.push(request, maybe))
    }
}

impl<C: ShardCalls> Gateway<C> {
    /// Executes a run: an answer for each request, in order. What must be seen as one and reaches
    /// into several shards happens after all before it and before all behind it.
    pub(super) async fn settle(
        &self,
        run: Vec<Pending>,
        deadline: Instant,
    ) -> Vec<Result<Response>> {
        let map = self.map.load();
        if !run.iter().any(|pending| spans(pending, &map)) {
            return self.settle_apart(map, run, deadline).await;
        }
        let mut answers = Vec::with_capacity(run.len());
        let mut apart = Vec::new();
        for pending in run {
            if !spans(&pending, &map) {
                apart.push(pending);
                continue;
            }
            if !apart.is_empty() {
                let before = std::mem::take(&mut apart);
                let settled = self.settle_apart(Arc::clone(&map), before, deadline);
                answers.extend(Box::pin(settled).await);
            }
            answers.push(Box::pin(self.together(pending, deadline)).await);
        }
        if !apart.is_empty() {
            answers.extend(Box::pin(self.settle_apart(map, apart, deadline)).await);
        }
        answers
    }

    /// Executes a run of requests each of which lies in one shard, or need not be one.
    async fn settle_apart(
        &self,
        map: Arc<ShardMap>,
        run: Vec<Pending>,
        deadline: Instant,
    ) -> Vec<Result<Response>> {
        let mut plan = Plan::new(map);
        let sources: Vec<Source> =
            run.into_iter().map(|pending| self.place(&mut plan, pending)).collect();
        let Plan { map, groups, .. } = plan;
        let is_one = groups.len() == 1;
        let mut calls = groups.into_iter().map(|(slot, group)| {
            let shard = map.shard_of(slot).cloned();
            self.settle_group(shard, slot, group, deadline)
        });
        let mut answers: Vec<Vec<Option<Result<Response>>>> = match calls.next() {
            // As nearly every run: what several need would be moved about for nothing.
            Some(call) if is_one => vec![call.await],
            first => Box::pin(join_all(first.into_iter().chain(calls))).await,
        };
        let mut take = |(group, at): (usize, usize)| {
            let answer = answers.get_mut(group).and_then(|group| group.get_mut(at));
            answer.and_then(Option::take).unwrap_or_else(|| Err(unfitting("its request")))
        };
        let answer = |source| match source {
            Source::Ready(answer) => answer,
            Source::Group(group, at) => take((group, at)),
            Source::Parts(parts, join) => join.join(parts.into_iter().map(&mut take).collect()),
        };
        sources.into_iter().map(answer).collect()
    }

    fn settle_again(
        &self,
        run: Vec<Pending>,
        deadline: Instant,
    ) -> BoxFuture<'_, Vec<Result<Response>>> {
        Box::pin(self.settle(run, deadline))
    }

    /// Finds a request its place in the plan.
    fn place(&self, plan: &mut Plan, pending: Pending) -> Source {
        let Pending { request, route, maybe } = pending;
        let slot = match &route {
            Route::Slot(slot) => *slot,
            Route::Slots(slots) if plan.map.is_one_shard(slots) => slots[0],
            Route::Slots(_) => {
                // Of those that reach into several shards, what remains here need not be one.
                let Some(split) = split(&request, &plan.map) else {
                    return Source::Ready(Err(unfitting("one shard")));
                };
                let parts = split.parts.into_iter();
                let parts = parts.map(|(slot, part)| plan.add(slot, part, maybe)).collect();
                return Source::Parts(parts, split.join);
            }
            // One with a command for every shard was let through because there was one shard.
            Route::EveryShard if plan.map.shards().len() > 1 => {
                let grown = || in_doubt(&unfitting("the one shard there was"));
                return Source::Ready(if maybe { Err(grown()) } else { refusal_of_every_shard() });
            }
            // Any shard will do: the first.
            Route::Anywhere | Route::EveryShard | Route::Catalog => 0,
        };
        if self.options.moved
            && !maybe
            && route != Route::Anywhere
            && let Some(reply) = redis_cluster::moved(
                &request,
                slot,
                &plan.map,
                self.options.redis_address.as_deref(),
            )
        {
            return Source::Ready(Ok(Response::Redis(reply)));
        }
        let (group, at) = plan.add(slot, request, maybe);
        Source::Group(group, at)
    }

    /// Executes a group. Requests whose shard has changed, or was not known, find theirs anew.
    async fn settle_group(
        &self,
        shard: Option<Arc<ShardInfo>>,
        slot: u16,
        mut group: Group,
        deadline: Instant,
    ) -> Vec<Option<Result<Response>>> {
        let Outcome { mut answers, open, .. } = match shard {
            Some(shard) => self.call_shard(&shard, group, deadline).await,
            None => {
                if let Err(error) = Box::pin(self.find_shard(slot, deadline)).await {
                    group.give_up(&error);
                }
                group.end()
            }
        };
        if !open.is_empty() {
            let run = open.into_iter().map(|(request, maybe)| {
                let route = Route::of(&request);
                Pending { request, route, maybe }
            });
            let late = self.settle_again(run.collect(), deadline).await;
            let missing = answers.iter_mut().filter(|answer| answer.is_none());
            missing.zip(late).for_each(|(missing, answer)| *missing = Some(answer));
        }
        answers
    }

    /// Waits until a shard is known for a slot.
    pub(super) async fn find_shard(&self, slot: u16, deadline: Instant) -> Result<Arc<ShardInfo>> {
        let mut failures = 0;
        loop {
            if let Some(shard) = self.map.load().shard_of(slot) {
                return Ok(Arc::clone(shard));
            }
            failures += 1;
            self.pause(failures, deadline, &no_shard(slot)).await?;
        }
    }
}

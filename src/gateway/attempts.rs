//! A group of requests and its shard, until each is answered or the shard is no more.

use crate::base::{Error, ErrorKind, Result};
use crate::gateway::absorb::{Group, Outcome};
use crate::gateway::calls::{CallFailure, Called, Consistency, ShardCalls, Target};
use crate::gateway::freshness;
use crate::gateway::gateway::Gateway;
use crate::gateway::locks::Patience;
use crate::gateway::map::{Node, ShardInfo};
use crate::gateway::retry::NoMore;
use crate::gateway::search::{Search, Searches};
use crate::op::txn::Lock;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Hints that are followed without a pause. Two nodes that each take the other for the leader
/// would send a call to and fro for ever.
const HINTS_MAX: u32 = 4;

/// What an attempt that took all its time weighs in suspicion: the node may only be slow.
const SILENCE_WEIGHT: u32 = 4;
/// Locks that are dealt with one after the other without a pause.
const SETTLED_MAX: u32 = 8;

/// Whom to ask next.
#[derive(Default)]
struct Course<'a> {
    /// Where a node sent us.
    hint: Option<Node>,
    hints: u32,
    /// Attempts in a row that brought nothing.
    failures: u32,
    /// How many replicas were tried for want of a leader.
    tried: usize,
    /// Held while it is this caller's turn to look for the leader.
    search: Option<Search<'a>>,
    /// Attempts that took all their time.
    silences: u32,
    /// Replicas that may answer without leading.
    any: VecDeque<Node>,
}

impl Course<'_> {
    fn next(&mut self, shard: &ShardInfo, searches: &Searches) -> Option<Node> {
        if let Some(any) = self.any.pop_front() {
            return Some(any);
        }
        if let Some(hint) = self.hint.take() {
            return Some(hint);
        }
        if let Some(leader) = shard.leading() {
            return Some(leader.clone());
        }
        let first = self.tried.checked_rem(shard.replicas.len())?;
        let mut turn = (first..shard.replicas.len()).chain(0..first);
        let at = turn.find(|at| !searches.is_suspect(shard.replicas[*at].id)).unwrap_or(first);
        self.tried = at + 1;
        Some(shard.replicas[at].clone())
    }
}

impl<C: ShardCalls> Gateway<C> {
    /// Calls a shard with a group until each request has an answer, the deadline passes, or the
    /// shard is found to have changed: then what is open has to find its shard anew.
    pub(super) async fn call_shard(
        &self,
        shard: &Arc<ShardInfo>,
        mut group: Group,
        deadline: Instant,
    ) -> Outcome {
        let consistency = self.consistency_of(&group);
        let mut course = Course::default();
        if matches!(consistency, Consistency::Stale { .. }) {
            let from = self.next_request.fetch_add(1, Ordering::Relaxed) as usize;
            course.any = freshness::replicas(shard, self.options.near, from).into();
        }
        let (mut patience, mut settled) = (Patience::default(), 0);
        loop {
            let known = match self.map.load().shard_of(shard.slots.first) {
                Some(known) if known.is_same(shard) => Arc::clone(known),
                _ => break,
            };
            if Instant::now() >= deadline {
                group.give_up(&Error::new(ErrorKind::Deadline, "the time given ran out"));
                break;
            }
            let cause = match course.next(&known, &self.searches) {
                Some(node) => {
                    match self.attempt(&known, node, &mut group, &mut course, deadline).await {
                        After::Answered => break,
                        // The next replica may be fresh enough.
                        _ if !course.any.is_empty() && !group.requests.is_empty() => continue,
                        After::AskInstead(hint) if course.hints < HINTS_MAX => {
                            course.hint = Some(hint);
                            course.hints += 1;
                            continue;
                        }
                        After::AskInstead(_) => no_leader(shard),
                        After::Partly => continue,
                        After::Locked(lock) => {
                            course.search = None;
                            let abort = patience.is_over_for(&lock);
                            match Box::pin(self.settle_lock(&lock, abort, deadline)).await {
                                Ok(true) if settled < SETTLED_MAX => {
                                    settled += 1;
                                    continue;
                                }
                                Ok(true) => settled = 0,
                                Ok(false) => patience.waits_for(&lock),
                                Err(_) => {}
                            }
                            is_locked(shard)
                        }
                        After::Failed(cause) => cause,
                    }
                }
                None => no_leader(shard),
            };
            if group.requests.is_empty() || !self.map.load().holds(shard) {
                break;
            }
            course.hints = 0;
            course.failures += 1;
            if let Err(error) = Box::pin(self.wait(shard, &mut course, deadline, &cause)).await {
                group.give_up(&error);
                break;
            }
        }
        group.end()
    }

    /// One attempt at one node, and what is learned from it.
    async fn attempt(
        &self,
        shard: &Arc<ShardInfo>,
        node: Node,
        group: &mut Group,
        course: &mut Course<'_>,
        deadline: Instant,
    ) -> After {
        let consistency = self.consistency_of(group);
        let is_stale = matches!(consistency, Consistency::Stale { .. });
        let target = Target { shard: shard.id, epoch: shard.epoch, node, consistency };
        let asked = target.node.id;
        let begun = Instant::now();
        let until = self.patience(group, course, deadline);
        let call = self.calls.call(&target, &group.requests, until);
        let Called { answers, stopped } = match timeout_at(until, call).await {
            Ok(called) => called,
            Err(_) => Called::failed(CallFailure::Unknown(Error::new(
                ErrorKind::Unknown,
                format!("shard {} gave no answer in time", shard.id),
            ))),
        };
        let took = begun.elapsed();
        let timed_out = begun + took >= until;
        course.silences += u32::from(timed_out);
        if !answers.is_empty() {
            group.served_by = Some(asked);
        }
        // Of a stale read nobody knows whether a leader answered it.
        if !answers.is_empty() && !is_stale && shard.leader != Some(asked) {
            self.map.note_leader(shard, Some(&target.node), asked);
        }
        let open = group.requests.len();
        let again = group.absorb(answers);
        let goes_on = again && group.requests.len() < open;
        // What took all the time there was says nothing of the node.
        if let Some(CallFailure::Unreachable(_) | CallFailure::Unknown(_)) = &stopped
            && begun + took < deadline
            && !is_stale
        {
            self.searches.suspect(asked, if timed_out { took / SILENCE_WEIGHT } else { took });
        }
        match stopped {
            None if group.requests.is_empty() => After::Answered,
            None if group.lock.is_some() => {
                group.lock.take().map_or(After::Answered, After::Locked)
            }
            None if goes_on => After::Partly,
            None if again => After::Failed(Error::new(
                ErrorKind::Unavailable,
                format!("shard {} cannot execute it now", shard.id),
            )),
            None => {
                let error = Error::new(ErrorKind::Internal, "a shard gave too few answers");
                group.doubt(&error);
                After::Failed(error)
            }
            Some(CallFailure::NotLeader { leader }) => {
                let leader = leader
                    .filter(|leader| leader.id != asked && !self.searches.is_suspect(leader.id));
                self.map.note_leader(shard, leader.as_ref(), asked);
                leader.map_or_else(|| After::Failed(no_leader(shard)), After::AskInstead)
            }
            Some(CallFailure::WrongEpoch { covering }) => {
                if !self.map.learn(&covering) {
                    // A node that has just begun, and does not know its shards yet.
                    self.map.note_leader(shard, None, asked);
                }
                After::Failed(Error::new(
                    ErrorKind::Unavailable,
                    format!("shard {} has changed, and nobody told how", shard.id),
                ))
            }
            Some(CallFailure::Unreachable(cause)) => {
                self.map.note_leader(shard, None, asked);
                After::Failed(cause)
            }
            Some(CallFailure::Unknown(cause)) => {
                self.map.note_leader(shard, None, asked);
                group.doubt(&cause);
                After::Failed(cause)
            }
        }
    }

    /// Waits before another attempt at a shard. One caller looks for its leader, if that is not
    /// known; others wait longer, or until it is found.
    async fn wait<'a>(
        &'a self,
        shard: &ShardInfo,
        course: &mut Course<'a>,
        deadline: Instant,
        cause: &Error,
    ) -> Result<()> {
        if self.is_led(shard) {
            course.search = None;
            return self.pause(course.failures, deadline, cause).await;
        }
        let (mut versions, mut ended) = (self.map.versions(), self.searches.ended());
        course.search = course.search.take().or_else(|| self.searches.begin(shard.id));
        if course.search.is_some() {
            let pause = self.retries.search(course.failures, deadline);
            return self.pause_for(pause, cause).await;
        }
        let news = async {
            loop {
                tokio::select! {
                    _ = versions.changed() => {}
                    _ = ended.changed() => {}
                }
                let search = self.searches.begin(shard.id);
                if search.is_some() || self.is_led(shard) {
                    return search;
                }
            }
        };
        tokio::select! {
            biased;
            paused = self.pause(course.failures, deadline, cause) => paused,
            search = news => {
                course.search = search;
                Ok(())
            }
        }
    }

    /// Whether a shard's leader is known, or it is no more.
    fn is_led(&self, shard: &ShardInfo) -> bool {
        let map = self.map.load();
        let known = map.shard_of(shard.slots.first).filter(|known| known.is_same(shard));
        known.is_none_or(|known| known.leading().is_some())
    }

    /// How fresh a group's reads must be: behind a write of their own as fresh as can be.
    fn consistency_of(&self, group: &Group) -> Consistency {
        match freshness::asked(self.options.consistency) {
            Consistency::Stale { .. } if !group.requests.iter().all(freshness::may_be_stale) => {
                Consistency::Linearizable
            }
            asked => asked,
        }
    }

    /// Until when an attempt may take. What may not be repeated is waited for to the end.
    fn patience(&self, group: &Group, course: &Course<'_>, deadline: Instant) -> Instant {
        if !group.is_repeatable() {
            return deadline;
        }
        let timeout = self.options.attempt_timeout.saturating_mul(1 << course.silences.min(10));
        deadline.min(Instant::now() + timeout)
    }

    /// Waits before another attempt, and asks for the shards meanwhile.
    ///
    /// # Errors
    /// If there may be no other: with the cause of the last failure in its sentence.
    pub(super) async fn pause(
        &self,
        failures: u32,
        deadline: Instant,
        cause: &Error,
    ) -> Result<()> {
        self.pause_for(self.retries.pause(failures, deadline), cause).await
    }

    async fn pause_for(&self, pause: Result<Duration, NoMore>, cause: &Error) -> Result<()> {
        let pause = pause.map_err(|no_more| match no_more {
            NoMore::Deadline => {
                Error::new(ErrorKind::Deadline, format!("the time given ran out; last: {cause}"))
            }
            NoMore::Budget => Error::new(
                ErrorKind::Unavailable,
                format!("too many calls are failing to try this one again: {cause}"),
            ),
        })?;
        let refreshed = async {
            self.refresh_alone().await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = sleep(pause) => {}
            () = refreshed => {}
        }
        Ok(())
    }
}

/// What follows an attempt.
enum After {
    /// Nothing is open.
    Answered,
    /// Some are answered, and there was no room for more.
    Partly,
    /// Another node leads.
    AskInstead(Node),
    /// A key is locked.
    Locked(Lock),
    /// Something is open, or the shard has changed.
    Failed(Error),
}

fn is_locked(shard: &ShardInfo) -> Error {
    let message =
        format!("a transaction over several shards has locked a key of shard {}", shard.id);
    Error::new(ErrorKind::Unavailable, message)
}

fn no_leader(shard: &ShardInfo) -> Error {
    Error::new(ErrorKind::Unavailable, format!("shard {} has no leader now", shard.id))
}

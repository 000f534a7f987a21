//! A transaction over several shards, driven to its end. The protocol and what it promises are told
//! where the shards keep it, in `shard::two_phase`; here are the order of its steps and what
//! follows when one fails.
//!
//! The shards that are not the home are asked to prepare all at once; then the home decides, and
//! that answers the request; then all are told to finish. Nothing here outlives the request: what
//! is left behind by a failure, or by the end of this gateway, is settled by whoever meets it.

use crate::base::{CfId, Error, ErrorKind, IndexId, Result};
use crate::gateway::absorb::in_doubt;
use crate::gateway::calls::ShardCalls;
use crate::gateway::gateway::{Gateway, unfitting};
use crate::gateway::locks::Patience;
use crate::gateway::map::ShardInfo;
use crate::op::command::Id;
use crate::op::kv::{Expiry, Write};
use crate::op::route::{SlotRange, slot_in, slot_of, visit_keys};
use crate::op::txn::{Lock, Locked, TXN_KEYS_MAX, Txn, TxnAnswer, TxnCall, TxnCommitted, TxnWrite};
use crate::op::vector::{VectorAnswer, VectorCall, VectorId, vector_key};
use crate::op::{Request, Response};
use bytes::Bytes;
use futures::future::join_all;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer waits at most for shards that are to unlock.
const FINISH: Duration = Duration::from_secs(1);

/// A transaction for its whole way.
struct Deal {
    request: Request,
    keys: Vec<(CfId, Bytes)>,
    /// Whether the values of the keys matter, or just what stands beside them.
    values: bool,
    /// Whether vectors are only removed.
    removes: bool,
    home: u16,
    /// Whether it may have been committed before this call.
    maybe: bool,
    /// Whether the home was asked to commit the present attempt and has not said how that ended.
    is_asked: bool,
}

/// The keys of a deal by the shard that has them.
struct Parties {
    home: Arc<ShardInfo>,
    others: Vec<Party>,
}

/// The numbers of indexes, by their names.
type Indexes = HashMap<String, IndexId>;

/// A shard, and the keys that it has.
type Party = (Arc<ShardInfo>, Vec<(CfId, Bytes)>);

/// What came of a round of an attempt.
enum Round {
    /// It is over.
    Answered(Result<Response>),
    /// The shards have changed: the same attempt goes on with those there are.
    Anew,
    /// Others had to go first, and have gone: the same attempt goes on.
    Passed,
    /// Others go first and have not gone: the same attempt waits.
    Wait(Error),
    /// Attempts up to this one are aborted.
    Aborted(u32, Error),
}

impl<C: ShardCalls> Gateway<C> {
    /// Executes a request whose keys lie in several shards. `maybe` says that it may have been
    /// executed before.
    pub(super) async fn commit(
        &self,
        request: Request,
        maybe: bool,
        deadline: Instant,
    ) -> Result<Response> {
        let indexes = match self.indexes_of(&request, deadline).await {
            Ok(indexes) => indexes,
            Err(error) if maybe => return Err(in_doubt(&error)),
            Err(error) => return Err(error),
        };
        let keys = keys_of(&request, &indexes);
        if keys.len() > TXN_KEYS_MAX {
            return Err(Error::invalid(format!(
                "the request touches {} keys of several shards; at most {TXN_KEYS_MAX} can be \
                 taken together: split it, or give them one {{hash tag}}",
                keys.len()
            )));
        }
        let id = match &request {
            Request::Write { id: Some(id), .. } => *id,
            _ => self.next_id(),
        };
        let home = keys.first().map_or(0, |(cf, key)| slot_in(*cf, key));
        let (values, removes) = (needs_values(&request), removes_vectors(&request));
        let mut deal = Deal { request, keys, values, removes, home, maybe, is_asked: false };
        let (mut attempt, mut failures, mut patience) = (0, 0, Patience::default());
        loop {
            let txn = Txn { id, attempt, home };
            let cause = match self.round(&mut deal, txn, &mut patience, deadline).await {
                Round::Answered(answer) => return answer,
                Round::Anew | Round::Passed if Instant::now() < deadline => continue,
                Round::Anew | Round::Passed => {
                    Error::new(ErrorKind::Deadline, "the time given ran out")
                }
                Round::Wait(cause) => cause,
                Round::Aborted(through, cause) => {
                    attempt = through.saturating_add(1);
                    deal.is_asked = false;
                    cause
                }
            };
            failures += 1;
            if let Err(error) = self.pause(failures, deadline, &cause).await
                && let Round::Answered(answer) = self.give_up(&deal, txn, deadline, error).await
            {
                return answer;
            }
        }
    }

    /// The numbers of the indexes that a batch writes vectors of.
    async fn indexes_of(&self, request: &Request, deadline: Instant) -> Result<Indexes> {
        let mut indexes = Indexes::new();
        let Request::Write { writes, .. } = request else { return Ok(indexes) };
        for (index, id) in writes.iter().filter_map(vector_of) {
            if indexes.contains_key(index) {
                continue;
            }
            let slot = slot_of(id.as_bytes());
            let describe = VectorCall::Describe { index: index.to_string() };
            let describe = Request::Vector(Box::new(describe));
            let range = SlotRange { first: slot, last: slot };
            let told = self.read_shards(range, deadline, &describe).await?.pop();
            let Some((_, Response::Vector(answer))) = told else {
                return Err(unfitting("a description"));
            };
            let VectorAnswer::Index(info) = *answer else {
                return Err(unfitting("a description"));
            };
            indexes.insert(index.to_string(), info.id);
        }
        Ok(indexes)
    }

    /// One round: as far as it gets.
    async fn round(
        &self,
        deal: &mut Deal,
        txn: Txn,
        patience: &mut Patience,
        deadline: Instant,
    ) -> Round {
        let parties = match self.parties(deal, deadline).await {
            Ok(parties) => parties,
            Err(error) => return Round::Answered(Err(deal.failed(&error))),
        };
        let locked = match self.prepare(deal, txn, &parties, patience, deadline).await {
            Ok(locked) => locked,
            Err(round) => return round,
        };
        let request = Box::new(deal.request.clone());
        let decide = TxnCall::Decide { txn, request, locked };
        // Until the home has said how the attempt ended, a copy of this may come there yet: an answer
        // that a lock was met is one to the copy that was sent last.
        let was_asked = std::mem::replace(&mut deal.is_asked, true);
        match self.step(&parties.home, decide, deadline).await {
            None => Round::Anew,
            Some(Ok(Response::Txn(answer))) => match *answer {
                TxnAnswer::Committed(committed) => {
                    Round::Answered(self.committed(deal, txn, *committed, deadline).await)
                }
                TxnAnswer::Aborted { through } => {
                    self.release(deal, txn, deadline).await;
                    Round::Aborted(through, wounded())
                }
                _ => Round::Answered(Err(unfitting("the end of a transaction"))),
            },
            Some(Ok(Response::Locked(lock))) => {
                self.conflict(deal, txn, &[lock], patience, deadline).await
            }
            Some(Ok(_)) => Round::Answered(Err(unfitting("the end of a transaction"))),
            // A retry, here or elsewhere, finds out.
            Some(Err(error)) if error.kind() == ErrorKind::Unknown => Round::Answered(Err(error)),
            // None of its copies did anything, and none will.
            Some(Err(error)) => {
                deal.is_asked = was_asked;
                self.give_up(deal, txn, deadline, error).await
            }
        }
    }

    /// Locks the keys of all shards but the home.
    async fn prepare(
        &self,
        deal: &Deal,
        txn: Txn,
        parties: &Parties,
        patience: &mut Patience,
        deadline: Instant,
    ) -> Result<Vec<Locked>, Round> {
        let asked = parties.others.iter().map(|(shard, keys)| {
            let (values, removes) = (deal.values, deal.removes);
            let prepare = TxnCall::Prepare { txn, keys: keys.clone(), values, removes };
            self.step(shard, prepare, deadline)
        });
        let (mut locked, mut locks) = (Vec::with_capacity(deal.keys.len()), Vec::new());
        let (mut failure, mut is_over, mut is_changed) = (None, false, false);
        for answer in join_all(asked).await {
            match answer {
                None => is_changed = true,
                Some(Ok(Response::Txn(answer))) => match *answer {
                    TxnAnswer::Prepared(more) => locked.extend(more),
                    TxnAnswer::Done => is_over = true,
                    _ => failure = Some(unfitting("a lock")),
                },
                Some(Ok(Response::Locked(lock))) => locks.push(lock),
                Some(Ok(_)) => failure = Some(unfitting("a lock")),
                Some(Err(error)) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(self.give_up(deal, txn, deadline, error).await),
            None if is_over => Err(self.learn_end(deal, txn, deadline).await),
            None if is_changed => Err(Round::Anew),
            None if locks.is_empty() => Ok(locked),
            None => Err(self.conflict(deal, txn, &locks, patience, deadline).await),
        }
    }

    /// Others have locked some of the keys. Who outranks them waits for them, and in the end has
    /// them aborted; who does not lets go of its own locks and begins anew.
    async fn conflict(
        &self,
        deal: &Deal,
        txn: Txn,
        locks: &[Lock],
        patience: &mut Patience,
        deadline: Instant,
    ) -> Round {
        let (mut all_gone, mut yields) = (true, false);
        for lock in locks {
            let abort = patience.is_over_for(lock);
            match self.settle_lock(lock, abort, deadline).await {
                Ok(true) => {}
                // What cannot be found out now is as good as open.
                Ok(false) | Err(_) => {
                    all_gone = false;
                    patience.waits_for(lock);
                    yields |= lock.txn.id != txn.id && lock.txn.outranks(&txn);
                }
            }
        }
        if all_gone {
            return Round::Passed;
        }
        if !yields {
            return Round::Wait(wounded());
        }
        match self.abort(deal, txn, deadline).await {
            Ok(None) => Round::Aborted(txn.attempt, wounded()),
            Ok(Some(round)) => round,
            Err(error) => Round::Wait(error),
        }
    }

    /// The attempt cannot be decided because of `error`: it is aborted, so that its locks go. The
    /// answer is the error, unless it turns out to be committed.
    async fn give_up(&self, deal: &Deal, txn: Txn, deadline: Instant, error: Error) -> Round {
        match self.abort(deal, txn, deadline).await {
            Ok(Some(round)) => round,
            Ok(None) => Round::Answered(Err(deal.undone(&error))),
            // Nobody decides it now; the locks are left to those who meet them.
            Err(_) => Round::Answered(Err(deal.failed(&error))),
        }
    }

    /// Aborts an attempt and has its keys unlocked. If it is not to be aborted, what follows.
    async fn abort(&self, deal: &Deal, txn: Txn, deadline: Instant) -> Result<Option<Round>> {
        match self.resolve(&txn, true, deadline).await? {
            TxnAnswer::Aborted { .. } => {
                self.release(deal, txn, deadline).await;
                Ok(None)
            }
            TxnAnswer::Committed(committed) => {
                let answer = self.committed(deal, txn, *committed, deadline).await;
                Ok(Some(Round::Answered(answer)))
            }
            _ => Err(unfitting("an abort")),
        }
    }

    /// A shard says that the attempt is over: the home knows how it ended.
    async fn learn_end(&self, deal: &Deal, txn: Txn, deadline: Instant) -> Round {
        match self.abort(deal, txn, deadline).await {
            Ok(None) => Round::Aborted(txn.attempt, wounded()),
            Ok(Some(round)) => round,
            Err(error) => Round::Wait(error),
        }
    }

    /// The request is committed: has what was locked for it unlocked, and gives the answer.
    async fn committed(
        &self,
        deal: &Deal,
        txn: Txn,
        committed: TxnCommitted,
        deadline: Instant,
    ) -> Result<Response> {
        let TxnCommitted { attempt, answer, slots, writes } = committed;
        let soon = deadline.min(Instant::now() + FINISH);
        if attempt == txn.attempt {
            self.finish_all(txn, slots, writes, soon).await;
        } else {
            self.finish_all(Txn { attempt, ..txn }, slots, writes, soon).await;
            self.release(deal, txn, soon).await;
        }
        answer.ok_or_else(|| {
            let message = "it happened, too long ago for its answer to be known still";
            Error::new(ErrorKind::Unknown, message)
        })
    }

    /// Has all shards concerned finish a committed transaction, and the home forget it then.
    pub(super) async fn finish_all(
        &self,
        txn: Txn,
        slots: Vec<u16>,
        writes: Vec<TxnWrite>,
        deadline: Instant,
    ) {
        let owes = !writes.is_empty();
        if self.finish(txn, true, slots, &writes, deadline).await && owes {
            self.forget(txn, deadline).await;
        }
    }

    /// Has the keys of an aborted attempt unlocked.
    async fn release(&self, deal: &Deal, txn: Txn, deadline: Instant) {
        let mut slots: Vec<u16> = deal.keys.iter().map(|(cf, key)| slot_in(*cf, key)).collect();
        slots.sort_unstable();
        slots.dedup();
        let soon = deadline.min(Instant::now() + FINISH);
        self.finish(txn, false, slots, &[], soon).await;
    }

    /// Tells the shards of some slots how a transaction ended. Says whether all have heard it.
    async fn finish(
        &self,
        txn: Txn,
        committed: bool,
        mut slots: Vec<u16>,
        writes: &[TxnWrite],
        deadline: Instant,
    ) -> bool {
        let mut all_done = true;
        while !slots.is_empty() {
            let mut told: Vec<Arc<ShardInfo>> = Vec::new();
            for slot in &slots {
                if told.iter().any(|shard| shard.slots.contains(*slot)) {
                    continue;
                }
                match self.find_shard(*slot, deadline).await {
                    Ok(shard) => told.push(shard),
                    Err(_) => return false,
                }
            }
            let calls = told.iter().map(|shard| {
                let own = |write: &&TxnWrite| shard.slots.contains(slot_in(write.cf, &write.key));
                let writes = writes.iter().filter(own).cloned().collect();
                self.step(shard, TxnCall::Finish { txn, committed, writes }, deadline)
            });
            let mut left = Vec::new();
            for (shard, answer) in told.iter().zip(join_all(calls).await) {
                match answer {
                    Some(Ok(_)) => {}
                    Some(Err(_)) => all_done = false,
                    None => left.extend(slots.iter().filter(|s| shard.slots.contains(**s))),
                }
            }
            if !left.is_empty() && Instant::now() >= deadline {
                return false;
            }
            slots = left;
        }
        all_done
    }

    /// Asks a transaction's home what became of it.
    pub(super) async fn resolve(
        &self,
        txn: &Txn,
        abort: bool,
        deadline: Instant,
    ) -> Result<TxnAnswer> {
        loop {
            let home = self.find_shard(txn.home, deadline).await?;
            match self.step(&home, TxnCall::Resolve { txn: *txn, abort }, deadline).await {
                None if Instant::now() < deadline => {}
                None => return Err(Error::new(ErrorKind::Deadline, "the time given ran out")),
                Some(Ok(Response::Txn(answer))) => return Ok(*answer),
                Some(Ok(_)) => return Err(unfitting("the end of a transaction")),
                Some(Err(error)) => return Err(error),
            }
        }
    }

    /// One step at one shard; `None` if that is not there as it was.
    pub(super) async fn step(
        &self,
        shard: &Arc<ShardInfo>,
        call: TxnCall,
        deadline: Instant,
    ) -> Option<Result<Response>> {
        // Boxed: a call that meets a lock takes steps itself.
        Box::pin(self.ask(shard, Request::Txn(Box::new(call)), deadline)).await
    }

    /// The shards that have a deal's keys.
    async fn parties(&self, deal: &Deal, deadline: Instant) -> Result<Parties> {
        let home = self.find_shard(deal.home, deadline).await?;
        let mut others: Vec<Party> = Vec::new();
        for (cf, key) in &deal.keys {
            let slot = slot_in(*cf, key);
            if home.slots.contains(slot) {
                continue;
            }
            let known = others.iter_mut().find(|(shard, _)| shard.slots.contains(slot));
            match known {
                Some((_, keys)) => keys.push((*cf, key.clone())),
                None => {
                    let shard = self.find_shard(slot, deadline).await?;
                    others.push((shard, vec![(*cf, key.clone())]));
                }
            }
        }
        Ok(Parties { home, others })
    }
}

impl Deal {
    /// What a failure means for the whole.
    fn failed(&self, error: &Error) -> Error {
        if self.is_asked { in_doubt(error) } else { self.undone(error) }
    }

    /// What a failure means for the whole, if no attempt of this call is or will be committed: a step
    /// that may have happened is not the commit.
    fn undone(&self, error: &Error) -> Error {
        match error.kind() {
            _ if self.maybe => in_doubt(error),
            ErrorKind::Unknown => Error::new(
                ErrorKind::Unavailable,
                format!("the shards concerned could not agree, and nothing was done: {error}"),
            ),
            _ => error.clone(),
        }
    }
}

fn wounded() -> Error {
    Error::new(ErrorKind::Unavailable, "others write the same keys of several shards")
}

/// The vector that a write is of.
fn vector_of(write: &Write) -> Option<(&str, VectorId)> {
    match write {
        Write::PutVector { index, id, .. } | Write::DeleteVector { index, id } => {
            Some((index, *id))
        }
        Write::Put { .. } | Write::Delete { .. } | Write::Merge { .. } => None,
    }
}

/// Every key that a request names, and that of every vector, each once.
fn keys_of(request: &Request, indexes: &Indexes) -> Vec<(CfId, Bytes)> {
    let mut keys = Vec::new();
    match request {
        Request::Write { writes, .. } => {
            keys.extend(writes.iter().filter_map(|write| match write {
                Write::Put { cf, key, .. }
                | Write::Delete { cf, key }
                | Write::Merge { cf, key, .. } => Some((*cf, key.clone())),
                Write::PutVector { .. } | Write::DeleteVector { .. } => {
                    let (index, id) = vector_of(write)?;
                    let key = vector_key(*indexes.get(index)?, id);
                    Some((CfId::VECTORS, Bytes::copy_from_slice(&key)))
                }
            }))
        }
        other => visit_keys(other, &mut |key| {
            keys.push((CfId::DEFAULT, Bytes::copy_from_slice(key)));
        }),
    }
    let mut seen = HashSet::with_capacity(keys.len());
    keys.retain(|key| seen.insert(key.clone()));
    keys
}

/// Whether vectors are removed, and none is put.
fn removes_vectors(request: &Request) -> bool {
    let Request::Write { writes, .. } = request else { return false };
    let is_removal = |write: &Write| matches!(write, Write::DeleteVector { .. });
    let is_put = |write: &Write| matches!(write, Write::PutVector { .. });
    writes.iter().any(is_removal) && !writes.iter().any(is_put)
}

/// Whether what the keys hold matters, or only that and until when they hold something.
fn needs_values(request: &Request) -> bool {
    match request {
        Request::Write { writes, .. } => writes.iter().any(|write| match write {
            Write::Put { expiry, .. } => *expiry == Expiry::Keep,
            Write::Delete { .. } | Write::PutVector { .. } | Write::DeleteVector { .. } => false,
            Write::Merge { .. } => true,
        }),
        Request::Redis(call) => !matches!(
            call.spec.id,
            Id::Mset | Id::Msetnx | Id::Del | Id::Unlink | Id::Exists | Id::Touch
        ),
        _ => true,
    }
}

//! A lock that stands in the way: whose it is, and what is done about it.

use crate::base::Result;
use crate::gateway::calls::ShardCalls;
use crate::gateway::gateway::Gateway;
use crate::op::route::slot_in;
use crate::op::txn::{Lock, Txn, TxnAnswer, TxnCall, TxnUnfinished};
use crate::op::{Request, Response};
use std::time::Duration;
use tokio::time::Instant;

/// How often a lock is waited for before its transaction is aborted: pauses double, so that this
/// is some 150 ms. One that was aborted before is given longer, so that it gets through.
const WAITS: u32 = 5;
const MORE_WAITS_MAX: u32 = 5;

/// Transactions that one round of a sweep takes from a shard.
const SWEEP_MAX: u32 = 1_000;
/// How long a sweep takes at most.
const SWEEP: Duration = Duration::from_secs(10);
/// Transactions to be forgotten that are told to their homes together.
const FORGET_TOGETHER: usize = 64;

/// How often a transaction's locks have been waited for.
#[derive(Debug, Default)]
pub(super) struct Patience {
    of: Option<Txn>,
    waits: u32,
}

impl Patience {
    /// Whether the lock has stood long enough.
    pub(super) fn is_over_for(&self, lock: &Lock) -> bool {
        self.of == Some(lock.txn) && self.waits >= WAITS + lock.txn.attempt.min(MORE_WAITS_MAX)
    }

    /// Waits for the lock once more. Of several the one met first is counted, until it is gone.
    pub(super) fn waits_for(&mut self, lock: &Lock) {
        if self.of != Some(lock.txn) {
            *self = Patience { of: Some(lock.txn), waits: 0 };
        }
        self.waits += 1;
    }
}

impl<C: ShardCalls> Gateway<C> {
    /// Finds out what became of a lock's transaction, and has the shard of the lock finish it.
    /// `abort`: if nothing is decided, it is aborted. Says whether the lock is gone.
    pub(super) async fn settle_lock(
        &self,
        lock: &Lock,
        abort: bool,
        deadline: Instant,
    ) -> Result<bool> {
        let Lock { txn, slot } = *lock;
        let (committed, writes) = match self.resolve(&txn, abort, deadline).await? {
            TxnAnswer::Committed(end) if end.attempt == txn.attempt => (true, end.writes),
            TxnAnswer::Committed(_) | TxnAnswer::Aborted { .. } => (false, Vec::new()),
            _ => return Ok(false),
        };
        let shard = self.find_shard(slot, deadline).await?;
        let own =
            writes.into_iter().filter(|write| shard.slots.contains(slot_in(write.cf, &write.key)));
        let finish = TxnCall::Finish { txn, committed, writes: own.collect() };
        match self.step(&shard, finish, deadline).await {
            Some(answer) => answer.map(|_| true),
            None => Ok(false),
        }
    }

    /// Remembers that a transaction is finished everywhere, and tells the homes of some such.
    pub(super) async fn forget(&self, txn: Txn, deadline: Instant) {
        let full = {
            let mut finished =
                self.finished.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            finished.push(txn);
            finished.len() >= FORGET_TOGETHER
        };
        if full {
            self.forget_finished(deadline).await;
        }
    }

    async fn forget_finished(&self, deadline: Instant) {
        let mut finished = {
            let mut kept = self.finished.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            std::mem::take(&mut *kept)
        };
        while let Some(first) = finished.first() {
            let Ok(home) = self.find_shard(first.home, deadline).await else { return };
            let (txns, others): (Vec<Txn>, Vec<Txn>) =
                finished.into_iter().partition(|txn| home.slots.contains(txn.home));
            // What a home is not told it finds in the next sweep.
            _ = self.step(&home, TxnCall::Forget { txns }, deadline).await;
            finished = others;
        }
    }

    /// Settles transactions that were begun or decided `age` ago and left unfinished, by a gateway
    /// that ended or could not reach a shard. To be called now and then, by every gateway.
    ///
    /// # Errors
    /// If a shard cannot be asked; the others have been.
    pub async fn sweep_transactions(&self, age: Duration) -> Result<()> {
        let deadline = Instant::now() + SWEEP;
        self.forget_finished(deadline).await;
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let mut outcome = Ok(());
        let shards = self.shards_of(&[crate::op::route::SlotRange::ALL], deadline).await?;
        for shard in shards {
            let ask = TxnCall::Unfinished { age_ms, max: SWEEP_MAX };
            match self.step(&shard, ask, deadline).await {
                Some(Ok(Response::Txn(answer))) => {
                    let TxnAnswer::Unfinished(all) = *answer else { continue };
                    for one in all {
                        self.settle_unfinished(one, deadline).await;
                    }
                }
                Some(Err(error)) => outcome = Err(error),
                // One that has changed is asked the next time.
                _ => {}
            }
        }
        self.forget_finished(deadline).await;
        outcome
    }

    /// What fails now is found again by the next sweep.
    async fn settle_unfinished(&self, unfinished: TxnUnfinished, deadline: Instant) {
        let TxnUnfinished { txn, slots, is_home } = unfinished;
        if is_home {
            if let Ok(TxnAnswer::Committed(end)) = self.resolve(&txn, false, deadline).await
                && end.attempt == txn.attempt
            {
                self.finish_all(txn, end.slots, end.writes, deadline).await;
            }
            return;
        }
        for slot in slots {
            _ = self.settle_lock(&Lock { txn, slot }, true, deadline).await;
        }
    }
}

/// The lock that an answer tells of, unless the request deals with locks itself.
pub(super) fn lock_of<'a>(request: &Request, answer: &'a Result<Response>) -> Option<&'a Lock> {
    match (request, answer) {
        (Request::Txn(_), _) => None,
        (_, Ok(Response::Locked(lock))) => Some(lock),
        _ => None,
    }
}

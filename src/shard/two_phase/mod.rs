//! Transactions over several shards: two-phase commit, with the record in a shard.
//!
//! ```text
//! gateway            home shard                     every other shard concerned
//! Prepare  ------------------------------------->   locks the keys, tells what they hold
//! Decide   ----->    evaluates the request,
//!                    stores its own writes, those
//!                    of the others, and the answer:
//!                    committed
//! Finish   ------------------------------------->   stores its writes and unlocks
//! Forget   ----->    drops the others' writes
//! ```
//! The gateway drives and keeps nothing; shards never call each other. The home is one of the
//! shards concerned, found by a slot that is part of the transaction's name. A lock is a record in
//! the shard's state, written like any other: it is replicated, is in every snapshot, and outlives
//! crashes and leaders.
//!
//! Whoever meets a lock, a gateway on behalf of any request, asks the home what became of the
//! transaction (Resolve). If it is committed or aborted, the lock's shard is told so (Finish). If
//! nothing is decided it waits a little, and then has the home abort it. So a gateway may die
//! between any two steps.
//!
//! ```text
//! family TXN
//! [1][cf u32 BE][key]                 lock:   [version u8 = 1] txn
//! [2][client u64 BE][request u64 BE]  ending: [version u8 = 1] attempt, 0 aborted
//!                                             | 1 committed: a write | 2 committed: reply
//! [3][client u64 BE][request u64 BE]  stake:  [version u8 = 1] txn, 0 over
//!                                             | 1 since ms, keys (locked)
//! [4][client u64 BE][request u64 BE]  debt:   [version u8 = 1] txn, since ms, slots, writes
//! ```
//! Endings and stakes that are over are forgotten ten minutes later, as applied requests are
//! ([`dedup`](super::dedup)); no call takes so long. A batch that writes to this family begins with
//! such a write: that is how it is known for one without a look at the rest.
//!
//! Whoever reads a range of keys in many shards, each at a moment of its own, asks each for its
//! stamp behind the read: the number of the last batch that locked, unlocked or decided. If none
//! has changed since before the first of the reads, no transaction can be seen in a part. Where
//! there are so many that one always does, reads hold new ones back for a moment.
//!
//! In reading order:
//! - [`state`]: those records.
//! - [`locks`]: what keeps requests from locked keys, and costs nothing where there are none.
//! - [`participant`]: Prepare and Finish.
//! - [`home`]: Decide, Resolve and Forget.
//! - [`unfinished`]: what nobody has come back to.
//!
//! Invariants:
//! - A transaction is committed by one batch at its home, and not before all keys elsewhere are
//!   locked by that very attempt.
//! - A locked key changes by the Finish of its lock's transaction and by nothing else, the expiry
//!   sweep included; what it holds or held is shown to nobody. An attempt that ends without a
//!   commit is recorded as aborted before the first of its keys is unlocked, unless it read only.
//! - An attempt has one ending: Decide and Resolve exclude each other by a latch. Attempt `n + 1`
//!   begins when `n` is known to be aborted. A lock of one attempt is never taken over by another.
//! - A debt stays until every shard has finished. Finish is applied once: a stake that is over
//!   makes it, and a late Prepare, do nothing.
//! - A gateway that waits for another's lock holds none that the other may want, or goes before it
//!   ([`Txn::outranks`](crate::op::txn::Txn::outranks)): there is no ring of waiters, and somebody
//!   always gets through.
//!
//! What a split owes: both halves take over the whole family. Locks and stakes name keys, debts
//! slots, so that whoever has the slots then is asked; a Finish that comes to a half unlocks what
//! the other has in its copy too, and must not be taken for that half's own.

pub(crate) mod home;
pub(crate) mod locks;
mod participant;
mod state;
mod unfinished;

use crate::base::Result;
use crate::op::Response;
use crate::op::txn::{TxnAnswer, TxnCall};
use crate::shard::commit::Ticket;
use crate::shard::shard::{Answer, Shard};
use std::sync::Arc;

/// Executes a step.
pub(crate) fn execute(shard: &Arc<Shard>, call: TxnCall, now_ms: u64) -> Result<Answer> {
    match call {
        TxnCall::Prepare { txn, keys, values, removes } => {
            participant::prepare(shard, txn, &keys, (values, removes), now_ms)
        }
        TxnCall::Finish { txn, committed, writes } => {
            participant::finish(shard, txn, committed, &writes, now_ms)
        }
        TxnCall::Decide { txn, request, locked } => {
            home::decide(shard, txn, &request, locked, now_ms)
        }
        TxnCall::Resolve { txn, abort } => home::resolve(shard, txn, abort, now_ms),
        TxnCall::Forget { txns } => home::forget(shard, &txns, now_ms),
        TxnCall::Unfinished { age_ms, max } => unfinished::list(shard, age_ms, max, now_ms),
        TxnCall::Stamp { hold } => {
            if hold {
                shard.locks.hold(now_ms);
            }
            answer(TxnAnswer::Stamp(shard.stamp()), Ticket::default())
        }
    }
}

fn answer(answer: TxnAnswer, rests_on: Ticket) -> Result<Answer> {
    Ok(Answer { response: Response::Txn(Box::new(answer)), rests_on })
}

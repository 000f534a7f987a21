//! What a gateway asks of shards for a transaction over several of them. The protocol is told where
//! the shards keep it, in `shard::two_phase`.

use crate::base::{CfId, Seq};
use crate::op::kv::{Request, RequestId, Response};
use bytes::Bytes;

/// The most keys that a transaction over several shards touches.
pub const TXN_KEYS_MAX: usize = 20_000;
/// The most bytes of keys and values that such a transaction reads, writes or answers, each.
pub const TXN_BYTES_MAX: usize = 64 << 20;

/// One attempt at a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Txn {
    /// The request that it executes.
    pub id: RequestId,
    /// Which attempt at that it is, from 0. A further one begins only when the one before it is
    /// known to be aborted.
    pub attempt: u32,
    /// A slot of the shard that decides and keeps the record: its home.
    pub home: u16,
}

impl Txn {
    /// Whether this one goes first where two want the same key: a strict order of all that differ
    /// in request. Who was turned away more often goes before.
    pub fn outranks(&self, other: &Txn) -> bool {
        let rank = |txn: &Txn| (txn.attempt, txn.id.client, txn.id.request);
        rank(self) > rank(other)
    }
}

/// Whose lock stood in the way of a request, which had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// The transaction.
    pub txn: Txn,
    /// The slot of the locked key.
    pub slot: u16,
}

/// A key that is locked, and what stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// Column family.
    pub cf: CfId,
    /// Key.
    pub key: Bytes,
    /// What it holds, if anything; it may have expired.
    pub holds: Option<Holds>,
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holds {
    /// The value; empty where nobody asked for it.
    pub value: Bytes,
    /// What kind of value it is.
    pub tag: u8,
    /// Unix time in milliseconds at which it expires.
    pub expire_at_ms: Option<u64>,
    /// Sequence number of the key's last commit, in its own shard.
    pub seq: Seq,
}

/// What a committed transaction makes of a key of another shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnWrite {
    /// Column family.
    pub cf: CfId,
    /// Key.
    pub key: Bytes,
    /// What it holds from then on; none if it is removed.
    pub becomes: Option<TxnValue>,
}

/// What a key is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnValue {
    /// The value.
    pub value: Bytes,
    /// What kind of value it is.
    pub tag: u8,
    /// Unix time in milliseconds at which it expires.
    pub expire_at_ms: Option<u64>,
}

/// A step of a transaction at one shard. Each may be repeated.
#[derive(Debug, Clone, PartialEq)]
pub enum TxnCall {
    /// Locks keys of a shard that is not the home. Answer: [`TxnAnswer::Prepared`], or
    /// [`TxnAnswer::Done`] if this attempt is over here: the home knows how it ended.
    Prepare {
        /// The transaction.
        txn: Txn,
        /// The keys of this shard.
        keys: Vec<(CfId, Bytes)>,
        /// Whether to give their values, or just what stands beside them.
        values: bool,
        /// Whether vectors among them are only removed: that needs no memory.
        removes: bool,
    },
    /// Evaluates and commits the transaction at its home. Answer: [`TxnAnswer::Committed`] or
    /// [`TxnAnswer::Aborted`].
    Decide {
        /// The transaction.
        txn: Txn,
        /// What it executes.
        request: Box<Request>,
        /// The keys locked in other shards: all that the home has not.
        locked: Vec<Locked>,
    },
    /// Unlocks a shard's keys, after the transaction's writes to them if it was committed.
    /// Answer: [`TxnAnswer::Done`].
    Finish {
        /// The transaction.
        txn: Txn,
        /// Whether it was committed.
        committed: bool,
        /// The writes to keys of this shard.
        writes: Vec<TxnWrite>,
    },
    /// Asks the home what became of the transaction. Answer: [`TxnAnswer::Committed`],
    /// [`TxnAnswer::Aborted`] or [`TxnAnswer::Open`].
    Resolve {
        /// The transaction.
        txn: Txn,
        /// Whether to abort it if it is still open.
        abort: bool,
    },
    /// Tells the home that all shards have finished these, so that it need not keep their writes.
    /// Answer: [`TxnAnswer::Done`].
    Forget {
        /// The transactions.
        txns: Vec<Txn>,
    },
    /// Transactions that began or were decided here some time ago and are not finished. Answer:
    /// [`TxnAnswer::Unfinished`].
    Unfinished {
        /// How long ago, in milliseconds.
        age_ms: u64,
        /// The most to name.
        max: u32,
    },
    /// Asks for a number that rises whenever a transaction has locked or changed something here,
    /// as the answers before this one in its pipeline saw it. Answer: [`TxnAnswer::Stamp`].
    Stamp {
        /// Whether to turn new transactions away for a moment, so that whoever reads many shards
        /// gets to see them all at rest.
        hold: bool,
    },
}

/// The answer to a [`TxnCall`].
#[derive(Debug, Clone, PartialEq)]
pub enum TxnAnswer {
    /// The keys are locked; what they hold, in the order asked for.
    Prepared(Vec<Locked>),
    /// It is committed.
    Committed(Box<TxnCommitted>),
    /// This attempt and all up to `through` are aborted, and will not be committed.
    Aborted {
        /// The last attempt aborted.
        through: u32,
    },
    /// Nothing is decided.
    Open,
    /// Done, or it had been.
    Done,
    /// The transactions.
    Unfinished(Vec<TxnUnfinished>),
    /// The number.
    Stamp(u64),
}

/// A committed transaction, as its home has it.
#[derive(Debug, Clone, PartialEq)]
pub struct TxnCommitted {
    /// The attempt that was. All others are as good as aborted.
    pub attempt: u32,
    /// The answer to its request; none if that was too long ago.
    pub answer: Option<Response>,
    /// The slots of the keys locked in other shards.
    pub slots: Vec<u16>,
    /// The writes to those keys.
    pub writes: Vec<TxnWrite>,
}

/// A transaction that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnUnfinished {
    /// The transaction.
    pub txn: Txn,
    /// The slots of keys that are, or may be, locked.
    pub slots: Vec<u16>,
    /// Whether it was named by its home, which has its record.
    pub is_home: bool,
}

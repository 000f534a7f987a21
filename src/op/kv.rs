//! Key-value requests and responses as plain data.
//!
//! Bounds, checked by whoever executes a request and named in the error: keys of 0 to 64 KiB
//! ([`KEY_BYTES_MAX`]), values to 512 MiB ([`VALUE_BYTES_MAX`]), a batch to 100,000 operations.

use crate::base::{CfId, Seq};
use crate::op::Reply;
use crate::op::txn::{Lock, TxnAnswer, TxnCall};
use crate::op::vector::{Floats, VectorAnswer, VectorCall, VectorId};
use bytes::Bytes;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 64 * 1024;
/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// The most operations in one batch.
pub const BATCH_OPS_MAX: usize = 100_000;
/// Entries in one page of a scan that names no limit.
pub const SCAN_LIMIT_DEFAULT: u32 = 1_000;
/// The most entries in one page of a scan.
pub const SCAN_LIMIT_MAX: u32 = 10_000;
/// The greatest time of expiry and time to live, in milliseconds: exact in every client language,
/// and far enough from overflow that a sum of two is safe.
pub const EXPIRY_MS_MAX: u64 = (1 << 53) - 1;
/// The longest name of a column family, in bytes.
pub const CF_NAME_BYTES_MAX: usize = 255;

/// How existing merge operands and a new one become one value. The numbers are on disk: a new
/// meaning takes a new number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum MergeOp {
    /// Bytes behind the present value; an absent value counts as empty.
    #[default]
    Append = 1,
    /// Signed 64-bit addition of two little-endian 8-byte integers, wrapping; absent is 0.
    Add = 2,
    /// The greater of two byte strings in byte order; absent is below all.
    Max = 3,
}

impl MergeOp {
    /// The operator of a stored number.
    pub fn from_u8(n: u8) -> Option<MergeOp> {
        match n {
            1 => Some(MergeOp::Append),
            2 => Some(MergeOp::Add),
            3 => Some(MergeOp::Max),
            _ => None,
        }
    }

    /// The operator of a name: `append`, `add`, `max`.
    pub fn from_name(name: &str) -> Option<MergeOp> {
        match name {
            "append" => Some(MergeOp::Append),
            "add" => Some(MergeOp::Add),
            "max" => Some(MergeOp::Max),
            _ => None,
        }
    }

    /// The operator's name.
    pub fn name(self) -> &'static str {
        match self {
            MergeOp::Append => "append",
            MergeOp::Add => "add",
            MergeOp::Max => "max",
        }
    }
}

/// When a value expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expiry {
    /// Never.
    #[default]
    Never,
    /// So many milliseconds from the shard's now. At least 1.
    InMs(u64),
    /// At this Unix time in milliseconds. A past time is as good as a delete.
    AtMs(u64),
    /// As the present value has it; never, if there is none.
    Keep,
}

/// What must hold of a key for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// The key is absent (an expired one is).
    Absent,
    /// The key is present.
    Present,
    /// The key's last commit has this sequence number.
    SeqIs(Seq),
}

/// One write of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put {
        /// Column family.
        cf: CfId,
        /// Key.
        key: Bytes,
        /// Value.
        value: Bytes,
        /// When the value expires.
        expiry: Expiry,
    },
    /// Removes a key; an absent one is fine.
    Delete {
        /// Column family.
        cf: CfId,
        /// Key.
        key: Bytes,
    },
    /// Merges an operand into a key.
    Merge {
        /// Column family.
        cf: CfId,
        /// Key.
        key: Bytes,
        /// Operand.
        operand: Bytes,
        /// Operator.
        op: MergeOp,
    },
    /// Sets a vector of an index, replacing what has its id.
    PutVector {
        /// The index's name.
        index: String,
        /// The vector's id.
        id: VectorId,
        /// Its numbers: as many as the index has dimensions.
        vector: Floats,
        /// A JSON object of at most 1 MiB, or empty.
        payload: Bytes,
    },
    /// Removes a vector of an index; an absent one is fine.
    DeleteVector {
        /// The index's name.
        index: String,
        /// The vector's id.
        id: VectorId,
    },
}

/// A stored value as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Key.
    pub key: Bytes,
    /// Value.
    pub value: Bytes,
    /// Sequence number of the key's last commit.
    pub seq: Seq,
    /// Unix time in milliseconds at which it expires.
    pub expire_at_ms: Option<u64>,
}

/// Which keys a scan covers, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scan {
    /// Column family.
    pub cf: CfId,
    /// Only keys that begin with this; empty for all.
    pub prefix: Bytes,
    /// First key (inclusive); empty for no bound.
    pub start: Bytes,
    /// End key (exclusive); empty for no bound.
    pub end: Bytes,
    /// Most entries in one answer; 0 takes the default of 1,000. At most 10,000.
    pub limit: u32,
    /// Descending order.
    pub reverse: bool,
    /// Leave values out.
    pub keys_only: bool,
    /// The `next` of the previous answer; empty to begin.
    pub cursor: Bytes,
}

/// Identifies one attempt-independent write, so that a retry applies once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// The client: random, chosen once by it.
    pub client: u64,
    /// The request: rising by one with each new request of that client.
    pub request: u64,
}

/// A Redis data command with its arguments; `args[0]` is the name as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisCall {
    /// The command's entry in the table.
    pub spec: &'static crate::op::command::Spec,
    /// Name and arguments.
    pub args: Vec<Bytes>,
}

/// What WATCH remembered of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The key, in family 0.
    pub key: Bytes,
    /// The sequence number of the key's last commit when WATCH was answered; 0 if it was absent.
    pub at: Seq,
    /// Whether the key was there (an expired one is not).
    pub existed: bool,
}

/// A request to a shard (or to what fronts many).
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Reads one key. Answer: [`Response::Entry`].
    Get {
        /// Column family.
        cf: CfId,
        /// Key.
        key: Bytes,
    },
    /// Writes a batch, all or nothing. Answer: [`Response::Committed`].
    Write {
        /// The writes, in order; a later one to the same key wins.
        writes: Vec<Write>,
        /// Makes a retry apply once.
        id: Option<RequestId>,
    },
    /// Writes one key if a condition holds. Answer: [`Response::Conditional`].
    PutIf {
        /// Column family.
        cf: CfId,
        /// Key.
        key: Bytes,
        /// The new value; `None` deletes.
        value: Option<Bytes>,
        /// When it expires.
        expiry: Expiry,
        /// What must hold.
        condition: Condition,
        /// Makes a retry apply once.
        id: Option<RequestId>,
        /// Whether a refusal is remembered under the id too, so that no other copy of the request
        /// is applied after it: for one that has been sent before, or may be sent again by whoever
        /// chose the id. Costs a write where the condition does not hold; none where the key has a
        /// later number than [`Condition::SeqIs`], since none comes back.
        seal: bool,
    },
    /// Reads keys in order. Answer: [`Response::Page`].
    Scan(Scan),
    /// Deletes every key with a non-empty prefix. Answer: [`Response::Deleted`].
    DeleteByPrefix {
        /// Column family.
        cf: CfId,
        /// The prefix, not empty.
        prefix: Bytes,
    },
    /// Creates a column family by name. Answer: [`Response::ColumnFamily`].
    CreateCf {
        /// Its name: 1 to 255 bytes of `[A-Za-z0-9_.-]`, not beginning with `__`.
        name: String,
    },
    /// Drops a column family and all it holds. Answer: [`Response::Done`].
    DropCf {
        /// Its id; 0 cannot be dropped.
        cf: CfId,
    },
    /// Lists column families. Answer: [`Response::ColumnFamilies`].
    ListCfs,
    /// One Redis data command. Answer: [`Response::Redis`].
    Redis(RedisCall),
    /// Redis commands as one transaction (EXEC). Answer: [`Response::Redis`] with an array, or
    /// with [`Reply::NilArray`] if a watched key has changed.
    RedisTransaction {
        /// Keys watched.
        watched: Vec<Watched>,
        /// Commands queued, in order.
        calls: Vec<RedisCall>,
        /// Bytes of replies at which no further command is executed: the transaction is then
        /// refused and nothing of it has happened. A single reply may have any size.
        reply_bytes_max: u64,
    },
    /// What WATCH remembers of these keys now. Answer: [`Response::Watched`].
    Watch {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Figures of the engine for INFO and monitors. Answer: [`Response::Stats`].
    Stats,
    /// A step of a transaction over several shards. Answer: [`Response::Txn`].
    Txn(Box<TxnCall>),
    /// About vectors and their indexes. Answer: [`Response::Vector`].
    Vector(Box<VectorCall>),
}

impl Request {
    /// The column families that the request reads or writes, as it names them: Redis commands,
    /// which know only the default one, name none.
    pub fn families(&self) -> impl Iterator<Item = CfId> {
        let mut inner = self;
        while let Request::Txn(call) = inner
            && let TxnCall::Decide { request, .. } = &**call
        {
            inner = request;
        }
        let mut keys = &[][..];
        let (one, writes) = match inner {
            Request::Get { cf, .. }
            | Request::PutIf { cf, .. }
            | Request::DeleteByPrefix { cf, .. } => (Some(*cf), &[][..]),
            Request::Scan(scan) => (Some(scan.cf), &[][..]),
            Request::Write { writes, .. } => (None, &writes[..]),
            Request::Txn(call) => {
                if let TxnCall::Prepare { keys: locked, .. } = &**call {
                    keys = &locked[..];
                }
                (None, &[][..])
            }
            Request::CreateCf { .. }
            | Request::DropCf { .. }
            | Request::ListCfs
            | Request::Redis(_)
            | Request::RedisTransaction { .. }
            | Request::Watch { .. }
            | Request::Stats
            | Request::Vector(_) => (None, &[][..]),
        };
        let written = writes.iter().filter_map(|write| match write {
            Write::Put { cf, .. } | Write::Delete { cf, .. } | Write::Merge { cf, .. } => Some(*cf),
            Write::PutVector { .. } | Write::DeleteVector { .. } => None,
        });
        one.into_iter().chain(written).chain(keys.iter().map(|(cf, _)| *cf))
    }
}

/// A column family as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CfInfo {
    /// Id.
    pub id: CfId,
    /// Name; the default family's is `default`.
    pub name: String,
}

/// Figures of the engine behind a door. All counters are since start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Live keys of family 0, exact.
    pub keys: u64,
    /// Those of them with an expiry.
    pub expires: u64,
    /// Mean time to live of a sample of those, in ms; 0 if none.
    pub avg_ttl_ms: u64,
    /// Keys removed because they had expired.
    pub expired_keys: u64,
    /// Reads that found a key.
    pub keyspace_hits: u64,
    /// Reads that did not.
    pub keyspace_misses: u64,
    /// Last visible sequence number.
    pub last_seq: u64,
    /// Bytes in memtables.
    pub memtable_bytes: u64,
    /// Bytes in the block cache.
    pub cache_bytes: u64,
    /// Bytes of tables on disk.
    pub table_bytes: u64,
    /// Bytes of log on disk.
    pub log_bytes: u64,
    /// Sync level: `always`, `interval` or `os`.
    pub sync: &'static str,
    /// Whether a failed write or sync of the log has stopped all writes.
    pub log_failed: bool,
    /// The memory budget in bytes.
    pub memory_budget_bytes: u64,
    /// Further figures, `name` -> value, in the order to print them.
    pub more: Vec<(&'static str, u64)>,
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// The value read, if present.
    Entry(Option<Entry>),
    /// The batch is committed; the sequence number of its last operation.
    Committed {
        /// Sequence number.
        seq: Seq,
    },
    /// The outcome of a conditional write.
    Conditional {
        /// Whether the condition held and the write happened.
        applied: bool,
        /// The commit's sequence number if applied.
        seq: Seq,
        /// If not applied: what stands there now.
        current: Option<Entry>,
    },
    /// A page of a scan, in the order asked for.
    Page {
        /// The entries.
        entries: Vec<Entry>,
        /// Where to go on; empty at the end.
        next: Bytes,
    },
    /// How many keys were deleted.
    Deleted(u64),
    /// The family created.
    ColumnFamily(CfInfo),
    /// All families, by id.
    ColumnFamilies(Vec<CfInfo>),
    /// Done, with nothing to say.
    Done,
    /// A Redis reply.
    Redis(Reply),
    /// What WATCH remembers.
    Watched(Vec<Watched>),
    /// Figures.
    Stats(Box<Stats>),
    /// The answer to a step of a transaction over several shards.
    Txn(Box<TxnAnswer>),
    /// The answer to a [`VectorCall`].
    Vector(Box<VectorAnswer>),
    /// A shard's only: a key is locked by a transaction over several shards, and the request had no
    /// effect. Nor had those behind it in its pipeline.
    Locked(Lock),
}

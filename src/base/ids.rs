//! Newtypes for every number that names something.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A sequence number: the place of one operation in a shard's history, from 1, in log order,
    /// below 2^56. The same on every replica.
    Seq(u64)
}
id! {
    /// A column family's number. 0 is the default family; ids are never reused.
    CfId(u32)
}
id! {
    /// A group of the log: one shard's (or the catalog's) own stream of records.
    GroupId(u64)
}
id! {
    /// The place of an entry within its group's stream, from 1, without holes. 0 is "none yet".
    LogIndex(u64)
}

id! {
    /// A node of a cluster, from 1. Never given to another node, nor to the same one after its disk
    /// was lost.
    NodeId(u64)
}
id! {
    /// A shard of a cluster, from 1, and the Raft group of its replicas. Never reused.
    ShardId(u64)
}
id! {
    /// One replica of one shard, from 1, and its number in the shard's Raft group. Unique in the
    /// cluster, never reused.
    ReplicaId(u64)
}
id! {
    /// An index, from 1: an index dropped and created again under its name has another.
    IndexId(u64)
}
id! {
    /// A job of a cluster, from 1, in the order of creation.
    JobId(u64)
}

impl ShardId {
    /// The shard's group in a node's log.
    pub fn group(self) -> GroupId {
        GroupId(self.0)
    }
}

impl Seq {
    /// The largest sequence number: the trailer of an internal key holds 56 bits of it.
    pub const MAX: Seq = Seq((1 << 56) - 1);
}

impl CfId {
    /// The family that the Redis door and calls without a family use.
    pub const DEFAULT: CfId = CfId(0);
    /// The first id kept for the system: users' families stay below it.
    pub const SYSTEM_FIRST: CfId = CfId(0xFFFF_FF00);
    /// Keys by the time at which they expire: `[expire_ms: u64 BE][family: u32 BE][key]`.
    pub const EXPIRY: CfId = CfId(0xFFFF_FF01);
    /// Answers already given, by client: what makes a retried request apply once.
    pub const DEDUP: CfId = CfId(0xFFFF_FF02);
    /// Not a family: in a batch, a write to it creates or drops the family whose id is its key.
    pub const FAMILIES: CfId = CfId(u32::MAX);

    /// What transactions over several shards have locked and decided.
    pub const TXN: CfId = CfId(0xFFFF_FF03);
    /// Vectors, `[index u64 BE][id u64 BE]`, and the indexes they are in, `[0 u64][index u64 BE]`.
    pub const VECTORS: CfId = CfId(0xFFFF_FF04);

    /// Whether the family belongs to the system.
    pub fn is_system(self) -> bool {
        self >= CfId::SYSTEM_FIRST
    }
}

impl LogIndex {
    /// The index after this one.
    pub fn next(self) -> LogIndex {
        LogIndex(self.0 + 1)
    }
}

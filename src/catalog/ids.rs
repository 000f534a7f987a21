//! Newtypes for every number the catalog hands out, and where the next ones begin.

use crate::base::{CfId, GroupId};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A node, from 1. Never given to another node, nor to the same one after its disk was lost.
    NodeId
}
id! {
    /// A shard, from 1, and the Raft group of its replicas. Never reused.
    ShardId
}
id! {
    /// One replica of one shard, from 1, and its number in the shard's Raft group. Unique in the
    /// cluster, never reused.
    ReplicaId
}
id! {
    /// An index, from 1: an index dropped and created again under its name has another.
    IndexId
}
id! {
    /// A job, from 1, in the order of creation.
    JobId
}

impl ShardId {
    /// The shard's group in a node's log.
    pub fn group(self) -> GroupId {
        GroupId(self.0)
    }
}

/// The ids that are handed out next. They only rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextIds {
    /// One more than the highest node id in use or used.
    pub node: NodeId,
    /// The next shard.
    pub shard: ShardId,
    /// The next replica.
    pub replica: ReplicaId,
    /// The next column family.
    pub family: CfId,
    /// The next index.
    pub index: IndexId,
    /// The next job.
    pub job: JobId,
}

impl Default for NextIds {
    fn default() -> NextIds {
        NextIds {
            node: NodeId(1),
            shard: ShardId(1),
            replica: ReplicaId(1),
            family: CfId(1),
            index: IndexId(1),
            job: JobId(1),
        }
    }
}

impl NextIds {
    /// Takes a shard id.
    pub(super) fn take_shard(&mut self) -> ShardId {
        self.shard.0 += 1;
        ShardId(self.shard.0 - 1)
    }

    /// Takes a replica id.
    pub(super) fn take_replica(&mut self) -> ReplicaId {
        self.replica.0 += 1;
        ReplicaId(self.replica.0 - 1)
    }
}

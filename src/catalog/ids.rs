//! The numbers the catalog hands out, and where the next ones begin.

use crate::base::CfId;
pub use crate::base::{IndexId, JobId, NodeId, ReplicaId, ShardId};

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

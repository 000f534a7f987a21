//! Commands: everything that can change the catalog, as plain data, and what each answers.
//!
//! A command is decided by the catalog's contents and its own fields alone: times come from the
//! leader that proposed it, and whatever is random was drawn by the caller.

use crate::base::CfId;
use crate::catalog::event::Event;
use crate::catalog::ids::{IndexId, JobId, NodeId, ReplicaId, ShardId};
use crate::catalog::records::{Epoch, JobKind, NodeProfile, NodeState, Shard, UserRole};
use crate::op::kv::RequestId;

/// A command as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The leader's time in milliseconds since 1970. The catalog's *now* is the latest it has
    /// applied.
    pub now_ms: u64,
    /// Makes a retry apply once.
    pub id: Option<RequestId>,
    /// What to do.
    pub action: Action,
}

/// What a command does. Kinds of errors that all share: before [`Action::InitCluster`] everything
/// else is refused; names, lengths and counts out of bounds are invalid arguments; what is named
/// must exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Gives the cluster its identity. Once.
    InitCluster {
        /// Drawn at random, not all zero.
        id: [u8; 16],
        /// For people.
        name: String,
        /// The version to begin with.
        version: u32,
    },
    /// Lets everyone write what only `to` understands. Refused while a node that is not removed
    /// speaks less; a replica of the catalog that speaks less stops.
    RaiseVersion {
        /// The new version.
        to: u32,
    },
    /// Registers a node, or a registered one again after its restart. Answers [`Outcome::Node`].
    ///
    /// A node whose incarnation is registered gets its old id. A `wanted` id that is in use by
    /// another incarnation, or was, is refused.
    RegisterNode {
        /// The id its operator chose; `None` takes the next one.
        wanted: Option<NodeId>,
        /// Drawn at random when its data directory was made; not 0.
        incarnation: u64,
        /// What it says of itself.
        profile: NodeProfile,
    },
    /// A node is alive: a joining, suspect or dead one becomes active, and with it its replicas.
    /// Otherwise only the time of its last heartbeat changes, which is no revision.
    Heartbeat {
        /// The node.
        node: NodeId,
        /// Its incarnation; another is refused.
        incarnation: u64,
    },
    /// Moves a node to another state, if it is in the one expected: to draining and back to
    /// active, from there to suspect, from suspect to dead (its replicas are then lost), and to
    /// removed when no shard has a replica on it and it is not active.
    SetNodeState {
        /// The node.
        node: NodeId,
        /// The state it must be in.
        expected: NodeState,
        /// The state it shall be in.
        to: NodeState,
    },
    /// Creates the first shards: all slots in even ranges, placed over the nodes. Once.
    CreateShards {
        /// How many.
        count: u32,
        /// Voters of each.
        replicas: u32,
        /// The nodes to take, none removed, dead or draining; empty for all that are fit.
        nodes: Vec<NodeId>,
    },
    /// Changes a shard whose epoch is the expected one. Answers [`Outcome::Shard`], the shard as it
    /// then is, or [`Outcome::Split`].
    ChangeShard {
        /// The shard.
        shard: ShardId,
        /// The epoch it must have.
        expected: Epoch,
        /// The change.
        change: ShardChange,
    },
    /// A replica leads its shard. An older term than is known is a conflict; this raises no epoch.
    SetLeader {
        /// The shard.
        shard: ShardId,
        /// The leader.
        replica: ReplicaId,
        /// Its Raft term.
        term: u64,
    },
    /// Creates a column family. Answers [`Outcome::Family`].
    CreateFamily {
        /// Its name.
        name: String,
    },
    /// Drops a column family and all it holds. `default` stays.
    DropFamily {
        /// Its name.
        name: String,
    },
    /// Creates an index. Answers [`Outcome::Index`].
    CreateIndex {
        /// Its name.
        name: String,
        /// Its kind.
        kind: String,
        /// Its configuration.
        config: Vec<u8>,
        /// The nodes that host it.
        nodes: Vec<NodeId>,
    },
    /// Says anew which nodes host an index.
    SetIndexNodes {
        /// Its name.
        name: String,
        /// The nodes that host it.
        nodes: Vec<NodeId>,
    },
    /// Drops an index.
    DropIndex {
        /// Its name.
        name: String,
    },
    /// Creates a user.
    CreateUser {
        /// The name.
        name: String,
        /// What the user may do.
        role: UserRole,
        /// What a password is checked against.
        verifier: Vec<u8>,
    },
    /// Changes what is given of a user. The last admin who is not disabled stays one.
    ChangeUser {
        /// The name.
        name: String,
        /// Another role.
        role: Option<UserRole>,
        /// Another verifier.
        verifier: Option<Vec<u8>>,
        /// Locked out or let in.
        disabled: Option<bool>,
    },
    /// Drops a user. The last admin who is not disabled stays.
    DropUser {
        /// The name.
        name: String,
    },
    /// Creates a job. Answers [`Outcome::Job`]. An active job on the same shard, or the same node
    /// if no shard is named, is a conflict.
    CreateJob {
        /// What it does.
        kind: JobKind,
        /// The shard it concerns.
        shard: Option<ShardId>,
        /// The node it concerns.
        node: Option<NodeId>,
        /// Its arguments, in the runner's own format.
        steps: Vec<u8>,
    },
    /// Takes one step of a job's life.
    ChangeJob {
        /// The job.
        job: JobId,
        /// The step.
        change: JobChange,
    },
}

/// A change of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardChange {
    /// Begins a replica on an active or joining node that has none of this shard: a learner that
    /// catches up.
    AddLearner(NodeId),
    /// A learner has caught up.
    LearnerReady(ReplicaId),
    /// A learner that has caught up becomes a voter.
    Promote(ReplicaId),
    /// A leaving replica is gone from the members that the shard's group has committed: its node
    /// may delete it. Its leader says so.
    Remove(ReplicaId),
    /// The shard shall have this many voters.
    SetDesired(u32),
    /// Begins a split at this slot: allots the ids its log entry names. No other change is taken
    /// until it is finished or cancelled.
    BeginSplit(u16),
    /// The parent's log holds the split: the child appears.
    FinishSplit,
    /// The parent's log does not hold the split and never will; its ids stay unused.
    CancelSplit,
    /// A replica shall go, and stays on its way whatever becomes of its node: the shard's leader
    /// takes it out of the group and then says [`ShardChange::Remove`]. Refused if the rest would
    /// have no quorum.
    Leave(ReplicaId),
}

/// A step of a job's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobChange {
    /// Takes the job, or keeps it: only if nobody else's lease runs.
    Claim {
        /// Who runs it.
        owner: u64,
        /// For how long from now, at most an hour.
        lease_ms: u64,
    },
    /// Records where the job stands, and keeps it. Only its owner may.
    Advance {
        /// Who runs it.
        owner: u64,
        /// For how long from now, at most an hour.
        lease_ms: u64,
        /// The steps, replaced.
        steps: Vec<u8>,
    },
    /// Ends the job. Only its owner may.
    Finish {
        /// Who runs it.
        owner: u64,
        /// Whether it reached what it was for.
        done: bool,
        /// The result, or the error.
        text: String,
    },
    /// Calls the job off, whoever runs it: the runner learns of it at its next change, and what
    /// the job left half done is the planner's to mend.
    Cancel {
        /// Why.
        text: String,
    },
}

/// What a command answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or so already.
    Done,
    /// The node's id.
    Node(NodeId),
    /// The shard as it now is.
    Shard(Shard),
    /// Both halves of a split shard.
    Split {
        /// The lower range, under the old id.
        parent: Shard,
        /// The upper range.
        child: Shard,
    },
    /// The column family's id.
    Family(CfId),
    /// The id of the index that was created or dropped.
    Index(IndexId),
    /// The job's id.
    Job(JobId),
}

/// A command that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The revision it made, or the one it found if it changed nothing. For a retry, that of the
    /// first time.
    pub revision: u64,
    /// What it answers.
    pub outcome: Outcome,
    /// What it changed; empty for a retry.
    pub events: Vec<Event>,
}

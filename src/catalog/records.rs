//! The records the catalog is made of: what subscribers see, and nothing of how it is stored.

use crate::base::CfId;
use crate::catalog::ids::{IndexId, JobId, NodeId, ReplicaId, ShardId};
use crate::op::route::SlotRange;
use std::collections::BTreeMap;

/// An enum whose variants have a stable number on the wire (never 0) and a stable printed name.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$inner:meta])* $variant:ident = $number:literal $word:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$inner])* $variant = $number,)*
        }

        impl $name {
            /// All values, in the order of their numbers.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The stable name, as output and messages print it.
            pub fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }

            pub(super) fn from_number(number: u32) -> Option<$name> {
                $name::ALL.iter().copied().find(|value| *value as u32 == number)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

/// The cluster itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Chosen at random by whoever initialised it; a restored cluster gets another.
    pub id: [u8; 16],
    /// For people.
    pub name: String,
    /// The version that all members speak: nothing newer is written to any log.
    pub version: u32,
    /// When it was initialised, in milliseconds since 1970.
    pub created_ms: u64,
}

numbered! {
    /// What a node is fit for.
    NodeState {
        /// Registered, not heard of since.
        Joining = 1 "joining",
        /// Heard of, takes replicas.
        Active = 2 "active",
        /// Being emptied: takes no new replica.
        Draining = 3 "draining",
        /// Silent for a while.
        Suspect = 4 "suspect",
        /// Silent for so long that its replicas are replaced.
        Dead = 5 "dead",
        /// Gone for good; its id stays taken.
        Removed = 6 "removed",
    }
}

impl NodeState {
    /// Whether a node in this state is heard of.
    pub fn is_heard_of(self) -> bool {
        matches!(self, NodeState::Active | NodeState::Joining | NodeState::Draining)
    }
}

/// What a node says of itself when it registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProfile {
    /// Where clients and gateways reach it, `http://10.0.0.1:7379`.
    pub data_url: String,
    /// Where its Raft peers reach it, `10.0.0.1:7380`.
    pub raft_addr: String,
    /// Failure domains by level (`region`, `zone`, `rack`, `host`) and whatever else is known.
    pub labels: BTreeMap<String, String>,
    /// Bytes of disk it offers; 0 if it does not say. A hint.
    pub disk_bytes: u64,
    /// Cores it offers; 0 if it does not say. A hint.
    pub cores: u32,
    /// The software's version, for people.
    pub software: String,
    /// The newest version of the cluster's formats and protocols that it speaks.
    pub speaks: u32,
}

/// A registered node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Drawn at random when its data directory was made: another one under this id is another node.
    pub incarnation: u64,
    /// What it said of itself.
    pub profile: NodeProfile,
    /// What it is fit for.
    pub state: NodeState,
    /// Since when it is in that state, by the catalog's time.
    pub since_ms: u64,
}

/// Versions of a shard's descriptor. Two descriptors of a shard with one epoch differ at most in
/// the leader hint.
///
/// There are two of them because they travel on different ways: a replica learns a new `range`
/// from its own log, in the entry that splits it, so a request is checked against that when it is
/// applied; `config` is known here first, and is what a job compares before its next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epoch {
    /// Rises with each change of the replicas, of their number, or of a pending split.
    pub config: u64,
    /// Rises with each change of the slots.
    pub range: u64,
}

numbered! {
    /// What a replica counts for.
    Role {
        /// Counts for the quorum.
        Voter = 1 "voter",
        /// Receives the log and counts for nothing.
        Learner = 2 "learner",
    }
}

numbered! {
    /// How far a replica is to be relied on.
    ReplicaState {
        /// Catching up.
        Joining = 1 "joining",
        /// Caught up.
        Ready = 2 "ready",
        /// Its node is dead.
        Lost = 3 "lost",
        /// On its way out: the shard's group lets go of it, and then the catalog does.
        Leaving = 4 "leaving",
    }
}

/// One copy of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replica {
    /// Its id.
    pub id: ReplicaId,
    /// The node it is on; no two replicas of a shard share one.
    pub node: NodeId,
    /// What it counts for.
    pub role: Role,
    /// How far it is to be relied on.
    pub state: ReplicaState,
}

impl Replica {
    /// Whether it counts for the quorum and is there to do so.
    pub fn is_live_voter(&self) -> bool {
        self.role == Role::Voter && self.state == ReplicaState::Ready
    }
}

/// Who was last known to lead a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// The replica.
    pub replica: ReplicaId,
    /// Its Raft term; a hint of an older term never replaces a newer one.
    pub term: u64,
}

/// A split that was begun: the ids its log entry will name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingSplit {
    /// The first slot of the child.
    pub at: u16,
    /// The child's id.
    pub child: ShardId,
    /// The child's replicas, one for each of the parent's, in the order of those.
    pub replicas: Vec<ReplicaId>,
}

/// A shard: its slots and its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its id, and that of its Raft group.
    pub id: ShardId,
    /// Its slots.
    pub slots: SlotRange,
    /// The version of this descriptor.
    pub epoch: Epoch,
    /// Its replicas; the first of a new shard is the one to begin as leader.
    pub replicas: Vec<Replica>,
    /// How many voters it should have.
    pub desired: u32,
    /// Who leads it, as far as is known.
    pub leader: Option<Leader>,
    /// The split under way.
    pub split: Option<PendingSplit>,
}

impl Shard {
    /// The replica with this id.
    pub fn replica(&self, id: ReplicaId) -> Option<&Replica> {
        self.replicas.iter().find(|r| r.id == id)
    }

    /// The replica on this node.
    pub fn replica_on(&self, node: NodeId) -> Option<&Replica> {
        self.replicas.iter().find(|r| r.node == node)
    }

    /// The node of the leader, as far as is known.
    pub fn leader_node(&self) -> Option<NodeId> {
        self.replica(self.leader?.replica).map(|r| r.node)
    }

    /// Whether more than half of the voters that stay are there.
    pub fn has_quorum(&self) -> bool {
        has_quorum(self.replicas.iter())
    }

    /// Whether the shard keeps a quorum of the voters it then has, when `replica` goes and those
    /// that are leaving.
    pub fn can_lose(&self, replica: ReplicaId) -> bool {
        let is_learner = self.replica(replica).is_some_and(|r| r.role == Role::Learner);
        is_learner || has_quorum(self.replicas.iter().filter(|r| r.id != replica))
    }
}

fn has_quorum<'a>(replicas: impl Iterator<Item = &'a Replica>) -> bool {
    let stays = |r: &&Replica| r.role == Role::Voter && r.state != ReplicaState::Leaving;
    let voters: Vec<&Replica> = replicas.filter(stays).collect();
    2 * voters.iter().filter(|r| r.is_live_voter()).count() > voters.len()
}

/// A column family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Its id, never reused; 0 is `default`.
    pub id: CfId,
    /// Its name.
    pub name: String,
}

/// An index over records: what its nodes need to build it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its id, never reused.
    pub id: IndexId,
    /// Its name.
    pub name: String,
    /// Its kind: `hnsw`, `pq_hnsw`, ...
    pub kind: String,
    /// Its configuration, in the kind's own format.
    pub config: Vec<u8>,
    /// The nodes that host it, ascending.
    pub nodes: Vec<NodeId>,
}

numbered! {
    /// What a user may do.
    UserRole {
        /// Everything, users and cluster operations among it.
        Admin = 1 "admin",
        /// Data only.
        User = 2 "user",
    }
}

/// A user of the doors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// What the user may do.
    pub role: UserRole,
    /// What a password is checked against; hashed by whoever made it.
    pub verifier: Vec<u8>,
    /// Whether the user is locked out.
    pub disabled: bool,
}

numbered! {
    /// What a job does.
    JobKind {
        /// Brings up a cluster.
        Init = 1 "init",
        /// Moves a replica to another node.
        MoveReplica = 2 "move_replica",
        /// Makes another replica the leader.
        TransferLeader = 3 "transfer_leader",
        /// Splits a shard.
        Split = 4 "split",
        /// Empties a node.
        DrainNode = 5 "drain_node",
        /// Empties a node and removes it.
        RemoveNode = 6 "remove_node",
        /// Replaces a replica whose node is dead.
        ReplaceDead = 7 "replace_dead",
        /// Evens out the nodes.
        Rebalance = 8 "rebalance",
        /// Writes a backup.
        Backup = 9 "backup",
        /// Reads a backup.
        Restore = 10 "restore",
    }
}

impl JobKind {
    /// Whether a job of this kind concerns one shard.
    pub fn needs_shard(self) -> bool {
        use JobKind::{MoveReplica, ReplaceDead, Split, TransferLeader};
        matches!(self, MoveReplica | TransferLeader | Split | ReplaceDead)
    }

    /// Whether a job of this kind concerns one node.
    pub fn needs_node(self) -> bool {
        matches!(self, JobKind::DrainNode | JobKind::RemoveNode)
    }
}

numbered! {
    /// How far a job is.
    JobState {
        /// Nobody has begun it.
        Pending = 1 "pending",
        /// Someone has it, or had it and lost the lease.
        Running = 2 "running",
        /// Reached what it was for.
        Done = 3 "done",
        /// Gave up.
        Failed = 4 "failed",
        /// Was called off.
        Cancelled = 5 "cancelled",
    }
}

impl JobState {
    /// Whether the job may still do something.
    pub fn is_active(self) -> bool {
        matches!(self, JobState::Pending | JobState::Running)
    }
}

/// Who runs a job, and until when nobody else may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Chosen at random by the runner when it started.
    pub owner: u64,
    /// The end, by the catalog's time.
    pub until_ms: u64,
}

/// A job: work of several steps that goes on after a crash of whoever runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// The shard it concerns; at most one active job concerns a shard.
    pub shard: Option<ShardId>,
    /// The node it concerns; at most one active job without a shard concerns a node.
    pub node: Option<NodeId>,
    /// Arguments and the steps done, in the runner's own format.
    pub steps: Vec<u8>,
    /// How often it was claimed by another owner than before.
    pub attempts: u32,
    /// How far it is.
    pub state: JobState,
    /// Who runs it.
    pub lease: Option<Lease>,
    /// What it ended with: a result, an error, a reason.
    pub text: String,
    /// When it was created, by the catalog's time.
    pub created_ms: u64,
    /// When its state last changed, by the catalog's time.
    pub changed_ms: u64,
}

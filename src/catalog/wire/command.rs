//! Commands.
//!
//! ```text
//! message Command {
//!   uint32 version = 1;     the format version that first knew this kind: 1
//!   uint64 now_ms = 2;
//!   Request request = 3;
//!   oneof action {
//!     Init init = 10; uint32 raise_version = 11; Register register = 12; Heartbeat heartbeat = 13;
//!     NodeTo node_to = 14; CreateShards create_shards = 15; ChangeShard change_shard = 16;
//!     SetLeader set_leader = 17; string create_family = 18; string drop_family = 19;
//!     CreateIndex create_index = 20; IndexNodes index_nodes = 21; string drop_index = 22;
//!     CreateUser create_user = 23; ChangeUser change_user = 24; string drop_user = 25;
//!     CreateJob create_job = 26; ChangeJob change_job = 27;
//!   }
//! }
//! message Request      { fixed64 client = 1; uint64 request = 2; }
//! message Init         { bytes id = 1; string name = 2; uint32 version = 3; }
//! message Register     { optional uint64 wanted = 1; fixed64 incarnation = 2; Profile profile = 3; }
//! message Heartbeat    { uint64 node = 1; fixed64 incarnation = 2; }
//! message NodeTo       { uint64 node = 1; uint32 expected = 2; uint32 to = 3; }
//! message CreateShards { uint32 count = 1; uint32 replicas = 2; repeated uint64 nodes = 3; }
//! message ChangeShard  { uint64 shard = 1; Epoch expected = 2;
//!   oneof change { uint64 add_learner = 3; uint64 learner_ready = 4; uint64 promote = 5;
//!                  uint64 remove = 6; uint32 set_desired = 7; uint32 begin_split = 8;
//!                  Nothing finish_split = 9; Nothing cancel_split = 10; } }
//! message SetLeader    { uint64 shard = 1; uint64 replica = 2; uint64 term = 3; }
//! message CreateIndex  { string name = 1; string kind = 2; bytes config = 3;
//!                        repeated uint64 nodes = 4; }
//! message IndexNodes   { string name = 1; repeated uint64 nodes = 2; }
//! message CreateUser   { string name = 1; uint32 role = 2; bytes verifier = 3; }
//! message ChangeUser   { string name = 1; optional uint32 role = 2; optional bytes verifier = 3;
//!                        optional bool disabled = 4; }
//! message CreateJob    { uint32 kind = 1; optional uint64 shard = 2; optional uint64 node = 3;
//!                        bytes steps = 4; }
//! message ChangeJob    { uint64 job = 1;
//!   oneof change { Claim claim = 2; Advance advance = 3; Finish finish = 4; string cancel = 5; } }
//! message Claim        { fixed64 owner = 1; uint64 lease_ms = 2; }
//! message Advance      { fixed64 owner = 1; uint64 lease_ms = 2; bytes steps = 3; }
//! message Finish       { fixed64 owner = 1; bool done = 2; string text = 3; }
//! message Nothing      { }
//! ```

use super::records::{
    Epoch, Profile, read_cluster_id, read_job_kind, read_node_state, read_split_slot,
    read_user_role,
};
use super::{COMMAND_BYTES_MAX, decode, malformed, required, unknown};
use crate::base::{Error, ErrorKind, Result};
use crate::catalog::command::{Action, Command as Given, JobChange, ShardChange};
use crate::catalog::ids::{JobId, NodeId, ReplicaId, ShardId};
use crate::catalog::limits::FORMAT_VERSION;
use crate::op::kv::RequestId;
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
struct Command {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint64, tag = "2")]
    now_ms: u64,
    #[prost(message, optional, tag = "3")]
    request: Option<Request>,
    #[prost(
        oneof = "Act",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27"
    )]
    action: Option<Act>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Act {
    #[prost(message, tag = "10")]
    Init(Init),
    #[prost(uint32, tag = "11")]
    RaiseVersion(u32),
    #[prost(message, tag = "12")]
    Register(Register),
    #[prost(message, tag = "13")]
    Heartbeat(Heartbeat),
    #[prost(message, tag = "14")]
    NodeTo(NodeTo),
    #[prost(message, tag = "15")]
    CreateShards(CreateShards),
    #[prost(message, tag = "16")]
    ChangeShard(ChangeShard),
    #[prost(message, tag = "17")]
    SetLeader(SetLeader),
    #[prost(string, tag = "18")]
    CreateFamily(String),
    #[prost(string, tag = "19")]
    DropFamily(String),
    #[prost(message, tag = "20")]
    CreateIndex(CreateIndex),
    #[prost(message, tag = "21")]
    IndexNodes(IndexNodes),
    #[prost(string, tag = "22")]
    DropIndex(String),
    #[prost(message, tag = "23")]
    CreateUser(CreateUser),
    #[prost(message, tag = "24")]
    ChangeUser(ChangeUser),
    #[prost(string, tag = "25")]
    DropUser(String),
    #[prost(message, tag = "26")]
    CreateJob(CreateJob),
    #[prost(message, tag = "27")]
    ChangeJob(ChangeJob),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Request {
    #[prost(fixed64, tag = "1")]
    client: u64,
    #[prost(uint64, tag = "2")]
    request: u64,
}

impl Request {
    pub(super) fn of(id: RequestId) -> Request {
        Request { client: id.client, request: id.request }
    }

    pub(super) fn read(self) -> RequestId {
        RequestId { client: self.client, request: self.request }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Init {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint32, tag = "3")]
    version: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Register {
    #[prost(uint64, optional, tag = "1")]
    wanted: Option<u64>,
    #[prost(fixed64, tag = "2")]
    incarnation: u64,
    #[prost(message, optional, tag = "3")]
    profile: Option<Profile>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Heartbeat {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(fixed64, tag = "2")]
    incarnation: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct NodeTo {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint32, tag = "2")]
    expected: u32,
    #[prost(uint32, tag = "3")]
    to: u32,
}

#[derive(Clone, PartialEq, Message)]
struct CreateShards {
    #[prost(uint32, tag = "1")]
    count: u32,
    #[prost(uint32, tag = "2")]
    replicas: u32,
    #[prost(uint64, repeated, tag = "3")]
    nodes: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ChangeShard {
    #[prost(uint64, tag = "1")]
    shard: u64,
    #[prost(message, optional, tag = "2")]
    expected: Option<Epoch>,
    #[prost(oneof = "OfShard", tags = "3, 4, 5, 6, 7, 8, 9, 10, 11")]
    change: Option<OfShard>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
enum OfShard {
    #[prost(uint64, tag = "3")]
    AddLearner(u64),
    #[prost(uint64, tag = "4")]
    LearnerReady(u64),
    #[prost(uint64, tag = "5")]
    Promote(u64),
    #[prost(uint64, tag = "6")]
    Remove(u64),
    #[prost(uint32, tag = "7")]
    SetDesired(u32),
    #[prost(uint32, tag = "8")]
    BeginSplit(u32),
    #[prost(message, tag = "9")]
    FinishSplit(Nothing),
    #[prost(message, tag = "10")]
    CancelSplit(Nothing),
    #[prost(uint64, tag = "11")]
    Leave(u64),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Nothing {}

#[derive(Clone, Copy, PartialEq, Message)]
struct SetLeader {
    #[prost(uint64, tag = "1")]
    shard: u64,
    #[prost(uint64, tag = "2")]
    replica: u64,
    #[prost(uint64, tag = "3")]
    term: u64,
}

#[derive(Clone, PartialEq, Message)]
struct CreateIndex {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    kind: String,
    #[prost(bytes = "vec", tag = "3")]
    config: Vec<u8>,
    #[prost(uint64, repeated, tag = "4")]
    nodes: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct IndexNodes {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, repeated, tag = "2")]
    nodes: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateUser {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    role: u32,
    #[prost(bytes = "vec", tag = "3")]
    verifier: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ChangeUser {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, optional, tag = "2")]
    role: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "3")]
    verifier: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "4")]
    disabled: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateJob {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint64, optional, tag = "2")]
    shard: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    node: Option<u64>,
    #[prost(bytes = "vec", tag = "4")]
    steps: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ChangeJob {
    #[prost(uint64, tag = "1")]
    job: u64,
    #[prost(oneof = "OfJob", tags = "2, 3, 4, 5")]
    change: Option<OfJob>,
}

#[derive(Clone, PartialEq, Oneof)]
enum OfJob {
    #[prost(message, tag = "2")]
    Claim(Claim),
    #[prost(message, tag = "3")]
    Advance(Advance),
    #[prost(message, tag = "4")]
    Finish(Finish),
    #[prost(string, tag = "5")]
    Cancel(String),
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Claim {
    #[prost(fixed64, tag = "1")]
    owner: u64,
    #[prost(uint64, tag = "2")]
    lease_ms: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Advance {
    #[prost(fixed64, tag = "1")]
    owner: u64,
    #[prost(uint64, tag = "2")]
    lease_ms: u64,
    #[prost(bytes = "vec", tag = "3")]
    steps: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Finish {
    #[prost(fixed64, tag = "1")]
    owner: u64,
    #[prost(bool, tag = "2")]
    done: bool,
    #[prost(string, tag = "3")]
    text: String,
}

/// A command's bytes, for the log. [`ErrorKind::InvalidArgument`] if they are more than
/// [`COMMAND_BYTES_MAX`]: every replica would stop at them, so they must not be proposed.
pub fn encode_command(command: &Given) -> Result<Vec<u8>> {
    let message = Command {
        version: 1,
        now_ms: command.now_ms,
        request: command.id.map(Request::of),
        action: Some(from_action(command.action.clone())),
    };
    let length = message.encoded_len();
    if length > COMMAND_BYTES_MAX {
        let text = format!("a command of {length} bytes; at most {COMMAND_BYTES_MAX} are taken");
        return Err(Error::invalid(text));
    }
    Ok(message.encode_to_vec())
}

/// The command of some bytes. [`ErrorKind::Unsupported`] if this version does not know all of it,
/// [`ErrorKind::Corruption`] if it is no command: either way a replica that finds it in its log
/// stops.
pub fn decode_command(bytes: &[u8]) -> Result<Given> {
    if bytes.len() > COMMAND_BYTES_MAX {
        return Err(malformed("a command", &format!("{} bytes", bytes.len())));
    }
    let message: Command = decode("a command", bytes)?;
    if message.version != 1 {
        let text = format!(
            "a command of format version {}; this program knows {FORMAT_VERSION}; upgrade it",
            message.version
        );
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    let action = required("a command", message.action, to_action)?;
    Ok(Given { now_ms: message.now_ms, id: message.request.map(Request::read), action })
}

fn raw(nodes: Vec<NodeId>) -> Vec<u64> {
    nodes.into_iter().map(|id| id.0).collect()
}

fn nodes(raw: Vec<u64>) -> Vec<NodeId> {
    raw.into_iter().map(NodeId).collect()
}

fn from_action(action: Action) -> Act {
    match action {
        Action::InitCluster { id, name, version } => {
            Act::Init(Init { id: id.to_vec(), name, version })
        }
        Action::RaiseVersion { to } => Act::RaiseVersion(to),
        Action::RegisterNode { wanted, incarnation, profile } => {
            let profile = Some(Profile::of(&profile));
            Act::Register(Register { wanted: wanted.map(|id| id.0), incarnation, profile })
        }
        Action::Heartbeat { node, incarnation } => {
            Act::Heartbeat(Heartbeat { node: node.0, incarnation })
        }
        Action::SetNodeState { node, expected, to } => {
            Act::NodeTo(NodeTo { node: node.0, expected: expected as u32, to: to as u32 })
        }
        Action::CreateShards { count, replicas, nodes } => {
            Act::CreateShards(CreateShards { count, replicas, nodes: raw(nodes) })
        }
        Action::ChangeShard { shard, expected, change } => Act::ChangeShard(ChangeShard {
            shard: shard.0,
            expected: Some(Epoch::of(&expected)),
            change: Some(from_shard_change(change)),
        }),
        Action::SetLeader { shard, replica, term } => {
            Act::SetLeader(SetLeader { shard: shard.0, replica: replica.0, term })
        }
        Action::CreateFamily { name } => Act::CreateFamily(name),
        Action::DropFamily { name } => Act::DropFamily(name),
        Action::CreateIndex { name, kind, config, nodes } => {
            Act::CreateIndex(CreateIndex { name, kind, config, nodes: raw(nodes) })
        }
        Action::SetIndexNodes { name, nodes } => {
            Act::IndexNodes(IndexNodes { name, nodes: raw(nodes) })
        }
        Action::DropIndex { name } => Act::DropIndex(name),
        Action::CreateUser { name, role, verifier } => {
            Act::CreateUser(CreateUser { name, role: role as u32, verifier })
        }
        Action::ChangeUser { name, role, verifier, disabled } => {
            let role = role.map(|role| role as u32);
            Act::ChangeUser(ChangeUser { name, role, verifier, disabled })
        }
        Action::DropUser { name } => Act::DropUser(name),
        Action::CreateJob { kind, shard, node, steps } => {
            let (shard, node) = (shard.map(|id| id.0), node.map(|id| id.0));
            Act::CreateJob(CreateJob { kind: kind as u32, shard, node, steps })
        }
        Action::ChangeJob { job, change } => {
            Act::ChangeJob(ChangeJob { job: job.0, change: Some(from_job_change(change)) })
        }
    }
}

fn to_action(act: Act) -> Result<Action> {
    Ok(match act {
        Act::Init(Init { id, name, version }) => {
            Action::InitCluster { id: read_cluster_id(id)?, name, version }
        }
        Act::RaiseVersion(to) => Action::RaiseVersion { to },
        Act::Register(Register { wanted, incarnation, profile }) => {
            let profile = required("a registration", profile, Profile::read)?;
            Action::RegisterNode { wanted: wanted.map(NodeId), incarnation, profile }
        }
        Act::Heartbeat(Heartbeat { node, incarnation }) => {
            Action::Heartbeat { node: NodeId(node), incarnation }
        }
        Act::NodeTo(NodeTo { node, expected, to }) => {
            let (expected, to) = (read_node_state(expected)?, read_node_state(to)?);
            Action::SetNodeState { node: NodeId(node), expected, to }
        }
        Act::CreateShards(CreateShards { count, replicas, nodes: raw }) => {
            Action::CreateShards { count, replicas, nodes: nodes(raw) }
        }
        Act::ChangeShard(ChangeShard { shard, expected, change }) => Action::ChangeShard {
            shard: ShardId(shard),
            expected: required("a shard's change", expected, Epoch::read)?,
            change: required("a shard's change", change, to_shard_change)?,
        },
        Act::SetLeader(SetLeader { shard, replica, term }) => {
            Action::SetLeader { shard: ShardId(shard), replica: ReplicaId(replica), term }
        }
        Act::CreateFamily(name) => Action::CreateFamily { name },
        Act::DropFamily(name) => Action::DropFamily { name },
        Act::CreateIndex(CreateIndex { name, kind, config, nodes: raw }) => {
            Action::CreateIndex { name, kind, config, nodes: nodes(raw) }
        }
        Act::IndexNodes(IndexNodes { name, nodes: raw }) => {
            Action::SetIndexNodes { name, nodes: nodes(raw) }
        }
        Act::DropIndex(name) => Action::DropIndex { name },
        Act::CreateUser(CreateUser { name, role, verifier }) => {
            Action::CreateUser { name, role: read_user_role(role)?, verifier }
        }
        Act::ChangeUser(ChangeUser { name, role, verifier, disabled }) => {
            let role = role.map(read_user_role).transpose()?;
            Action::ChangeUser { name, role, verifier, disabled }
        }
        Act::DropUser(name) => Action::DropUser { name },
        Act::CreateJob(CreateJob { kind, shard, node, steps }) => {
            let (shard, node) = (shard.map(ShardId), node.map(NodeId));
            Action::CreateJob { kind: read_job_kind(kind)?, shard, node, steps }
        }
        Act::ChangeJob(ChangeJob { job, change }) => {
            let change = change.map(to_job_change).ok_or_else(|| unknown("a job's change"))?;
            Action::ChangeJob { job: JobId(job), change }
        }
    })
}

fn from_shard_change(change: ShardChange) -> OfShard {
    match change {
        ShardChange::AddLearner(node) => OfShard::AddLearner(node.0),
        ShardChange::LearnerReady(replica) => OfShard::LearnerReady(replica.0),
        ShardChange::Promote(replica) => OfShard::Promote(replica.0),
        ShardChange::Remove(replica) => OfShard::Remove(replica.0),
        ShardChange::SetDesired(desired) => OfShard::SetDesired(desired),
        ShardChange::BeginSplit(at) => OfShard::BeginSplit(u32::from(at)),
        ShardChange::FinishSplit => OfShard::FinishSplit(Nothing {}),
        ShardChange::CancelSplit => OfShard::CancelSplit(Nothing {}),
        ShardChange::Leave(replica) => OfShard::Leave(replica.0),
    }
}

fn to_shard_change(change: OfShard) -> Result<ShardChange> {
    Ok(match change {
        OfShard::AddLearner(node) => ShardChange::AddLearner(NodeId(node)),
        OfShard::LearnerReady(replica) => ShardChange::LearnerReady(ReplicaId(replica)),
        OfShard::Promote(replica) => ShardChange::Promote(ReplicaId(replica)),
        OfShard::Remove(replica) => ShardChange::Remove(ReplicaId(replica)),
        OfShard::SetDesired(desired) => ShardChange::SetDesired(desired),
        OfShard::BeginSplit(at) => ShardChange::BeginSplit(read_split_slot(at)?),
        OfShard::FinishSplit(_) => ShardChange::FinishSplit,
        OfShard::CancelSplit(_) => ShardChange::CancelSplit,
        OfShard::Leave(replica) => ShardChange::Leave(ReplicaId(replica)),
    })
}

fn from_job_change(change: JobChange) -> OfJob {
    match change {
        JobChange::Claim { owner, lease_ms } => OfJob::Claim(Claim { owner, lease_ms }),
        JobChange::Advance { owner, lease_ms, steps } => {
            OfJob::Advance(Advance { owner, lease_ms, steps })
        }
        JobChange::Finish { owner, done, text } => OfJob::Finish(Finish { owner, done, text }),
        JobChange::Cancel { text } => OfJob::Cancel(text),
    }
}

fn to_job_change(change: OfJob) -> JobChange {
    match change {
        OfJob::Claim(Claim { owner, lease_ms }) => JobChange::Claim { owner, lease_ms },
        OfJob::Advance(Advance { owner, lease_ms, steps }) => {
            JobChange::Advance { owner, lease_ms, steps }
        }
        OfJob::Finish(Finish { owner, done, text }) => JobChange::Finish { owner, done, text },
        OfJob::Cancel(text) => JobChange::Cancel { text },
    }
}

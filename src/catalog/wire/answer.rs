//! Answers and changes: what goes to whoever proposed a command, and to subscribers.
//!
//! ```text
//! message Answer  { oneof answer { Applied applied = 1; Refusal refusal = 2; } }
//! message Applied { uint64 revision = 1; Outcome outcome = 2; repeated Event events = 3; }
//! message Outcome { oneof outcome { Nothing done = 1; uint64 node = 2; Shard shard = 3;
//!                   Split split = 4; uint32 family = 5; uint64 index = 6; uint64 job = 7; } }
//! message Split   { Shard parent = 1; Shard child = 2; }
//! message Refusal { uint32 kind = 1; string message = 2;
//!                   oneof standing { Node node = 3; Shard shard = 4; Job job = 5; } }
//!                   kind: 1 invalid argument, 2 not found, 3 already exists, 4 conflict,
//!                         5 refused, 6 unsupported, 7 any other
//! message Change  { uint64 revision = 1; repeated Event events = 2; }
//! message Event   { oneof event { Cluster cluster = 1; Node node = 2; Shard shard = 3;
//!                   Split split = 4; Family family = 5; string family_dropped = 6;
//!                   Index index = 7; string index_dropped = 8; User user = 9;
//!                   string user_dropped = 10; Job job = 11; uint64 job_forgotten = 12; } }
//! ```

use super::command::Nothing;
use super::records::{Cluster, Family, Index, Job, Node, Shard, User};
use super::{all, decode, required, unknown};
use crate::base::{CfId, Error, ErrorKind, Result};
use crate::catalog::command as given;
use crate::catalog::event as told;
use crate::catalog::ids::{IndexId, JobId, NodeId};
use crate::catalog::records;
use crate::catalog::refusal as refused;
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(oneof = "Either", tags = "1, 2")]
    answer: Option<Either>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Either {
    #[prost(message, tag = "1")]
    Applied(Applied),
    #[prost(message, tag = "2")]
    Refusal(Refusal),
}

#[derive(Clone, PartialEq, Message)]
struct Applied {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(message, optional, tag = "2")]
    outcome: Option<Outcome>,
    #[prost(message, repeated, tag = "3")]
    events: Vec<Event>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Outcome {
    #[prost(oneof = "Ends", tags = "1, 2, 3, 4, 5, 6, 7")]
    outcome: Option<Ends>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Ends {
    #[prost(message, tag = "1")]
    Done(Nothing),
    #[prost(uint64, tag = "2")]
    Node(u64),
    #[prost(message, tag = "3")]
    Shard(Shard),
    #[prost(message, tag = "4")]
    Split(Split),
    #[prost(uint32, tag = "5")]
    Family(u32),
    #[prost(uint64, tag = "6")]
    Index(u64),
    #[prost(uint64, tag = "7")]
    Job(u64),
}

#[derive(Clone, PartialEq, Message)]
struct Split {
    #[prost(message, optional, tag = "1")]
    parent: Option<Shard>,
    #[prost(message, optional, tag = "2")]
    child: Option<Shard>,
}

#[derive(Clone, PartialEq, Message)]
struct Refusal {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(oneof = "Standing", tags = "3, 4, 5")]
    standing: Option<Standing>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Standing {
    #[prost(message, tag = "3")]
    Node(Node),
    #[prost(message, tag = "4")]
    Shard(Shard),
    #[prost(message, tag = "5")]
    Job(Job),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Change {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(message, repeated, tag = "2")]
    events: Vec<Event>,
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(oneof = "Of", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    event: Option<Of>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Of {
    #[prost(message, tag = "1")]
    Cluster(Cluster),
    #[prost(message, tag = "2")]
    Node(Node),
    #[prost(message, tag = "3")]
    Shard(Shard),
    #[prost(message, tag = "4")]
    Split(Split),
    #[prost(message, tag = "5")]
    Family(Family),
    #[prost(string, tag = "6")]
    FamilyDropped(String),
    #[prost(message, tag = "7")]
    Index(Index),
    #[prost(string, tag = "8")]
    IndexDropped(String),
    #[prost(message, tag = "9")]
    User(User),
    #[prost(string, tag = "10")]
    UserDropped(String),
    #[prost(message, tag = "11")]
    Job(Job),
    #[prost(uint64, tag = "12")]
    JobForgotten(u64),
}

/// An answer's bytes.
pub fn encode_answer(answer: &Result<given::Applied, refused::Refusal>) -> Vec<u8> {
    let answer = match answer {
        Ok(applied) => Either::Applied(Applied {
            revision: applied.revision,
            outcome: Some(Outcome::of(&applied.outcome)),
            events: applied.events.iter().map(Event::of).collect(),
        }),
        Err(refusal) => Either::Refusal(Refusal::of(refusal)),
    };
    Answer { answer: Some(answer) }.encode_to_vec()
}

/// The answer of some bytes; the outer error is one of the bytes.
pub fn decode_answer(bytes: &[u8]) -> Result<Result<given::Applied, refused::Refusal>> {
    let Answer { answer } = decode("an answer", bytes)?;
    match answer.ok_or_else(|| unknown("an answer"))? {
        Either::Applied(applied) => Ok(Ok(given::Applied {
            revision: applied.revision,
            outcome: required("an answer", applied.outcome, Outcome::read)?,
            events: all(applied.events, Event::read)?,
        })),
        Either::Refusal(refusal) => refusal.read().map(Err),
    }
}

/// A change's bytes, for a subscriber.
pub fn encode_change(change: &told::Change) -> Vec<u8> {
    Change::of(change).encode_to_vec()
}

/// The change of some bytes.
pub fn decode_change(bytes: &[u8]) -> Result<told::Change> {
    decode::<Change>("a change", bytes)?.read()
}

impl Outcome {
    pub(super) fn of(from: &given::Outcome) -> Outcome {
        let outcome = match from {
            given::Outcome::Done => Ends::Done(Nothing {}),
            given::Outcome::Node(id) => Ends::Node(id.0),
            given::Outcome::Shard(shard) => Ends::Shard(Shard::of(shard)),
            given::Outcome::Split { parent, child } => Ends::Split(Split::of(parent, child)),
            given::Outcome::Family(id) => Ends::Family(id.0),
            given::Outcome::Index(id) => Ends::Index(id.0),
            given::Outcome::Job(id) => Ends::Job(id.0),
        };
        Outcome { outcome: Some(outcome) }
    }

    pub(super) fn read(self) -> Result<given::Outcome> {
        Ok(match self.outcome.ok_or_else(|| unknown("an outcome"))? {
            Ends::Done(_) => given::Outcome::Done,
            Ends::Node(id) => given::Outcome::Node(NodeId(id)),
            Ends::Shard(shard) => given::Outcome::Shard(shard.read()?),
            Ends::Split(split) => {
                let (parent, child) = split.read()?;
                given::Outcome::Split { parent, child }
            }
            Ends::Family(id) => given::Outcome::Family(CfId(id)),
            Ends::Index(id) => given::Outcome::Index(IndexId(id)),
            Ends::Job(id) => given::Outcome::Job(JobId(id)),
        })
    }
}

impl Split {
    fn of(parent: &records::Shard, child: &records::Shard) -> Split {
        Split { parent: Some(Shard::of(parent)), child: Some(Shard::of(child)) }
    }

    fn read(self) -> Result<(records::Shard, records::Shard)> {
        let half = |shard| required("a split", shard, Shard::read);
        Ok((half(self.parent)?, half(self.child)?))
    }
}

/// Kinds that refusals have, by their numbers.
const KINDS: [(u32, ErrorKind); 7] = [
    (1, ErrorKind::InvalidArgument),
    (2, ErrorKind::NotFound),
    (3, ErrorKind::AlreadyExists),
    (4, ErrorKind::Conflict),
    (5, ErrorKind::Refused),
    (6, ErrorKind::Unsupported),
    (7, ErrorKind::Internal),
];

impl Refusal {
    fn of(from: &refused::Refusal) -> Refusal {
        let number = KINDS.iter().find(|(_, kind)| *kind == from.kind()).map_or(7, |(n, _)| *n);
        let standing = from.standing().map(|standing| match standing {
            refused::Standing::Node(node) => Standing::Node(Node::of(node)),
            refused::Standing::Shard(shard) => Standing::Shard(Shard::of(shard)),
            refused::Standing::Job(job) => Standing::Job(Job::of(job)),
        });
        Refusal { kind: number, message: from.error().message().to_string(), standing }
    }

    fn read(self) -> Result<refused::Refusal> {
        let kind = KINDS.iter().find(|(number, _)| *number == self.kind);
        let (_, kind) = kind.ok_or_else(|| unknown("a refusal"))?;
        let standing = self.standing.map(|standing| {
            Ok::<_, Error>(match standing {
                Standing::Node(node) => refused::Standing::Node(node.read()?),
                Standing::Shard(shard) => refused::Standing::Shard(shard.read()?),
                Standing::Job(job) => refused::Standing::Job(job.read()?),
            })
        });
        let error = Error::new(*kind, self.message);
        Ok(refused::Refusal::from_parts(error, standing.transpose()?))
    }
}

impl Change {
    pub(super) fn of(from: &told::Change) -> Change {
        Change { revision: from.revision, events: from.events.iter().map(Event::of).collect() }
    }

    pub(super) fn read(self) -> Result<told::Change> {
        Ok(told::Change { revision: self.revision, events: all(self.events, Event::read)? })
    }
}

impl Event {
    fn of(from: &told::Event) -> Event {
        let event = match from {
            told::Event::ClusterChanged(cluster) => Of::Cluster(Cluster::of(cluster)),
            told::Event::NodeChanged(node) => Of::Node(Node::of(node)),
            told::Event::ShardChanged(shard) => Of::Shard(Shard::of(shard)),
            told::Event::ShardsSplit { parent, child } => Of::Split(Split::of(parent, child)),
            told::Event::CfChanged { value: Some(family), .. } => Of::Family(Family::of(family)),
            told::Event::CfChanged { name, .. } => Of::FamilyDropped(name.clone()),
            told::Event::IndexChanged { value: Some(index), .. } => Of::Index(Index::of(index)),
            told::Event::IndexChanged { name, .. } => Of::IndexDropped(name.clone()),
            told::Event::UserChanged { value: Some(user), .. } => Of::User(User::of(user)),
            told::Event::UserChanged { name, .. } => Of::UserDropped(name.clone()),
            told::Event::JobChanged { value: Some(job), .. } => Of::Job(Job::of(job)),
            told::Event::JobChanged { id, .. } => Of::JobForgotten(id.0),
        };
        Event { event: Some(event) }
    }

    fn read(self) -> Result<told::Event> {
        Ok(match self.event.ok_or_else(|| unknown("an event"))? {
            Of::Cluster(cluster) => told::Event::ClusterChanged(cluster.read()?),
            Of::Node(node) => told::Event::NodeChanged(node.read()?),
            Of::Shard(shard) => told::Event::ShardChanged(shard.read()?),
            Of::Split(split) => {
                let (parent, child) = split.read()?;
                told::Event::ShardsSplit { parent, child }
            }
            Of::Family(family) => {
                let family = family.read()?;
                told::Event::CfChanged { name: family.name.clone(), value: Some(family) }
            }
            Of::FamilyDropped(name) => told::Event::CfChanged { name, value: None },
            Of::Index(index) => {
                let index = index.read()?;
                told::Event::IndexChanged { name: index.name.clone(), value: Some(index) }
            }
            Of::IndexDropped(name) => told::Event::IndexChanged { name, value: None },
            Of::User(user) => {
                let user = user.read()?;
                told::Event::UserChanged { name: user.name.clone(), value: Some(user) }
            }
            Of::UserDropped(name) => told::Event::UserChanged { name, value: None },
            Of::Job(job) => {
                let job = job.read()?;
                told::Event::JobChanged { id: job.id, value: Some(Box::new(job)) }
            }
            Of::JobForgotten(id) => told::Event::JobChanged { id: JobId(id), value: None },
        })
    }
}

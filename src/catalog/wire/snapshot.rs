//! Views, which subscribers take as a full copy, and snapshots, which replicas take.
//!
//! ```text
//! view     = View
//! snapshot = Snapshot, then the CRC32C of its bytes: u32 LE
//!
//! message View     { uint64 revision = 1; Cluster cluster = 2; repeated Node nodes = 3;
//!                    repeated Shard shards = 4; repeated Family families = 5;
//!                    repeated Index indexes = 6; repeated User users = 7; repeated Job jobs = 8; }
//!                    nodes, shards and jobs by id, the others by name
//! message Snapshot { uint32 version = 1; View view = 2; uint64 now_ms = 3; NextIds next = 4;
//!                    repeated Heard heard = 5;         by node
//!                    repeated Remembered requests = 6; the oldest first
//!                    uint64 floor = 7; repeated Change window = 8; }
//! message NextIds  { uint64 node = 1; uint64 shard = 2; uint64 replica = 3; uint32 family = 4;
//!                    uint64 index = 5; uint64 job = 6; }
//! message Heard    { uint64 node = 1; uint64 at_ms = 2; }
//! message Remembered { Request request = 1; uint64 revision = 2; Outcome outcome = 3; }
//! ```

use super::answer::{Change, Outcome};
use super::command::Request;
use super::records::{Cluster, Family, Index, Job, Node, Shard, User};
use super::{all, decode, malformed, required};
use crate::base::checksum::crc32c_append;
use crate::base::{CfId, Error, ErrorKind, Result};
use crate::catalog::Catalog;
use crate::catalog::ids::{IndexId, JobId, NextIds, NodeId, ReplicaId, ShardId};
use crate::catalog::limits::FORMAT_VERSION;
use crate::catalog::requests::{Remembered as Answered, Requests};
use crate::catalog::view::View as Held;
use crate::catalog::window::Window;
use prost::Message;

/// Revisions, epochs and ids stay below: counted one by one, none is ever reached.
const COUNT_MAX: u64 = 1 << 62;

#[derive(Clone, PartialEq, Message)]
struct View {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(message, optional, tag = "2")]
    cluster: Option<Cluster>,
    #[prost(message, repeated, tag = "3")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "4")]
    shards: Vec<Shard>,
    #[prost(message, repeated, tag = "5")]
    families: Vec<Family>,
    #[prost(message, repeated, tag = "6")]
    indexes: Vec<Index>,
    #[prost(message, repeated, tag = "7")]
    users: Vec<User>,
    #[prost(message, repeated, tag = "8")]
    jobs: Vec<Job>,
}

#[derive(Clone, PartialEq, Message)]
struct Snapshot {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, optional, tag = "2")]
    view: Option<View>,
    #[prost(uint64, tag = "3")]
    now_ms: u64,
    #[prost(message, optional, tag = "4")]
    next: Option<Next>,
    #[prost(message, repeated, tag = "5")]
    heard: Vec<Heard>,
    #[prost(message, repeated, tag = "6")]
    requests: Vec<Remembered>,
    #[prost(uint64, tag = "7")]
    floor: u64,
    #[prost(message, repeated, tag = "8")]
    window: Vec<Change>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Next {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    shard: u64,
    #[prost(uint64, tag = "3")]
    replica: u64,
    #[prost(uint32, tag = "4")]
    family: u32,
    #[prost(uint64, tag = "5")]
    index: u64,
    #[prost(uint64, tag = "6")]
    job: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Heard {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    at_ms: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Remembered {
    #[prost(message, optional, tag = "1")]
    request: Option<Request>,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(message, optional, tag = "3")]
    outcome: Option<Outcome>,
}

impl Held {
    /// The view's bytes; equal views give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        View::of(self).encode_to_vec()
    }

    /// The view of some bytes, which holds what [`Held::check`] asks for; else
    /// [`ErrorKind::Corruption`], or [`ErrorKind::Unsupported`] if a newer version wrote them.
    pub fn decode(bytes: &[u8]) -> Result<Held> {
        let view = decode::<View>("a view", bytes)?.read()?;
        // A name or an id that was there twice, or not in order, is lost by now.
        if view.encode() != bytes {
            return Err(malformed("a view", &"its records are not in order"));
        }
        Ok(view)
    }
}

impl View {
    fn of(held: &Held) -> View {
        View {
            revision: held.revision,
            cluster: held.cluster.as_ref().map(Cluster::of),
            nodes: held.nodes.values().map(Node::of).collect(),
            shards: held.shards.values().map(Shard::of).collect(),
            families: held.families.values().map(Family::of).collect(),
            indexes: held.indexes.values().map(Index::of).collect(),
            users: held.users.values().map(User::of).collect(),
            jobs: held.jobs.values().map(Job::of).collect(),
        }
    }

    fn read(self) -> Result<Held> {
        let mut held = Held::default();
        held.revision = self.revision;
        held.cluster = self.cluster.map(Cluster::read).transpose()?;
        for shard in all(self.shards, Shard::read)? {
            held.put_shard(shard);
        }
        held.nodes.extend(all(self.nodes, |n| n.read().map(|n| (n.id, n)))?);
        held.families.extend(all(self.families, |f| f.read().map(|f| (f.name.clone(), f)))?);
        held.indexes.extend(all(self.indexes, |i| i.read().map(|i| (i.name.clone(), i)))?);
        held.users.extend(all(self.users, |u| u.read().map(|u| (u.name.clone(), u)))?);
        held.jobs.extend(all(self.jobs, |j| j.read().map(|j| (j.id, j)))?);
        held.check().map_err(|fault| malformed("a view", &fault))?;
        Ok(held)
    }
}

impl Next {
    fn of(next: NextIds) -> Next {
        Next {
            node: next.node.0,
            shard: next.shard.0,
            replica: next.replica.0,
            family: next.family.0,
            index: next.index.0,
            job: next.job.0,
        }
    }

    fn read(self) -> Result<NextIds> {
        Ok(NextIds {
            node: NodeId(self.node),
            shard: ShardId(self.shard),
            replica: ReplicaId(self.replica),
            family: CfId(self.family),
            index: IndexId(self.index),
            job: JobId(self.job),
        })
    }
}

impl Remembered {
    fn read(self) -> Result<(Request, Answered)> {
        let request = required("a snapshot", self.request, Ok)?;
        let outcome = required("a snapshot", self.outcome, Outcome::read)?;
        Ok((request, Answered { revision: self.revision, outcome }))
    }
}

pub(in crate::catalog) fn encode_snapshot(catalog: &Catalog) -> Vec<u8> {
    let heard = |(node, at): (&NodeId, &u64)| Heard { node: node.0, at_ms: *at };
    let requests = catalog.requests.iter().map(|(id, answered)| Remembered {
        request: Some(Request::of(id)),
        revision: answered.revision,
        outcome: Some(Outcome::of(&answered.outcome)),
    });
    let snapshot = Snapshot {
        version: FORMAT_VERSION,
        view: Some(View::of(&catalog.view)),
        now_ms: catalog.now_ms,
        next: Some(Next::of(catalog.next)),
        heard: catalog.heartbeats.iter().map(heard).collect(),
        requests: requests.collect(),
        floor: catalog.window.floor,
        window: catalog.window.changes.iter().map(Change::of).collect(),
    };
    let mut bytes = snapshot.encode_to_vec();
    let sum = crc32c_append(0, &bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

pub(in crate::catalog) fn decode_snapshot(bytes: &[u8]) -> Result<Catalog> {
    let what = "a snapshot of the catalog";
    let short = || malformed(what, &"it is too short");
    let (message, sum) = bytes.split_last_chunk::<4>().ok_or_else(short)?;
    if crc32c_append(0, message) != u32::from_le_bytes(*sum) {
        return Err(malformed(what, &"its checksum is another"));
    }
    let snapshot: Snapshot = decode(what, message)?;
    if snapshot.version != FORMAT_VERSION {
        let text = format!(
            "{what} has format version {}; this program knows {FORMAT_VERSION}; upgrade it",
            snapshot.version
        );
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    let mut catalog = Catalog::new();
    catalog.view = required(what, snapshot.view, View::read)?;
    catalog.now_ms = snapshot.now_ms;
    catalog.next = required(what, snapshot.next, Next::read)?;
    catalog.heartbeats.extend(snapshot.heard.iter().map(|h| (NodeId(h.node), h.at_ms)));
    let mut requests = Requests::default();
    for (request, answered) in all(snapshot.requests, Remembered::read)? {
        requests.remember(request.read(), answered);
    }
    catalog.requests = requests;
    catalog.window = Window::restored(snapshot.floor, all(snapshot.window, Change::read)?);
    check(&catalog).map_err(|fault| malformed(what, &fault))?;
    if encode_snapshot(&catalog) != bytes {
        return Err(malformed(what, &"its records are not in order, or are too many"));
    }
    Ok(catalog)
}

/// What a catalog holds beside its view fits it.
fn check(catalog: &Catalog) -> Result<(), String> {
    let (view, next) = (&catalog.view, catalog.next);
    let window = &catalog.window;
    let follows = (window.floor..).skip(1).zip(&window.changes).all(|(n, c)| c.revision == n);
    if !follows || window.floor + window.changes.len() as u64 != view.revision {
        return Err(format!("its changes do not lead to revision {}", view.revision));
    }
    let counters =
        [view.revision, next.node.0, next.shard.0, next.replica.0, next.index.0, next.job.0];
    let epochs = view.shards().flat_map(|s| [s.epoch.config, s.epoch.range]);
    if counters.into_iter().chain(epochs).any(|count| count > COUNT_MAX) {
        return Err("one of its counters is out of range".to_string());
    }
    let replicas = view.shards().flat_map(|s| {
        let pending = s.split.iter().flat_map(|split| split.replicas.iter().copied());
        s.replicas.iter().map(|r| r.id).chain(pending).collect::<Vec<_>>()
    });
    let mut shards =
        view.shards().flat_map(|s| [Some(s.id), s.split.as_ref().map(|split| split.child)]);
    let given = view.nodes().all(|n| n.id < next.node)
        && shards.all(|id| id.is_none_or(|id| id < next.shard))
        && replicas.into_iter().all(|id| id < next.replica)
        && view.families().all(|f| f.id < next.family)
        && view.indexes().all(|i| i.id < next.index)
        && view.jobs().all(|j| j.id < next.job);
    if !given {
        return Err("it holds ids that were not handed out".to_string());
    }
    Ok(())
}

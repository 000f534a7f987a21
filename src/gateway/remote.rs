//! Shards of a cluster's nodes as what a gateway calls: over links, with the catalog to find them.

use crate::base::{CfId, Error, ErrorKind, Result};
use crate::catalog::{Action, Outcome, View};
use crate::gateway::calls::{CallFailure, Called, Consistency, ShardCalls, Target};
use crate::gateway::lanes::{Lanes, Send, may_share};
use crate::gateway::map::{Node, NodeId, ShardInfo};
use crate::node::cluster::Member;
use crate::op::kv::CfInfo;
use crate::op::route::{ShardId, SlotRange};
use crate::op::vector::{IndexInfo, VectorAnswer, VectorCall};
use crate::op::wire::vector::put_spec;
use crate::op::{Request, Response};
use crate::rpc::cluster::method;
use crate::rpc::cluster::shard_call::{decode_answer, encode_call};
use crate::rpc::cluster::{Freshness, MetaClient, ShardAnswer, ShardCall, ShardFact, Stop};
use crate::rpc::link::{CallError, Hello, Links, Role};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The class of links for calls.
const CALLS: u8 = 3;
/// How long the catalog may take to be known, when shards are asked for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the catalog's latest news may take to be heard here.
const HEARSAY: Duration = Duration::from_millis(500);

/// The shards of a cluster. Clones share their links.
#[derive(Debug, Clone)]
pub struct RemoteShards {
    inner: Arc<Inner>,
    lanes: Lanes,
}

struct Inner {
    meta: MetaClient,
    links: Links,
    /// The node of this process, which is asked without a link.
    here: Option<Member>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("links", &self.links).finish_non_exhaustive()
    }
}

impl RemoteShards {
    /// The shards that the catalog of `meta` knows, over links like its own. REQUIRES: a runtime.
    pub fn new(meta: MetaClient) -> RemoteShards {
        RemoteShards::with(meta, None)
    }

    /// The shards that the catalog of a node of this process knows; those that it leads are called
    /// without a link. REQUIRES: a runtime.
    pub fn beside(member: Member) -> RemoteShards {
        RemoteShards::with(member.meta().clone(), Some(member))
    }

    fn with(meta: MetaClient, here: Option<Member>) -> RemoteShards {
        let hello = Hello::nameless(Role::Gateway, [0; 16]);
        let links = Links::new(hello, meta.link_options().clone());
        let inner = Arc::new(Inner { meta, links, here });
        RemoteShards { inner, lanes: Lanes::default() }
    }

    /// The client of the metadata plane.
    pub fn meta(&self) -> &MetaClient {
        &self.inner.meta
    }

    /// Asks a node to hand the lead of a shard to a replica, and waits until that leads.
    ///
    /// # Errors
    /// The node's; `Unavailable` if it cannot be reached.
    pub async fn transfer(
        &self,
        from: &Node,
        shard: u64,
        to: u64,
        patience: Duration,
    ) -> Result<()> {
        self.inner.links.set(from.id.0, &from.address);
        let body = [shard.to_le_bytes(), to.to_le_bytes()].concat();
        let link = self.inner.links.get(from.id.0, CALLS)?;
        let done = link.call(method::TRANSFER, body.into(), Instant::now() + patience).await;
        done.map(|_| ()).map_err(CallError::into_error)
    }
}

impl Inner {
    async fn create_family(&self, name: &str, deadline: Instant) -> Result<Response> {
        let action = Action::CreateFamily { name: name.to_string() };
        match self.meta.propose(action, deadline).await?.outcome {
            Outcome::Family(id) => {
                Ok(Response::ColumnFamily(CfInfo { id, name: name.to_string() }))
            }
            _ => Err(Error::new(ErrorKind::Internal, "the catalog gave no column family")),
        }
    }

    async fn change_index(&self, call: &VectorCall, deadline: Instant) -> Result<Response> {
        let answer = match call {
            VectorCall::Create(spec) => {
                let spec = spec.clone().with_defaults();
                let mut config = Vec::new();
                put_spec(&mut config, &spec);
                // Every shard has a part of it, wherever shards go.
                let (name, kind) = (spec.name.clone(), spec.kind.name().to_string());
                let action = Action::CreateIndex { name, kind, config, nodes: Vec::new() };
                match self.meta.propose(action, deadline).await?.outcome {
                    Outcome::Index(id) => VectorAnswer::Index(Box::new(IndexInfo::new(id, spec))),
                    _ => return Err(Error::new(ErrorKind::Internal, "the catalog gave no index")),
                }
            }
            VectorCall::Drop { index } => {
                let action = Action::DropIndex { name: index.clone() };
                match self.meta.propose(action, deadline).await?.outcome {
                    Outcome::Index(id) => VectorAnswer::Dropped(id),
                    _ => VectorAnswer::Done,
                }
            }
            _ => {
                return Err(Error::new(ErrorKind::Internal, "the call is not one for the catalog"));
            }
        };
        Ok(Response::Vector(Box::new(answer)))
    }

    async fn drop_family(&self, cf: CfId, deadline: Instant) -> Result<Response> {
        // One that was just created may not have been heard of here.
        let heard = deadline.min(Instant::now() + HEARSAY);
        let is_known = |view: &View| view.family_of_id(cf).is_some();
        let view = self.meta.wait_for(heard, is_known).await.map_err(|_| {
            let message =
                format!("column family {cf} does not exist; list the families to see which do");
            Error::new(ErrorKind::NotFound, message)
        })?;
        let name = view.family_of_id(cf).map(|family| family.name.clone()).unwrap_or_default();
        let action = Action::DropFamily { name };
        self.meta.propose(action, deadline).await.map(|_| Response::Done)
    }

    fn node(&self, id: u64) -> Option<Node> {
        let view = self.meta.view();
        view.node(crate::catalog::NodeId(id)).map(node_of)
    }

    /// Calls a node over its link.
    async fn call(&self, to: &Target, requests: &[Request], deadline: Instant) -> Called {
        self.links.set(to.node.id.0, &to.node.address);
        let link = match self.links.get(to.node.id.0, CALLS) {
            Ok(link) => link,
            Err(error) => return Called::failed(CallFailure::Unreachable(error)),
        };
        let body = encode_call(to.shard.0, to.epoch, freshness(to.consistency), requests);
        let answer = match link.call(method::SHARD, body, deadline).await {
            Ok(body) => decode_answer(&body),
            Err(CallError::NotSent(error)) => {
                return Called::failed(CallFailure::Unreachable(error));
            }
            Err(CallError::Lost(error)) => return Called::failed(CallFailure::Unknown(error)),
            Err(CallError::Failed(error)) if error.kind() == ErrorKind::Unknown => {
                return Called::failed(CallFailure::Unknown(error));
            }
            // The node refused the call before it began anything.
            Err(CallError::Failed(error)) => {
                return Called::failed(CallFailure::Unreachable(error));
            }
        };
        match answer {
            Ok(answer) => self.called(answer, to.consistency),
            // It answered something: what it did is anybody's guess.
            Err(error) => Called::failed(CallFailure::Unknown(error)),
        }
    }

    fn called(&self, answer: ShardAnswer, consistency: Consistency) -> Called {
        let is_stale = matches!(consistency, Consistency::Stale { .. });
        Called {
            answers: answer.answers,
            stopped: answer.stop.map(|stop| match stop {
                Stop::NotLeader { leader } => {
                    CallFailure::NotLeader { leader: leader.and_then(|leader| self.node(leader)) }
                }
                Stop::WrongEpoch { covering } => CallFailure::WrongEpoch {
                    covering: covering.into_iter().map(info_of_fact).collect(),
                },
                // Another replica may be fresher, and nobody is suspected for what is not.
                Stop::NotDone(error) if is_stale => CallFailure::Unreachable(error),
                // It was reached, and may lead in a moment: that is no reason to suspect it.
                Stop::NotDone(_) => CallFailure::NotLeader { leader: None },
                Stop::Unknown(error) => CallFailure::Unknown(error),
            }),
        }
    }
}

impl Send for Arc<Inner> {
    async fn send(&self, to: &Target, requests: Vec<Request>, deadline: Instant) -> Called {
        let Some(here) = self.here.as_ref().filter(|here| here.id() == to.node.id.0) else {
            return self.call(to, &requests, deadline).await;
        };
        let call = ShardCall {
            shard: to.shard.0,
            epoch: to.epoch,
            freshness: freshness(to.consistency),
            requests,
        };
        let patience = deadline.saturating_duration_since(Instant::now());
        self.called(here.call_shard(call, patience).await, to.consistency)
    }
}

fn freshness(consistency: Consistency) -> Freshness {
    match consistency {
        Consistency::Linearizable => Freshness::Linearizable,
        Consistency::Lease => Freshness::Lease,
        Consistency::Stale { bound_ms } => Freshness::Stale { bound_ms },
    }
}

impl ShardCalls for RemoteShards {
    async fn call(&self, to: &Target, requests: &[Request], deadline: Instant) -> Called {
        if may_share(requests) {
            return self.lanes.call(&self.inner, to, requests, deadline).await;
        }
        // Not dropped half-way, as a call over a link is not.
        let (inner, to, requests) = (self.inner.clone(), to.clone(), requests.to_vec());
        let sent = tokio::spawn(async move { inner.send(&to, requests, deadline).await });
        sent.await.unwrap_or_else(|_| {
            let message = "the program is stopping; whether it happened is not known";
            Called::failed(CallFailure::Unknown(Error::new(ErrorKind::Unknown, message)))
        })
    }

    async fn catalog(&self, request: &Request, deadline: Instant) -> Called {
        let answer = match request {
            Request::CreateCf { name } => self.inner.create_family(name, deadline).await,
            Request::DropCf { cf } => self.inner.drop_family(*cf, deadline).await,
            Request::Vector(call) => self.inner.change_index(call, deadline).await,
            _ => Err(Error::new(ErrorKind::Internal, "the request is not one for the catalog")),
        };
        Called::all(vec![answer])
    }

    async fn shards(&self) -> Result<Vec<ShardInfo>> {
        let deadline = Instant::now() + PATIENCE;
        let view = self.inner.meta.wait_for(deadline, |view| view.shards().next().is_some()).await;
        let none = |_| {
            let message = "the cluster has no shards yet, or no metadata node answers; see `arqon \
                           cluster status`";
            Error::new(ErrorKind::Unavailable, message)
        };
        Ok(infos(&*view.map_err(none)?))
    }
}

fn node_of(node: &crate::catalog::records::Node) -> Node {
    Node { id: NodeId(node.id.0), address: node.profile.raft_addr.as_str().into(), redis: None }
}

/// The shards of a view.
pub fn infos(view: &View) -> Vec<ShardInfo> {
    let info = |shard: &crate::catalog::records::Shard| ShardInfo {
        id: ShardId(shard.id.0),
        epoch: shard.epoch.range,
        slots: SlotRange { first: shard.slots.first, last: shard.slots.last },
        leader: shard.leader_node().map(|node| NodeId(node.0)),
        replicas: shard.replicas.iter().filter_map(|r| view.node(r.node)).map(node_of).collect(),
    };
    view.shards().map(info).collect()
}

fn info_of_fact(fact: ShardFact) -> ShardInfo {
    let node = |(id, address): (u64, String)| Node {
        id: NodeId(id),
        address: address.into(),
        redis: None,
    };
    ShardInfo {
        id: ShardId(fact.shard),
        epoch: fact.epoch,
        slots: SlotRange { first: fact.first, last: fact.last },
        leader: fact.leader.map(NodeId),
        replicas: fact.replicas.into_iter().map(node).collect(),
    }
}

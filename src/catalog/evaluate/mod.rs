//! Evaluation: what a command answers and changes, decided by looking only.
//!
//! A [`Turn`] is one command's evaluation: it reads the view and collects events and ids taken.
//! Nothing is changed before all is decided, so a refused command has changed nothing.
//!
//! In reading order: [`nodes`] (and the cluster itself), [`shards`], [`named`] (column families,
//! indexes, users), [`jobs`].

mod jobs;
mod named;
mod nodes;
mod shards;

use crate::catalog::command::{Action, Outcome};
use crate::catalog::event::Event;
use crate::catalog::ids::{NextIds, NodeId, ShardId};
use crate::catalog::records::{Cluster, Node, NodeState, Shard};
use crate::catalog::refusal::Refusal;
use crate::catalog::view::View;

/// What an evaluation gives.
pub(super) type Decided<T = Outcome> = Result<T, Refusal>;

/// One command's evaluation.
pub(super) struct Turn<'a> {
    view: &'a View,
    now_ms: u64,
    /// The newest version this replica understands.
    speaks: u32,
    /// The ids handed out next, after this command.
    pub(super) next: NextIds,
    /// What the command changes.
    pub(super) events: Vec<Event>,
    /// The node that gave a sign of life.
    pub(super) heard: Option<NodeId>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(view: &'a View, now_ms: u64, speaks: u32, next: NextIds) -> Turn<'a> {
        Turn { view, now_ms, speaks, next, events: Vec::new(), heard: None }
    }

    /// Decides `action`.
    pub(super) fn evaluate(&mut self, action: &Action) -> Decided {
        if !matches!(action, Action::InitCluster { .. }) {
            self.cluster()?;
        }
        match action {
            Action::InitCluster { id, name, version } => self.init_cluster(*id, name, *version),
            Action::RaiseVersion { to } => self.raise_version(*to),
            Action::RegisterNode { wanted, incarnation, profile } => {
                self.register_node(*wanted, *incarnation, profile)
            }
            Action::Heartbeat { node, incarnation } => self.heartbeat(*node, *incarnation),
            Action::SetNodeState { node, expected, to } => {
                self.set_node_state(*node, *expected, *to)
            }
            Action::CreateShards { count, replicas, nodes } => {
                self.create_shards(*count, *replicas, nodes)
            }
            Action::ChangeShard { shard, expected, change } => {
                self.change_shard(*shard, *expected, *change)
            }
            Action::SetLeader { shard, replica, term } => self.set_leader(*shard, *replica, *term),
            Action::CreateFamily { name } => self.create_family(name),
            Action::DropFamily { name } => self.drop_family(name),
            Action::CreateIndex { name, kind, config, nodes } => {
                self.create_index(name, kind, config, nodes)
            }
            Action::SetIndexNodes { name, nodes } => self.set_index_nodes(name, nodes),
            Action::DropIndex { name } => self.drop_index(name),
            Action::CreateUser { name, role, verifier } => self.create_user(name, *role, verifier),
            Action::ChangeUser { name, role, verifier, disabled } => {
                self.change_user(name, *role, verifier.as_deref(), *disabled)
            }
            Action::DropUser { name } => self.drop_user(name),
            Action::CreateJob { kind, shard, node, steps } => {
                self.create_job(*kind, *shard, *node, steps)
            }
            Action::ChangeJob { job, change } => self.change_job(*job, change),
        }
    }

    fn cluster(&self) -> Decided<&'a Cluster> {
        self.view.cluster().ok_or_else(|| {
            Refusal::refused("the cluster is not initialised; run `arqon cluster init` first")
        })
    }

    fn node(&self, id: NodeId) -> Decided<&'a Node> {
        self.view.node(id).ok_or_else(|| Refusal::not_found(format_args!("node {id}")))
    }

    fn present_node(&self, id: NodeId) -> Decided<&'a Node> {
        let node = self.node(id)?;
        if node.state == NodeState::Removed {
            return Err(Refusal::refused(format!("node {id} is removed; name another")));
        }
        Ok(node)
    }

    fn shard(&self, id: ShardId) -> Decided<&'a Shard> {
        self.view.shard(id).ok_or_else(|| Refusal::not_found(format_args!("shard {id}")))
    }
}

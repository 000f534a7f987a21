//! The cluster's identity and its nodes.

use super::{Decided, Turn};
use crate::base::{CfId, Error, ErrorKind};
use crate::catalog::command::Outcome;
use crate::catalog::event::Event;
use crate::catalog::ids::NodeId;
use crate::catalog::limits::{LABELS_MAX, NODES_MAX, check_length, check_name, check_text};
use crate::catalog::records::{
    Cluster, Family, Node, NodeProfile, NodeState, Replica, ReplicaState, Role, Shard,
};
use crate::catalog::refusal::{Refusal, Standing};

impl Turn<'_> {
    pub(super) fn init_cluster(&mut self, id: [u8; 16], name: &str, version: u32) -> Decided {
        check_name("the cluster", name)?;
        if id == [0; 16] || version == 0 {
            let message = "a cluster's id is not all zero, and its version is at least 1";
            return Err(Error::invalid(message).into());
        }
        if let Some(cluster) = self.view.cluster() {
            let message = format!("the cluster is initialised, as {}", cluster.name);
            return Err(Refusal::new(ErrorKind::AlreadyExists, message));
        }
        self.must_speak(version)?;
        let cluster = Cluster { id, name: name.to_string(), version, created_ms: self.now_ms };
        self.events.push(Event::ClusterChanged(cluster));
        let default = Family { id: CfId::DEFAULT, name: "default".to_string() };
        self.events.push(Event::CfChanged { name: default.name.clone(), value: Some(default) });
        Ok(Outcome::Done)
    }

    pub(super) fn raise_version(&mut self, to: u32) -> Decided {
        let mut cluster = self.cluster()?.clone();
        if to <= cluster.version {
            let message = format!("the cluster's version is {} and only rises", cluster.version);
            return Err(Refusal::new(ErrorKind::AlreadyExists, message));
        }
        self.must_speak(to)?;
        let behind = |n: &&Node| n.state != NodeState::Removed && n.profile.speaks < to;
        if let Some(node) = self.view.nodes().find(behind) {
            let message = format!(
                "node {} speaks version {} at most; upgrade it, or remove it, before version {to}",
                node.id, node.profile.speaks
            );
            return Err(Refusal::refused(message).with(Standing::Node(node.clone())));
        }
        cluster.version = to;
        self.events.push(Event::ClusterChanged(cluster));
        Ok(Outcome::Done)
    }

    /// Others may go on with `version`: a replica that cannot stops.
    fn must_speak(&self, version: u32) -> Decided<()> {
        if version > self.speaks {
            let message = format!(
                "the cluster goes to version {version}, and this program speaks {} at most; \
                 upgrade it",
                self.speaks
            );
            return Err(Refusal::new(ErrorKind::Unsupported, message));
        }
        Ok(())
    }

    pub(super) fn register_node(
        &mut self,
        wanted: Option<NodeId>,
        incarnation: u64,
        profile: &NodeProfile,
    ) -> Decided {
        self.check_profile(profile)?;
        if incarnation == 0 {
            return Err(Error::invalid("a node's incarnation is random and not 0").into());
        }
        let known = self.view.nodes().find(|n| n.incarnation == incarnation);
        let Some(known) = known else { return self.add_node(wanted, incarnation, profile) };
        if wanted.is_some_and(|wanted| wanted != known.id) {
            let message = format!("this node is node {}; start it under that id", known.id);
            return Err(Refusal::conflict(message, Standing::Node(known.clone())));
        }
        if known.state == NodeState::Removed {
            return Err(removed(known));
        }
        let mut node = Node { profile: profile.clone(), ..known.clone() };
        if matches!(node.state, NodeState::Suspect | NodeState::Dead) {
            self.revive(&mut node);
        }
        self.put_node(node);
        self.heard = Some(known.id);
        Ok(Outcome::Node(known.id))
    }

    fn add_node(
        &mut self,
        wanted: Option<NodeId>,
        incarnation: u64,
        profile: &NodeProfile,
    ) -> Decided {
        let id = wanted.unwrap_or(self.next.node);
        if let Some(taken) = self.view.node(id) {
            return Err(other_incarnation(taken));
        }
        if id.0 == 0 || id.0 > NODES_MAX as u64 {
            let message = format!("node ids are from 1 to {NODES_MAX}; choose another");
            return Err(Error::invalid(message).into());
        }
        self.next.node = self.next.node.max(NodeId(id.0 + 1));
        let profile = profile.clone();
        let since_ms = self.now_ms;
        let node = Node { id, incarnation, profile, state: NodeState::Joining, since_ms };
        self.put_node(node);
        self.heard = Some(id);
        Ok(Outcome::Node(id))
    }

    fn check_profile(&self, profile: &NodeProfile) -> Decided<()> {
        check_text("a node's data URL", &profile.data_url)?;
        check_text("a node's Raft address", &profile.raft_addr)?;
        check_text("a node's software version", &profile.software)?;
        check_length("a node's list of labels", profile.labels.len(), LABELS_MAX)?;
        for (key, value) in &profile.labels {
            check_text("a label's key", key)?;
            check_text("a label's value", value)?;
        }
        let version = self.cluster()?.version;
        if profile.speaks < version {
            return Err(Refusal::refused(format!(
                "the cluster is at version {version}, and the node speaks {} at most; upgrade it",
                profile.speaks
            )));
        }
        Ok(())
    }

    pub(super) fn heartbeat(&mut self, id: NodeId, incarnation: u64) -> Decided {
        let known = self.node(id)?;
        if known.incarnation != incarnation {
            return Err(other_incarnation(known));
        }
        let mut node = known.clone();
        match node.state {
            NodeState::Removed => return Err(removed(known)),
            NodeState::Joining | NodeState::Suspect | NodeState::Dead => self.revive(&mut node),
            NodeState::Active | NodeState::Draining => {}
        }
        self.put_node(node);
        self.heard = Some(id);
        Ok(Outcome::Done)
    }

    pub(super) fn set_node_state(
        &mut self,
        id: NodeId,
        expected: NodeState,
        to: NodeState,
    ) -> Decided {
        use NodeState::{Active, Dead, Draining, Joining, Removed, Suspect};
        let known = self.node(id)?;
        if known.state != expected {
            let message = format!("node {id} is {}, not {expected}; decide anew", known.state);
            return Err(Refusal::conflict(message, Standing::Node(known.clone())));
        }
        let possible = match to {
            Joining => false,
            Active => expected == Draining,
            Draining => matches!(expected, Joining | Active | Suspect),
            Suspect => matches!(expected, Joining | Active | Draining),
            Dead => expected == Suspect,
            Removed => matches!(expected, Joining | Draining | Suspect | Dead),
        };
        if !possible {
            let message = format!("node {id} is {expected} and cannot become {to} from there");
            return Err(Refusal::refused(message).with(Standing::Node(known.clone())));
        }
        if to == Removed {
            self.must_be_empty(id)?;
        }
        if to == Dead {
            self.mark_replicas(id, |_| ReplicaState::Lost);
        }
        self.put_node(Node { state: to, since_ms: self.now_ms, ..known.clone() });
        Ok(Outcome::Done)
    }

    fn must_be_empty(&self, id: NodeId) -> Decided<()> {
        let shards = self.view.shards_on(id).count();
        if shards > 0 {
            let message = format!("node {id} has replicas of {shards} shards; drain it first");
            return Err(Refusal::refused(message));
        }
        if let Some(index) = self.view.indexes().find(|index| index.nodes.contains(&id)) {
            let message = format!("node {id} hosts index {}; host it elsewhere first", index.name);
            return Err(Refusal::refused(message));
        }
        Ok(())
    }

    /// The node is active again, and its replicas are to be relied on as before it was dead.
    fn revive(&mut self, node: &mut Node) {
        if node.state == NodeState::Dead {
            self.mark_replicas(node.id, |role| match role {
                Role::Voter => ReplicaState::Ready,
                Role::Learner => ReplicaState::Joining,
            });
        }
        node.state = NodeState::Active;
        node.since_ms = self.now_ms;
    }

    fn mark_replicas(&mut self, node: NodeId, state: impl Fn(Role) -> ReplicaState) {
        for shard in self.view.shards_on(node) {
            let mut marked: Shard = shard.clone();
            // What is leaving stays so: its group may have let go of it.
            let ours = |r: &&mut Replica| r.node == node && r.state != ReplicaState::Leaving;
            for replica in marked.replicas.iter_mut().filter(ours) {
                replica.state = state(replica.role);
            }
            if marked.replicas != shard.replicas {
                marked.epoch.config += 1;
                self.events.push(Event::ShardChanged(marked));
            }
        }
    }

    /// A change of the node, if it is one.
    fn put_node(&mut self, node: Node) {
        if self.view.node(node.id) != Some(&node) {
            self.events.push(Event::NodeChanged(node));
        }
    }
}

fn removed(node: &Node) -> Refusal {
    let message = format!(
        "node {} was removed for good; register with an empty data directory under a new id",
        node.id
    );
    Refusal::refused(message).with(Standing::Node(node.clone()))
}

fn other_incarnation(node: &Node) -> Refusal {
    let message = format!(
        "id {} belongs to another incarnation of that node, whose data this one does not have; \
         register without an id",
        node.id
    );
    Refusal::refused(message).with(Standing::Node(node.clone()))
}

//! Random commands: mostly such as make sense, of everything the catalog knows, and some that
//! do not.

use crate::world::{START_MS, profile};
use arqondb::catalog::records::{JobKind, NodeState, ReplicaState, Role, UserRole};
use arqondb::catalog::{
    Action, Catalog, Command, JobChange, JobId, NodeId, ReplicaId, ShardChange, ShardId,
};
use arqondb::env::Rng;
use arqondb::op::kv::RequestId;

pub(crate) struct Random {
    rng: Rng,
    now_ms: u64,
    request: u64,
    incarnations: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { rng: Rng::new(seed), now_ms: START_MS, request: 0, incarnations: 0 }
    }

    pub(crate) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    pub(crate) fn command(&mut self, catalog: &Catalog) -> Command {
        // Leaders' clocks disagree: time sometimes goes back.
        let back = if self.rng.one_in(10) { self.rng.below(5_000) } else { 0 };
        self.now_ms += self.rng.below(1_000);
        let id = self.rng.one_in(2).then(|| {
            self.request += 1;
            RequestId { client: self.request % 3, request: self.request }
        });
        let action = self.action(catalog);
        Command { now_ms: self.now_ms - back, id, action }
    }

    fn action(&mut self, catalog: &Catalog) -> Action {
        match self.rng.below(40) {
            0 => Action::InitCluster { id: [3; 16], name: "again".into(), version: 1 },
            1 => Action::RaiseVersion { to: self.rng.below(2) as u32 },
            2..=5 => self.register(catalog),
            6..=11 => self.heartbeat(catalog),
            12..=14 => self.node_state(catalog),
            15 => Action::CreateShards {
                count: 1 + self.rng.below(6) as u32,
                replicas: 1 + self.rng.below(4) as u32,
                nodes: Vec::new(),
            },
            16..=24 => self.shard_change(catalog),
            25 | 26 => self.leader(catalog),
            27..=33 => self.named(catalog),
            _ => self.job(catalog),
        }
    }

    fn register(&mut self, catalog: &Catalog) -> Action {
        let known = self.rng.one_in(3).then(|| self.node(catalog)).flatten();
        let incarnation = known.map_or_else(
            || {
                self.incarnations += 1;
                1_000 + self.incarnations
            },
            |(_, incarnation)| incarnation,
        );
        let wanted = match self.rng.below(4) {
            0 => Some(NodeId(self.rng.below(12))),
            1 => known.map(|(id, _)| id),
            _ => None,
        };
        let zone = format!("z{}", self.rng.below(3));
        let mut profile = profile(&[("zone", &zone)]);
        profile.speaks = u32::from(!self.rng.one_in(20));
        Action::RegisterNode { wanted, incarnation, profile }
    }

    fn heartbeat(&mut self, catalog: &Catalog) -> Action {
        let (node, incarnation) = self.node(catalog).unwrap_or((NodeId(1), 1));
        Action::Heartbeat { node, incarnation: incarnation + u64::from(self.rng.one_in(10)) }
    }

    fn node_state(&mut self, catalog: &Catalog) -> Action {
        let (node, _) = self.node(catalog).unwrap_or((NodeId(1), 1));
        let state = catalog.view().node(node).map_or(NodeState::Active, |n| n.state);
        let expected = if self.rng.one_in(10) { NodeState::Suspect } else { state };
        Action::SetNodeState { node, expected, to: self.one_of(NodeState::ALL) }
    }

    fn shard_change(&mut self, catalog: &Catalog) -> Action {
        let shards: Vec<_> = catalog.view().shards().collect();
        if shards.is_empty() {
            return Action::CreateShards { count: 3, replicas: 3, nodes: Vec::new() };
        }
        let shard = shards[self.rng.below(shards.len() as u64) as usize];
        let replica = self.one_of(&shard.replicas).id;
        let learner = shard.replicas.iter().find(|r| r.role == Role::Learner);
        let learner = learner.map_or(replica, |r| r.id);
        let leaving = shard.replicas.iter().find(|r| r.state == ReplicaState::Leaving);
        let leaving = leaving.map_or(replica, |r| r.id);
        let mut expected = shard.epoch;
        expected.config += u64::from(self.rng.one_in(10));
        let slot = |rng: &mut Rng| {
            let slots = shard.slots;
            slots.first + rng.below(u64::from(slots.count()) + 1) as u16
        };
        let change = match self.rng.below(11) {
            0 | 1 => ShardChange::AddLearner(self.node(catalog).unwrap_or((NodeId(1), 1)).0),
            2 | 3 => ShardChange::LearnerReady(learner),
            4 | 5 => ShardChange::Promote(learner),
            6 => ShardChange::Leave(replica),
            10 => ShardChange::Remove(leaving),
            7 => ShardChange::SetDesired(self.rng.below(6) as u32),
            8 => ShardChange::BeginSplit(slot(&mut self.rng)),
            _ if self.rng.one_in(4) => ShardChange::CancelSplit,
            _ => ShardChange::FinishSplit,
        };
        Action::ChangeShard { shard: shard.id, expected, change }
    }

    fn leader(&mut self, catalog: &Catalog) -> Action {
        let slot = self.rng.below(20_000) as u16;
        let shard = catalog.view().shard_of_slot(slot);
        let replica = shard.map_or(ReplicaId(1), |s| self.one_of(&s.replicas).id);
        let term = self.rng.below(50);
        Action::SetLeader { shard: shard.map_or(ShardId(9_999), |s| s.id), replica, term }
    }

    fn named(&mut self, catalog: &Catalog) -> Action {
        let name = format!("name{}", self.rng.below(6));
        let node = self.node(catalog).map_or(NodeId(1), |(id, _)| id);
        let role = self.one_of(UserRole::ALL);
        match self.rng.below(9) {
            0 | 1 => Action::CreateFamily { name },
            2 => Action::DropFamily { name },
            3 => {
                let config = vec![9; self.rng.below(100) as usize];
                Action::CreateIndex { name, kind: "hnsw".into(), config, nodes: vec![node] }
            }
            4 => Action::SetIndexNodes { name, nodes: vec![node, NodeId(1), node] },
            5 => Action::DropIndex { name },
            6 => Action::CreateUser { name, role, verifier: b"v".to_vec() },
            7 => {
                let disabled = self.rng.one_in(2).then(|| self.rng.one_in(2));
                let verifier = self.rng.one_in(2).then(|| b"w".to_vec());
                let role = self.rng.one_in(2).then_some(role);
                Action::ChangeUser { name, role, verifier, disabled }
            }
            _ => Action::DropUser { name },
        }
    }

    fn job(&mut self, catalog: &Catalog) -> Action {
        let shard = catalog.view().shard_of_slot(self.rng.below(16_384) as u16).map(|s| s.id);
        let node = self.node(catalog).map(|(id, _)| id);
        if self.rng.one_in(3) {
            let shard = shard.filter(|_| !self.rng.one_in(3));
            let steps = vec![1; self.rng.below(50) as usize];
            return Action::CreateJob { kind: self.one_of(JobKind::ALL), shard, node, steps };
        }
        let active: Vec<_> = catalog.view().jobs().filter(|j| j.state.is_active()).collect();
        let known = (!active.is_empty()).then(|| self.one_of(&active).id);
        let owner = self.rng.below(2);
        let lease_ms = self.rng.below(20_000);
        let text = "because".to_string();
        let change = match self.rng.below(6) {
            0 | 1 => JobChange::Claim { owner, lease_ms },
            2 => JobChange::Advance { owner, lease_ms, steps: vec![2; 5] },
            3 | 4 => JobChange::Finish { owner, done: self.rng.one_in(2), text },
            _ => JobChange::Cancel { text },
        };
        Action::ChangeJob { job: known.unwrap_or(JobId(self.rng.below(9))), change }
    }

    fn node(&mut self, catalog: &Catalog) -> Option<(NodeId, u64)> {
        let nodes: Vec<_> = catalog.view().nodes().map(|n| (n.id, n.incarnation)).collect();
        (!nodes.is_empty()).then(|| self.one_of(&nodes))
    }

    fn one_of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.below(from.len() as u64) as usize]
    }
}

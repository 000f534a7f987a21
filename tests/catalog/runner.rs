//! Jobs on a catalog whose groups follow it late, with crashes of the runner, of nodes and of
//! leaders between any two steps; what must hold is checked after each.

use crate::world::{START_MS, cluster, profile};
use arqondb::catalog::plan::{MemberStep, Members, Move, ShardFigures, member_step};
use arqondb::catalog::records::{JobKind, JobState, NodeState, Replica, ReplicaState, Role, Shard};
use arqondb::catalog::{
    Action, Applied, Catalog, Command, JobChange, NodeId, Refusal, ReplicaId, ShardChange, ShardId,
};
use arqondb::env::Rng;
use arqondb::meta::jobs::{Deed, Limits, Order, Situation, decide};
use std::collections::{BTreeMap, BTreeSet};

const SUSPECT_MS: u64 = 3_000;
const DEAD_MS: u64 = 9_000;

/// A shard's group: what its members have committed, and who leads.
struct Group {
    voters: Vec<BTreeSet<ReplicaId>>,
    learners: BTreeSet<ReplicaId>,
    leader: Option<ReplicaId>,
    term: u64,
    caught_up: BTreeSet<ReplicaId>,
    /// The catalog as the leader last saw it.
    record: Shard,
}

struct Model {
    rng: Rng,
    catalog: Catalog,
    now_ms: u64,
    owner: u64,
    limits: Limits,
    groups: BTreeMap<ShardId, Group>,
    /// Where each replica is, or was.
    places: BTreeMap<ReplicaId, NodeId>,
    deleted: BTreeSet<ReplicaId>,
    down: BTreeSet<NodeId>,
    ended: BTreeMap<JobKind, u64>,
}

impl Model {
    fn new(seed: u64) -> Model {
        let mut catalog = cluster(&["a", "b", "c", "d", "e"]);
        let create = Action::CreateShards { count: 4, replicas: 3, nodes: Vec::new() };
        catalog.apply(&Command { now_ms: START_MS, id: None, action: create }).unwrap();
        let group = |shard: &Shard| Group {
            voters: vec![shard.replicas.iter().map(|r| r.id).collect()],
            learners: BTreeSet::new(),
            leader: None,
            term: 0,
            caught_up: shard.replicas.iter().map(|r| r.id).collect(),
            record: shard.clone(),
        };
        let groups = catalog.view().shards().map(|shard| (shard.id, group(shard))).collect();
        Model {
            rng: Rng::new(seed),
            catalog,
            now_ms: START_MS,
            owner: 1,
            limits: Limits::default(),
            groups,
            places: BTreeMap::new(),
            deleted: BTreeSet::new(),
            down: BTreeSet::new(),
            ended: BTreeMap::new(),
        }
    }

    fn apply(&mut self, action: Action) -> Result<Applied, Refusal> {
        let answer = self.catalog.apply(&Command { now_ms: self.now_ms, id: None, action });
        assert!(answer.as_ref().err().is_none_or(|refusal| !refusal.halts()), "{answer:?}");
        for shard in self.catalog.view().shards() {
            self.places.extend(shard.replicas.iter().map(|r| (r.id, r.node)));
        }
        self.check();
        answer
    }

    fn is_up(&self, replica: ReplicaId) -> bool {
        !self.down.contains(&self.places[&replica]) && !self.deleted.contains(&replica)
    }

    fn has_majority(&self, sets: &[BTreeSet<ReplicaId>]) -> bool {
        sets.iter().all(|set| 2 * set.iter().filter(|id| self.is_up(**id)).count() > set.len())
    }

    fn check(&self) {
        self.catalog.view().check().unwrap();
        for (id, group) in &self.groups {
            let shard = self.catalog.view().shard(*id).unwrap();
            assert!(self.has_majority(&group.voters), "shard {id} has lost its majority");
            assert!(shard.has_quorum(), "shard {id} has lost its quorum: {shard:?}");
            let gone = group.voters.iter().flatten().find(|id| self.deleted.contains(id));
            assert_eq!(gone, None, "a replica that votes was deleted");
        }
        let mut moving: BTreeMap<NodeId, usize> = BTreeMap::new();
        for job in self.catalog.view().jobs().filter(|job| job.state == JobState::Running) {
            let moved = Order::of(job).ok().and_then(|order| order.step_of(job.shard?));
            let Some(Move::Replica { shard, from, to }) = moved else { continue };
            let shard = self.catalog.view().shard(shard).unwrap();
            let from = from.and_then(|from| shard.replica(from)).map(|r| r.node);
            let nodes: BTreeSet<NodeId> = from.into_iter().chain(to).collect();
            nodes.into_iter().for_each(|node| *moving.entry(node).or_default() += 1);
        }
        assert!(moving.values().all(|n| *n <= self.limits.moves_per_node), "{moving:?}");
    }

    /// One decision, of which a crash may leave any part undone.
    fn run_jobs(&mut self, crashes: bool) {
        let view = self.catalog.view().clone();
        let figures = ShardFigures::new();
        let (now_ms, owner, limits) = (self.now_ms, self.owner, self.limits.clone());
        let deeds =
            decide(&Situation { view: &view, now_ms, owner, figures: &figures, limits: &limits });
        let crashes = crashes && self.rng.one_in(8);
        let done =
            if crashes { self.rng.below(deeds.len() as u64 + 1) as usize } else { deeds.len() };
        for deed in deeds.into_iter().take(done) {
            match deed {
                Deed::Change(action) => {
                    if let Action::ChangeJob { job, change: JobChange::Finish { .. } } = &action {
                        let kind = view.job(*job).unwrap().kind;
                        *self.ended.entry(kind).or_default() += 1;
                    }
                    _ = self.apply(action);
                }
                Deed::Transfer { shard, from, to } => self.hand_over(shard, from, to),
            }
        }
        if crashes {
            self.owner += 1;
        }
    }

    fn hand_over(&mut self, shard: ShardId, from: NodeId, to: ReplicaId) {
        let group = &self.groups[&shard];
        let leads = group.leader.is_some_and(|leader| self.places[&leader] == from);
        let is_able = group.voters.iter().all(|set| set.contains(&to))
            && group.caught_up.contains(&to)
            && self.is_up(to);
        if leads && is_able {
            self.elect(shard, to);
        }
    }

    fn elect(&mut self, shard: ShardId, leader: ReplicaId) {
        let group = self.groups.get_mut(&shard).unwrap();
        group.leader = Some(leader);
        group.term += 1;
    }

    /// What a shard's leader does in a while.
    fn lead(&mut self, id: ShardId) {
        let up: BTreeSet<ReplicaId> =
            self.places.keys().copied().filter(|replica| self.is_up(*replica)).collect();
        let late = self.rng.one_in(3);
        let slow = self.rng.one_in(2);
        let now = self.catalog.view().shard(id).unwrap().clone();
        let group = self.groups.get_mut(&id).unwrap();
        if !late {
            group.record = now;
        }
        if !slow {
            let members = group.voters.iter().flatten().chain(&group.learners);
            let caught: Vec<_> = members.filter(|member| up.contains(member)).copied().collect();
            group.caught_up.extend(caught);
        }
        if group.leader.is_none_or(|leader| !up.contains(&leader)) || self.rng.one_in(40) {
            let able = |id: &&ReplicaId| up.contains(id) && group.caught_up.contains(id);
            let heirs: Vec<_> = group.voters[0].iter().filter(able).copied().collect();
            let heirs: Vec<_> = heirs
                .into_iter()
                .filter(|id| group.voters.iter().all(|set| set.contains(id)))
                .collect();
            if heirs.is_empty() {
                return;
            }
            let heir = heirs[self.rng.below(heirs.len() as u64) as usize];
            return self.elect(id, heir);
        }
        let (leader, term) = (group.leader.unwrap(), group.term);
        let members = Members {
            own: leader,
            voters: group.voters.clone(),
            learners: group.learners.clone(),
            caught_up: group.caught_up.iter().filter(|id| up.contains(id)).copied().collect(),
        };
        let record = group.record.clone();
        _ = self.apply(Action::SetLeader { shard: id, replica: leader, term });
        if let Some(step) = member_step(&record, &members) {
            self.take(id, &record, step);
        }
    }

    fn take(&mut self, id: ShardId, record: &Shard, step: MemberStep) {
        let half = self.rng.one_in(4);
        let change = |change| Action::ChangeShard { shard: id, expected: record.epoch, change };
        match step {
            MemberStep::AddLearner(replica, _) => {
                self.groups.get_mut(&id).unwrap().learners.insert(replica);
            }
            MemberStep::TellReady(replica) => {
                _ = self.apply(change(ShardChange::LearnerReady(replica)));
            }
            MemberStep::SetVoters(voters) => {
                let old = self.groups[&id].voters.clone();
                let mut both = old.clone();
                both.push(voters.clone());
                if !self.has_majority(&both) {
                    return;
                }
                let group = self.groups.get_mut(&id).unwrap();
                assert!(voters.contains(&group.leader.unwrap()), "who leads stays");
                if half && old.len() == 1 {
                    group.voters = vec![old[0].clone(), voters];
                    return;
                }
                group.learners.extend(old.iter().flatten());
                group.learners.retain(|learner| !voters.contains(learner));
                group.voters = vec![voters];
            }
            MemberStep::HandOver(to) => {
                assert!(self.groups[&id].voters.iter().all(|set| set.contains(&to)));
                if self.is_up(to) {
                    self.elect(id, to);
                }
            }
            MemberStep::RemoveLearners(gone) => {
                self.groups.get_mut(&id).unwrap().learners.retain(|l| !gone.contains(l));
            }
            MemberStep::TellGone(replica) => {
                if self.apply(change(ShardChange::Remove(replica))).is_ok() {
                    self.deleted.insert(replica);
                    self.check();
                }
            }
        }
    }

    fn look_after_nodes(&mut self) {
        let nodes: Vec<_> = self.catalog.view().nodes().cloned().collect();
        for node in nodes.iter().filter(|node| node.state != NodeState::Removed) {
            let (id, incarnation) = (node.id, node.incarnation);
            if !self.down.contains(&id) {
                self.apply(Action::Heartbeat { node: id, incarnation }).unwrap();
                continue;
            }
            let quiet = self.now_ms - self.catalog.last_heartbeat_ms(id).unwrap_or(self.now_ms);
            let to = match node.state {
                NodeState::Active | NodeState::Draining if quiet > SUSPECT_MS => NodeState::Suspect,
                NodeState::Suspect if quiet > DEAD_MS => NodeState::Dead,
                _ => continue,
            };
            self.apply(Action::SetNodeState { node: id, expected: node.state, to }).unwrap();
        }
    }

    /// One node at a time is down, and only while every shard can bear it.
    fn disturb(&mut self) {
        let view = self.catalog.view().clone();
        let nodes: Vec<_> = view.nodes().filter(|n| n.state != NodeState::Removed).collect();
        let node = nodes[self.rng.below(nodes.len() as u64) as usize].id;
        match self.rng.below(12) {
            0 if self.down.is_empty() => {
                self.down.insert(node);
                let all = self.groups.values().all(|group| self.has_majority(&group.voters));
                let live = |s: &Shard| {
                    let others = s.replicas.iter().filter(|r| r.node != node);
                    2 * others.filter(|r| r.is_live_voter()).count() > staying(s)
                };
                if !all || !view.shards().all(live) {
                    self.down.remove(&node);
                }
            }
            1 | 2 => self.down.clear(),
            3 => {
                let busy = view.nodes().filter(|n| n.state == NodeState::Active).count();
                let drains = view.jobs().any(|j| j.state.is_active() && j.kind.needs_node());
                let kind =
                    if self.rng.one_in(3) { JobKind::RemoveNode } else { JobKind::DrainNode };
                if busy > 4 && !drains && self.down.is_empty() {
                    let steps = Order::many(0).encode();
                    _ = self.apply(Action::CreateJob {
                        kind,
                        shard: None,
                        node: Some(node),
                        steps,
                    });
                }
            }
            4 => {
                let (kind, steps) = (JobKind::Rebalance, Order::many(0).encode());
                if view.jobs().all(|job| !job.state.is_active()) {
                    _ = self.apply(Action::CreateJob { kind, shard: None, node: None, steps });
                }
            }
            5 => {
                let shard = ShardId(1 + self.rng.below(4));
                let replicas = &view.shard(shard).unwrap().replicas;
                let from = replicas[self.rng.below(replicas.len() as u64) as usize].id;
                let moved = Move::Replica { shard, from: Some(from), to: Some(node) };
                let (kind, steps) = (JobKind::MoveReplica, Order::of_move(&moved, None).encode());
                _ = self.apply(Action::CreateJob { kind, shard: Some(shard), node: None, steps });
            }
            6 => {
                let jobs: Vec<_> = view.jobs().filter(|job| job.state.is_active()).collect();
                if !jobs.is_empty() {
                    let job = jobs[self.rng.below(jobs.len() as u64) as usize].id;
                    let change = JobChange::Cancel { text: String::new() };
                    _ = self.apply(Action::ChangeJob { job, change });
                }
            }
            7 if nodes.len() < 7 => {
                let incarnation = 10_000 + self.now_ms;
                let profile = profile(&[("zone", "f")]);
                self.apply(Action::RegisterNode { wanted: None, incarnation, profile }).unwrap();
            }
            8 => {
                // A drained node is brought back.
                let (expected, to) = (NodeState::Draining, NodeState::Active);
                _ = self.apply(Action::SetNodeState { node, expected, to });
            }
            _ => {}
        }
    }

    fn tick(&mut self, disturbed: bool) {
        self.now_ms += 50 + self.rng.below(700);
        self.look_after_nodes();
        if disturbed {
            self.disturb();
        }
        self.run_jobs(disturbed);
        for shard in (1..=4).map(ShardId) {
            self.lead(shard);
        }
    }

    fn is_quiet(&self) -> bool {
        let view = self.catalog.view();
        view.jobs().all(|job| !job.state.is_active())
            && view.shards().all(|shard| {
                let group = &self.groups[&shard.id];
                let named: BTreeSet<_> = shard.replicas.iter().map(|r| r.id).collect();
                shard.replicas.len() == shard.desired as usize
                    && shard.replicas.iter().all(Replica::is_live_voter)
                    && group.voters == [named]
                    && group.learners.is_empty()
            })
    }
}

fn staying(shard: &Shard) -> usize {
    let stays = |r: &&Replica| r.role == Role::Voter && r.state != ReplicaState::Leaving;
    shard.replicas.iter().filter(stays).count()
}

#[test]
fn jobs_come_to_their_end_whatever_crashes_and_no_shard_loses_its_quorum() {
    let mut ended: BTreeMap<JobKind, u64> = BTreeMap::new();
    for seed in 0..60 {
        let mut model = Model::new(seed);
        for _ in 0..400 {
            model.tick(true);
        }
        model.down.clear();
        let mut ticks = 0;
        while !model.is_quiet() {
            model.tick(false);
            ticks += 1;
            let view = model.catalog.view();
            assert!(
                ticks < 1_500,
                "seed {seed}: {:#?} {:#?} {:#?}",
                view.jobs().filter(|job| job.state.is_active()).collect::<Vec<_>>(),
                view.shards().collect::<Vec<_>>(),
                view.nodes().map(|n| (n.id, n.state)).collect::<Vec<_>>()
            );
        }
        for (kind, n) in model.ended {
            *ended.entry(kind).or_default() += n;
        }
    }
    use JobKind::{DrainNode, MoveReplica, Rebalance, RemoveNode, ReplaceDead, TransferLeader};
    for kind in [DrainNode, MoveReplica, Rebalance, RemoveNode, ReplaceDead, TransferLeader] {
        assert!(ended.get(&kind).is_some_and(|n| *n >= 5), "{kind} ended too seldom: {ended:?}");
    }
}

#[test]
fn orders_survive_their_bytes_and_others_are_refused() {
    use arqondb::catalog::records::Job;
    use arqondb::catalog::{JobId, Outcome};
    let mut catalog = crate::world::with_shards(&["a", "b", "c"], 1, 3);
    let shard = ShardId(1);
    let orders = [
        Order::of_move(&Move::Leader { shard, to: ReplicaId(300) }, None),
        Order::of_move(
            &Move::Replica { shard, from: Some(ReplicaId(2)), to: None },
            Some(JobId(1 << 40)),
        ),
        Order::of_move(&Move::Replica { shard, from: None, to: Some(NodeId(7)) }, None),
        Order::many(1_000),
    ];
    let mut job_of = |steps: Vec<u8>| -> Job {
        let kind = JobKind::Rebalance;
        let action = Action::CreateJob { kind, shard: None, node: None, steps };
        let Outcome::Job(id) = crate::world::done(&mut catalog, action) else { panic!("no job") };
        catalog.view().job(id).unwrap().clone()
    };
    for order in orders {
        let bytes = order.encode();
        assert_eq!(Order::of(&job_of(bytes.clone())).unwrap(), order);
        for end in 0..bytes.len() {
            assert!(Order::of(&job_of(bytes[..end].to_vec())).is_err());
        }
        assert!(Order::of(&job_of([&bytes[..], &[0]].concat())).is_err());
        assert!(Order::of(&job_of([&[2], &bytes[1..]].concat())).is_err());
    }
}

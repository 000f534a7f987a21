//! Jobs that plan others, and what is repaired without being asked.

use super::decide::Turn;
use super::order::Order;
use crate::catalog::plan::{Move, Plan, drain, rebalance, repair};
use crate::catalog::records::{Job, JobKind, JobState, NodeState, ReplicaState};
use crate::catalog::{Action, JobChange, JobId, NodeId, ShardId};

/// Moves planned at a time.
const PLANNED_MAX: usize = 16;

impl Turn<'_> {
    /// Goes on with a job that plans others.
    pub(super) fn plan_for(&mut self, job: &Job, made: u64) {
        match (job.kind, job.node) {
            (JobKind::DrainNode | JobKind::RemoveNode, Some(node)) => self.empty(job, node, made),
            (JobKind::Rebalance, _) => self.even_out(job, made),
            _ => self.finish(job, false, format!("a job {} is of one shard", job.kind)),
        }
    }

    fn empty(&mut self, job: &Job, id: NodeId, made: u64) {
        let view = self.now.view;
        let Some(node) = view.node(id) else {
            return self.finish(job, false, format!("there is no node {id}"));
        };
        if node.state == NodeState::Removed {
            return self.finish(job, true, "removed");
        }
        if matches!(node.state, NodeState::Active | NodeState::Joining) {
            let (expected, to) = (node.state, NodeState::Draining);
            return self.change(Action::SetNodeState { node: id, expected, to });
        }
        if view.shards_on(id).next().is_some() {
            let plan = drain(view, id, self.now.figures, PLANNED_MAX);
            return self.make(&plan, job, made);
        }
        if job.kind == JobKind::DrainNode {
            return self.finish(job, true, "empty");
        }
        if let Some(index) = view.indexes().find(|index| index.nodes.contains(&id)) {
            let text = format!("the node hosts index {}; host it elsewhere first", index.name);
            return self.finish(job, false, text);
        }
        let (expected, to) = (node.state, NodeState::Removed);
        self.change(Action::SetNodeState { node: id, expected, to });
    }

    fn even_out(&mut self, job: &Job, made: u64) {
        let view = self.now.view;
        if self.active_jobs().any(|other| other.shard.is_some()) {
            return;
        }
        let plan = rebalance(view, self.now.figures, PLANNED_MAX);
        // Figures that change all the time would have it go on for ever.
        let bound = 2 * view.shards().map(|shard| 1 + shard.replicas.len() as u64).sum::<u64>();
        if plan.moves.is_empty() || made >= bound {
            return self.finish(job, true, format!("{made} moves"));
        }
        self.make(&plan, job, made);
    }

    /// Makes jobs of a plan's moves, for another job.
    fn make(&mut self, plan: &Plan, parent: &Job, made: u64) {
        let more = plan.moves.iter().filter(|m| self.create(m, Some(parent.id))).count() as u64;
        if more > 0 {
            let (owner, lease_ms) = (self.now.owner, self.now.limits.lease.as_millis() as u64);
            let steps = Order::many(made + more).encode();
            let change = JobChange::Advance { owner, lease_ms, steps };
            self.change(Action::ChangeJob { job: parent.id, change });
        }
    }

    /// Makes a job of a move, if its shard has none and its nodes have slots.
    fn create(&mut self, moved: &Move, parent: Option<JobId>) -> bool {
        let view = self.now.view;
        let shard = moved.shard();
        let is_free = !self.taken.contains(&shard) && !self.is_cooling(shard);
        if !is_free || !self.slots.try_take(view, moved) {
            return false;
        }
        self.taken.insert(shard);
        let is_lost = |from| {
            let replica = view.shard(shard).and_then(|record| record.replica(from));
            replica.is_some_and(|replica| replica.state == ReplicaState::Lost)
        };
        let kind = match *moved {
            Move::Leader { .. } => JobKind::TransferLeader,
            Move::Replica { from: Some(from), .. } if is_lost(from) => JobKind::ReplaceDead,
            Move::Replica { .. } => JobKind::MoveReplica,
        };
        let steps = Order::of_move(moved, parent).encode();
        self.change(Action::CreateJob { kind, shard: Some(shard), node: None, steps });
        true
    }

    /// Whether a move of the shard failed just now: what is in its way may pass.
    fn is_cooling(&self, shard: ShardId) -> bool {
        let pause_ms = self.now.limits.pause.as_millis() as u64;
        let failed = |job: &Job| {
            job.shard == Some(shard)
                && job.state == JobState::Failed
                && job.changed_ms + pause_ms > self.now.now_ms
        };
        self.now.view.jobs().any(failed)
    }

    /// Replaces what is lost, and mends what was left half done.
    pub(super) fn repair(&mut self) {
        let plan = repair(self.now.view, self.now.figures, PLANNED_MAX);
        for moved in &plan.moves {
            self.create(moved, None);
        }
    }

    /// A node whose draining was called off takes part again; one that was emptied stays so.
    pub(super) fn reopen_nodes(&mut self) {
        let view = self.now.view;
        for node in view.nodes().filter(|node| node.state == NodeState::Draining) {
            let empties = |job: &Job| job.kind.needs_node() && job.node == Some(node.id);
            if !self.active_jobs().any(empties) && view.shards_on(node.id).next().is_some() {
                let (expected, to) = (NodeState::Draining, NodeState::Active);
                self.change(Action::SetNodeState { node: node.id, expected, to });
            }
        }
    }
}

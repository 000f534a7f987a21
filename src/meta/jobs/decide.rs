//! What is to be done now.

use super::order::{Order, Task};
use super::slots::Slots;
use crate::catalog::limits::TEXT_BYTES_MAX;
use crate::catalog::plan::{Move, ShardFigures, Step, next_step};
use crate::catalog::records::{
    Job, JobKind, JobState, NodeState, Replica, ReplicaState, Role, Shard,
};
use crate::catalog::{Action, JobChange, NodeId, ReplicaId, ShardChange, ShardId, View};
use std::collections::BTreeSet;
use std::time::Duration;

/// A lead that was not handed over for so long is not going to be.
const TRANSFER_MS_MAX: u64 = 60_000;

/// How much is done at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Moves that may concern one node at a time. Default 2; at least 1.
    pub moves_per_node: usize,
    /// How long a job is held by who runs it without a word. Default 5 s.
    pub lease: Duration,
    /// After a move of a shard failed, none is planned for it for so long. Default 5 s.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        let (lease, pause) = (Duration::from_secs(5), Duration::from_secs(5));
        Limits { moves_per_node: 2, lease, pause }
    }
}

/// What is decided on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The catalog.
    pub view: &'a View,
    /// The catalog's time, in milliseconds since 1970.
    pub now_ms: u64,
    /// Who decides: drawn at random when it started.
    pub owner: u64,
    /// What is known of shards beside the catalog.
    pub figures: &'a ShardFigures,
    /// How much is done at a time.
    pub limits: &'a Limits,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Change the catalog. Refused, it was decided on what is no more.
    Change(Action),
    /// Ask the node that leads a shard to hand the lead to a replica.
    Transfer {
        /// The shard.
        shard: ShardId,
        /// The node that leads it.
        from: NodeId,
        /// The replica that shall.
        to: ReplicaId,
    },
}

/// What is to be done now, at most one deed a job and a shard; nothing if all is as it should be, or
/// is waited for. Ask again when the catalog changes, and now and then.
pub fn decide(situation: &Situation<'_>) -> Vec<Deed> {
    let mut turn = Turn {
        now: *situation,
        slots: Slots::new(situation.limits.moves_per_node),
        taken: BTreeSet::new(),
        deeds: Vec::new(),
    };
    turn.claim_jobs();
    turn.go_on();
    turn.repair();
    turn.reopen_nodes();
    turn.deeds
}

pub(super) struct Turn<'a> {
    pub(super) now: Situation<'a>,
    pub(super) slots: Slots,
    /// Shards that have a job, or get one.
    pub(super) taken: BTreeSet<ShardId>,
    pub(super) deeds: Vec<Deed>,
}

/// Whether this is the place where jobs of a kind are run.
fn is_ours(kind: JobKind) -> bool {
    use JobKind::{DrainNode, MoveReplica, Rebalance, RemoveNode, ReplaceDead, TransferLeader};
    matches!(kind, MoveReplica | TransferLeader | ReplaceDead | DrainNode | RemoveNode | Rebalance)
}

impl<'a> Turn<'a> {
    pub(super) fn active_jobs(&self) -> impl Iterator<Item = &'a Job> + use<'a> {
        let view = self.now.view;
        view.jobs().filter(|job| job.state.is_active() && is_ours(job.kind))
    }

    pub(super) fn change(&mut self, action: Action) {
        self.deeds.push(Deed::Change(action));
    }

    fn job(&mut self, job: &Job, change: JobChange) {
        self.change(Action::ChangeJob { job: job.id, change });
    }

    pub(super) fn finish(&mut self, job: &Job, done: bool, text: impl Into<String>) {
        let mut text: String = text.into();
        while text.len() > TEXT_BYTES_MAX {
            text.pop();
        }
        self.job(job, JobChange::Finish { owner: self.now.owner, done, text });
    }

    /// Claims what nobody runs, as far as there are slots, and holds what is run.
    fn claim_jobs(&mut self) {
        let view = self.now.view;
        self.taken = view.jobs().filter(|j| j.state.is_active()).filter_map(|j| j.shard).collect();
        for job in self.active_jobs().filter(|job| job.state == JobState::Running) {
            if let Some(moved) = moved_by(job) {
                self.slots.take(view, &moved);
            }
        }
        let lease_ms = self.now.limits.lease.as_millis() as u64;
        for job in self.active_jobs() {
            let is_parted = Order::of(job).is_ok_and(|order| {
                let parent = order.parent.map(|parent| view.job(parent).map(|job| job.state));
                let goes_on = |s: JobState| s.is_active() || s == JobState::Done;
                parent.is_some_and(|state| !state.is_some_and(goes_on))
            });
            if is_parted {
                let text = "the job it was for has ended".to_string();
                self.job(job, JobChange::Cancel { text });
                continue;
            }
            let is_wanted = match job.lease {
                Some(held) if held.owner == self.now.owner => {
                    held.until_ms < self.now.now_ms + lease_ms / 2
                }
                Some(held) => held.until_ms <= self.now.now_ms,
                None => moved_by(job).is_none_or(|moved| self.slots.try_take(view, &moved)),
            };
            if is_wanted {
                self.job(job, JobChange::Claim { owner: self.now.owner, lease_ms });
            }
        }
    }

    /// The next step of every job that is run here.
    fn go_on(&mut self) {
        for job in self.active_jobs() {
            if job.lease.is_none_or(|lease| lease.owner != self.now.owner) {
                continue;
            }
            match (Order::of(job), job.shard) {
                (Err(error), _) => self.finish(job, false, error.message()),
                (Ok(Order { task: Task::Many { made }, .. }), _) => self.plan_for(job, made),
                (Ok(order), Some(shard)) => {
                    if let Some(moved) = order.step_of(shard) {
                        self.step(job, &moved);
                    }
                }
                (Ok(_), None) => self.finish(job, false, "it names no shard"),
            }
        }
    }

    fn step(&mut self, job: &Job, moved: &Move) {
        let view = self.now.view;
        let step = match next_step(view, moved) {
            Ok(step) => step,
            Err(error) => return self.finish(job, false, error.message()),
        };
        let Some(shard) = view.shard(moved.shard()) else { return };
        if job.kind == JobKind::ReplaceDead && is_superfluous(shard, moved) {
            return self.finish(job, true, "the node came back before it was replaced");
        }
        let state_of = |node: NodeId| view.node(node).map(|node| node.state);
        let is_heard = |r: &Replica| state_of(r.node).is_some_and(NodeState::is_heard_of);
        let change = match step {
            Step::Finished => return self.finish(job, true, ""),
            Step::AwaitLearner(_) | Step::AwaitRemoval(_) => return,
            Step::AddLearner(node) => match state_of(node) {
                Some(NodeState::Active | NodeState::Joining) => ShardChange::AddLearner(node),
                state => {
                    let state = state.map_or("not there", NodeState::name);
                    let text = format!("node {node} takes no replica: it is {state}");
                    return self.finish(job, false, text);
                }
            },
            Step::Promote(id) if shard.replica(id).is_some_and(is_heard) => {
                ShardChange::Promote(id)
            }
            Step::Leave(id) if stays_able(shard, id, is_heard) => ShardChange::Leave(id),
            // Its node is heard of again, or dead, before long.
            Step::Promote(_) | Step::Leave(_) => return,
            Step::TransferLeader(to) => return self.transfer(job, shard, to, moved),
        };
        let expected = shard.epoch;
        self.change(Action::ChangeShard { shard: shard.id, expected, change });
    }

    fn transfer(&mut self, job: &Job, shard: &Shard, to: ReplicaId, moved: &Move) {
        let view = self.now.view;
        let is_late = self.now.now_ms > job.changed_ms + TRANSFER_MS_MAX;
        if matches!(moved, Move::Leader { .. }) && is_late {
            return self.finish(job, false, "the lead was not handed over in time");
        }
        // Without a leader that is heard of there is an election first.
        let leader = shard.leader_node().and_then(|node| view.node(node));
        if let Some(leader) = leader.filter(|leader| leader.state.is_heard_of()) {
            self.deeds.push(Deed::Transfer { shard: shard.id, from: leader.id, to });
        }
    }
}

/// The move of one shard that a job is.
pub(super) fn moved_by(job: &Job) -> Option<Move> {
    Order::of(job).ok()?.step_of(job.shard?)
}

/// Whether the replica to be replaced is there again, and none has taken its place yet.
fn is_superfluous(shard: &Shard, moved: &Move) -> bool {
    let Move::Replica { from: Some(from), to, .. } = *moved else { return false };
    let is_back = shard.replica(from).is_some_and(Replica::is_live_voter);
    let new = to.and_then(|to| shard.replica_on(to));
    is_back && new.is_none_or(|new| new.role == Role::Learner)
}

/// Whether those that stay without a replica are a majority that is heard of.
fn stays_able(shard: &Shard, without: ReplicaId, is_heard: impl Fn(&Replica) -> bool) -> bool {
    let stays =
        |r: &&Replica| r.id != without && r.role == Role::Voter && r.state != ReplicaState::Leaving;
    let staying: Vec<&Replica> = shard.replicas.iter().filter(stays).collect();
    let able = staying.iter().filter(|r| r.is_live_voter() && is_heard(r)).count();
    2 * able > staying.len()
}

//! Thousands of random commands, and after each everything that must hold.

use crate::random::Random;
use crate::world::{cluster, init};
use arqondb::catalog::records::{Epoch, Job, Shard};
use arqondb::catalog::{
    Applied, Catalog, Change, Command, Event, NextIds, Outcome, Refusal, ReplicaId, SLOTS, ShardId,
    View, encode_command,
};
use arqondb::catalog::{
    decode_answer, decode_change, decode_command, encode_answer, encode_change,
};
use std::collections::{BTreeMap, BTreeSet};

const SEEDS: u64 = 24;
const COMMANDS: usize = 1_500;

/// What was true before, kept apart from the catalog.
#[derive(Default)]
struct Seen {
    revision: u64,
    now_ms: u64,
    next: Option<NextIds>,
    epochs: BTreeMap<ShardId, Epoch>,
    /// Every shard's last descriptor, without the leader hint.
    descriptors: BTreeMap<ShardId, Shard>,
    ids: BTreeMap<&'static str, BTreeSet<u64>>,
    replicas: BTreeMap<ReplicaId, ShardId>,
    /// A copy that takes the events only.
    copy: View,
}

impl Seen {
    fn check(&mut self, catalog: &Catalog, answer: &Result<Applied, Refusal>) {
        let view = catalog.view();
        let (events, revision) = match answer {
            Ok(applied) => (applied.events.as_slice(), applied.revision),
            Err(_) => (&[][..], view.revision()),
        };
        let rise = u64::from(!events.is_empty());
        assert_eq!(view.revision(), self.revision + rise, "a revision for each change");
        assert!(rise == 0 || revision == view.revision());
        if !events.is_empty() {
            let change = Change { revision, events: events.to_vec() };
            assert_eq!(decode_change(&encode_change(&change)).unwrap(), change);
            self.copy.follow(&change).unwrap();
        }
        assert_eq!(&self.copy, view, "who follows the changes holds the same");
        assert!(catalog.now_ms() >= self.now_ms, "time never goes back");
        (self.revision, self.now_ms) = (view.revision(), catalog.now_ms());
        self.check_slots(view);
        self.check_shards(view);
        self.check_ids(catalog, events);
        check_jobs(view);
        view.check().unwrap();
    }

    fn check_slots(&self, view: &View) {
        let mut owner = vec![None; usize::from(SLOTS)];
        for shard in view.shards() {
            for slot in shard.slots.first..=shard.slots.last {
                let before = owner[usize::from(slot)].replace(shard.id);
                assert_eq!(before, None, "slot {slot} twice");
            }
        }
        let covered = owner.iter().flatten().count();
        assert!(covered == 0 || covered == usize::from(SLOTS), "{covered} slots covered");
        for slot in [0, 1, SLOTS / 2, SLOTS - 1] {
            assert_eq!(view.shard_of_slot(slot).map(|s| s.id), owner[usize::from(slot)]);
        }
        assert!(view.shard_of_slot(SLOTS).is_none());
    }

    fn check_shards(&mut self, view: &View) {
        for shard in view.shards() {
            let before = self.epochs.insert(shard.id, shard.epoch).unwrap_or_default();
            let now = shard.epoch;
            assert!(now.config >= before.config && now.range >= before.range, "epochs only rise");
            let bare = Shard { leader: None, ..shard.clone() };
            let known = self.descriptors.insert(shard.id, bare.clone());
            if now == before {
                assert_eq!(known, Some(bare), "one epoch, one descriptor");
            } else if let Some(known) = known {
                let moved = known.slots != shard.slots;
                assert_eq!(now.range > before.range, moved, "the range version follows the slots");
            }
            let nodes: BTreeSet<_> = shard.replicas.iter().map(|r| r.node).collect();
            assert_eq!(nodes.len(), shard.replicas.len(), "one replica of a shard a node");
            for replica in &shard.replicas {
                let of = *self.replicas.entry(replica.id).or_insert(shard.id);
                assert_eq!(of, shard.id, "replica ids are never reused");
                assert!(view.node(replica.node).is_some());
            }
            if let Some(leader) = shard.leader {
                assert!(shard.replica(leader.replica).is_some(), "the leader is a replica");
            }
        }
        assert!(self.epochs.keys().all(|id| view.shard(*id).is_some()), "no shard is lost");
    }

    fn check_ids(&mut self, catalog: &Catalog, events: &[Event]) {
        let now = catalog.next_ids();
        if let Some(before) = self.next {
            assert!(now.node >= before.node && now.shard >= before.shard);
            assert!(now.replica >= before.replica && now.family >= before.family);
            assert!(now.index >= before.index && now.job >= before.job);
        }
        self.next = Some(now);
        let view = catalog.view();
        let mut new = |what: &'static str, id: u64| {
            assert!(self.ids.entry(what).or_default().insert(id), "{what} {id} was used before");
        };
        for event in events {
            match event {
                Event::CfChanged { value: Some(family), .. } => new("family", family.id.0.into()),
                Event::ShardsSplit { child, .. } => new("shard", child.id.0),
                Event::JobChanged { value: Some(job), .. } if is_new(job) => new("job", job.id.0),
                _ => {}
            }
        }
        assert!(view.indexes().all(|index| index.id < now.index));
        assert!(view.nodes().all(|node| node.id < now.node));
    }
}

/// Whether this is the job as it was created.
fn is_new(job: &Job) -> bool {
    job.attempts == 0 && job.state.is_active()
}

fn check_jobs(view: &View) {
    let active = || view.jobs().filter(|job| job.state.is_active());
    let shards: Vec<_> = active().filter_map(|job| job.shard).collect();
    let distinct: BTreeSet<_> = shards.iter().collect();
    assert_eq!(distinct.len(), shards.len(), "one active job a shard");
    let ended = view.jobs().count() - active().count();
    assert!(ended <= arqondb::catalog::limits::FINISHED_JOBS_KEPT);
    assert!(view.jobs().all(|job| job.lease.is_some() <= job.state.is_active()));
}

fn run(seed: u64) -> BTreeMap<String, usize> {
    let mut random = Random::new(seed);
    let mut catalog = Catalog::new();
    let mut by_bytes = Catalog::new();
    let mut only_accepted = Catalog::new();
    let mut seen = Seen::default();
    let mut applied: Vec<(Command, Applied)> = Vec::new();
    let mut tally = BTreeMap::new();
    for n in 0..COMMANDS {
        let command = match n {
            0 => Command { now_ms: 1, id: None, action: init() },
            _ => random.command(&catalog),
        };
        let bytes = encode_command(&command).unwrap();
        assert_eq!(decode_command(&bytes).unwrap(), command);
        let answer = catalog.apply(&command);
        assert_eq!(by_bytes.apply_bytes(&bytes).unwrap(), answer, "replicas answer alike");
        let again = decode_answer(&encode_answer(&answer)).unwrap();
        assert_eq!(again, answer, "an answer survives its bytes");
        seen.check(&catalog, &answer);
        let kind = format!("{:?}", command.action);
        let kind = kind.split([' ', '{']).next().unwrap().to_string();
        match answer {
            Ok(answer) => {
                *tally.entry(kind).or_default() += 1;
                only_accepted.apply(&command).unwrap();
                if command.id.is_some() {
                    applied.push((command, answer));
                }
            }
            Err(refusal) => assert!(!refusal.halts(), "{command:?} gives {refusal:?}"),
        }
        if random.rng().one_in(20) && !applied.is_empty() {
            let at = random.rng().below(applied.len() as u64) as usize;
            let (command, first) = &applied[at];
            let retry = catalog.apply(command);
            assert_eq!(by_bytes.apply(command), retry);
            let retry = retry.unwrap();
            assert_eq!((retry.revision, &retry.outcome), (first.revision, &first.outcome));
            seen.check(&catalog, &Ok(retry));
        }
        if n % 100 == 99 {
            let bytes = catalog.snapshot();
            assert!(bytes == by_bytes.snapshot(), "equal histories, equal snapshots");
            assert!(bytes == only_accepted.snapshot(), "a refused command changes nothing");
            by_bytes = Catalog::restore(&bytes).unwrap();
            assert!(by_bytes == catalog, "a snapshot restores all");
            assert_eq!(View::decode(&catalog.view().encode()).unwrap(), *catalog.view());
        }
    }
    check_window(&catalog);
    tally
}

/// From every revision of the window, the changes lead to the catalog's view.
fn check_window(catalog: &Catalog) {
    assert_eq!(catalog.floor(), 0, "this history fits the window");
    let mut view = View::default();
    for change in catalog.changes_since(0).unwrap() {
        if change.revision.is_multiple_of(37) {
            let mut from_here = view.clone();
            let rest = catalog.changes_since(view.revision()).unwrap();
            rest.for_each(|change| from_here.follow(change).unwrap());
            assert_eq!(&from_here, catalog.view());
        }
        view.follow(change).unwrap();
    }
    assert_eq!(&view, catalog.view());
}

#[test]
fn random_commands_keep_every_invariant() {
    let mut tally: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..SEEDS {
        for (kind, n) in run(seed) {
            *tally.entry(kind).or_default() += n;
        }
    }
    // The test has met every kind of command, applied, often enough to mean something.
    for kind in [
        "InitCluster",
        "RegisterNode",
        "Heartbeat",
        "SetNodeState",
        "CreateShards",
        "ChangeShard",
        "SetLeader",
        "CreateFamily",
        "DropFamily",
        "CreateIndex",
        "SetIndexNodes",
        "DropIndex",
        "CreateUser",
        "ChangeUser",
        "DropUser",
        "CreateJob",
        "ChangeJob",
    ] {
        assert!(
            tally.get(kind).is_some_and(|n| *n >= 10),
            "{kind} was applied too seldom: {tally:?}"
        );
    }
}

#[test]
fn a_split_gives_the_upper_range_to_a_new_shard_on_the_same_nodes() {
    use crate::world::{change, change_shard, done};
    use arqondb::catalog::{Action, ShardChange};
    let mut catalog = cluster(&["a", "b", "c"]);
    done(&mut catalog, Action::CreateShards { count: 1, replicas: 3, nodes: Vec::new() });
    let shard = ShardId(1);
    let leader = catalog.view().shard(shard).unwrap().replicas[1];
    done(&mut catalog, Action::SetLeader { shard, replica: leader.id, term: 4 });
    let before = change_shard(&mut catalog, shard, ShardChange::BeginSplit(5_000));
    let pending = before.split.clone().unwrap();
    let finish = change(&catalog, shard, ShardChange::FinishSplit);
    let Outcome::Split { parent, child } = done(&mut catalog, finish) else {
        panic!("a finished split answers both shards");
    };
    assert_eq!((parent.id, parent.slots.first, parent.slots.last), (shard, 0, 4_999));
    assert_eq!((child.id, child.slots.first, child.slots.last), (pending.child, 5_000, 16_383));
    assert!(parent.epoch.range > before.epoch.range && child.epoch.range > before.epoch.range);
    let ids = |s: &Shard| s.replicas.iter().map(|r| r.id).collect::<Vec<_>>();
    let nodes = |s: &Shard| s.replicas.iter().map(|r| r.node).collect::<Vec<_>>();
    assert_eq!(ids(&child), pending.replicas, "the ids its log entry named");
    assert_eq!(nodes(&child), nodes(&parent));
    assert_eq!(parent.leader, before.leader);
    assert_eq!(child.leader_node(), Some(leader.node));
    assert_eq!(catalog.view().shard_of_slot(5_000), Some(&child));
    assert_eq!(catalog.view().shard_of_slot(4_999), Some(&parent));
}

#[test]
fn replicas_on_a_dead_node_are_lost_until_it_is_heard_again() {
    use crate::world::{change_shard, done, kill, with_shards};
    use arqondb::catalog::records::ReplicaState;
    use arqondb::catalog::{Action, NodeId, ShardChange};
    let mut catalog = with_shards(&["a", "b", "c", "d"], 1, 3);
    let shard = ShardId(1);
    let spare = catalog.view().nodes().map(|n| n.id);
    let spare = spare.filter(|n| catalog.view().shard(shard).unwrap().replica_on(*n).is_none());
    let spare: NodeId = spare.last().unwrap();
    let added = change_shard(&mut catalog, shard, ShardChange::AddLearner(spare));
    let learner = added.replica_on(spare).unwrap().id;
    change_shard(&mut catalog, shard, ShardChange::LearnerReady(learner));
    let voter = added.replicas[0];
    kill(&mut catalog, voter.node);
    kill(&mut catalog, spare);
    let dead = catalog.view().shard(shard).unwrap().clone();
    assert_eq!(dead.replica(voter.id).unwrap().state, ReplicaState::Lost);
    assert_eq!(dead.replica(learner).unwrap().state, ReplicaState::Lost);
    assert!(dead.has_quorum());
    for node in [voter.node, spare] {
        done(&mut catalog, Action::Heartbeat { node, incarnation: 100 + node.0 });
    }
    let back = catalog.view().shard(shard).unwrap();
    assert_eq!(back.replica(voter.id).unwrap().state, ReplicaState::Ready);
    assert_eq!(back.replica(learner).unwrap().state, ReplicaState::Joining, "it catches up again");
    assert!(back.epoch.config > dead.epoch.config);
}

#[test]
fn a_heartbeat_is_no_revision() {
    use crate::world::START_MS;
    use arqondb::catalog::{Action, NodeId};
    let mut catalog = cluster(&["a"]);
    let before = catalog.view().clone();
    let action = Action::Heartbeat { node: NodeId(1), incarnation: 101 };
    let command = Command { now_ms: START_MS + 500, id: None, action };
    let applied = catalog.apply(&command).unwrap();
    assert_eq!((applied.events.len(), applied.revision), (0, before.revision()));
    assert_eq!(catalog.view(), &before);
    assert_eq!(catalog.last_heartbeat_ms(NodeId(1)), Some(START_MS + 500));
}

//! What is refused, with which kind, what stands in the way; and what stops a replica.

use crate::world::{
    START_MS, apply, change, change_shard, done, init, kill, profile, register, set_state, user,
    with_shards,
};
use arqondb::ErrorKind;
use arqondb::catalog::limits::{
    COMMAND_BYTES_MAX, NAME_BYTES_MAX, OPAQUE_BYTES_MAX, TEXT_BYTES_MAX, VERIFIER_BYTES_MAX,
};
use arqondb::catalog::records::{Epoch, JobKind, JobState, NodeState, ReplicaState, UserRole};
use arqondb::catalog::{
    Action, Catalog, Command, JobChange, JobId, NodeId, Outcome, ReplicaId, ShardChange, ShardId,
    Standing, encode_command,
};

const SHARD: ShardId = ShardId(1);

/// Nodes 1 to 4, node 4 without replicas; node 5 removed; two shards, family `f`, index `i`, users `root`
/// and `joe`, job 1 on shard 1 held by owner 7, job 2 (a drain) on node 2.
fn world() -> Catalog {
    let mut catalog = with_shards(&["a", "b", "c"], 2, 3);
    for incarnation in [104, 105] {
        done(&mut catalog, register(incarnation, &[("zone", "d")]));
    }
    done(&mut catalog, Action::Heartbeat { node: NodeId(4), incarnation: 104 });
    set_state(&mut catalog, NodeId(5), NodeState::Removed);
    done(&mut catalog, Action::CreateFamily { name: "f".into() });
    done(&mut catalog, index("i", b"", &[4]));
    done(&mut catalog, user("root", UserRole::Admin));
    done(&mut catalog, user("joe", UserRole::User));
    done(&mut catalog, job(JobKind::Split, Some(1), None));
    let claim = JobChange::Claim { owner: 7, lease_ms: 10_000 };
    done(&mut catalog, Action::ChangeJob { job: JobId(1), change: claim });
    done(&mut catalog, job(JobKind::DrainNode, None, Some(2)));
    catalog
}

fn index(name: &str, config: &[u8], nodes: &[u64]) -> Action {
    let nodes = nodes.iter().copied().map(NodeId).collect();
    Action::CreateIndex { name: name.into(), kind: "hnsw".into(), config: config.to_vec(), nodes }
}

fn job(kind: JobKind, shard: Option<u64>, node: Option<u64>) -> Action {
    let (shard, node) = (shard.map(ShardId), node.map(NodeId));
    Action::CreateJob { kind, shard, node, steps: b"args".to_vec() }
}

fn of_job(job: u64, change: JobChange) -> Action {
    Action::ChangeJob { job: JobId(job), change }
}

fn state(node: u64, expected: NodeState, to: NodeState) -> Action {
    Action::SetNodeState { node: NodeId(node), expected, to }
}

fn family(name: impl Into<String>) -> Action {
    Action::CreateFamily { name: name.into() }
}

fn change_user(role: Option<UserRole>, disabled: Option<bool>) -> Action {
    Action::ChangeUser { name: "root".into(), role, verifier: None, disabled }
}

fn wanted(id: u64, incarnation: u64) -> Action {
    Action::RegisterNode { wanted: Some(NodeId(id)), incarnation, profile: profile(&[]) }
}

#[test]
fn refused_commands_have_their_kinds_and_change_nothing() {
    let catalog = world();
    let table = [nodes_and_shards(&catalog), names_and_jobs()].concat();
    for (action, kind) in table {
        let mut after = catalog.clone();
        let refusal = apply(&mut after, action.clone()).expect_err(&format!("{action:?}"));
        assert_eq!(refusal.kind(), kind, "{action:?}: {refusal}");
        assert!(after == catalog, "{action:?} changed something");
        assert!(!refusal.halts());
        assert!(kind != ErrorKind::Conflict || refusal.standing().is_some());
    }
}

fn nodes_and_shards(catalog: &Catalog) -> Vec<(Action, ErrorKind)> {
    use ErrorKind::{AlreadyExists, Conflict, InvalidArgument, NotFound, Refused};
    let shard = catalog.view().shard(SHARD).unwrap().clone();
    let of = |c| change(catalog, SHARD, c);
    let stale = Action::ChangeShard {
        shard: SHARD,
        expected: Epoch { config: shard.epoch.config + 1, ..shard.epoch },
        change: ShardChange::SetDesired(1),
    };
    let of_other = Action::ChangeShard {
        shard: ShardId(99),
        expected: shard.epoch,
        change: ShardChange::FinishSplit,
    };
    let mut bad_url = profile(&[]);
    bad_url.data_url = "http://a b".into();
    let mut old = profile(&[]);
    old.speaks = 0;
    let with = |profile| Action::RegisterNode { wanted: None, incarnation: 9, profile };
    let leader =
        |shard, replica, term| Action::SetLeader { shard, replica: ReplicaId(replica), term };
    let shards = |count, replicas, nodes: &[u64]| Action::CreateShards {
        count,
        replicas,
        nodes: nodes.iter().copied().map(NodeId).collect(),
    };
    vec![
        (init(), AlreadyExists),
        (Action::InitCluster { id: [0; 16], name: "x".into(), version: 1 }, InvalidArgument),
        (Action::RaiseVersion { to: 1 }, AlreadyExists),
        (with(bad_url), InvalidArgument),
        (with(old), Refused),
        (register(0, &[]), InvalidArgument),
        (register(9, &[("zone", "")]), InvalidArgument),
        (register(105, &[]), Refused),
        (wanted(2, 101), Conflict),
        (wanted(2, 999), Refused),
        (wanted(5, 999), Refused),
        (wanted(0, 999), InvalidArgument),
        (wanted(1 << 40, 999), InvalidArgument),
        (Action::Heartbeat { node: NodeId(77), incarnation: 1 }, NotFound),
        (Action::Heartbeat { node: NodeId(1), incarnation: 1 }, Refused),
        (Action::Heartbeat { node: NodeId(5), incarnation: 105 }, Refused),
        (state(77, NodeState::Active, NodeState::Draining), NotFound),
        (state(1, NodeState::Suspect, NodeState::Dead), Conflict),
        (state(1, NodeState::Active, NodeState::Dead), Refused),
        (state(1, NodeState::Active, NodeState::Removed), Refused),
        (state(5, NodeState::Removed, NodeState::Active), Refused),
        (shards(2, 3, &[]), AlreadyExists),
        (shards(0, 3, &[]), InvalidArgument),
        (shards(5_000, 3, &[]), InvalidArgument),
        (shards(1, 0, &[]), InvalidArgument),
        (shards(1, 10, &[]), InvalidArgument),
        (stale, Conflict),
        (of_other, NotFound),
        (of(ShardChange::AddLearner(NodeId(77))), NotFound),
        (of(ShardChange::AddLearner(NodeId(5))), Refused),
        (of(ShardChange::AddLearner(NodeId(1))), AlreadyExists),
        (of(ShardChange::LearnerReady(ReplicaId(999))), NotFound),
        (of(ShardChange::LearnerReady(shard.replicas[0].id)), Refused),
        (of(ShardChange::Promote(shard.replicas[0].id)), Refused),
        (of(ShardChange::Leave(ReplicaId(999))), NotFound),
        (of(ShardChange::Remove(ReplicaId(999))), NotFound),
        (of(ShardChange::Remove(shard.replicas[0].id)), Refused),
        (of(ShardChange::SetDesired(0)), InvalidArgument),
        (of(ShardChange::BeginSplit(shard.slots.first)), InvalidArgument),
        (of(ShardChange::BeginSplit(shard.slots.last + 1)), InvalidArgument),
        (of(ShardChange::FinishSplit), NotFound),
        (of(ShardChange::CancelSplit), NotFound),
        (leader(ShardId(99), 1, 1), NotFound),
        (leader(SHARD, 999, 1), NotFound),
    ]
}

fn names_and_jobs() -> Vec<(Action, ErrorKind)> {
    use ErrorKind::{AlreadyExists, Conflict, InvalidArgument, NotFound, Refused};
    let claim = |owner, lease_ms| JobChange::Claim { owner, lease_ms };
    let finish = |owner, text: String| JobChange::Finish { owner, done: true, text };
    vec![
        (family("f"), AlreadyExists),
        (family("default"), AlreadyExists),
        (family(""), InvalidArgument),
        (family("__system"), InvalidArgument),
        (family("a b"), InvalidArgument),
        (family("x".repeat(NAME_BYTES_MAX + 1)), InvalidArgument),
        (Action::DropFamily { name: "none".into() }, NotFound),
        (Action::DropFamily { name: "default".into() }, Refused),
        (index("i", b"", &[]), AlreadyExists),
        (index("j", &vec![0; OPAQUE_BYTES_MAX + 1], &[]), InvalidArgument),
        (index("j", b"", &[77]), NotFound),
        (index("j", b"", &[5]), Refused),
        (Action::SetIndexNodes { name: "none".into(), nodes: Vec::new() }, NotFound),
        (Action::DropIndex { name: "none".into() }, NotFound),
        (user("joe", UserRole::User), AlreadyExists),
        (change_user(Some(UserRole::User), None), Refused),
        (change_user(None, Some(true)), Refused),
        (Action::DropUser { name: "root".into() }, Refused),
        (Action::DropUser { name: "none".into() }, NotFound),
        (
            Action::CreateUser {
                name: "new".into(),
                role: UserRole::User,
                verifier: vec![0; VERIFIER_BYTES_MAX + 1],
            },
            InvalidArgument,
        ),
        (job(JobKind::MoveReplica, Some(1), None), Conflict),
        (job(JobKind::RemoveNode, None, Some(2)), Conflict),
        (job(JobKind::MoveReplica, None, Some(1)), InvalidArgument),
        (job(JobKind::DrainNode, None, None), InvalidArgument),
        (job(JobKind::Split, Some(99), None), NotFound),
        (job(JobKind::DrainNode, None, Some(77)), NotFound),
        (job(JobKind::DrainNode, None, Some(5)), Refused),
        (of_job(99, claim(1, 1)), NotFound),
        (of_job(1, claim(8, 1_000)), Conflict),
        (of_job(1, claim(7, 0)), InvalidArgument),
        (of_job(1, finish(8, String::new())), Conflict),
        (of_job(2, finish(7, String::new())), Conflict),
        (of_job(1, finish(7, "x".repeat(TEXT_BYTES_MAX + 1))), InvalidArgument),
    ]
}

#[test]
fn nothing_is_taken_before_the_cluster_is_initialised() {
    for action in [register(1, &[]), family("f"), user("a", UserRole::Admin)] {
        let refusal = apply(&mut Catalog::new(), action).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Refused);
    }
}

#[test]
fn a_conflict_carries_what_stands_there() {
    let mut catalog = world();
    let shard = catalog.view().shard(SHARD).unwrap().clone();
    let stale = change(&catalog, SHARD, ShardChange::SetDesired(2));
    let now = change_shard(&mut catalog, SHARD, ShardChange::SetDesired(1));
    assert!(now.epoch.config > shard.epoch.config);
    let refusal = apply(&mut catalog, stale).unwrap_err();
    assert_eq!(refusal.standing(), Some(&Standing::Shard(now)));

    let refusal = apply(&mut catalog, job(JobKind::TransferLeader, Some(1), None)).unwrap_err();
    assert!(matches!(refusal.standing(), Some(Standing::Job(job)) if job.id == JobId(1)));
    assert!(refusal.error().message().contains("job 1"), "{refusal}");

    let refusal = apply(&mut catalog, wanted(2, 999)).unwrap_err();
    assert!(matches!(refusal.standing(), Some(Standing::Node(node)) if node.id == NodeId(2)));
}

#[test]
fn a_shard_keeps_its_quorum_and_a_pending_split_its_replicas() {
    let mut catalog = world();
    let replicas = catalog.view().shard(SHARD).unwrap().replicas.clone();
    kill(&mut catalog, replicas[2].node);
    // Two of three live: neither may go, the lost one may.
    let leave = change(&catalog, SHARD, ShardChange::Leave(replicas[0].id));
    let refusal = apply(&mut catalog, leave);
    assert_eq!(refusal.unwrap_err().kind(), ErrorKind::Refused);
    change_shard(&mut catalog, SHARD, ShardChange::BeginSplit(100));
    let leave = change(&catalog, SHARD, ShardChange::Leave(replicas[2].id));
    assert_eq!(apply(&mut catalog, leave).unwrap_err().kind(), ErrorKind::Conflict);
    change_shard(&mut catalog, SHARD, ShardChange::CancelSplit);
    change_shard(&mut catalog, SHARD, ShardChange::Leave(replicas[2].id));
    // On its way out it stays so, whatever becomes of its node, and goes when its group says so.
    let (node, incarnation) = (replicas[2].node, 100 + replicas[2].node.0);
    done(&mut catalog, Action::Heartbeat { node, incarnation });
    kill(&mut catalog, node);
    let leaving = catalog.view().shard(SHARD).unwrap().replicas[2];
    assert_eq!(leaving.state, ReplicaState::Leaving);
    let again = change(&catalog, SHARD, ShardChange::Leave(leaving.id));
    assert_eq!(apply(&mut catalog, again).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let begin = change(&catalog, SHARD, ShardChange::BeginSplit(100));
    assert_eq!(apply(&mut catalog, begin).unwrap_err().kind(), ErrorKind::Refused);
    let shard = change_shard(&mut catalog, SHARD, ShardChange::Remove(replicas[2].id));
    assert_eq!(shard.replicas.len(), 2);
    // A learner that catches up keeps the shard from being split, and cannot lead.
    let shard = change_shard(&mut catalog, SHARD, ShardChange::AddLearner(NodeId(4)));
    let learner = shard.replica_on(NodeId(4)).unwrap().id;
    let begin = change(&catalog, SHARD, ShardChange::BeginSplit(100));
    assert_eq!(apply(&mut catalog, begin).unwrap_err().kind(), ErrorKind::Refused);
    let lead = Action::SetLeader { shard: SHARD, replica: learner, term: 9 };
    assert_eq!(apply(&mut catalog, lead).unwrap_err().kind(), ErrorKind::Refused);
    // The last voter of a shard stays, whatever is asked.
    let promote = change(&catalog, SHARD, ShardChange::Promote(learner));
    assert_eq!(apply(&mut catalog, promote).unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn a_leader_of_an_older_term_is_not_believed() {
    let mut catalog = world();
    let shard = catalog.view().shard(SHARD).unwrap().clone();
    let set = |replica: usize, term| {
        let replica = shard.replicas[replica].id;
        Action::SetLeader { shard: SHARD, replica, term }
    };
    done(&mut catalog, set(0, 5));
    assert_eq!(catalog.view().shard(SHARD).unwrap().epoch, shard.epoch, "a hint raises no epoch");
    let revision = catalog.view().revision();
    done(&mut catalog, set(0, 5));
    assert_eq!(catalog.view().revision(), revision, "what is known is no change");
    for (replica, term) in [(1, 4), (1, 5), (0, 4)] {
        let refusal = apply(&mut catalog, set(replica, term)).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Conflict);
    }
    done(&mut catalog, set(1, 6));
}

#[test]
fn a_node_is_removed_only_when_it_carries_nothing() {
    let mut catalog = world();
    set_state(&mut catalog, NodeId(1), NodeState::Draining);
    let remove = state(1, NodeState::Draining, NodeState::Removed);
    assert_eq!(apply(&mut catalog, remove).unwrap_err().kind(), ErrorKind::Refused);
    set_state(&mut catalog, NodeId(4), NodeState::Draining);
    let remove = state(4, NodeState::Draining, NodeState::Removed);
    let refusal = apply(&mut catalog, remove.clone()).unwrap_err();
    assert!(refusal.to_string().contains("index i"), "{refusal}");
    done(&mut catalog, Action::SetIndexNodes { name: "i".into(), nodes: vec![NodeId(2)] });
    done(&mut catalog, remove);
    let back = Action::Heartbeat { node: NodeId(4), incarnation: 104 };
    assert_eq!(apply(&mut catalog, back).unwrap_err().kind(), ErrorKind::Refused);
    // Its id stays taken; a new incarnation gets the next one.
    let Outcome::Node(id) = done(&mut catalog, register(500, &[])) else { panic!("no id") };
    assert_eq!(id, NodeId(6));
}

#[test]
fn nodes_may_bring_their_ids_in_any_order_and_come_back_to_them() {
    let mut catalog = Catalog::new();
    done(&mut catalog, init());
    assert_eq!(done(&mut catalog, wanted(3, 33)), Outcome::Node(NodeId(3)));
    assert_eq!(done(&mut catalog, wanted(1, 11)), Outcome::Node(NodeId(1)));
    assert_eq!(done(&mut catalog, register(44, &[])), Outcome::Node(NodeId(4)));
    assert_eq!(done(&mut catalog, register(33, &[("rack", "r")])), Outcome::Node(NodeId(3)));
    let labels = &catalog.view().node(NodeId(3)).unwrap().profile.labels;
    assert_eq!(labels["rack"], "r");
    let revision = catalog.view().revision();
    done(&mut catalog, register(33, &[("rack", "r")]));
    assert_eq!(catalog.view().revision(), revision);
}

#[test]
fn a_job_passes_to_another_owner_when_its_lease_has_run_out() {
    let mut catalog = world();
    let at = |catalog: &mut Catalog, ms: u64, change: JobChange| {
        let action = of_job(1, change);
        catalog.apply(&Command { now_ms: START_MS + ms, id: None, action })
    };
    let claim = |owner| JobChange::Claim { owner, lease_ms: 10_000 };
    assert_eq!(at(&mut catalog, 9_999, claim(8)).unwrap_err().kind(), ErrorKind::Conflict);
    at(&mut catalog, 10_000, claim(8)).unwrap();
    let taken = catalog.view().job(JobId(1)).unwrap();
    assert_eq!((taken.attempts, taken.lease.unwrap().owner), (2, 8));
    let late = JobChange::Advance { owner: 7, lease_ms: 1_000, steps: Vec::new() };
    assert_eq!(at(&mut catalog, 10_001, late).unwrap_err().kind(), ErrorKind::Conflict);
    // Whose lease ran out goes on if nobody else came.
    let advance = JobChange::Advance { owner: 8, lease_ms: 1_000, steps: b"2".to_vec() };
    at(&mut catalog, 90_000, advance).unwrap();
    assert_eq!(catalog.view().job(JobId(1)).unwrap().steps, b"2");
    at(&mut catalog, 90_001, JobChange::Cancel { text: "stop".into() }).unwrap();
    let ended = catalog.view().job(JobId(1)).unwrap();
    assert_eq!((ended.state, ended.lease), (JobState::Cancelled, None));
    assert_eq!(at(&mut catalog, 90_002, claim(8)).unwrap_err().kind(), ErrorKind::Conflict);
    done(&mut catalog, job(JobKind::MoveReplica, Some(1), None));
}

#[test]
fn a_replica_stops_where_it_does_not_understand() {
    let mut catalog = world();
    let raise = Command { now_ms: START_MS, id: None, action: Action::RaiseVersion { to: 2 } };
    let refusal = catalog.apply(&raise).unwrap_err();
    assert_eq!((refusal.kind(), refusal.halts()), (ErrorKind::Unsupported, true));
    let bytes = encode_command(&raise).unwrap();
    assert_eq!(catalog.apply_bytes(&bytes).unwrap_err().kind(), ErrorKind::Unsupported);

    // A newer replica goes on, once every node speaks the version.
    let mut newer = Catalog::speaking(2);
    done(&mut newer, init());
    done(&mut newer, register(1, &[]));
    let refusal = newer.apply_bytes(&bytes).unwrap().unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Refused);
    let mut speaks = profile(&[]);
    speaks.speaks = 2;
    done(&mut newer, Action::RegisterNode { wanted: None, incarnation: 1, profile: speaks });
    newer.apply_bytes(&bytes).unwrap().unwrap();
    assert_eq!(apply(&mut newer, register(2, &[])).unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(Catalog::restore(&newer.snapshot()).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn what_would_stop_every_replica_is_not_encoded() {
    let action = family("x".repeat(COMMAND_BYTES_MAX));
    let error = encode_command(&Command { now_ms: 0, id: None, action }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

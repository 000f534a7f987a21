//! Plans: run to their end on a catalog, with what must hold checked at every step.

use crate::world::{
    apply, change_shard, cluster, counts, done, kill, register, set_state, with_shards,
};
use arqondb::ErrorKind;
use arqondb::catalog::plan::{
    Figures, MemberStep, Members, Move, Plan, ShardFigures, Step, drain, member_step, next_step,
    rebalance, repair,
};
use arqondb::catalog::records::{JobKind, NodeState, Replica, ReplicaState, Shard};
use arqondb::catalog::{Action, Catalog, NodeId, Outcome, ReplicaId, ShardChange, ShardId};
use arqondb::env::Rng;
use std::collections::BTreeMap;

fn live(shard: &Shard) -> usize {
    shard.replicas.iter().filter(|r| r.is_live_voter()).count()
}

/// Takes one step of a move; whether there was one.
fn step(catalog: &mut Catalog, next: &Move) -> bool {
    let id = next.shard();
    let before = catalog.view().shard(id).unwrap().clone();
    match next_step(catalog.view(), next).unwrap() {
        Step::Finished => return false,
        Step::AddLearner(node) => _ = change_shard(catalog, id, ShardChange::AddLearner(node)),
        Step::AwaitLearner(replica) => {
            _ = change_shard(catalog, id, ShardChange::LearnerReady(replica));
        }
        Step::Promote(replica) => _ = change_shard(catalog, id, ShardChange::Promote(replica)),
        Step::TransferLeader(replica) => lead(catalog, id, replica),
        Step::Leave(replica) => {
            assert_ne!(before.leader.map(|l| l.replica), Some(replica), "leaders leave first");
            _ = change_shard(catalog, id, ShardChange::Leave(replica));
        }
        Step::AwaitRemoval(replica) => {
            _ = change_shard(catalog, id, ShardChange::Remove(replica));
        }
    }
    let after = catalog.view().shard(id).unwrap();
    assert!(after.has_quorum(), "never below quorum");
    let floor = live(&before).min(before.desired as usize);
    assert!(live(after) >= floor, "first added, then removed");
    true
}

fn lead(catalog: &mut Catalog, shard: ShardId, replica: arqondb::catalog::ReplicaId) {
    let term = catalog.view().shard(shard).unwrap().leader.map_or(1, |l| l.term + 1);
    done(catalog, Action::SetLeader { shard, replica, term });
}

fn run(catalog: &mut Catalog, next: &Move) {
    let mut steps = 0;
    while step(catalog, next) {
        steps += 1;
        assert!(steps < 10, "a move comes to its end");
    }
}

/// Plans and runs until there is nothing more to do. Gives the last plan and the moves made.
fn settle(catalog: &mut Catalog, mut plan: impl FnMut(&Catalog) -> Plan) -> (Plan, usize) {
    let mut moves = 0;
    for _ in 0..400 {
        let_go(catalog);
        let planned = plan(catalog);
        let mut shards: Vec<_> = planned.moves.iter().map(Move::shard).collect();
        shards.sort();
        shards.dedup();
        assert_eq!(shards.len(), planned.moves.len(), "one move a shard");
        if planned.moves.is_empty() {
            return (planned, moves);
        }
        moves += planned.moves.len();
        planned.moves.iter().for_each(|next| run(catalog, next));
    }
    panic!("plans go on for ever");
}

/// The groups let go of what is leaving, whatever became of the moves that said so.
fn let_go(catalog: &mut Catalog) {
    let leaving = |shard: &Shard| {
        let gone = shard.replicas.iter().filter(|r| r.state == ReplicaState::Leaving);
        gone.map(|r| (shard.id, r.id)).collect::<Vec<_>>()
    };
    let all: Vec<_> = catalog.view().shards().flat_map(leaving).collect();
    for (shard, replica) in all {
        change_shard(catalog, shard, ShardChange::Remove(replica));
    }
}

/// Every shard is led by its first replica.
fn elect(catalog: &mut Catalog) {
    let shards: Vec<(ShardId, _)> =
        catalog.view().shards().map(|s| (s.id, s.replicas[0].id)).collect();
    shards.into_iter().for_each(|(shard, replica)| lead(catalog, shard, replica));
}

fn assert_whole(catalog: &Catalog) {
    for shard in catalog.view().shards() {
        assert_eq!(live(shard), shard.desired as usize, "{shard:?}");
        assert_eq!(shard.replicas.len(), shard.desired as usize, "{shard:?}");
    }
}

fn none() -> ShardFigures {
    ShardFigures::new()
}

fn join(catalog: &mut Catalog, incarnation: u64, zone: &str) -> NodeId {
    let action = register(incarnation, &[("zone", zone)]);
    let Outcome::Node(node) = done(catalog, action) else { panic!("no id") };
    done(catalog, Action::Heartbeat { node, incarnation });
    node
}

#[test]
fn a_dead_node_is_replaced_new_replica_first() {
    let mut catalog = with_shards(&["a", "a", "b", "b", "c", "c"], 12, 3);
    elect(&mut catalog);
    let dead = NodeId(1);
    let hurt = catalog.view().shards_on(dead).count();
    assert!(hurt > 0);
    kill(&mut catalog, dead);
    let plan = repair(catalog.view(), &none(), 100);
    assert_eq!((plan.moves.len(), plan.stuck.len()), (hurt, 0));
    assert_eq!(repair(catalog.view(), &none(), 2).moves.len(), 2.min(hurt));
    let first = next_step(catalog.view(), &plan.moves[0]).unwrap();
    assert_eq!(first, Step::AddLearner(NodeId(2)), "the other node of its zone");
    settle(&mut catalog, |c| repair(c.view(), &none(), 3));
    assert_whole(&catalog);
    assert_eq!(catalog.view().shards_on(dead).count(), 0);
    set_state(&mut catalog, dead, NodeState::Removed);
}

#[test]
fn repair_mends_whatever_was_broken_off() {
    let mut rng = Rng::new(21);
    for _ in 0..60 {
        let zones = ["a", "a", "b", "b", "c", "c", "a"];
        let mut catalog = with_shards(&zones[..5 + rng.below(3) as usize], 6, 3);
        elect(&mut catalog);
        // Moves that stop anywhere on their way, and nodes that die.
        for _ in 0..4 {
            let shard = ShardId(1 + rng.below(6));
            let replicas = &catalog.view().shard(shard).unwrap().replicas;
            let from = replicas[rng.below(replicas.len() as u64) as usize].id;
            let to = NodeId(1 + rng.below(5));
            let next = Move::Replica { shard, from: Some(from), to: Some(to) };
            for _ in 0..rng.below(5) {
                if next_step(catalog.view(), &next).is_ok() {
                    step(&mut catalog, &next);
                }
            }
        }
        let victim = NodeId(1 + rng.below(5));
        kill(&mut catalog, victim);
        if rng.one_in(3) {
            done(&mut catalog, Action::Heartbeat { node: victim, incarnation: 100 + victim.0 });
        }
        let (plan, _) = settle(&mut catalog, |c| repair(c.view(), &none(), 4));
        let quorumless: Vec<ShardId> =
            catalog.view().shards().filter(|s| !s.has_quorum()).map(|s| s.id).collect();
        let mut stuck = plan.stuck;
        stuck.sort();
        assert_eq!(stuck, quorumless);
        if quorumless.is_empty() {
            assert_whole(&catalog);
        }
    }
}

#[test]
fn a_shard_without_quorum_or_without_a_node_is_stuck() {
    let mut catalog = with_shards(&["a", "b", "c"], 1, 3);
    kill(&mut catalog, NodeId(1));
    let plan = repair(catalog.view(), &none(), 10);
    assert_eq!((plan.moves.len(), plan.stuck.as_slice()), (0, &[ShardId(1)][..]));
    join(&mut catalog, 900, "a");
    assert_eq!(repair(catalog.view(), &none(), 10).moves.len(), 1);
    kill(&mut catalog, NodeId(2));
    let plan = repair(catalog.view(), &none(), 10);
    assert_eq!((plan.moves.len(), plan.stuck.as_slice()), (0, &[ShardId(1)][..]));
}

#[test]
fn a_shard_comes_to_the_number_of_voters_it_should_have() {
    let mut catalog = with_shards(&["a", "b", "c", "d", "e"], 2, 3);
    elect(&mut catalog);
    for desired in [5, 1, 3] {
        for shard in [ShardId(1), ShardId(2)] {
            change_shard(&mut catalog, shard, ShardChange::SetDesired(desired));
        }
        settle(&mut catalog, |c| repair(c.view(), &none(), 1));
        assert_whole(&catalog);
    }
}

#[test]
fn a_drained_node_loses_its_leaders_first_and_then_all() {
    let mut catalog = with_shards(&["a", "b", "c", "a", "b", "c"], 18, 3);
    elect(&mut catalog);
    let node = NodeId(1);
    set_state(&mut catalog, node, NodeState::Draining);
    let led = catalog.view().shards().filter(|s| s.leader_node() == Some(node)).count();
    assert!(led > 0);
    let plan = drain(catalog.view(), node, &none(), 100);
    let is_leader = |m: &Move| matches!(m, Move::Leader { .. });
    assert_eq!(plan.moves.iter().filter(|m| is_leader(m)).count(), led);
    assert!(plan.moves.iter().take(led).all(is_leader));
    let (plan, _) = settle(&mut catalog, |c| drain(c.view(), node, &none(), 4));
    assert!(plan.stuck.is_empty());
    assert_eq!(catalog.view().shards_on(node).count(), 0);
    assert_whole(&catalog);
    set_state(&mut catalog, node, NodeState::Removed);
}

#[test]
fn the_only_replica_of_a_shard_is_drained_too() {
    let mut catalog = with_shards(&["a"], 2, 1);
    elect(&mut catalog);
    set_state(&mut catalog, NodeId(1), NodeState::Draining);
    let plan = drain(catalog.view(), NodeId(1), &none(), 10);
    assert_eq!((plan.moves.len(), plan.stuck.len()), (0, 2), "there is nowhere to go");
    join(&mut catalog, 900, "b");
    settle(&mut catalog, |c| drain(c.view(), NodeId(1), &none(), 1));
    assert_eq!(catalog.view().shards_on(NodeId(1)).count(), 0);
    assert_whole(&catalog);
}

fn spread(values: impl IntoIterator<Item = u64>) -> u64 {
    let values: Vec<u64> = values.into_iter().collect();
    values.iter().max().unwrap() - values.iter().min().unwrap()
}

#[test]
fn new_nodes_get_their_share_and_nothing_is_moved_back() {
    let mut catalog = with_shards(&["a", "b", "c"], 16, 3);
    elect(&mut catalog);
    for (i, zone) in ["a", "b", "c"].iter().enumerate() {
        join(&mut catalog, 900 + i as u64, zone);
    }
    let (_, moves) = settle(&mut catalog, |c| rebalance(c.view(), &none(), 5));
    let counts = counts(&catalog);
    assert!(spread(counts.values().map(|n| *n as u64)) <= 1, "{counts:?}");
    let mut led: BTreeMap<NodeId, u64> = counts.keys().map(|n| (*n, 0)).collect();
    for node in catalog.view().shards().filter_map(Shard::leader_node) {
        *led.get_mut(&node).unwrap() += 1;
    }
    assert!(spread(led.values().copied()) <= 1, "{led:?}");
    assert!(moves <= 24 + 16, "{moves} moves for 24 replicas and 16 leaders");
    assert_whole(&catalog);
}

#[test]
fn a_new_zone_takes_replicas_of_crowded_ones() {
    let mut catalog = with_shards(&["a", "a", "b", "b"], 8, 3);
    elect(&mut catalog);
    join(&mut catalog, 900, "c");
    join(&mut catalog, 901, "c");
    settle(&mut catalog, |c| rebalance(c.view(), &none(), 3));
    for shard in catalog.view().shards() {
        let zone = |n: NodeId| catalog.view().node(n).unwrap().profile.labels["zone"].clone();
        let mut zones: Vec<_> = shard.replicas.iter().map(|r| zone(r.node)).collect();
        zones.sort();
        assert_eq!(zones, ["a", "b", "c"]);
    }
}

#[test]
fn bytes_and_load_are_evened_out_and_plans_come_to_an_end() {
    let mut rng = Rng::new(31);
    for round in 0..25 {
        let zones: Vec<&str> = (0..4 + round % 4).map(|_| "").collect();
        let mut catalog = with_shards(&zones, 24, 1 + 2 * (round as u32 % 2));
        elect(&mut catalog);
        let figures: ShardFigures = catalog
            .view()
            .shards()
            .map(|s| (s.id, Figures { bytes: rng.below(1_000) + 1, load: rng.below(100) + 1 }))
            .collect();
        let bytes = |catalog: &Catalog| {
            let mut sums: BTreeMap<NodeId, u64> = BTreeMap::new();
            for shard in catalog.view().shards() {
                for replica in &shard.replicas {
                    *sums.entry(replica.node).or_default() += figures[&shard.id].bytes;
                }
            }
            sums
        };
        let load = |catalog: &Catalog| {
            let mut sums: BTreeMap<NodeId, u64> =
                catalog.view().nodes().map(|n| (n.id, 0)).collect();
            for shard in catalog.view().shards() {
                *sums.get_mut(&shard.leader_node().unwrap()).unwrap() += figures[&shard.id].load;
            }
            sums
        };
        let before = (spread(bytes(&catalog).into_values()), spread(load(&catalog).into_values()));
        settle(&mut catalog, |c| rebalance(c.view(), &figures, 6));
        let after = bytes(&catalog);
        let average = after.values().sum::<u64>() / after.len() as u64;
        assert!(spread(after.values().copied()) <= before.0.max(average / 2));
        let top = after.values().max().unwrap();
        assert!(*top <= average + average / 3, "round {round}: {after:?} around {average}");
        let after = load(&catalog);
        let average = after.values().sum::<u64>() / after.len() as u64;
        let top = after.values().max().unwrap();
        assert!(*top <= average + average / 2, "round {round}: load {after:?} around {average}");
        let counts = counts(&catalog);
        assert!(spread(counts.values().map(|n| *n as u64)) <= 1, "{counts:?}");
        assert_whole(&catalog);
    }
}

#[test]
fn what_is_even_enough_is_left_alone() {
    let mut catalog = with_shards(&["", ""], 4, 1);
    elect(&mut catalog);
    // An exchange would only make the nodes change places, or win next to nothing.
    for bytes in [[100, 90, 10, 10], [100, 100, 10, 5]] {
        let figures: ShardFigures =
            (1..).map(ShardId).zip(bytes.map(|bytes| Figures { bytes, load: bytes })).collect();
        assert_eq!(rebalance(catalog.view(), &figures, 10), Plan::default());
    }
}

#[test]
fn shards_with_a_job_or_a_split_are_left_alone() {
    let mut catalog = with_shards(&["a", "b", "c"], 3, 3);
    join(&mut catalog, 900, "a");
    let job = Action::CreateJob {
        kind: JobKind::MoveReplica,
        shard: Some(ShardId(1)),
        node: None,
        steps: Vec::new(),
    };
    done(&mut catalog, job);
    change_shard(&mut catalog, ShardId(2), ShardChange::BeginSplit(6_000));
    kill(&mut catalog, NodeId(1));
    for plan in [
        repair(catalog.view(), &none(), 10),
        drain(catalog.view(), NodeId(1), &none(), 10),
        rebalance(catalog.view(), &none(), 10),
    ] {
        assert!(plan.moves.iter().all(|m| m.shard() == ShardId(3)), "{plan:?}");
    }
    assert_eq!(repair(catalog.view(), &none(), 10).moves.len(), 1);
}

#[test]
fn a_move_that_lost_its_sense_says_so() {
    let mut catalog = with_shards(&["a", "b", "c"], 1, 3);
    let shard = ShardId(1);
    let lost = catalog.view().shard(shard).unwrap().replicas[2];
    kill(&mut catalog, lost.node);
    let others: Vec<_> = catalog.view().shard(shard).unwrap().replicas.clone();
    let sound = others.iter().find(|r| r.state != ReplicaState::Lost).unwrap();
    let gone = ShardId(99);
    for (next, kind) in [
        (Move::Leader { shard, to: lost.id }, ErrorKind::Refused),
        (Move::Replica { shard, from: Some(sound.id), to: None }, ErrorKind::Refused),
        (Move::Replica { shard, from: None, to: Some(lost.node) }, ErrorKind::Refused),
        // To where it is, or where another is: that would only take a replica away.
        (Move::Replica { shard, from: Some(sound.id), to: Some(sound.node) }, ErrorKind::Refused),
        (Move::Leader { shard: gone, to: lost.id }, ErrorKind::NotFound),
    ] {
        assert_eq!(next_step(catalog.view(), &next).unwrap_err().kind(), kind);
    }
    let away = Move::Replica { shard, from: Some(lost.id), to: None };
    run(&mut catalog, &away);
    assert_eq!(next_step(catalog.view(), &away).unwrap(), Step::Finished);
}

#[test]
fn shards_need_as_many_nodes_as_replicas() {
    let mut catalog = cluster(&["a", "b"]);
    let create = |nodes: &[u64]| Action::CreateShards {
        count: 4,
        replicas: 3,
        nodes: nodes.iter().copied().map(NodeId).collect(),
    };
    assert_eq!(apply(&mut catalog, create(&[])).unwrap_err().kind(), ErrorKind::Refused);
    for incarnation in [900, 901] {
        join(&mut catalog, incarnation, "c");
    }
    assert_eq!(apply(&mut catalog, create(&[1, 2, 9])).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(apply(&mut catalog, create(&[1, 2, 1])).unwrap_err().kind(), ErrorKind::Refused);
    done(&mut catalog, create(&[1, 2, 4]));
    assert_eq!(catalog.view().shards_on(NodeId(3)).count(), 0, "only the nodes that were named");
}

/// While such a change is not agreed on nothing else is, and nothing is written: who is silent must be
/// in the old voters and in the new.
#[test]
fn voters_are_not_changed_to_a_set_whose_majority_is_silent() {
    let mut catalog = with_shards(&["a", "b", "c"], 1, 3);
    let [own, leaving, silent] =
        [0, 1, 2].map(|n| catalog.view().shards().next().unwrap().replicas[n].id);
    let shard = change_shard(&mut catalog, ShardId(1), ShardChange::Leave(leaving));
    let mut members = Members {
        own,
        voters: vec![[own, leaving, silent].into()],
        learners: [].into(),
        caught_up: vec![own, leaving],
    };
    assert_eq!(member_step(&shard, &members), None);
    let goal = MemberStep::SetVoters([own, silent].into());
    members.caught_up.push(silent);
    assert_eq!(member_step(&shard, &members), Some(goal.clone()));
    // Half done already, it is finished: there is no way back.
    members.voters.push([own, silent].into());
    members.caught_up = vec![own, leaving];
    assert_eq!(member_step(&shard, &members), Some(goal));
    // One that is silent among three is no hindrance.
    let shard = catalog.view().shard(ShardId(1)).unwrap().clone();
    members.voters = vec![[own, leaving, silent, ReplicaId(99)].into()];
    let mut wider = shard.clone();
    wider.replicas.push(Replica { id: ReplicaId(99), node: NodeId(9), ..shard.replicas[0] });
    members.caught_up = vec![own, ReplicaId(99)];
    let goal = [own, silent, ReplicaId(99)].into();
    assert_eq!(member_step(&wider, &members), Some(MemberStep::SetVoters(goal)));
}

//! Replicas that go and come: repair, draining, moves, and all that may come between.

use crate::world::{Ways, World, soon};
use crate::writer::Writers;
use arqondb::catalog::plan::Move;
use arqondb::catalog::records::{JobKind, JobState, NodeState, Replica, ReplicaState, Shard};
use arqondb::catalog::{Action, JobChange, JobId, NodeId, Outcome, ShardId, View};
use arqondb::meta::jobs::Order;
use arqondb::rpc::cluster::MetaClient;
use std::path::Path;

/// Every shard has as many voters as it should, and nothing else; no job is under way.
fn is_whole(view: &View) -> bool {
    let whole = |shard: &Shard| {
        shard.replicas.len() == shard.desired as usize
            && shard.replicas.iter().all(Replica::is_live_voter)
            && shard.leader.is_some()
    };
    view.shards().all(whole) && view.jobs().all(|job| !job.state.is_active())
}

pub(crate) fn holds(view: &View, node: u64) -> usize {
    view.shards_on(NodeId(node)).count()
}

fn state(view: &View, node: u64) -> NodeState {
    view.node(NodeId(node)).unwrap().state
}

async fn wait(client: &MetaClient, what: &str, is_it: impl FnMut(&View) -> bool) {
    let waited = client.wait_for(soon(), is_it).await;
    let view = client.view();
    let shards: Vec<&Shard> = view.shards().collect();
    let jobs: Vec<_> = view.jobs().filter(|job| job.state.is_active()).collect();
    assert!(waited.is_ok(), "{what}: {shards:#?} {jobs:#?}");
}

/// A client that has the catalog.
pub(crate) async fn known(world: &World) -> MetaClient {
    let client = world.client();
    wait(&client, "shards", |view| view.shards().next().is_some()).await;
    client
}

pub(crate) async fn begin(client: &MetaClient, kind: JobKind, node: u64) -> JobId {
    let steps = Order::many(0).encode();
    let node = Some(NodeId(node)).filter(|_| kind.needs_node());
    job(client, Action::CreateJob { kind, shard: None, node, steps }).await
}

async fn job(client: &MetaClient, action: Action) -> JobId {
    match client.propose(action, soon()).await.unwrap().outcome {
        Outcome::Job(id) => id,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn ended(view: &View, job: JobId) -> Option<JobState> {
    Some(view.job(job)?.state).filter(|state| !state.is_active())
}

/// The groups that have a folder at a node.
fn groups(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("groups")).map_or(0, |entries| entries.count())
}

/// What the catalog says of the groups is so: each does without any one node.
async fn each_node_can_be_missed(world: &mut World, nodes: &[usize]) {
    let door = world.gateway();
    for node in nodes {
        world.stop_node(*node).await;
        let writers = Writers::start(&door, 2, 16);
        writers.more(40).await;
        writers.end(&door).await;
        world.start_node(*node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_replaced_without_hands_while_clients_write() {
    let mut world = World::cluster_with(1, 4, 4, 3, Ways::hasty()).await;
    let (client, door) = (known(&world).await, world.gateway());
    let writers = Writers::start(&door, 4, 64);
    writers.more(200).await;
    assert!(holds(&client.view(), 2) > 0);
    world.stop_node(2).await;
    wait(&client, "dead", |view| state(view, 2) == NodeState::Dead).await;
    wait(&client, "replaced", |view| is_whole(view) && holds(view, 2) == 0).await;
    writers.more(200).await;
    writers.end(&world.gateway()).await;
    assert!(client.view().jobs().any(|job| job.kind == JobKind::ReplaceDead));
    each_node_can_be_missed(&mut world, &[1, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_comes_back_as_another_and_takes_its_share() {
    let mut world = World::cluster_with(1, 3, 4, 3, Ways::hasty()).await;
    let (client, door) = (known(&world).await, world.gateway());
    let writers = Writers::start(&door, 4, 64);
    writers.more(200).await;
    world.stop_node(3).await;
    std::fs::remove_dir_all(world.folder(3)).unwrap();
    world.start_node(3).await;
    assert_eq!(world.nodes[&3].member.id(), 4, "its old number is not given again");
    wait(&client, "replaced", |view| is_whole(view) && holds(view, 3) == 0 && holds(view, 4) == 4)
        .await;
    writers.more(200).await;
    writers.end(&world.gateway()).await;
    each_node_can_be_missed(&mut world, &[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_drained_and_removed_and_no_request_fails() {
    let mut world = World::cluster_with(1, 4, 6, 3, Ways::default()).await;
    let (client, door) = (known(&world).await, world.gateway());
    let writers = Writers::start(&door, 4, 64);
    writers.more(100).await;
    let drain = begin(&client, JobKind::DrainNode, 1).await;
    wait(&client, "drained", |view| ended(view, drain).is_some()).await;
    let view = client.view();
    assert_eq!((ended(&view, drain), holds(&view, 1)), (Some(JobState::Done), 0));
    assert_eq!(state(&view, 1), NodeState::Draining, "it stays empty");
    let remove = begin(&client, JobKind::RemoveNode, 1).await;
    wait(&client, "removed", |view| ended(view, remove).is_some() && is_whole(view)).await;
    let view = client.view();
    assert_eq!((ended(&view, remove), state(&view, 1)), (Some(JobState::Done), NodeState::Removed));
    writers.more(100).await;
    let (longest, count) = writers.end(&door).await;
    eprintln!("a drain under {count} writes: the longest took {longest:?}");
    let until = soon();
    while groups(&world.folder(1)) > 0 {
        assert!(tokio::time::Instant::now() < until, "what was removed is deleted");
        tokio::task::yield_now().await;
    }
    world.stop_node(1).await;
    each_node_can_be_missed(&mut world, &[2, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leading_replica_moves_and_an_only_one_too() {
    for replicas in [3, 1] {
        let world = World::cluster(1, replicas as usize + 1, 1, replicas).await;
        let (client, door) = (known(&world).await, world.gateway());
        let writers = Writers::start(&door, 2, 64);
        writers.more(50).await;
        let shard = client.view().shards().next().unwrap().clone();
        let leader = shard.replica_on(shard.leader_node().unwrap()).unwrap().id;
        let spare = client.view().nodes().map(|n| n.id).find(|n| shard.replica_on(*n).is_none());
        let moved = Move::Replica { shard: shard.id, from: Some(leader), to: spare };
        let (kind, steps) = (JobKind::MoveReplica, Order::of_move(&moved, None).encode());
        let action = Action::CreateJob { kind, shard: Some(shard.id), node: None, steps };
        let id = job(&client, action).await;
        wait(&client, "moved", |view| ended(view, id).is_some() && is_whole(view)).await;
        let view = client.view();
        assert_eq!(view.job(id).unwrap().state, JobState::Done, "{:?}", view.job(id));
        let now = view.shard(shard.id).unwrap();
        assert!(now.replica(leader).is_none() && now.replica_on(spare.unwrap()).is_some());
        writers.more(50).await;
        writers.end(&world.gateway()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_goes_on_when_the_metadata_leader_stops() {
    let mut world = World::cluster(3, 4, 6, 3).await;
    let (client, door) = (known(&world).await, world.gateway());
    let writers = Writers::start(&door, 2, 64);
    let drain = begin(&client, JobKind::DrainNode, 2).await;
    for _ in 0..2 {
        wait(&client, "a move is under way", |view| {
            let moves = |s: &Shard| s.replicas.iter().any(|r| r.state == ReplicaState::Joining);
            view.shards().any(moves) || ended(view, drain).is_some()
        })
        .await;
        let until = soon();
        let leader = loop {
            assert!(tokio::time::Instant::now() < until, "nobody leads");
            match world.leading_meta() {
                Some(leader) => break leader,
                None => tokio::task::yield_now().await,
            }
        };
        world.stop_meta(leader).await;
        writers.more(50).await;
        world.start_meta(leader).await;
    }
    wait(&client, "drained", |view| ended(view, drain).is_some() && is_whole(view)).await;
    assert_eq!((ended(&client.view(), drain), holds(&client.view(), 2)), (Some(JobState::Done), 0));
    writers.more(50).await;
    writers.end(&world.gateway()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_is_called_off_leaves_whole_shards_and_an_active_node() {
    let mut world = World::cluster(1, 4, 6, 3).await;
    let (client, door) = (known(&world).await, world.gateway());
    let writers = Writers::start(&door, 2, 64);
    for round in 0..3 {
        let drain = begin(&client, JobKind::DrainNode, 1).await;
        wait(&client, "a move is under way", |view| {
            view.shards().any(|shard| shard.replicas.len() as u32 > shard.desired)
        })
        .await;
        let change = JobChange::Cancel { text: format!("round {round}") };
        client.propose(Action::ChangeJob { job: drain, change }, soon()).await.unwrap();
        wait(&client, "mended", |view| {
            is_whole(view) && (state(view, 1) == NodeState::Active || holds(view, 1) == 0)
        })
        .await;
        assert_eq!(ended(&client.view(), drain), Some(JobState::Cancelled));
    }
    writers.end(&world.gateway()).await;
    each_node_can_be_missed(&mut world, &[1, 4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_while_it_is_replaced_does_no_harm() {
    let mut world = World::cluster_with(1, 4, 6, 3, Ways::hasty()).await;
    let (client, door) = (known(&world).await, world.gateway());
    let writers = Writers::start(&door, 2, 64);
    writers.more(100).await;
    world.stop_node(2).await;
    wait(&client, "being replaced", |view| {
        let replaces = |job: &arqondb::catalog::records::Job| job.kind == JobKind::ReplaceDead;
        view.jobs().any(replaces) && view.shards().any(|s| s.replicas.len() as u32 > s.desired)
    })
    .await;
    world.start_node(2).await;
    wait(&client, "whole", |view| is_whole(view) && state(view, 2) == NodeState::Active).await;
    writers.more(100).await;
    writers.end(&world.gateway()).await;
    each_node_can_be_missed(&mut world, &[1, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_gets_its_share() {
    let mut world = World::cluster(1, 3, 8, 3).await;
    let (client, door) = (known(&world).await, world.gateway());
    let writers = Writers::start(&door, 2, 64);
    world.start_node(4).await;
    wait(&client, "it is there", |view| {
        view.node(NodeId(4)).is_some_and(|node| node.state == NodeState::Active)
    })
    .await;
    let id = begin(&client, JobKind::Rebalance, 0).await;
    wait(&client, "even", |view| ended(view, id).is_some() && is_whole(view)).await;
    let counts: Vec<usize> = (1..=4).map(|node| holds(&client.view(), node)).collect();
    assert_eq!(counts, [6; 4]);
    assert!(client.view().shard(ShardId(1)).is_some());
    writers.end(&world.gateway()).await;
}

//! Whoever operates the cluster: begins it, and moves its replicas about.
// tidy: sleeps because time is simulated

use crate::process::{Common, Process};
use arqondb::ErrorKind;
use arqondb::catalog::plan::{Move, Step, next_step};
use arqondb::catalog::records::NodeState;
use arqondb::catalog::{Action, ShardChange, View};
use arqondb::env::Rng;
use arqondb::gateway::{Node, NodeId, RemoteShards};
use arqondb::rpc::cluster::MetaClient;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(3);
/// No shard is split that makes more.
const SHARDS_MAX: usize = 7;

/// What the operator is to do, and how far it is.
#[derive(Clone, Default)]
pub(crate) struct Orders {
    pub(crate) nodes_are_there: Arc<AtomicBool>,
    pub(crate) shards_are_led: Arc<AtomicBool>,
    pub(crate) moving: Arc<AtomicBool>,
    pub(crate) splitting: Arc<AtomicBool>,
    /// Steps of moves that were done, and splits that were.
    pub(crate) steps: Arc<AtomicU64>,
    pub(crate) splits: Arc<AtomicU64>,
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Begins the cluster, and then moves replicas as long as that is ordered.
pub(crate) fn start(
    process: &Process,
    common: &Common,
    orders: &Orders,
    shards: u32,
    replicas: u32,
    rng: Rng,
) {
    let (client, orders) = (process.within(|| common.client(&process.local)), orders.clone());
    let nodes = move |view: &View| {
        view.nodes().filter(|n| n.state == NodeState::Active).count() >= replicas as usize
    };
    process.spawn(async move {
        let init = Action::InitCluster { id: [7; 16], name: "sim".into(), version: 1 };
        insist(&client, init).await;
        while !orders.nodes_are_there.load(Ordering::Relaxed) || !nodes(&client.view()) {
            sleep(Duration::from_millis(20)).await;
        }
        insist(&client, Action::CreateShards { count: shards, replicas, nodes: Vec::new() }).await;
        let led = |view: &View| {
            view.shards().count() == shards as usize && view.shards().all(|s| s.leader.is_some())
        };
        while client.wait_for(soon(), led).await.is_err() {}
        orders.shards_are_led.store(true, Ordering::Relaxed);
        keep_moving(client, orders, rng).await;
    });
}

async fn insist(client: &MetaClient, action: Action) {
    while let Err(error) = client.propose(action.clone(), soon()).await {
        if error.kind() == ErrorKind::AlreadyExists {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn keep_moving(client: MetaClient, orders: Orders, mut rng: Rng) {
    let shards = RemoteShards::new(client.clone());
    loop {
        sleep(Duration::from_millis(500 + rng.below(4_000))).await;
        if orders.splitting.load(Ordering::Relaxed) && rng.one_in(3) {
            split(&client, &orders, &mut rng).await;
        }
        if !orders.moving.load(Ordering::Relaxed) {
            continue;
        }
        let Some(planned) = draw(&client.view(), &mut rng) else { continue };
        let until = Instant::now() + Duration::from_secs(5 + rng.below(25));
        while Instant::now() < until && orders.moving.load(Ordering::Relaxed) {
            let view = client.view();
            let Ok(step) = next_step(&view, &planned) else { break };
            if step == Step::Finished {
                break;
            }
            if take(&client, &shards, &view, &planned, step).await {
                orders.steps.fetch_add(1, Ordering::Relaxed);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Asks for a split of a shard somewhere, and waits a while for it.
async fn split(client: &MetaClient, orders: &Orders, rng: &mut Rng) {
    let view = client.view();
    let shards: Vec<_> = view.shards().collect();
    let Some(shard) = shards.get(rng.below(shards.len() as u64) as usize) else { return };
    if shards.len() >= SHARDS_MAX || shard.slots.count() < 2 {
        return;
    }
    let at = shard.slots.first + 1 + rng.below(u64::from(shard.slots.count()) - 1) as u16;
    let (id, expected, change) = (shard.id, shard.epoch, ShardChange::BeginSplit(at));
    // One that is refused is asked for again, of another shard.
    _ = client.propose(Action::ChangeShard { shard: id, expected, change }, soon()).await;
    let is_split =
        |view: &View| view.shard(id).is_some_and(|s| s.split.is_none() && s.slots.last < at);
    let until = Instant::now() + Duration::from_secs(rng.below(20));
    if client.wait_for(until, is_split).await.is_ok() {
        orders.splits.fetch_add(1, Ordering::Relaxed);
    }
}

fn draw(view: &View, rng: &mut Rng) -> Option<Move> {
    let shards: Vec<_> = view.shards().collect();
    let shard = shards.get(rng.below(shards.len() as u64) as usize)?;
    let replica = shard.replicas[rng.below(shard.replicas.len() as u64) as usize];
    let free: Vec<_> = view
        .nodes()
        .filter(|n| n.state == NodeState::Active && shard.replica_on(n.id).is_none())
        .map(|n| n.id)
        .collect();
    let to = free.get(rng.below(free.len() as u64) as usize).copied();
    let voters = shard.replicas.iter().filter(|r| r.is_live_voter()).count() as u32;
    Some(match rng.below(4) {
        0 => Move::Leader { shard: shard.id, to: replica.id },
        1 if voters > shard.desired => {
            Move::Replica { shard: shard.id, from: Some(replica.id), to: None }
        }
        1 => Move::Replica { shard: shard.id, from: None, to },
        _ => Move::Replica { shard: shard.id, from: Some(replica.id), to: Some(to?) },
    })
}

async fn take(
    client: &MetaClient,
    shards: &RemoteShards,
    view: &View,
    planned: &Move,
    step: Step,
) -> bool {
    let Some(shard) = view.shard(planned.shard()) else { return false };
    let change = match step {
        Step::AddLearner(node) => ShardChange::AddLearner(node),
        Step::Promote(replica) => ShardChange::Promote(replica),
        Step::Leave(replica) => ShardChange::Leave(replica),
        Step::TransferLeader(to) => {
            let leader = shard.leader_node().and_then(|node| view.node(node));
            let Some(leader) = leader else { return false };
            let address = leader.profile.raft_addr.as_str().into();
            let from = Node { id: NodeId(leader.id.0), address, redis: None };
            return shards.transfer(&from, shard.id.0, to.0, PATIENCE).await.is_ok();
        }
        Step::AwaitLearner(_) | Step::AwaitRemoval(_) | Step::Finished => return false,
    };
    let action = Action::ChangeShard { shard: shard.id, expected: shard.epoch, change };
    client.propose(action, soon()).await.is_ok()
}

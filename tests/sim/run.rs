//! One simulation, from its seed to its end.
// tidy: sleeps because time is simulated

use crate::check::{Ends, check};
use crate::clients::{COUNTERS, Client, LISTS, REGISTERS, SETS};
use crate::echo::EchoingShards;
use crate::faults::Faults;
use crate::history::History;
use crate::invariants::{Invariants, told};
use crate::operator::{self, Orders};
use crate::process::{Common, Process};
use crate::shape::Shape;
use crate::subscribers::{self, Told};
use crate::time::{MS, SECOND};
use crate::trace::Trace;
use crate::world::{Kind, World};
use arqondb::base::CfId;
use arqondb::env::Rng;
use arqondb::gateway::{Consistency, Gateway, GatewayOptions};
use arqondb::op::kv::{Expiry, Write};
use arqondb::op::{KvOps, Request};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a cluster that was mended may take until everyone can write everywhere.
const LIVE_WITHIN: u64 = 30 * SECOND;
/// How long until all replicas hold the same.
const SETTLED_WITHIN: u64 = 120 * SECOND;
/// How often what always holds is looked at.
const LOOK_EVERY: u64 = 200 * MS;
/// How often at what may show for a moment only.
const GLANCE_EVERY: u64 = 50 * MS;

/// How often a gateway looks for transactions that were left behind, and after how long they are.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
const LEFT_BEHIND: Duration = Duration::from_secs(4);

/// What a simulation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) simulated_ms: u64,
    pub(crate) requests: u64,
    pub(crate) unknown: u64,
    pub(crate) failed: u64,
    pub(crate) faults: u64,
    pub(crate) starts: u64,
    pub(crate) steps: u64,
    pub(crate) splits: u64,
    /// Snapshots that replicas have taken over.
    pub(crate) installs: u64,
    pub(crate) looks: u64,
    /// Changes of the catalog that subscribers were told.
    pub(crate) heard: u64,
    /// Vectors in segments or postings in the end, by what the leaders tell.
    pub(crate) sealed: u64,
}

/// # Panics
/// If anything is not as it should be.
pub(crate) fn run(seed: u64, length: u64, calm: bool, trace: &Trace) -> Report {
    let (history, told_of) = (History::default(), Told::default());
    let (stop, running) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let on_gateway = {
        let (history, stop, running) = (history.clone(), stop.clone(), running.clone());
        let told_of = told_of.clone();
        let rng = Mutex::new(Rng::new(seed ^ 0xC11E));
        let shape = Shape::draw(&mut Rng::new(seed), length, calm);
        Box::new(move |process: &Process, number: usize, common: &Common| {
            let mut rng = rng.lock().unwrap().fork();
            // The last of them reads by leases, which trust clocks.
            let by_lease = number == 3 && shape.lag_ppm == 0;
            let options = options(&mut rng, by_lease);
            let door = process.within(|| common.gateway(&process.local, options));
            process.spawn(sweep(door.clone()));
            subscribers::subscribe(process, common, &told_of, rng.fork());
            for _ in 0..shape.clients {
                let client = Client {
                    door: door.clone(),
                    local: process.local.clone(),
                    history: history.clone(),
                    number: rng.next_u64(),
                    rng: rng.fork(),
                    rest_max: shape.rest_max,
                    stop: stop.clone(),
                    old_map: None,
                    led: BTreeMap::new(),
                    form: shape.index,
                    has_index: false,
                    requests: 0,
                    running: running.clone(),
                };
                running.fetch_add(1, Ordering::Relaxed);
                process.spawn(client.run());
            }
        })
    };
    let mut world = World::new(seed, (length, calm), trace.clone(), on_gateway);
    let orders = Orders::default();
    begin(&mut world, &orders);
    let operator = world.sites(|kind| kind == Kind::Operator)[0];
    let rng = world.rng.fork();
    let process = world.hosts[operator].process.as_ref().unwrap();
    subscribers::subscribe(process, &world.common, &told_of, rng);
    let mut invariants = Invariants::default();
    let faults = trouble(&mut world, &orders, &mut invariants);
    world.heal();
    orders.moving.store(false, Ordering::Relaxed);
    orders.splitting.store(false, Ordering::Relaxed);
    live(&mut world);
    stop.store(true, Ordering::Relaxed);
    // Those of gateways that were ended are not counted off.
    world.until(40 * SECOND, |_| running.load(Ordering::Relaxed) == 0);
    let ends = last_reads(&mut world, &history, seed);
    settle(&mut world, &mut invariants);
    subscribers::all_have_heard(&mut world, &told_of);
    subscribers::compare(&told_of, &invariants.views);
    check(&history.inner(), &ends);
    let (hash, events) = trace.sum();
    let inner = history.inner();
    Report {
        hash,
        events,
        simulated_ms: world.now / MS,
        requests: inner.requests,
        unknown: inner.unknown,
        failed: inner.failed,
        faults: faults.done.values().sum(),
        starts: world.starts,
        steps: orders.steps.load(Ordering::Relaxed),
        splits: orders.splits.load(Ordering::Relaxed),
        installs: invariants.installs,
        looks: invariants.looks,
        heard: told_of.heard(),
        sealed: ends.sealed,
    }
}

/// Settles what other gateways left behind, as the program does.
async fn sweep(door: Arc<Gateway<EchoingShards>>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        _ = door.sweep_transactions(LEFT_BEHIND).await;
    }
}

fn options(rng: &mut Rng, by_lease: bool) -> GatewayOptions {
    GatewayOptions {
        call_timeout: Duration::from_millis(2_000 + rng.below(8_000)),
        consistency: if by_lease { Consistency::Lease } else { Consistency::Linearizable },
        fan_out_max: 1 + rng.below(4) as usize,
        ..GatewayOptions::default()
    }
}

/// Starts everything, and waits until it works.
fn begin(world: &mut World, orders: &Orders) {
    for site in world.sites(|kind| !matches!(kind, Kind::Gateway(_))) {
        world.start(site);
    }
    let operator = world.sites(|kind| kind == Kind::Operator)[0];
    let (shards, replicas) = (world.shape.shards, world.shape.replicas);
    let rng = world.rng.fork();
    if let Some(process) = &world.hosts[operator].process {
        operator::start(process, &world.common, orders, shards, replicas, rng);
    }
    let are_there = |world: &World| {
        let nodes = world.sites(|kind| matches!(kind, Kind::Node(_)));
        let open = |site: &usize| world.hosts[*site].process.as_ref()?.member();
        nodes.iter().all(|site| open(site).is_some())
    };
    assert!(world.until(60 * SECOND, are_there), "the nodes do not register");
    orders.nodes_are_there.store(true, Ordering::Relaxed);
    let led = |_: &World| orders.shards_are_led.load(Ordering::Relaxed);
    assert!(world.until(60 * SECOND, led), "the shards find no leaders: {}", told(world));
    for site in world.sites(|kind| matches!(kind, Kind::Gateway(_))) {
        world.start(site);
    }
}

/// Lets clients and faults have their way.
fn trouble(world: &mut World, orders: &Orders, invariants: &mut Invariants) -> Faults {
    let mut faults = Faults::new(world);
    orders.moving.store(world.shape.moves, Ordering::Relaxed);
    orders.splitting.store(world.shape.splits, Ordering::Relaxed);
    let end = world.now + world.shape.length;
    let (mut look_at, mut glance_at) = (world.now, world.now);
    while world.now < end {
        world.step();
        faults.turn(world);
        if glance_at <= world.now {
            invariants.glance(world);
            glance_at = world.now + GLANCE_EVERY;
        }
        if look_at <= world.now {
            invariants.look(world);
            look_at = world.now + LOOK_EVERY;
        }
    }
    faults
}

/// Starts a gateway on the operator's host, and has it do something.
fn ask<F>(world: &World, task: impl FnOnce(Client) -> F, history: &History, seed: u64)
where
    F: Future<Output = ()> + Send + 'static,
{
    let operator = world.sites(|kind| kind == Kind::Operator)[0];
    let process = world.hosts[operator].process.as_ref().unwrap();
    let options = GatewayOptions::default();
    let client = Client {
        door: process.within(|| world.common.gateway(&process.local, options)),
        local: process.local.clone(),
        history: history.clone(),
        rng: Rng::new(seed),
        rest_max: MS,
        stop: Arc::default(),
        old_map: None,
        led: BTreeMap::new(),
        form: world.shape.index,
        has_index: false,
        number: seed,
        requests: 0,
        running: Arc::new(AtomicU64::new(1)),
    };
    process.spawn(task(client));
}

/// Everything that was mended works again, soon.
fn live(world: &mut World) {
    let done = Arc::new(AtomicU64::new(0));
    let told_done = done.clone();
    const KEYS: u64 = 48;
    let probe = move |client: Client| async move {
        for n in 0..KEYS {
            let key = Bytes::from(format!("probe-{n}"));
            let put = Write::Put {
                cf: CfId::DEFAULT,
                key,
                value: Bytes::from_static(b"x"),
                expiry: Expiry::Never,
            };
            while client
                .door
                .call(Request::Write { writes: vec![put.clone()], id: None })
                .await
                .is_err()
            {}
            told_done.fetch_add(1, Ordering::Relaxed);
        }
    };
    ask(world, probe, &History::default(), 1);
    let all = |_: &World| done.load(Ordering::Relaxed) == KEYS;
    if !world.until(LIVE_WITHIN, all) {
        let done = done.load(Ordering::Relaxed);
        panic!("{done} of {KEYS} writes came through after all was mended: {}", told(world));
    }
}

/// Reads everything once more, when nobody writes.
fn last_reads(world: &mut World, history: &History, seed: u64) -> Ends {
    let ends = Arc::new(Mutex::new(None));
    let found = ends.clone();
    let read = move |mut client: Client| async move {
        let mut lengths: BTreeMap<usize, i64> = BTreeMap::new();
        let mut counts: BTreeMap<usize, i64> = BTreeMap::new();
        for register in 0..REGISTERS as usize {
            while client.read(register).await.is_none() {}
        }
        for list in 0..LISTS as usize {
            while !client.read_list(list).await {}
            while !lengths.contains_key(&list) {
                lengths.extend(client.read_length(list).await.map(|length| (list, length)));
            }
        }
        for counter in 0..COUNTERS as usize {
            while !counts.contains_key(&counter) {
                counts.extend(client.read_count(counter).await.map(|count| (counter, count)));
            }
        }
        for set in 0..SETS.len() {
            while !client.scan(set).await {}
        }
        while client.door.sweep_transactions(Duration::ZERO).await.is_err() {}
        while !client.read_accounts().await {}
        let sealed = client.last_vectors().await;
        let (lengths, counts) = (lengths.into_values(), counts.into_values());
        let ends = Ends { lengths: lengths.collect(), counts: counts.collect(), sealed };
        *found.lock().unwrap() = Some(ends);
    };
    ask(world, read, history, seed ^ 0xE4D5);
    let read = world.until(LIVE_WITHIN, |_| ends.lock().unwrap().is_some());
    assert!(read, "not everything can be read in the end");
    ends.lock().unwrap().take().unwrap()
}

fn settle(world: &mut World, invariants: &mut Invariants) {
    let settled = world.until(SETTLED_WITHIN, Invariants::is_settled);
    assert!(settled, "the replicas do not come to hold the same: {}", told(world));
    invariants.look(world);
    invariants.agree(world);
}

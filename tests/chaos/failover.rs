//! How long a fault is felt: `kill -9` of the node that leads most, SIGSTOP of it, a transfer of the
//! lead, under load.
//!
//! `ARQON_CHAOS_KILLS` says how often; with 20 and a release build (`ARQON_CHAOS_PROGRAM`) it is the
//! measurement that the README quotes.
// tidy: sleeps because it lets load run for a time before and after a fault

use crate::cluster::{Cluster, DEADLINE, Layout, connect};
use arqondb::base::CfId;
use arqondb::op::kv::{Expiry, RequestId, Write};
use arqondb::op::route::{SlotRange, slot_of};
use arqondb::rpc::Client;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Clients that write at a time.
const CLIENTS: u64 = 16;

fn kills() -> usize {
    crate::scenarios::number_from("ARQON_CHAOS_KILLS").map_or(2, |n| n as usize)
}

/// An acknowledged write.
struct Acknowledged {
    number: u64,
    at: Duration,
    took: Duration,
}

/// Clients that write numbered records, each to a key of its own.
struct Load {
    begun: Instant,
    stop: Arc<AtomicBool>,
    failed: Arc<std::sync::Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<Vec<Acknowledged>>>,
}

fn key(number: u64) -> String {
    format!("record:{number:09}")
}

impl Load {
    fn begin(cluster: &Cluster, next: &Arc<AtomicU64>) -> Load {
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let begun = Instant::now();
        let doors: Vec<Client> = cluster.doors.iter().map(|door| connect(door)).collect();
        let start = |client: u64| {
            let door = doors[client as usize % doors.len()].clone();
            let (stop, failed, next) = (stop.clone(), Arc::clone(&failed), next.clone());
            tokio::spawn(write_until(door, begun, stop, failed, next))
        };
        Load { begun, clients: (0..CLIENTS).map(start).collect(), stop, failed }
    }

    async fn end(self) -> (Vec<Acknowledged>, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in self.clients {
            all.extend(client.await.unwrap());
        }
        all.sort_by_key(|a| a.at);
        (all, std::mem::take(&mut *self.failed.lock().unwrap()))
    }
}

async fn write_until(
    door: Client,
    begun: Instant,
    stop: Arc<AtomicBool>,
    failed: Arc<std::sync::Mutex<Vec<String>>>,
    next: Arc<AtomicU64>,
) -> Vec<Acknowledged> {
    let id = arqondb::env::rng::entropy().max(1);
    let mut acknowledged = Vec::new();
    for request in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let number = next.fetch_add(1, Ordering::Relaxed);
        let write = Write::Put {
            cf: CfId::DEFAULT,
            key: Bytes::from(key(number)),
            value: Bytes::from(number.to_string().repeat(20)),
            expiry: Expiry::Never,
        };
        let sent = begun.elapsed();
        match door.write(vec![write], Some(RequestId { client: id, request })).await {
            Ok(_) => {
                let at = begun.elapsed();
                acknowledged.push(Acknowledged { number, at, took: at - sent });
            }
            Err(error) => failed.lock().unwrap().push(error.to_string()),
        }
    }
    acknowledged
}

/// The longest time without an acknowledgement for keys of `slots` that ends after `from`.
fn gap(acknowledged: &[Acknowledged], slots: SlotRange, from: Duration) -> Duration {
    let (mut last, mut longest) = (Duration::ZERO, Duration::ZERO);
    for a in acknowledged.iter().filter(|a| slots.contains(slot_of(key(a.number).as_bytes()))) {
        if a.at > from {
            longest = longest.max(a.at - last);
        }
        last = a.at;
    }
    longest
}

/// How many of `acknowledged` are not there.
async fn lost(door: &Client, acknowledged: &[Acknowledged]) -> usize {
    use futures::StreamExt;
    let found = futures::stream::iter(acknowledged).map(|a| async {
        let expected = a.number.to_string().repeat(20);
        match door.get(CfId::DEFAULT, key(a.number)).await {
            Ok(Some(entry)) => usize::from(entry.value != expected.as_bytes()),
            Ok(None) => 1,
            Err(error) => panic!("{}: {error}", key(a.number)),
        }
    });
    found.buffer_unordered(64).fold(0, |sum, one| async move { sum + one }).await
}

/// Gaps and answers of several rounds.
#[derive(Default)]
struct Felt {
    gaps: Vec<Duration>,
    slowest: Duration,
    acknowledged: usize,
    failed: Vec<String>,
    lost: usize,
}

impl Felt {
    fn at(&self, share: f64) -> Duration {
        let mut sorted = self.gaps.clone();
        sorted.sort_unstable();
        let at = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(at.max(1) - 1).copied().unwrap_or_default()
    }

    fn tell(&self, what: &str) {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let gaps: Vec<String> = self.gaps.iter().map(|gap| format!("{:.0}", ms(*gap))).collect();
        println!("{what}: gaps of a shard in ms: {}", gaps.join(" "));
        println!(
            "{what}: {} shards, p50 {:.0} ms, p99 {:.0} ms, slowest answer {:.0} ms; {} writes \
             acknowledged, {} failed, {} lost",
            self.gaps.len(),
            ms(self.at(0.5)),
            ms(self.at(0.99)),
            ms(self.slowest),
            self.acknowledged,
            self.failed.len(),
            self.lost
        );
        for failed in self.failed.iter().take(5) {
            println!("{what}: {failed}");
        }
    }
}

/// Strikes the node that leads most, `rounds` times, with a rest in between.
async fn strike(rounds: usize, freeze: bool) -> Felt {
    let mut cluster = Cluster::start(Layout { metas: 3, ..Layout::default() }).await;
    let door = connect(&cluster.doors[0]);
    let (mut felt, next) = (Felt::default(), Arc::new(AtomicU64::new(0)));
    for _ in 0..rounds {
        let load = Load::begin(&cluster, &next);
        sleep(Duration::from_millis(1500)).await;
        let (victim, led) = cluster.leads_most();
        let struck = load.begun.elapsed();
        let process = cluster.nodes.get_mut(&victim).unwrap();
        match freeze {
            true => process.freeze(),
            false => process.kill(),
        }
        sleep(Duration::from_millis(3500)).await;
        if freeze {
            cluster.nodes[&victim].thaw();
            sleep(Duration::from_millis(1000)).await;
        }
        let (acknowledged, failed) = load.end().await;
        felt.gaps.extend(led.iter().map(|(_, slots)| gap(&acknowledged, *slots, struck)));
        let slowest = acknowledged.iter().map(|a| a.took).max().unwrap_or_default();
        felt.slowest = felt.slowest.max(slowest);
        felt.failed.extend(failed);
        if !freeze {
            cluster.restart(victim).await;
        }
        felt.lost += lost(&door, &acknowledged).await;
        felt.acknowledged += acknowledged.len();
    }
    felt
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_followed_by_another_before_any_client_gives_up() {
    let felt = strike(kills(), false).await;
    felt.tell("kill -9");
    assert_eq!(felt.lost, 0);
    assert_eq!(felt.failed, [""; 0], "with {DEADLINE:?} to answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_leader_is_followed_by_another_before_any_client_gives_up() {
    let felt = strike(kills().div_ceil(2), true).await;
    felt.tell("SIGSTOP");
    assert_eq!(felt.lost, 0);
    assert_eq!(felt.failed, [""; 0], "with {DEADLINE:?} to answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_that_is_handed_over_is_hardly_felt() {
    let cluster = Cluster::start(Layout::default()).await;
    let door = connect(&cluster.doors[0]);
    let mut felt = Felt::default();
    let load = Load::begin(&cluster, &Arc::default());
    let mut moved = Vec::new();
    for _ in 0..kills() {
        sleep(Duration::from_millis(500)).await;
        let (from, led) = cluster.leads_most();
        let to = cluster.nodes.keys().copied().find(|node| *node != from).unwrap();
        let (shard, slots) = led[0];
        let at = load.begun.elapsed();
        cluster.transfer(shard, to).await.unwrap();
        sleep(Duration::from_millis(500)).await;
        moved.push((slots, at, load.begun.elapsed()));
    }
    let (acknowledged, failed) = load.end().await;
    for (slots, from, to) in moved {
        let end = acknowledged.partition_point(|a| a.at <= to);
        felt.gaps.push(gap(&acknowledged[..end], slots, from));
    }
    felt.slowest = acknowledged.iter().map(|a| a.took).max().unwrap_or_default();
    felt.lost = lost(&door, &acknowledged).await;
    felt.acknowledged = acknowledged.len();
    felt.failed = failed;
    felt.tell("transfer");
    assert_eq!(felt.lost, 0);
    assert_eq!(felt.failed, [""; 0]);
}

/// Terms must not change while nothing happens to the nodes but work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_cluster_keeps_its_leaders() {
    let seconds = crate::scenarios::number_from("ARQON_CHAOS_SECONDS").unwrap_or(4);
    let cluster = Cluster::start(Layout { shards: 8, ..Layout::default() }).await;
    let before = cluster.terms();
    let load = Load::begin(&cluster, &Arc::default());
    sleep(Duration::from_secs(seconds)).await;
    let (acknowledged, failed) = load.end().await;
    let after = cluster.terms();
    let changed = before.iter().filter(|(shard, term)| after[*shard] != **term).count();
    println!(
        "busy for {seconds} s: {} writes, {changed} of 8 shards changed terms",
        acknowledged.len()
    );
    assert_eq!(failed, [""; 0]);
    assert_eq!(changed, 0, "{before:?} {after:?}");
}

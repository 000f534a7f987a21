//! Processes that are killed, stopped and started again.
//!
//! `ARQON_CHAOS_SECONDS`: how long each scenario goes on, about; by default as short as makes sense.

use crate::clients::Clients;
use crate::cluster::{Cluster, Layout, PATIENCE};
use crate::history::History;
use crate::verdict;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("the variable is a number"))
}

/// Has a fault strike again and again: as often as by default, or for as long as was asked for.
pub(crate) struct Rounds {
    done: usize,
    least: usize,
    until: Option<Instant>,
}

impl Rounds {
    pub(crate) fn at_least(least: usize) -> Rounds {
        let seconds = number_from("ARQON_CHAOS_SECONDS").map(Duration::from_secs);
        Rounds { done: 0, least, until: seconds.map(|time| Instant::now() + time) }
    }

    pub(crate) fn next(&mut self) -> bool {
        self.done += 1;
        self.done <= self.least || self.until.is_some_and(|until| Instant::now() < until)
    }
}

/// Ends the clients and holds what is there against what they were told.
pub(crate) async fn judge(what: &str, clients: Clients) -> History {
    let (history, found) = clients.end().await;
    let operations: usize = history.registers.values().map(Vec::len).sum();
    println!(
        "{what}: {} requests answered, {} not; {operations} operations on {} registers, {} inserts, \
         {} appends; the slowest answer took {} ms",
        history.answered,
        history.errors.len(),
        history.registers.len(),
        history.inserts.len(),
        history.appends.len(),
        history.slowest / 1_000_000
    );
    for (at, error) in history.errors.iter().take(3) {
        println!("{what}: at {} ms: {error}", at / 1_000_000);
    }
    let broken = verdict::broken(&history, &found);
    assert_eq!(broken, [""; 0], "{what}");
    assert!(history.answered > 100, "{what}: nothing was tested");
    history
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_killed_again_and_again_lose_and_double_nothing() {
    let mut cluster = Cluster::start(Layout::default()).await;
    let clients = Clients::begin(&cluster.doors);
    let mut rounds = Rounds::at_least(2);
    while rounds.next() {
        clients.work(ms(700)).await;
        let (victim, _) = cluster.leads_most();
        cluster.nodes.get_mut(&victim).unwrap().kill();
        clients.work(ms(1500)).await;
        cluster.restart(victim).await;
        clients.go_on(300).await;
    }
    judge("kill -9 of leaders", clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_stopped_for_a_while_answers_nothing_stale() {
    let cluster = Cluster::start(Layout::default()).await;
    let clients = Clients::begin(&cluster.doors);
    let long = number_from("ARQON_CHAOS_SECONDS").is_some();
    let mut rounds = Rounds::at_least(2);
    while rounds.next() {
        clients.work(ms(700)).await;
        let (victim, _) = cluster.leads_most();
        cluster.nodes[&victim].freeze();
        clients.work(if long { ms(30_000) } else { ms(2_500) }).await;
        cluster.nodes[&victim].thaw();
        clients.go_on(300).await;
    }
    judge("SIGSTOP of leaders", clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_restarted_one_after_the_other_fail_no_request() {
    let mut cluster = Cluster::start(Layout { metas: 3, ..Layout::default() }).await;
    let clients = Clients::begin(&cluster.doors);
    let mut rounds = Rounds::at_least(1);
    while rounds.next() {
        for node in 1..=3 {
            clients.work(ms(700)).await;
            let process = cluster.nodes.get_mut(&node).unwrap();
            let status = process.end(PATIENCE).await;
            assert!(status.success(), "node {node}: {status}\n{}", process.said());
            cluster.restart(node).await;
            clients.go_on(200).await;
        }
    }
    let history = judge("rolling restart", clients).await;
    assert_eq!(history.errors, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_metadata_servers_and_with_one_gateway_less_what_is_known_is_served() {
    let mut cluster = Cluster::start(Layout { metas: 3, ..Layout::default() }).await;
    let clients = Clients::begin(&cluster.doors);
    let mut rounds = Rounds::at_least(1);
    while rounds.next() {
        clients.work(ms(500)).await;
        cluster.metas.iter_mut().for_each(|meta| meta.kill());
        let begun = clients.now();
        clients.go_on(500).await;
        // A leader is found without the catalog, too.
        let (victim, _) = cluster.leads_most();
        cluster.nodes.get_mut(&victim).unwrap().kill();
        clients.work(ms(1500)).await;
        println!("without metadata for {} ms", (clients.now() - begun) / 1_000_000);
        cluster.metas.iter_mut().for_each(|meta| meta.restart());
        cluster.restart(victim).await;
        cluster.gateways[0].kill();
        clients.go_on(300).await;
        cluster.gateways[0].restart();
        cluster.all_answer().await;
        clients.go_on(300).await;
    }
    judge("metadata servers and a gateway killed", clients).await;
}

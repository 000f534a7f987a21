//! `kill -9` under load, again and again on the same folder: every acknowledged write must be
//! there afterwards, no MSET in part, no deleted key back, no append torn or doubled. The same for
//! vectors that are loaded in bulk.
//!
//! - `ARQON_KILL_ROUNDS`: kills in all, spread over the three durability levels (6); half as many more
//!   among vectors.
//! - `ARQON_KILL_SEED`: repeats a run's choices; the seed is printed.
//!
//! The killer strikes when a number of writes drawn by lot has been acknowledged; now and then it
//! also strikes while the server is still opening its folder.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "kill/client.rs"]
mod client;
#[path = "kill/server.rs"]
mod server;
#[path = "kill/vectors.rs"]
mod vectors;
#[path = "kill/work.rs"]
mod work;

use arqondb::env::Rng;
use server::Server;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use work::{Gate, Ledger, WORKERS};

/// Acknowledged writes of one round, at most.
const ACKNOWLEDGED_MAX: u64 = 12_000;
/// How long a round may take to reach its number.
const ROUND_DEADLINE: Duration = Duration::from_secs(120);

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("the variable is a number"))
}

/// The share of all rounds that falls to one of three levels.
fn rounds(level: u64) -> u64 {
    (number_from("ARQON_KILL_ROUNDS").unwrap_or(6) + 2 - level) / 3
}

fn survive(sync: &str, rounds: u64) {
    let seed = number_from("ARQON_KILL_SEED").unwrap_or_else(arqondb::env::rng::entropy);
    println!("sync {sync}: {rounds} kills, seed {seed}");
    let mut rng = Rng::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut ledgers: Vec<Ledger> = (0..WORKERS).map(Ledger::new).collect();
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        if rng.below(4) == 0 {
            // Dies while opening: nothing was promised, nothing may be lost.
            Server::spawn(folder.path(), sync).kill();
        }
        let server = Server::start(folder.path(), sync);
        let target = 1 + rng.below(ACKNOWLEDGED_MAX);
        let (reached, strike) = sync_channel(1);
        let gate = Arc::new(Gate::new(target, reached));
        let workers: Vec<_> = ledgers
            .drain(..)
            .map(|ledger| {
                let (gate, address, seed) = (gate.clone(), server.redis.clone(), rng.next_u64());
                std::thread::spawn(move || ledger.write_until_cut(&address, round, seed, &gate))
            })
            .collect();
        strike.recv_timeout(ROUND_DEADLINE).expect("the round's writes are acknowledged in time");
        server.kill();
        ledgers = workers.into_iter().map(|worker| worker.join().unwrap()).collect();

        let server = Server::start(folder.path(), sync);
        slowest = slowest.max(server.ready_after);
        let all = round + 1 == rounds || round % 8 == 7;
        for ledger in &mut ledgers {
            ledger.verify(&server.redis, if all { 0 } else { round });
        }
        let acknowledged: u64 = ledgers.iter().map(Ledger::acknowledged).sum();
        println!(
            "sync {sync}: kill {} after {target} writes, reopened in {} ms, {acknowledged} \
             acknowledged so far, none lost",
            round + 1,
            server.ready_after.as_millis()
        );
        server.kill();
    }
    println!("sync {sync}: slowest reopen {} ms", slowest.as_millis());
}

#[test]
fn acknowledged_writes_survive_kill_9_at_sync_always() {
    survive("always", rounds(0));
}

#[test]
fn acknowledged_writes_survive_kill_9_at_sync_interval() {
    survive("interval", rounds(1));
}

#[test]
fn acknowledged_writes_survive_kill_9_at_sync_os() {
    survive("os", rounds(2));
}

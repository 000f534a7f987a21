//! What the clients write, what they were promised, and what must be found after a kill.
//!
//! Each worker owns its keys, so that its ledger alone says what they may hold: at least what was
//! acknowledged, at most what was sent.

use crate::client::{Answer, Client};
use arqondb::env::Rng;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;

/// One worker of each kind.
pub(crate) const WORKERS: usize = 6;
/// Keys that are written again and again.
const HOT_KEYS: u64 = 40;
/// Most commands in a pipeline.
const PIPELINE_MAX: u64 = 64;
/// Bytes of an appended record.
const RECORD_BYTES: i64 = 8;

/// Counts acknowledgements, and tells the killer once when there are enough.
pub(crate) struct Gate {
    left: AtomicU64,
    reached: SyncSender<()>,
}

impl Gate {
    pub(crate) fn new(target: u64, reached: SyncSender<()>) -> Gate {
        Gate { left: AtomicU64::new(target), reached }
    }

    fn acknowledge(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            let _ = self.reached.try_send(());
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// SET of numbered keys, one at a time.
    Sets,
    /// SET of numbered keys, pipelined.
    Pipelined,
    /// INCR of a counter, pipelined.
    Counter,
    /// MSET of two keys that must stay equal.
    Pairs,
    /// APPEND of numbered records of 8 digits.
    Appends,
    /// SET and then DEL of numbered keys.
    Deletes,
}

const KINDS: [Kind; WORKERS] =
    [Kind::Sets, Kind::Pipelined, Kind::Counter, Kind::Pairs, Kind::Appends, Kind::Deletes];

/// The promises made to one worker.
pub(crate) struct Ledger {
    kind: Kind,
    rounds: Vec<Round>,
    /// The counter, or one entry for each pair.
    hot: Vec<Hot>,
    /// The number the next MSET writes.
    next_number: u64,
}

/// Commands of a round, numbered from 0 in the order sent.
#[derive(Debug, Clone, Copy)]
struct Round {
    round: u64,
    sent: u64,
    acknowledged: u64,
}

/// A key that only grows: it must hold at least what was acknowledged, at most what was sent.
#[derive(Debug, Clone, Copy, Default)]
struct Hot {
    acknowledged: u64,
    sent: u64,
}

impl Ledger {
    pub(crate) fn new(worker: usize) -> Ledger {
        let hot = vec![Hot::default(); HOT_KEYS as usize];
        Ledger { kind: KINDS[worker], rounds: Vec::new(), hot, next_number: 1 }
    }

    /// Writes acknowledged in all rounds.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.rounds.iter().map(|round| round.acknowledged).sum()
    }

    /// Writes until the connection is cut.
    pub(crate) fn write_until_cut(
        mut self,
        address: &str,
        round: u64,
        seed: u64,
        gate: &Gate,
    ) -> Ledger {
        let mut rng = Rng::new(seed);
        let mut now = Round { round, sent: 0, acknowledged: 0 };
        if let Ok(mut client) = Client::connect(address) {
            while self.write_some(&mut client, &mut now, &mut rng, gate).is_ok() {}
        }
        self.rounds.push(now);
        self
    }

    /// One pipeline, sent and answered.
    fn write_some(
        &mut self,
        client: &mut Client,
        now: &mut Round,
        rng: &mut Rng,
        gate: &Gate,
    ) -> io::Result<()> {
        let width = if self.kind == Kind::Sets { 1 } else { 1 + rng.below(PIPELINE_MAX) };
        let first = now.sent;
        let mut commands = Vec::new();
        let mut numbers = Vec::new();
        for n in first..first + width {
            numbers.push(self.next_number);
            commands.push(self.command(now.round, n));
        }
        now.sent += width;
        client.send(&commands)?;
        for (n, number) in (first..).zip(numbers) {
            let answer = client.answer()?;
            self.acknowledge(n, number, &answer);
            now.acknowledged += 1;
            gate.acknowledge();
        }
        Ok(())
    }

    /// The `n`-th command of a round.
    fn command(&mut self, round: u64, n: u64) -> Vec<Vec<u8>> {
        let text = |parts: &[&str]| parts.iter().map(|part| part.as_bytes().to_vec()).collect();
        match self.kind {
            Kind::Sets | Kind::Pipelined => vec![b"SET".to_vec(), self.key(round, n), value(n)],
            Kind::Deletes if n.is_multiple_of(2) => {
                vec![b"SET".to_vec(), self.key(round, n), value(n)]
            }
            Kind::Deletes => vec![b"DEL".to_vec(), self.key(round, n - 1)],
            Kind::Counter => {
                self.hot[0].sent += 1;
                text(&["INCR", "counter"])
            }
            Kind::Pairs => {
                let pair = n % HOT_KEYS;
                self.hot[pair as usize].sent = self.next_number;
                let number = self.next_number.to_string();
                self.next_number += 1;
                let [a, b] = pair_keys(pair);
                text(&["MSET", &a, &number, &b, &number])
            }
            Kind::Appends => text(&["APPEND", &format!("log:{round}"), &record(n)]),
        }
    }

    /// Notes a promise, and checks the answer that made it.
    fn acknowledge(&mut self, n: u64, number: u64, answer: &Answer) {
        let expected = match self.kind {
            Kind::Sets | Kind::Pipelined => Answer::Ok,
            Kind::Deletes if n.is_multiple_of(2) => Answer::Ok,
            Kind::Deletes => Answer::Integer(1),
            Kind::Counter => {
                self.hot[0].acknowledged += 1;
                Answer::Integer(self.hot[0].acknowledged as i64)
            }
            Kind::Pairs => {
                self.hot[(n % HOT_KEYS) as usize].acknowledged = number;
                Answer::Ok
            }
            Kind::Appends => Answer::Integer((n as i64 + 1) * RECORD_BYTES),
        };
        assert_eq!(*answer, expected, "{:?}, command {n}", self.kind);
    }

    /// Checks every promise of the rounds from `first` on.
    pub(crate) fn verify(&mut self, address: &str, first: u64) {
        let mut client = Client::connect(address).unwrap();
        match self.kind {
            Kind::Counter => {
                let found = client.call(&[b"GET", b"counter"]).unwrap();
                self.settle(0, number(&found), "counter");
            }
            Kind::Pairs => {
                for pair in 0..HOT_KEYS {
                    let [a, b] = pair_keys(pair)
                        .map(|key| number(&client.call(&[b"GET", key.as_bytes()]).unwrap()));
                    assert_eq!(a, b, "pair {pair} was written in part");
                    self.settle(pair as usize, a, "pair");
                }
            }
            Kind::Sets | Kind::Pipelined | Kind::Appends | Kind::Deletes => {
                for round in self.rounds.iter().filter(|round| round.round >= first) {
                    self.verify_round(&mut client, *round);
                }
            }
        }
    }

    /// A growing key must stand between what was promised and what was sent. From here on, what
    /// it holds is what it must hold.
    fn settle(&mut self, key: usize, found: u64, name: &str) {
        let Hot { acknowledged, sent } = self.hot[key];
        assert!(
            (acknowledged..=sent).contains(&found),
            "{name} {key} holds {found}; {acknowledged} was acknowledged, {sent} was sent"
        );
        self.hot[key] = Hot { acknowledged: found, sent: found };
    }

    fn verify_round(&self, client: &mut Client, round: Round) {
        if self.kind == Kind::Appends {
            return verify_log(client, round);
        }
        for first in (0..round.sent).step_by(1_000) {
            let numbers = first..(first + 1_000).min(round.sent);
            let gets: Vec<_> =
                numbers.clone().map(|n| vec![b"GET".to_vec(), self.key(round.round, n)]).collect();
            client.send(&gets).unwrap();
            for n in numbers {
                self.verify_key(&client.answer().unwrap(), round, n);
            }
        }
    }

    fn verify_key(&self, found: &Answer, round: Round, n: u64) {
        let deletes = self.kind == Kind::Deletes;
        if deletes && n % 2 == 1 {
            return;
        }
        let set = n < round.acknowledged;
        let deleted = deletes && n + 1 < round.acknowledged;
        let perhaps_deleted = deletes && n + 1 < round.sent;
        let place = format!("{:?}, round {}, key {n} of {round:?}", self.kind, round.round);
        match found {
            Answer::Nil => assert!(!set || perhaps_deleted, "{place}: an acknowledged SET is lost"),
            Answer::Bulk(bytes) => {
                assert!(!deleted, "{place}: an acknowledged DEL is lost");
                assert_eq!(*bytes, value(n), "{place}: holds what was never written");
            }
            other => panic!("{place}: {other:?}"),
        }
    }

    fn key(&self, round: u64, n: u64) -> Vec<u8> {
        format!("{:?}:{round}:{n}", self.kind).into_bytes()
    }
}

/// The log of a round holds its records in order, each once and whole.
fn verify_log(client: &mut Client, round: Round) {
    let found = match client.call(&[b"GET", format!("log:{}", round.round).as_bytes()]).unwrap() {
        Answer::Bulk(bytes) => bytes,
        _ => Vec::new(),
    };
    let count = found.len() as u64 / RECORD_BYTES as u64;
    assert_eq!(found.len() as u64 % RECORD_BYTES as u64, 0, "a torn record in {round:?}");
    assert!((round.acknowledged..=round.sent).contains(&count), "{count} records of {round:?}");
    for (n, bytes) in found.chunks(RECORD_BYTES as usize).enumerate() {
        assert_eq!(bytes, record(n as u64).as_bytes(), "{round:?}");
    }
}

fn pair_keys(pair: u64) -> [String; 2] {
    [format!("pair:{pair}:a"), format!("pair:{pair}:b")]
}

fn record(n: u64) -> String {
    format!("{n:08}")
}

/// The value of a numbered key: mostly short, now and then longer than a log block.
fn value(n: u64) -> Vec<u8> {
    let len = match n % 97 {
        96 => 40_000,
        small => small * 3,
    };
    let mut bytes = format!("value {n} ").into_bytes();
    bytes.resize(bytes.len() + len as usize, b'a' + (n % 26) as u8);
    bytes
}

/// The number in an answer; 0 for an absent key.
fn number(answer: &Answer) -> u64 {
    match answer {
        Answer::Bulk(bytes) => std::str::from_utf8(bytes).unwrap().parse().unwrap(),
        _ => 0,
    }
}

//! A bank whose accounts lie in many shards: transfers through several gateways whose calls are
//! lost, whose shards crash and which end at any moment. Whoever reads all accounts at once sees
//! all the money; in the end no account is locked and none has less or more than it was told.

use crate::steps::{Shards, options, put_vector};
use crate::words::{get, redis, reply};
use arqondb::base::{CfId, Error, ErrorKind, Result};
use arqondb::env::Rng;
use arqondb::gateway::{
    CallFailure, Called, Gateway, GatewayOptions, LocalShards, ShardCalls, ShardInfo, Target,
};
use arqondb::node::Standalone;
use arqondb::op::kv::{MergeOp, RequestId, Write};
use arqondb::op::vector::{IndexSpec, Metric, VectorAnswer, VectorCall, VectorId, VectorSearch};
use arqondb::op::{KvOps, Reply, Request, Response};
use bytes::Bytes;
use futures::future::join_all;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

const ACCOUNTS: u64 = 12;
const EACH: i64 = 1_000;
/// An index of two vectors for each account.
const TWINS: &str = "twins";

/// Calls that fail now and then, and of which some take effect all the same.
struct Lossy {
    shards: LocalShards<Standalone>,
    rng: Mutex<Rng>,
    one_in: u64,
}

impl ShardCalls for Lossy {
    async fn call(&self, to: &Target, requests: &[Request], deadline: Instant) -> Called {
        let fate = {
            let mut rng = self.rng.lock().unwrap();
            if rng.one_in(self.one_in) { rng.below(4) } else { 9 }
        };
        let lost = || CallFailure::Unknown(Error::new(ErrorKind::Unknown, "connection reset"));
        match fate {
            0 => Called::failed(lost()),
            1 => Called::failed(CallFailure::NotLeader { leader: None }),
            2 => {
                self.shards.call(to, requests, deadline).await;
                Called::failed(lost())
            }
            3 => {
                let half = requests.len().div_ceil(2);
                let mut called = self.shards.call(to, &requests[..half], deadline).await;
                called.stopped = (half < requests.len()).then(lost);
                called
            }
            _ => {
                // Others come between.
                tokio::task::yield_now().await;
                self.shards.call(to, requests, deadline).await
            }
        }
    }

    async fn catalog(&self, request: &Request, deadline: Instant) -> Called {
        self.shards.catalog(request, deadline).await
    }

    async fn shards(&self) -> Result<Vec<ShardInfo>> {
        ShardCalls::shards(&self.shards).await
    }
}

fn account(n: u64) -> String {
    format!("account{n}")
}

fn add(n: u64, amount: i64) -> Write {
    let operand = Bytes::from(amount.to_le_bytes().to_vec());
    Write::Merge { cf: CfId::DEFAULT, key: account(n).into(), operand, op: MergeOp::Add }
}

fn amount(bytes: &[u8]) -> i64 {
    i64::from_le_bytes(bytes.try_into().unwrap())
}

async fn sum(kv: &impl KvOps) -> Result<i64> {
    let keys: Vec<String> = (0..ACCOUNTS).map(account).collect();
    let answer = kv.call(redis(&format!("MGET {}", keys.join(" ")))).await?;
    let Reply::Array(values) = reply(Ok(answer)) else { panic!() };
    let value = |value| match value {
        Reply::Bulk(bytes) => amount(&bytes),
        other => panic!("{other:?}"),
    };
    Ok(values.into_iter().map(value).sum())
}

/// Every vector has its twin, put for the same transfer: in a fetch, and in a search.
async fn twins_agree(kv: &impl KvOps) {
    let ids = (0..2 * ACCOUNTS).map(VectorId::new).collect();
    let get = VectorCall::Get { index: TWINS.into(), ids };
    let search = VectorSearch {
        exact: true,
        with_payload: true,
        ..VectorSearch::new(TWINS, &[0.0, 0.0], 2 * ACCOUNTS as u32)
    };
    for call in [get, VectorCall::Search(search)] {
        let answer = kv.call(Request::Vector(Box::new(call))).await.unwrap();
        let Response::Vector(answer) = answer else { panic!() };
        let found: BTreeMap<u64, Bytes> = match *answer {
            VectorAnswer::Vectors(all) => {
                all.into_iter().flatten().map(|v| (v.id, v.payload)).collect()
            }
            VectorAnswer::Found(found) => {
                found.hits.into_iter().map(|hit| (hit.id, hit.payload.unwrap())).collect()
            }
            other => panic!("{other:?}"),
        };
        for n in 0..ACCOUNTS {
            assert_eq!(found.get(&(2 * n)), found.get(&(2 * n + 1)), "{found:?}");
        }
    }
}

/// Transfers of one client, some of them cut short, and what became of each.
async fn client(shards: &Shards, client: u64, transfers: u64, told: &Mutex<Told>) {
    let mut rng = Rng::new(client);
    for request in 0..transfers {
        let (from, mut to) = (rng.below(ACCOUNTS), rng.below(ACCOUNTS));
        if from == to {
            to = (to + 1) % ACCOUNTS;
        }
        let sum = rng.below(50) as i64;
        let mut writes = vec![add(from, -sum), add(to, sum)];
        // Twins, of other shards, which are always written together.
        let n = client << 32 | request;
        writes.extend([put_vector(TWINS, 2 * from, n), put_vector(TWINS, 2 * from + 1, n)]);
        let write = Request::Write { writes, id: Some(RequestId { client, request }) };
        let mut outcome = None;
        // The same request through one gateway after the other, until one tells.
        for attempt in 0..1 + rng.below(3) {
            let seed = client << 32 | request << 8 | attempt;
            let calls = Lossy { shards: shards.local(), rng: Rng::new(seed).into(), one_in: 6 };
            let gateway = Gateway::new(calls, options(seed));
            let cut = Duration::from_micros(50 + rng.below(4_000));
            let patience = if rng.one_in(2) { cut } else { Duration::from_secs(60) };
            match tokio::time::timeout(patience, gateway.call(write.clone())).await {
                Ok(Ok(_)) => {
                    outcome = Some(true);
                    break;
                }
                Ok(Err(error)) if error.kind() != ErrorKind::Unknown && outcome.is_none() => {
                    panic!("{error}")
                }
                // It may have happened.
                _ => outcome = Some(false),
            }
        }
        told.lock().unwrap().note(outcome, from, to, sum);
    }
}

/// What is known of each account.
#[derive(Default)]
struct Told {
    known: BTreeMap<u64, i64>,
    unknown: Vec<(u64, u64, i64)>,
    done: usize,
}

impl Told {
    fn note(&mut self, outcome: Option<bool>, from: u64, to: u64, sum: i64) {
        if outcome == Some(true) {
            *self.known.entry(from).or_default() -= sum;
            *self.known.entry(to).or_default() += sum;
            self.done += 1;
        } else {
            self.unknown.push((from, to, sum));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_money_is_all_there_whoever_ends_and_whatever_is_lost() {
    let (clients, transfers) = (6, 40);
    let shards = Shards::new(8);
    let gateway = shards.gateway();
    let open = Request::Write { writes: (0..ACCOUNTS).map(|n| add(n, EACH)).collect(), id: None };
    gateway.call(open).await.unwrap();
    let index = VectorCall::Create(IndexSpec::new(TWINS, 2, Metric::L2));
    gateway.call(Request::Vector(Box::new(index))).await.unwrap();
    let (told, over, sums) = (Mutex::default(), AtomicBool::new(false), AtomicUsize::new(0));
    let read = |seed| {
        let (shards, over, sums) = (&shards, &over, &sums);
        async move {
            let calls = Lossy { shards: shards.local(), rng: Rng::new(seed).into(), one_in: 20 };
            let gateway = Gateway::new(calls, options(seed));
            while !over.load(Ordering::SeqCst) {
                assert_eq!(sum(&gateway).await.unwrap(), ACCOUNTS as i64 * EACH);
                twins_agree(&gateway).await;
                sums.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let write = async {
        join_all((1..=clients).map(|n| client(&shards, n, transfers, &told))).await;
        over.store(true, Ordering::SeqCst);
    };
    let sweep = async {
        while !over.load(Ordering::SeqCst) {
            shards.gateway().sweep_transactions(Duration::from_secs(3_600)).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(write, read(1_001), read(1_002), sweep);
    gateway.sweep_transactions(Duration::ZERO).await.unwrap();
    assert_eq!(shards.unfinished().await, 0);
    assert_eq!(sum(&gateway).await.unwrap(), ACCOUNTS as i64 * EACH);
    twins_agree(&gateway).await;
    let Told { known, unknown, done } = told.into_inner().unwrap();
    // What is left to explain must be some of what is not known.
    let mut left: BTreeMap<u64, i64> = BTreeMap::new();
    for n in 0..ACCOUNTS {
        let Response::Entry(Some(entry)) = gateway.call(get(account(n))).await.unwrap() else {
            panic!()
        };
        let told = EACH + known.get(&n).copied().unwrap_or(0);
        left.insert(n, amount(&entry.value) - told);
    }
    let bound: i64 = unknown.iter().map(|(_, _, sum)| sum).sum();
    assert!(left.values().all(|n| n.abs() <= bound), "{left:?} is not of {unknown:?}");
    assert!(!unknown.is_empty() || left.values().all(|n| *n == 0));
    eprintln!("{done} done, {} unknown, {} sums", unknown.len(), sums.load(Ordering::SeqCst));
    assert!(done as u64 > clients * transfers / 3 && sums.load(Ordering::SeqCst) > 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_want_the_same_keys_all_get_through() {
    let shards = Shards::new(8);
    let gateways: Vec<_> = (0..4)
        .map(|seed| {
            let options = GatewayOptions { call_timeout: Duration::from_secs(50), ..options(seed) };
            Gateway::new(shards.local(), options)
        })
        .collect();
    let one = |n: usize| {
        let gateway = &gateways[n % 4];
        async move {
            for _ in 0..10 {
                let order: Vec<u64> =
                    if n.is_multiple_of(2) { vec![0, 1, 2] } else { vec![2, 1, 0] };
                let writes = order.into_iter().map(|n| add(n, 1)).collect();
                gateway.call(Request::Write { writes, id: None }).await.unwrap();
            }
        }
    };
    join_all((0..8).map(one)).await;
    for n in 0..3 {
        let Response::Entry(Some(entry)) = gateways[0].call(get(account(n))).await.unwrap() else {
            panic!()
        };
        assert_eq!(amount(&entry.value), 80);
    }
}

//! Transactions over real shards whose gateway ends at every step: all of it happened or nothing,
//! whoever looks next; a retry finds out; and nothing stays locked.

use crate::words::{call, get, redis, reply};
use arqondb::base::{CfId, ErrorKind, Result};
use arqondb::env::{SimClock, SimDisk};
use arqondb::gateway::{
    Called, Gateway, GatewayOptions, LocalShards, RetryOptions, ShardCalls, ShardInfo, Target,
};
use arqondb::node::Standalone;
use arqondb::op::kv::{Expiry, MergeOp, RequestId, Watched, Write};
use arqondb::op::txn::{TxnAnswer, TxnCall};
use arqondb::op::vector::{
    Floats, IndexSpec, Metric, StoredVector, VectorAnswer, VectorCall, VectorId, VectorSearch,
};
use arqondb::op::{KvOps, Reply, Request, Response};
use arqondb::{Options, SyncLevel};
use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a gateway ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Never,
    /// Before its so-manieth call is executed.
    Before(usize),
    /// When that has been executed and is not answered.
    After(usize),
}

/// The shards, and the disks they are on.
#[derive(Clone)]
pub(crate) struct Shards {
    disks: Vec<SimDisk>,
    clock: Arc<SimClock>,
    nodes: Arc<Mutex<Vec<Standalone>>>,
}

impl Shards {
    pub(crate) fn new(count: usize) -> Shards {
        let disks: Vec<SimDisk> = (0..count).map(|_| SimDisk::new()).collect();
        let shards = Shards {
            disks,
            clock: Arc::new(SimClock::at(1_700_000_000_000)),
            nodes: Arc::default(),
        };
        shards.open();
        shards
    }

    /// Opens the shards, again if they were open.
    pub(crate) fn open(&self) {
        let mut nodes = self.nodes.lock().unwrap();
        nodes.clear();
        for disk in &self.disks {
            let options = Options {
                sync: SyncLevel::Os,
                disk: disk.clone().shared(),
                clock: Arc::clone(&self.clock) as _,
                memory_budget_bytes: 8 << 20,
                background_threads: 1,
                ..Options::default()
            };
            nodes.push(Standalone::open("/db", options).unwrap());
        }
    }

    pub(crate) fn local(&self) -> LocalShards<Standalone> {
        LocalShards::new(self.nodes.lock().unwrap().clone())
    }

    pub(crate) fn gateway(&self) -> Gateway<LocalShards<Standalone>> {
        Gateway::new(self.local(), options(1))
    }

    /// How many transactions some shard has not finished, by themselves and by their homes.
    pub(crate) async fn unfinished(&self) -> usize {
        let nodes = self.nodes.lock().unwrap().clone();
        let mut count = 0;
        for node in nodes {
            let ask = Request::Txn(Box::new(TxnCall::Unfinished { age_ms: 0, max: 10_000 }));
            match node.call(ask).await.unwrap() {
                Response::Txn(answer) => match *answer {
                    TxnAnswer::Unfinished(all) => count += all.len(),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
        count
    }
}

/// Short pauses: time is real here.
pub(crate) fn options(seed: u64) -> GatewayOptions {
    GatewayOptions {
        call_timeout: PATIENCE,
        retry: RetryOptions {
            pause_first: Duration::from_micros(50),
            pause_max: Duration::from_millis(2),
            budget: 1_000_000,
            ..RetryOptions::default()
        },
        seed,
        ..GatewayOptions::default()
    }
}

/// Calls of a gateway that ends.
struct Ending {
    shards: LocalShards<Standalone>,
    end: End,
    calls: AtomicUsize,
    ended: Arc<Notify>,
}

impl ShardCalls for Ending {
    async fn call(&self, to: &Target, requests: &[Request], deadline: Instant) -> Called {
        let at = self.calls.fetch_add(1, Ordering::SeqCst);
        let (before, after) = match self.end {
            End::Never => (usize::MAX, usize::MAX),
            End::Before(n) => (n, usize::MAX),
            End::After(n) => (usize::MAX, n),
        };
        // Those of one round are sent at once, and executed even if the gateway ends.
        let called =
            if at < before { Some(self.shards.call(to, requests, deadline).await) } else { None };
        if at >= before || at >= after {
            self.ended.notify_one();
            std::future::pending::<()>().await;
        }
        called.unwrap_or_else(|| panic!("it has ended"))
    }

    async fn catalog(&self, request: &Request, deadline: Instant) -> Called {
        self.shards.catalog(request, deadline).await
    }

    async fn shards(&self) -> Result<Vec<ShardInfo>> {
        ShardCalls::shards(&self.shards).await
    }
}

/// Executes a request until it is answered or the gateway ends. Gives the answer, and how many
/// calls there were.
async fn run(shards: &Shards, request: Request, end: End) -> (Option<Result<Response>>, usize) {
    let ended = Arc::new(Notify::new());
    let calls =
        Ending { shards: shards.local(), end, calls: AtomicUsize::new(0), ended: ended.clone() };
    let gateway = Gateway::new(calls, options(2));
    let answer = tokio::select! {
        biased;
        () = ended.notified() => None,
        answer = gateway.call(request) => Some(answer),
    };
    (answer, gateway.calls().calls.load(Ordering::SeqCst))
}

const KEYS: [&str; 5] = ["foo", "bar", "hello", "b", "nosuch"];

async fn state(gateway: &impl KvOps) -> Vec<Option<String>> {
    let line = format!("MGET {}", KEYS.join(" "));
    let Reply::Array(values) = reply(gateway.call(redis(&line)).await) else { panic!() };
    let text = |value| match value {
        Reply::Bulk(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
        Reply::Nil => None,
        other => panic!("{other:?}"),
    };
    let mut state: Vec<Option<String>> = values.into_iter().map(text).collect();
    state.extend(payloads(gateway, &IDS).await);
    state
}

/// Ids of vectors in several shards.
const IDS: [u64; 4] = [1, 2, 3, 4];
const INDEX: &str = "notes";

/// The payloads of vectors, as one fetch has them.
async fn payloads(gateway: &impl KvOps, ids: &[u64]) -> Vec<Option<String>> {
    let ids = ids.iter().map(|id| VectorId::new(*id)).collect();
    let get = VectorCall::Get { index: INDEX.into(), ids };
    let VectorAnswer::Vectors(vectors) = about_vectors(gateway, get).await.unwrap() else {
        panic!("no vectors")
    };
    let payload = |stored: StoredVector| String::from_utf8(stored.payload.to_vec()).unwrap();
    vectors.into_iter().map(|stored| stored.map(payload)).collect()
}

pub(crate) async fn about_vectors(kv: &impl KvOps, call: VectorCall) -> Result<VectorAnswer> {
    match kv.call(Request::Vector(Box::new(call))).await? {
        Response::Vector(answer) => Ok(*answer),
        other => panic!("{other:?}"),
    }
}

/// A vector whose payload says what it was put for.
pub(crate) fn put_vector(index: &str, id: u64, n: u64) -> Write {
    Write::PutVector {
        index: index.into(),
        id: VectorId::new(id),
        vector: Floats::of(&[id as f32, n as f32]),
        payload: format!("{{\"n\": {n}}}").into(),
    }
}

/// One by one, each by whoever has it.
async fn state_by_key(gateway: &impl KvOps) -> Vec<Option<String>> {
    let mut state = Vec::new();
    for key in KEYS {
        state.push(match gateway.call(get(key)).await.unwrap() {
            Response::Entry(entry) => entry.map(|e| String::from_utf8(e.value.to_vec()).unwrap()),
            other => panic!("{other:?}"),
        });
    }
    for id in IDS {
        state.extend(payloads(gateway, &[id]).await);
    }
    state
}

async fn fill(shards: &Shards) {
    let gateway = shards.gateway();
    for line in ["SET foo 1", "SET bar 2", "SET hello 3", "SET b 4"] {
        assert_eq!(reply(gateway.call(redis(line)).await), Reply::OK);
    }
    let spec = IndexSpec::new(INDEX, 2, Metric::L2);
    about_vectors(&gateway, VectorCall::Create(spec)).await.unwrap();
    for id in 1..=3 {
        let writes = vec![put_vector(INDEX, id, 0)];
        gateway.call(Request::Write { writes, id: None }).await.unwrap();
    }
}

/// Keys and vectors of several shards.
fn keys_and_vectors() -> Request {
    let (cf, key) = (CfId::DEFAULT, |n: usize| Bytes::from(KEYS[n]));
    let writes = vec![
        put_vector(INDEX, 1, 7),
        Write::Merge { cf, key: key(0), operand: "x".into(), op: MergeOp::Append },
        Write::DeleteVector { index: INDEX.into(), id: VectorId::new(2) },
        put_vector(INDEX, 4, 7),
        Write::Put { cf, key: key(4), value: "new".into(), expiry: Expiry::Never },
    ];
    Request::Write { writes, id: Some(RequestId { client: 77, request: 2 }) }
}

fn batch() -> Request {
    let key = |n: usize| Bytes::from(KEYS[n]);
    let (cf, op) = (CfId::DEFAULT, MergeOp::Append);
    let writes = vec![
        Write::Merge { cf, key: key(0), operand: "x".into(), op },
        Write::Delete { cf, key: key(1) },
        Write::Merge { cf, key: key(2), operand: "x".into(), op },
        Write::Put { cf, key: key(4), value: "new".into(), expiry: Expiry::Never },
    ];
    Request::Write { writes, id: Some(RequestId { client: 77, request: 1 }) }
}

fn exec(watched: Vec<Watched>) -> Request {
    let lines = ["INCR foo", "APPEND bar x", "MGET foo bar hello", "DEL hello b", "SET nosuch 1"];
    let calls = lines.iter().map(|line| call(&line.split(' ').collect::<Vec<_>>()));
    Request::RedisTransaction { watched, calls: calls.collect(), reply_bytes_max: 1 << 20 }
}

fn requests() -> Vec<(Request, bool)> {
    let line = |line: &str| (redis(line), false);
    vec![
        (batch(), true),
        (keys_and_vectors(), true),
        line("MSET foo 10 bar 20 hello 30 b 40 nosuch 50"),
        line("MSETNX nosuch 1 another 2 third 3"),
        line("MSETNX nosuch 1 foo 2 third 3"),
        line("DEL foo bar hello nosuch"),
        line("RENAME foo bar"),
        line("COPY foo nosuch"),
        line("BITOP OR nosuch foo bar hello"),
        (exec(Vec::new()), false),
        line("LCS foo bar"),
    ]
}

/// A gateway that ends at one step of a request; whether it was answered before.
async fn end_at(request: &Request, has_id: bool, end: End, crash: bool) -> bool {
    let shards = Shards::new(8);
    fill(&shards).await;
    let before = state(&shards.gateway()).await;
    let whole = {
        let other = Shards::new(8);
        fill(&other).await;
        other.gateway().call(request.clone()).await.unwrap();
        state(&other.gateway()).await
    };
    let (answer, _) = run(&shards, request.clone(), end).await;
    if crash {
        shards.open();
    }
    let context = format!("{request:?} {end:?}");
    let seen = state(&shards.gateway()).await;
    assert!(seen == before || seen == whole, "{context}: {seen:?}");
    assert!(answer.is_none() || seen == whole, "{context}: it was answered");
    assert_eq!(state_by_key(&shards.gateway()).await, seen, "{context}");
    if has_id {
        // Through another gateway: it happens now or had happened.
        for _ in 0..2 {
            shards.gateway().call(request.clone()).await.unwrap();
            assert_eq!(state(&shards.gateway()).await, whole, "{context}: not once");
        }
    }
    shards.gateway().sweep_transactions(Duration::ZERO).await.unwrap();
    assert_eq!(shards.unfinished().await, 0, "{context}: something stays locked");
    answer.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_may_end_at_every_step() {
    for (request, has_id) in requests() {
        let shards = Shards::new(8);
        fill(&shards).await;
        let (answer, calls) = run(&shards, request.clone(), End::Never).await;
        answer.unwrap().unwrap();
        assert!(calls >= 3, "{request:?}: {calls} calls");
        for n in 0..calls {
            for (end, crash) in [(End::Before(n), n % 2 == 0), (End::After(n), n % 2 == 1)] {
                let answered = end_at(&request, has_id, end, crash).await;
                assert!(!answered, "{request:?}: ended at {end:?} of {calls} calls");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_keep_everyone_out_and_survive_a_crash() {
    // Ends when all is prepared: nobody has decided, and nobody may look.
    let lines = [
        "SET bar 9",
        "APPEND hello 1",
        "GET bar",
        "EXISTS bar",
        "DBSIZE",
        "KEYS *",
        "RANDOMKEY",
        "GETDEL hello",
        "FLUSHALL",
        "TTL bar",
    ];
    for line in lines {
        let shards = Shards::new(8);
        fill(&shards).await;
        let (_, calls) = run(&Shards::clone(&shards), redis("MGET foo"), End::Never).await;
        assert_eq!(calls, 1);
        let request = redis("MSET foo 1 bar 1 hello 1 b 1");
        let mut n = 0;
        // The first calls are those to prepare: one to each shard but the home.
        while shards.unfinished().await < 3 && n < 10 {
            shards.gateway().sweep_transactions(Duration::ZERO).await.unwrap();
            run(&shards, request.clone(), End::After(n)).await;
            n += 1;
        }
        shards.open();
        assert_eq!(shards.unfinished().await, 3, "{line}");
        let locked = {
            let nodes = shards.nodes.lock().unwrap().clone();
            let mut locked = 0;
            for node in nodes {
                let answer = node.call(redis(line)).await;
                locked += usize::from(matches!(answer, Ok(Response::Locked(_))));
            }
            locked
        };
        assert!(locked > 0, "{line} met no lock");
        // A gateway settles it.
        shards.gateway().call(redis(line)).await.unwrap();
        if line != "FLUSHALL" {
            let values = state(&shards.gateway()).await;
            assert_eq!((values[0].as_deref(), values[3].as_deref()), (Some("1"), Some("4")));
        }
        shards.gateway().sweep_transactions(Duration::ZERO).await.unwrap();
        assert_eq!(shards.unfinished().await, 0, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_that_are_locked_are_shown_to_nobody() {
    let exact = VectorSearch { exact: true, ..VectorSearch::new(INDEX, &[0.0, 0.0], 10) };
    let calls = [
        VectorCall::Search(exact),
        VectorCall::Search(VectorSearch::new(INDEX, &[0.0, 0.0], 10)),
        VectorCall::Walk { index: INDEX.into(), after: None, limit: 10 },
        VectorCall::Get { index: INDEX.into(), ids: IDS.map(VectorId::new).to_vec() },
    ];
    let steps = {
        let shards = Shards::new(8);
        fill(&shards).await;
        run(&shards, keys_and_vectors(), End::Never).await.1
    };
    for call in calls {
        let (mut met, mut whole) = (0, 0);
        for n in 0..steps {
            let shards = Shards::new(8);
            fill(&shards).await;
            run(&shards, keys_and_vectors(), End::After(n)).await;
            shards.open();
            let nodes = shards.nodes.lock().unwrap().clone();
            let mut locked = 0;
            for node in &nodes {
                let answer = node.call(Request::Vector(Box::new(call.clone()))).await;
                locked += usize::from(matches!(answer, Ok(Response::Locked(_))));
            }
            let answer = about_vectors(&shards.gateway(), call.clone()).await.unwrap();
            let mut found: Vec<u64> = match answer {
                VectorAnswer::Found(found) => found.hits.iter().map(|hit| hit.id).collect(),
                VectorAnswer::Page { vectors, .. } => vectors.iter().map(|v| v.id).collect(),
                VectorAnswer::Vectors(all) => all.iter().flatten().map(|v| v.id).collect(),
                other => panic!("{other:?}"),
            };
            found.sort_unstable();
            let is_whole = found == [1, 3, 4];
            assert!(is_whole || found == [1, 2, 3], "{call:?} after {n}: {found:?}");
            whole += usize::from(is_whole);
            met += usize::from(is_whole && locked > 0);
        }
        assert!(met > 0 && whole < steps, "{call:?}: {met} of {whole} have met a lock");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_where_a_shard_has_not_the_index_yet() {
    let shards = Shards::new(8);
    let nodes = shards.nodes.lock().unwrap().clone();
    let spec = IndexSpec::new(INDEX, 2, Metric::L2);
    let create = || Request::Vector(Box::new(VectorCall::Create(spec.clone())));
    let writes: Vec<Write> = (1..60).map(|id| put_vector(INDEX, id, 7)).collect();
    let write = Request::Write { writes, id: Some(RequestId { client: 77, request: 3 }) };
    // The first vector's shard has it, as far as it goes.
    for node in &nodes[1..] {
        node.call(create()).await.unwrap();
    }
    let soon = GatewayOptions { call_timeout: Duration::from_millis(300), ..options(3) };
    let refused = Gateway::new(shards.local(), soon).call(write.clone()).await.unwrap_err();
    // It is tried again until then: the index is coming.
    assert!(matches!(refused.kind(), ErrorKind::Deadline | ErrorKind::Unavailable), "{refused}");
    nodes[0].call(create()).await.unwrap();
    let gateway = shards.gateway();
    let ids: Vec<u64> = (1..60).collect();
    assert!(payloads(&gateway, &ids).await.iter().all(Option::is_none));
    gateway.call(write).await.unwrap();
    assert!(payloads(&gateway, &ids).await.iter().all(Option::is_some));
    gateway.sweep_transactions(Duration::ZERO).await.unwrap();
    assert_eq!(shards.unfinished().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_was_dropped_takes_what_is_locked_of_it_along() {
    let shards = Shards::new(8);
    fill(&shards).await;
    for n in 0..6 {
        run(&shards, keys_and_vectors(), End::After(n)).await;
        let gateway = shards.gateway();
        about_vectors(&gateway, VectorCall::Drop { index: INDEX.into() }).await.unwrap();
        let spec = IndexSpec::new(INDEX, 2, Metric::L2);
        about_vectors(&gateway, VectorCall::Create(spec)).await.unwrap();
        gateway.sweep_transactions(Duration::ZERO).await.unwrap();
        assert_eq!(shards.unfinished().await, 0);
        assert_eq!(payloads(&gateway, &IDS).await, [None, None, None, None], "after {n}");
        let checked = about_vectors(&gateway, VectorCall::Verify { index: INDEX.into() }).await;
        assert!(matches!(checked, Ok(VectorAnswer::Checked(c)) if c.stored == 0), "{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_key_of_any_shard_stops_a_transaction() {
    let shards = Shards::new(8);
    fill(&shards).await;
    let gateway = shards.gateway();
    for touch in KEYS {
        let watch = Request::Watch { keys: KEYS.map(Bytes::from).to_vec() };
        let Response::Watched(watched) = gateway.call(watch).await.unwrap() else { panic!() };
        let before = state(&gateway).await;
        assert_eq!(reply(gateway.call(redis(&format!("SET {touch} 8"))).await), Reply::OK);
        assert_eq!(reply(gateway.call(exec(watched)).await), Reply::NilArray, "{touch}");
        let mut want = before;
        want[KEYS.iter().position(|key| *key == touch).unwrap()] = Some("8".to_string());
        assert_eq!(state(&gateway).await, want);
    }
    let watch = Request::Watch { keys: KEYS.map(Bytes::from).to_vec() };
    let Response::Watched(watched) = gateway.call(watch).await.unwrap() else { panic!() };
    let Reply::Array(replies) = reply(gateway.call(exec(watched)).await) else { panic!() };
    assert_eq!(replies.len(), 5);
    let want = [Some("9"), Some("8x"), None, None, Some("1")];
    let want = want.map(|value| value.map(str::to_string));
    assert_eq!(state(&gateway).await[..KEYS.len()], want);
}

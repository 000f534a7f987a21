//! A gateway over eight real shards beside one: the same requests get the same answers.

use crate::words::{append, call, get, keys, kind, put, reply, scanned};
use arqondb::base::CfId;
use arqondb::env::{Rng, SimClock, SimDisk};
use arqondb::gateway::{Gateway, GatewayOptions, LocalShards};
use arqondb::node::Standalone;
use arqondb::op::kv::{Condition, Expiry, MergeOp, Scan, Write};
use arqondb::op::route::slot_of;
use arqondb::op::{KvOps, Reply, Request, Response};
use arqondb::{Options, SyncLevel};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

const SHARDS: usize = 8;
const PIPELINES: usize = 1_500;

fn node(clock: &Arc<SimClock>) -> Standalone {
    let options = Options {
        sync: SyncLevel::Os,
        disk: SimDisk::new().shared(),
        clock: Arc::clone(clock) as _,
        memory_budget_bytes: 8 << 20,
        background_threads: 1,
        ..Options::default()
    };
    Standalone::open("/db", options).unwrap()
}

/// So many shards.
pub(crate) fn nodes(count: usize, clock: &Arc<SimClock>) -> Vec<Standalone> {
    (0..count).map(|_| node(clock)).collect()
}

struct Pair {
    many: Gateway<LocalShards<Standalone>>,
    one: Standalone,
    clock: Arc<SimClock>,
    /// The family beside the default one.
    other: CfId,
}

impl Pair {
    async fn new() -> Pair {
        let clock = Arc::new(SimClock::at(1_700_000_000_000));
        let many = Gateway::new(LocalShards::new(nodes(SHARDS, &clock)), GatewayOptions::default());
        let one = node(&clock);
        let create = Request::CreateCf { name: "other".to_string() };
        let created = many.call(create.clone()).await.unwrap();
        assert_eq!(created, one.call(create).await.unwrap());
        let Response::ColumnFamily(info) = created else { panic!() };
        Pair { many, one, clock, other: info.id }
    }

    /// Executes a pipeline on both.
    async fn same(&self, pipeline: Vec<Request>, round: usize) {
        let many = self.many.pipeline(pipeline.clone()).await;
        let one = self.one.pipeline(pipeline.clone()).await;
        assert_eq!(many.len(), one.len());
        for ((request, many), one) in pipeline.iter().zip(many).zip(one) {
            assert_eq!(plain(many), plain(one), "round {round}: {request:?}");
        }
    }
}

/// An answer without what each shard numbers for itself.
fn plain(answer: arqondb::Result<Response>) -> String {
    match answer {
        Ok(Response::Committed { .. }) => "committed".to_string(),
        Ok(Response::Conditional { applied, current, .. }) => {
            format!("{applied} {:?}", current.map(|e| (e.value, e.expire_at_ms)))
        }
        Ok(Response::Entry(entry)) => format!("{:?}", entry.map(|e| (e.value, e.expire_at_ms))),
        Ok(Response::Page { entries, next }) => {
            let entries: Vec<_> =
                entries.into_iter().map(|e| (e.key, e.value, e.expire_at_ms)).collect();
            format!("{entries:?} {}", next.is_empty())
        }
        Ok(other) => format!("{other:?}"),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// Keys that share tags, so that some lie together.
fn key(rng: &mut Rng) -> String {
    match rng.below(3) {
        0 => format!("{{t{}}}{}", rng.below(3), rng.below(12)),
        1 => format!("a{}", rng.below(60)),
        _ => format!("b:{}", rng.below(60)),
    }
}

/// Two keys, of one slot or of any.
fn together(rng: &mut Rng) -> (String, String) {
    if rng.one_in(2) {
        return (key(rng), key(rng));
    }
    let tag = rng.below(3);
    (format!("{{t{tag}}}{}", rng.below(12)), format!("{{t{tag}}}{}", rng.below(12)))
}

fn kv(rng: &mut Rng, other: CfId) -> Request {
    let cf = if rng.one_in(3) { other } else { CfId::DEFAULT };
    let name: Bytes = key(rng).into();
    let value = Bytes::from(format!("v{}", rng.below(1_000)));
    let expiry = match rng.below(4) {
        0 => Expiry::InMs(1 + rng.below(5_000)),
        1 => Expiry::Keep,
        _ => Expiry::Never,
    };
    match rng.below(12) {
        0..=2 => Request::Get { cf, key: name },
        3 | 4 => {
            Request::Write { writes: vec![Write::Put { cf, key: name, value, expiry }], id: None }
        }
        5 => Request::Write { writes: vec![Write::Delete { cf, key: name }], id: None },
        6 => {
            let operand = Bytes::from(rng.below(9).to_le_bytes().to_vec());
            let op = [MergeOp::Append, MergeOp::Max][rng.below(2) as usize];
            Request::Write { writes: vec![Write::Merge { cf, key: name, operand, op }], id: None }
        }
        7 => {
            let (one, two) = together(rng);
            let put = Write::Put { cf, key: one.into(), value, expiry: Expiry::Never };
            let delete = Write::Delete { cf: CfId::DEFAULT, key: two.into() };
            Request::Write { writes: vec![put, delete], id: None }
        }
        8 => {
            let condition = if rng.one_in(2) { Condition::Absent } else { Condition::Present };
            let value = Some(value).filter(|_| !rng.one_in(4));
            let expiry = Expiry::Never;
            Request::PutIf { cf, key: name, value, expiry, condition, id: None, seal: false }
        }
        9 if rng.one_in(4) => {
            let prefixes = ["a1", "b:2", "{t0}1", "{t1}", "nosuch", "a5"];
            let prefix = prefixes[rng.below(6) as usize].into();
            Request::DeleteByPrefix { cf, prefix }
        }
        9 => Request::Get { cf: CfId(77), key: name },
        _ => {
            let prefixes = ["", "a", "b:", "{t1}", "{t", "nosuch"];
            let bound = |rng: &mut Rng| match rng.one_in(3) {
                true => Bytes::from(key(rng)),
                false => Bytes::new(),
            };
            Request::Scan(Scan {
                cf,
                prefix: prefixes[rng.below(6) as usize].into(),
                start: bound(rng),
                end: bound(rng),
                limit: rng.below(20) as u32,
                reverse: rng.one_in(2),
                keys_only: rng.one_in(3),
                cursor: Bytes::new(),
            })
        }
    }
}

fn redis(rng: &mut Rng) -> Request {
    let (k, n) = (key(rng), rng.below(100).to_string());
    let (one, two) = together(rng);
    let words: Vec<&str> = match rng.below(29) {
        0 => vec!["GET", &k],
        1 => vec!["SET", &k, &n],
        2 => vec!["SET", &k, &n, "PX", "3000"],
        3 => vec!["SET", &k, &n, "NX", "GET"],
        4 => vec!["INCR", &k],
        5 => vec!["INCRBYFLOAT", &k, "1.5"],
        6 => vec!["APPEND", &k, &n],
        7 => vec!["GETDEL", &k],
        8 => vec!["SETRANGE", &k, "3", &n],
        9 => vec!["MGET", &k, &one, &k, "nosuch", &two],
        10 => vec!["EXISTS", &k, &one, &two, &k],
        11 => vec!["TOUCH", &k, &one, "a1", "a2", "a3"],
        12 => vec!["DEL", &one, &two, &k],
        13 => vec!["MSET", &one, &n, &two, "x"],
        14 => vec!["MSETNX", &one, &n, &two, "x"],
        15 => vec!["RENAME", &one, &two],
        16 => vec!["COPY", &one, &two, "REPLACE"],
        17 => vec!["DBSIZE"],
        18 => vec!["KEYS", "*1*"],
        19 => vec!["KEYS", "{t1}*"],
        20 => vec!["PEXPIRE", &k, "4000"],
        21 => vec!["TTL", &k],
        22 => vec!["BITOP", "XOR", &one, &two, &k],
        26 => vec!["RENAMENX", &one, &two],
        27 => vec!["LCS", &one, &two],
        28 => vec!["UNLINK", &one, "a7", &two],
        23 => vec!["OBJECT", "ENCODING", &k],
        24 => vec!["TYPE", &k],
        _ => vec!["SCAN", "0", "COUNT", "100000", "MATCH", "a*"],
    };
    Request::Redis(call(&words))
}

/// EXEC of calls on two keys.
fn transaction(rng: &mut Rng) -> Request {
    let (one, two) = together(rng);
    let n = rng.below(50).to_string();
    let calls = [
        vec!["SET", &one, &n],
        vec!["INCR", &two],
        vec!["MGET", &one, &two],
        vec!["SWAPDB", "0", "0"],
    ];
    let calls = calls.iter().map(|words| call(words)).collect();
    Request::RedisTransaction { watched: Vec::new(), calls, reply_bytes_max: 1 << 20 }
}

#[tokio::test]
async fn eight_shards_answer_as_one_does() {
    let pair = Pair::new().await;
    let mut rng = Rng::new(8);
    let mut slots = BTreeSet::new();
    for round in 0..PIPELINES {
        let pipeline: Vec<Request> = (0..1 + rng.below(25))
            .map(|_| match rng.below(20) {
                0 => transaction(&mut rng),
                1..=9 => kv(&mut rng, pair.other),
                _ => redis(&mut rng),
            })
            .collect();
        for request in &pipeline {
            arqondb::op::route::visit_keys(request, &mut |key| {
                slots.insert(pair.many.map().place_of(slot_of(key)));
            });
        }
        pair.same(pipeline, round).await;
        pair.clock.advance_ms(rng.below(300));
    }
    assert!(slots.len() >= SHARDS, "the keys lie in {} shards", slots.len());
    for request in [Request::ListCfs, Request::Scan(Scan { limit: 10_000, ..Scan::default() })] {
        pair.same(vec![request], PIPELINES).await;
    }
}

#[tokio::test]
async fn scans_in_small_pages_give_what_one_shard_gives_at_once() {
    let pair = Pair::new().await;
    let mut rng = Rng::new(4);
    let fill: Vec<Request> = (0..3_000).map(|_| put(key(&mut rng), "v")).collect();
    pair.same(fill, 0).await;
    let fill = (0..2_000).map(|n| append(format!("many{}", n % 1_100), "v")).collect();
    pair.same(fill, 1).await;
    for (prefix, reverse) in [("", false), ("", true), ("many1", false), ("{t2}", true)] {
        let mut page = Scan { prefix: prefix.into(), reverse, limit: 10_000, ..Scan::default() };
        let (want, end) = keys(pair.one.call(Request::Scan(page.clone())).await);
        assert!(end.is_empty() && want.len() > 5);
        page.limit = 7;
        let mut got = Vec::new();
        loop {
            let (some, next) = keys(pair.many.call(Request::Scan(page.clone())).await);
            got.extend(some);
            page.cursor = next;
            if page.cursor.is_empty() {
                break;
            }
        }
        assert_eq!(got, want, "{prefix} {reverse}");
    }
    for options in [&[][..], &["MATCH", "many*"], &["COUNT", "33"], &["MATCH", "{t1}*"]] {
        let (mut cursor, mut got) = ("0".to_string(), Vec::new());
        loop {
            let words = [&["SCAN", &cursor], options].concat();
            let (next, some) = scanned(pair.many.call(Request::Redis(call(&words))).await);
            got.extend(some);
            if next == "0" {
                break;
            }
            cursor = next;
        }
        got.sort();
        let pattern = if options.first() == Some(&"MATCH") { options[1] } else { "*" };
        let all = reply(pair.one.call(Request::Redis(call(&["KEYS", pattern]))).await);
        assert_eq!(Reply::Array(got.into_iter().map(Reply::Bulk).collect()), all, "{options:?}");
    }
}

#[tokio::test]
async fn families_are_made_and_dropped_in_all_shards() {
    let pair = Pair::new().await;
    let name = "more".to_string();
    let create = || Request::CreateCf { name: name.clone() };
    pair.same(vec![create(), create(), Request::ListCfs], 0).await;
    let cf = CfId(pair.other.0 + 1);
    let write = |n: u64| Request::Write {
        writes: vec![Write::Put {
            cf,
            key: n.to_string().into(),
            value: "v".into(),
            expiry: Expiry::Never,
        }],
        id: None,
    };
    pair.same((0..50).map(write).collect(), 1).await;
    let scan = Request::Scan(Scan { cf, limit: 30, ..Scan::default() });
    pair.same(vec![scan.clone(), Request::DropCf { cf }, scan, write(1), Request::ListCfs], 2)
        .await;
    assert!(kind(&pair.many.call(get("1")).await).is_none());
}

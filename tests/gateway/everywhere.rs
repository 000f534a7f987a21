//! Requests for every shard, while shards split, leaders change and calls fail.

use crate::words::{get, keys, kind, put, redis, reply, scan, scanned};
use crate::world::{Fault, World};
use arqondb::base::{CfId, ErrorKind};
use arqondb::env::Rng;
use arqondb::gateway::{Gateway, GatewayOptions};
use arqondb::op::kv::Scan;
use arqondb::op::route::{SLOTS, slot_of};
use arqondb::op::{KvOps, Reply, Request, Response};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// A gateway over shards that hold these keys.
async fn filled(shards: u16, seed: u64, keys: &[Bytes]) -> Gateway<World> {
    let gateway = World::new(shards, seed).gateway(GatewayOptions::default());
    let answers = gateway.pipeline(keys.iter().map(|key| put(key.clone(), "v")).collect()).await;
    assert!(answers.iter().all(Result::is_ok));
    gateway
}

fn numbered(count: usize) -> Vec<Bytes> {
    (0..count).map(|n| Bytes::from(format!("key{n:04}"))).collect()
}

#[tokio::test(start_paused = true)]
async fn scans_give_each_key_once_and_in_order_while_shards_split_and_calls_fail() {
    let mut rng = Rng::new(11);
    for round in 0..120 {
        // Few letters, the last of them the greatest byte, so that prefixes and bounds meet keys.
        let mut word = |most: u64| -> Bytes {
            (0..rng.below(most + 1)).map(|_| b"ab{}\xff"[rng.below(5) as usize]).collect()
        };
        let all: BTreeSet<Bytes> = (0..80).map(|_| word(5)).collect();
        let (prefix, start, end) = (word(2), word(3), word(3));
        let all: Vec<Bytes> = all.into_iter().collect();
        let gateway = filled(1 + rng.below(7) as u16, round, &all).await;
        {
            let mut state = gateway.calls().state();
            (state.fault_in, state.change_in) = (8, 4);
        }
        let mut page = Scan {
            prefix,
            start,
            end,
            limit: 1 + rng.below(9) as u32,
            reverse: rng.one_in(2),
            keys_only: rng.one_in(2),
            ..Scan::default()
        };
        let mut want: Vec<Bytes> = all
            .iter()
            .filter(|key| key.starts_with(&page.prefix) && **key >= page.start)
            .filter(|key| page.end.is_empty() || **key < page.end)
            .cloned()
            .collect();
        if page.reverse {
            want.reverse();
        }
        let mut got = Vec::new();
        loop {
            let (some, next) = keys(gateway.call(Request::Scan(page.clone())).await);
            assert!(some.len() == page.limit as usize || next.is_empty(), "{page:?}");
            got.extend(some);
            if next.is_empty() {
                break;
            }
            page.cursor = next;
        }
        assert_eq!(got, want, "round {round}: {page:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_asks_each_shard_for_little_more_than_its_share() {
    let gateway = filled(8, 1, &numbered(4_000)).await;
    gateway.calls().state().calls.clear();
    let (first, next) = keys(gateway.call(Request::Scan(scan("", 0))).await);
    assert_eq!((first.len(), next.is_empty()), (1_000, false));
    let calls = gateway.calls().state().calls.len();
    assert!((8..=16).contains(&calls), "{calls}");
    // A prefix with a whole tag concerns one shard, a limit of more than there is all of them.
    gateway.calls().state().calls.clear();
    keys(gateway.call(Request::Scan(scan("{key}", 10))).await);
    assert_eq!(gateway.calls().state().calls.len(), 1);
    let beyond = gateway.call(Request::Scan(scan("", 10_001))).await;
    assert_eq!(kind(&beyond), Some(ErrorKind::InvalidArgument));
    let wrong = Scan { cursor: Bytes::from("<key"), ..scan("", 5) };
    assert_eq!(kind(&gateway.call(Request::Scan(wrong)).await), Some(ErrorKind::InvalidArgument));
}

#[tokio::test(start_paused = true)]
async fn a_fan_out_calls_a_bounded_number_of_shards_at_a_time() {
    let options = GatewayOptions { fan_out_max: 3, ..GatewayOptions::default() };
    let gateway = World::new(12, 1).gateway(options);
    assert_eq!(reply(gateway.call(redis("DBSIZE")).await), Reply::Int(0));
    // The first time it does not know how far the shards were before, and reads again.
    {
        let state = gateway.calls().state();
        assert_eq!((state.calls.len(), state.inside.1), (24, 3));
    }
    assert_eq!(reply(gateway.call(redis("DBSIZE")).await), Reply::Int(0));
    assert_eq!(gateway.calls().state().calls.len(), 24 + 12);
}

#[tokio::test(start_paused = true)]
async fn an_answer_too_large_is_refused_whole() {
    let options = GatewayOptions { answer_bytes_max: 4_000, ..GatewayOptions::default() };
    let gateway = World::new(4, 1).gateway(options);
    let some: Vec<Request> = numbered(30).into_iter().map(|key| put(key, "v")).collect();
    gateway.pipeline(some).await;
    assert!(matches!(reply(gateway.call(redis("KEYS *")).await), Reply::Array(_)));
    gateway.pipeline(numbered(300).into_iter().map(|key| put(key, "v")).collect()).await;
    assert_eq!(kind(&gateway.call(redis("KEYS *")).await), Some(ErrorKind::Refused));
    assert_eq!(reply(gateway.call(redis("DBSIZE")).await), Reply::Int(300));
}

#[tokio::test(start_paused = true)]
async fn redis_scans_give_every_key_that_is_there_all_the_time() {
    for seed in 0..60 {
        let all = numbered(300);
        let gateway = filled(1 + (seed % 6) as u16, seed, &all).await;
        {
            let mut state = gateway.calls().state();
            // Now and then nothing changes: then no key may come twice either.
            (state.fault_in, state.change_in) = if seed % 4 == 0 { (0, 0) } else { (9, 6) };
        }
        let mut rng = Rng::new(seed);
        let mut seen: BTreeMap<Bytes, usize> = BTreeMap::new();
        let mut cursor = "0".to_string();
        let mut pages = 0;
        loop {
            let count = 1 + rng.below(40);
            let line = match rng.below(3) {
                0 => format!("SCAN {cursor}"),
                1 => format!("SCAN {cursor} COUNT {count}"),
                _ => format!("SCAN {cursor} MATCH key* COUNT {count} TYPE string"),
            };
            let (next, some) = scanned(gateway.call(redis(&line)).await);
            assert!(some.is_sorted());
            some.into_iter().for_each(|key| *seen.entry(key).or_default() += 1);
            assert!(next.parse::<u64>().unwrap() < 1 << 53);
            pages += 1;
            assert!(pages < 5_000, "seed {seed}: a scan without end");
            if next == "0" {
                break;
            }
            cursor = next;
        }
        let missing: Vec<&Bytes> = all.iter().filter(|key| !seen.contains_key(*key)).collect();
        assert!(missing.is_empty(), "seed {seed}: {missing:?}");
        assert_eq!(seen.len(), all.len());
        if seed % 4 == 0 {
            assert!(seen.values().all(|times| *times == 1), "seed {seed}: {seen:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_another_node_gave_is_not_mistaken_for_ones_own() {
    let all = numbered(60);
    let gateway = filled(1, 1, &all).await;
    let (cursor, first) = scanned(gateway.call(redis("SCAN 0 COUNT 20")).await);
    // The next leader has a place of that number too, which stands at the end.
    gateway.calls().state().elect(0);
    let (_, most) = scanned(gateway.call(redis("SCAN 0 COUNT 50")).await);
    assert_eq!(most.len(), 50);
    let (_, anew) = scanned(gateway.call(redis(&format!("SCAN {cursor} COUNT 20"))).await);
    assert_eq!(anew, first, "from the beginning of the shard");
}

#[tokio::test(start_paused = true)]
async fn scans_refuse_what_a_shard_refuses() {
    let gateway = filled(4, 1, &numbered(50)).await;
    for (line, error) in [
        ("SCAN x", "ERR invalid cursor"),
        ("SCAN 9007199254740992", "ERR invalid cursor"),
        ("SCAN 0 COUNT 0", "ERR syntax error"),
        ("SCAN 0 COUNT", "ERR syntax error"),
        ("SCAN 0 COUNT x", "ERR value is not an integer or out of range"),
        ("SCAN 7 NOSUCH 1", "ERR syntax error"),
    ] {
        assert_eq!(reply(gateway.call(redis(line)).await), Reply::Error(error.into()), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn counts_keys_and_figures_are_those_of_all_shards_while_they_split() {
    for seed in 0..40 {
        let all = numbered(200);
        let gateway = filled(3, seed, &all).await;
        {
            let mut state = gateway.calls().state();
            (state.fault_in, state.change_in) = (6, 6);
        }
        for _ in 0..5 {
            assert_eq!(reply(gateway.call(redis("DBSIZE")).await), Reply::Int(200));
            let Reply::Array(found) = reply(gateway.call(redis("KEYS key01*")).await) else {
                panic!()
            };
            let want = all.iter().filter(|key| key.starts_with(b"key01")).cloned();
            assert_eq!(found, want.map(Reply::Bulk).collect::<Vec<_>>());
            match gateway.call(Request::Stats).await.unwrap() {
                Response::Stats(stats) => {
                    assert_eq!((stats.keys, stats.sync), (200, "os"));
                    assert!(stats.more[0].1 >= 3 && stats.more.len() == 1);
                }
                other => panic!("{other:?}"),
            }
        }
        let prefix = Bytes::from("key01");
        let delete = Request::DeleteByPrefix { cf: CfId::DEFAULT, prefix };
        match gateway.call(delete).await {
            Ok(Response::Deleted(n)) => {
                assert_eq!(n, 100);
                gateway.calls().state().fault_in = 0;
                assert_eq!(reply(gateway.call(redis("DBSIZE")).await), Reply::Int(100));
            }
            // It may be repeated only by who knows what he does.
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unknown),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fan_out_that_wrote_in_part_is_unknown_and_one_that_wrote_nothing_failed() {
    let flush = || redis("FLUSHALL");
    let gateway = filled(4, 1, &numbered(40)).await;
    gateway.calls().state().script.extend([Fault::None, Fault::LostBefore]);
    assert_eq!(kind(&gateway.call(flush()).await), Some(ErrorKind::Unknown));
    // One shard has done it when the others prove to be out of reach.
    let gateway = filled(4, 1, &numbered(40)).await;
    gateway.calls().state().script.push_back(Fault::None);
    gateway.calls().state().script.extend([Fault::Unreachable; 20_000]);
    assert_eq!(kind(&gateway.call(flush()).await), Some(ErrorKind::Unknown));
    let gateway = filled(4, 1, &numbered(40)).await;
    gateway.calls().state().script.extend([Fault::Unreachable; 20_000]);
    assert_eq!(kind(&gateway.call(flush()).await), Some(ErrorKind::Deadline));
    gateway.calls().state().script.clear();
    assert_eq!(reply(gateway.call(redis("DBSIZE")).await), Reply::Int(40));
    assert_eq!(reply(gateway.call(redis("FLUSHALL x")).await), Reply::syntax_error());
    assert_eq!(reply(gateway.call(flush()).await), Reply::OK);
    assert_eq!(reply(gateway.call(redis("DBSIZE")).await), Reply::Int(0));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_in_one_shard_gives_no_part_of_an_answer() {
    let options = GatewayOptions {
        call_timeout: std::time::Duration::from_millis(500),
        ..Default::default()
    };
    let gateway = World::new(4, 1).gateway(options);
    gateway.pipeline(numbered(40).into_iter().map(|key| put(key, "v")).collect()).await;
    for request in [redis("KEYS *"), redis("DBSIZE"), Request::Scan(scan("", 5)), Request::Stats] {
        gateway.calls().state().script.extend([Fault::None, Fault::Hang]);
        assert_eq!(kind(&gateway.call(request).await), Some(ErrorKind::Deadline));
    }
}

#[tokio::test(start_paused = true)]
async fn random_keys_come_from_all_shards_and_nearly_evenly() {
    let all = numbered(40);
    let gateway = filled(8, 1, &all).await;
    let mut drawn: BTreeMap<Bytes, usize> = BTreeMap::new();
    for _ in 0..4_000 {
        match reply(gateway.call(redis("RANDOMKEY")).await) {
            Reply::Bulk(key) => *drawn.entry(key).or_default() += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(drawn.len(), 40);
    assert!(drawn.values().all(|times| (50..=170).contains(times)), "{drawn:?}");
    assert_eq!(reply(gateway.call(redis("FLUSHDB")).await), Reply::OK);
    assert_eq!(reply(gateway.call(redis("RANDOMKEY")).await), Reply::Nil);
}

#[tokio::test(start_paused = true)]
async fn one_key_is_in_one_shard_and_every_slot_in_some() {
    let gateway = filled(5, 1, &numbered(10)).await;
    let map = gateway.map();
    assert!(map.is_whole());
    for slot in (0..SLOTS).step_by(101) {
        assert!(map.shard_of(slot).unwrap().slots.contains(slot));
    }
    let before = gateway.calls().state().calls.len();
    assert!(gateway.call(get("key0001")).await.is_ok());
    let state = gateway.calls().state();
    assert_eq!(state.calls.len(), before + 1);
    assert_eq!(state.calls[before].0, map.shard_of(slot_of(b"key0001")).unwrap().id);
}

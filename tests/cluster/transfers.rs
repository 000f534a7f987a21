//! Writes over several shards while nodes go and come.

use crate::world::World;
use arqondb::CfId;
use arqondb::op::command;
use arqondb::op::kv::{MergeOp, RedisCall, Write};
use arqondb::op::{KvOps, Reply, Request, Response};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const ACCOUNTS: i64 = 10;

fn account(n: i64) -> Bytes {
    Bytes::from(format!("account-{n}"))
}

fn add(n: i64, amount: i64) -> Write {
    let operand = Bytes::from(amount.to_le_bytes().to_vec());
    Write::Merge { cf: CfId::DEFAULT, key: account(n), operand, op: MergeOp::Add }
}

async fn amounts(kv: &impl KvOps) -> Vec<i64> {
    let args: Vec<Bytes> =
        std::iter::once(Bytes::from("MGET")).chain((0..ACCOUNTS).map(account)).collect();
    let call = RedisCall { spec: command::lookup(&args).unwrap(), args };
    let Response::Redis(Reply::Array(values)) = kv.call(Request::Redis(call)).await.unwrap() else {
        panic!("no list")
    };
    let amount = |value| match value {
        Reply::Bulk(bytes) => i64::from_le_bytes(bytes[..].try_into().unwrap()),
        other => panic!("{other:?}"),
    };
    values.into_iter().map(amount).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_between_shards_go_on_while_nodes_are_restarted_and_money_stays_whole() {
    let mut world = World::cluster(1, 3, 8, 3).await;
    let gateway = world.gateway();
    let open = Request::Write { writes: (0..ACCOUNTS).map(|n| add(n, 100)).collect(), id: None };
    gateway.call(open).await.unwrap();
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (reader, sweeper) = (world.gateway(), world.gateway());
    let transfer = |from: i64| {
        let (gateway, over, done) = (&gateway, &over, &done);
        async move {
            let mut given = 0;
            while !over.load(Ordering::SeqCst) {
                let writes = vec![add(from, -1), add((from + 5) % ACCOUNTS, 1)];
                gateway.call(Request::Write { writes, id: None }).await.unwrap();
                done.fetch_add(1, Ordering::SeqCst);
                given += 1;
            }
            given
        }
    };
    let read = async {
        while !over.load(Ordering::SeqCst) {
            let amounts = amounts(&*reader).await;
            assert_eq!(amounts.iter().sum::<i64>(), 100 * ACCOUNTS, "{amounts:?}");
        }
    };
    let restart = async {
        for node in 1..=3 {
            let before = done.load(Ordering::SeqCst);
            world.stop_node(node).await;
            world.start_node(node).await;
            while done.load(Ordering::SeqCst) < before + 20 {
                tokio::task::yield_now().await;
            }
        }
        over.store(true, Ordering::SeqCst);
    };
    let (a, b, (), ()) = tokio::join!(transfer(0), transfer(7), read, restart);
    sweeper.sweep_transactions(std::time::Duration::ZERO).await.unwrap();
    let mut want = [100; ACCOUNTS as usize];
    (want[0], want[5]) = (100 - a, 100 + a);
    (want[7], want[2]) = (100 - b, 100 + b);
    assert_eq!(amounts(&*gateway).await, want, "an acknowledged transfer was lost or done twice");
}

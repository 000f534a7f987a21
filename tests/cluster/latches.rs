//! Requests that wait for a commit with latches held, beside those that want the latches.

use crate::world::World;
use arqondb::CfId;
use arqondb::op::kv::{Expiry, Write};
use arqondb::op::{KvOps, Request};
use bytes::Bytes;
use std::sync::mpsc;
use std::time::Duration;

/// Ends the process if the test does not: threads that sleep on a latch hear no timer.
fn ends_within(time: Duration, what: &'static str) -> mpsc::Sender<()> {
    let (done, ended) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if ended.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("DEADLOCK: {what}");
            std::process::exit(101);
        }
    });
    done
}

fn put(key: String) -> Request {
    let (value, expiry) = (Bytes::from_static(b"v"), Expiry::Never);
    let write = Write::Put { cf: CfId::DEFAULT, key: Bytes::from(key), value, expiry };
    Request::Write { writes: vec![write], id: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_by_prefix_beside_writers_ends() {
    let world = World::cluster(1, 3, 1, 3).await;
    let gateway = world.gateway();
    gateway.call(put("warm".into())).await.unwrap();
    let done = ends_within(Duration::from_secs(60), "a delete by prefix beside eight writers");
    let writers = (0..8).map(|writer| {
        let gateway = gateway.clone();
        tokio::spawn(async move {
            for i in 0..300 {
                _ = gateway.call(put(format!("p-{writer}-{i}"))).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    for _ in 0..20 {
        let prefix = Bytes::from_static(b"p-");
        _ = gateway.call(Request::DeleteByPrefix { cf: CfId::DEFAULT, prefix }).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    drop(done);
}

//! `kill -9` of the node that leads most while vectors are loaded in bulk through gateways.

use crate::cluster::{Cluster, Layout, connect, soon};
use crate::scenarios::Rounds;
use arqondb::base::{Error, ErrorKind};
use arqondb::env::Rng;
use arqondb::op::vector::{
    Checked, Floats, IndexSpec, Metric, StoredVector, VectorAnswer, VectorCall, VectorId,
    VectorSearch,
};
use arqondb::op::{Request, Response};
use arqondb::rpc::Client;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio::time::Instant;

const NAME: &str = "docs";
const DIM: usize = 16;
/// Clients that load at a time, and vectors of one stream.
const LOADERS: u64 = 4;
const STREAM: u64 = 300;
/// Acknowledged vectors before a kill, and after it.
const BEFORE: u64 = 3_000;
const AFTER: u64 = 3_000;

/// The vector of an id: no two are alike.
fn vector(id: u64) -> Vec<f32> {
    let mut rng = Rng::new(id);
    (0..DIM).map(|_| rng.below(2_000) as f32 - 1_000.0).collect()
}

/// What the loaders share.
#[derive(Default)]
struct Desk {
    next: AtomicU64,
    acknowledged: AtomicU64,
    moved: Notify,
    stop: AtomicBool,
}

impl Desk {
    /// Waits until so many more are acknowledged.
    async fn wait_for(&self, more: u64) {
        let (until, deadline) = (self.acknowledged.load(Ordering::Relaxed) + more, soon());
        while self.acknowledged.load(Ordering::Relaxed) < until {
            let moved = tokio::time::timeout_at(deadline, self.moved.notified()).await;
            moved.expect("vectors are acknowledged again in time");
        }
    }
}

/// Loads until told to stop; the ids that were acknowledged.
async fn load(door: Client, desk: Arc<Desk>) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    while !desk.stop.load(Ordering::Relaxed) {
        let first = desk.next.fetch_add(STREAM, Ordering::Relaxed);
        let stored = |id| StoredVector {
            id,
            vector: Floats::of(&vector(id)),
            payload: format!("{{\"id\":{id}}}").into(),
        };
        // One that is told as failed, or of which nothing is told, may be there or not.
        if let Ok(put) = door.put_vectors(NAME, (first..first + STREAM).map(stored).collect()).await
        {
            let failed: BTreeSet<u64> = put.refused.iter().map(|refused| refused.id).collect();
            let before = acknowledged.len();
            acknowledged.extend((first..first + STREAM).filter(|id| !failed.contains(id)));
            let count = (acknowledged.len() - before) as u64;
            assert_eq!(count, put.written, "{put:?}");
            desk.acknowledged.fetch_add(count, Ordering::Relaxed);
            desk.moved.notify_one();
        }
    }
    acknowledged
}

/// Asks until there is an answer: a shard may just be without a leader.
async fn ask(door: &Client, call: VectorCall) -> VectorAnswer {
    let until = soon();
    loop {
        let error = match door.execute(Request::Vector(Box::new(call.clone()))).await {
            Ok(Response::Vector(answer)) => return *answer,
            Ok(other) => panic!("{other:?}"),
            Err(error) => error,
        };
        let may_pass = |error: &Error| {
            error.kind().is_retryable()
                || matches!(error.kind(), ErrorKind::Deadline | ErrorKind::Unknown)
        };
        assert!(may_pass(&error) && Instant::now() < until, "{error}");
    }
}

/// Every vector of the index.
async fn walk(door: &Client) -> BTreeSet<u64> {
    let (mut all, mut after) = (BTreeSet::new(), None);
    loop {
        let call = VectorCall::Walk { index: NAME.into(), after, limit: 2_000 };
        let VectorAnswer::Page { vectors, next } = ask(door, call).await else { panic!("no page") };
        for one in vectors {
            assert_eq!(one.vector.to_vec(), vector(one.id), "vector {} is not whole", one.id);
            assert_eq!(one.payload, format!("{{\"id\":{}}}", one.id));
            all.insert(one.id);
        }
        after = next;
        if after.is_none() {
            return all;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_vectors_outlive_the_leader_that_took_them() {
    let mut cluster = Cluster::start(Layout { shards: 8, ..Layout::default() }).await;
    let doors: Vec<Client> = cluster.doors.iter().map(|door| connect(door)).collect();
    let spec = IndexSpec::new(NAME, DIM as u32, Metric::L2);
    ask(&doors[0], VectorCall::Create(spec)).await;
    let mut rounds = Rounds::at_least(1);
    let mut acknowledged = BTreeSet::new();
    let mut first = 0;
    while rounds.next() {
        let desk = Arc::new(Desk { next: AtomicU64::new(first), ..Desk::default() });
        let loaders: Vec<_> = (0..LOADERS)
            .map(|n| tokio::spawn(load(doors[n as usize % doors.len()].clone(), desk.clone())))
            .collect();
        desk.wait_for(BEFORE).await;
        let (victim, led) = cluster.leads_most();
        cluster.nodes.get_mut(&victim).unwrap().kill();
        desk.wait_for(AFTER).await;
        cluster.restart(victim).await;
        desk.stop.store(true, Ordering::Relaxed);
        for loader in loaders {
            acknowledged.extend(loader.await.unwrap());
        }
        let tried = desk.next.load(Ordering::Relaxed);
        first = tried;

        let there = walk(&doors[1]).await;
        let lost: Vec<&u64> = acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "{} acknowledged vectors are lost: {lost:?}", lost.len());
        assert!(there.iter().all(|id| *id < tried), "a vector that nobody put");
        for id in there.iter().step_by(37) {
            let search = VectorSearch::new(NAME, &vector(*id), 1);
            let call = VectorCall::Search(VectorSearch { exact: true, ..search });
            let VectorAnswer::Found(found) = ask(&doors[0], call).await else { panic!("no hits") };
            assert_eq!((found.hits[0].id, found.hits[0].distance), (*id, 0.0));
        }
        let verify = VectorCall::Verify { index: NAME.into() };
        let VectorAnswer::Checked(checked) = ask(&doors[0], verify).await else {
            panic!("no check")
        };
        let stored = there.len() as u64;
        assert_eq!(checked, Checked { stored, missing: 0, surplus: 0 });
        let ids = vec![VectorId::new(*there.first().unwrap())];
        let get = VectorCall::Get { index: NAME.into(), ids };
        assert!(
            matches!(ask(&doors[1], get).await, VectorAnswer::Vectors(all) if all[0].is_some())
        );
        println!(
            "vectors: node {victim} killed, which led {} of 8 shards; {} acknowledged, {stored} there, \
             none lost",
            led.len(),
            acknowledged.len()
        );
    }
}

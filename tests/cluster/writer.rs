//! Clients that write all the time, and what they were promised.

use arqondb::CfId;
use arqondb::gateway::{Gateway, RemoteShards};
use arqondb::op::kv::{Expiry, Write};
use arqondb::op::{KvOps, Request, Response};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

type Door = Arc<Gateway<RemoteShards>>;

pub(crate) fn put(key: &str, value: impl Into<Bytes>) -> Request {
    let write = Write::Put {
        cf: CfId::DEFAULT,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        expiry: Expiry::Never,
    };
    Request::Write { writes: vec![write], id: None }
}

pub(crate) async fn get(kv: &impl KvOps, key: &str) -> Option<Bytes> {
    let request = Request::Get { cf: CfId::DEFAULT, key: Bytes::copy_from_slice(key.as_bytes()) };
    match kv.call(request).await.unwrap() {
        Response::Entry(entry) => entry.map(|entry| entry.value),
        other => panic!("{other:?}"),
    }
}

/// What a client has written.
struct Written {
    model: BTreeMap<String, Bytes>,
    longest: Duration,
}

/// Clients that write without a pause, each its own keys.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Written>>,
    door: Door,
}

impl Writers {
    /// Starts `clients` of them with values of so many bytes. A request that fails fails the test.
    pub(crate) fn start(door: &Door, clients: usize, value_bytes: usize) -> Writers {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |client| {
            let (door, stop, count) = (door.clone(), stop.clone(), count.clone());
            tokio::spawn(async move {
                let mut written = Written { model: BTreeMap::new(), longest: Duration::ZERO };
                for n in 0u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("client-{client}-key-{}", n * 7 % 200);
                    let mut value = n.to_string().into_bytes();
                    value.resize(value_bytes.max(value.len()), b'.');
                    let value = Bytes::from(value);
                    let began = Instant::now();
                    let answer = door.call(put(&key, value.clone())).await;
                    assert!(matches!(answer, Ok(Response::Committed { .. })), "{answer:?}");
                    written.longest = written.longest.max(began.elapsed());
                    written.model.insert(key, value);
                    count.fetch_add(1, Ordering::Relaxed);
                }
                written
            })
        };
        let tasks = (0..clients).map(client).collect();
        Writers { stop, count, tasks, door: door.clone() }
    }

    /// Writes acknowledged so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until so many more writes are acknowledged.
    pub(crate) async fn more(&self, more: u64) {
        let (wanted, until) = (self.count() + more, crate::world::soon());
        while self.count() < wanted {
            assert!(Instant::now() < until, "writes stand still at {}", self.count());
            // Each look waits for an answer of the cluster.
            get(&*self.door, "client-0-key-0").await;
        }
    }

    /// Ends them, and checks that all that was acknowledged is there. Gives the longest time that
    /// a request took, and how many there were.
    pub(crate) async fn end(self, through: &Door) -> (Duration, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for task in self.tasks {
            let written = task.await.unwrap();
            longest = longest.max(written.longest);
            for (key, value) in &written.model {
                assert_eq!(get(&**through, key).await.as_ref(), Some(value), "{key}");
            }
        }
        (longest, self.count.load(Ordering::Relaxed))
    }
}

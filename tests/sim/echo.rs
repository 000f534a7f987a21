//! Calls of shards, of which some come twice: the second time late, as from a caller that gave the
//! first up, and nobody hears the answer. Only such come twice as may be repeated, and were done.
// tidy: sleeps because time is simulated

use arqondb::base::{Error, ErrorKind, Result, Seq};
use arqondb::env::Rng;
use arqondb::gateway::{CallFailure, Called, RemoteShards, ShardCalls, ShardInfo, Target};
use arqondb::op::kv::RequestId;
use arqondb::op::txn::{Lock, Txn};
use arqondb::op::{Request, Response};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The shards of a cluster, with echoes.
#[derive(Debug, Clone)]
pub(crate) struct EchoingShards {
    shards: RemoteShards,
    rng: Arc<Mutex<Rng>>,
    /// One in so many calls comes twice.
    one_in: u64,
}

impl EchoingShards {
    pub(crate) fn new(shards: RemoteShards, seed: u64, one_in: u64) -> EchoingShards {
        EchoingShards { shards, rng: Arc::new(Mutex::new(Rng::new(seed))), one_in }
    }

    /// After how long a call of these is to come once more, if it is.
    fn echoes(&self, requests: &[Request]) -> Option<Duration> {
        let repeatable = |request: &Request| match request {
            Request::Txn(_) => true,
            Request::Write { id, .. } => id.is_some(),
            Request::PutIf { id, seal, .. } => id.is_some() && *seal,
            _ => false,
        };
        let mut rng = self.rng.lock().unwrap();
        (requests.iter().all(repeatable) && rng.one_in(self.one_in)).then(|| {
            let late_ms = if rng.one_in(2) { 300 } else { 4_000 };
            Duration::from_millis(rng.below(late_ms))
        })
    }
}

/// Whether all of a call took place. What was said to have failed must not happen later, nor what
/// met a lock: its caller may give up, and tell that it did not happen.
fn was_done(called: &Called) -> bool {
    let done = |answer: &Result<Response>| !matches!(answer, Err(_) | Ok(Response::Locked(_)));
    called.stopped.is_none() && called.answers.iter().all(done)
}

impl ShardCalls for EchoingShards {
    async fn call(&self, to: &Target, requests: &[Request], deadline: Instant) -> Called {
        let called = self.shards.call(to, requests, deadline).await;
        if was_done(&called)
            && let Some(late) = self.echoes(requests)
        {
            let (shards, to, requests) = (self.shards.clone(), to.clone(), requests.to_vec());
            tokio::spawn(async move {
                sleep(late).await;
                let until = Instant::now() + Duration::from_secs(2);
                _ = shards.call(&to, &requests, until).await;
            });
        }
        called
    }

    async fn catalog(&self, request: &Request, deadline: Instant) -> Called {
        self.shards.catalog(request, deadline).await
    }

    async fn shards(&self) -> Result<Vec<ShardInfo>> {
        self.shards.shards().await
    }
}

/// A copy of what met a lock took place after its writer was told that the time had run out: seed
/// 2000180, in a calm run of twenty minutes.
#[test]
fn only_what_took_place_comes_twice() {
    let id = RequestId { client: 1, request: 1 };
    let lock = Lock { txn: Txn { id, attempt: 0, home: 0 }, slot: 0 };
    let done = Response::Committed { seq: Seq(1) };
    assert!(was_done(&Called::all(vec![Ok(done.clone())])));
    assert!(!was_done(&Called::all(vec![Ok(done.clone()), Ok(Response::Locked(lock))])));
    let failed = Error::new(ErrorKind::Unavailable, "not now");
    assert!(!was_done(&Called::all(vec![Ok(done), Err(failed)])));
    assert!(!was_done(&Called::failed(CallFailure::NotLeader { leader: None })));
}

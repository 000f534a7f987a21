//! Calls of shards, of which some come twice: the second time late, as from a caller that gave the
//! first up, and nobody hears the answer. Only such come twice as may be repeated, and were done.
// tidy: sleeps because time is simulated

use arqondb::base::Result;
use arqondb::env::Rng;
use arqondb::gateway::{Called, RemoteShards, ShardCalls, ShardInfo, Target};
use arqondb::op::Request;
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

impl ShardCalls for EchoingShards {
    async fn call(&self, to: &Target, requests: &[Request], deadline: Instant) -> Called {
        let called = self.shards.call(to, requests, deadline).await;
        // What was said to have failed must not happen later.
        let is_done = called.stopped.is_none() && called.answers.iter().all(Result::is_ok);
        if is_done && let Some(late) = self.echoes(requests) {
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

//! A copy of the question to commit that is late on its way: the repeated one says nothing of it.

use crate::steps::{Shards, options};
use crate::words::{put, redis, reply};
use arqondb::base::{Error, ErrorKind, Result};
use arqondb::gateway::{
    CallFailure, Called, Gateway, GatewayOptions, LocalShards, ShardCalls, ShardInfo, Target,
};
use arqondb::node::Standalone;
use arqondb::op::kv::RequestId;
use arqondb::op::txn::{Lock, Txn, TxnCall};
use arqondb::op::{KvOps, Reply, Request, Response};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// What there has been of questions to commit.
enum Stage {
    /// The first is kept back, and lost for whoever asks.
    First,
    /// The second is refused, or meets a lock; from then on nobody is reached.
    Second,
    Cut,
}

struct Late {
    shards: LocalShards<Standalone>,
    stage: Mutex<Stage>,
    kept: Mutex<Option<(Target, Vec<Request>)>>,
    /// Whose lock the second meets; else it is refused.
    other: Option<Txn>,
}

impl Late {
    /// What becomes of a call, if it is not just executed.
    fn fault(&self, to: &Target, requests: &[Request]) -> Option<Called> {
        let decides = requests.iter().any(|request| match request {
            Request::Txn(call) => matches!(**call, TxnCall::Decide { .. }),
            _ => false,
        });
        let lost = || Error::new(ErrorKind::Unavailable, "the connection is gone");
        let mut stage = self.stage.lock().unwrap();
        match *stage {
            Stage::Cut => Some(Called::failed(CallFailure::Unreachable(lost()))),
            Stage::First if decides => {
                *self.kept.lock().unwrap() = Some((to.clone(), requests.to_vec()));
                *stage = Stage::Second;
                Some(Called::failed(CallFailure::Unknown(lost())))
            }
            Stage::Second if decides => {
                *stage = Stage::Cut;
                let answer = match self.other {
                    Some(txn) => Ok(Response::Locked(Lock { txn, slot: txn.home })),
                    None => Err(Error::new(ErrorKind::Refused, "there is no room now")),
                };
                Some(Called::all(vec![answer]))
            }
            Stage::First | Stage::Second => None,
        }
    }
}

impl ShardCalls for Late {
    async fn call(&self, to: &Target, requests: &[Request], deadline: Instant) -> Called {
        match self.fault(to, requests) {
            Some(called) => called,
            None => self.shards.call(to, requests, deadline).await,
        }
    }

    async fn catalog(&self, request: &Request, deadline: Instant) -> Called {
        self.shards.catalog(request, deadline).await
    }

    async fn shards(&self) -> Result<Vec<ShardInfo>> {
        ShardCalls::shards(&self.shards).await
    }
}

#[tokio::test]
async fn what_a_late_copy_may_commit_is_not_told_as_undone() {
    // A refusal; a lock of one that has to wait, and of one that goes first.
    for attempt in [None, Some(0), Some(9)] {
        let shards = Shards::new(8);
        assert_eq!(reply(shards.gateway().call(redis("MSET foo 1 bar 1")).await), Reply::OK);
        let id = RequestId { client: u64::MAX, request: u64::MAX };
        let late = Late {
            shards: shards.local(),
            stage: Mutex::new(Stage::First),
            kept: Mutex::default(),
            other: attempt.map(|attempt| Txn { id, attempt, home: 3 }),
        };
        let options = GatewayOptions { call_timeout: Duration::from_millis(300), ..options(2) };
        let gateway = Gateway::new(late, options);
        let error = gateway.call(redis("MSET foo 2 bar 2")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");

        let kept = gateway.calls().kept.lock().unwrap().take();
        let (to, requests) = kept.unwrap_or_else(|| panic!("nobody asked to commit"));
        let until = Instant::now() + Duration::from_secs(60);
        let called = gateway.calls().shards.call(&to, &requests, until).await;
        assert!(called.stopped.is_none() && called.answers.iter().all(Result::is_ok), "{called:?}");
        let both = Reply::Array(vec![Reply::bulk("2"), Reply::bulk("2")]);
        let other = shards.gateway();
        assert_eq!(reply(other.call(redis("MGET foo bar")).await), both, "it was committed");
        assert!(other.call(put("foo", "3")).await.is_ok(), "nothing stays locked");
    }
}

//! A copy that is late on its way: of the question to commit, and of a conditional write. What the
//! repeated one is told must hold when it arrives.

use crate::steps::{Shards, options};
use crate::words::{put, redis, reply};
use arqondb::base::{CfId, Error, ErrorKind, Result, Seq};
use arqondb::gateway::{
    CallFailure, Called, Gateway, GatewayOptions, LocalShards, ShardCalls, ShardInfo, Target,
};
use arqondb::node::Standalone;
use arqondb::op::kv::{Condition, Expiry, RequestId};
use arqondb::op::txn::{Lock, Txn, TxnCall};
use arqondb::op::{KvOps, Reply, Request, Response};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// What there has been of the copies.
enum Stage {
    /// The first is kept back, and lost for whoever asks.
    First,
    /// The second meets what it is to meet.
    Second,
    /// Nobody is reached.
    Cut,
    /// All is executed.
    Past,
}

/// What the second copy meets.
enum Meets {
    Shard,
    /// A refusal, and from then on nobody is reached.
    Refusal,
    /// Somebody's lock, and from then on nobody is reached.
    Lock(Txn),
}

struct Late {
    shards: LocalShards<Standalone>,
    stage: Mutex<Stage>,
    kept: Mutex<Option<(Target, Vec<Request>)>>,
    second: Meets,
}

impl Late {
    /// What becomes of a call, if it is not just executed.
    fn fault(&self, to: &Target, requests: &[Request]) -> Option<Called> {
        let copied = requests.iter().any(|request| match request {
            Request::Txn(call) => matches!(**call, TxnCall::Decide { .. }),
            other => matches!(other, Request::PutIf { .. }),
        });
        let lost = || Error::new(ErrorKind::Unavailable, "the connection is gone");
        let mut stage = self.stage.lock().unwrap();
        match *stage {
            Stage::Cut => Some(Called::failed(CallFailure::Unreachable(lost()))),
            Stage::First if copied => {
                *self.kept.lock().unwrap() = Some((to.clone(), requests.to_vec()));
                *stage = Stage::Second;
                Some(Called::failed(CallFailure::Unknown(lost())))
            }
            Stage::Second if copied => {
                let answer = match self.second {
                    Meets::Shard => {
                        *stage = Stage::Past;
                        return None;
                    }
                    Meets::Lock(txn) => Ok(Response::Locked(Lock { txn, slot: txn.home })),
                    Meets::Refusal => Err(Error::new(ErrorKind::Refused, "there is no room now")),
                };
                *stage = Stage::Cut;
                Some(Called::all(vec![answer]))
            }
            Stage::First | Stage::Second | Stage::Past => None,
        }
    }
}

impl Late {
    fn new(shards: &Shards, second: Meets) -> Late {
        let shards = shards.local();
        Late { shards, stage: Mutex::new(Stage::First), kept: Mutex::default(), second }
    }

    /// The copy that was kept back arrives.
    async fn arrive(&self) -> Called {
        let kept = self.kept.lock().unwrap().take();
        let (to, requests) = kept.unwrap_or_else(|| panic!("nothing was sent"));
        let until = Instant::now() + Duration::from_secs(60);
        self.shards.call(&to, &requests, until).await
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
        let second =
            attempt.map_or(Meets::Refusal, |attempt| Meets::Lock(Txn { id, attempt, home: 3 }));
        let late = Late::new(&shards, second);
        let options = GatewayOptions { call_timeout: Duration::from_millis(300), ..options(2) };
        let gateway = Gateway::new(late, options);
        let error = gateway.call(redis("MSET foo 2 bar 2")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");

        let called = gateway.calls().arrive().await;
        assert!(called.stopped.is_none() && called.answers.iter().all(Result::is_ok), "{called:?}");
        let both = Reply::Array(vec![Reply::bulk("2"), Reply::bulk("2")]);
        let other = shards.gateway();
        assert_eq!(reply(other.call(redis("MGET foo bar")).await), both, "it was committed");
        assert!(other.call(put("foo", "3")).await.is_ok(), "nothing stays locked");
    }
}

#[tokio::test]
async fn a_condition_that_did_not_hold_does_not_hold_for_a_late_copy() {
    for (condition, holds) in [(Condition::Absent, "k"), (Condition::Present, "other")] {
        let shards = Shards::new(8);
        let other = shards.gateway();
        assert!(other.call(put(holds, "before")).await.is_ok());
        let gateway = Gateway::new(Late::new(&shards, Meets::Shard), options(2));
        let request = || Request::PutIf {
            cf: CfId::DEFAULT,
            key: "k".into(),
            value: Some("after".into()),
            expiry: Expiry::Never,
            condition,
            id: None,
            seal: false,
        };
        let answer = gateway.call(request()).await;
        assert!(matches!(answer, Ok(Response::Conditional { applied: false, .. })), "{answer:?}");

        let (turn, now) = match condition {
            Condition::Absent => ("DEL k", Reply::Nil),
            _ => ("SET k there", Reply::bulk("there")),
        };
        assert!(other.call(redis(turn)).await.is_ok());
        let called = gateway.calls().arrive().await;
        let told = matches!(called.answers[..], [Ok(Response::Conditional { applied: false, .. })]);
        assert!(told, "{called:?}");
        assert_eq!(reply(other.call(redis("GET k")).await), now);
        let answer = gateway.call(request()).await;
        assert!(matches!(answer, Ok(Response::Conditional { applied: true, .. })), "{answer:?}");
    }
}

/// A number that the key has not come to may be given to it yet, in between.
#[tokio::test]
async fn a_number_that_was_still_to_come_does_not_hold_for_a_late_copy() {
    let mut met = 0;
    for ahead in 1..=4 {
        let shards = Shards::new(8);
        let other = shards.gateway();
        let write = async |value| match other.call(put("k", value)).await {
            Ok(Response::Committed { seq }) => seq,
            answer => panic!("{answer:?}"),
        };
        let wanted = Seq(write("before").await.0 + ahead);
        let gateway = Gateway::new(Late::new(&shards, Meets::Shard), options(2));
        let request = Request::PutIf {
            cf: CfId::DEFAULT,
            key: "k".into(),
            value: Some("after".into()),
            expiry: Expiry::Never,
            condition: Condition::SeqIs(wanted),
            id: None,
            seal: false,
        };
        let answer = gateway.call(request).await;
        assert!(matches!(answer, Ok(Response::Conditional { applied: false, .. })), "{answer:?}");
        let mut seq = write("there").await;
        while seq < wanted {
            seq = write("there").await;
        }
        met += u32::from(seq == wanted);
        let called = gateway.calls().arrive().await;
        let told = matches!(called.answers[..], [Ok(Response::Conditional { applied: false, .. })]);
        assert!(told, "{ahead}: {called:?}");
        assert_eq!(reply(other.call(redis("GET k")).await), Reply::bulk("there"));
    }
    assert!(met > 0, "no write got the number");
}

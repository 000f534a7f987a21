//! Small calls of many pipelines to one shard, sent as one.
//!
//! Calls that may go together share a *lane*: the same node, shard, epoch and freshness, and reads
//! apart from writes, which wait for a commit. Whoever finds nobody gathering in its lane gathers:
//! it lets the runtime take a few turns, in which others join, and sends what is there. While
//! [`AT_ONCE`] of a lane are on the way, the next gathers until one comes back: the more there is to
//! do, the more of it shares what a call costs.

use crate::base::{Error, ErrorKind, Result};
use crate::gateway::calls::{CallFailure, Called, Consistency, Target};
use crate::gateway::map::NodeId;
use crate::op::kv::Write;
use crate::op::route::{ShardId, is_read};
use crate::op::{Request, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Calls of one lane that are on the way at a time. Fewer would hold writes back that the shard's
/// leader waits for, to have them in the entry it is making.
const AT_ONCE: usize = 8;
/// Turns of the runtime in which others may join: of clients that are answered together, some are
/// heard of a turn or two after the first.
const TURNS: usize = 4;
/// Requests that go together, about.
const REQUESTS_MAX: usize = 512;
/// Requests of a call, and bytes of theirs, above which it goes alone.
const CALL_REQUESTS_MAX: usize = 64;
const CALL_BYTES_MAX: usize = 16 << 10;

/// Sends what has gathered: `requests` in order, until `deadline`.
pub(super) trait Send: Clone + std::marker::Send + Sync + 'static {
    /// Calls, and gives what became of it.
    fn send(
        &self,
        to: &Target,
        requests: Vec<Request>,
        deadline: Instant,
    ) -> impl Future<Output = Called> + std::marker::Send;
}

/// What calls of a lane have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Lane {
    node: NodeId,
    shard: ShardId,
    epoch: u64,
    consistency: Consistency,
    only_reads: bool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether somebody will take what waits at its next turn.
    is_gathering: bool,
    on_the_way: usize,
}

#[derive(Debug)]
struct Waiting {
    requests: Vec<Request>,
    deadline: Instant,
    answer: oneshot::Sender<Called>,
}

/// The lanes. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Lanes {
    open: Arc<Mutex<HashMap<Lane, Queue>>>,
}

impl Lanes {
    /// Calls together with others. REQUIRES: [`may_share`], and a runtime.
    pub(super) async fn call<S: Send>(
        &self,
        by: &S,
        to: &Target,
        requests: &[Request],
        deadline: Instant,
    ) -> Called {
        let Target { shard, epoch, ref node, consistency } = *to;
        let only_reads = requests.iter().all(is_read);
        let lane = Lane { node: node.id, shard, epoch, consistency, only_reads };
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { requests: requests.to_vec(), deadline, answer };
        let gathers = {
            let mut open = self.open();
            let queue = open.entry(lane).or_default();
            queue.waiting.push(waiting);
            queue.may_gather()
        };
        if gathers {
            tokio::spawn(gather(self.clone(), by.clone(), lane, to.clone()));
        }
        answered.await.unwrap_or_else(|_| {
            let message = "the program is stopping; whether it happened is not known";
            Called::failed(CallFailure::Unknown(Error::new(ErrorKind::Unknown, message)))
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Lane, Queue>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Whether the caller is to gather; then it must.
    fn may_gather(&mut self) -> bool {
        let may = !self.is_gathering && self.on_the_way < AT_ONCE && !self.waiting.is_empty();
        self.is_gathering |= may;
        may
    }

    fn take(&mut self) -> Vec<Waiting> {
        // Whoever has given up has been told so; what it asked for must not happen afterwards.
        self.waiting.retain(|waiting| !waiting.answer.is_closed());
        let mut count = 0;
        let fits = |waiting: &&Waiting| {
            count += waiting.requests.len();
            count <= REQUESTS_MAX
        };
        let taken = self.waiting.iter().take_while(fits).count();
        self.waiting.drain(..taken.max(1).min(self.waiting.len())).collect()
    }
}

/// Sends what waits in a lane, and again as long as more has come meanwhile.
async fn gather<S: Send>(lanes: Lanes, by: S, lane: Lane, target: Target) {
    loop {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        let (taken, more) = {
            let mut open = lanes.open();
            let queue = open.entry(lane).or_default();
            queue.is_gathering = false;
            queue.on_the_way += 1;
            (queue.take(), queue.may_gather())
        };
        if more {
            let other = (lanes.clone(), by.clone(), target.clone());
            tokio::spawn(gather_boxed(other.0, other.1, lane, other.2));
        }
        send(&by, &target, taken).await;
        let mut open = lanes.open();
        let queue = open.entry(lane).or_default();
        queue.on_the_way -= 1;
        if !queue.may_gather() {
            if queue.on_the_way == 0 && queue.waiting.is_empty() {
                open.remove(&lane);
            }
            return;
        }
    }
}

/// The same, of a type that does not hold itself.
fn gather_boxed<S: Send>(
    lanes: Lanes,
    by: S,
    lane: Lane,
    target: Target,
) -> BoxFuture<'static, ()> {
    Box::pin(gather(lanes, by, lane, target))
}

/// Sends calls as one, and gives each what became of its part. A shard executes nothing behind a
/// request that met a lock, and gives no more answers of reads than fit a message; that is the
/// concern of the calls they belong to, and the others are sent again without them.
async fn send<S: Send>(by: &S, to: &Target, mut calls: Vec<Waiting>) {
    while let Some(deadline) = calls.iter().map(|call| call.deadline).max() {
        let requests = calls.iter().flat_map(|call| &call.requests).cloned().collect();
        let Called { answers, stopped } = by.send(to, requests, deadline).await;
        let mut answers = answers.into_iter();
        // Whether a call before was answered, or met a lock: then it stood in the way of others.
        let mut is_passed = false;
        for call in std::mem::take(&mut calls) {
            let count = call.requests.len();
            let answers: Vec<_> = answers.by_ref().take(count).collect();
            if is_passed && answers.len() == count && answers.iter().all(had_no_effect) {
                if !call.answer.is_closed() {
                    calls.push(call);
                }
                continue;
            }
            is_passed |= answers.iter().any(Result::is_ok);
            let stopped = if answers.len() < count { stopped.clone() } else { None };
            // Whoever asked may be gone.
            _ = call.answer.send(Called { answers, stopped });
        }
    }
}

fn had_no_effect(answer: &Result<Response>) -> bool {
    answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable)
}

/// Whether a call is so small, and so soon answered, that others may wait for it.
pub(super) fn may_share(requests: &[Request]) -> bool {
    let mut bytes = 0;
    requests.len() <= CALL_REQUESTS_MAX
        && requests.iter().all(|request| {
            let small = match request {
                Request::Get { key, .. } => Some(key.len()),
                Request::PutIf { key, value, .. } => {
                    Some(key.len() + value.as_ref().map_or(0, Bytes::len))
                }
                Request::Write { writes, .. } if writes.len() <= CALL_REQUESTS_MAX => {
                    Some(writes.iter().map(bytes_of).sum())
                }
                Request::Redis(call) if !call.spec.key_specs.is_empty() => {
                    Some(call.args.iter().map(Bytes::len).sum())
                }
                _ => None,
            };
            small.is_some_and(|more: usize| {
                bytes += more;
                bytes <= CALL_BYTES_MAX
            })
        })
}

fn bytes_of(write: &Write) -> usize {
    match write {
        Write::Put { key, value, .. } => key.len() + value.len(),
        Write::Merge { key, operand, .. } => key.len() + operand.len(),
        Write::Delete { key, .. } => key.len(),
        Write::PutVector { vector, payload, .. } => vector.as_bytes().len() + payload.len(),
        Write::DeleteVector { .. } => size_of::<u64>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{CfId, Seq};
    use crate::gateway::map::Node;
    use crate::op::kv::{Entry, RequestId};
    use crate::op::txn::{Lock, Txn};
    use tokio::sync::Semaphore;

    /// Answers each read with its own key, and not before it may.
    #[derive(Clone)]
    struct Echo {
        sent: Arc<Mutex<Vec<usize>>>,
        may: Arc<Semaphore>,
        /// Requests that are answered before the shard stops.
        answered: usize,
    }

    impl Echo {
        fn new(may: usize, answered: usize) -> Echo {
            Echo { sent: Arc::default(), may: Arc::new(Semaphore::new(may)), answered }
        }

        fn sent(&self) -> Vec<usize> {
            self.sent.lock().unwrap().clone()
        }
    }

    impl Send for Echo {
        async fn send(&self, _: &Target, requests: Vec<Request>, _: Instant) -> Called {
            self.sent.lock().unwrap().push(requests.len());
            self.may.acquire().await.unwrap().forget();
            let count = requests.len();
            let answer = |request| match request {
                Request::Get { key, .. } => {
                    let (value, seq) = (key.clone(), Seq(1));
                    Ok(Response::Entry(Some(Entry { key, value, seq, expire_at_ms: None })))
                }
                other => panic!("{other:?}"),
            };
            let answers: Vec<_> = requests.into_iter().take(self.answered).map(answer).collect();
            let short = answers.len() < count;
            let stopped = short.then_some(CallFailure::NotLeader { leader: None });
            Called { answers, stopped }
        }
    }

    fn target() -> Target {
        let node = Node { id: NodeId(1), address: "there".into(), redis: None };
        Target { shard: ShardId(1), epoch: 1, node, consistency: Consistency::Linearizable }
    }

    fn get(key: &str) -> Request {
        Request::Get { cf: CfId::DEFAULT, key: Bytes::copy_from_slice(key.as_bytes()) }
    }

    fn soon() -> Instant {
        Instant::now() + std::time::Duration::from_secs(60)
    }

    #[tokio::test]
    async fn calls_of_a_turn_are_sent_as_one_and_each_gets_its_own_answers() {
        let (lanes, echo) = (Lanes::default(), Echo::new(usize::MAX >> 4, usize::MAX));
        let calls = (0..100).map(|n| {
            let (lanes, echo) = (&lanes, &echo);
            async move {
                let keys: Vec<String> = (0..n % 3 + 1).map(|i| format!("{n}-{i}")).collect();
                let requests: Vec<Request> = keys.iter().map(|key| get(key)).collect();
                let called = lanes.call(echo, &target(), &requests, soon()).await;
                assert!(called.stopped.is_none());
                assert_eq!(called.answers.len(), keys.len());
                for (answer, key) in called.answers.into_iter().zip(keys) {
                    match answer.unwrap() {
                        Response::Entry(Some(entry)) => assert_eq!(entry.key, key.as_bytes()),
                        other => panic!("{other:?}"),
                    }
                }
            }
        });
        futures::future::join_all(calls).await;
        assert_eq!(echo.sent(), [199], "all were there in the first turn");
        assert!(lanes.open().is_empty(), "nothing is kept of lanes without traffic");
    }

    #[tokio::test]
    async fn who_is_left_without_answers_hears_why_and_who_gave_up_is_not_sent() {
        let (lanes, echo) = (Lanes::default(), Echo::new(0, 1));
        let ask = |key: &'static str| {
            let (lanes, echo) = (lanes.clone(), echo.clone());
            tokio::spawn(async move { lanes.call(&echo, &target(), &[get(key)], soon()).await })
        };
        let turn = async |calls: usize| {
            while echo.sent().len() < calls {
                tokio::task::yield_now().await;
            }
        };
        let mut sent = Vec::new();
        for calls in 1..=AT_ONCE {
            sent.push(ask("a"));
            turn(calls).await;
        }
        // As many are on the way as may be: these gather.
        let (third, given_up, fourth) = (ask("c"), ask("d"), ask("e"));
        while lanes.open().values().all(|queue| queue.waiting.len() < 3) {
            tokio::task::yield_now().await;
        }
        given_up.abort();
        _ = given_up.await;
        echo.may.add_permits(AT_ONCE + 1);
        for all in sent.into_iter().chain([third]) {
            let called = all.await.unwrap();
            assert_eq!((called.answers.len(), called.stopped.is_none()), (1, true));
        }
        let called = fourth.await.unwrap();
        assert!(called.answers.is_empty());
        assert!(matches!(called.stopped, Some(CallFailure::NotLeader { leader: None })));
        let all = [vec![1; AT_ONCE], vec![2]].concat();
        assert_eq!(echo.sent(), all, "what was given up was not sent");
    }

    /// A shard where one key is locked, and nothing is executed behind a request for it.
    #[derive(Clone, Default)]
    struct Locking(Arc<Mutex<Vec<usize>>>);

    impl Send for Locking {
        async fn send(&self, _: &Target, requests: Vec<Request>, _: Instant) -> Called {
            self.0.lock().unwrap().push(requests.len());
            let id = RequestId { client: 1, request: 1 };
            let lock = Lock { txn: Txn { id, attempt: 0, home: 0 }, slot: 0 };
            let mut is_locked = false;
            let answers = requests.into_iter().map(|request| match request {
                _ if is_locked => Err(Error::new(ErrorKind::Unavailable, "behind a lock")),
                Request::Get { key, .. } if key == "locked" => {
                    is_locked = true;
                    Ok(Response::Locked(lock))
                }
                _ => Ok(Response::Entry(None)),
            });
            Called::all(answers.collect())
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_the_lock_of_another() {
        let (lanes, shard) = (Lanes::default(), Locking::default());
        let calls = [vec!["a"], vec!["locked", "b"], vec!["c"], vec!["d", "locked"], vec!["e"]];
        let calls = calls.map(|keys| {
            let (lanes, shard) = (&lanes, &shard);
            async move {
                let requests: Vec<Request> = keys.into_iter().map(get).collect();
                lanes.call(shard, &target(), &requests, soon()).await.answers
            }
        });
        let answers = futures::future::join_all(calls).await;
        let free = |answer: &Result<Response>| matches!(answer, Ok(Response::Entry(None)));
        let locked = |answer: &Result<Response>| matches!(answer, Ok(Response::Locked(_)));
        assert!([0, 2, 4].into_iter().all(|n| answers[n].iter().all(free)), "{answers:?}");
        assert!(locked(&answers[1][0]) && had_no_effect(&answers[1][1]), "in its order");
        assert!(free(&answers[3][0]) && locked(&answers[3][1]));
        assert_eq!(*shard.0.lock().unwrap(), [7, 4, 1]);
    }

    /// A shard whose message has room for two answers.
    #[derive(Clone, Default)]
    struct Narrow(Arc<Mutex<Vec<usize>>>);

    impl Send for Narrow {
        async fn send(&self, _: &Target, requests: Vec<Request>, _: Instant) -> Called {
            self.0.lock().unwrap().push(requests.len());
            let full = || Err(Error::new(ErrorKind::Unavailable, "the message is full"));
            let answer = |at| if at < 2 { Ok(Response::Entry(None)) } else { full() };
            Called::all((0..requests.len()).map(answer).collect())
        }
    }

    #[tokio::test]
    async fn what_did_not_fit_a_message_is_asked_for_again_at_once() {
        let (lanes, shard) = (Lanes::default(), Narrow::default());
        let calls = ["a", "b", "c", "d", "e"].map(|key| {
            let (lanes, shard) = (&lanes, &shard);
            async move { lanes.call(shard, &target(), &[get(key)], soon()).await.answers }
        });
        let answers = futures::future::join_all(calls).await;
        assert!(answers.iter().flatten().all(Result::is_ok), "{answers:?}");
        assert_eq!(*shard.0.lock().unwrap(), [5, 3, 1]);
    }

    #[test]
    fn what_is_large_or_may_take_long_goes_alone() {
        assert!(may_share(&[get("a"), get("b")]));
        assert!(!may_share(&vec![get("a"); CALL_REQUESTS_MAX + 1]));
        assert!(!may_share(&[get(&"k".repeat(CALL_BYTES_MAX + 1))]));
        assert!(!may_share(&[get("a"), Request::Stats]));
        assert!(!may_share(&[Request::Scan(Default::default())]));
    }
}

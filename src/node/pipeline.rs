//! A pipeline of requests on one shard, whoever commits what it writes.
//!
//! Requests that touch a few keys run on the caller's thread; those that may read much, or must wait
//! for room, cross to a pool. Answers are held until what they rest on is committed.

use crate::base::{Error, ErrorKind, Result};
use crate::env::Pool;
use crate::lsm::Pressure;
use crate::op::kv::Stats;
use crate::op::{Request, Response};
use crate::shard::{Answer, Shard, Ticket};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A shard as a pipeline uses it: the node's own, or one of a group.
pub(super) trait Execution: Sync {
    /// The shard.
    fn shard(&self) -> &Arc<Shard>;

    /// The clock's time.
    fn now_ms(&self) -> u64;

    /// Where slow requests run.
    fn slow(&self) -> &Pool;

    /// The figures; they count what has expired, and so are slow.
    fn stats(&self) -> impl Future<Output = Result<Stats>> + Send;

    /// Waits until what the ticket names is committed or has failed.
    fn commit(&self, ticket: Ticket) -> impl Future<Output = ()> + Send;

    /// Makes sure that what was committed elsewhere was seen by evaluations that ended before
    /// the call.
    ///
    /// # Errors
    /// If that is not so: their answers may be old.
    fn confirm(&self) -> impl Future<Output = Result<()>> + Send;
}

/// Executes requests in order, and gives as many answers.
pub(super) async fn run<E: Execution>(on: &E, requests: Vec<Request>) -> Vec<Result<Response>> {
    let mut answers = Answers::new(on, requests.len());
    let mut requests = requests.into_iter();
    while let Some(request) = requests.as_slice().first() {
        if !Shard::is_quick(request) || on.shard().engine().pressure() != Pressure::None {
            let Some(request) = requests.next() else { break };
            answers.add(execute(on, request).await);
            continue;
        }
        let sharing = requests.as_slice().iter().map_while(Shard::may_share);
        let n = sharing.take(Shard::TOGETHER_MAX).count();
        if n > 1 {
            let calls = requests.as_slice()[..n].iter().filter_map(Shard::may_share);
            let together = on.shard().execute_together(calls, on.now_ms());
            together.into_iter().for_each(|answer| answers.add(answer));
            requests.by_ref().take(n).for_each(drop);
        } else if let Some(request) = requests.next() {
            answers.add(on.shard().execute(request, on.now_ms()));
        }
    }
    answers.committed().await
}

/// Runs a job on a pool and waits, without holding a thread, for what it gives.
pub(super) async fn on<T: Send + 'static>(
    pool: &Pool,
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (send, receive) = oneshot::channel();
    // The client may have gone; a write stands all the same.
    pool.spawn(move || _ = send.send(job()));
    let stopping = |_| Error::new(ErrorKind::Unavailable, "the node is stopping");
    receive.await.map_err(stopping)?
}

/// The figures of a shard of a group.
pub(super) async fn stats(shard: &Arc<Shard>, slow: &Pool, now_ms: u64) -> Result<Stats> {
    let shard = shard.clone();
    let figures = move || Ok(Stats { sync: "always", ..shard.stats(now_ms)? });
    on(slow, figures).await
}

/// Executes one request where it may run.
async fn execute<E: Execution>(on: &E, request: Request) -> Result<Answer> {
    let quick = Shard::is_quick(&request) && make_room(on.shard(), &request).await;
    match request {
        Request::Stats => on.stats().await.map(|stats| Answer {
            response: Response::Stats(Box::new(stats)),
            rests_on: Ticket::default(),
        }),
        request if quick => on.shard().execute(request, on.now_ms()),
        request => {
            // Not on the pool: it would hold a thread for as long as no majority can be reached.
            let placed = on.shard().placed();
            if !on.shard().is_committed(placed) {
                on.commit(placed).await;
            }
            if on.shard().is_pending(placed) {
                let message = "what was written before is not committed yet; try again";
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            let (shard, now_ms) = (on.shard().clone(), on.now_ms());
            let job = move || {
                if let Request::Scan(scan) = &request {
                    return shard.scan_committed(scan, now_ms);
                }
                shard.engine().wait_for_room()?;
                shard.execute(request, now_ms)
            };
            self::on(on.slow(), job).await
        }
    }
}

async fn make_room(shard: &Shard, request: &Request) -> bool {
    if !adds(request) {
        return true;
    }
    match shard.engine().pressure() {
        Pressure::None => true,
        Pressure::Slow { delay_us } => {
            tokio::time::sleep(Duration::from_micros(delay_us)).await;
            true
        }
        Pressure::Stop => false,
    }
}

/// Answers in order, and which of them rest on what is not yet committed.
struct Answers<'a, E> {
    on: &'a E,
    responses: Vec<Result<Response>>,
    pending: Vec<(usize, Ticket)>,
}

impl<E: Execution> Answers<'_, E> {
    fn new(on: &E, expected: usize) -> Answers<'_, E> {
        Answers { on, responses: Vec::with_capacity(expected), pending: Vec::new() }
    }

    fn add(&mut self, answer: Result<Answer>) {
        self.responses.push(answer.map(|Answer { response, rests_on }| {
            if !self.on.shard().is_committed(rests_on) {
                self.pending.push((self.responses.len(), rests_on));
            }
            response
        }));
    }

    /// The responses, once all that they rest on is committed or has failed.
    async fn committed(mut self) -> Vec<Result<Response>> {
        if !self.pending.is_empty() {
            let all = self.pending.iter().fold(Ticket::default(), |all, (_, one)| all.and(*one));
            self.on.commit(all).await;
        }
        // A commit since shows that nobody else led; the others rest on what stood here before.
        if self.pending.len() < self.responses.len()
            && let Err(error) = self.on.confirm().await
        {
            let mut pending = self.pending.iter().map(|(at, _)| *at).peekable();
            for (at, response) in self.responses.iter_mut().enumerate() {
                if pending.next_if_eq(&at).is_none() && response.is_ok() {
                    *response = Err(error.clone());
                }
            }
        }
        for (at, ticket) in self.pending {
            if let Err(error) = self.on.shard().outcome(ticket) {
                self.responses[at] = Err(error);
            }
        }
        self.responses
    }
}

/// Whether a request may need more room than it gives back. Those that only read or remove go on
/// when a device is full.
pub(crate) fn adds(request: &Request) -> bool {
    match request {
        Request::Write { .. } | Request::PutIf { .. } => true,
        Request::Redis(call) => call.spec.has_flag("denyoom"),
        Request::RedisTransaction { calls, .. } => {
            calls.iter().any(|call| call.spec.has_flag("denyoom"))
        }
        _ => false,
    }
}

//! A pipeline of requests on one shard, whoever commits what it writes.
//!
//! Requests that touch a few keys run on the caller's thread; those that may read much, or must wait
//! for room, cross to a pool; those of them that wait for a commit with latches held close the
//! shard's gate to the others. Answers are held until what they rest on is committed.

use crate::base::{Error, ErrorKind, Result};
use crate::env::Pool;
use crate::lsm::Pressure;
use crate::node::gate::Gate;
use crate::op::kv::Stats;
use crate::op::txn::TxnCall;
use crate::op::{Request, Response};
use crate::shard::{Answer, Shard, SlotsHeld, Ticket};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A shard as a pipeline uses it: the node's own, or one of a group.
pub(super) trait Execution: Sync {
    /// The shard.
    fn shard(&self) -> &Arc<Shard>;

    /// The shard's gate.
    fn gate(&self) -> &Arc<Gate>;

    /// The clock's time.
    fn now_ms(&self) -> u64;

    /// Where slow requests run.
    fn slow(&self) -> &Pool;

    /// The version of the shard's slots that the requests were sent for; `None` if they never
    /// change.
    fn epoch(&self) -> Option<u64>;

    /// The figures; they count what has expired, and so are slow.
    fn stats(&self) -> impl Future<Output = Result<Stats>> + Send;

    /// Waits until what the ticket names is committed or has failed.
    fn commit(&self, ticket: Ticket) -> impl Future<Output = ()> + Send;

    /// Makes sure that what was committed elsewhere was seen by so many evaluations that ended
    /// before the call.
    ///
    /// # Errors
    /// If that is not so: their answers may be old.
    fn confirm(&self, evaluations: usize) -> impl Future<Output = Result<()>> + Send;
}

/// Executes requests in order, and gives as many answers.
pub(super) async fn run<E: Execution>(on: &E, requests: Vec<Request>) -> Vec<Result<Response>> {
    let mut answers = Answers::new(on, requests.len());
    let mut slowed = Slowed::default();
    let mut requests = requests.into_iter();
    while let Some(request) = requests.as_slice().first() {
        if answers.is_locked {
            // It must not overtake what waits for a lock.
            requests.by_ref().for_each(|_| answers.add(Err(Shard::behind_a_lock())));
            break;
        }
        if !Shard::is_quick(request) || on.shard().pressure(request) != Pressure::None {
            let Some(request) = requests.next() else { break };
            answers.add(execute(on, request, &mut slowed).await);
            continue;
        }
        let writes = requests.as_slice().iter().map_while(Shard::may_write_together);
        let writes: Vec<_> = writes.take(Shard::WRITES_MAX).collect();
        if writes.len() > 1 {
            let inside = on.gate().pass().await;
            let together = match hold(on.shard(), on.epoch()) {
                Ok(_held) => on.shard().write_together(&writes, on.now_ms()),
                Err(error) => writes.iter().map(|_| Err(error.clone())).collect(),
            };
            drop(inside);
            let n = together.len();
            together.into_iter().for_each(|answer| answers.add(answer));
            requests.by_ref().take(n).for_each(drop);
            continue;
        }
        let sharing = requests.as_slice().iter().map_while(Shard::may_share);
        let n = sharing.take(Shard::TOGETHER_MAX).count();
        if n > 1 {
            let calls = requests.as_slice()[..n].iter().filter_map(Shard::may_share);
            let inside = on.gate().pass().await;
            let together = match hold(on.shard(), on.epoch()) {
                Ok(_held) => on.shard().execute_together(calls, on.now_ms()),
                Err(error) => (0..n).map(|_| Err(error.clone())).collect(),
            };
            drop(inside);
            together.into_iter().for_each(|answer| answers.add(answer));
            requests.by_ref().take(n).for_each(drop);
        } else if let Some(request) = requests.next() {
            let inside = on.gate().pass().await;
            let answer = execute_held(on.shard(), on.epoch(), request, on.now_ms());
            drop(inside);
            answers.add(answer);
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
async fn execute<E: Execution>(on: &E, request: Request, slowed: &mut Slowed) -> Result<Answer> {
    let quick = Shard::is_quick(&request) && make_room(on.shard(), &request, slowed).await;
    match request {
        Request::Stats => on.stats().await.map(|stats| Answer {
            response: Response::Stats(Box::new(stats)),
            rests_on: Ticket::default(),
        }),
        request if quick => {
            let _inside = on.gate().pass().await;
            execute_held(on.shard(), on.epoch(), request, on.now_ms())
        }
        request if Shard::waits_with_latches(&request) => {
            // Nobody is kept out while this one waits for room.
            let shard = on.shard().clone();
            self::on(on.slow(), move || shard.engine().wait_for_room()).await?;
            let (shard, alone) = (on.shard().clone(), on.gate().close().await);
            let (epoch, now_ms) = (on.epoch(), on.now_ms());
            let job = move || {
                let answer = execute_held(&shard, epoch, request, now_ms);
                drop(alone);
                answer
            };
            self::on(on.slow(), job).await
        }
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
            let (shard, epoch, now_ms) = (on.shard().clone(), on.epoch(), on.now_ms());
            let job = move || {
                if let Request::Scan(scan) = &request {
                    return shard.scan_committed(scan, now_ms);
                }
                if let Request::Vector(call) = request {
                    return shard.vectors_committed(*call, now_ms);
                }
                shard.wait_for_room(&request)?;
                // One that only reads, for long, holds nobody up: it is asked afterwards.
                let epoch = epoch.filter(|_| may_write(&request));
                execute_held(&shard, epoch, request, now_ms)
            };
            self::on(on.slow(), job).await
        }
    }
}

/// Holds the shard's slots, if they may change.
fn hold(shard: &Shard, epoch: Option<u64>) -> Result<Option<SlotsHeld<'_>>> {
    epoch.map(|epoch| shard.hold_slots(epoch)).transpose()
}

/// Executes a request while the shard's slots stay as they are.
fn execute_held(
    shard: &Arc<Shard>,
    epoch: Option<u64>,
    request: Request,
    now_ms: u64,
) -> Result<Answer> {
    let _held = hold(shard, epoch)?;
    shard.execute(request, now_ms)
}

/// Whether the requests that run together have waited for indexes of vectors: once is enough. A
/// stream of vectors that waits for each is slower than they are linked, and where more come in than
/// that, writers are stopped and link themselves.
#[derive(Default)]
struct Slowed {
    by_vectors: bool,
}

async fn make_room(shard: &Shard, request: &Request, slowed: &mut Slowed) -> bool {
    if !adds(request) {
        return true;
    }
    match shard.pressure(request) {
        Pressure::None => true,
        Pressure::Slow { delay_us } => {
            let by_vectors = shard.engine().pressure() == Pressure::None;
            if !by_vectors || !std::mem::replace(&mut slowed.by_vectors, true) {
                tokio::time::sleep(Duration::from_micros(delay_us)).await;
            }
            true
        }
        Pressure::Stop => false,
    }
}

/// Answers in order, which of them rest on what is not yet committed, and whether any wrote nothing.
struct Answers<'a, E> {
    on: &'a E,
    responses: Vec<Result<Response>>,
    pending: Vec<(usize, Ticket)>,
    /// Whether one of them met a lock.
    is_locked: bool,
    writers: Writers,
}

/// Which answers something was written for. Mostly all are alike, which costs nothing to know.
#[derive(Default)]
struct Writers {
    first: Option<bool>,
    last: bool,
    /// Where it changes.
    changes: Vec<usize>,
}

impl Writers {
    fn add(&mut self, at: usize, wrote: bool) {
        if self.first.is_none() {
            self.first = Some(wrote);
        } else if wrote != self.last {
            self.changes.push(at);
        }
        self.last = wrote;
    }

    /// Whether nothing was written for one of them.
    fn is_any_read(&self) -> bool {
        self.first == Some(false) || !self.changes.is_empty()
    }

    /// Of how many of so many answers nothing was written for.
    fn reads(&self, answers: usize) -> usize {
        self.are_reads().take(answers).filter(|is_read| *is_read).count()
    }

    /// For each answer, in order, whether nothing was written for it.
    fn are_reads(&self) -> impl Iterator<Item = bool> {
        let mut changes = self.changes.iter().peekable();
        let mut wrote = self.first == Some(true);
        (0..).map(move |at| {
            wrote ^= changes.next_if(|change| **change == at).is_some();
            !wrote
        })
    }
}

impl<E: Execution> Answers<'_, E> {
    fn new(on: &E, expected: usize) -> Answers<'_, E> {
        Answers {
            on,
            responses: Vec::with_capacity(expected),
            pending: Vec::new(),
            is_locked: false,
            writers: Writers::default(),
        }
    }

    fn add(&mut self, answer: Result<Answer>) {
        self.is_locked |= matches!(&answer, Ok(answer) if answer.is_locked());
        // A refusal tells of what was read: of a family that is not there, say.
        if answer.as_ref().is_err_and(tells_of_state) {
            self.writers.add(self.responses.len(), false);
        }
        self.responses.push(answer.map(|Answer { response, rests_on }| {
            if !self.on.shard().is_committed(rests_on) {
                self.pending.push((self.responses.len(), rests_on));
            }
            self.writers.add(self.responses.len(), rests_on.has_written());
            response
        }));
    }

    /// The responses, once all that they rest on is committed or has failed.
    async fn committed(mut self) -> Vec<Result<Response>> {
        if !self.pending.is_empty() {
            let all = self.pending.iter().fold(Ticket::default(), |all, (_, one)| all.and(*one));
            self.on.commit(all).await;
        }
        // What was written is known by its commit, and is never told as not done. What was only read
        // may be old, even if it rests on a batch that has committed: another may have led since.
        if self.writers.is_any_read()
            && let Err(error) = self.on.confirm(self.writers.reads(self.responses.len())).await
        {
            for (response, is_read) in self.responses.iter_mut().zip(self.writers.are_reads()) {
                let is_told = response.as_ref().map_or_else(tells_of_state, |_| true);
                if is_read && is_told {
                    *response = Err(error.clone());
                }
            }
        }
        for (at, ticket) in self.pending {
            if self.responses[at].is_ok()
                && let Err(error) = self.on.shard().outcome(ticket)
            {
                self.responses[at] = Err(error);
            }
        }
        self.responses
    }
}

/// Whether an error is a word for good, which another leader might not have spoken.
fn tells_of_state(error: &Error) -> bool {
    !error.kind().is_retryable()
        && !matches!(error.kind(), ErrorKind::Unknown | ErrorKind::Deadline | ErrorKind::Internal)
}

/// Whether a request may write anything.
fn may_write(request: &Request) -> bool {
    match request {
        Request::Redis(call) => call.spec.is_write(),
        Request::RedisTransaction { calls, .. } => calls.iter().any(|call| call.spec.is_write()),
        Request::Get { .. }
        | Request::Scan(_)
        | Request::Watch { .. }
        | Request::ListCfs
        | Request::Stats => false,
        Request::Write { .. }
        | Request::PutIf { .. }
        | Request::DeleteByPrefix { .. }
        | Request::CreateCf { .. }
        | Request::DropCf { .. }
        | Request::Vector(_)
        | Request::Txn(_) => true,
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
        Request::Txn(call) => matches!(
            **call,
            TxnCall::Prepare { .. } | TxnCall::Decide { .. } | TxnCall::Finish { .. }
        ),
        _ => false,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::{CfId, LogIndex};
    use crate::env::SimDisk;
    use crate::lsm::{BlockCache, Engine, EngineOptions};
    use crate::op::kv::{Expiry, Write};
    use crate::shard::{Log, Placed, ShardOptions};
    use bytes::Bytes;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn writers_are_told_from_readers() {
        for all in 0..1u32 << 8 {
            let mut writers = Writers::default();
            let wrote: Vec<bool> = (0..8).map(|bit| all >> bit & 1 == 1).collect();
            wrote.iter().enumerate().for_each(|(at, wrote)| writers.add(at, *wrote));
            assert_eq!(writers.is_any_read(), all != 0xff);
            assert!(writers.are_reads().zip(&wrote).all(|(is_read, wrote)| is_read != *wrote));
        }
        assert!(!Writers::default().is_any_read());
    }

    /// A log that has committed by the time anybody looks.
    struct AtOnce(AtomicU64);

    impl Log for AtOnce {
        fn place(&self, _: &[u8]) -> Result<Placed> {
            Ok(Placed::Committed(LogIndex(1 + self.0.fetch_add(1, Ordering::Relaxed))))
        }

        fn drive(&self, _: &Arc<Shard>) {}
    }

    /// A leader that loses its place between a commit and the question whether it leads.
    struct Deposed(Arc<Shard>, Pool, Arc<Gate>, Option<u64>);

    impl Execution for Deposed {
        fn shard(&self) -> &Arc<Shard> {
            &self.0
        }

        fn gate(&self) -> &Arc<Gate> {
            &self.2
        }

        fn now_ms(&self) -> u64 {
            1
        }

        fn slow(&self) -> &Pool {
            &self.1
        }

        fn epoch(&self) -> Option<u64> {
            self.3
        }

        async fn stats(&self) -> Result<Stats> {
            Err(Error::invalid("not asked"))
        }

        async fn commit(&self, _: Ticket) {}

        async fn confirm(&self, _: usize) -> Result<()> {
            Err(Error::new(ErrorKind::Unavailable, "this node lost the lead of the shard"))
        }
    }

    pub(in crate::node) fn shard_for_tests() -> Arc<Shard> {
        let disk = SimDisk::new();
        let options = EngineOptions::new("/shard");
        let pool = Pool::manual();
        let engine = Engine::open(disk.shared(), pool, BlockCache::new(1 << 20), options).unwrap();
        let settings = ShardOptions { count_keys: true, seed: 1, ..ShardOptions::default() };
        let shard = Shard::new(engine, Box::new(AtOnce(AtomicU64::new(0))), settings);
        shard.start().unwrap();
        shard
    }

    pub(in crate::node) fn put(key: String) -> Write {
        let value = Bytes::from_static(b"v");
        Write::Put { cf: CfId::DEFAULT, key: key.into(), value, expiry: Expiry::Never }
    }

    fn redis(args: &[&'static str]) -> Request {
        let args: Vec<Bytes> = args.iter().map(|arg| Bytes::from_static(arg.as_bytes())).collect();
        let spec = crate::op::command::lookup(&args).unwrap();
        Request::Redis(crate::op::kv::RedisCall { spec, args })
    }

    #[tokio::test]
    async fn what_was_sent_before_a_split_writes_nothing_after_it() {
        let shard = shard_for_tests();
        shard.execute(Request::Write { writes: vec![put("p-old".into())], id: None }, 1).unwrap();
        let slots = crate::op::route::SlotRange { first: 0, last: 8_191 };
        let part = crate::lsm::manifest::Part { slots, epoch: 2 };
        let prefix = || Bytes::from_static(b"p-");
        let requests = || {
            let many = (0..100).map(|n| put(format!("n-{n}"))).collect();
            vec![
                Request::Write { writes: vec![put("a".into())], id: None },
                Request::Write { writes: many, id: None },
                redis(&["INCR", "b"]),
                redis(&["INCR", "c"]),
                Request::DeleteByPrefix { cf: CfId::DEFAULT, prefix: prefix() },
            ]
        };
        let pool = Pool::threads("slow", 1);
        let before = shard.engine().last_seq();
        {
            // While the split is being applied, and after it.
            let on = Deposed(shard.clone(), pool.clone(), Arc::default(), Some(1));
            let changing = shard.change_slots();
            let told = run(&on, requests()).await;
            assert!(told.iter().all(Result::is_err), "{told:?}");
            shard.engine().keep_part(part, LogIndex(9)).unwrap();
            drop(changing);
            let told = run(&on, requests()).await;
            let is_so = |told: &Result<Response>| {
                told.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable)
            };
            assert!(told.iter().all(is_so), "{told:?}");
        }
        assert_eq!(shard.engine().last_seq(), before);
        let on = Deposed(shard.clone(), pool, Arc::default(), Some(2));
        let told = run(&on, requests()).await;
        assert_eq!(told.iter().filter(|told| told.is_ok()).count(), told.len(), "{told:?}");
        assert!(shard.engine().last_seq() > before);
    }

    #[tokio::test]
    async fn a_write_that_was_done_is_never_told_as_one_that_was_not() {
        let shard = shard_for_tests();
        let on = Deposed(shard.clone(), Pool::threads("slow", 1), Arc::default(), None);
        shard.execute(Request::Write { writes: vec![put("p1".into())], id: None }, 1).unwrap();
        let prefix = Bytes::from_static(b"p");
        let told = run(&on, vec![Request::DeleteByPrefix { cf: CfId::DEFAULT, prefix }]).await;
        let gone =
            shard.execute(Request::Get { cf: CfId::DEFAULT, key: Bytes::from_static(b"p1") }, 1);
        assert!(matches!(gone.unwrap().response, Response::Entry(None)), "it was done");
        let kind = told[0].as_ref().map(|_| ()).map_err(Error::kind);
        assert_ne!(kind, Err(ErrorKind::Unavailable), "which says that nothing was done");
    }

    /// One that was paused while a family was created elsewhere said that there is none.
    #[tokio::test]
    async fn a_leader_that_is_none_any_more_refuses_nothing_for_good() {
        let shard = shard_for_tests();
        let on = Deposed(shard.clone(), Pool::threads("slow", 1), Arc::default(), None);
        let get = Request::Get { cf: CfId(7), key: Bytes::from_static(b"k") };
        let kind = |told: &Result<Response>| told.as_ref().map(drop).map_err(Error::kind);
        let told = run(&on, vec![get.clone()]).await;
        assert_eq!(kind(&told[0]), Err(ErrorKind::Unavailable));
        // Beside a write, which stands.
        let write = Request::Write { writes: vec![put("k".into())], id: None };
        let told = run(&on, vec![write, get.clone(), get]).await;
        let kinds: Vec<_> = told.iter().map(kind).collect();
        let unavailable = Err(ErrorKind::Unavailable);
        assert_eq!(kinds, [Ok(()), unavailable, unavailable]);
    }

    /// Each vector of a stream waited 2 ms: 450 a second, however fast they were linked.
    #[tokio::test(start_paused = true)]
    async fn vectors_of_one_pipeline_wait_once_for_what_is_to_be_linked() {
        use crate::op::vector::{Floats, IndexSpec, Metric, VectorCall, VectorId};
        let shard = shard_for_tests();
        shard.limit_vectors(crate::shard::VectorLimits { segment_rows: 64, ..Default::default() });
        let create = VectorCall::Create(IndexSpec::new("v", 2, Metric::L2).with_defaults());
        shard.execute(Request::Vector(Box::new(create)), 1).unwrap();
        let vector = |id: u64| Write::PutVector {
            index: "v".into(),
            id: VectorId::new(id),
            vector: Floats::of(&[id as f32, 1.0]),
            payload: Bytes::new(),
        };
        let one = |id| Request::Write { writes: vec![vector(id)], id: None };
        // Half as many as stop writers.
        let half = Request::Write { writes: (0..256).map(vector).collect(), id: None };
        shard.execute(half, 1).unwrap();
        assert_eq!(shard.pressure(&one(0)), Pressure::Slow { delay_us: 2_000 });
        let on = Deposed(shard.clone(), Pool::threads("slow", 1), Arc::default(), None);
        let before = tokio::time::Instant::now();
        let told = run(&on, (256..356).map(one).collect()).await;
        assert!(told.iter().all(Result::is_ok), "{told:?}");
        let waited = before.elapsed();
        assert!(waited >= Duration::from_millis(2) && waited < Duration::from_millis(5));
    }
}

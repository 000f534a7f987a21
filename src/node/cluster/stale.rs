//! Reads that may miss the latest writes, answered by a replica that need not lead.
//!
//! A replica that asks its leader for its read index at a moment, and then applies up to there, has
//! all that was acknowledged before that moment, anywhere. It remembers the moment: as long as that
//! is no longer ago than a read's bound, the read is answered at once, and asks nobody. Only this
//! machine's clock is used, and only to measure. A replica that its leader does not answer serves
//! reads until their bound is over, and then refuses them.

use crate::base::{Error, ErrorKind, Result};
use crate::catalog::View;
use crate::env::{Clock, Pool};
use crate::node::cluster::member::Inner;
use crate::node::cluster::replicas::Running;
use crate::node::gate::Gate;
use crate::node::pipeline::{self, Execution};
use crate::op::kv::Stats;
use crate::op::route::is_read;
use crate::raft::Consistency;
use crate::rpc::cluster::{Freshness, ShardAnswer, ShardCall, Stop};
use crate::shard::{Shard, Ticket, split_meanwhile};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long the leader may take to say where it is: another replica may be better off.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a replica knows of how fresh it is.
#[derive(Debug, Default)]
pub(super) struct Fresh(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The last moment of which it has all that was acknowledged before.
    at: Option<Instant>,
    /// When the leader was asked in vain since then, how long it had, and what came of it.
    failed: Option<(Instant, Duration, Error)>,
}

impl Fresh {
    /// Waits until the replica is no more than `bound` behind, which takes a question to the leader
    /// if it does not know so already. One asks for all who wait, also if it asks in vain.
    async fn within(&self, bound: Duration, running: &Running, patience: Duration) -> Result<()> {
        let ask = |patience| running.group.ready_to_read(Consistency::Linearizable, patience);
        self.within_by(bound, patience, ask).await
    }

    /// As [`Fresh::within`], where `ask` asks the leader, within the time that it is given.
    async fn within_by<F: Future<Output = Result<()>>>(
        &self,
        bound: Duration,
        patience: Duration,
        ask: impl FnOnce(Duration) -> F,
    ) -> Result<()> {
        let came = Instant::now();
        let turn = tokio::time::timeout_at(came + patience, self.0.lock()).await;
        let late = |_| Error::new(ErrorKind::Deadline, "the leader did not answer in time");
        let mut known = turn.map_err(late)?;
        if known.at.is_some_and(|at| at.elapsed() <= bound) {
            return Ok(());
        }
        let now = Instant::now();
        let left = (came + patience).saturating_duration_since(now).min(PATIENCE);
        // One who had little time says nothing for those who have more.
        if let Some((at, had, error)) = &known.failed
            && *at >= came
            && *had >= left
        {
            return Err(error.clone());
        }
        let asked = ask(left).await;
        match &asked {
            Ok(()) => *known = Known { at: Some(now), failed: None },
            Err(error) => known.failed = Some((Instant::now(), left, error.clone())),
        }
        asked
    }
}

/// A replica that is fresh enough, for one pipeline of reads.
struct Following<'a> {
    shard: Arc<Shard>,
    /// The version of the shard's slots that was asked for.
    epoch: u64,
    gate: Arc<Gate>,
    slow: &'a Pool,
    clock: &'a dyn Clock,
}

impl Execution for Following<'_> {
    fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }

    fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    fn now_ms(&self) -> u64 {
        self.clock.unix_ms()
    }

    fn slow(&self) -> &Pool {
        self.slow
    }

    fn epoch(&self) -> Option<u64> {
        // Nothing is written.
        None
    }

    async fn stats(&self) -> Result<Stats> {
        pipeline::stats(&self.shard, self.slow, self.now_ms()).await
    }

    async fn commit(&self, _: Ticket) {
        // Nothing is written; what had pended when it led, and was read, is unknown.
    }

    async fn confirm(&self, _: usize) -> Result<()> {
        // What was read may be of what a split has left.
        if self.shard.epoch() == self.epoch { Ok(()) } else { Err(split_meanwhile()) }
    }
}

impl Inner {
    /// Executes a call of reads that may be stale on this node's replica; `None` if it is another
    /// call, or for the leader, who needs no leave (and is asked again if it has just lost its lead).
    pub(super) async fn execute_stale(
        &self,
        call: &ShardCall,
        view: &View,
        patience: Duration,
        though_it_leads: bool,
    ) -> Option<ShardAnswer> {
        let Freshness::Stale { bound_ms } = call.freshness else { return None };
        let stopped = |stop| Some(ShardAnswer { answers: Vec::new(), stop: Some(stop) });
        let running = match self.replica_of(call, view) {
            Ok(running) => running,
            Err(stop) => return stopped(stop),
        };
        if !call.requests.iter().all(is_read) || !though_it_leads && running.session() != 0 {
            return None;
        }
        let bound = Duration::from_millis(bound_ms);
        let shard = match running.fresh.within(bound, &running, patience).await {
            Ok(()) => running.handle.get(),
            Err(error) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("this replica may be more than {bound_ms} ms behind: {error}"),
            )),
        };
        match shard {
            Ok(shard) => {
                // What it has come to meanwhile may have split it, or be another's copy.
                if let Err(stop) = self.replica_of(call, &self.meta.view()) {
                    return stopped(stop);
                }
                let (gate, clock) = (running.gate.clone(), &*self.options.clock);
                let on = Following { shard, epoch: call.epoch, gate, slow: &self.slow, clock };
                Some(self.answer(&on, call.requests.clone()).await)
            }
            Err(error) => stopped(Stop::NotDone(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    // tidy: sleeps because time is simulated
    use super::*;
    use crate::base::{CfId, LogIndex};
    use crate::env::RealClock;
    use crate::lsm::manifest::Part;
    use crate::node::pipeline::tests::{put, shard_for_tests};
    use crate::op::kv::Scan;
    use crate::op::route::SlotRange;
    use crate::op::{Request, Response};
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn short_reads_without_a_leader_wait_once() {
        let (fresh, asked) = (Fresh::default(), AtomicU64::new(0));
        let ms = Duration::from_millis;
        let read = async |patience| {
            let came = Instant::now();
            let ask = |patience| async move {
                sleep(patience).await;
                Err(Error::new(ErrorKind::Deadline, "no leader"))
            };
            let counted = |patience| {
                asked.fetch_add(1, Ordering::Relaxed);
                ask(patience)
            };
            assert!(fresh.within_by(ms(10), patience, counted).await.is_err());
            came.elapsed()
        };
        let waited = futures::future::join_all((0..10).map(|_| read(ms(100)))).await;
        assert!(waited.iter().all(|waited| *waited <= ms(101)), "{waited:?}");
        assert_eq!(asked.swap(0, Ordering::Relaxed), 1);
        // What came of a question is nothing to whoever comes later.
        sleep(ms(1)).await;
        // Who has more time asks with what is left of it, and keeps who has less no longer than that.
        let waited = futures::future::join_all([100, 300, 2_000, 50].map(|n| read(ms(n)))).await;
        assert!(waited[1] <= ms(301) && waited[2] <= ms(801) && waited[3] <= ms(51), "{waited:?}");
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    /// It was answered from the half that was left: a key of the other was told to be absent.
    #[tokio::test]
    async fn a_stale_read_that_waited_for_a_split_is_sent_away() {
        let (shard, clock, slow) = (shard_for_tests(), RealClock::new(), Pool::threads("slow", 1));
        let writes = (0..100).map(|n| put(format!("k-{n}"))).collect();
        shard.execute(Request::Write { writes, id: None }, 1).unwrap();
        let gets = (0..100).map(|n| format!("k-{n}").into());
        let mut reads: Vec<Request> =
            gets.map(|key| Request::Get { cf: CfId::DEFAULT, key }).collect();
        reads.push(Request::Scan(Scan::default()));
        let on = |epoch| Following {
            shard: shard.clone(),
            epoch,
            gate: Arc::default(),
            slow: &slow,
            clock: &clock,
        };
        let is_there = |told: &Result<Response>| matches!(told, Ok(Response::Entry(Some(_))));
        let told = pipeline::run(&on(1), reads.clone()).await;
        assert_eq!(told.iter().filter(|told| is_there(told)).count(), 100);
        let part = Part { slots: SlotRange { first: 0, last: 8_191 }, epoch: 2 };
        shard.engine().keep_part(part, LogIndex(9)).unwrap();
        let told = pipeline::run(&on(1), reads.clone()).await;
        let is_away = |told: &Result<Response>| {
            told.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable)
        };
        assert!(told.iter().all(is_away), "{told:?}");
        let told = pipeline::run(&on(2), reads).await;
        let there = told.iter().filter(|told| is_there(told)).count();
        assert!(told.iter().all(Result::is_ok) && there > 0 && there < 100, "{there}");
    }
}

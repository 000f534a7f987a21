//! A group as a shard's log.
//!
//! The leader's shard gives each batch its sequence numbers when it places it, so the group must
//! take batches in that order, and none that was numbered before a break. A *session* is the time
//! between two breaks: it opens when a blank entry of ours has been applied (so everything before
//! it has been too), and closes when the term ends or the group refuses a proposal. Batches of a
//! closed session are never proposed; those already in the group may still be committed, and are
//! then applied like anyone's. While the log has no room on the disk no session is open either, nor
//! while no majority is heard: what is in the group then may wait for as long as that lasts, and
//! others may lead.
//!
//! One entry is in the group at a time, with all batches that had gathered before it: openraft may
//! refuse one (its lease has run out) and take the next in the same term, but the next may have
//! been evaluated on the one refused. How long they gather, [`Pace`] says.

use crate::base::{Error, ErrorKind, Result};
use crate::raft::hibernate::Hibernation;
use crate::raft::machine::Machine;
use crate::raft::pace::{LINGER, Pace, some_turns};
use crate::raft::shard_machine::ShardHandle;
use crate::raft::vocabulary::{Proposal, TypeConfig};
use crate::shard::commit::too_large;
use crate::shard::{Log, Placed, Shard};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::async_runtime::WatchReceiver;
use openraft::impls::ProgressResponder;
use openraft::{Raft, ReadPolicy};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Batches placed and not yet handed to the group, and bytes of more than one.
const QUEUE_MAX: usize = 4096;
const QUEUE_BYTES_MAX: usize = 128 << 20;
/// Bytes of one batch at most. What a message carries has room for an entry of two such, and a
/// follower that lacks it has time to take it.
pub const BATCH_BYTES_MAX: usize = 64 << 20;
/// Bytes of batches after which an entry takes no more.
const ENTRY_BYTES: usize = 1 << 20;
/// Time between the first two attempts to open a session, and at most: a leader that has just been
/// elected is refused until a majority has answered it, which takes it a sync and a message.
const REOPEN_FIRST: Duration = Duration::from_millis(1);
const REOPEN_MAX: Duration = Duration::from_millis(50);

/// Bits of a session's number below its term.
const COUNT_BITS: u32 = 24;

/// The term of a session.
pub(crate) fn term_of(session: u64) -> u64 {
    session >> COUNT_BITS
}

/// The number of the `count`th session of this start, in a term: never 0, and no other's.
fn session_of(term: u64, count: u64) -> u64 {
    (term << COUNT_BITS) | (count & ((1 << COUNT_BITS) - 1)).max(1)
}

/// The shard's end of a group. Clones share it: a snapshot puts another shard in the place of the
/// one before.
#[derive(Clone)]
pub struct RaftLog {
    session: watch::Receiver<u64>,
    queue: Arc<Queue>,
}

/// The group's end: [`Proposer::run`] moves batches from the shard to the group.
pub struct Proposer {
    session: watch::Sender<u64>,
    queue: Arc<Queue>,
}

/// Batches between the two ends. The group's is woken once enough of them wait, not by each.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    enough: Notify,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Queued>,
    /// Requests of the batches, and bytes.
    requests: usize,
    bytes: usize,
    /// How many requests are enough; nobody waits for them if 0.
    wanted: usize,
    is_closed: bool,
}

struct Queued {
    session: u64,
    batch: Bytes,
    requests: usize,
}

/// The two ends of a queue of proposals.
pub fn proposals() -> (RaftLog, Proposer) {
    let (opened, session) = watch::channel(0);
    let queue = Arc::new(Queue::default());
    (RaftLog { session, queue: queue.clone() }, Proposer { session: opened, queue })
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, queued: Queued) -> Result<()> {
        let mut waiting = self.waiting();
        if waiting.is_closed {
            return Err(Error::new(ErrorKind::Unavailable, "the group has stopped"));
        }
        let (count, bytes) = (waiting.batches.len(), waiting.bytes);
        if count >= QUEUE_MAX || count > 0 && bytes + queued.batch.len() > QUEUE_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("{count} batches of {bytes} bytes wait to be replicated; try again soon"),
            ));
        }
        waiting.bytes += queued.batch.len();
        waiting.requests += queued.requests;
        waiting.batches.push_back(queued);
        if waiting.wanted > 0 && waiting.holds(waiting.wanted) {
            waiting.wanted = 0;
            self.enough.notify_one();
        }
        Ok(())
    }

    /// Waits until so many requests wait, or as much as fits an entry, or until `time` if one does:
    /// then, that is true.
    async fn holds(&self, wanted: usize, time: Instant) -> bool {
        loop {
            let is_late = Instant::now() >= time;
            {
                let mut waiting = self.waiting();
                if waiting.holds(wanted) {
                    return false;
                }
                if is_late && waiting.holds(1) {
                    return true;
                }
                waiting.wanted = if is_late { 1 } else { wanted };
            }
            tokio::select! {
                biased;
                () = self.enough.notified() => {}
                () = tokio::time::sleep_until(time), if !is_late => {}
            }
        }
    }
}

impl Waiting {
    fn holds(&self, wanted: usize) -> bool {
        self.requests >= wanted || self.bytes >= ENTRY_BYTES
    }
}

impl Log for RaftLog {
    fn place(&self, batch: &[u8]) -> Result<Placed> {
        self.place_for(batch, 1)
    }

    fn place_for(&self, batch: &[u8], requests: usize) -> Result<Placed> {
        let session = *self.session.borrow();
        if session == 0 {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "this node does not lead the shard now; ask its leader",
            ));
        }
        if batch.len() > BATCH_BYTES_MAX {
            return Err(too_large(batch.len(), BATCH_BYTES_MAX));
        }
        let batch = Bytes::copy_from_slice(batch);
        self.queue.put(Queued { session, batch, requests: requests.max(1) })?;
        Ok(Placed::Pending(None))
    }

    fn batch_bytes_max(&self) -> usize {
        BATCH_BYTES_MAX
    }

    /// The group commits by itself, and applies what it has committed.
    fn drive(&self, _shard: &Arc<Shard>) {}
}

impl Proposer {
    /// The number of the open session, 0 while none is: when this node may place batches.
    pub fn sessions(&self) -> watch::Receiver<u64> {
        self.session.subscribe()
    }

    /// Moves batches, at most `at_once` of them as one entry, until the group or the shard stops.
    pub(crate) async fn run(
        self,
        raft: Raft<TypeConfig, Machine>,
        hibernation: Arc<Hibernation>,
        shard: ShardHandle,
        mut without_room: watch::Receiver<bool>,
        at_once: usize,
        lease: Duration,
    ) {
        let mut metrics = raft.server_metrics();
        let mut sessions = 0;
        let mut open: Option<Open> = None;
        let mut in_flight = FuturesUnordered::new();
        let mut pace = Pace::new();
        // What was proposed last, how many requests must be there before more is, and until when.
        let (mut carried, mut wanted, mut until) = (0, 1, Instant::now());
        let mut reopen_after = REOPEN_FIRST;
        loop {
            let leads = {
                let now = metrics.borrow_watched();
                let leads = now.state.is_leader() && !*without_room.borrow_and_update();
                leads.then_some(now.vote.leader_id.term)
            };
            let is_over = open.as_ref().is_some_and(|o| leads != Some(o.term));
            if is_over {
                open = None;
                self.close(&shard);
            }
            if open.is_none() && leads.is_some() {
                hibernation.wake();
                // Whatever was accepted before is applied when this is.
                if let Ok(applied) = raft.write_blank().await {
                    sessions += 1;
                    let term = applied.log_id.leader_id.term;
                    let session = session_of(term, sessions);
                    // What was evaluated before the session rests on what has been overtaken.
                    self.close(&shard);
                    open = Some(Open { session, term });
                    self.session.send_replace(session);
                    in_flight = FuturesUnordered::new();
                }
            }
            let reopen = open.is_none() && leads.is_some();
            if !reopen {
                reopen_after = REOPEN_FIRST;
            }
            tokio::select! {
                // In one order, so that a simulation repeats itself.
                biased;
                changed = metrics.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
                // What is under way waits for room, and none can say when there will be.
                changed = without_room.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
                late = self.queue.holds(wanted, until), if in_flight.is_empty() => {
                    some_turns().await;
                    let session = open.as_ref().map_or(0, |open| open.session);
                    let (batches, requests) = self.gather(session, at_once);
                    carried = requests;
                    pace.goes(late, carried);
                    let Some(open) = open.as_ref().filter(|_| carried > 0) else { continue };
                    hibernation.wake();
                    let (responder, outcome) = ProgressResponder::complete_only();
                    let proposal = raft
                        .write(Proposal::of(&batches))
                        .with_leader(crate::raft::vocabulary::leader_of(open.term))
                        .responder(responder);
                    if proposal.await.is_err() {
                        break;
                    }
                    in_flight.push(outcome);
                }
                Some(outcome) = in_flight.next(), if !in_flight.is_empty() => {
                    if !matches!(outcome, Ok(Ok(_))) {
                        open = None;
                        self.close(&shard);
                    }
                    wanted = pace.after(carried, self.queue.waiting().requests, at_once);
                    until = Instant::now() + LINGER;
                }
                () = tokio::time::sleep(reopen_after), if reopen => {
                    reopen_after = (reopen_after * 2).min(REOPEN_MAX);
                }
                // Nothing has moved for so long.
                () = tokio::time::sleep(lease), if open.is_some() => {
                    if raft.get_read_linearizer(ReadPolicy::LeaseRead).await.is_err() {
                        open = None;
                        self.close(&shard);
                    }
                }
            }
        }
        self.close(&shard);
    }

    /// What waits, as far as it is of the open session, for one entry; and of how many requests
    /// it is.
    fn gather(&self, session: u64, at_once: usize) -> (Vec<Bytes>, usize) {
        let mut waiting = self.queue.waiting();
        let (mut batches, mut bytes, mut requests) = (Vec::new(), 0, 0);
        while bytes < ENTRY_BYTES
            && batches.len() < at_once
            && let Some(queued) = waiting.batches.pop_front()
        {
            waiting.bytes -= queued.batch.len();
            waiting.requests -= queued.requests;
            if queued.session == session {
                requests += queued.requests;
                bytes += queued.batch.len();
                batches.push(queued.batch);
            }
        }
        (batches, requests)
    }

    /// Ends the session: what is pending is unknown.
    fn close(&self, shard: &ShardHandle) {
        self.session.send_replace(0);
        if let Ok(shard) = shard.get() {
            let lost = Error::new(ErrorKind::Unavailable, "this node no longer leads the shard");
            shard.fail_pending(&lost, false);
        }
    }
}

impl Drop for Proposer {
    fn drop(&mut self) {
        self.queue.waiting().is_closed = true;
    }
}

/// An open session.
struct Open {
    session: u64,
    term: u64,
}

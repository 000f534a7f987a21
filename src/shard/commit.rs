//! Placing, the one apply, and waiting for a commit.
//!
//! ```text
//! evaluate -> place (sequence numbers, log) -> pending -> committed -> apply -> visible
//!                                        \_____ already committed ____/
//! ```
//! A log that commits at once (`os` and `interval`: an entry in the page cache survives the
//! process) takes the short way and nothing is ever pending. A log that commits later (`always`,
//! Raft) leaves the batch pending; when it calls [`Shard::apply`] or [`Shard::commit_through`],
//! the batch goes through the same apply.

use crate::base::{Error, ErrorKind, LogIndex, Result, Seq};
use crate::env::{Spin, SpinGuard};
use crate::lsm::batch::{BatchView, WriteBatch};
use crate::shard::Shard;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What became of a batch handed to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It is committed at this index.
    Committed(LogIndex),
    /// Its place is decided. It will be committed, or fail, later; the index is given if the log
    /// knows it already.
    Pending(Option<LogIndex>),
}

/// Where a shard's batches go: the node's own log, or Raft.
pub trait Log: Send + Sync + 'static {
    /// Takes a batch, behind all it took before. Calls come one at a time.
    ///
    /// # Errors
    /// If it was not taken; nothing of it will then ever be committed.
    fn place(&self, batch: &[u8]) -> Result<Placed>;

    /// The same of a batch of so many requests, for a log that waits for as many as come back.
    ///
    /// # Errors
    /// As [`Log::place`].
    fn place_for(&self, batch: &[u8], requests: usize) -> Result<Placed> {
        _ = requests;
        self.place(batch)
    }

    /// The most bytes of one batch; more is refused.
    fn batch_bytes_max(&self) -> usize {
        usize::MAX
    }

    /// Sees to it that what was placed is committed soon.
    fn drive(&self, shard: &Arc<Shard>);

    /// The same for a thread that can do nothing before `ticket` is committed or has failed: a log
    /// that commits by such threads keeps it until then, others may let it go at once.
    fn drive_until(&self, shard: &Arc<Shard>, ticket: Ticket) {
        _ = ticket;
        self.drive(shard);
    }
}

/// What an answer rests on: everything up to a sequence number, as it was placed before any
/// failure since. The default rests on nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ticket {
    /// How often pending batches had failed when it was given: their numbers are given again.
    epoch: u64,
    /// The sequence number.
    pub seq: Seq,
    /// Whether a batch was placed for it.
    wrote: bool,
}

impl Ticket {
    /// A ticket for `seq`, as it stood in `epoch`.
    pub(crate) fn at(epoch: Epoch, seq: Seq) -> Ticket {
        Ticket { epoch: epoch.lost, seq, wrote: false }
    }

    /// The ticket that is harder to keep: of an earlier epoch if either is, for what was lost
    /// then stays lost; else of the greater sequence number.
    pub fn and(self, other: Ticket) -> Ticket {
        let harder = match (self.seq, other.seq) {
            (Seq(0), _) => other,
            (_, Seq(0)) => self,
            _ if self.epoch != other.epoch => std::cmp::min_by_key(self, other, |t| t.epoch),
            _ => std::cmp::max_by_key(self, other, |t| t.seq),
        };
        Ticket { wrote: self.wrote || other.wrote, ..harder }
    }

    /// Whether a batch was placed for the answer. Its commit, in the ticket's epoch, shows that what
    /// the evaluation read was the latest: nobody else's batch stands between the two. An answer that
    /// only read may rest on a batch that committed long ago elsewhere.
    pub fn has_written(self) -> bool {
        self.wrote
    }
}

/// The time between two losses of pending batches, or two changes of the shard's slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch {
    lost: u64,
    turn: u64,
}

/// Called with the outcome of a commit.
pub(crate) type Waiter = Box<dyn FnOnce(Result<()>) + Send>;

/// Batches placed and not yet applied, and who waits for them.
#[derive(Default)]
pub(crate) struct Commits {
    state: Spin<State>,
    /// Who waits for a change of `state` holds this one first, and looks at `state` under it.
    sleeping: Mutex<()>,
    changed: Condvar,
    /// `State::applied` and `State::epoch`, to be looked at without the lock.
    applied: AtomicU64,
    epoch: AtomicU64,
    /// How often the shard's slots have changed.
    turn: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Sequence number of the last operation placed.
    placed: Seq,
    /// Sequence number of the last operation applied.
    applied: Seq,
    /// Pending batches in order.
    pending: VecDeque<PendingBatch>,
    /// Who waits, by the sequence number that must be applied.
    waiters: BTreeMap<Seq, Vec<Waiter>>,
    /// How often pending batches have failed.
    epoch: u64,
    /// Whether nothing is placed for now: the shard is about to be split.
    fenced: bool,
    /// Why nothing more will be committed.
    failed: Option<Error>,
    /// Threads in [`Shard::wait_committed`] that the log has let go: waking nobody would still be a
    /// system call.
    sleepers: usize,
}

impl State {
    /// Whether what the ticket names is neither applied nor lost.
    fn is_pending(&self, ticket: Ticket) -> bool {
        ticket.seq > self.applied && ticket.epoch == self.epoch && self.failed.is_none()
    }

    fn outcome(&self, ticket: Ticket) -> Result<()> {
        if ticket.epoch == self.epoch && ticket.seq <= self.applied {
            return Ok(());
        }
        // Of an earlier epoch, only what was applied before it ended is known to be committed.
        match &self.failed {
            _ if ticket.seq == Seq(0) => Ok(()),
            Some(error) => Err(unknown(error)),
            None => Err(lost_lead()),
        }
    }
}

struct PendingBatch {
    index: Option<LogIndex>,
    bytes: Bytes,
}

impl Commits {
    /// Begins at the last sequence number known.
    pub(crate) fn begin(&self, last: Seq) {
        let mut state = self.lock();
        state.placed = last;
        self.set_applied(&mut state, last);
    }

    fn set_applied(&self, state: &mut State, seq: Seq) {
        state.applied = seq;
        self.applied.store(seq.0, Ordering::Release);
    }

    /// Whether what the ticket names is applied; takes no lock. Another epoch gives numbers again,
    /// so it is looked at last: if it is the ticket's still, it was so when `applied` was read.
    fn is_applied(&self, ticket: Ticket) -> bool {
        let applied = self.applied.load(Ordering::Acquire);
        ticket.seq.0 <= applied && ticket.epoch == self.epoch.load(Ordering::Acquire)
    }

    /// A ticket for everything placed so far.
    pub(crate) fn placed(&self) -> Ticket {
        let state = self.lock();
        Ticket { epoch: state.epoch, seq: state.placed, wrote: false }
    }

    /// Looks at something while no batch is half applied.
    pub(crate) fn between_applies<T>(&self, look: impl FnOnce() -> T) -> T {
        let _state = self.lock();
        look()
    }

    /// The present epoch.
    pub(crate) fn epoch(&self) -> Epoch {
        let (lost, turn) = (self.epoch.load(Ordering::Acquire), self.turn.load(Ordering::Acquire));
        Epoch { lost, turn }
    }

    /// A panic while it was held would have been in the engine's apply, which poisons it.
    fn lock(&self) -> SpinGuard<'_, State> {
        self.state.lock()
    }

    fn sleeping(&self) -> MutexGuard<'_, ()> {
        self.sleeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the threads that wait for a change that was just made.
    fn wake(&self) {
        drop(self.sleeping());
        self.changed.notify_all();
    }
}

impl Shard {
    /// Gives a batch its place; the answer rests on the ticket returned, whose sequence number is
    /// that of the batch's last operation. An empty batch takes no place and rests on nothing.
    ///
    /// `began` is the epoch in which the evaluation began: one that read before pending batches
    /// failed rests on what never came to be, and is refused.
    pub(crate) fn place(
        &self,
        batch: &mut WriteBatch,
        now_ms: u64,
        began: Epoch,
    ) -> Result<Ticket> {
        self.place_for(batch, now_ms, began, 1)
    }

    /// As [`Shard::place`], of a batch of so many requests.
    pub(crate) fn place_for(
        &self,
        batch: &mut WriteBatch,
        now_ms: u64,
        began: Epoch,
        requests: usize,
    ) -> Result<Ticket> {
        if batch.is_empty() {
            return Ok(Ticket::default());
        }
        let mut state = self.commits.lock();
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        if state.epoch != began.lost {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "this node lost its place as leader meanwhile; nothing was written, try again",
            ));
        }
        if state.fenced || self.commits.turn.load(Ordering::Acquire) != began.turn {
            let message = "the shard is being split; nothing was written, try again";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        batch.place(Seq(state.placed.0 + 1), now_ms);
        let (bytes, view) = (batch.bytes(), batch.view());
        let last = view.last_seq();
        match self.log.place_for(bytes, requests)? {
            Placed::Committed(index) => {
                state.placed = last;
                if let Err(error) = self.engine.apply(index, &view) {
                    // It is in the log: a restart applies it, and its numbers are taken.
                    state.failed = Some(error.clone());
                    return Err(unknown(&error));
                }
                // Who finds no lock finds what was locked.
                self.vectors.note(index, &view);
                self.locks.note(&view);
                self.vectors.noted_through(index);
                self.commits.set_applied(&mut state, last);
            }
            Placed::Pending(index) => {
                let bytes = Bytes::copy_from_slice(bytes);
                self.overlay.add(&view.within(&bytes), &bytes);
                state.placed = last;
                state.pending.push_back(PendingBatch { index, bytes });
            }
        }
        let ticket = Ticket { epoch: state.epoch, seq: last, wrote: true };
        drop(state);
        self.vectors.kick();
        Ok(ticket)
    }

    /// Whether a value of so many bytes can be written: asked before it is made.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(crate) fn check_value(&self, bytes: usize) -> Result<()> {
        match self.log.batch_bytes_max() {
            max if bytes > max => Err(too_large(bytes, max)),
            _ => Ok(()),
        }
    }

    /// Applies a committed batch: the one way in which anything ever changes. Called in log
    /// order: at recovery, by Raft's state machine on every replica, and for local commits.
    pub fn apply(&self, index: LogIndex, bytes: &[u8]) -> Result<()> {
        self.apply_entry(index, &[bytes])
    }

    /// As [`Shard::apply`] for an entry of the log that carries several batches, or none: it takes
    /// effect as a whole. A replicated shard is shown every entry of its log, so that its engine
    /// knows how far it is.
    pub fn apply_entry(&self, index: LogIndex, batches: &[impl AsRef<[u8]>]) -> Result<()> {
        let views = batches.iter().map(|b| BatchView::read(b.as_ref()));
        let views = views.collect::<Result<Vec<_>>>()?;
        for view in views.iter().filter(|view| view.changes_families) {
            // It waits for the disk: not under the lock.
            self.engine.change_families(view)?;
        }
        let (lost, woken, sleepers) = {
            let mut state = self.commits.lock();
            // Another leader's batches stand where ours were to stand: none of ours will.
            let mut both = state.pending.iter().zip(batches);
            let ours = state.pending.is_empty()
                || state.pending.len() >= batches.len()
                    && both.all(|(pending, batch)| *pending.bytes == *batch.as_ref());
            let lost = if ours { Vec::new() } else { self.lose_pending(&mut state) };
            let done = self.apply_locked(&mut state, index, &views);
            (lost, done.map(|()| self.commits.take_woken(&mut state)), state.sleepers)
        };
        if sleepers > 0 {
            self.commits.wake();
        }
        for waiter in lost {
            waiter(Err(lost_lead()));
        }
        for waiter in woken? {
            waiter(Ok(()));
        }
        self.vectors.kick();
        Ok(())
    }

    /// Applies the pending batches whose index the log knew, up to and with `index`.
    pub fn commit_through(&self, index: LogIndex) -> Result<()> {
        let (woken, sleepers) = {
            let mut state = self.commits.lock();
            while let Some(at) = state.pending.front().and_then(|p| p.index) {
                if at > index {
                    break;
                }
                let Some(bytes) = state.pending.front().map(|p| p.bytes.clone()) else { break };
                self.apply_locked(&mut state, at, &[BatchView::read(&bytes)?])?;
            }
            (self.commits.take_woken(&mut state), state.sleepers)
        };
        if sleepers > 0 {
            self.commits.wake();
        }
        for waiter in woken {
            waiter(Ok(()));
        }
        self.vectors.kick();
        Ok(())
    }

    /// REQUIRES: what is pending begins with these batches, or nothing is.
    fn apply_locked(
        &self,
        state: &mut State,
        index: LogIndex,
        views: &[BatchView<'_>],
    ) -> Result<()> {
        self.engine.apply_all(index, views)?;
        for view in views {
            self.note_committed_ms(view.commit_ms);
            self.vectors.note(index, view);
            self.locks.note(view);
            if view.is_empty() {
                continue;
            }
            let applied = state.applied.max(view.last_seq());
            self.commits.set_applied(state, applied);
            state.placed = state.placed.max(view.last_seq());
            if state.pending.pop_front().is_some() {
                self.overlay.remove(view);
            }
        }
        self.vectors.noted_through(index);
        Ok(())
    }

    /// Forgets everything pending and gives who waited; numbers go on from what is applied.
    fn lose_pending(&self, state: &mut State) -> Vec<Waiter> {
        for pending in std::mem::take(&mut state.pending) {
            if let Ok(view) = BatchView::read(&pending.bytes) {
                self.overlay.remove(&view);
            }
        }
        state.placed = state.applied;
        state.epoch += 1;
        self.commits.epoch.store(state.epoch, Ordering::Release);
        std::mem::take(&mut state.waiters).into_values().flatten().collect()
    }

    /// Fails everything pending: its outcome is unknown. With `for_good` (a log that stopped)
    /// nothing is placed any more either; otherwise (a lost term) placing may go on.
    pub fn fail_pending(&self, error: &Error, for_good: bool) {
        let waiters = {
            let mut state = self.commits.lock();
            if for_good {
                state.failed = Some(error.clone());
            }
            self.lose_pending(&mut state)
        };
        self.commits.wake();
        for waiter in waiters {
            waiter(Err(unknown(error)));
        }
    }

    /// From now on nothing is placed, until [`Shard::end_fence`].
    pub fn begin_fence(&self) {
        self.commits.lock().fenced = true;
    }

    /// Says that a split is about to leave only a part of the shard. [`Shard::note_split`] follows.
    pub fn expect_split(&self) {
        self.vectors.fall_behind();
    }

    /// Takes note that a split has left only a part of the shard.
    ///
    /// # Errors
    /// What reading the engine gives.
    pub fn note_split(&self) -> Result<()> {
        self.locks.load(&self.engine)?;
        self.vectors.reload();
        self.end_fence(true);
        Ok(())
    }

    /// Lets batches be placed again. With `changed`, the shard's slots have changed: what was
    /// evaluated before is not placed any more.
    pub fn end_fence(&self, changed: bool) {
        let mut state = self.commits.lock();
        state.fenced = false;
        if changed {
            self.commits.turn.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Calls `waiter` when what the ticket names is committed, or has failed. At once if it is.
    pub fn when_committed(
        self: &Arc<Self>,
        ticket: Ticket,
        waiter: impl FnOnce(Result<()>) + Send + 'static,
    ) {
        if self.commits.is_applied(ticket) {
            return waiter(Ok(()));
        }
        let outcome = {
            let mut state = self.commits.lock();
            if state.is_pending(ticket) {
                state.waiters.entry(ticket.seq).or_default().push(Box::new(waiter));
                drop(state);
                self.log.drive(self);
                return;
            }
            state.outcome(ticket)
        };
        waiter(outcome);
    }

    /// Waits until what the ticket names is committed.
    pub fn wait_committed(self: &Arc<Self>, ticket: Ticket) -> Result<()> {
        if self.commits.is_applied(ticket) {
            return Ok(());
        }
        self.log.drive_until(self, ticket);
        if self.commits.is_applied(ticket) {
            return Ok(());
        }
        let mut sleeping = self.commits.sleeping();
        loop {
            let mut state = self.commits.lock();
            if !state.is_pending(ticket) {
                return state.outcome(ticket);
            }
            state.sleepers += 1;
            drop(state);
            sleeping = self.commits.changed.wait(sleeping).unwrap_or_else(PoisonError::into_inner);
            self.commits.lock().sleepers -= 1;
        }
    }

    /// What rests on everything placed so far.
    pub fn placed(&self) -> Ticket {
        self.commits.placed()
    }

    /// Waits until everything placed is committed, so that the engine alone holds the present.
    pub(crate) fn barrier(self: &Arc<Self>) -> Result<()> {
        if self.overlay.is_empty() {
            return Ok(());
        }
        self.wait_committed(self.commits.placed())
    }

    /// As the barrier inside: after it, reads of the engine see everything answered so far.
    pub fn settle(self: &Arc<Self>) -> Result<()> {
        self.barrier()
    }

    /// Whether what the ticket names may still be committed, and is not.
    pub fn is_pending(&self, ticket: Ticket) -> bool {
        !self.commits.is_applied(ticket) && self.commits.lock().is_pending(ticket)
    }

    /// Whether any batch is placed and not yet applied.
    pub fn has_pending(&self) -> bool {
        !self.overlay.is_empty()
    }

    /// Whether what the ticket names is committed.
    pub fn is_committed(&self, ticket: Ticket) -> bool {
        self.outcome(ticket).is_ok()
    }

    /// What became of what the ticket names; an error as long as it is pending.
    pub fn outcome(&self, ticket: Ticket) -> Result<()> {
        if self.commits.is_applied(ticket) {
            return Ok(());
        }
        self.commits.lock().outcome(ticket)
    }
}

impl Commits {
    fn take_woken(&self, state: &mut State) -> Vec<Waiter> {
        if state.waiters.is_empty() {
            return Vec::new();
        }
        let later = state.waiters.split_off(&Seq(state.applied.0 + 1));
        std::mem::replace(&mut state.waiters, later).into_values().flatten().collect()
    }
}

/// The error of a batch that a log does not take whole.
pub(crate) fn too_large(bytes: usize, bytes_max: usize) -> Error {
    Error::invalid(format!(
        "this writes {bytes} bytes at once, and a replicated shard takes {bytes_max} at most; write \
         smaller values, or fewer at a time"
    ))
}

fn lost_lead() -> Error {
    Error::new(
        ErrorKind::Unknown,
        "the write's outcome is not known: this node lost its place as leader",
    )
}

fn unknown(cause: &Error) -> Error {
    Error::new(ErrorKind::Unknown, format!("the write's outcome is not known: {cause}"))
}

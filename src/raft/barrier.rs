//! Reads that wait together: one question to the majority serves all who had asked before it.
//!
//! While one is on its way, whoever comes waits for the next: an answer to a question that was put
//! before a read began says nothing of that read. Readers that have just been answered come back
//! soon, so the next is put once as many wait as came before, see [`Pace`].

use crate::base::{Error, ErrorKind, Result};
use crate::raft::pace::{LINGER, Pace, some_turns};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Readers that are worth waiting for.
const TOGETHER_MAX: usize = 1024;

/// Who waits for the next question.
#[derive(Debug, Default)]
pub(crate) struct Barrier {
    state: Mutex<State>,
    /// Enough wait.
    enough: Notify,
}

#[derive(Debug, Default)]
struct State {
    is_asking: bool,
    waiting: Vec<Waiting>,
    /// How many readers are enough; nobody waits for them if 0.
    wanted: usize,
    pace: Pace,
}

#[derive(Debug)]
struct Waiting {
    readers: usize,
    deadline: Instant,
    answer: oneshot::Sender<Result<u64>>,
}

/// Those whom a question serves.
#[derive(Debug)]
pub(crate) struct Asking {
    waiting: Vec<Waiting>,
    /// How many readers they speak for.
    pub(crate) readers: usize,
    /// When the last of them gives up.
    pub(crate) deadline: Instant,
}

impl Barrier {
    /// Waits for a question that begins after this call, for no longer than `deadline`, on behalf of
    /// so many readers. True if the caller has to ask: it then calls [`Barrier::next`] until that gives none.
    pub(crate) fn wait(
        &self,
        deadline: Instant,
        readers: usize,
    ) -> (oneshot::Receiver<Result<u64>>, bool) {
        let (answer, receive) = oneshot::channel();
        let mut state = self.state();
        state.waiting.push(Waiting { readers, deadline, answer });
        if state.wanted > 0 && state.readers() >= state.wanted {
            state.wanted = 0;
            self.enough.notify_one();
        }
        let asks = !std::mem::replace(&mut state.is_asking, true);
        (receive, asks)
    }

    /// Those whom the next question serves; none if nobody waits.
    pub(crate) fn next(&self) -> Option<Asking> {
        let mut state = self.state();
        state.waiting.retain(|waiting| !waiting.answer.is_closed());
        let Some(deadline) = state.waiting.iter().map(|waiting| waiting.deadline).max() else {
            state.is_asking = false;
            return None;
        };
        let readers = state.readers();
        Some(Asking { waiting: std::mem::take(&mut state.waiting), readers, deadline })
    }

    /// Waits, after a question that served `served`, for as many as are expected to come, but not
    /// for long.
    pub(crate) async fn gather(&self, served: usize) {
        let until = Instant::now() + LINGER;
        let is_late = {
            let mut state = self.state();
            let waiting = state.readers();
            let wanted = state.pace.after(served, waiting, TOGETHER_MAX);
            state.wanted = if waiting < wanted { wanted } else { 0 };
            state.wanted > 0
        } && tokio::time::timeout_at(until, self.enough.notified()).await.is_err();
        some_turns().await;
        let mut state = self.state();
        state.wanted = 0;
        let waiting = state.readers();
        state.pace.goes(is_late, waiting);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn readers(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.readers).sum()
    }
}

impl Asking {
    /// Tells everybody what the answer was.
    pub(crate) fn tell(self, answer: &Result<u64>) {
        for waiting in self.waiting {
            // Whoever asked may be gone.
            _ = waiting.answer.send(answer.clone());
        }
    }
}

/// What became of a question, as it was heard.
pub(crate) async fn heard(answer: oneshot::Receiver<Result<u64>>) -> Result<u64> {
    let stopping = |_| Error::new(ErrorKind::Unavailable, "the replica is stopping");
    answer.await.map_err(stopping)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_serves_those_before_it_and_nobody_behind() {
        let barrier = Barrier::default();
        let soon = Instant::now();
        let (first, asks) = barrier.wait(soon, 1);
        assert!(asks);
        let asking = barrier.next().unwrap();
        let (mut second, asks) = barrier.wait(soon, 1);
        assert!(!asks, "somebody asks already");
        asking.tell(&Ok(7));
        assert_eq!(heard(first).await.unwrap(), 7);
        assert!(second.try_recv().is_err(), "the question was put before it came");
        // The one who asks goes on to the next.
        let failed = Error::new(ErrorKind::Unavailable, "no majority");
        barrier.next().unwrap().tell(&Err(failed));
        assert!(heard(second).await.is_err());
        assert!(barrier.next().is_none());
        let (gone, asks) = barrier.wait(soon, 1);
        assert!(asks, "nobody asks any more");
        drop(gone);
        assert!(barrier.next().is_none(), "nobody waits");
    }
}

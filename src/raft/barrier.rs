//! Reads that wait together: one question to the majority serves all who had asked before it.
//!
//! While one is on its way, whoever comes waits for the next: an answer to a question that was put
//! before a read began says nothing of that read.

use crate::base::{Error, ErrorKind, Result};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Who waits for the next question.
#[derive(Debug, Default)]
pub(crate) struct Barrier {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_asking: bool,
    waiting: Vec<(Instant, oneshot::Sender<Result<u64>>)>,
}

/// Those whom a question serves.
#[derive(Debug)]
pub(crate) struct Asking {
    waiting: Vec<oneshot::Sender<Result<u64>>>,
    /// When the last of them gives up.
    pub(crate) deadline: Instant,
}

impl Barrier {
    /// Waits for a question that begins after this call, for no longer than `deadline`. True if the
    /// caller has to ask: it then calls [`Barrier::next`] until that gives none.
    pub(crate) fn wait(&self, deadline: Instant) -> (oneshot::Receiver<Result<u64>>, bool) {
        let (send, receive) = oneshot::channel();
        let mut state = self.state();
        state.waiting.push((deadline, send));
        let asks = !std::mem::replace(&mut state.is_asking, true);
        (receive, asks)
    }

    /// Those whom the next question serves; none if nobody waits.
    pub(crate) fn next(&self) -> Option<Asking> {
        let mut state = self.state();
        state.waiting.retain(|(_, waiting)| !waiting.is_closed());
        let Some(deadline) = state.waiting.iter().map(|(deadline, _)| *deadline).max() else {
            state.is_asking = false;
            return None;
        };
        let waiting = std::mem::take(&mut state.waiting).into_iter().map(|(_, w)| w).collect();
        Some(Asking { waiting, deadline })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    /// Tells everybody what the answer was.
    pub(crate) fn tell(self, answer: &Result<u64>) {
        for waiting in self.waiting {
            // Whoever asked may be gone.
            _ = waiting.send(answer.clone());
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
        let (first, asks) = barrier.wait(soon);
        assert!(asks);
        let asking = barrier.next().unwrap();
        let (mut second, asks) = barrier.wait(soon);
        assert!(!asks, "somebody asks already");
        asking.tell(&Ok(7));
        assert_eq!(heard(first).await.unwrap(), 7);
        assert!(second.try_recv().is_err(), "the question was put before it came");
        // The one who asks goes on to the next.
        let failed = Error::new(ErrorKind::Unavailable, "no majority");
        barrier.next().unwrap().tell(&Err(failed));
        assert!(heard(second).await.is_err());
        assert!(barrier.next().is_none());
        let (gone, asks) = barrier.wait(soon);
        assert!(asks, "nobody asks any more");
        drop(gone);
        assert!(barrier.next().is_none(), "nobody waits");
    }
}

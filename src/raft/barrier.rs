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
    /// How many readers they speak for.
    readers: usize,
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
struct Asking {
    waiting: Vec<Waiting>,
    /// How many readers they speak for.
    readers: usize,
    /// When the last of them gives up.
    deadline: Instant,
}

impl Barrier {
    /// Waits for a question that begins after this call, for no longer than `deadline`, on behalf
    /// of so many readers. True if the caller has to see to it that [`Barrier::serve`] is called.
    pub(crate) fn wait(
        &self,
        deadline: Instant,
        readers: usize,
    ) -> (oneshot::Receiver<Result<u64>>, bool) {
        let (answer, receive) = oneshot::channel();
        let mut state = self.state();
        state.waiting.push(Waiting { readers, deadline, answer });
        state.readers += readers;
        if state.wanted > 0 && state.readers >= state.wanted {
            state.wanted = 0;
            self.enough.notify_one();
        }
        let asks = !std::mem::replace(&mut state.is_asking, true);
        (receive, asks)
    }

    /// Puts one question after the other, each until the time it is given, until nobody waits.
    pub(crate) async fn serve<F>(&self, ask: impl Fn(Instant) -> F)
    where
        F: Future<Output = Result<u64>>,
    {
        while let Some(asking) = self.next() {
            let served = asking.readers;
            let answer = ask(asking.deadline).await;
            asking.tell(&answer);
            self.gather(served).await;
        }
    }

    /// Those whom the next question serves; none if nobody waits.
    fn next(&self) -> Option<Asking> {
        let mut state = self.state();
        state.waiting.retain(|waiting| !waiting.answer.is_closed());
        state.readers = 0;
        let Some(deadline) = state.waiting.iter().map(|waiting| waiting.deadline).max() else {
            state.is_asking = false;
            return None;
        };
        let waiting = std::mem::take(&mut state.waiting);
        let readers = waiting.iter().map(|waiting| waiting.readers).sum();
        Some(Asking { waiting, readers, deadline })
    }

    /// Waits, after a question that served `served` readers, for as many as are expected to come,
    /// but not for long; not at all if one is enough.
    async fn gather(&self, served: usize) {
        let wanted = {
            let mut state = self.state();
            let waiting = state.readers;
            state.pace.after(served, waiting, TOGETHER_MAX)
        };
        if wanted == 1 {
            return;
        }
        let until = Instant::now() + LINGER;
        let mut is_late = false;
        loop {
            {
                let mut state = self.state();
                if is_late || state.readers >= wanted {
                    state.wanted = 0;
                    break;
                }
                state.wanted = wanted;
            }
            is_late = tokio::time::timeout_at(until, self.enough.notified()).await.is_err();
        }
        some_turns().await;
        let mut state = self.state();
        let waiting = state.readers;
        state.pace.goes(is_late, waiting);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    /// Tells everybody what the answer was.
    fn tell(self, answer: &Result<u64>) {
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

    #[tokio::test]
    async fn who_comes_while_a_question_is_on_its_way_is_served_by_the_next() {
        let barrier = std::sync::Arc::new(Barrier::default());
        let later = Instant::now() + std::time::Duration::from_secs(60);
        let (first, asks) = barrier.wait(later, 1);
        assert!(asks);
        // Each question is answered when the test says so, with its own number.
        let (put, mut questions) = tokio::sync::mpsc::unbounded_channel();
        let serving = {
            let barrier = barrier.clone();
            tokio::spawn(async move {
                barrier
                    .serve(|_| {
                        let (answer, answered) = oneshot::channel();
                        put.send(answer).unwrap();
                        async move { answered.await.unwrap() }
                    })
                    .await;
            })
        };
        let question = questions.recv().await.unwrap();
        let (late, asks) = barrier.wait(later, 1);
        assert!(!asks, "somebody asks already");
        question.send(Ok(1)).unwrap();
        assert_eq!(heard(first).await.unwrap(), 1);
        questions.recv().await.unwrap().send(Ok(2)).unwrap();
        assert_eq!(heard(late).await.unwrap(), 2, "answered by a question that was put before");
        serving.await.unwrap();
        assert!(barrier.wait(later, 1).1, "nobody asks any more");
    }

    #[tokio::test(start_paused = true)]
    async fn readers_that_come_back_are_waited_for_and_others_not_for_long() {
        let barrier = std::sync::Arc::new(Barrier::default());
        let begun = Instant::now();
        let soon = begun + std::time::Duration::from_secs(1);
        barrier.gather(1).await;
        assert_eq!(begun.elapsed(), std::time::Duration::ZERO, "nobody waits where one is enough");
        // Five were served and three wait: eight in all, and these are asked for as soon as they are
        // there.
        let mut answers: Vec<_> = (0..3).map(|_| barrier.wait(soon, 1).0).collect();
        let gathers = barrier.clone();
        let gathering = tokio::spawn(async move { gathers.gather(5).await });
        tokio::task::yield_now().await;
        answers.push(barrier.wait(soon, 4).0);
        tokio::task::yield_now().await;
        assert!(!gathering.is_finished());
        answers.push(barrier.wait(soon, 1).0);
        gathering.await.unwrap();
        assert!(begun.elapsed() < LINGER);
        let asking = barrier.next().unwrap();
        assert_eq!(asking.readers, 8);
        asking.tell(&Ok(1));
        // Now nobody comes back: less and less often they are waited for.
        let (mut waited, all) = (0, 100);
        for _ in 0..all {
            let before = Instant::now();
            answers.push(barrier.wait(soon, 1).0);
            barrier.gather(8).await;
            waited += u32::from(before.elapsed() >= LINGER);
            barrier.next().unwrap().tell(&Ok(1));
        }
        assert!((1..=8).contains(&waited), "{waited} of {all}");
    }
}

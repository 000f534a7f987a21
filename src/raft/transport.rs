//! The seam between groups and the network, and questions with their answers over it.

pub use crate::base::NodeId;
use crate::base::{Error, ErrorKind, Result};
use crate::raft::message::{Body, Envelope};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// What a message is part of. Each class has a way of its own between two nodes, so that a
/// heartbeat does not wait behind a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Heartbeats, votes, reads: small and urgent.
    Control,
    /// Entries.
    Append,
    /// Snapshots.
    Snapshot,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 3] = [Class::Control, Class::Append, Class::Snapshot];
}

/// The way to other nodes: links, or a simulated network. What arrives is given to
/// [`Host::receive`](crate::raft::Host::receive).
pub trait Peers: Send + Sync + 'static {
    /// Sends a message, without waiting. It arrives once or never; of one class from one node to
    /// another, those that arrive do so in the order in which they were sent.
    ///
    /// # Errors
    /// `Unavailable` if it is known that the message will not arrive.
    fn send(&self, to: NodeId, class: Class, message: Bytes) -> Result<()>;
}

/// Questions that wait for their answers.
pub(crate) struct Questions {
    peers: Arc<dyn Peers>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
}

struct Waiting {
    node: NodeId,
    answer: oneshot::Sender<Result<Body>>,
}

/// A question that was sent. Dropped, its answer is not waited for.
pub(crate) struct Question {
    questions: Arc<Questions>,
    id: u64,
    answer: oneshot::Receiver<Result<Body>>,
    deadline: tokio::time::Instant,
}

impl Questions {
    /// `first` is the number of the first question.
    pub(crate) fn new(peers: Arc<dyn Peers>, first: u64) -> Arc<Questions> {
        let (next, waiting) = (AtomicU64::new(first), Mutex::default());
        Arc::new(Questions { peers, next, waiting })
    }

    /// Sends a question to a node; its id is given here.
    pub(crate) fn ask(
        self: &Arc<Self>,
        node: NodeId,
        class: Class,
        mut envelope: Envelope,
        patience: Duration,
    ) -> Result<Question> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        envelope.id = id;
        let (send, answer) = oneshot::channel();
        self.waiting().insert(id, Waiting { node, answer: send });
        let deadline = tokio::time::Instant::now() + patience;
        let question = Question { questions: self.clone(), id, answer, deadline };
        self.peers.send(node, class, envelope.encode_bytes())?;
        Ok(question)
    }

    /// Sends an answer.
    pub(crate) fn answer(&self, node: NodeId, class: Class, envelope: &Envelope) {
        // One that is lost is a question that nobody answered.
        _ = self.peers.send(node, class, envelope.encode_bytes());
    }

    /// Takes the answer to a question. One that nobody waits for, or that comes from another node
    /// than was asked, is dropped.
    pub(crate) fn take(&self, from: NodeId, id: u64, body: Body) {
        let mut waiting = self.waiting();
        if waiting.get(&id).is_some_and(|w| w.node == from)
            && let Some(found) = waiting.remove(&id)
        {
            _ = found.answer.send(Ok(body));
        }
    }

    /// Fails what a node was asked: the way to it has broken.
    pub(crate) fn lose(&self, node: NodeId) {
        let mut waiting = self.waiting();
        let mut lost: Vec<u64> =
            waiting.iter().filter(|(_, w)| w.node == node).map(|(id, _)| *id).collect();
        // In one order, so that a simulation repeats itself.
        lost.sort_unstable();
        for id in lost {
            if let Some(found) = waiting.remove(&id) {
                _ = found.answer.send(Err(unreachable(node)));
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question {
    /// Waits for the answer. May be asked again if the wait was given up.
    pub(crate) async fn answered(&mut self) -> Result<Body> {
        match tokio::time::timeout_at(self.deadline, &mut self.answer).await {
            Ok(Ok(answer)) => match answer? {
                Body::Failed(failed) => Err(Error::new(ErrorKind::Unavailable, failed.message)),
                body => Ok(body),
            },
            Ok(Err(_)) => Err(Error::new(ErrorKind::Unavailable, "the node is stopping")),
            Err(_) => Err(Error::new(ErrorKind::Deadline, "a replica did not answer in time")),
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.questions.waiting().remove(&self.id);
    }
}

fn unreachable(node: NodeId) -> Error {
    Error::new(ErrorKind::Unavailable, format!("node {node} cannot be reached"))
}

#[cfg(test)]
pub(in crate::raft) mod tests {
    use super::*;
    use crate::raft::message::Empty;

    /// Keeps what is sent.
    #[derive(Default)]
    pub(in crate::raft) struct Kept(pub(in crate::raft) Mutex<Vec<Bytes>>);

    impl Peers for Kept {
        fn send(&self, _: NodeId, _: Class, message: Bytes) -> Result<()> {
            self.0.lock().unwrap().push(message);
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_a_question_of_the_process_before_answers_none_of_this() {
        let kept = Arc::new(Kept::default());
        let envelope =
            || Envelope { group: 1, from: 1, to: 2, id: 0, body: Some(Body::Probe(Empty {})) };
        let patience = Duration::from_secs(1);
        let asked = |questions: &Arc<Questions>| {
            let question = questions.ask(NodeId(2), Class::Control, envelope(), patience);
            let sent = kept.0.lock().unwrap().pop().unwrap();
            (question.unwrap(), Envelope::decode_bytes(sent).unwrap().id)
        };
        let before = Questions::new(kept.clone(), 7 << 40);
        let late: Vec<u64> = (0..100).map(|_| asked(&before).1).collect();
        let now = Questions::new(kept.clone(), u64::MAX - 10);
        for _ in 0..100 {
            let (mut question, own) = asked(&now);
            late.iter().for_each(|id| now.take(NodeId(2), *id, Body::Probed(Empty {})));
            let error = question.answered().await.map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Deadline);
            assert!(!late.contains(&own));
        }
        let (mut question, own) = asked(&now);
        now.take(NodeId(3), own, Body::Probed(Empty {}));
        now.take(NodeId(2), own, Body::Probed(Empty {}));
        assert!(matches!(question.answered().await, Ok(Body::Probed(_))));
    }
}

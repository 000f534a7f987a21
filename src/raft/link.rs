//! A group's way to one of its replicas, as openraft asks for it.

use crate::base::{Error, ErrorKind, GroupId, Result};
use crate::raft::host::Shared;
use crate::raft::log_store::bytes_of;
use crate::raft::machine::Shipment;
use crate::raft::message::{Append, Appended, Ask, Body, Envelope, Transfer, frame, need};
use crate::raft::replica::Replica;
use crate::raft::transport::{Class, NodeId, Question};
use crate::raft::vocabulary::{LogId, TypeConfig};
use crate::raft::{ship, wire};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use openraft::{AnyError, EmptyNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Appends of one stream that are on their way at a time.
const WINDOW: usize = 16;
/// Time after which an append that was not answered is given up, and with it the stream. One of many
/// bytes, or behind many, has longer: a second for each [`APPEND_BYTES_A_SECOND`].
const APPEND_PATIENCE: Duration = Duration::from_secs(2);
const APPEND_BYTES_A_SECOND: u64 = 4 << 20;

/// How long followers may be left without knowing what is committed, if nothing else is to be said.
const COMMIT_MAY_WAIT: Duration = Duration::from_millis(10);

/// Where a group's replicas are: what the registry says, not what the membership says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(Arc<RwLock<BTreeMap<u64, NodeId>>>);

impl Places {
    pub(crate) fn set(&self, places: impl IntoIterator<Item = (u64, NodeId)>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(places);
    }

    pub(crate) fn of(&self, replica: u64) -> Result<NodeId> {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        places.get(&replica).copied().ok_or_else(|| {
            let message = format!("nobody has said on which node replica {replica} is");
            Error::new(ErrorKind::Unavailable, message)
        })
    }
}

/// A group's ways to all its replicas.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) shared: Arc<Shared>,
    pub(crate) group: GroupId,
    pub(crate) own: u64,
    pub(crate) places: Places,
    pub(crate) replica: Arc<Replica>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Link {
        Link { network: self.clone(), target, class: Class::Append }
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &EmptyNode) -> Link {
        Link { network: self.clone(), target, class: Class::Control }
    }
}

/// The way to one replica.
pub(crate) struct Link {
    pub(crate) network: Network,
    pub(crate) target: u64,
    /// That of appends. Those of class control are heartbeats: each is one by itself, and ends no
    /// stream of entries.
    class: Class,
}

type RpcResult<T> = std::result::Result<T, RPCError<TypeConfig>>;
type AppendStream<'s> = BoxStream<'s, RpcResult<StreamAppendResult<TypeConfig>>>;

impl Network {
    /// Asks a replica.
    pub(crate) fn ask(
        &self,
        target: u64,
        class: Class,
        body: Body,
        patience: Duration,
    ) -> Result<Question> {
        let (group, from, to) = (self.group.0, self.own, target);
        let envelope = Envelope { group, from, to, id: 0, body: Some(body) };
        self.shared.questions.ask(self.places.of(target)?, class, envelope, patience)
    }
}

impl Link {
    pub(crate) async fn ask(&self, class: Class, body: Body, patience: Duration) -> Result<Body> {
        self.network.ask(self.target, class, body, patience)?.answered().await
    }

    async fn ask_vote(
        &self,
        rpc: VoteRequest<TypeConfig>,
        body: fn(Ask) -> Body,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>> {
        let ask = Ask {
            vote: Some(wire::from_vote(&rpc.vote)),
            last: rpc.last_log_id.as_ref().map(wire::from_log_id),
            transfer: rpc.leadership_transfer,
        };
        match self.ask(Class::Control, body(ask), option.soft_ttl()).await? {
            Body::Voted(voted) => Ok(VoteResponse {
                vote: wire::to_vote(need(voted.vote)?),
                vote_granted: voted.granted,
                last_log_id: voted.last.map(wire::to_log_id),
            }),
            _ => Err(wrong_answer()),
        }
    }

    fn append_body(rpc: &AppendEntriesRequest<TypeConfig>, stream: u64, first: bool) -> Body {
        let entries: Vec<Vec<u8>> = rpc.entries.iter().map(wire::encode_entry).collect();
        Body::Append(Append {
            stream,
            first,
            vote: Some(wire::from_vote(&rpc.vote)),
            previous: rpc.prev_log_id.as_ref().map(wire::from_log_id),
            committed: rpc.leader_commit.as_ref().map(wire::from_log_id),
            entries: frame(entries.iter().map(Vec::as_slice)),
        })
    }
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = Shipment;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<TypeConfig>> {
        let body = Link::append_body(&rpc, 0, true);
        let answer = self.ask(self.class, body, option.soft_ttl()).await.map_err(rpc_error)?;
        let Body::Appended(appended) = answer else { return Err(rpc_error(wrong_answer())) };
        let vote = || need(appended.vote).map(wire::to_vote);
        Ok(match appended.how {
            Appended::SUCCESS => AppendEntriesResponse::Success,
            Appended::PARTLY => {
                AppendEntriesResponse::PartialSuccess(appended.at.map(wire::to_log_id))
            }
            Appended::CONFLICT => AppendEntriesResponse::Conflict,
            Appended::HIGHER_VOTE => AppendEntriesResponse::HigherVote(vote().map_err(rpc_error)?),
            _ => return Err(rpc_error(wrong_answer())),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, RpcResult<AppendStream<'s>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let id = match self.class {
            Class::Control => 0,
            _ => self.network.shared.streams.fetch_add(1, Ordering::Relaxed),
        };
        let (input, asked) = (Some(input), VecDeque::new());
        let stream = Appending { link: self, id, is_new: true, input, asked, held: None };
        let answers = stream::unfold(Some(stream), |stream| async move {
            let mut stream = stream?;
            let next = stream.next().await?;
            let goes_on = matches!(next, Ok(Ok(_)));
            Some((next, goes_on.then_some(stream)))
        });
        Box::pin(async move { Ok(answers.boxed() as AppendStream<'s>) })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        self.ask_vote(rpc, Body::Vote, &option).await.map_err(rpc_error)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        self.ask_vote(rpc, Body::PreVote, &option).await.map_err(rpc_error)
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, Shipment>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> std::result::Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = ship::send(self, &vote, snapshot.meta.last_log_id) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => Err(Unreachable::new(&AnyError::new(&error)).into()),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<TypeConfig>> {
        let body = Body::Transfer(Transfer {
            vote: Some(wire::from_vote(request.from_leader())),
            to: *request.to_node_id(),
            last: request.last_log_id().map(wire::from_log_id),
        });
        match self.ask(Class::Control, body, option.soft_ttl()).await {
            Ok(Body::Transferred(_)) => Ok(Ok(())),
            Ok(_) => Err(rpc_error(wrong_answer())),
            Err(error) => Err(rpc_error(error)),
        }
    }
}

/// Appends that follow each other without waiting for their answers.
struct Appending<'s, S> {
    link: &'s mut Link,
    id: u64,
    is_new: bool,
    input: Option<S>,
    asked: VecDeque<Asked>,
    /// An append that says only how far the leader has committed, and when it is sent at last. The
    /// next one with entries says as much: of two messages for an entry one is left.
    held: Option<(AppendEntriesRequest<TypeConfig>, tokio::time::Instant)>,
}

struct Asked {
    question: Question,
    bytes: u64,
    previous: Option<LogId>,
    last: Option<LogId>,
}

impl<S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin> Appending<'_, S> {
    /// The next answer; `None` when the input has ended and all is answered.
    async fn next(&mut self) -> Option<RpcResult<StreamAppendResult<TypeConfig>>> {
        loop {
            let may_ask = self.asked.len() < WINDOW;
            let held_until = self.held.as_ref().map(|(_, until)| *until);
            tokio::select! {
                biased;
                answer = answered(&mut self.asked), if !self.asked.is_empty() => {
                    let asked = self.asked.pop_front()?;
                    return Some(answer.and_then(|body| asked.take(body)).map_err(rpc_error));
                }
                rpc = following(&mut self.input), if may_ask && self.input.is_some() => {
                    if let Err(error) = self.take(rpc) {
                        return Some(Err(rpc_error(error)));
                    }
                }
                () = reached(held_until), if held_until.is_some() => {
                    if let Some((rpc, _)) = self.held.take()
                        && let Err(error) = self.ask(&rpc)
                    {
                        return Some(Err(rpc_error(error)));
                    }
                }
                else => return None,
            }
        }
    }

    /// Takes what comes next, or that nothing does.
    fn take(&mut self, rpc: Option<AppendEntriesRequest<TypeConfig>>) -> Result<()> {
        let Some(rpc) = rpc else {
            self.input = None;
            let held = self.held.take();
            return held.map_or(Ok(()), |(rpc, _)| self.ask(&rpc));
        };
        if rpc.entries.is_empty() && !self.is_new && self.link.class == Class::Append {
            let first = self.held.take().map(|(_, until)| until);
            let until = first.unwrap_or_else(|| tokio::time::Instant::now() + COMMIT_MAY_WAIT);
            self.held = Some((rpc, until));
            return Ok(());
        }
        // It stands behind what was held, and says what is committed by now.
        self.held = None;
        self.ask(&rpc)
    }

    fn ask(&mut self, rpc: &AppendEntriesRequest<TypeConfig>) -> Result<()> {
        let body = Link::append_body(rpc, self.id, std::mem::take(&mut self.is_new));
        let network = &self.link.network;
        let (target, class) = (self.link.target, self.link.class);
        let bytes: u64 = rpc.entries.iter().map(bytes_of).sum();
        let ahead: u64 = self.asked.iter().map(|asked| asked.bytes).sum();
        let patience = append_patience(ahead.saturating_add(bytes));
        let question = network.ask(target, class, body, patience)?;
        let previous = rpc.prev_log_id;
        let last = rpc.entries.last().map(|entry| entry.log_id).or(previous);
        self.asked.push_back(Asked { question, bytes, previous, last });
        Ok(())
    }
}

impl Asked {
    fn take(self, body: Body) -> Result<StreamAppendResult<TypeConfig>> {
        let Body::Appended(appended) = body else { return Err(wrong_answer()) };
        Ok(match appended.how {
            Appended::SUCCESS => Ok(self.last),
            Appended::PARTLY => Ok(appended.at.map(wire::to_log_id)),
            // Nothing stands before the first entry that could be another.
            Appended::CONFLICT => Err(StreamAppendError::Conflict(need(self.previous)?)),
            Appended::HIGHER_VOTE => {
                Err(StreamAppendError::HigherVote(wire::to_vote(need(appended.vote)?)))
            }
            _ => return Err(wrong_answer()),
        })
    }
}

/// How long an append may take that has so many bytes, with those ahead of it.
fn append_patience(bytes: u64) -> Duration {
    APPEND_PATIENCE + Duration::from_millis(bytes / (APPEND_BYTES_A_SECOND / 1000))
}

/// Waits for a time; never comes if there is none.
async fn reached(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The answer to the oldest question; never if none was asked.
async fn answered(asked: &mut VecDeque<Asked>) -> Result<Body> {
    match asked.front_mut() {
        Some(asked) => asked.question.answered().await,
        None => std::future::pending().await,
    }
}

async fn following<S: Stream + Unpin>(input: &mut Option<S>) -> Option<S::Item> {
    match input {
        Some(input) => input.next().await,
        None => None,
    }
}

fn wrong_answer() -> Error {
    Error::invalid("a replica answered another question than it was asked")
}

/// Never a grant and never a success: the replica was not heard. Openraft waits before it tries
/// again.
fn rpc_error(error: Error) -> RPCError<TypeConfig> {
    Unreachable::new(&AnyError::new(&error)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::message::MESSAGE_BYTES_MAX;
    use crate::raft::proposer::BATCH_BYTES_MAX;

    #[test]
    fn what_is_large_has_the_time_it_takes_and_fits_a_message() {
        assert_eq!(append_patience(0), APPEND_PATIENCE);
        let at_most = append_patience(BATCH_BYTES_MAX as u64);
        assert!(at_most >= Duration::from_secs(15), "a slow way takes 4 MiB a second: {at_most:?}");
        assert!(append_patience(u64::MAX) > at_most);
        // Beside it, a read of the log and what gathers in an entry.
        const { assert!(BATCH_BYTES_MAX + (16 << 20) < MESSAGE_BYTES_MAX) };
    }
}

//! What other replicas say to this one.

use crate::base::{Error, ErrorKind, Result};
use crate::raft::group::Inner;
use crate::raft::message::{
    Append, Appended, Ask, Body, Empty, Envelope, ReadAt, Transfer, Voted, entries, need,
};
use crate::raft::receive::Part;
use crate::raft::transport::{Class, NodeId};
use crate::raft::vocabulary::TypeConfig;
use crate::raft::wire;
use futures::StreamExt;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, VoteRequest,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Appends of one stream that wait to be taken.
const STREAM_MAX: usize = 64;

/// The streams of appends that come in, by replica.
#[derive(Default)]
pub(crate) struct Streams(Mutex<BTreeMap<u64, Stream>>);

struct Stream {
    id: u64,
    appends: mpsc::Sender<(u64, AppendEntriesRequest<TypeConfig>)>,
}

/// Deals with a question; its answer goes back on the way of the same class.
pub(crate) fn take(group: &Arc<Inner>, node: NodeId, class: Class, envelope: Envelope) {
    let Envelope { from, to, id, body, .. } = envelope;
    let answer = {
        let group = group.clone();
        move |id: u64, body: Body| {
            let envelope =
                Envelope { group: group.id.0, from: group.own, to: from, id, body: Some(body) };
            group.shared.questions.answer(node, class, &envelope);
        }
    };
    let is_vote = matches!(body, Some(Body::Vote(_) | Body::PreVote(_)));
    if let Err(error) = check(group, node, from, to, is_vote) {
        return answer(id, Body::failed(&error));
    }
    match &body {
        Some(Body::Append(append)) => {
            if is_of_this_term(group, append) {
                group.hibernation.hear();
            }
            // A list begins with how many there are.
            if append.entries.first().is_some_and(|count| *count > 0) {
                group.hibernation.wake();
            }
        }
        Some(Body::Vote(_) | Body::PreVote(_) | Body::Transfer(_) | Body::Begin(_)) => {
            group.hibernation.wake();
        }
        _ => {}
    }
    match body {
        Some(Body::Append(append)) if append.stream > 0 => {
            if let Err(error) = stream(group, from, id, append, answer.clone()) {
                answer(id, Body::failed(&error));
            }
        }
        Some(body @ (Body::Begin(_) | Body::Chunk(_) | Body::Finish(_))) => {
            let answer = Box::new(move |body| answer(id, body));
            // One that finds no room is one that was lost.
            _ = group.parts.try_send(Part { from, body, answer });
        }
        Some(body) => {
            let group = group.clone();
            tokio::spawn(async move {
                let done = ask(&group, body).await;
                answer(id, done.unwrap_or_else(|error| Body::failed(&error)));
            });
        }
        None => answer(id, Body::failed(&Error::invalid("this is of a newer program"))),
    }
}

/// Ids are never given twice, so who asks for another replica, or comes from a node where the
/// replica it speaks for is not, is of another time.
fn check(group: &Inner, node: NodeId, from: u64, to: u64, is_vote: bool) -> Result<()> {
    if to != group.own {
        let message = format!("replica {to} of the group is not here, but replica {}", group.own);
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    match group.places.of(from) {
        Err(_) if is_vote && !is_member(group, from) => {
            let message = format!("nobody has said that replica {from} is of the group");
            Err(Error::new(ErrorKind::Unavailable, message))
        }
        Ok(place) if place != node => {
            let message = format!("replica {from} is on node {place} and not on node {node}");
            Err(Error::new(ErrorKind::Unavailable, message))
        }
        _ => Ok(()),
    }
}

/// Whether who sends it leads, as far as is known here, and has not been followed by another.
fn is_of_this_term(group: &Inner, append: &Append) -> bool {
    let metrics = group.raft.metrics();
    let term = metrics.borrow_watched().current_term;
    append.vote.as_ref().is_some_and(|vote| wire::to_vote(*vote).leader_id.term >= term)
}

fn is_member(group: &Inner, replica: u64) -> bool {
    let metrics = group.raft.metrics();
    let members = metrics.borrow_watched().membership_config.clone();
    members.membership().get_node(&replica).is_some()
}

async fn ask(group: &Inner, body: Body) -> Result<Body> {
    let raft = &group.raft;
    match body {
        Body::Append(append) => {
            let answer = raft.append_entries(request(append)?).await.map_err(stopped)?;
            Ok(Body::Appended(match answer {
                AppendEntriesResponse::Success => appended(Appended::SUCCESS),
                AppendEntriesResponse::PartialSuccess(at) => {
                    let at = at.as_ref().map(wire::from_log_id);
                    Appended { at, ..appended(Appended::PARTLY) }
                }
                AppendEntriesResponse::Conflict => appended(Appended::CONFLICT),
                AppendEntriesResponse::HigherVote(vote) => {
                    let vote = Some(wire::from_vote(&vote));
                    Appended { vote, ..appended(Appended::HIGHER_VOTE) }
                }
            }))
        }
        Body::Vote(ask) => {
            let voted = raft.vote(vote_request(ask)?).await.map_err(stopped)?;
            Ok(vote_answer(&voted))
        }
        Body::PreVote(ask) => {
            let voted = raft.pre_vote(vote_request(ask)?).await.map_err(stopped)?;
            Ok(vote_answer(&voted))
        }
        Body::Transfer(Transfer { vote, to, last }) => {
            let vote = wire::to_vote(need(vote)?);
            let request = TransferLeaderRequest::new(vote, to, last.map(wire::to_log_id));
            let taken = raft.handle_transfer_leader(request).await.map_err(stopped)?;
            taken.map_err(|refused| Error::new(ErrorKind::Unavailable, refused.to_string()))?;
            Ok(Body::Transferred(Empty {}))
        }
        Body::Read(Empty {}) => {
            let linearizer = raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
            let linearizer = linearizer.map_err(stopped)?;
            let at = Some(wire::from_log_id(linearizer.read_log_id().log_id()));
            Ok(Body::ReadAt(ReadAt { at }))
        }
        Body::Probe(Empty {}) => Ok(Body::Probed(Empty {})),
        _ => Err(Error::invalid("this is an answer and no question")),
    }
}

/// Hands an append to the stream it belongs to.
fn stream(
    group: &Arc<Inner>,
    from: u64,
    id: u64,
    append: Append,
    answer: impl Fn(u64, Body) + Send + 'static,
) -> Result<()> {
    let (stream, first) = (append.stream, append.first);
    let request = request(append)?;
    let mut streams = group.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
    if first {
        let (appends, receive) = mpsc::channel(STREAM_MAX);
        streams.insert(from, Stream { id: stream, appends });
        tokio::spawn(run(group.clone(), receive, answer));
    }
    let found = streams.get(&from).filter(|found| found.id == stream);
    let closed = || Error::new(ErrorKind::Unavailable, "this stream of appends has ended");
    found.ok_or_else(closed)?.appends.try_send((id, request)).map_err(|_| closed())
}

/// Appends of one stream, each answered in its turn, until the stream ends or one is refused.
async fn run(
    group: Arc<Inner>,
    appends: mpsc::Receiver<(u64, AppendEntriesRequest<TypeConfig>)>,
    answer: impl Fn(u64, Body) + Send + 'static,
) {
    let (asked, mut ids) = mpsc::unbounded_channel();
    let input = futures::stream::unfold((appends, asked), |(mut appends, asked)| async move {
        let (id, request) = appends.recv().await?;
        asked.send(id).ok()?;
        Some((request, (appends, asked)))
    });
    let mut answers = Box::pin(group.raft.stream_append(input));
    while let Some(answered) = answers.next().await {
        let Some(id) = ids.recv().await else { return };
        let body = match answered {
            Ok(result) => stream_answer(result),
            Err(fatal) => Body::failed(&stopped(fatal)),
        };
        answer(id, body);
    }
}

fn stream_answer(result: StreamAppendResult<TypeConfig>) -> Body {
    Body::Appended(match result {
        Ok(at) => {
            let at = at.as_ref().map(wire::from_log_id);
            Appended { at, ..appended(Appended::PARTLY) }
        }
        Err(StreamAppendError::Conflict(at)) => {
            let at = Some(wire::from_log_id(&at));
            Appended { at, ..appended(Appended::CONFLICT) }
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            let vote = Some(wire::from_vote(&vote));
            Appended { vote, ..appended(Appended::HIGHER_VOTE) }
        }
    })
}

fn appended(how: u32) -> Appended {
    Appended { how, at: None, vote: None }
}

fn request(append: Append) -> Result<AppendEntriesRequest<TypeConfig>> {
    let decoded = entries(&append.entries)?.into_iter().map(wire::decode_entry);
    Ok(AppendEntriesRequest {
        vote: wire::to_vote(need(append.vote)?),
        prev_log_id: append.previous.map(wire::to_log_id),
        entries: decoded.collect::<Result<Vec<_>>>()?,
        leader_commit: append.committed.map(wire::to_log_id),
    })
}

fn vote_request(ask: Ask) -> Result<VoteRequest<TypeConfig>> {
    Ok(VoteRequest {
        vote: wire::to_vote(need(ask.vote)?),
        last_log_id: ask.last.map(wire::to_log_id),
        leadership_transfer: ask.transfer,
    })
}

fn vote_answer(voted: &openraft::raft::VoteResponse<TypeConfig>) -> Body {
    Body::Voted(Voted {
        vote: Some(wire::from_vote(&voted.vote)),
        granted: voted.vote_granted,
        last: voted.last_log_id.as_ref().map(wire::from_log_id),
    })
}

fn stopped(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, error.to_string())
}

//! A metadata node that has lost its folder is taken in again.
//!
//! It finds out when it starts, and as long as it runs: whoever knows of the one before refuses it. It then asks
//! who leads to be taken in, as another replica under its number: one that is told everything and has
//! no vote. Once it has come up to date it takes the place of the one before. So nothing rests on a
//! vote or an entry that was lost, and there is no more to do for an operator than to start it.

use crate::base::{Error, ErrorKind, Result};
use crate::meta::known::{Known, next_of, number_of};
use crate::meta::options::MetaOptions;
use crate::meta::server::Inner;
use crate::raft::{GroupStatus, NodeId};
use crate::rpc::cluster::method;
use crate::rpc::link::{CallError, Hello, Link, Role};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long another may take to say whether it speaks with this one. When all start at once, nobody
/// answers yet.
const MEETING: Duration = Duration::from_millis(300);
/// How long one that is refused goes on asking to be taken in: the others may be electing.
const ASKING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
/// A replica that lacks no more entries than this has come up to date.
const LAG_MAX: u64 = 100;

/// The question of a metadata node, by its number and its folder's incarnation, to be taken in.
pub(super) fn decode(body: &[u8]) -> Result<(u64, u64)> {
    let malformed = || Error::invalid("a question to be taken in is malformed");
    let (number, incarnation) = body.split_first_chunk::<8>().ok_or_else(malformed)?;
    let incarnation = incarnation.try_into().map_err(|_| malformed())?;
    Ok((u64::from_le_bytes(*number), u64::from_le_bytes(incarnation)))
}

/// What became of asking all others.
#[derive(Debug, Default)]
pub(super) struct Meeting {
    /// One of them knows of another folder of this one.
    pub(super) is_refused: bool,
    /// One of them takes part in a group that has begun.
    pub(super) has_begun: bool,
    /// How many have answered.
    pub(super) answers: usize,
}

/// Meets the others, as who `own` is: both sides tell whom they know.
pub(super) async fn meet(options: &MetaOptions, own: Hello, known: &Known) -> Meeting {
    let others = options.peers.iter().filter(|(id, _)| *id != options.id);
    let meetings = others.map(|(_, address)| {
        let link = Link::new(address, own, options.link.clone());
        let told = known.tell().into();
        async move { link.call(method::MEET, told, Instant::now() + MEETING).await }
    });
    let mut meeting = Meeting::default();
    for answer in futures::future::join_all(meetings).await {
        match answer {
            Ok(answer) => {
                meeting.answers += 1;
                if let Some((begun, told)) = answer.split_first() {
                    meeting.has_begun |= *begun != 0;
                    // What cannot be kept is told again.
                    _ = known.hear(told, |number| options.is_other(number));
                }
            }
            // One of an older program has no such call, and has answered.
            Err(CallError::Failed(_)) => meeting.answers += 1,
            Err(CallError::NotSent(error)) if error.kind() == ErrorKind::Refused => {
                meeting.is_refused = true;
            }
            Err(_) => {}
        }
    }
    meeting
}

/// Asks to be taken in; gives the replica to be.
pub(super) async fn ask(options: &MetaOptions, incarnation: u64) -> Result<u64> {
    let mut body = options.id.to_le_bytes().to_vec();
    body.extend_from_slice(&incarnation.to_le_bytes());
    let until = Instant::now() + ASKING;
    let links: Vec<Link> = options
        .peers
        .iter()
        .filter(|(id, _)| *id != options.id)
        .map(|(_, at)| Link::new(at, Hello::nameless(Role::Tool, [0; 16]), options.link.clone()))
        .collect();
    let mut last = Error::new(ErrorKind::Unavailable, "nobody answers");
    while Instant::now() < until {
        for link in &links {
            let patience = (Instant::now() + Duration::from_secs(3)).min(until);
            match link.call(method::READMIT, body.clone().into(), patience).await {
                Ok(answer) => {
                    let replica = answer.as_ref().try_into().map(u64::from_le_bytes);
                    return replica.map_err(|_| Error::invalid("an answer is malformed"));
                }
                Err(error) => last = error.into_error(),
            }
        }
        sleep(PAUSE).await;
    }
    let message = format!(
        "metadata node {} comes without the folder it had, and was not taken in again: {last}; start \
         it once a majority of the others runs",
        options.id
    );
    Err(Error::new(ErrorKind::Refused, message))
}

/// Takes a metadata node in again, where this one leads; gives the replica it will be.
///
/// # Errors
/// `Refused` for a number that is nobody's; `Busy` while the one before is heard of; as
/// [`Group::add_learner`](crate::raft::Group::add_learner).
pub(super) async fn take_in(
    meta: &Inner,
    number: u64,
    incarnation: u64,
    patience: Duration,
) -> Result<u64> {
    let status = meta.group.status();
    let newest = members(&status).filter(|id| number_of(*id) == number).max();
    let Some(newest) = newest.filter(|_| number != meta.options.id) else {
        let message = format!("there is no metadata node {number} to take the place of");
        return Err(Error::new(ErrorKind::Refused, message));
    };
    // It has asked before.
    if meta.known.incarnation_of(newest) == Some(incarnation) {
        return Ok(newest);
    }
    if status.answering.contains(&newest) {
        let message = format!("metadata node {number} runs, in the folder that it had");
        return Err(Error::new(ErrorKind::Busy, message));
    }
    let replica = next_of(newest);
    let added = timeout(patience, meta.group.add_learner(replica, NodeId(number))).await;
    added.map_err(|_| Error::new(ErrorKind::Deadline, "no majority has taken it in yet"))??;
    // What was not told of is asked for again, and gets another id; the one without use is let go.
    meta.known.meet(replica, incarnation)?;
    Ok(replica)
}

/// One step of who leads towards one replica for each number: the newest, once it is up to date.
pub(super) async fn settle(meta: &Inner) {
    let status = meta.group.status();
    if !status.members_are_committed || status.leader != Some(meta.replica) {
        return;
    }
    let newest = |id: &u64| members(&status).all(|o| number_of(o) != number_of(*id) || o <= *id);
    // What cannot be done now is done at the next look.
    if let [_, target] = &status.voters[..] {
        _ = meta.group.change_voters(target.clone(), false, status.members_at).await;
        return;
    }
    let old: BTreeSet<u64> = status.learners.iter().copied().filter(|id| !newest(id)).collect();
    if !old.is_empty() {
        _ = meta.group.remove_learners(old).await;
        return;
    }
    let is_up_to_date = |id: &u64| {
        let at = status.matched.get(id).copied().flatten();
        status.answering.contains(id) && at.is_some_and(|at| Some(at + LAG_MAX) >= status.last)
    };
    if let Some(learner) = status.learners.iter().find(|id| is_up_to_date(id)) {
        let voters = status.voters.iter().flatten().copied();
        let mut voters: BTreeSet<u64> =
            voters.filter(|id| number_of(*id) != number_of(*learner)).collect();
        voters.insert(*learner);
        _ = meta.group.change_voters(voters, false, status.members_at).await;
    }
}

/// All replicas of the group.
pub(super) fn members(status: &GroupStatus) -> impl Iterator<Item = u64> + '_ {
    status.voters.iter().flatten().chain(&status.learners).copied()
}

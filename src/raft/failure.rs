//! What openraft refuses or gives up, in our words and kinds. Its own account of a group's state,
//! with times in it, is for a log and not for whoever called.

use crate::base::{Error, ErrorKind};
use crate::raft::vocabulary::TypeConfig;
use openraft::error::{ClientWriteError, ForwardToLeader, RaftError};
use openraft::metrics::WaitError;
use std::fmt::Display;

pub(super) fn stopped(error: impl Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the replica cannot do this now: {error}"))
}

pub(super) fn unknown(why: &str) -> Error {
    Error::new(ErrorKind::Unknown, format!("the proposal's outcome is not known: {why}"))
}

pub(super) fn not_leader(forward: &ForwardToLeader<TypeConfig>) -> Error {
    not_leading(forward.leader_id)
}

pub(super) fn not_leading(leader: Option<u64>) -> Error {
    let message = match leader {
        Some(leader) => format!("this replica does not lead the group; replica {leader} does"),
        None => "the group has no leader now; try again soon".to_string(),
    };
    Error::new(ErrorKind::Unavailable, message)
}

/// What was waited for did not come, and `still` says how things are.
pub(super) fn waited(error: WaitError, still: &str) -> Error {
    match error {
        WaitError::Timeout(..) => {
            Error::new(ErrorKind::Deadline, format!("{still}, and the time has run out; try again"))
        }
        WaitError::ShuttingDown => stopped("it has ended"),
    }
}

pub(super) fn change_error(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
    use openraft::error::ChangeMembershipError as Change;
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => not_leader(&forward),
        RaftError::APIError(ClientWriteError::PreconditionFailed(failed)) => {
            Error::new(ErrorKind::Conflict, format!("the members are others by now: {failed}"))
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(change)) => {
            let kind = match &change {
                Change::InProgress(_) | Change::UncommittedLeaderLog(_) => ErrorKind::Busy,
                _ => ErrorKind::InvalidArgument,
            };
            Error::new(kind, change.to_string())
        }
        RaftError::APIError(_) | RaftError::Fatal(_) => unknown("the change may come yet"),
    }
}

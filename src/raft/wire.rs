//! Our own protobuf of what a group keeps in the log.
//!
//! ```text
//! message LogId      { uint64 term = 1; uint64 index = 2; }
//! message Vote       { uint64 term = 1; uint64 node = 2; bool committed = 3; }
//! message Config     { repeated uint64 voters = 1; }
//! message Membership { repeated Config configs = 1; repeated uint64 nodes = 2; }
//! message Entry      { uint64 term = 1; uint64 index = 2;
//!                      oneof payload { bytes proposal = 3; Membership membership = 4;
//!                                      Blank blank = 5; } }
//! message Blank      { }
//! message Kept       { LogId at = 1; Membership membership = 2; }
//! message Members    { repeated Kept kept = 1; }
//! message Current    { uint32 version = 1; uint64 generation = 2; LogId last = 3; Kept members = 4; }
//! ```
//! The log's record carries the checksum and the length. An entry that says nothing known is of a
//! newer version: it stops the replica, which must not skip it. A proposal's bytes are drawn at
//! [`Proposal`].

use crate::base::{Error, ErrorKind, Result};
use crate::raft::generation::Current;
use crate::raft::vocabulary::{self as types, Payload, Proposal, StoredMembership};
use bytes::Bytes;
use openraft::EmptyNode;
use openraft::impls::leader_id_std;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct LogId {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Vote {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(bool, tag = "3")]
    committed: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Config {
    #[prost(uint64, repeated, tag = "1")]
    voters: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Membership {
    #[prost(message, repeated, tag = "1")]
    configs: Vec<Config>,
    #[prost(uint64, repeated, tag = "2")]
    nodes: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(oneof = "Said", tags = "3, 4, 5")]
    payload: Option<Said>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Said {
    #[prost(bytes = "bytes", tag = "3")]
    Proposal(Bytes),
    #[prost(message, tag = "4")]
    Membership(Membership),
    #[prost(message, tag = "5")]
    Blank(Blank),
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Blank {}

/// A membership and the entry that said so.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Kept {
    #[prost(message, optional, tag = "1")]
    at: Option<LogId>,
    #[prost(message, optional, tag = "2")]
    membership: Option<Membership>,
}

#[derive(Clone, PartialEq, Message)]
struct Members {
    #[prost(message, repeated, tag = "1")]
    kept: Vec<Kept>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredCurrent {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint64, tag = "2")]
    generation: u64,
    #[prost(message, optional, tag = "3")]
    last: Option<LogId>,
    #[prost(message, optional, tag = "4")]
    members: Option<Kept>,
}

const CURRENT_VERSION: u32 = 1;

/// An entry's bytes.
pub fn encode_entry(entry: &types::Entry) -> Vec<u8> {
    let payload = match &entry.payload {
        Payload::Blank => Said::Blank(Blank {}),
        Payload::Normal(proposal) => Said::Proposal(proposal.framed().clone()),
        Payload::Membership(membership) => Said::Membership(from_membership(membership)),
    };
    let (term, index) = (types::term(&entry.log_id), entry.log_id.index);
    Entry { term, index, payload: Some(payload) }.encode_to_vec()
}

/// The entry of some bytes.
pub fn decode_entry(bytes: Bytes) -> Result<types::Entry> {
    let entry = Entry::decode(bytes).map_err(|e| malformed("an entry", &e))?;
    let payload = match entry.payload {
        None => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("Raft entry {} is of a newer program; upgrade this node", entry.index),
            ));
        }
        Some(Said::Blank(Blank {})) => Payload::Blank,
        Some(Said::Proposal(framed)) => Payload::Normal(Proposal::from_framed(framed)?),
        Some(Said::Membership(membership)) => Payload::Membership(to_membership(membership)?),
    };
    Ok(types::Entry { log_id: types::log_id(entry.term, entry.index), payload })
}

/// A vote's bytes.
pub fn encode_vote(vote: &types::Vote) -> Vec<u8> {
    from_vote(vote).encode_to_vec()
}

/// The vote of some bytes.
pub fn decode_vote(bytes: &[u8]) -> Result<types::Vote> {
    Ok(to_vote(Vote::decode(bytes).map_err(|e| malformed("a vote", &e))?))
}

pub(crate) fn from_vote(vote: &types::Vote) -> Vote {
    let id = vote.leader_id;
    Vote { term: id.term, node: id.voted_for, committed: vote.committed }
}

pub(crate) fn to_vote(vote: Vote) -> types::Vote {
    let leader_id = leader_id_std::LeaderId { term: vote.term, voted_for: vote.node };
    types::Vote { leader_id, committed: vote.committed }
}

/// A log id's bytes; none for `None`.
pub fn encode_log_id(id: Option<&types::LogId>) -> Vec<u8> {
    id.map(|id| from_log_id(id).encode_to_vec()).unwrap_or_default()
}

/// The log id of some bytes.
pub fn decode_log_id(bytes: &[u8]) -> Result<Option<types::LogId>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let id = LogId::decode(bytes).map_err(|e| malformed("a log id", &e))?;
    Ok(Some(to_log_id(id)))
}

/// The bytes of memberships, oldest first.
pub(crate) fn encode_members<'a>(
    members: impl IntoIterator<Item = &'a StoredMembership>,
) -> Vec<u8> {
    Members { kept: members.into_iter().map(from_stored).collect() }.encode_to_vec()
}

/// The memberships of some bytes.
pub(crate) fn decode_members(bytes: &[u8]) -> Result<Vec<StoredMembership>> {
    let members = Members::decode(bytes).map_err(|e| malformed("the members", &e))?;
    members.kept.into_iter().map(to_stored).collect()
}

/// The bytes of what generation counts.
pub(crate) fn encode_current(current: &Current) -> Vec<u8> {
    let stored = StoredCurrent {
        version: CURRENT_VERSION,
        generation: current.generation,
        last: current.last.as_ref().map(from_log_id),
        members: Some(from_stored(&current.membership)),
    };
    stored.encode_to_vec()
}

/// What generation counts, of some bytes.
pub(crate) fn decode_current(bytes: &[u8]) -> Result<Current> {
    let stored = StoredCurrent::decode(bytes).map_err(|e| malformed("a generation", &e))?;
    if stored.version != CURRENT_VERSION {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("a group's folder of version {} is of a newer program", stored.version),
        ));
    }
    Ok(Current {
        generation: stored.generation,
        last: stored.last.map(to_log_id),
        membership: stored.members.map(to_stored).transpose()?.unwrap_or_default(),
    })
}

pub(crate) fn from_stored(stored: &StoredMembership) -> Kept {
    Kept {
        at: stored.log_id().as_ref().map(from_log_id),
        membership: Some(from_membership(stored.membership())),
    }
}

pub(crate) fn to_stored(kept: Kept) -> Result<StoredMembership> {
    let membership = to_membership(kept.membership.unwrap_or_default())?;
    Ok(StoredMembership::new(kept.at.map(to_log_id), membership))
}

pub(crate) fn from_log_id(id: &types::LogId) -> LogId {
    LogId { term: types::term(id), index: id.index }
}

pub(crate) fn to_log_id(id: LogId) -> types::LogId {
    types::log_id(id.term, id.index)
}

fn from_membership(membership: &types::Membership) -> Membership {
    let configs = membership.get_joint_config().iter();
    Membership {
        configs: configs.map(|c| Config { voters: c.iter().copied().collect() }).collect(),
        nodes: membership.nodes().map(|(id, _)| *id).collect(),
    }
}

fn to_membership(membership: Membership) -> Result<types::Membership> {
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.into_iter().map(|c| c.voters.into_iter().collect()).collect();
    let nodes: BTreeMap<u64, EmptyNode> =
        membership.nodes.into_iter().map(|id| (id, EmptyNode {})).collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(types::Membership::default());
    }
    types::Membership::new(configs, nodes).map_err(|e| malformed("a membership", &e))
}

fn malformed(what: &str, cause: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corruption, format!("{what} in the Raft log is malformed: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_votes_come_back() {
        let voters = BTreeSet::from([1, 2, 3]);
        let membership = types::Membership::new_with_defaults(vec![voters], [4]);
        for payload in [
            Payload::Blank,
            Payload::Normal(Proposal::of(&[Bytes::from_static(b"batch"), Bytes::new()])),
            Payload::Membership(membership),
        ] {
            let entry = types::Entry { log_id: types::log_id(3, 9), payload };
            assert_eq!(decode_entry(encode_entry(&entry).into()).unwrap(), entry);
        }
        let vote = types::Vote::new_committed(7, 2);
        assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
        assert_eq!(decode_log_id(&encode_log_id(None)).unwrap(), None);
        let voters = vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])];
        let joint = types::Membership::new_with_defaults(voters, []);
        let stored = StoredMembership::new(Some(types::log_id(2, 8)), joint);
        let members = [StoredMembership::default(), stored.clone()];
        assert_eq!(decode_members(&encode_members(&members)).unwrap(), members);
        let current =
            Current { generation: 4, last: Some(types::log_id(2, 9)), membership: stored };
        assert_eq!(decode_current(&encode_current(&current)).unwrap(), current);
        // Golden bytes: what is on disks must be read for ever.
        let blank = types::Entry { log_id: types::log_id(3, 9), payload: Payload::Blank };
        assert_eq!(encode_entry(&blank), b"\x08\x03\x10\x09\x2a\x00");
        let one = Payload::Normal(Proposal::of(&[Bytes::from_static(b"x")]));
        let one = types::Entry { log_id: types::log_id(3, 10), payload: one };
        assert_eq!(encode_entry(&one), b"\x08\x03\x10\x0a\x1a\x04\x01\x01\x01x");
        assert_eq!(encode_vote(&vote), b"\x08\x07\x10\x02\x18\x01");
        // What an older or newer program might say instead of one of the three.
        let unknown = decode_entry(Bytes::from_static(b"\x08\x03\x10\x09\x4a\x00")).unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Unsupported);
        let id = types::log_id(0, 0);
        assert!(decode_entry(Bytes::from_static(&[0xff; 9])).is_err());
        assert_eq!(to_log_id(from_log_id(&id)), id);
    }
}

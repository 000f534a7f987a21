//! openraft's type parameters, chosen once.

use bytes::Bytes;
use openraft::impls::leader_id_std;
use std::fmt;

openraft::declare_raft_types!(
    /// One leader a term (`leader_id_std`), so that a log id needs no node id; nodes carry no
    /// data, since addresses live in the registry and not in the membership.
    pub TypeConfig:
        D = Proposal,
        R = (),
        NodeId = u64,
        Node = openraft::EmptyNode,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
);

/// An encoded [`crate::lsm::batch::WriteBatch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal(pub Bytes);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a batch of {} bytes", self.0.len())
    }
}

/// Term and index of an entry.
pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
/// A vote.
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
/// An entry.
pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
/// What an entry says.
pub type Payload = openraft::type_config::alias::PayloadOf<TypeConfig>;
/// The voters and learners, and the entry that said so.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
/// The voters and learners.
pub type Membership = openraft::Membership<u64, openraft::EmptyNode>;

/// The log id of `index` in `term`.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: leader_of(term), index }
}

/// The term of a log id.
pub fn term(id: &LogId) -> u64 {
    id.leader_id.term
}

/// The leader of a term, as an entry names it.
pub fn leader_of(term: u64) -> openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig> {
    term.into()
}

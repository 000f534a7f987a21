//! openraft's type parameters, chosen once.

use crate::base::codec::{Reader, put_bytes, put_varint, varint_len};
use crate::base::{Error, ErrorKind, Result};
use bytes::Bytes;
use openraft::impls::leader_id_std;
use std::fmt;

openraft::declare_raft_types!(
    /// One leader a term (`leader_id_std`), so that a log id needs no node id; nodes carry no
    /// data, since addresses live in the registry and not in the membership. One for every kind
    /// of state machine.
    pub TypeConfig:
        D = Proposal,
        R = Outcome,
        NodeId = u64,
        Node = openraft::EmptyNode,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = crate::raft::chance::Runtime,
);

/// What a leader hands to its group as one entry: parts that take effect together, in order. A
/// shard's parts are encoded [`crate::lsm::batch::WriteBatch`]es, the catalog's its commands.
///
/// ```text
/// [version u8 = 1][count varint]([length varint][bytes])*
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    framed: Bytes,
}

impl Proposal {
    /// Parts of one proposal, at most.
    pub const PARTS_MAX: usize = 1024;
    const VERSION: u8 = 1;

    /// A proposal of these parts. REQUIRES: no more than [`Proposal::PARTS_MAX`].
    pub fn of(parts: &[Bytes]) -> Proposal {
        debug_assert!(parts.len() <= Proposal::PARTS_MAX);
        let length = |part: &Bytes| varint_len(part.len() as u64) + part.len();
        let bytes = 1 + varint_len(parts.len() as u64) + parts.iter().map(length).sum::<usize>();
        let mut framed = Vec::with_capacity(bytes);
        framed.push(Proposal::VERSION);
        put_varint(&mut framed, parts.len() as u64);
        parts.iter().for_each(|part| put_bytes(&mut framed, part));
        Proposal { framed: framed.into() }
    }

    /// The proposal that [`Proposal::framed`] gave, checked whole.
    ///
    /// # Errors
    /// `Unsupported` if it is of a newer version, `Corruption` if it is malformed.
    pub fn from_framed(framed: Bytes) -> Result<Proposal> {
        let proposal = Proposal { framed };
        proposal.parts()?;
        Ok(proposal)
    }

    /// Its bytes.
    pub fn framed(&self) -> &Bytes {
        &self.framed
    }

    /// Its parts, which share its memory.
    ///
    /// # Errors
    /// As [`Proposal::from_framed`].
    pub fn parts(&self) -> Result<Vec<Bytes>> {
        let malformed = || Error::new(ErrorKind::Corruption, "a proposal is malformed");
        let mut rest = Reader::new(&self.framed);
        let version = rest.u8().ok_or_else(malformed)?;
        if version != Proposal::VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("a proposal of version {version} is of a newer program; upgrade this node"),
            ));
        }
        let count = rest.varint().ok_or_else(malformed)?;
        if count > Proposal::PARTS_MAX as u64 {
            return Err(malformed());
        }
        let mut parts = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let part = rest.bytes().ok_or_else(malformed)?;
            parts.push(self.framed.slice_ref(part));
        }
        if rest.is_empty() { Ok(parts) } else { Err(malformed()) }
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a proposal of {} bytes", self.framed.len())
    }
}

/// What applying a proposal has to say to who proposed it; nothing where a shard's evaluation has
/// said it before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome(pub Bytes);

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
/// What a snapshot stands for.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposals_come_back_in_parts_and_hostile_bytes_are_refused() {
        for count in [0, 1, 2, 300, Proposal::PARTS_MAX] {
            let parts: Vec<Bytes> =
                (0..count).map(|n| Bytes::from(vec![n as u8; n % 300])).collect();
            let proposal = Proposal::of(&parts);
            let back = Proposal::from_framed(proposal.framed().clone()).unwrap();
            assert_eq!(back.parts().unwrap(), parts);
            let framed = proposal.framed();
            for cut in 0..framed.len().min(400) {
                assert!(Proposal::from_framed(framed.slice(..cut)).is_err());
            }
            let longer = [&framed[..], b"x"].concat();
            assert!(Proposal::from_framed(longer.into()).is_err());
        }
        let golden = Proposal::of(&[Bytes::from_static(b"ab"), Bytes::from_static(b"")]);
        assert_eq!(&golden.framed()[..], b"\x01\x02\x02ab\x00");
        let newer = Proposal::from_framed(Bytes::from_static(b"\x02\x00")).unwrap_err();
        assert_eq!(newer.kind(), ErrorKind::Unsupported);
        // A count that would take gigabytes is refused before anything is allocated.
        let endless = Bytes::from_static(b"\x01\xff\xff\xff\xff\x0f");
        assert_eq!(Proposal::from_framed(endless).unwrap_err().kind(), ErrorKind::Corruption);
    }
}

//! What replicas say to each other: our own protobuf of it.
//!
//! ```text
//! message Envelope {
//!   uint64 group = 1; uint64 from = 2; uint64 to = 3;      replicas of the group
//!   uint64 id = 4;                                         an answer has its question's
//!   oneof body {
//!     Append append = 10;          Appended appended = 11;
//!     Ask vote = 12;               Ask pre_vote = 13;      Voted voted = 14;
//!     Transfer transfer = 15;      Empty transferred = 16;
//!     Begin begin = 17;            Have have = 18;         Chunk chunk = 19;
//!     Finish finish = 20;          Installed installed = 21;
//!     Empty read = 22;             ReadAt read_at = 23;
//!     Failed failed = 24;          Empty probe = 25;       Empty probed = 26; } }
//! message Append    { uint64 stream = 1; bool first = 2; Vote vote = 3; LogId previous = 4;
//!                     LogId committed = 5; bytes entries = 6; }
//! message Appended  { uint32 how = 1; LogId at = 2; Vote vote = 3; }
//! message Ask       { Vote vote = 1; LogId last = 2; bool transfer = 3; }
//! message Voted     { Vote vote = 1; bool granted = 2; LogId last = 3; }
//! message Transfer  { Vote vote = 1; uint64 to = 2; LogId last = 3; }
//! message Begin     { uint64 snapshot = 1; Vote vote = 2; LogId last = 3; Kept members = 4;
//!                     bytes files = 5; }
//! message Have      { uint64 snapshot = 1; uint32 file = 2; uint64 offset = 3; Vote vote = 4; }
//! message Chunk     { uint64 snapshot = 1; uint32 file = 2; uint64 offset = 3; fixed32 crc = 4;
//!                     bytes bytes = 5; }
//! message Finish    { uint64 snapshot = 1; Vote vote = 2; }
//! message Installed { Vote vote = 1; }
//! message ReadAt    { LogId at = 1; }
//! message Failed    { uint32 kind = 1; string message = 2; }
//! ```
//! `entries` is [`frame`] of encoded entries, `files` of `[size varint][name]` each. Each side bounds
//! a message by [`MESSAGE_BYTES_MAX`] and a list by its count before it allocates.

use crate::base::codec::{Reader, put_bytes, put_varint};
use crate::base::{Error, ErrorKind, Result};
use crate::raft::wire::{Kept, LogId, Vote};
use bytes::Bytes;
use prost::Message;

/// Bytes of one message at most: a read of the log and one entry that alone is larger.
pub(crate) const MESSAGE_BYTES_MAX: usize = 128 << 20;
/// Entries of one append at most.
const ENTRIES_MAX: usize = 4096;
/// Files of one snapshot at most.
const FILES_MAX: usize = 1 << 20;
/// Bytes of a file's name at most.
const NAME_BYTES_MAX: usize = 128;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Envelope {
    #[prost(uint64, tag = "1")]
    pub(crate) group: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) from: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) to: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) id: u64,
    #[prost(
        oneof = "Body",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26"
    )]
    pub(crate) body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Body {
    #[prost(message, tag = "10")]
    Append(Append),
    #[prost(message, tag = "11")]
    Appended(Appended),
    #[prost(message, tag = "12")]
    Vote(Ask),
    #[prost(message, tag = "13")]
    PreVote(Ask),
    #[prost(message, tag = "14")]
    Voted(Voted),
    #[prost(message, tag = "15")]
    Transfer(Transfer),
    #[prost(message, tag = "16")]
    Transferred(Empty),
    #[prost(message, tag = "17")]
    Begin(Begin),
    #[prost(message, tag = "18")]
    Have(Have),
    #[prost(message, tag = "19")]
    Chunk(Chunk),
    #[prost(message, tag = "20")]
    Finish(Finish),
    #[prost(message, tag = "21")]
    Installed(Installed),
    #[prost(message, tag = "22")]
    Read(Empty),
    #[prost(message, tag = "23")]
    ReadAt(ReadAt),
    #[prost(message, tag = "24")]
    Failed(Failed),
    #[prost(message, tag = "25")]
    Probe(Empty),
    #[prost(message, tag = "26")]
    Probed(Empty),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Append {
    /// Names the stream of appends it belongs to; 0 for one by itself.
    #[prost(uint64, tag = "1")]
    pub(crate) stream: u64,
    #[prost(bool, tag = "2")]
    pub(crate) first: bool,
    #[prost(message, optional, tag = "3")]
    pub(crate) vote: Option<Vote>,
    #[prost(message, optional, tag = "4")]
    pub(crate) previous: Option<LogId>,
    #[prost(message, optional, tag = "5")]
    pub(crate) committed: Option<LogId>,
    #[prost(bytes = "bytes", tag = "6")]
    pub(crate) entries: Bytes,
}

/// What became of an append.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Appended {
    /// One of the constants of [`Appended`].
    #[prost(uint32, tag = "1")]
    pub(crate) how: u32,
    #[prost(message, optional, tag = "2")]
    pub(crate) at: Option<LogId>,
    #[prost(message, optional, tag = "3")]
    pub(crate) vote: Option<Vote>,
}

impl Appended {
    /// All of it, up to `at`.
    pub(crate) const SUCCESS: u32 = 1;
    /// Up to `at`.
    pub(crate) const PARTLY: u32 = 2;
    /// The entry before it, `at`, is another.
    pub(crate) const CONFLICT: u32 = 3;
    /// `vote` is higher.
    pub(crate) const HIGHER_VOTE: u32 = 4;
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Ask {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<Vote>,
    #[prost(message, optional, tag = "2")]
    pub(crate) last: Option<LogId>,
    #[prost(bool, tag = "3")]
    pub(crate) transfer: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Voted {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<Vote>,
    #[prost(bool, tag = "2")]
    pub(crate) granted: bool,
    #[prost(message, optional, tag = "3")]
    pub(crate) last: Option<LogId>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Transfer {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<Vote>,
    #[prost(uint64, tag = "2")]
    pub(crate) to: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) last: Option<LogId>,
}

/// A snapshot is offered.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Begin {
    /// Names the snapshot among all of its sender.
    #[prost(uint64, tag = "1")]
    pub(crate) snapshot: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) vote: Option<Vote>,
    #[prost(message, optional, tag = "3")]
    pub(crate) last: Option<LogId>,
    #[prost(message, optional, tag = "4")]
    pub(crate) members: Option<Kept>,
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) files: Bytes,
}

/// What the receiver has of a snapshot: all files before `file`, and of that the bytes before
/// `offset`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Have {
    #[prost(uint64, tag = "1")]
    pub(crate) snapshot: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) file: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) offset: u64,
    /// Higher than the sender's: the snapshot is not wanted.
    #[prost(message, optional, tag = "4")]
    pub(crate) vote: Option<Vote>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Chunk {
    #[prost(uint64, tag = "1")]
    pub(crate) snapshot: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) file: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) offset: u64,
    #[prost(fixed32, tag = "4")]
    pub(crate) crc: u32,
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) bytes: Bytes,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Finish {
    #[prost(uint64, tag = "1")]
    pub(crate) snapshot: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) vote: Option<Vote>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Installed {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<Vote>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ReadAt {
    #[prost(message, optional, tag = "1")]
    pub(crate) at: Option<LogId>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Failed {
    /// 1: try again later; 2: this will not do.
    #[prost(uint32, tag = "1")]
    pub(crate) kind: u32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

/// An envelope without what is in it.
#[derive(Clone, Copy, PartialEq, Message)]
struct Head {
    #[prost(uint64, tag = "1")]
    group: u64,
    #[prost(uint64, tag = "2")]
    from: u64,
    #[prost(uint64, tag = "3")]
    to: u64,
    #[prost(uint64, tag = "4")]
    id: u64,
}

impl Envelope {
    /// What tells whoever sent a message that it is too large to be taken; `None` if it is not. Only
    /// questions are ever so large.
    pub(crate) fn refusal(bytes: &Bytes) -> Option<Envelope> {
        if bytes.len() <= MESSAGE_BYTES_MAX {
            return None;
        }
        let Head { group, from, to, id } = Head::decode(bytes.clone()).ok()?;
        let message = format!("a message of {} bytes is more than a replica takes", bytes.len());
        let body = Some(Body::failed(&Error::invalid(message)));
        Some(Envelope { group, from: to, to: from, id, body })
    }

    /// Its bytes.
    pub(crate) fn encode_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// The envelope of some bytes.
    pub(crate) fn decode_bytes(bytes: Bytes) -> Result<Envelope> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(malformed(&format!("it has {} bytes", bytes.len())));
        }
        Envelope::decode(bytes).map_err(|e| malformed(&e))
    }
}

impl Body {
    /// Whether it answers a question of this node.
    pub(crate) fn is_answer(&self) -> bool {
        match self {
            Body::Append(_)
            | Body::Vote(_)
            | Body::PreVote(_)
            | Body::Transfer(_)
            | Body::Begin(_)
            | Body::Chunk(_)
            | Body::Finish(_)
            | Body::Probe(_)
            | Body::Read(_) => false,
            Body::Appended(_)
            | Body::Voted(_)
            | Body::Transferred(_)
            | Body::Have(_)
            | Body::Installed(_)
            | Body::ReadAt(_)
            | Body::Probed(_)
            | Body::Failed(_) => true,
        }
    }

    /// The answer to a question that could not be dealt with.
    pub(crate) fn failed(error: &Error) -> Body {
        let kind = if error.kind() == ErrorKind::InvalidArgument { 2 } else { 1 };
        Body::Failed(Failed { kind, message: error.message().to_string() })
    }
}

/// A list of byte strings: `[count varint]([length varint][bytes])*`.
pub(crate) fn frame<'a>(parts: impl ExactSizeIterator<Item = &'a [u8]>) -> Bytes {
    let mut out = Vec::new();
    put_varint(&mut out, parts.len() as u64);
    parts.for_each(|part| put_bytes(&mut out, part));
    out.into()
}

/// The parts of a [`frame`] that has `max` at most, which share its memory.
fn unframe(framed: &Bytes, max: usize) -> Result<Vec<Bytes>> {
    let short = || malformed(&"a list is cut off");
    let mut rest = Reader::new(framed);
    let count = rest.varint().ok_or_else(short)?;
    if count > max as u64 || count > framed.len() as u64 {
        return Err(malformed(&format!("a list has {count} parts")));
    }
    let mut parts = Vec::with_capacity(count as usize);
    for _ in 0..count {
        parts.push(framed.slice_ref(rest.bytes().ok_or_else(short)?));
    }
    if rest.is_empty() { Ok(parts) } else { Err(malformed(&"bytes follow a list")) }
}

/// The entries of an append, still encoded.
pub(crate) fn entries(framed: &Bytes) -> Result<Vec<Bytes>> {
    if framed.is_empty() { Ok(Vec::new()) } else { unframe(framed, ENTRIES_MAX) }
}

/// The bytes of a snapshot's files: name and size.
pub(crate) fn encode_files(files: &[(String, u64)]) -> Bytes {
    let encode = |(name, size): &(String, u64)| {
        let mut part = Vec::with_capacity(name.len() + 10);
        put_varint(&mut part, *size);
        part.extend_from_slice(name.as_bytes());
        part
    };
    let parts: Vec<Vec<u8>> = files.iter().map(encode).collect();
    frame(parts.iter().map(Vec::as_slice))
}

/// A snapshot's files. Each name is that of a file in one folder, and none comes twice.
pub(crate) fn decode_files(framed: &Bytes) -> Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    for part in unframe(framed, FILES_MAX)? {
        let mut rest = Reader::new(&part);
        let size = rest.varint().ok_or_else(|| malformed(&"a file has no size"))?;
        let name = std::str::from_utf8(rest.rest()).unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_name = !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && !name.starts_with('.')
            && name.chars().all(plain);
        if !is_name {
            return Err(malformed(&format!("{name:?} is no name of a file")));
        }
        files.push((name.to_string(), size));
    }
    let mut names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(malformed(&"a file comes twice"));
    }
    Ok(files)
}

/// The field of a message that must be there.
pub(crate) fn need<T>(field: Option<T>) -> Result<T> {
    field.ok_or_else(|| malformed(&"a field is missing"))
}

fn malformed(what: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("a message between replicas is malformed: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::vocabulary as types;
    use crate::raft::wire;

    #[test]
    fn messages_come_back_and_hostile_ones_are_refused() {
        let append = Append {
            stream: 7,
            first: true,
            vote: Some(wire::from_vote(&types::Vote::new_committed(3, 1))),
            previous: Some(wire::from_log_id(&types::log_id(2, 8))),
            committed: None,
            entries: frame([&b"one"[..], b""].into_iter()),
        };
        let body = Some(Body::Append(append.clone()));
        let envelope = Envelope { group: 1, from: 2, to: 3, id: 4, body };
        let bytes = envelope.encode_bytes();
        assert_eq!(Envelope::decode_bytes(bytes.clone()).unwrap(), envelope);
        assert_eq!(entries(&append.entries).unwrap(), [&b"one"[..], b""]);
        for cut in 1..append.entries.len() {
            assert!(entries(&append.entries.slice(..cut)).is_err());
        }
        assert!(Envelope::decode_bytes(Bytes::from_static(&[0xff; 20])).is_err());
        // A count of billions allocates nothing.
        assert!(entries(&Bytes::from_static(b"\xff\xff\xff\xff\x0f")).is_err());
    }

    #[test]
    fn a_message_that_is_too_large_is_refused_by_name() {
        let entries = Bytes::from(vec![0; MESSAGE_BYTES_MAX]);
        let body = Some(Body::Append(Append { entries, ..Append::default() }));
        let bytes = Envelope { group: 1, from: 2, to: 3, id: 4, body }.encode_bytes();
        assert!(Envelope::decode_bytes(bytes.clone()).is_err());
        let refusal = Envelope::refusal(&bytes).unwrap();
        let Envelope { group, from, to, id, body } = refusal;
        assert_eq!((group, from, to, id), (1, 3, 2, 4));
        assert!(matches!(body, Some(Body::Failed(Failed { kind: 2, .. }))));
        assert!(Envelope::refusal(&bytes.slice(..1 << 20)).is_none());
    }

    #[test]
    fn a_snapshots_files_stay_in_their_folder() {
        let files = [("000012.sst".to_string(), 1 << 40), ("MANIFEST-3".to_string(), 0)];
        assert_eq!(decode_files(&encode_files(&files)).unwrap(), files);
        for name in ["", "..", ".", "a/b", "/etc", "a\\b", ".hidden", "a\0", &"x".repeat(129)] {
            let error = decode_files(&encode_files(&[(name.to_string(), 1)])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name:?}");
        }
        let twice = ["a", "a"].map(|name| (name.to_string(), 1));
        assert!(decode_files(&encode_files(&twice)).is_err());
    }
}

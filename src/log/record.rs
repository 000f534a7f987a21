//! What is appended and where it stands.

use crate::base::{GroupId, LogIndex};
use std::fmt;

/// What a record is to the log. The numbers are on disk: a new meaning takes a new number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// The group's entry `index`. Kept until the group's floor has passed it.
    Entry = 1,
    /// The group's entries with an index greater than `index`, as far as they were appended
    /// before this record, are void.
    Truncate = 2,
    /// A small value of the group in slot `index` (0 to 255); the latest of a slot counts, and it
    /// is never lost with its segment: it is appended anew before the segment goes.
    State = 3,
}

impl RecordKind {
    /// The kind with this number.
    pub(super) fn from_u8(number: u8) -> Option<RecordKind> {
        match number {
            1 => Some(RecordKind::Entry),
            2 => Some(RecordKind::Truncate),
            3 => Some(RecordKind::State),
            _ => None,
        }
    }

    /// The kind's name, as the offline tools print it.
    pub fn name(self) -> &'static str {
        match self {
            RecordKind::Entry => "entry",
            RecordKind::Truncate => "truncate",
            RecordKind::State => "state",
        }
    }
}

/// A record, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Whose it is.
    pub group: GroupId,
    /// What it is.
    pub kind: RecordKind,
    /// The entry's index, the last index that stays, or the slot.
    pub index: LogIndex,
    /// What it says; the log does not look inside.
    pub payload: &'a [u8],
}

/// A record, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub group: GroupId,
    /// What it is.
    pub kind: RecordKind,
    /// The entry's index, the last index that stays, or the slot.
    pub index: LogIndex,
    /// What it says.
    pub payload: Vec<u8>,
}

impl Record {
    /// The record, borrowed.
    pub fn as_ref(&self) -> RecordRef<'_> {
        RecordRef { group: self.group, kind: self.kind, index: self.index, payload: &self.payload }
    }
}

/// A place in the log's life: segment number in the upper 32 bits, byte offset in the lower.
///
/// The position *of a record* is the byte behind its frame header: it finds the record again
/// ([`Log::read`](crate::log::Log::read)), and since durability moves from batch end to batch
/// end, the record is durable exactly when its position is at most
/// [`Log::durable`](crate::log::Log::durable). Positions grow in log order. Position 0 lies
/// before everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    pub(super) fn new(segment: u32, offset: u64) -> Position {
        debug_assert!(offset <= u64::from(u32::MAX));
        Position((u64::from(segment) << 32) | offset)
    }

    /// The number of the segment.
    pub fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The byte offset in the segment's file.
    pub fn offset(self) -> u64 {
        self.0 & 0xFFFF_FFFF
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment(), self.offset())
    }
}

//! Reading one record again by its position.

use crate::base::{Error, ErrorKind, GroupId, LogIndex, Result};
use crate::env::disk::read_exact_at;
use crate::log::format::{FIRST, FIRST_FRAME, FRAME_HEADER, Frame, LAST, checksums, decode_header};
use crate::log::record::{Position, Record, RecordKind};
use crate::log::segment::Segment;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Most records fit into a read of this size; a larger one takes a second.
const GUESS: u64 = 512;

/// The segments of a log by number.
pub(super) type Segments = RwLock<BTreeMap<u32, Arc<Segment>>>;

/// The record at `position`, which must have been given for it; the log ends at `end`.
pub(super) fn record(segments: &Segments, position: Position, end: Position) -> Result<Record> {
    let header = FRAME_HEADER as u64;
    if position > end || position.offset() < FIRST_FRAME + header {
        return Err(no_record(position));
    }
    let mut segment = from(segments, position.segment())
        .filter(|segment| segment.number == position.segment())
        .ok_or_else(|| gone(position))?;
    let mut payload = Vec::new();
    let first = frame(&segment, position.offset() - header, &mut payload)?;
    let kind = RecordKind::from_u8(first.kind).filter(|_| first.flags & FIRST != 0);
    let kind = kind.ok_or_else(|| no_record(position))?;
    let mut last = first;
    while last.flags & LAST == 0 {
        // A frame that is not its record's last fills its segment.
        let next = segment.number.checked_add(1).and_then(|next| from(segments, next));
        segment = next.ok_or_else(|| gone(position))?;
        last = frame(&segment, FIRST_FRAME, &mut payload)?;
    }
    Ok(Record { group: GroupId(first.group), kind, index: LogIndex(first.index), payload })
}

/// The first segment numbered `number` or higher.
fn from(segments: &Segments, number: u32) -> Option<Arc<Segment>> {
    let segments = segments.read().unwrap_or_else(PoisonError::into_inner);
    segments.range(number..).next().map(|(_, segment)| segment.clone())
}

/// Reads the frame at `offset` and appends its payload.
fn frame(segment: &Segment, offset: u64, payload: &mut Vec<u8>) -> Result<Frame> {
    let room = segment.bytes.saturating_sub(offset);
    let mut bytes = vec![0; room.min(GUESS) as usize];
    read_exact_at(&*segment.file, &segment.path, &mut bytes, offset)?;
    let damaged =
        |expected: String, found: String| Error::corruption(&segment.path, offset, expected, found);
    let Some(frame) = decode_header(&bytes, segment.salt, offset, room) else {
        return Err(damaged("the frame of a record".into(), "bytes that are no frame".into()));
    };
    let had = bytes.len();
    // Bounded: `decode_header` has checked that the frame ends within the file.
    bytes.resize(FRAME_HEADER + frame.len as usize, 0);
    if bytes.len() > had {
        let rest = offset + had as u64;
        read_exact_at(&*segment.file, &segment.path, &mut bytes[had..], rest)?;
    }
    let (found, computed) = checksums(&bytes, segment.salt, offset);
    if found != computed {
        return Err(damaged(format!("checksum {found:08x}"), format!("{computed:08x}")));
    }
    payload.extend_from_slice(&bytes[FRAME_HEADER..]);
    Ok(frame)
}

fn no_record(position: Position) -> Error {
    Error::invalid(format!("no record of the log has position {position}"))
}

fn gone(position: Position) -> Error {
    Error::new(
        ErrorKind::Compacted,
        format!("the segment of position {position} is gone: its group's floor has passed it"),
    )
}

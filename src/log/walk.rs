//! The walk over all frames of a log, from the oldest segment to the first place where nothing
//! valid follows. Complete batches are replayed as they end.

use crate::base::{Error, GroupId, LogIndex, Result};
use crate::log::format::{
    END, FIRST, FIRST_FRAME, FRAME_HEADER, Frame, LAST, LINK, SEGMENT_HEADER,
};
use crate::log::record::{Position, RecordKind, RecordRef};
use crate::log::recover::{Recovery, Replay};
use crate::log::retention::Retention;
use crate::log::scan::{Scan, durable_in};

/// Where the walk stopped: the segment, by its place in the list, and the offset in it.
pub(super) struct Stop {
    pub(super) scan: usize,
    pub(super) offset: u64,
    /// Whether the segment behind it does not begin with a valid link.
    pub(super) next_is_bad: bool,
}

/// The walk over all frames of all segments.
pub(super) struct Walk<'a, 'b> {
    replay: &'a mut Replay<'b>,
    pub(super) retention: Retention,
    pub(super) report: Recovery,
    /// End of the last complete batch.
    pub(super) end: Position,
    /// The latest position that a frame knew to be durable.
    pub(super) durable: Position,
    batch: Batch,
}

/// The records of a batch that has not ended yet.
#[derive(Default)]
struct Batch {
    records: Vec<Held>,
    payloads: Vec<u8>,
    /// Whether the last record still lacks frames.
    open: bool,
    /// Whether the beginning was in a segment that is gone: what is left of the record is skipped.
    beheaded: bool,
}

#[derive(Clone, Copy)]
struct Held {
    group: u64,
    kind: RecordKind,
    index: u64,
    position: Position,
    last_segment: u32,
    start: usize,
    end: usize,
    bytes: u64,
}

impl<'a, 'b> Walk<'a, 'b> {
    pub(super) fn new(replay: &'a mut Replay<'b>) -> Walk<'a, 'b> {
        Walk {
            replay,
            retention: Retention::default(),
            report: Recovery::default(),
            end: Position(0),
            durable: Position(0),
            batch: Batch::default(),
        }
    }

    /// Walks as far as frames are valid; `None` if there are no segments.
    pub(super) fn run(&mut self, scans: &mut [Scan]) -> Result<Option<Stop>> {
        let mut stop: Option<Stop> = None;
        // Where the next segment must link to: the end of the last frame.
        let mut last = None;
        for (i, scan) in scans.iter_mut().enumerate() {
            let header = SEGMENT_HEADER as u64;
            let link = match scan.frame_at(header)? {
                Some((frame, _)) if frame.kind == LINK => frame,
                _ => {
                    let first = Stop { scan: i, offset: header, next_is_bad: false };
                    return Ok(Some(stop.map_or(first, |s| Stop { next_is_bad: true, ..s })));
                }
            };
            match last {
                Some(position) if position != Position(link.index) => return Ok(stop),
                Some(_) => {}
                None => {
                    self.end = Position(link.index);
                    self.batch.beheaded = true;
                }
            }
            self.durable = self.durable.max(Position(link.group));
            self.retention.begin(scan.number);
            let offset = self.frames(scan)?;
            last = Some(Position::new(scan.number, offset));
            stop = Some(Stop { scan: i, offset, next_is_bad: false });
        }
        Ok(stop)
    }

    /// Walks over the frames behind a segment's link; gives the offset behind the last.
    fn frames(&mut self, scan: &mut Scan) -> Result<u64> {
        let mut offset = FIRST_FRAME;
        let number = scan.number;
        loop {
            let Some((frame, payload)) = scan.frame_at(offset)? else { return Ok(offset) };
            if frame.kind == LINK {
                // Written at a clean stop: nothing follows, and it says what was durable.
                self.durable = self.durable.max(Position(frame.group));
                return Ok(offset);
            }
            let at = Position::new(number, offset + FRAME_HEADER as u64);
            let taken = self.batch.take(&frame, payload, at);
            let durable = durable_in(number, &frame);
            self.durable = self.durable.max(durable);
            if !taken {
                return Err(Error::corruption(
                    &scan.path,
                    offset,
                    "a frame that continues the one before it",
                    format!("kind {} with flags {}", frame.kind, frame.flags),
                ));
            }
            offset += FRAME_HEADER as u64 + u64::from(frame.len);
            if frame.flags & END != 0 {
                self.deliver()?;
                self.end = Position::new(number, offset);
            }
        }
    }

    fn deliver(&mut self) -> Result<()> {
        for held in self.batch.records.drain(..) {
            let (group, index) = (GroupId(held.group), LogIndex(held.index));
            let payload = &self.batch.payloads[held.start..held.end];
            (self.replay)(held.position, RecordRef { group, kind: held.kind, index, payload })?;
            self.retention.note(
                group,
                held.kind,
                index,
                held.position,
                held.last_segment,
                held.bytes,
            );
            self.report.records += 1;
            self.report.payload_bytes += payload.len() as u64;
        }
        self.batch.payloads.clear();
        // A single huge record must not keep its memory for the rest of the walk.
        self.batch.payloads.shrink_to(1 << 20);
        self.batch.beheaded = false;
        Ok(())
    }
}

impl Batch {
    /// Takes the next frame; false if it does not follow.
    fn take(&mut self, frame: &Frame, payload: &[u8], position: Position) -> bool {
        let Some(kind) = RecordKind::from_u8(frame.kind) else { return false };
        let (first, last) = (frame.flags & FIRST != 0, frame.flags & LAST != 0);
        if first {
            if self.open {
                return false;
            }
            self.beheaded = false;
            self.records.push(Held {
                group: frame.group,
                kind,
                index: frame.index,
                position,
                last_segment: position.segment(),
                start: self.payloads.len(),
                end: self.payloads.len(),
                bytes: 0,
            });
        } else if self.beheaded {
            return true;
        } else if !self.open {
            return false;
        }
        let Some(held) = self.records.last_mut() else { return false };
        if (held.group, held.kind, held.index) != (frame.group, kind, frame.index) {
            return false;
        }
        self.payloads.extend_from_slice(payload);
        held.end = self.payloads.len();
        held.last_segment = position.segment();
        held.bytes += (FRAME_HEADER + payload.len()) as u64;
        self.open = !last;
        true
    }
}

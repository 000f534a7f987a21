//! Appending: records to frames, frames to the segment, segment to segment.
//!
//! Nothing is written before there is room for all of a call: a full device refuses the append
//! and harms nothing. Once writing has begun, any failure is the end of the log.
//!
//! Room is kept besides for every group's states, so that a log on a full device can still append
//! them anew, retire its oldest segment, and go on.

use crate::base::{Error, ErrorKind, Result};
use crate::log::Inner;
use crate::log::format::{
    END, FIRST, FIRST_FRAME, FRAME_HEADER, Frame, LAST, LINK, MAX_BATCH_BYTES, SEGMENT_HEADER,
    encode_frame, encode_header,
};
use crate::log::record::{Position, RecordKind, RecordRef};
use crate::log::retention::Retention;
use crate::log::segment::{Segment, sure_room};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Full segments that nobody has asked to sync are left to the system as long as they are among
/// the last so many.
const FULL_UNSYNCED: usize = 4;

/// Payloads from this size on are written from where they are instead of being gathered.
const GATHER_MAX: usize = 32 << 10;

/// What the lock of the appenders guards.
#[derive(Debug)]
pub(super) struct Writer {
    active: Option<Active>,
    pub(super) retention: Retention,
    /// Where the log ends.
    end: Position,
    /// Where the last segments that are full end, the oldest first.
    full: VecDeque<Position>,
    /// Frames gathered, to be written to the active segment at `gathered_at`.
    gathered: Vec<u8>,
    gathered_at: u64,
}

#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    /// Where the next frame goes.
    at: u64,
    /// What `synced` of a frame may say: up to where this segment was durable.
    synced: u32,
    /// Whether the next segment has been asked for.
    next_is_wanted: bool,
}

impl Writer {
    pub(super) fn new(retention: Retention, end: Position) -> Writer {
        Writer {
            active: None,
            retention,
            end,
            full: VecDeque::new(),
            gathered: Vec::new(),
            gathered_at: 0,
        }
    }

    /// Writes the frames gathered.
    fn spill(&mut self) -> Result<()> {
        if let Some(active) = &self.active
            && !self.gathered.is_empty()
        {
            active.segment.file.write_at(&self.gathered, self.gathered_at)?;
        }
        self.gathered.clear();
        Ok(())
    }
}

impl Inner {
    /// Appends `records` as one batch; `positions` gets the position of each. Gives the position
    /// of the last.
    pub(super) fn append(
        self: &Arc<Self>,
        records: &[RecordRef<'_>],
        positions: Option<&mut Vec<Position>>,
    ) -> Result<Position> {
        let mut writer = self.writer.lock();
        if let [record] = records
            && positions.is_none()
            && let Some(done) = self.append_fitting(&mut writer, record)
        {
            return done;
        }
        drop(writer);
        check(records)?;
        let mut writer = self.writer.lock();
        let new_states = records.iter().filter(|record| record.kind == RecordKind::State);
        let reserve = writer.retention.state_bytes() + new_states.map(frame_bytes).sum::<u64>();
        self.append_locked(&mut writer, records, reserve, positions)
    }

    /// Appends an entry that fits into the active segment whole, which nearly all do; `None` if it
    /// is another case.
    #[inline]
    fn append_fitting(
        &self,
        writer: &mut Writer,
        record: &RecordRef<'_>,
    ) -> Option<Result<Position>> {
        let durable = Position(self.durable.load(Ordering::Acquire));
        let (active, bytes) = (writer.active.as_mut()?, frame_bytes(record));
        let room = sure_room(active.at, active.segment.bytes);
        let is_small = record.kind == RecordKind::Entry && record.payload.len() < GATHER_MAX;
        if !is_small || bytes + writer.retention.state_bytes() > room {
            return None;
        }
        if let Err(e) = self.check_poison() {
            return Some(Err(e));
        }
        let here = durable.segment() == active.segment.number;
        active.synced = if here { durable.offset() as u32 } else { 0 };
        let (at, flags) = (active.at, FIRST | LAST | END);
        let frame = frame_of(record, record.payload.len(), active.synced, flags);
        let header = encode_header(&frame, record.payload, active.segment.salt, at);
        if let Err(e) = active.segment.file.write_parts_at(&[&header, record.payload], at) {
            return Some(Err(self.poison(&e)));
        }
        active.at += bytes;
        let number = active.segment.number;
        let position = Position::new(number, at + FRAME_HEADER as u64);
        writer.retention.note(record.group, record.kind, record.index, position, number, bytes);
        self.end_append(writer);
        Some(Ok(position))
    }

    /// Says where the log ends after an append, and has the next segment made in time.
    #[inline]
    fn end_append(&self, writer: &mut Writer) {
        if let Some(active) = &mut writer.active {
            writer.end = Position::new(active.segment.number, active.at);
            if active.at > active.segment.bytes / 2 && !active.next_is_wanted {
                active.next_is_wanted = true;
                self.supply.want();
            }
        }
        self.written.store(writer.end.0, Ordering::Release);
    }

    /// As [`Inner::append`], under the lock, leaving `reserve` bytes of room behind.
    pub(super) fn append_locked(
        self: &Arc<Self>,
        writer: &mut Writer,
        records: &[RecordRef<'_>],
        reserve: u64,
        mut positions: Option<&mut Vec<Position>>,
    ) -> Result<Position> {
        self.check_poison()?;
        if records.is_empty() {
            return Ok(writer.end);
        }
        let mut need = reserve;
        for record in records {
            need += frame_bytes(record);
        }
        let room = match &writer.active {
            Some(active) => sure_room(active.at, active.segment.bytes),
            None => 0,
        };
        if need > room {
            // Nothing has been written yet: a full device is a refusal.
            self.supply.ensure(need - room).map_err(|e| match e.kind() {
                ErrorKind::OutOfSpace => e.context("no room for a new log segment"),
                ErrorKind::Refused => e,
                _ => self.poison(&e),
            })?;
        }
        if let Some(active) = &mut writer.active {
            let durable = Position(self.durable.load(Ordering::Acquire));
            let here = durable.segment() == active.segment.number;
            active.synced = if here { durable.offset() as u32 } else { 0 };
        }
        let mut position = writer.end;
        for (i, record) in records.iter().enumerate() {
            position = self
                .write_record(writer, record, i + 1 == records.len())
                .map_err(|e| self.poison(&e))?;
            if let Some(positions) = &mut positions {
                positions.push(position);
            }
        }
        writer.spill().map_err(|e| self.poison(&e))?;
        self.end_append(writer);
        Ok(position)
    }

    fn write_record(
        self: &Arc<Self>,
        writer: &mut Writer,
        record: &RecordRef<'_>,
        ends: bool,
    ) -> Result<Position> {
        let mut rest = record.payload;
        let mut flags = FIRST;
        let mut first = None;
        let mut bytes = 0;
        loop {
            let room = match &writer.active {
                Some(active) => active.segment.bytes - active.at,
                None => 0,
            };
            let header = FRAME_HEADER as u64;
            if room < header + u64::from(!rest.is_empty()) {
                self.roll(writer)?;
                continue;
            }
            let n = rest.len().min((room - header) as usize);
            let (part, tail) = rest.split_at(n);
            rest = tail;
            let last = rest.is_empty();
            flags |= if last { LAST } else { 0 } | if last && ends { END } else { 0 };
            let at = write_frame(writer, record, part, flags)?;
            bytes += header + n as u64;
            let start = *first.get_or_insert(Position(at.0 + header));
            if last {
                writer.retention.note(
                    record.group,
                    record.kind,
                    record.index,
                    start,
                    at.segment(),
                    bytes,
                );
                return Ok(start);
            }
            flags = 0;
        }
    }

    /// Goes on in the next segment, for which room has been ensured.
    fn roll(self: &Arc<Self>, writer: &mut Writer) -> Result<()> {
        writer.spill()?;
        let segment = self.supply.take()?;
        // Not `writer.end`: the batch being written may already have frames behind it.
        let end = match &writer.active {
            Some(active) => Position::new(active.segment.number, active.at),
            None => writer.end,
        };
        let durable = self.durable.load(Ordering::Acquire);
        let link = Frame { len: 0, synced: 0, kind: LINK, flags: 0, group: durable, index: end.0 };
        let at = SEGMENT_HEADER as u64;
        encode_frame(&mut writer.gathered, &link, &[], segment.salt, at);
        writer.gathered_at = at;
        writer.retention.begin(segment.number);
        self.keep_segment(segment.clone());
        let next = Active { segment, at: FIRST_FRAME, synced: 0, next_is_wanted: false };
        if let Some(full) = writer.active.replace(next) {
            full.segment.file.rest();
            // Up to the last whole batch: a part of one must never be known to be durable. And
            // late: what tables have by then need not be written a second time.
            writer.full.push_back(writer.end);
            if writer.full.len() > FULL_UNSYNCED
                && let Some(end) = writer.full.pop_front()
            {
                self.segment_was_filled(end);
            }
        }
        Ok(())
    }

    /// Says at the end of the log how far it is durable, so that damage before it is told from a
    /// torn tail: the last act of a clean stop.
    pub(super) fn write_parting_link(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        let durable = self.durable.load(Ordering::Acquire);
        let Some(active) = &writer.active else { return Ok(()) };
        if active.segment.bytes - active.at < FRAME_HEADER as u64 || durable != writer.end.0 {
            return Ok(());
        }
        let link =
            Frame { len: 0, synced: 0, kind: LINK, flags: 0, group: durable, index: durable };
        let bytes = encode_header(&link, &[], active.segment.salt, active.at);
        let written = active.segment.file.write_at(&bytes, active.at);
        // Whatever comes now would stand behind the link.
        writer.active = None;
        written
    }
}

/// Adds a frame to those gathered, or writes it at once if it is large or alone; gives its place.
#[inline]
fn write_frame(
    writer: &mut Writer,
    record: &RecordRef<'_>,
    part: &[u8],
    flags: u8,
) -> Result<Position> {
    let large = part.len() >= GATHER_MAX;
    if large || writer.gathered.len() >= GATHER_MAX {
        writer.spill()?;
    }
    let Some(active) = &mut writer.active else {
        return Err(Error::new(ErrorKind::Internal, "a frame without a segment"));
    };
    let (at, salt) = (active.at, active.segment.salt);
    let frame = frame_of(record, part.len(), active.synced, flags);
    if large || flags & END != 0 && writer.gathered.is_empty() {
        let header = encode_header(&frame, part, salt, at);
        active.segment.file.write_parts_at(&[&header, part], at)?;
    } else {
        if writer.gathered.is_empty() {
            writer.gathered_at = at;
        }
        encode_frame(&mut writer.gathered, &frame, part, salt, at);
    }
    active.at += (FRAME_HEADER + part.len()) as u64;
    Ok(Position::new(active.segment.number, at))
}

/// The frame of `len` bytes of a record.
#[inline]
fn frame_of(record: &RecordRef<'_>, len: usize, synced: u32, flags: u8) -> Frame {
    Frame {
        // A segment has less than 2^32 bytes.
        len: len as u32,
        synced,
        kind: record.kind as u8,
        flags,
        group: record.group.0,
        index: record.index.0,
    }
}

/// Bytes that a record takes in one frame.
#[inline]
fn frame_bytes(record: &RecordRef<'_>) -> u64 {
    (FRAME_HEADER + record.payload.len()) as u64
}

fn check(records: &[RecordRef<'_>]) -> Result<()> {
    let mut bytes = 0;
    for record in records {
        bytes += frame_bytes(record);
        if record.kind == RecordKind::State && record.index.0 > 255 {
            return Err(Error::invalid(format!(
                "state slot {}: a group has slots 0 to 255",
                record.index
            )));
        }
    }
    if bytes > MAX_BATCH_BYTES {
        return Err(Error::invalid(format!(
            "{bytes} bytes in one append to the log: at most {MAX_BATCH_BYTES} are possible"
        )));
    }
    Ok(())
}

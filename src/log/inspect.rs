//! Looking at a log without opening it: read-only, without a lock, whole or damaged.

use crate::base::{Error, ErrorKind, GroupId, LogIndex, Result};
use crate::env::Disk;
use crate::log::format::{END, FIRST, FIRST_FRAME, FRAME_HEADER, LAST, LINK, SEGMENT_HEADER};
use crate::log::record::{Position, RecordKind};
use crate::log::scan::Scan;
use crate::log::segment::Name;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A frame of a segment: a record, or the part of one that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameInfo<'a> {
    /// Where the frame begins.
    pub offset: u64,
    /// The position that [`Log::read`](crate::log::Log::read) takes, if this is a first frame.
    pub position: Position,
    /// Whose record it is.
    pub group: GroupId,
    /// What it is.
    pub kind: RecordKind,
    /// The entry's index, the last index that stays, or the slot.
    pub index: LogIndex,
    /// The payload in this frame.
    pub payload: &'a [u8],
    /// Whether the record begins here.
    pub first: bool,
    /// Whether the record ends here.
    pub last: bool,
    /// Whether the batch ends here.
    pub ends_batch: bool,
}

/// What stands in a log, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// A segment begins.
    Segment {
        /// Its file.
        file: &'a Path,
        /// Its number.
        number: u32,
        /// Its salt.
        salt: u32,
        /// Bytes of the file.
        bytes: u64,
    },
    /// A link: how far the log was durable when it was written.
    Link {
        /// The segment's file.
        file: &'a Path,
        /// Where it begins.
        offset: u64,
        /// Where the log ended when it was written.
        end: Position,
        /// Up to where the log was durable.
        durable: Position,
    },
    /// A frame.
    Frame {
        /// The segment's file.
        file: &'a Path,
        /// What it says.
        frame: FrameInfo<'a>,
    },
    /// Bytes that are no frame, with valid frames behind them in the same segment. Damage, or an
    /// unsynced tail that a power cut took in part.
    Gap {
        /// The segment's file.
        file: &'a Path,
        /// Where the gap begins.
        offset: u64,
        /// Where the next valid frame stands.
        next: u64,
        /// What stands there.
        found: String,
    },
}

/// What a segment holds.
#[derive(Debug, Clone)]
pub struct SegmentSummary {
    /// Its file.
    pub file: PathBuf,
    /// Its number.
    pub number: u32,
    /// Its salt.
    pub salt: u32,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes up to the end of the last valid frame.
    pub used_bytes: u64,
    /// Valid frames, links not counted.
    pub frames: u64,
    /// Why the segment cannot be read at all.
    pub damage: Option<Error>,
    /// What stands behind the last valid frame, if it is neither zeros nor the end of the file:
    /// a torn tail, or what an earlier life of the file left.
    pub tail: Option<String>,
    /// First and last index of the entries, by group.
    pub entries: BTreeMap<GroupId, (LogIndex, LogIndex)>,
}

/// What a log in a folder holds, and what opening it would say.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The segments, oldest first.
    pub segments: Vec<SegmentSummary>,
    /// Files that wait to be used, or were never finished.
    pub idle_files: Vec<PathBuf>,
    /// Position behind the last complete batch; not known if the log could not be opened.
    pub end: Option<Position>,
    /// The latest position that a frame knows to be durable; not known if the log could not be
    /// opened.
    pub durable: Option<Position>,
    /// The tail that opening the log would cut.
    pub cut: Option<crate::log::Cut>,
    /// Why the log could not be opened.
    pub damage: Option<Error>,
}

impl Summary {
    /// Why a segment is not sound: it cannot be read, or opening the log is refused for what it
    /// holds.
    pub fn damage_in<'a>(&'a self, segment: &'a SegmentSummary) -> Option<&'a Error> {
        let names = |error: &&Error| error.damage().is_some_and(|at| at.file == segment.file);
        segment.damage.as_ref().or(self.damage.as_ref().filter(names))
    }

    /// Why the log could not be opened, if no segment's damage says so.
    pub fn damage_elsewhere(&self) -> Option<&Error> {
        let mut known = self.segments.iter().filter_map(|segment| self.damage_in(segment));
        let refused = self.damage.as_ref()?;
        known.all(|known| known.damage() != refused.damage()).then_some(refused)
    }
}

/// Shows `visit` all that stands in the log in `dir`, and gives a summary. Changes nothing and
/// takes no lock; beside a running node the end may be caught in the making. Damage is an
/// item, not an error.
///
/// # Errors
/// `NotFound` if the folder is not there; `Io`; whatever `visit` returns.
pub fn inspect(
    disk: &dyn Disk,
    dir: &Path,
    visit: &mut dyn FnMut(Item<'_>) -> Result<()>,
) -> Result<Summary> {
    let (mut segments, mut idle_files) = (Vec::new(), Vec::new());
    for entry in disk.list(dir)?.into_iter().filter(|entry| !entry.is_dir) {
        let path = dir.join(&entry.name);
        match Name::parse(&entry.name) {
            Some(Name::Log(number)) => {
                segments.push(segment(disk, path, number, entry.len, visit)?);
            }
            Some(_) => idle_files.push(path),
            None => {}
        }
    }
    let mut summary =
        Summary { segments, idle_files, end: None, durable: None, cut: None, damage: None };
    match crate::log::recover::examine(disk, dir) {
        Ok(found) => {
            (summary.end, summary.durable) = (Some(found.end), Some(found.durable));
            summary.cut = found.cut;
        }
        Err(e) if is_damage(&e) => summary.damage = Some(e),
        Err(e) => return Err(e),
    }
    Ok(summary)
}

fn is_damage(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Corruption | ErrorKind::Unsupported)
}

fn segment(
    disk: &dyn Disk,
    path: PathBuf,
    number: u32,
    bytes: u64,
    visit: &mut dyn FnMut(Item<'_>) -> Result<()>,
) -> Result<SegmentSummary> {
    let mut summary = SegmentSummary {
        file: path.clone(),
        number,
        salt: 0,
        bytes,
        used_bytes: 0,
        frames: 0,
        damage: None,
        tail: None,
        entries: BTreeMap::new(),
    };
    let mut scan = match Scan::open(disk, &path, number) {
        Ok(scan) => scan,
        Err(e) if is_damage(&e) => {
            summary.damage = Some(e);
            return Ok(summary);
        }
        Err(e) => return Err(e),
    };
    summary.salt = scan.salt;
    summary.used_bytes = SEGMENT_HEADER as u64;
    visit(Item::Segment { file: &path, number, salt: scan.salt, bytes: scan.bytes })?;
    let mut offset = SEGMENT_HEADER as u64;
    loop {
        let Some((frame, payload)) = scan.frame_at(offset)? else {
            let Some((next, _)) = scan.next_frame(offset)? else { break };
            let found = scan.describe(offset)?;
            visit(Item::Gap { file: &path, offset, next, found })?;
            offset = next;
            continue;
        };
        if frame.kind == LINK {
            let (end, durable) = (Position(frame.index), Position(frame.group));
            visit(Item::Link { file: &path, offset, end, durable })?;
        } else if let Some(kind) = RecordKind::from_u8(frame.kind) {
            let (group, index) = (GroupId(frame.group), LogIndex(frame.index));
            let info = FrameInfo {
                offset,
                position: Position::new(number, offset + FRAME_HEADER as u64),
                group,
                kind,
                index,
                payload,
                first: frame.flags & FIRST != 0,
                last: frame.flags & LAST != 0,
                ends_batch: frame.flags & END != 0,
            };
            visit(Item::Frame { file: &path, frame: info })?;
            summary.frames += 1;
            if kind == RecordKind::Entry {
                let span = summary.entries.entry(group).or_insert((index, index));
                *span = (span.0.min(index), span.1.max(index));
            }
        }
        offset += FRAME_HEADER as u64 + u64::from(frame.len);
        summary.used_bytes = offset;
    }
    let found = scan.describe(offset.max(FIRST_FRAME))?;
    if found != "zeros" && found != "the end of the file" {
        summary.tail = Some(found);
    }
    Ok(summary)
}

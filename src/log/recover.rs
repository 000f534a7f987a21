//! Opening a log: what is whole is replayed, a torn tail is cut, damage is refused.
//!
//! **Reading.** The segments are walked in order from the oldest. Each begins with a link that
//! names the end of the one before it; the walk ends at the first place where no valid frame
//! stands and no next segment links to. What was read up to the last complete batch counts: that
//! is the *end*.
//!
//! **Torn or damaged?** After a power cut, unsynced writes may be there in part, in any order:
//! valid frames may well stand behind a hole. Such a tail was never promised and is cut. But
//! every frame says how far the log was durable when it was written. If any frame behind the hole
//! knows of durability beyond the end, then something that was promised is missing: that is
//! damage, and the log is refused before anything has been changed.
//!
//! **Cutting.** In this order, each step durable before the next:
//! 1. What was read and is not known to be durable is written again and synced: it may have been
//!    in the page cache only (after a kill), and what is built on it must not be more durable
//!    than it is.
//! 2. Segments behind the end are removed, newest first. They hold nothing promised.
//! 3. The segment of the end gets a link at the end, which proves from now on that all before it
//!    was durable, and is cut behind it, which gives its unused blocks back.
//!
//! A crash between these steps repeats them with the same outcome: the frames up to the end are
//! durable since step 1, the invalid frame behind them was never written whole and stays invalid
//! whether its bytes are there or not, and removing a part of what holds no proof leaves no proof.
//! The log never goes on in an old file: the next append begins a new segment, which links to the
//! end.
//!
//! **What cannot be told.** Damage to what was synced last, with nothing written behind it, looks
//! like a torn tail. A clean stop and every opening leave a link behind the end, so this window
//! is open only between a sync and the next append or restart.

use crate::base::{Error, Result};
use crate::env::Disk;
use crate::log::format::{FRAME_HEADER, Frame, LINK, SEGMENT_HEADER, encode_header, key_of};
use crate::log::options::LogOptions;
use crate::log::record::{Position, RecordRef};
use crate::log::retention::Retention;
use crate::log::scan::Scan;
use crate::log::segment::{Name, Segment};
use crate::log::walk::{Stop, Walk};
use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes written at once when a tail is made durable.
const REWRITE_BYTES: u64 = 256 << 10;

/// What opening a log found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records replayed.
    pub records: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Segments read.
    pub segments: usize,
    /// The tail that was cut off, if whole frames stood in it behind a hole.
    pub cut: Option<Cut>,
}

/// A tail that was cut off although whole frames stood in it, behind a hole: writes that a power
/// cut took before they were synced, at a sync level that permits it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file with the hole.
    pub file: PathBuf,
    /// Where the hole begins.
    pub offset: u64,
    /// What stands there.
    pub found: String,
    /// Where the log now ends.
    pub end: Position,
}

/// A log read and made fit to be appended to.
pub(super) struct Recovered {
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) end: Position,
    pub(super) retention: Retention,
    pub(super) key: Option<u32>,
    pub(super) next: u32,
    pub(super) spares: Vec<PathBuf>,
    pub(super) report: Recovery,
}

/// Called with every record of a log in order.
pub type Replay<'a> = dyn FnMut(Position, RecordRef<'_>) -> Result<()> + 'a;

/// Reads the log in `dir`, replays it, and cuts a torn tail.
pub(super) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    options: &LogOptions,
    replay: &mut Replay<'_>,
) -> Result<Recovered> {
    let (mut scans, others) = open_all(disk, dir)?;
    let key = scans.last().map(|scan| key_of(scan.salt, scan.number));
    let next = scans.last().map_or(1, |scan| scan.number.saturating_add(1));
    let walk = walk_all(&mut scans, replay)?;
    let (end, durable) = (walk.end, walk.durable);
    let (mut retention, report) = (walk.retention, walk.report);

    let mut segments = Vec::new();
    let mut dead = Vec::new();
    for mut scan in scans {
        if scan.number > end.segment() {
            retention.forget(scan.number);
            dead.push(scan.path);
            continue;
        }
        make_durable(disk, &mut scan, durable, end)?;
        segments.push(scan);
    }
    let mut spares = Vec::new();
    for (name, path, bytes) in others {
        match name {
            // A log without segments draws a new key, under which old bytes might pass.
            Name::Spare(_)
                if bytes == options.segment_bytes
                    && spares.len() < options.recycle_max
                    && !segments.is_empty() =>
            {
                spares.push(path);
            }
            _ => dead.push(path),
        }
    }
    // Newest first: if the older of two went alone, the newer would pass for the oldest segment
    // of a log whose beginning was given back.
    for path in dead.iter().rev() {
        disk.remove(path)?;
        disk.sync_dir(dir)?;
    }
    let segments = finish(disk, segments, end)?;
    Ok(Recovered { segments, end, retention, key, next, spares, report })
}

/// What opening the log in `dir` would find.
pub(super) struct Examined {
    pub(super) end: Position,
    pub(super) durable: Position,
    pub(super) cut: Option<Cut>,
}

/// Finds out what opening the log would find, and changes nothing.
pub(super) fn examine(disk: &dyn Disk, dir: &Path) -> Result<Examined> {
    let (mut scans, _) = open_all(disk, dir)?;
    let mut ignore = |_: Position, _: RecordRef<'_>| Ok(());
    let walk = walk_all(&mut scans, &mut ignore)?;
    Ok(Examined { end: walk.end, durable: walk.durable, cut: walk.report.cut })
}

fn walk_all<'a, 'b>(scans: &mut [Scan], replay: &'a mut Replay<'b>) -> Result<Walk<'a, 'b>> {
    let mut walk = Walk::new(replay);
    if let Some(stop) = walk.run(scans)? {
        refuse_damage(scans, &stop, walk.end, walk.durable)?;
        walk.report.cut = describe_cut(scans, &stop, walk.end)?;
    }
    let end = walk.end.segment();
    walk.report.segments = scans.iter().filter(|scan| scan.number <= end).count();
    Ok(walk)
}

type Others = Vec<(Name, PathBuf, u64)>;

fn open_all(disk: &dyn Disk, dir: &Path) -> Result<(Vec<Scan>, Others)> {
    let (mut scans, mut others) = (Vec::new(), Vec::new());
    // Sorted by name, which is by number.
    for entry in disk.list(dir)?.into_iter().filter(|entry| !entry.is_dir) {
        match Name::parse(&entry.name) {
            Some(Name::Log(number)) => {
                scans.push(Scan::open(disk, &dir.join(&entry.name), number)?);
            }
            Some(name) => others.push((name, dir.join(&entry.name), entry.len)),
            None => {}
        }
    }
    Ok((scans, others))
}

/// Writes what is not known to be durable once more, as it is, and syncs it. A sync alone would
/// not do: if the process before this one died of a failed sync, the kernel may hold pages that
/// it calls clean and the device does not have.
fn make_durable(disk: &dyn Disk, scan: &mut Scan, durable: Position, end: Position) -> Result<()> {
    let from = match scan.number.cmp(&durable.segment()) {
        Ordering::Less => return Ok(()),
        Ordering::Equal => durable.offset(),
        Ordering::Greater => 0,
    };
    let to = if scan.number == end.segment() { end.offset() } else { scan.bytes };
    let file = disk.open_write(&scan.path)?;
    let mut at = from;
    while at < to {
        let bytes = scan.slice(at, (to - at).min(REWRITE_BYTES) as usize)?;
        file.write_at(bytes, at)?;
        at += bytes.len() as u64;
    }
    file.sync_data()
}

/// Ends the last segment at the end of the log, with a link that says that it is durable.
fn finish(disk: &dyn Disk, scans: Vec<Scan>, end: Position) -> Result<Vec<Arc<Segment>>> {
    let mut segments = Vec::new();
    for mut scan in scans {
        if scan.number == end.segment() {
            seal(disk, &mut scan, end)?;
        }
        segments.push(Arc::new(Segment {
            number: scan.number,
            salt: scan.salt,
            bytes: scan.bytes,
            file: scan.file().clone(),
            is_own: false,
            path: scan.path,
        }));
    }
    Ok(segments)
}

fn seal(disk: &dyn Disk, scan: &mut Scan, end: Position) -> Result<()> {
    let link = Frame { len: 0, synced: 0, kind: LINK, flags: 0, group: end.0, index: end.0 };
    let sealed = end.offset() + FRAME_HEADER as u64;
    let is_there = scan.frame_at(end.offset())?.is_some_and(|(frame, _)| frame == link);
    // A segment that is full, or was cut here by hand, does without.
    let fits = sealed <= scan.bytes;
    let bytes = if fits { sealed } else { end.offset() };
    if bytes == scan.bytes && (is_there || !fits) {
        return Ok(());
    }
    let file = disk.open_write(&scan.path)?;
    if fits && !is_there {
        // Before the cut: inside the file it takes no space.
        file.write_at(&encode_header(&link, &[], scan.salt, end.offset()), end.offset())?;
        file.sync_data()?;
    }
    file.set_len(bytes)?;
    file.sync_data()?;
    scan.bytes = bytes;
    Ok(())
}

/// Refuses the log if a frame behind the place where the walk stopped proves that what is missing
/// had been durable.
fn refuse_damage(scans: &mut [Scan], stop: &Stop, end: Position, known: Position) -> Result<()> {
    // What was durable in segments that were given back is missing to nobody.
    let first = scans.first().map_or(0, |scan| scan.number);
    let end = end.max(Position::new(first, 0));
    let mut proof = Some(known).filter(|known| *known > end);
    let mut blamed = (stop.scan, stop.offset);
    for (i, scan) in scans.iter_mut().enumerate().skip(stop.scan) {
        let from = if i == stop.scan { stop.offset } else { SEGMENT_HEADER as u64 };
        let found = scan.durable_beyond(from, end)?;
        if proof.is_none() && i > stop.scan && stop.next_is_bad {
            // Nothing is wrong before the next segment, so its beginning is.
            blamed = (stop.scan + 1, SEGMENT_HEADER as u64);
        }
        proof = proof.max(found);
    }
    let Some(durable) = proof else { return Ok(()) };
    let (scan, offset) = (&mut scans[blamed.0], blamed.1);
    let found = scan.describe(offset)?;
    Err(Error::corruption(
        &scan.path,
        offset,
        format!(
            "frames up to offset {} of segment {}, which had been synced",
            durable.offset(),
            durable.segment()
        ),
        found,
    ))
}

/// Tells whether whole frames are cut off. A torn frame alone is not told from what an earlier
/// life of the file left behind, and is nothing to speak of: it was being written.
fn describe_cut(scans: &mut [Scan], stop: &Stop, end: Position) -> Result<Option<Cut>> {
    let offset = stop.offset;
    let mut from = offset;
    for scan in scans.iter_mut().skip(stop.scan) {
        while let Some((next, frame)) = scan.next_frame(from)? {
            if frame.kind != LINK {
                let scan = &mut scans[stop.scan];
                let (file, found) = (scan.path.clone(), scan.describe(offset)?);
                return Ok(Some(Cut { file, offset, found, end }));
            }
            from = next + FRAME_HEADER as u64;
        }
        from = SEGMENT_HEADER as u64;
    }
    Ok(None)
}

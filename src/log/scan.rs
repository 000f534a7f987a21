//! Walking over the frames of one segment file, whole or damaged.

use crate::base::{Error, Result};
use crate::env::{Disk, File};
use crate::log::format::{
    FRAME_HEADER, Frame, LINK, MAX_SEGMENT_BYTES, SEGMENT_HEADER, checksums, decode_header,
    decode_segment, may_be_header,
};
use crate::log::record::Position;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes read ahead.
const WINDOW: usize = 1 << 20;
/// How many bytes a search among garbage may checksum. Only bytes made to look like frames cost
/// more than a glance; a second's worth of them ends the search.
const SEARCH_BYTES_MAX: u64 = 8 << 30;

/// The position up to which a frame of segment `number` knows the log to be durable.
pub(super) fn durable_in(number: u32, frame: &Frame) -> Position {
    match (frame.kind, frame.synced) {
        (LINK, _) => Position(frame.group),
        (_, 0) => Position(0),
        (_, synced) => Position::new(number, u64::from(synced)),
    }
}

/// A search for frames among bytes of which nothing is known.
struct Search {
    offset: u64,
    budget: u64,
}

/// A segment file, read through a window.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) path: PathBuf,
    pub(super) number: u32,
    pub(super) salt: u32,
    pub(super) bytes: u64,
    file: Arc<dyn File>,
    window: Vec<u8>,
    window_at: u64,
}

impl Scan {
    /// Opens segment `number` and reads its header.
    pub(super) fn open(disk: &dyn Disk, path: &Path, number: u32) -> Result<Scan> {
        let file = disk.open(path)?;
        let bytes = file.len()?;
        let mut scan = Scan {
            path: path.to_path_buf(),
            number,
            salt: 0,
            bytes,
            file,
            window: Vec::new(),
            window_at: 0,
        };
        if bytes > MAX_SEGMENT_BYTES {
            return Err(Error::corruption(
                path,
                0,
                format!("at most {MAX_SEGMENT_BYTES} bytes"),
                format!("{bytes}"),
            ));
        }
        let header = scan.slice(0, bytes.min(SEGMENT_HEADER as u64) as usize)?;
        let salt = decode_segment(header, number, path)?;
        scan.salt = salt;
        Ok(scan)
    }

    /// The file, open to read.
    pub(super) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// The frame that stands at `offset`, with its payload; `None` if no valid one does.
    pub(super) fn frame_at(&mut self, offset: u64) -> Result<Option<(Frame, &[u8])>> {
        let Some((frame, bytes)) = self.look(offset)? else { return Ok(None) };
        let salt = self.salt;
        let whole = self.slice(offset, bytes)?;
        let (found, computed) = checksums(whole, salt, offset);
        Ok((found == computed).then(|| (frame, &whole[FRAME_HEADER..])))
    }

    /// What stands at `offset`, for a person.
    pub(super) fn describe(&mut self, offset: u64) -> Result<String> {
        let Some((_, bytes)) = self.look(offset)? else {
            let rest = self.bytes.saturating_sub(offset).min(FRAME_HEADER as u64) as usize;
            let bytes = self.slice(offset, rest)?;
            return Ok(match bytes {
                [] => "the end of the file".to_string(),
                _ if bytes.iter().all(|b| *b == 0) => "zeros".to_string(),
                _ => "bytes that are no frame".to_string(),
            });
        };
        let salt = self.salt;
        let (found, computed) = checksums(self.slice(offset, bytes)?, salt, offset);
        Ok(format!("checksum {found:08x} over bytes with checksum {computed:08x}"))
    }

    /// The latest position that a valid frame at or behind `from` knows to be durable, beyond
    /// `known`: the proof that what is missing before it is damage and not a lost tail.
    pub(super) fn durable_beyond(
        &mut self,
        from: u64,
        known: Position,
    ) -> Result<Option<Position>> {
        let mut latest = None;
        let mut search = Search { offset: from, budget: SEARCH_BYTES_MAX };
        let number = self.number;
        let proves = |frame: &Frame| durable_in(number, frame) > known;
        while let Some((_, frame)) = self.search(&mut search, &proves)? {
            latest = latest.max(Some(durable_in(number, &frame)));
        }
        Ok(latest)
    }

    /// The next valid frame at or behind `from`.
    pub(super) fn next_frame(&mut self, from: u64) -> Result<Option<(u64, Frame)>> {
        self.search(&mut Search { offset: from, budget: SEARCH_BYTES_MAX }, &|_| true)
    }

    /// The next valid frame that `wanted` accepts, at any offset: nothing is known of what
    /// stands here. The search goes on behind it.
    fn search(
        &mut self,
        search: &mut Search,
        wanted: &dyn Fn(&Frame) -> bool,
    ) -> Result<Option<(u64, Frame)>> {
        while search.offset + FRAME_HEADER as u64 <= self.bytes {
            let Some(offset) = self.next_candidate(search.offset)? else { break };
            search.offset = offset + 1;
            let Some((frame, bytes)) = self.look(offset)? else { continue };
            if !wanted(&frame) {
                continue;
            }
            let Some(left) = search.budget.checked_sub(bytes as u64) else { break };
            search.budget = left;
            if self.frame_at(offset)?.is_some() {
                search.offset = offset + bytes as u64;
                return Ok(Some((offset, frame)));
            }
        }
        Ok(None)
    }

    /// The next offset at or behind `from` where the bytes may be a frame's kind and flags.
    fn next_candidate(&mut self, from: u64) -> Result<Option<u64>> {
        let mut from = from;
        while from + FRAME_HEADER as u64 <= self.bytes {
            let n = (self.bytes - from).min(WINDOW as u64 / 4) as usize;
            let bytes = self.slice(from, n)?;
            let last = n - FRAME_HEADER;
            let mut i = 0;
            while i <= last {
                if bytes[i + 12..i + 16] == [0; 4] {
                    // Neither here nor where any of these four would be the kind.
                    i += 4;
                } else if may_be_header(bytes[i + 12], bytes[i + 13]) {
                    return Ok(Some(from + i as u64));
                } else {
                    i += 1;
                }
            }
            from += i as u64;
        }
        Ok(None)
    }

    /// Whether the header of a frame may stand at `offset`, and the whole frame's length.
    fn look(&mut self, offset: u64) -> Result<Option<(Frame, usize)>> {
        let room = self.bytes.saturating_sub(offset);
        if room < FRAME_HEADER as u64 {
            return Ok(None);
        }
        let salt = self.salt;
        let frame = decode_header(self.slice(offset, FRAME_HEADER)?, salt, offset, room);
        Ok(frame.map(|frame| (frame, FRAME_HEADER + frame.len as usize)))
    }

    /// `len` bytes at `offset`, which the caller has checked to lie within the file.
    pub(super) fn slice(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        let start = offset.checked_sub(self.window_at).map(|start| start as usize);
        let start = match start {
            Some(start) if start + len <= self.window.len() => start,
            _ => {
                self.fill(offset, len)?;
                0
            }
        };
        Ok(&self.window[start..start + len])
    }

    fn fill(&mut self, offset: u64, len: usize) -> Result<()> {
        let want = (self.bytes.saturating_sub(offset)).min(len.max(WINDOW) as u64) as usize;
        self.window.resize(want, 0);
        self.window_at = offset;
        let mut done = 0;
        while done < want {
            match self.file.read_at(&mut self.window[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) => {
                    self.window.clear();
                    return Err(e);
                }
            }
        }
        self.window.truncate(done);
        if done < len {
            return Err(Error::corruption(
                &self.path,
                offset,
                format!("{len} bytes"),
                format!("{done} before the end of the file"),
            ));
        }
        Ok(())
    }
}

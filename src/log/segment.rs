//! Segment files: their names, and the supply of fresh ones.
//!
//! A file is `N.log` only from when its header is durable until it is retired; before that it is
//! `N.new`, afterwards it is removed or waits as `N.spare` to be used again. Each change of name
//! is made durable before the next step relies on it, so that no name ever stands over another
//! segment's content, whatever a power cut keeps.

use crate::base::{Error, ErrorKind, Result};
use crate::env::{Disk, File};
use crate::log::format::{FIRST_FRAME, FRAME_HEADER, encode_segment, salt_of};
use crate::log::options::LogOptions;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How much of a segment is made ready for writes when the log is opened: some 10,000 small
/// records, half a millisecond.
const WARM_BYTES: u64 = 2 << 20;

/// A segment's file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) salt: u32,
    pub(super) path: PathBuf,
    /// Length of the file.
    pub(super) bytes: u64,
    pub(super) file: Arc<dyn File>,
    /// Whether `file` was made here to be written: one found at opening is open for reading only.
    pub(super) is_own: bool,
}

/// What a name in the log's folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// A segment.
    Log(u32),
    /// A file to be used again.
    Spare(u32),
    /// A segment that was never finished.
    New(u32),
}

impl Name {
    /// Reads a file name; `None` if it is not one of ours.
    pub(super) fn parse(name: &str) -> Option<Name> {
        let (number, kind) = name.split_once('.')?;
        if number.len() != 10 || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number = number.parse().ok()?;
        match kind {
            "log" => Some(Name::Log(number)),
            "spare" => Some(Name::Spare(number)),
            "new" => Some(Name::New(number)),
            _ => None,
        }
    }

    pub(super) fn path(self, dir: &Path) -> PathBuf {
        let (number, kind) = match self {
            Name::Log(number) => (number, "log"),
            Name::Spare(number) => (number, "spare"),
            Name::New(number) => (number, "new"),
        };
        dir.join(format!("{number:010}.{kind}"))
    }
}

/// Bytes of batches that a fresh segment is sure to take, however they fall: at its end less
/// than a frame header may be left over, and one more header is spent on a record cut in two.
pub(super) fn sure_room(from: u64, segment_bytes: u64) -> u64 {
    segment_bytes.saturating_sub(from + 2 * FRAME_HEADER as u64)
}

/// Makes segments, ahead of need if it can, and keeps the files of retired ones.
#[derive(Debug)]
pub(super) struct Supply {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: LogOptions,
    key: u32,
    state: Mutex<State>,
    /// Whether the thread is to make a segment if none is ready.
    is_wanted: AtomicBool,
    wanted: Condvar,
    /// The thread has made one, or could not.
    made: Condvar,
}

/// A file to be used again, still open if it was retired by this process.
#[derive(Debug)]
struct Spare {
    path: PathBuf,
    file: Option<Arc<dyn File>>,
}

#[derive(Debug)]
struct State {
    next: u32,
    ready: VecDeque<Arc<Segment>>,
    spares: Vec<Spare>,
    unsynced: Vec<Spare>,
    /// Whether the thread makes a segment: the next one.
    making: bool,
    closed: bool,
}

impl Supply {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LogOptions,
        key: u32,
        next: u32,
        spares: Vec<PathBuf>,
    ) -> Supply {
        let spares = spares.into_iter().map(|path| Spare { path, file: None }).collect();
        let (ready, unsynced) = (VecDeque::new(), Vec::new());
        let state = State { next, ready, spares, unsynced, making: false, closed: false };
        let dir = dir.to_path_buf();
        Supply {
            disk,
            dir,
            options,
            key,
            state: Mutex::new(state),
            is_wanted: AtomicBool::new(false),
            wanted: Condvar::new(),
            made: Condvar::new(),
        }
    }

    /// Sees to it that the segments that are ready take `bytes` together; gives how much they
    /// take. `OutOfSpace` leaves the log as it was; any other error is the end of it.
    pub(super) fn ensure(&self, bytes: u64) -> Result<()> {
        let each = sure_room(FIRST_FRAME, self.options.segment_bytes);
        let mut state = self.lock();
        while state.ready.len() as u64 * each < bytes {
            if state.making {
                state = self.until_made(state);
                continue;
            }
            let segment = self.make(&mut state)?;
            state.ready.push_back(segment);
        }
        Ok(())
    }

    /// Has the beginning of what is ready be written to without a wait for its pages.
    pub(super) fn warm(&self) {
        for segment in &self.lock().ready {
            segment.file.warm(WARM_BYTES);
        }
    }

    /// The next segment, ready to be written.
    pub(super) fn take(&self) -> Result<Arc<Segment>> {
        let mut state = self.lock();
        loop {
            match state.ready.pop_front() {
                Some(segment) => return Ok(segment),
                None if state.making => state = self.until_made(state),
                None => return self.make(&mut state),
            }
        }
    }

    /// Segments are used in the order of their numbers: who needs one that is being made waits.
    fn until_made<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waits = |state: &mut State| state.making;
        self.made.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a segment made ready, if there is none, before it is needed. Waits for nobody: a wish
    /// that the thread misses costs the append that needs the segment a wait.
    pub(super) fn want(&self) {
        self.is_wanted.store(true, Ordering::Release);
        self.wanted.notify_one();
    }

    /// Makes a segment whenever one is wanted, until the supply is closed: the body of a thread. That
    /// may take long, and holds up nobody but who needs the segment. Gives the error that is the end
    /// of the log.
    pub(super) fn run(&self) -> Result<()> {
        let mut state = self.lock();
        while !state.closed {
            if self.is_wanted.swap(false, Ordering::AcqRel) && state.ready.is_empty() {
                let (number, spare) = self.begin(&mut state)?;
                state.making = true;
                drop(state);
                let made = self.write(number, spare);
                state = self.lock();
                state.making = false;
                self.made.notify_all();
                match made {
                    Ok(segment) => {
                        state.ready.push_back(segment);
                        continue;
                    }
                    // The append that needs it will try again and tell its caller.
                    Err(e) if e.kind() == ErrorKind::OutOfSpace => {}
                    Err(e) => return Err(e),
                }
            }
            state = self.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wanted.notify_all();
    }

    /// Bytes of the files that hold nothing.
    pub(super) fn idle_bytes(&self) -> u64 {
        let state = self.lock();
        (state.ready.len() + state.spares.len()) as u64 * self.options.segment_bytes
    }

    /// Takes a segment out of the log: its file is kept to be used again if it `may_serve`, there
    /// is a use for it and nobody reads it, or removed. After an error it is still there. The
    /// caller syncs the names ([`Supply::sync_names`]) before it takes out the next.
    pub(super) fn retire(&self, segment: &Arc<Segment>, may_serve: bool) -> Result<()> {
        let mut state = self.lock();
        let keep = may_serve
            && state.spares.len() < self.options.recycle_max
            && segment.bytes == self.options.segment_bytes
            && Arc::strong_count(segment) == 1;
        if keep {
            let spare = Name::Spare(segment.number).path(&self.dir);
            self.disk.rename(&segment.path, &spare)?;
            // Its old name must be gone for good before it is written to.
            let file = segment.is_own.then(|| segment.file.clone());
            state.unsynced.push(Spare { path: spare, file });
        } else {
            self.disk.remove(&segment.path)?;
        }
        Ok(())
    }

    /// Makes what was retired durable, and free to be used again.
    pub(super) fn sync_names(&self) -> Result<()> {
        let mut state = self.lock();
        self.disk.sync_dir(&self.dir)?;
        let State { spares, unsynced, .. } = &mut *state;
        spares.append(unsynced);
        Ok(())
    }

    fn make(&self, state: &mut State) -> Result<Arc<Segment>> {
        let (number, spare) = self.begin(state)?;
        self.write(number, spare)
    }

    /// The next segment's number, and a file for it if one is there.
    fn begin(&self, state: &mut State) -> Result<(u32, Option<Spare>)> {
        let number = state.next;
        let Some(next) = number.checked_add(1) else {
            return Err(Error::new(ErrorKind::Refused, "the log has used all its segment numbers"));
        };
        // Even when making it fails the number is spent: what is left of the file may bear its salt.
        state.next = next;
        Ok((number, state.spares.pop()))
    }

    fn write(&self, number: u32, spare: Option<Spare>) -> Result<Arc<Segment>> {
        let (unfinished, path) =
            (Name::New(number).path(&self.dir), Name::Log(number).path(&self.dir));
        let salt = salt_of(self.key, number);
        let made = self.write_new(spare, &unfinished, &path, number, salt);
        match made {
            Ok(file) => {
                let bytes = self.options.segment_bytes;
                Ok(Arc::new(Segment { number, salt, path, bytes, file, is_own: true }))
            }
            Err(e) => {
                // Recovery removes what is still there.
                _ = self.disk.remove(&unfinished);
                _ = self.disk.remove(&path);
                Err(e)
            }
        }
    }

    fn write_new(
        &self,
        spare: Option<Spare>,
        unfinished: &Path,
        path: &Path,
        number: u32,
        salt: u32,
    ) -> Result<Arc<dyn File>> {
        let bytes = self.options.segment_bytes;
        let file = match spare {
            Some(spare) => {
                self.disk.rename(&spare.path, unfinished)?;
                match spare.file {
                    Some(file) => file,
                    None => self.disk.open_log(unfinished, self.options.appending)?,
                }
            }
            None => self.disk.create_log(unfinished, bytes, self.options.appending)?,
        };
        file.write_at(&encode_segment(number, salt), 0)?;
        file.sync_data()?;
        self.disk.rename(unfinished, path)?;
        self.disk.sync_dir(&self.dir)?;
        Ok(file)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in [Name::Log(7), Name::Spare(0), Name::New(u32::MAX)] {
            let path = name.path(Path::new("/x"));
            assert_eq!(Name::parse(path.file_name().unwrap().to_str().unwrap()), Some(name));
        }
        for other in ["7.log", "0000000007.logs", "000000000x.log", "9999999999.log", "LOCK"] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}

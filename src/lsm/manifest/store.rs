//! The open manifest, and the pointer to it.
//!
//! `CURRENT` holds one line, `MANIFEST-NNNNNN crc32c-in-hex-of-the-name`, and is replaced
//! atomically.
//!
//! When an append fails nobody knows whether the edit will be found after a crash. So the file is
//! not written again: the next append first rolls to a new one, written from the state in memory,
//! which lacks the failed edit. Until that roll the sstables of the failed edit must stay, since
//! the old manifest may name them; they are *doubtful*.

use crate::base::{Error, ErrorKind, Result};
use crate::env::disk::{Disk, File, read_exact_at, write_atomic};
use crate::lsm::manifest::edit::{Edit, Field};
use crate::lsm::manifest::record::{HEADER_BYTES, RecordReader, header, put_record};
use crate::lsm::manifest::state::State;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A manifest rolls when its edits exceed both this and twice its snapshot's size, in bytes.
const ROLL_BYTES: u64 = 1 << 20;

/// The name of manifest `number`.
pub fn file_name(number: u64) -> String {
    format!("MANIFEST-{number:06}")
}

/// Reads which manifest is current: `None` if there is no `CURRENT`, so no database.
///
/// # Errors
/// `Corruption` if `CURRENT` is malformed.
pub fn read_current(disk: &dyn Disk, dir: &Path) -> Result<Option<u64>> {
    let path = dir.join("CURRENT");
    if !disk.exists(&path) {
        return Ok(None);
    }
    let file = disk.open(&path)?;
    let mut bytes = vec![0; file.len()?.min(256) as usize];
    read_exact_at(file.as_ref(), &path, &mut bytes, 0)?;
    let number = std::str::from_utf8(&bytes).ok().and_then(parse_current);
    let found = || String::from_utf8_lossy(&bytes).escape_debug().to_string();
    number.map(Some).ok_or_else(|| {
        Error::corruption(&path, 0, "the name of a manifest and its checksum", found())
    })
}

fn parse_current(text: &str) -> Option<u64> {
    let (name, crc) = text.strip_suffix('\n')?.split_once(' ')?;
    let number = name.strip_prefix("MANIFEST-")?.parse().ok()?;
    let whole = format!("{:08x}", crc32c::crc32c(name.as_bytes())) == crc;
    (whole && file_name(number) == name).then_some(number)
}

fn write_current(disk: &dyn Disk, dir: &Path, number: u64) -> Result<()> {
    let name = file_name(number);
    let text = format!("{name} {:08x}\n", crc32c::crc32c(name.as_bytes()));
    write_atomic(disk, &dir.join("CURRENT"), text.as_bytes())
}

/// Reads a manifest whole: the state, and whether its tail was torn.
///
/// # Errors
/// `Corruption` with file and offset.
pub fn load(disk: &dyn Disk, dir: &Path, number: u64) -> Result<(State, bool)> {
    let path = dir.join(file_name(number));
    let mut reader = RecordReader::open(disk, &path)?;
    if reader.number() != number {
        let found = reader.number().to_string();
        return Err(Error::corruption(&path, 0, format!("file number {number}"), found));
    }
    let mut state = State::default();
    while let Some((at, edit)) = reader.next()? {
        state
            .apply(&edit)
            .map_err(|found| reader.damage(at as usize, "an edit that fits", &found))?;
    }
    Ok((state, reader.is_torn()))
}

/// Writes `state` as manifest `number` of `dir`, durably, and points `CURRENT` at it.
pub fn write_snapshot(disk: &dyn Disk, dir: &Path, number: u64, state: &State) -> Result<()> {
    create(disk, dir, number, state).map(|_| ())
}

fn create(disk: &dyn Disk, dir: &Path, number: u64, state: &State) -> Result<Open> {
    let file = disk.create(&dir.join(file_name(number)))?;
    let mut bytes = header(number);
    let mut record = 0;
    for edit in state.to_edits() {
        record += 1;
        put_record(&mut bytes, number, record, &edit);
    }
    file.write_at(&bytes, 0)?;
    file.sync_data()?;
    disk.sync_dir(dir)?;
    write_current(disk, dir, number)?;
    let len = bytes.len() as u64;
    Ok(Open { file, number, len, snapshot_len: len, record })
}

/// The manifest of an open engine.
#[derive(Debug)]
pub struct Manifest {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    state: State,
    open: Option<Open>,
    doubtful: Vec<PathBuf>,
    poison: Option<Error>,
    bytes_written: u64,
}

#[derive(Debug)]
struct Open {
    file: Arc<dyn File>,
    number: u64,
    len: u64,
    snapshot_len: u64,
    record: u64,
}

impl Manifest {
    /// A manifest that goes on from `state`, in a new file.
    pub fn begin(disk: Arc<dyn Disk>, dir: &Path, state: State) -> Result<Manifest> {
        let mut manifest = Manifest::read_only(disk, dir, state);
        manifest.roll()?;
        Ok(manifest)
    }

    /// A manifest that is never written: an append to it is refused by the engine before.
    pub fn read_only(disk: Arc<dyn Disk>, dir: &Path, state: State) -> Manifest {
        Manifest {
            disk,
            dir: dir.to_path_buf(),
            state,
            open: None,
            doubtful: Vec::new(),
            poison: None,
            bytes_written: 0,
        }
    }

    /// What all edits add up to.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes a file number. It becomes durable with the edit that uses it.
    pub fn new_file_number(&mut self) -> u64 {
        self.state.next_file += 1;
        self.state.next_file - 1
    }

    /// Whether a failed sync has stopped all writes.
    pub fn poison(&self) -> Option<&Error> {
        self.poison.as_ref()
    }

    /// Bytes written to manifests since open.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Makes an edit durable, then part of the state. `files` are the sstables it adds.
    ///
    /// # Errors
    /// `OutOfSpace`: the edit has no effect, and a later call may succeed. `Poisoned`: an earlier
    /// write failed otherwise. `Internal` if the edit does not fit the state. Any other: this one
    /// failed, and the manifest is poisoned. On every error the edit is not part of the state and
    /// `files` are kept until that is certain on disk too.
    pub fn append(&mut self, mut edit: Edit, files: &[PathBuf]) -> Result<()> {
        if let Some(poison) = &self.poison {
            return Err(Error::new(ErrorKind::Poisoned, poison.message()));
        }
        edit.fields.insert(0, Field::NextFile(self.state.next_file));
        let mut next = self.state.clone();
        next.apply(&edit).map_err(|what| Error::new(ErrorKind::Internal, what))?;
        let done = self.write(&edit);
        match done {
            Ok(()) => {
                self.state = next;
                Ok(())
            }
            Err(error) => {
                self.open = None;
                self.doubtful.extend_from_slice(files);
                if error.kind() != ErrorKind::OutOfSpace {
                    self.poison = Some(error.context("the manifest can no longer be written"));
                }
                Err(error)
            }
        }
    }

    fn write(&mut self, edit: &Edit) -> Result<()> {
        let room = |open: &Open| open.len < open.snapshot_len * 2 + ROLL_BYTES;
        if !self.open.as_ref().is_some_and(room) {
            self.roll()?;
        }
        let Some(open) = &mut self.open else {
            return Err(Error::new(ErrorKind::Internal, "no manifest is open"));
        };
        let mut bytes = Vec::new();
        put_record(&mut bytes, open.number, open.record + 1, edit);
        open.file.write_at(&bytes, open.len)?;
        open.file.sync_data()?;
        open.record += 1;
        open.len += bytes.len() as u64;
        self.bytes_written += bytes.len() as u64;
        Ok(())
    }

    /// Begins a new file from the state, then removes the old one and what was doubtful.
    fn roll(&mut self) -> Result<()> {
        let number = self.new_file_number();
        let open = create(self.disk.as_ref(), &self.dir, number, &self.state)?;
        self.bytes_written += open.len - HEADER_BYTES;
        if let Some(old) = self.open.replace(open) {
            // Left behind at worst: the next open removes what nothing names.
            _ = self.disk.remove(&self.dir.join(file_name(old.number)));
        }
        for path in self.doubtful.drain(..) {
            _ = self.disk.remove(&path);
        }
        Ok(())
    }
}

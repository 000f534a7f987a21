//! A disk in memory that fails the way disks fail.
//!
//! It keeps two images: what a process sees, and what power loss would leave. Between the two
//! stand the writes not yet synced and the names not yet made durable. A test chooses
//!
//! - a **crash**: [`SimDisk::crash`] gives the disk as it is found afterwards. After a killed
//!   process everything written is there; after power loss every unsynced write is kept, lost or
//!   torn by 512-byte sectors, and of the unsynced names of each folder a prefix is kept;
//! - a **stop**: from the n-th change on ([`SimDisk::stop_at`]) every change fails, so that a
//!   test can crash at each write and sync boundary in turn;
//! - a **fault**: the n-th operation of a kind fails with EIO, ENOSPC, a short read or a failed
//!   sync ([`SimDisk::fail`]). After a failed sync the unsynced bytes never become durable,
//!   though they stay visible: that is what Linux does;
//! - a **capacity**: writes that need more fail with `OutOfSpace` before anything changes.
//!
//! Everything random follows from the seed given to the crash.

use crate::base::{Error, ErrorKind, Result};
use crate::env::disk::{Appending, DirEntry, Disk, File, FileLock};
use crate::env::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod read_only;

use read_only::ReadOnly;

const SECTOR: usize = 512;

/// What befalls the disk in [`SimDisk::crash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process was killed: all that was written is there.
    Process,
    /// Power was lost and nothing unsynced was kept.
    PowerLostClean,
    /// Power was lost; the seed decides what unsynced bytes and names were kept, lost or torn.
    PowerLost(u64),
}

/// An operation that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A read fails with EIO.
    ReadError,
    /// A read gives fewer bytes than the file holds.
    ShortRead,
    /// A write fails with EIO, after half of it was written.
    WriteError,
    /// A write or a creation fails for want of space.
    NoSpace,
    /// A sync of a file fails, and what was not synced never will be.
    SyncError,
}

/// A simulated disk. Clones share it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    changes: u64,
    stop_at: Option<u64>,
    faults: Vec<(Fault, u64)>,
    capacity: Option<u64>,
}

#[derive(Clone, Default)]
struct Inode {
    live: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Clone)]
struct NameChange {
    dir: PathBuf,
    set: Vec<(PathBuf, Option<u64>)>,
}

impl SimDisk {
    /// An empty disk without bounds or faults.
    pub fn new() -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State::default())))
    }

    /// The disk as [`Disk`].
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// The disk as it is found after `crash`. This one is left as it is, for further crashes.
    pub fn crash(&self, crash: Crash) -> SimDisk {
        let state = self.state();
        let mut next = State {
            inodes: state.inodes.clone(),
            next_inode: state.next_inode,
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            pending_names: state.pending_names.clone(),
            dirs: state.dirs.clone(),
            capacity: state.capacity,
            ..State::default()
        };
        if crash != Crash::Process {
            next.lose_power(match crash {
                Crash::PowerLost(seed) => Some(Rng::new(seed)),
                _ => None,
            });
        }
        SimDisk(Arc::new(Mutex::new(next)))
    }

    /// Changes (writes, syncs, creations, renames...) so far.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Makes the change after `changes` more, and all behind it, fail without effect: the moment
    /// of the crash. `None` lets changes through again.
    pub fn stop_at(&self, changes: Option<u64>) {
        let mut state = self.state();
        state.stop_at = changes.map(|n| state.changes + n);
    }

    /// Lets `skip` more operations that `fault` applies to pass, then fails one.
    pub fn fail(&self, fault: Fault, skip: u64) {
        self.state().faults.push((fault, skip));
    }

    /// Forgets all faults that have not come about.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Bounds the bytes of all files together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Bytes of all files together.
    pub fn used_bytes(&self) -> u64 {
        self.state().used()
    }

    /// Flips the bits of `mask` in one byte of a file, durable image included: damage.
    pub fn damage(&self, path: &Path, offset: u64, mask: u8) -> Result<()> {
        let mut state = self.state();
        let id = state.find(path)?;
        let inode = state.inode(id);
        for image in [&mut inode.live, &mut inode.synced] {
            if let Some(byte) = image.get_mut(offset as usize) {
                *byte ^= mask;
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, inode: u64, path: &Path) -> Arc<dyn File> {
        Arc::new(SimFile { disk: self.clone(), inode, path: path.to_path_buf() })
    }

    fn create_with(&self, path: &Path, len: u64) -> Result<Arc<dyn File>> {
        let mut state = self.state();
        state.change(path)?;
        state.take_fault(Fault::NoSpace).map_or(Ok(()), |()| Err(no_space(path)))?;
        state.need_dir(path)?;
        state.need_space(path, len)?;
        let existing = state.names.get(path).copied();
        let id = existing.unwrap_or(state.next_inode);
        if existing.is_none() {
            state.next_inode += 1;
            state.inodes.insert(id, Inode::default());
            state.rename_all(path, vec![(path.to_path_buf(), Some(id))]);
        }
        let inode = state.inode(id);
        inode.apply(Change::SetLen(0));
        inode.apply(Change::SetLen(len));
        drop(state);
        Ok(self.handle(id, path))
    }

    fn open_at(&self, path: &Path) -> Result<Arc<dyn File>> {
        let id = self.state().find(path)?;
        Ok(self.handle(id, path))
    }
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("SimDisk").field("files", &state.names.len()).finish_non_exhaustive()
    }
}

impl State {
    fn find(&self, path: &Path) -> Result<u64> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| Error::io("open", path, io::Error::from(io::ErrorKind::NotFound)))
    }

    fn inode(&mut self, id: u64) -> &mut Inode {
        self.inodes.entry(id).or_default()
    }

    fn used(&self) -> u64 {
        let live: BTreeSet<u64> = self.names.values().copied().collect();
        live.iter().filter_map(|id| self.inodes.get(id)).map(|i| i.live.len() as u64).sum()
    }

    /// Counts a change, or refuses it because the crash has come.
    fn change(&mut self, path: &Path) -> Result<()> {
        if self.stop_at.is_some_and(|at| self.changes >= at) {
            return Err(Error::new(
                ErrorKind::Io,
                format!("the simulated disk has stopped, at {}", path.display()),
            ));
        }
        self.changes += 1;
        Ok(())
    }

    /// Counts down the faults of this kind; gives one whose turn has come.
    fn take_fault(&mut self, fault: Fault) -> Option<()> {
        let mut due = None;
        for (i, (kind, left)) in self.faults.iter_mut().enumerate() {
            if *kind == fault {
                if *left == 0 {
                    due = due.or(Some(i));
                } else {
                    *left -= 1;
                }
            }
        }
        due.map(|i| {
            self.faults.remove(i);
        })
    }

    fn need_dir(&self, path: &Path) -> Result<()> {
        let dir = path.parent().unwrap_or(Path::new(""));
        if dir.as_os_str().is_empty() || self.dirs.contains(dir) {
            return Ok(());
        }
        Err(Error::io("create", path, io::Error::from(io::ErrorKind::NotFound)))
    }

    fn need_space(&self, path: &Path, more: u64) -> Result<()> {
        match self.capacity {
            Some(capacity) if self.used() + more > capacity => Err(no_space(path)),
            _ => Ok(()),
        }
    }

    /// Sets names, to be made durable together with the folder of `of`.
    fn rename_all(&mut self, of: &Path, set: Vec<(PathBuf, Option<u64>)>) {
        apply_names(&mut self.names, &set);
        let dir = of.parent().unwrap_or(Path::new("")).to_path_buf();
        self.pending_names.push(NameChange { dir, set });
    }

    fn lose_power(&mut self, mut rng: Option<Rng>) {
        let pending = std::mem::take(&mut self.pending_names);
        let mut kept: BTreeMap<PathBuf, u64> = BTreeMap::new();
        for change in &pending {
            // Of each folder's changes a prefix is kept: journals keep them in order.
            let left = kept.entry(change.dir.clone()).or_insert_with(|| match &mut rng {
                Some(rng) => rng.below(pending.len() as u64 + 1),
                None => 0,
            });
            if *left > 0 {
                *left -= 1;
                apply_names(&mut self.durable_names, &change.set);
            }
        }
        self.names = self.durable_names.clone();
        // A folder that was removed is there again with what was removed of it and is.
        for path in self.names.keys() {
            self.dirs.extend(path.ancestors().skip(1).map(Path::to_path_buf));
        }
        for inode in self.inodes.values_mut() {
            inode.lose_power(rng.as_mut());
        }
    }
}

fn apply_names(names: &mut BTreeMap<PathBuf, u64>, set: &[(PathBuf, Option<u64>)]) {
    for (path, id) in set {
        match id {
            Some(id) => _ = names.insert(path.clone(), *id),
            None => _ = names.remove(path),
        }
    }
}

fn no_space(path: &Path) -> Error {
    Error::io("write", path, io::Error::from(io::ErrorKind::StorageFull))
}

fn write_into(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if image.len() < offset + bytes.len() {
        image.resize(offset + bytes.len(), 0);
    }
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl Inode {
    fn apply(&mut self, change: Change) {
        match &change {
            Change::Write(offset, bytes) => write_into(&mut self.live, *offset as usize, bytes),
            Change::SetLen(len) => self.live.resize(*len as usize, 0),
        }
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Write(offset, bytes) => {
                    write_into(&mut self.synced, offset as usize, &bytes);
                }
                Change::SetLen(len) => self.synced.resize(len as usize, 0),
            }
        }
    }

    fn lose_power(&mut self, rng: Option<&mut Rng>) {
        let pending = std::mem::take(&mut self.pending);
        if let Some(rng) = rng {
            for change in pending {
                match change {
                    Change::SetLen(len) if rng.one_in(2) => {
                        self.synced.resize(len as usize, 0);
                    }
                    Change::SetLen(_) => {}
                    Change::Write(offset, bytes) => self.tear(rng, offset as usize, &bytes),
                }
            }
        }
        self.live = self.synced.clone();
    }

    /// Keeps all, none, or some sectors of an unsynced write.
    fn tear(&mut self, rng: &mut Rng, offset: usize, bytes: &[u8]) {
        let fate = rng.below(4);
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes.len().min(at + SECTOR - (offset + at) % SECTOR);
            if fate == 0 || (fate == 1 && rng.one_in(2)) {
                write_into(&mut self.synced, offset + at, &bytes[at..end]);
            }
            at = end;
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> Result<Arc<dyn File>> {
        let id = self.state().find(path)?;
        Ok(ReadOnly::of(self.handle(id, path)))
    }

    fn open_write(&self, path: &Path) -> Result<Arc<dyn File>> {
        self.open_at(path)
    }

    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        self.create_with(path, 0)
    }

    fn create_log(&self, path: &Path, bytes: u64, _: Appending) -> Result<Arc<dyn File>> {
        self.create_with(path, bytes)
    }

    fn open_log(&self, path: &Path, _: Appending) -> Result<Arc<dyn File>> {
        self.open_at(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.state();
        state.change(from)?;
        let id = state.find(from)?;
        state.need_dir(to)?;
        state.rename_all(to, vec![(to.to_path_buf(), Some(id)), (from.to_path_buf(), None)]);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        state.change(path)?;
        state.find(path)?;
        state.rename_all(path, vec![(path.to_path_buf(), None)]);
        Ok(())
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> Result<()> {
        let mut state = self.state();
        state.change(new)?;
        let id = state.find(existing)?;
        state.need_dir(new)?;
        if state.names.contains_key(new) {
            return Err(Error::io("link to", new, io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        state.rename_all(new, vec![(new.to_path_buf(), Some(id))]);
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        if state.dirs.contains(path) {
            return Ok(());
        }
        state.change(path)?;
        state.dirs.extend(path.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        state.change(path)?;
        if state.names.keys().any(|p| p.starts_with(path)) {
            let full = io::Error::from(io::ErrorKind::DirectoryNotEmpty);
            return Err(Error::io("remove folder", path, full));
        }
        state.dirs.remove(path);
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        let state = self.state();
        if !state.dirs.contains(dir) {
            return Err(Error::io("list", dir, io::Error::from(io::ErrorKind::NotFound)));
        }
        let is_here = |path: &&PathBuf| path.parent() == Some(dir);
        let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
        let mut entries: Vec<DirEntry> = state
            .names
            .iter()
            .filter(|(path, _)| is_here(path))
            .filter_map(|(path, id)| {
                let len = state.inodes.get(id).map_or(0, |i| i.live.len() as u64);
                Some(DirEntry { name: name(path)?, is_dir: false, len })
            })
            .collect();
        let dirs = state.dirs.iter().filter(is_here);
        entries.extend(
            dirs.filter_map(|path| Some(DirEntry { name: name(path)?, is_dir: true, len: 0 })),
        );
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let mut state = self.state();
        state.change(dir)?;
        let pending = std::mem::take(&mut state.pending_names);
        let (mine, others): (Vec<_>, Vec<_>) = pending.into_iter().partition(|c| c.dir == dir);
        for change in &mine {
            apply_names(&mut state.durable_names, &change.set);
        }
        state.pending_names = others;
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.state();
        state.names.contains_key(path) || state.dirs.contains(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        if !self.state().locks.insert(path.to_path_buf()) {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{} is locked: this data is open elsewhere", path.display()),
            ));
        }
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_path_buf() }))
    }

    fn free_bytes(&self, _dir: &Path) -> Result<u64> {
        let state = self.state();
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl FileLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: u64,
    path: PathBuf,
}

impl File for SimFile {
    fn len(&self) -> Result<u64> {
        Ok(self.disk.state().inode(self.inode).live.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let mut state = self.disk.state();
        if state.take_fault(Fault::ReadError).is_some() {
            return Err(Error::io("read", &self.path, io::Error::other("input/output error")));
        }
        let short = state.take_fault(Fault::ShortRead).is_some();
        let live = &state.inode(self.inode).live;
        let from = live.len().min(offset as usize);
        let mut n = buf.len().min(live.len() - from);
        if short {
            n /= 2;
        }
        buf[..n].copy_from_slice(&live[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut state = self.disk.state();
        state.change(&self.path)?;
        let len = state.inode(self.inode).live.len() as u64;
        let grows = (offset + bytes.len() as u64).saturating_sub(len);
        if grows > 0 {
            state.need_space(&self.path, grows)?;
            if state.take_fault(Fault::NoSpace).is_some() {
                return Err(no_space(&self.path));
            }
        }
        if state.take_fault(Fault::WriteError).is_some() {
            let half = Change::Write(offset, bytes[..bytes.len() / 2].to_vec());
            state.inode(self.inode).apply(half);
            return Err(Error::io("write", &self.path, io::Error::other("input/output error")));
        }
        state.inode(self.inode).apply(Change::Write(offset, bytes.to_vec()));
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut state = self.disk.state();
        state.change(&self.path)?;
        if state.take_fault(Fault::SyncError).is_some() {
            state.inode(self.inode).pending.clear();
            return Err(Error::io("sync", &self.path, io::Error::other("input/output error")));
        }
        state.inode(self.inode).sync();
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut state = self.disk.state();
        state.change(&self.path)?;
        let now = state.inode(self.inode).live.len() as u64;
        state.need_space(&self.path, len.saturating_sub(now))?;
        state.inode(self.inode).apply(Change::SetLen(len));
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! Files of the operating system.
//!
//! | | Linux | macOS |
//! |---|---|---|
//! | sync | `fdatasync` | `fcntl(F_FULLFSYNC)`: its `fsync` leaves data in the drive's cache |
//! | reserve | `fallocate` | `fcntl(F_PREALLOCATE)`, then `ftruncate` |
//! | free space | `statvfs` | `statvfs` |
//!
//! The standard library's `File::sync_data` and `sync_all` already issue `F_FULLFSYNC` on macOS.
//! Where blocks cannot be reserved (macOS here, and file systems without `fallocate`) a segment
//! is filled with zeros and synced instead, which costs time once and keeps the same promise. A
//! segment that is written by calls, and synced often, is filled in any case ([`write_zeros`]).

use crate::base::{Error, ErrorKind, Result};
use crate::env::disk::{Appending, DirEntry, Disk, File, FileLock};
use crate::env::mapped;
use std::fs;
#[cfg(target_os = "linux")]
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The operating system's file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealDisk;

/// A file, read and written by system calls.
#[derive(Debug)]
pub(super) struct RealFile {
    file: fs::File,
    path: PathBuf,
}

impl RealFile {
    /// Where it was opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor, to map.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[derive(Debug)]
struct RealLock {
    _file: fs::File,
}

impl FileLock for RealLock {}

impl RealDisk {
    /// The disk, ready to share.
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(RealDisk)
    }

    fn open_with(
        &self,
        path: &Path,
        what: &str,
        options: &fs::OpenOptions,
    ) -> Result<Arc<RealFile>> {
        let file = options.open(path).map_err(|e| Error::io(what, path, e))?;
        Ok(Arc::new(RealFile { file, path: path.to_path_buf() }))
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> Result<Arc<dyn File>> {
        Ok(self.open_with(path, "open", fs::OpenOptions::new().read(true))?)
    }

    fn open_write(&self, path: &Path) -> Result<Arc<dyn File>> {
        Ok(self.open_with(path, "open", fs::OpenOptions::new().read(true).write(true))?)
    }

    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(self.open_with(path, "create", &options)?)
    }

    fn create_log(&self, path: &Path, bytes: u64, by: Appending) -> Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = self.open_with(path, "create", &options)?;
        let made = reserve(&file, bytes).and_then(|is_written| match by {
            Appending::Call if !is_written => write_zeros(&file, bytes),
            _ => Ok(()),
        });
        match made {
            Ok(()) if by == Appending::Call => Ok(file),
            Ok(()) => mapped::map(file, true),
            Err(e) => {
                _ = fs::remove_file(path);
                Err(e)
            }
        }
    }

    fn open_log(&self, path: &Path, by: Appending) -> Result<Arc<dyn File>> {
        let options = fs::OpenOptions::new().read(true).write(true).to_owned();
        let file = self.open_with(path, "open", &options)?;
        match by {
            Appending::Call => Ok(file),
            Appending::Copy => mapped::map(file, false),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(|e| Error::io("rename", from, e))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(|e| Error::io("remove", path, e))
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> Result<()> {
        fs::hard_link(existing, new).map_err(|e| Error::io("link to", new, e))
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        self.create_dir_all(parent)?;
        match fs::create_dir(path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create folder", path, e));
            }
            _ => {}
        }
        // A folder that is there is taken for durable by whoever asks next.
        self.sync_dir(parent).inspect_err(|_| _ = fs::remove_dir(path))
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        fs::remove_dir(path).map_err(|e| Error::io("remove folder", path, e))
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        let failed = |e| Error::io("list", dir, e);
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // A file may be removed while we look; it is then simply not there.
            let Ok(meta) = entry.metadata() else { continue };
            // A name that is not UTF-8 is not one of ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            entries.push(DirEntry { name, is_dir: meta.is_dir(), len: meta.len() });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let failed = |e| Error::io("sync folder", dir, e);
        fs::File::open(dir).map_err(failed)?.sync_all().map_err(failed)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(|e| Error::io("open", path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "{} is locked: another process has this data open; stop it first",
                    path.display()
                ),
            )),
            Err(fs::TryLockError::Error(e)) => Err(Error::io("lock", path, e)),
        }
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64> {
        let stat = rustix::fs::statvfs(dir).map_err(|e| Error::io("examine", dir, e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Gives `file` a length of `bytes` with every block reserved; says whether all were written to.
fn reserve(file: &RealFile, bytes: u64) -> Result<bool> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::FallocateFlags;
        match rustix::fs::fallocate(&file.file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(false),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(e) => return Err(Error::io("reserve space for", &file.path, e.into())),
        }
    }
    write_zeros(file, bytes).map(|()| true)
}

/// Writes every block of a file once. The first sync of what is written to a block that was only
/// reserved has the file system note that too, in its journal, and so costs up to twice as much.
/// In steps, so that the syncs of others need not wait behind all of it.
fn write_zeros(file: &RealFile, bytes: u64) -> Result<()> {
    let zeros = vec![0u8; 256 << 10];
    let mut at = 0;
    while at < bytes {
        let n = (bytes - at).min(zeros.len() as u64);
        file.write_at(&zeros[..n as usize], at)?;
        file.sync_data()?;
        at += n;
    }
    Ok(())
}

impl File for RealFile {
    fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|e| Error::io("examine", &self.path, e))?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read", &self.path, e)),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|e| Error::io("write", &self.path, e))
    }

    #[cfg(target_os = "linux")]
    fn write_parts_at(&self, parts: &[&[u8]], mut offset: u64) -> Result<()> {
        let mut parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut parts[..];
        // Empty parts at the front go; nothing written for what is left means no progress.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let written = match rustix::io::pwritev(&self.file, rest, offset) {
                Ok(0) => Err(std::io::ErrorKind::WriteZero.into()),
                Err(rustix::io::Errno::INTR) => continue,
                written => written.map_err(std::io::Error::from),
            };
            let n = written.map_err(|e| Error::io("write", &self.path, e))?;
            offset += n as u64;
            IoSlice::advance_slices(&mut rest, n);
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn write_parts_at(&self, parts: &[&[u8]], mut offset: u64) -> Result<()> {
        for part in parts {
            self.write_at(part, offset)?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn write_back(&self, offset: u64, bytes: u64) {
        crate::env::write_back::write_back(&self.file, offset, bytes);
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("sync", &self.path, e))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|e| Error::io("resize", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_one_behind_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("parts");
        let file = RealDisk.create(&path).unwrap();
        file.write_parts_at(&[b"", b"one", b"", b" and two", b""], 2).unwrap();
        file.write_parts_at(&[b"", b""], 500).unwrap();
        file.write_parts_at(&[], 500).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"\0\0one and two");
    }

    #[test]
    fn a_second_locker_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = RealDisk.lock(&path).unwrap();
        assert_eq!(RealDisk.lock(&path).unwrap_err().kind(), ErrorKind::Refused);
        drop(held);
        RealDisk.lock(&path).unwrap();
    }

    #[test]
    fn a_log_segment_has_its_length_and_zeros_from_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let file = RealDisk.create_log(&path, 1 << 20, Appending::Copy).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        file.write_at(b"hello", (1 << 20) - 5).unwrap();
        let mut buf = [1u8; 16];
        assert_eq!(file.read_at(&mut buf, (1 << 20) - 10).unwrap(), 10);
        assert_eq!(&buf[..10], b"\0\0\0\0\0hello");
    }
}

//! The seam between the engine and storage.
//!
//! Durability, as every implementation promises it:
//! - Bytes written are seen by later reads at once, and survive the death of the process
//!   (`kill -9`), though not of the machine.
//! - After [`File::sync_data`] returns `Ok`, the bytes written before it and the file's length
//!   survive power loss, provided the file's name does.
//! - A name (created, renamed, linked, removed) survives power loss after [`Disk::sync_dir`] of
//!   its folder. Before that either state may be found, but a rename is never half done.
//! - After a failed sync nothing is known of the bytes written since the last good one. The
//!   caller must not retry the sync and take its success for theirs.

use crate::base::Result;
use std::path::Path;
use std::sync::Arc;

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without the folder.
    pub name: String,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// Length in bytes of a file.
    pub len: u64,
}

/// How what is appended to a log segment gets into the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Appending {
    /// Copied into a mapping: no system call. A sync takes the pages it writes out of the mapping,
    /// and each costs a fault when it is written again.
    #[default]
    Copy,
    /// By a call for each append: cheaper where every few of them are followed by a sync.
    Call,
}

/// Files by path. Implemented by `RealDisk` and `SimDisk`.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// Opens a file to read. `NotFound` if it is not there.
    fn open(&self, path: &Path) -> Result<Arc<dyn File>>;
    /// Opens an existing file to read and write.
    fn open_write(&self, path: &Path) -> Result<Arc<dyn File>>;
    /// Creates a file to read and write; an existing one is emptied.
    fn create(&self, path: &Path) -> Result<Arc<dyn File>>;
    /// Creates a log segment of `bytes` zero bytes whose blocks are reserved on the device, so
    /// that a write inside it cannot run out of space.
    /// `OutOfSpace` if the device has no room, in which case no file is left behind.
    fn create_log(&self, path: &Path, bytes: u64, by: Appending) -> Result<Arc<dyn File>>;
    /// Opens a segment made by [`Disk::create_log`] to read and write, at its present length.
    fn open_log(&self, path: &Path, by: Appending) -> Result<Arc<dyn File>>;
    /// Renames a file, replacing what had the new name.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Gives a file a second name.
    fn hard_link(&self, existing: &Path, new: &Path) -> Result<()>;
    /// Creates a folder and those above it; one that exists is fine. The new names are durable
    /// on return.
    fn create_dir_all(&self, path: &Path) -> Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> Result<()>;
    /// The names in a folder, sorted. `NotFound` if it is not there.
    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> Result<()>;
    /// Whether a file or folder is there.
    fn exists(&self, path: &Path) -> bool;
    /// Takes an exclusive lock on a file (created if need be), held until the guard is dropped or
    /// the process ends. `Refused` if another holder has it.
    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>>;
    /// Bytes that can still be written to the device under `dir`.
    fn free_bytes(&self, dir: &Path) -> Result<u64>;
}

/// An open file. All methods may be called from many threads.
pub trait File: Send + Sync + std::fmt::Debug {
    /// Length in bytes.
    fn len(&self) -> Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads at `offset` into `buf`; gives the number of bytes read, less than asked only at the
    /// end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize>;
    /// Writes all of `bytes` at `offset`. On error a part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()>;
    /// As [`File::write_at`] of the parts one behind the other.
    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> Result<()> {
        self.write_at(&parts.concat(), offset)
    }
    /// Says that a part that was written stays as it is and will be synced: its way to the device
    /// may begin.
    fn write_back(&self, _offset: u64, _bytes: u64) {}
    /// Says that its first `bytes` will soon be written: what can be done for that ahead may be.
    fn warm(&self, _bytes: u64) {}
    /// Says that it will not be written to for a while: memory kept for that may go.
    fn rest(&self) {}
    /// Makes content and length durable.
    fn sync_data(&self) -> Result<()>;
    /// Cuts or grows the file to `len` bytes; new ones are zero.
    fn set_len(&self, len: u64) -> Result<()>;
}

/// A held lock; dropping it releases the lock.
pub trait FileLock: Send + Sync + std::fmt::Debug {}

/// Reads exactly `buf.len()` bytes at `offset`, or fails with a corruption error that names the
/// file as `path`.
pub fn read_exact_at(file: &dyn File, path: &Path, buf: &mut [u8], offset: u64) -> Result<()> {
    let got = file.read_at(buf, offset)?;
    if got == buf.len() {
        return Ok(());
    }
    Err(crate::base::Error::corruption(
        path,
        offset,
        format!("{} bytes", buf.len()),
        format!("{got} before the end of the file"),
    ))
}

/// Writes `bytes` as the whole of `path` so that after a crash either the old or the new content
/// is found: a temporary file, synced, renamed over it, and the folder synced.
pub fn write_atomic(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let file = disk.create(&temporary)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    drop(file);
    disk.rename(&temporary, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

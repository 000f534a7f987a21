//! A log segment whose writes are copies into a shared mapping instead of system calls.
//!
//! - **Durability.** A `MAP_SHARED` mapping is the page cache: what was copied into it survives
//!   the death of the process, and on Linux `fdatasync` of the file writes pages dirtied through
//!   the mapping. macOS keeps the two apart on paper, so there `msync(MS_SYNC)` comes first, then
//!   `F_FULLFSYNC`; that branch has been compiled for nowhere but written from the manual.
//! - **Reading** goes through `pread`. Linux and macOS have one page cache for both, so a read
//!   sees what was copied; and a failing device gives an error there instead of a signal.
//! - **SIGBUS** is what the kernel sends when a page of the mapping cannot be had. It has three
//!   causes. No room for the block: impossible, for `Disk::create_log` reserves every block
//!   before mapping (copy-on-write file systems such as btrfs and ZFS weaken that promise, and a
//!   full device may then end the process). A file shorter than the mapping: [`File::set_len`]
//!   refuses to cut it, and the data folder is locked against other processes. A device that
//!   fails to read the page in: the process dies, which stops its writes as a failed write must.
//!   In none of them is anything acknowledged that is not in the page cache.
//! - **Fallback.** Where mapping fails the plain file is used: slower, the same promises.

#![expect(unsafe_code, reason = "a mapping is a raw pointer: two calls and one copy")]

use crate::base::{Error, ErrorKind, Result};
use crate::env::disk::File;
use crate::env::real_disk::RealFile;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// A file whose first `mapping_bytes` are written through a mapping.
#[derive(Debug)]
pub(super) struct MappedFile {
    file: Arc<RealFile>,
    mapping_bytes: u64,
    // Two threads that wrote the same bytes at once would be a data race; the lock excludes it.
    mapping: Mutex<Mapping>,
}

/// `file`, mapped over its present length if that is possible.
pub(super) fn map(file: Arc<RealFile>) -> Result<Arc<dyn File>> {
    let bytes = file.len()?;
    let Ok(len) = usize::try_from(bytes) else { return Ok(file) };
    match Mapping::new(&file, len) {
        Some(mapping) => {
            Ok(Arc::new(MappedFile { file, mapping_bytes: bytes, mapping: Mutex::new(mapping) }))
        }
        None => Ok(file),
    }
}

/// A writable shared mapping of the first `len` bytes of a file.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to no thread; `base` is only used by `copy_in` (which needs
// `&mut`) and `drop`.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(file: &RealFile, len: usize) -> Option<Mapping> {
        if len == 0 {
            return None;
        }
        // SAFETY: the address is left to the kernel, so no existing memory is replaced; the
        // length is not zero; the result is only used within `len` bytes and until `drop`.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file.as_fd(),
                0,
            )
        };
        Some(Mapping { base: NonNull::new(base.ok()?.cast())?, len })
    }

    /// Copies `bytes` to `offset`; the caller has checked that they end within the mapping, and
    /// it is asserted again here because memory safety rests on it.
    fn copy_in(&mut self, bytes: &[u8], offset: usize) {
        assert!(offset.checked_add(bytes.len()).is_some_and(|end| end <= self.len));
        // SAFETY: the assertion keeps the destination inside the mapping, which lives until
        // `drop`; no Rust reference into it ever exists, so `bytes` cannot overlap it; `&mut`
        // excludes another copy at the same time.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.base.as_ptr().add(offset),
                bytes.len(),
            );
        }
    }

    /// Hands dirty pages to the file where the sync of the file does not do so by itself.
    #[cfg(not(target_os = "linux"))]
    fn flush(&self) -> std::io::Result<()> {
        // SAFETY: the range is exactly the live mapping.
        unsafe {
            rustix::mm::msync(self.base.as_ptr().cast(), self.len, rustix::mm::MsyncFlags::SYNC)?;
        }
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are those of the mapping made in `new`, unmapped only here.
        // A failure leaves address space in use and nothing else.
        _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

impl File for MappedFile {
    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.write_parts_at(&[bytes], offset)
    }

    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> Result<()> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let end = offset.checked_add(bytes as u64);
        if end.is_none_or(|end| end > self.mapping_bytes) {
            return self.file.write_parts_at(parts, offset);
        }
        let mut mapping = self.mapping.lock().unwrap_or_else(PoisonError::into_inner);
        // `offset` is below the mapping's length, which is a usize.
        let mut at = offset as usize;
        for part in parts {
            mapping.copy_in(part, at);
            at += part.len();
        }
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        #[cfg(not(target_os = "linux"))]
        self.mapping
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flush()
            .map_err(|e| Error::io("sync the mapping of", self.file.path(), e))?;
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> Result<()> {
        if len < self.mapping_bytes {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{} is mapped and cannot be cut", self.file.path().display()),
            ));
        }
        self.file.set_len(len)
    }
}

#[cfg(test)]
mod tests {
    use crate::base::ErrorKind;
    use crate::env::disk::Disk;
    use crate::env::{RealDisk, Rng};

    #[test]
    fn mapped_writes_equal_plain_writes_through_every_door() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let bytes = 64 * 1024;
        let mapped = RealDisk.create_log(&path, bytes).unwrap();
        let mut model = vec![0u8; bytes as usize];
        let mut rng = Rng::new(7);
        for _ in 0..500 {
            let len = rng.below(3000) as usize;
            let at = rng.below(bytes - len as u64 + 1) as usize;
            rng.fill(&mut model[at..at + len]);
            let (head, tail) = model[at..at + len].split_at(rng.below(len as u64 + 1) as usize);
            mapped.write_parts_at(&[head, tail], at as u64).unwrap();
        }
        mapped.sync_data().unwrap();
        let mut seen = vec![0u8; bytes as usize];
        assert_eq!(mapped.read_at(&mut seen, 0).unwrap(), seen.len());
        assert!(seen == model);
        assert!(std::fs::read(&path).unwrap() == model);
        let again = RealDisk.open_log(&path).unwrap();
        again.write_at(b"again", 100).unwrap();
        mapped.read_at(&mut seen[..5], 100).unwrap();
        assert_eq!(&seen[..5], b"again");
    }

    #[test]
    fn a_mapped_file_is_not_cut_and_grows_by_plain_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let mapped = RealDisk.create_log(&path, 4096).unwrap();
        assert_eq!(mapped.set_len(100).unwrap_err().kind(), ErrorKind::Refused);
        mapped.write_at(b"over the end", 4090).unwrap();
        let mut seen = [0u8; 12];
        assert_eq!(mapped.read_at(&mut seen, 4090).unwrap(), 12);
        assert_eq!(&seen, b"over the end");
        assert!(mapped.write_at(b"x", u64::MAX).is_err());
    }
}

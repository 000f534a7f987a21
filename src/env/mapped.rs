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
//! - **Warmth.** The first touch of a page of a fresh file costs 2.2 µs: a fault, a page, its
//!   zeros, its block. Zeros written by a plain write are put into large pages, 64 KiB at once, and
//!   mapped by one more call, at a third of that; the file's bytes are the same before and after.
//!   In a file that is used again the call alone is left; it makes the pages dirty a little before
//!   they would be.
//!   A segment is warmed just ahead of what is written to it, and some of the first one before
//!   anybody writes.
//! - **Letting go.** A sync makes each page that is mapped read-only first, and has every processor
//!   that runs the process stop to forget it, page by page. What is full is therefore unmapped
//!   before a sync, all at once: nobody writes there again.
//! - **Fallback.** Where mapping fails the plain file is used: slower, the same promises.

#![expect(unsafe_code, reason = "a mapping is a raw pointer: two calls and one copy")]

use crate::base::{Error, ErrorKind, Result};
use crate::env::disk::File;
use crate::env::prefetch::prefetch_for_write;
use crate::env::real_disk::RealFile;
use crate::env::spin::Spin;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
#[cfg(target_os = "linux")]
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

/// A file whose first `mapping_bytes` are written through a mapping.
#[derive(Debug)]
pub(super) struct MappedFile {
    file: Arc<RealFile>,
    mapping_bytes: u64,
    // Two threads that wrote the same bytes at once would be a data race; the lock excludes it.
    mapping: Spin<Mapping>,
}

/// Advice begins at a page; where pages are larger it is refused and the pages touched one by one.
const PAGE_BYTES: usize = 4096;
/// What is warmed at once; what is written by a call of its own from here on.
const WARM_BYTES: usize = 64 << 10;
/// Full pages that a sync finds mapped one by one; more are let go first.
#[cfg(target_os = "linux")]
const FULL_BYTES_MAX: usize = 64 << 10;
static ZEROS: [u8; WARM_BYTES] = [0; WARM_BYTES];

/// `file`, mapped over its present length if that is possible. `is_fresh` says that its bytes are
/// zeros, none of them written.
pub(super) fn map(file: Arc<RealFile>, is_fresh: bool) -> Result<Arc<dyn File>> {
    let bytes = file.len()?;
    let Ok(len) = usize::try_from(bytes) else { return Ok(file) };
    match Mapping::new(&file, len, is_fresh) {
        Some(mapping) => {
            Ok(Arc::new(MappedFile { file, mapping_bytes: bytes, mapping: Spin::new(mapping) }))
        }
        None => Ok(file),
    }
}

/// A writable shared mapping of the first `len` bytes of a file.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
    /// What lies before this offset is mapped, or was written past the mapping.
    warm: usize,
    /// Whether what lies behind is as the file was made: zeros, none of them written.
    is_fresh: bool,
    /// Where the last copy ended.
    end: usize,
    /// Full pages before this offset are unmapped.
    gone: usize,
}

// SAFETY: the mapping belongs to no thread; its bytes are only changed by `copy_in` (which needs
// `&mut`), and given up by `drop`; what else uses `base` gives the kernel advice.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(file: &RealFile, len: usize, is_fresh: bool) -> Option<Mapping> {
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
        let is_fresh = is_fresh && cfg!(target_os = "linux");
        Some(Mapping {
            base: NonNull::new(base.ok()?.cast())?,
            len,
            warm: 0,
            is_fresh,
            end: 0,
            gone: 0,
        })
    }

    /// Warms the pages up to `end`, and some more.
    #[cold]
    fn warm_to(&mut self, file: &RealFile, end: usize) {
        while self.warm < end {
            let from = self.warm;
            let zeros = &ZEROS[..WARM_BYTES.min(self.len - from)];
            self.warm = from + zeros.len();
            // If either fails the pages are touched one by one, as they were to be anyhow.
            if !self.is_fresh || file.write_at(zeros, from as u64).is_ok() {
                self.populate(from - from % PAGE_BYTES);
            }
        }
    }

    /// Maps the pages from offset `from`, of a page, up to `warm`.
    #[cfg(target_os = "linux")]
    fn populate(&self, from: usize) {
        use rustix::mm::{Advice, madvise};
        // SAFETY: the range lies within the mapping, and not one byte of it changes.
        _ = unsafe {
            let start = self.base.as_ptr().add(from).cast();
            madvise(start, self.warm - from, Advice::LinuxPopulateWrite)
        };
    }

    #[cfg(not(target_os = "linux"))]
    fn populate(&self, _from: usize) {}

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
        self.end = offset + bytes.len();
        self.gone = self.gone.min(offset);
    }

    /// Full pages that are still mapped, if they are many; they count as gone from here on.
    #[cfg(target_os = "linux")]
    fn full(&mut self) -> Option<Range<usize>> {
        let (from, to) = (self.gone.next_multiple_of(PAGE_BYTES), self.end - self.end % PAGE_BYTES);
        let is_much = to.saturating_sub(from) > FULL_BYTES_MAX;
        is_much.then(|| {
            self.gone = to;
            from..to
        })
    }

    /// Takes the pages out of the process's memory. They are the kernel's, changed or not, and
    /// come back when they are touched.
    #[cfg(target_os = "linux")]
    fn let_go(&mut self) {
        (self.warm, self.is_fresh, self.end, self.gone) = (0, false, 0, 0);
        unmap(self.base, 0..self.len);
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

/// Takes a part of the mapping at `base` out of the process's memory. REQUIRES: it is mapped.
#[cfg(target_os = "linux")]
fn unmap(base: NonNull<u8>, part: Range<usize>) {
    use rustix::mm::{Advice, madvise};
    // SAFETY: within a live mapping, which is shared and of a file: its bytes are not lost, and who
    // writes to it meanwhile has the page back. No reference into it exists.
    _ = unsafe { madvise(base.as_ptr().add(part.start).cast(), part.len(), Advice::LinuxDontNeed) };
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
        let mut mapping = self.mapping.lock();
        if end.is_none_or(|end| end > self.mapping_bytes) {
            // Some of it may lie in the mapping: from here on nothing there is known to be zeros.
            mapping.is_fresh = false;
            return self.file.write_parts_at(parts, offset);
        }
        // `offset` is below the mapping's length, which is a usize.
        let mut at = offset as usize;
        if bytes >= WARM_BYTES {
            // One call for so much costs less than the faults.
            mapping.warm = mapping.warm.max(at + bytes);
            return self.file.write_parts_at(parts, offset);
        }
        if mapping.warm < at + bytes {
            mapping.warm_to(&self.file, at + bytes);
        }
        for part in parts {
            mapping.copy_in(part, at);
            at += part.len();
        }
        // What comes next is likely as long and stands here.
        prefetch_for_write(mapping.base.as_ptr().wrapping_add(at), bytes);
        Ok(())
    }

    fn warm(&self, bytes: u64) {
        let mut mapping = self.mapping.lock();
        let end = mapping.len.min(usize::try_from(bytes).unwrap_or(usize::MAX));
        mapping.warm_to(&self.file, end);
    }

    fn rest(&self) {
        #[cfg(target_os = "linux")]
        self.mapping.lock().let_go();
    }

    fn sync_data(&self) -> Result<()> {
        #[cfg(target_os = "linux")]
        {
            let (base, full) = {
                let mut mapping = self.mapping.lock();
                (mapping.base, mapping.full())
            };
            // Without the lock, which who appends would wait for; `self` keeps the mapping.
            full.into_iter().for_each(|full| unmap(base, full));
        }
        #[cfg(not(target_os = "linux"))]
        self.mapping
            .lock()
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
    use crate::env::disk::{Appending, Disk};
    use crate::env::{RealDisk, Rng};

    #[test]
    fn mapped_writes_equal_plain_writes_through_every_door() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let bytes = 200 * 1024;
        let mapped = RealDisk.create_log(&path, bytes, Appending::Copy).unwrap();
        let mut model = vec![0u8; bytes as usize];
        let mut rng = Rng::new(7);
        for _ in 0..500 {
            let len = if rng.one_in(50) { 64 << 10 } else { rng.below(3000) } as usize;
            let at = rng.below(bytes - len as u64 + 1) as usize;
            rng.fill(&mut model[at..at + len]);
            let (head, tail) = model[at..at + len].split_at(rng.below(len as u64 + 1) as usize);
            mapped.write_parts_at(&[head, tail], at as u64).unwrap();
            if rng.one_in(20) {
                mapped.sync_data().unwrap();
            }
        }
        mapped.rest();
        mapped.sync_data().unwrap();
        let mut seen = vec![0u8; bytes as usize];
        assert_eq!(mapped.read_at(&mut seen, 0).unwrap(), seen.len());
        assert!(seen == model);
        assert!(std::fs::read(&path).unwrap() == model);
        let again = RealDisk.open_log(&path, Appending::Copy).unwrap();
        again.write_at(b"again", 100).unwrap();
        mapped.read_at(&mut seen[..5], 100).unwrap();
        assert_eq!(&seen[..5], b"again");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_sync_lets_go_of_what_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let mapped = RealDisk.create_log(&path, 4 << 20, Appending::Copy).unwrap();
        let resident = || {
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let own = maps.split_once(path.to_str().unwrap()).unwrap().1;
            let rss = own.split_once("Rss:").unwrap().1.split_whitespace().next().unwrap();
            rss.parse::<usize>().unwrap() << 10
        };
        for i in 0..1024 {
            mapped.write_at(&[7; 1024], i * 1024).unwrap();
        }
        assert!(resident() >= 1 << 20);
        mapped.sync_data().unwrap();
        // What was warmed ahead stays.
        assert!(resident() <= 128 << 10, "{} bytes", resident());
        mapped.write_at(&[8; 1024], 0).unwrap();
        assert_eq!(std::fs::read(&path).unwrap()[..1025], [&[8; 1024][..], &[7]].concat());
    }

    #[test]
    fn a_mapped_file_is_not_cut_and_grows_by_plain_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let mapped = RealDisk.create_log(&path, 4096, Appending::Copy).unwrap();
        assert_eq!(mapped.set_len(100).unwrap_err().kind(), ErrorKind::Refused);
        mapped.write_at(b"over the end", 4090).unwrap();
        mapped.write_at(b"x", 0).unwrap();
        let mut seen = [0u8; 12];
        assert_eq!(mapped.read_at(&mut seen, 4090).unwrap(), 12);
        assert_eq!(&seen, b"over the end");
        assert!(mapped.write_at(b"x", u64::MAX).is_err());
    }
}

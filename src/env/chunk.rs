//! Memory by the chunk, past what the allocator does with small pieces.
//!
//! The first touch of fresh memory costs 2 µs for 4 KiB; two thirds of that if many pages are
//! touched by one call; and a tenth in huge pages, which the kernel maps and clears as one, unless
//! the machine is virtual and its host has to find them first.

#![expect(unsafe_code, reason = "hands out raw memory that lives as long as its chunk")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::Range;
use std::ptr::NonNull;

/// Alignment of a chunk.
const ALIGN: usize = 8;
/// What the kernel can map, and touch for the first time, as one page.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;
/// The smallest page there is.
const SMALL_PAGE_BYTES: usize = 4 << 10;

/// Memory that nobody else has; given back when it is dropped.
#[derive(Debug)]
pub struct Chunk {
    base: NonNull<u8>,
    bytes: usize,
    /// Whether it is from the kernel itself.
    is_mapped: bool,
}

// SAFETY: a chunk owns its memory, as a Box does; nothing about it belongs to a thread.
unsafe impl Send for Chunk {}

impl Chunk {
    /// `bytes` of memory, aligned to 8, whose content is initialised but any: in huge pages if it
    /// is a multiple of them. Aborts, as the allocator does, if there is none. REQUIRES: `bytes`
    /// is not 0.
    pub fn new(bytes: usize) -> Chunk {
        assert!(bytes > 0);
        match mapped::IS_POSSIBLE && bytes.is_multiple_of(HUGE_PAGE_BYTES) {
            true => Chunk::mapped(bytes, mapped::huge(bytes)),
            false => Chunk::allocated(bytes),
        }
    }

    /// As [`Chunk::new`], for memory that does not grow: in huge pages as far as they are full, and
    /// what is left over in small ones, so that it takes no more than 4 KiB beyond `bytes`.
    pub fn exact(bytes: usize) -> Chunk {
        assert!(bytes > 0);
        if !mapped::IS_POSSIBLE || bytes < HUGE_PAGE_BYTES {
            return Chunk::allocated(bytes);
        }
        let bytes = bytes.next_multiple_of(SMALL_PAGE_BYTES);
        Chunk::mapped(bytes, mapped::huge(bytes))
    }

    fn mapped(bytes: usize, base: Option<NonNull<u8>>) -> Chunk {
        match base {
            Some(base) => Chunk { base, bytes, is_mapped: true },
            None => handle_alloc_error(Chunk::layout(bytes)),
        }
    }

    fn allocated(bytes: usize) -> Chunk {
        let layout = Chunk::layout(bytes);
        // SAFETY: the size is not zero.
        match NonNull::new(unsafe { alloc_zeroed(layout) }) {
            Some(base) => Chunk { base, bytes, is_mapped: false },
            None => handle_alloc_error(layout),
        }
    }

    /// Where it starts.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// How long it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Touches the pages of a part of it, so that nobody waits for them one by one later.
    pub fn touch(&self, part: Range<usize>) {
        assert!(part.start <= part.end && part.end <= self.bytes);
        if self.is_mapped && part.start.is_multiple_of(SMALL_PAGE_BYTES) {
            // SAFETY: within the chunk.
            mapped::touch(unsafe { self.base.add(part.start) }, part.len());
        }
    }

    fn layout(bytes: usize) -> Layout {
        #[expect(clippy::expect_used, reason = "sizes come from lengths of slices in memory")]
        Layout::from_size_align(bytes, ALIGN).expect("a size that fits the address space")
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.is_mapped {
            return mapped::unmap(self.base, self.bytes);
        }
        // SAFETY: allocated in `new` with the same layout, and freed only here.
        unsafe { dealloc(self.base.as_ptr(), Chunk::layout(self.bytes)) }
    }
}

/// Chunks of pages come from the kernel and go back to it, past the allocator, which would keep
/// some of what it once gave.
#[cfg(all(target_os = "linux", not(miri)))]
mod mapped {
    use super::HUGE_PAGE_BYTES;
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    use std::ptr::{NonNull, null_mut};

    pub(super) const IS_POSSIBLE: bool = true;

    /// Touches the pages from `at` on, which is the start of one.
    pub(super) fn touch(at: NonNull<u8>, bytes: usize) {
        // SAFETY: memory of a chunk, of which no byte changes. Where the kernel does not know the
        // advice, pages are touched as they are used.
        _ = unsafe { madvise(at.as_ptr().cast(), bytes, Advice::LinuxPopulateWrite) };
    }

    /// Memory in huge pages, and in small ones behind the last full one; `None` if there is none to
    /// be had. REQUIRES: `bytes` is a multiple of small pages.
    pub(super) fn huge(bytes: usize) -> Option<NonNull<u8>> {
        // One that is not aligned by chance is cut out of one twice as long.
        for len in [bytes, bytes + HUGE_PAGE_BYTES] {
            let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
            // SAFETY: fresh memory at an address that the kernel chooses.
            let base = unsafe { mmap_anonymous(null_mut(), len, access, flags) }.ok()?;
            let before = base.align_offset(HUGE_PAGE_BYTES);
            let base = base.cast::<u8>();
            let cut = |from: usize, len: usize| {
                if len > 0 {
                    // SAFETY: a part of what was just mapped and that nobody has.
                    _ = unsafe { munmap(base.add(from).cast(), len) };
                }
            };
            if before + bytes > len {
                cut(0, len);
                continue;
            }
            cut(0, before);
            cut(before + bytes, len - before - bytes);
            // SAFETY: within what was mapped; advice changes no byte. Without it the memory is the
            // same, only slower to touch.
            unsafe {
                _ = madvise(base.add(before).cast(), bytes, Advice::LinuxHugepage);
                return NonNull::new(base.add(before));
            }
        }
        None
    }

    /// Gives memory of [`huge`] back. REQUIRES: it is from there, and given back once.
    pub(super) fn unmap(base: NonNull<u8>, bytes: usize) {
        // SAFETY: as the caller promises.
        _ = unsafe { munmap(base.as_ptr().cast(), bytes) };
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod mapped {
    use std::ptr::NonNull;

    pub(super) const IS_POSSIBLE: bool = false;

    pub(super) fn touch(_at: NonNull<u8>, _bytes: usize) {}

    pub(super) fn huge(_bytes: usize) -> Option<NonNull<u8>> {
        None
    }

    pub(super) fn unmap(_base: NonNull<u8>, _bytes: usize) {}
}

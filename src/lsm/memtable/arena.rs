//! Memory for a memtable's nodes: large chunks, cut from the front, given back to a pool whole.
//!
//! The first touch of fresh memory costs more than the insert that needs it (2 µs for 4 KiB), so
//! chunks of a dropped memtable serve the next one, and chunks are the size of a huge page where
//! they may be. A memtable begins with small chunks, for many stay small.

#![expect(unsafe_code, reason = "hands out raw memory that lives as long as its arena")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

/// Alignment of all memory handed out.
const ALIGN: usize = 8;
/// Bytes of the first chunk of a memtable; each further one is four times as large until it has
/// the pool's size.
const FIRST_CHUNK_BYTES: usize = 64 << 10;
/// What the kernel can map, and touch for the first time, as one page.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Memory shared by memtables. Clones share it.
#[derive(Debug, Clone)]
pub struct ArenaPool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    chunk_bytes: usize,
    free_max: usize,
    free: Mutex<Vec<Chunk>>,
}

impl ArenaPool {
    /// A pool of chunks of `chunk_bytes` each that keeps at most `free_bytes` of unused ones.
    pub fn new(chunk_bytes: usize, free_bytes: usize) -> ArenaPool {
        let chunk_bytes = chunk_bytes.clamp(1 << 10, 1 << 26).next_multiple_of(ALIGN);
        let free_max = free_bytes / chunk_bytes;
        ArenaPool(Arc::new(Pool { chunk_bytes, free_max, free: Mutex::new(Vec::new()) }))
    }

    /// Bytes of chunks that wait for use.
    pub fn free_bytes(&self) -> usize {
        self.0.free.lock().unwrap_or_else(PoisonError::into_inner).len() * self.0.chunk_bytes
    }

    fn take(&self) -> Chunk {
        let kept = self.0.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| Chunk::new(self.0.chunk_bytes))
    }

    fn give(&self, chunks: &mut Vec<Chunk>) {
        let mut free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in chunks.drain(..) {
            if chunk.bytes == self.0.chunk_bytes && free.len() < self.0.free_max {
                free.push(chunk);
            }
        }
    }
}

impl Default for ArenaPool {
    /// Chunks of 2 MiB, and up to 64 MiB of them kept.
    fn default() -> ArenaPool {
        ArenaPool::new(HUGE_PAGE_BYTES, 64 << 20)
    }
}

#[derive(Debug)]
struct Chunk {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a chunk owns its memory, as a Box does; nothing about it belongs to a thread.
unsafe impl Send for Chunk {}

impl Chunk {
    fn new(bytes: usize) -> Chunk {
        let layout = Chunk::layout(bytes);
        // SAFETY: the size is not zero: `ArenaPool::new` and `Arena::alloc` ask for more.
        let base = unsafe { alloc(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        #[cfg(target_os = "linux")]
        if bytes.is_multiple_of(HUGE_PAGE_BYTES) {
            use rustix::mm::{Advice, madvise};
            // Without it the memory is the same, only slower to touch.
            // SAFETY: the memory just allocated, of which the advice changes no byte.
            _ = unsafe { madvise(base.as_ptr().cast(), bytes, Advice::LinuxHugepage) };
        }
        Chunk { base, bytes }
    }

    fn layout(bytes: usize) -> Layout {
        let align = if bytes.is_multiple_of(HUGE_PAGE_BYTES) { HUGE_PAGE_BYTES } else { ALIGN };
        #[expect(clippy::expect_used, reason = "sizes come from lengths of slices in memory")]
        Layout::from_size_align(bytes, align).expect("a size that fits the address space")
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout, and freed only here.
        unsafe { dealloc(self.base.as_ptr(), Chunk::layout(self.bytes)) }
    }
}

/// The memory of one memtable. What it hands out stays where it is until the arena is dropped.
#[derive(Debug)]
pub(super) struct Arena {
    pool: ArenaPool,
    chunks: Vec<Chunk>,
    /// What is left of the current chunk.
    at: *mut u8,
    left: usize,
    /// Size of the next chunk.
    next_bytes: usize,
}

// SAFETY: `at` points into a chunk that the arena owns.
unsafe impl Send for Arena {}

impl Arena {
    pub(super) fn new(pool: &ArenaPool) -> Arena {
        let next_bytes = FIRST_CHUNK_BYTES.min(pool.0.chunk_bytes);
        Arena { pool: pool.clone(), chunks: Vec::new(), at: ptr::null_mut(), left: 0, next_bytes }
    }

    /// `bytes` of uninitialised memory, aligned to 8. REQUIRES: `bytes` > 0.
    pub(super) fn alloc(&mut self, bytes: usize) -> NonNull<u8> {
        debug_assert!(bytes > 0);
        let bytes = bytes.next_multiple_of(ALIGN);
        if bytes > self.left {
            if bytes > self.next_bytes / 4 {
                // A chunk of its own, so that the current one goes on being filled.
                let chunk = Chunk::new(bytes);
                let base = chunk.base;
                self.chunks.push(chunk);
                return base;
            }
            self.begin_chunk();
        }
        // `at` is not null: `left` is not 0 here.
        let memory = NonNull::new(self.at).unwrap_or(NonNull::dangling());
        // SAFETY: `bytes` are left of the chunk.
        self.at = unsafe { self.at.add(bytes) };
        self.left -= bytes;
        memory
    }

    #[cold]
    fn begin_chunk(&mut self) {
        let pooled = self.pool.0.chunk_bytes;
        let chunk = match self.next_bytes == pooled {
            true => self.pool.take(),
            false => Chunk::new(self.next_bytes),
        };
        self.next_bytes = (self.next_bytes * 4).min(pooled);
        (self.at, self.left) = (chunk.base.as_ptr(), chunk.bytes);
        self.chunks.push(chunk);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.pool.give(&mut self.chunks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_apart_and_reused() {
        let pool = ArenaPool::new(1024, 4096);
        let mut arena = Arena::new(&pool);
        let mut taken: Vec<(usize, usize)> = Vec::new();
        for bytes in (1..200).chain([5000, 8, 300, 257]) {
            let at = arena.alloc(bytes).as_ptr() as usize;
            assert_eq!(at % ALIGN, 0);
            assert!(taken.iter().all(|(from, to)| at + bytes <= *from || *to <= at));
            taken.push((at, at + bytes));
        }
        drop(arena);
        assert_eq!(pool.free_bytes(), 4096);
        let mut arena = Arena::new(&pool);
        arena.alloc(8);
        assert_eq!(pool.free_bytes(), 3072);
    }
}

//! Memory for a memtable's nodes: large chunks, cut from the front, given back to a pool whole.
//!
//! The first touch of fresh memory costs more than the insert that needs it (2 µs for 4 KiB), so
//! chunks of a dropped memtable serve the next one.

#![expect(unsafe_code, reason = "hands out raw memory that lives as long as its arena")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// Alignment of all memory handed out.
const ALIGN: usize = 8;

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
    /// Chunks of 256 KiB, and up to 64 MiB of them kept.
    fn default() -> ArenaPool {
        ArenaPool::new(256 << 10, 64 << 20)
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
        match NonNull::new(base) {
            Some(base) => Chunk { base, bytes },
            None => handle_alloc_error(layout),
        }
    }

    fn layout(bytes: usize) -> Layout {
        #[expect(clippy::expect_used, reason = "sizes come from lengths of slices in memory")]
        Layout::from_size_align(bytes, ALIGN).expect("a size that fits the address space")
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
    /// Bytes of the current chunk (the one at `current`) that are handed out.
    used: usize,
    current: Option<usize>,
}

impl Arena {
    pub(super) fn new(pool: &ArenaPool) -> Arena {
        Arena { pool: pool.clone(), chunks: Vec::new(), used: 0, current: None }
    }

    /// `bytes` of uninitialised memory, aligned to 8. REQUIRES: `bytes` > 0.
    pub(super) fn alloc(&mut self, bytes: usize) -> NonNull<u8> {
        debug_assert!(bytes > 0);
        let bytes = bytes.next_multiple_of(ALIGN);
        let chunk_bytes = self.pool.0.chunk_bytes;
        if bytes > chunk_bytes / 4 {
            // A chunk of its own, so that the current one goes on being filled.
            let chunk = Chunk::new(bytes);
            let base = chunk.base;
            self.chunks.push(chunk);
            return base;
        }
        let at = match self.current {
            Some(at) if chunk_bytes - self.used >= bytes => at,
            _ => {
                self.chunks.push(self.pool.take());
                self.used = 0;
                self.chunks.len() - 1
            }
        };
        self.current = Some(at);
        // SAFETY: `used + bytes` is within the chunk, checked above or because it is fresh.
        let memory = unsafe { self.chunks[at].base.add(self.used) };
        self.used += bytes;
        memory
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

//! Memory for a memtable's nodes: large chunks, cut from the front, given back to a pool whole.
//!
//! The first touch of fresh memory costs more than the insert that needs it (2 µs for 4 KiB), so
//! chunks of a dropped memtable serve the next one, and chunks are the size of a huge page where
//! they may be. A memtable begins with a small one, for many stay small.

#![expect(unsafe_code, reason = "hands out raw memory that lives as long as its arena")]

use crate::env::chunk::{Chunk, HUGE_PAGE_BYTES};
use crate::env::prefetch_for_write;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Alignment of all memory handed out.
const ALIGN: usize = 8;
/// Bytes of the first chunk of a memtable; each further one has the pool's size.
const FIRST_CHUNK_BYTES: usize = 64 << 10;
/// What [`ArenaPool::warm`] touches.
const WARM_BYTES: usize = 2 * HUGE_PAGE_BYTES;

/// Memory shared by memtables. Clones share it.
#[derive(Debug, Clone)]
pub struct ArenaPool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    chunk_bytes: usize,
    bytes_max: usize,
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    /// Of the pool's size, or a multiple of it.
    chunks: Vec<Chunk>,
    /// Bytes of them.
    bytes: usize,
    /// Bytes of those that memtables have.
    taken: usize,
}

impl Free {
    /// The chunk at `i`, taken out.
    fn remove(&mut self, i: usize) -> Chunk {
        let chunk = self.chunks.swap_remove(i);
        self.bytes -= chunk.bytes();
        chunk
    }
}

impl ArenaPool {
    /// A pool of chunks of `chunk_bytes` each that keeps unused ones as long as all chunks, used
    /// ones included, take no more than `bytes_max`.
    pub fn new(chunk_bytes: usize, bytes_max: usize) -> ArenaPool {
        let chunk_bytes = chunk_bytes.clamp(1 << 10, 1 << 26).next_multiple_of(ALIGN);
        ArenaPool(Arc::new(Pool { chunk_bytes, bytes_max, free: Mutex::default() }))
    }

    /// A pool for memtables of `bytes_max` together: of huge pages, if there is room for several.
    pub fn for_budget(bytes_max: u64) -> ArenaPool {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let chunk_bytes =
            if bytes_max >= 16 * HUGE_PAGE_BYTES { HUGE_PAGE_BYTES } else { 256 << 10 };
        ArenaPool::new(chunk_bytes, bytes_max)
    }

    /// Takes what a memtable needs first from the kernel, some [`WARM_BYTES`], and touches it, if
    /// the pool is of huge pages: the first writes need not wait for zeros. Some 0.3 ms.
    pub fn warm(&self) {
        if self.0.chunk_bytes != HUGE_PAGE_BYTES {
            return;
        }
        let chunks: Vec<Chunk> =
            (0..WARM_BYTES / HUGE_PAGE_BYTES).map(|_| Chunk::new(HUGE_PAGE_BYTES)).collect();
        chunks.iter().for_each(|chunk| chunk.touch(0..chunk.bytes()));
        let mut free = self.free();
        free.bytes += WARM_BYTES;
        free.chunks.extend(chunks);
    }

    /// Bytes of chunks that wait for use.
    pub fn free_bytes(&self) -> usize {
        self.free().bytes
    }

    /// Whether a chunk of so many bytes comes from the pool, and goes back to it.
    fn has(&self, bytes: usize) -> bool {
        bytes.is_multiple_of(self.0.chunk_bytes)
    }

    /// A chunk of `bytes`. REQUIRES: the pool has such.
    fn take(&self, bytes: usize) -> Chunk {
        let mut dropped = Vec::new();
        let mut free = self.free();
        free.taken += bytes;
        if let Some(i) = free.chunks.iter().rposition(|chunk| chunk.bytes() == bytes) {
            return free.remove(i);
        }
        // A new one takes the place of those that wait for a use that has passed.
        while free.taken + free.bytes > self.0.bytes_max && !free.chunks.is_empty() {
            dropped.push(free.remove(0));
        }
        drop(free);
        drop(dropped);
        Chunk::new(bytes)
    }

    fn give(&self, chunks: &mut Vec<Chunk>) {
        let mut free = self.free();
        for chunk in chunks.drain(..).filter(|chunk| self.has(chunk.bytes())) {
            free.taken = free.taken.saturating_sub(chunk.bytes());
            if free.taken + free.bytes + chunk.bytes() <= self.0.bytes_max {
                free.bytes += chunk.bytes();
                free.chunks.push(chunk);
            }
        }
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.0.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ArenaPool {
    /// As for memtables of 64 MiB.
    fn default() -> ArenaPool {
        ArenaPool::for_budget(64 << 20)
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
                // So that the current one goes on being filled.
                return self.own_chunk(bytes);
            }
            self.begin_chunk();
        }
        // `at` is not null: `left` is not 0 here.
        let memory = NonNull::new(self.at).unwrap_or(NonNull::dangling());
        // SAFETY: `bytes` are left of the chunk.
        self.at = unsafe { self.at.add(bytes) };
        self.left -= bytes;
        // The next record is likely as long: its memory comes while this one is dealt with.
        prefetch_for_write(self.at, bytes);
        memory
    }

    /// Memory for a table of `bytes`, and how much it is: in huge pages, if it is large.
    pub(super) fn alloc_table(&mut self, bytes: usize) -> (NonNull<u8>, usize) {
        let is_large = self.pool.0.chunk_bytes == HUGE_PAGE_BYTES && bytes > HUGE_PAGE_BYTES / 4;
        let bytes = if is_large { bytes.next_multiple_of(HUGE_PAGE_BYTES) } else { bytes };
        (if is_large { self.own_chunk(bytes) } else { self.alloc(bytes) }, bytes)
    }

    /// A chunk of its own for `bytes`.
    #[cold]
    fn own_chunk(&mut self, bytes: usize) -> NonNull<u8> {
        // By its size the pool knows what is of it.
        let chunk = if self.pool.has(bytes) { self.pool.take(bytes) } else { Chunk::new(bytes) };
        let base = chunk.base();
        self.chunks.push(chunk);
        base
    }

    #[cold]
    fn begin_chunk(&mut self) {
        let pooled = self.pool.0.chunk_bytes;
        let chunk = match self.next_bytes == pooled {
            true => self.pool.take(pooled),
            false => Chunk::new(self.next_bytes),
        };
        debug_assert!(self.next_bytes <= pooled);
        self.next_bytes = pooled;
        (self.at, self.left) = (chunk.base().as_ptr(), chunk.bytes());
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

    #[test]
    fn large_tables_take_huge_pages_that_serve_again() {
        let pool = ArenaPool::for_budget(64 << 20);
        pool.warm();
        let mut free = Vec::new();
        for _ in 0..2 {
            let mut arena = Arena::new(&pool);
            for bytes in [8, 1000, 100 << 10, 600 << 10, 2 << 20, 3 << 20, 1 << 10] {
                let (table, taken) = arena.alloc_table(bytes);
                assert!(taken >= bytes && taken < bytes + HUGE_PAGE_BYTES);
                // SAFETY: `taken` bytes that nobody else has.
                unsafe { table.write_bytes(7, taken) }
            }
            drop(arena);
            free.push(pool.free_bytes());
        }
        // 2 MiB for the small ones, and 2, 2 and 4 for tables: all made once.
        assert_eq!(free, [10 << 20, 10 << 20]);
    }
}

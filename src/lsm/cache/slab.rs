//! Memory for cached blocks.
//!
//! The first touch of fresh memory from the allocator costs as much as reading the block that goes
//! there. Here blocks of about one size share a chunk, which is touched some pages at a time, at
//! two thirds of the price. (Huge pages would be cheaper still where the machine has them at hand;
//! a virtual one that must first ask its host for them pays several times as much.) A chunk whose
//! blocks are all gone goes back to the system. What chunks take beyond their blocks is bounded when
//! one is added, and past that bound a block comes from the allocator; what of it comes about when
//! blocks go is [`Slab::excess_bytes`], and the owner's to bring down by letting more of them go.

#![expect(unsafe_code, reason = "hands out parts of chunks that live as long as the slab")]

use crate::env::Chunk;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sizes of pieces are multiples of it.
const STEP: usize = 256;
/// A larger piece comes from the allocator.
const PIECE_MAX: usize = 16 << 10;
const CHUNK_BYTES: usize = 1 << 20;
/// What is touched at once.
const TOUCH_BYTES: usize = 128 << 10;

/// Chunks, cut into pieces.
#[derive(Debug)]
pub struct Slab {
    /// How many bytes chunks may have that are not in use.
    spare_max: u64,
    /// How many more they have.
    excess: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By size in steps.
    sizes: Vec<Size>,
    /// By their number; what is vacant is reused.
    chunks: Vec<Option<Used>>,
    vacant: Vec<u32>,
    chunk_bytes: u64,
    piece_bytes: u64,
}

/// Pieces of one size.
#[derive(Debug, Default)]
struct Size {
    free: Vec<Free>,
    /// The chunk of which pieces are being cut.
    cut: Option<Cut>,
}

#[derive(Debug)]
struct Cut {
    chunk: u32,
    /// Where the next piece starts.
    at: usize,
    touched: usize,
}

#[derive(Debug, Clone, Copy)]
struct Free {
    at: NonNull<u8>,
    chunk: u32,
}

// SAFETY: a free piece is memory of a chunk that the slab owns.
unsafe impl Send for Free {}

#[derive(Debug)]
struct Used {
    pages: Chunk,
    /// Pieces of it in use.
    taken: usize,
}

/// Bytes that belong to whoever has it.
#[derive(Debug)]
pub struct Piece {
    at: NonNull<u8>,
    len: usize,
    home: Home,
}

#[derive(Debug)]
enum Home {
    /// A vector of this capacity.
    Heap { capacity: usize },
    /// A piece of `steps` steps in a chunk.
    Slab { slab: Arc<Slab>, chunk: u32, steps: u32 },
}

// SAFETY: a piece owns its bytes, as a vector does.
unsafe impl Send for Piece {}
// SAFETY: shared, it only gives shared references to them.
unsafe impl Sync for Piece {}

impl Slab {
    /// A slab whose chunks have at most `spare_max` bytes that no piece uses; if that is little it
    /// takes all from the allocator.
    pub(super) fn new(spare_max: u64) -> Arc<Slab> {
        Arc::new(Slab { spare_max, excess: AtomicU64::new(0), state: Mutex::default() })
    }

    /// `len` bytes of any content.
    pub fn take(self: &Arc<Slab>, len: usize) -> Piece {
        let steps = len.div_ceil(STEP).max(1);
        if steps * STEP > PIECE_MAX || self.spare_max < CHUNK_BYTES as u64 {
            return Piece::from(vec![0; len]);
        }
        let mut state = self.state();
        let Some(Free { at, chunk }) = state.take(steps, self.spare_max) else {
            drop(state);
            return Piece::from(vec![0; len]);
        };
        let home = Home::Slab { slab: Arc::clone(self), chunk, steps: steps as u32 };
        Piece { at, len, home }
    }

    /// Bytes that chunks have and no piece uses, above those that they may have.
    pub(super) fn excess_bytes(&self) -> u64 {
        self.excess.load(Ordering::Relaxed)
    }

    fn give(&self, piece: Free, steps: usize) {
        let mut state = self.state();
        state.give(piece, steps);
        let spare = state.chunk_bytes - state.piece_bytes;
        self.excess.store(spare.saturating_sub(self.spare_max), Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, steps: usize, spare_max: u64) -> Option<Free> {
        if self.sizes.len() <= steps {
            self.sizes.resize_with(steps + 1, Size::default);
        }
        let piece = match self.sizes[steps].free.pop() {
            Some(piece) => piece,
            None => self.cut(steps, spare_max)?,
        };
        self.piece_bytes += (steps * STEP) as u64;
        if let Some(Some(used)) = self.chunks.get_mut(piece.chunk as usize) {
            used.taken += 1;
        }
        Some(piece)
    }

    /// Cuts a piece off a chunk.
    fn cut(&mut self, steps: usize, spare_max: u64) -> Option<Free> {
        let bytes = steps * STEP;
        let is_left = |cut: &Cut| cut.at + bytes <= CHUNK_BYTES;
        if !self.sizes[steps].cut.as_ref().is_some_and(is_left) {
            if self.chunk_bytes + CHUNK_BYTES as u64 - self.piece_bytes > spare_max {
                return None;
            }
            let chunk = self.add_chunk();
            self.sizes[steps].cut = Some(Cut { chunk, at: 0, touched: 0 });
        }
        let cut = self.sizes[steps].cut.as_mut()?;
        let pages = &self.chunks.get(cut.chunk as usize)?.as_ref()?.pages;
        let (from, to) = (cut.at, cut.at + bytes);
        if to > cut.touched {
            let ahead = (cut.touched + TOUCH_BYTES).min(CHUNK_BYTES);
            pages.touch(cut.touched..ahead);
            cut.touched = ahead;
        }
        cut.at = to;
        // SAFETY: it ends within the chunk.
        Some(Free { at: unsafe { pages.base().add(from) }, chunk: cut.chunk })
    }

    fn add_chunk(&mut self) -> u32 {
        let number = self.vacant.pop().unwrap_or(self.chunks.len() as u32);
        self.chunk_bytes += CHUNK_BYTES as u64;
        let used = Some(Used { pages: Chunk::of_small_pages(CHUNK_BYTES), taken: 0 });
        match self.chunks.get_mut(number as usize) {
            Some(place) => *place = used,
            None => self.chunks.push(used),
        }
        number
    }

    fn give(&mut self, piece: Free, steps: usize) {
        self.piece_bytes -= (steps * STEP) as u64;
        let size = &mut self.sizes[steps];
        size.free.push(piece);
        let Some(place) = self.chunks.get_mut(piece.chunk as usize) else { return };
        let Some(used) = place else { return };
        used.taken -= 1;
        let is_cut = size.cut.as_ref().is_some_and(|cut| cut.chunk == piece.chunk);
        // One empty chunk of a size is kept: the next block is likely of it.
        let pieces = CHUNK_BYTES / (steps * STEP);
        if used.taken == 0 && !is_cut && size.free.len() > 2 * pieces {
            *place = None;
            size.free.retain(|free| free.chunk != piece.chunk);
            self.vacant.push(piece.chunk);
            self.chunk_bytes -= CHUNK_BYTES as u64;
        }
    }
}

impl Piece {
    /// Leaves the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        match &self.home {
            Home::Heap { capacity } => *capacity,
            Home::Slab { steps, .. } => *steps as usize * STEP,
        }
    }
}

impl From<Vec<u8>> for Piece {
    fn from(bytes: Vec<u8>) -> Piece {
        let mut bytes = ManuallyDrop::new(bytes);
        // A vector's pointer is never null.
        let at = NonNull::new(bytes.as_mut_ptr()).unwrap_or(NonNull::dangling());
        Piece { at, len: bytes.len(), home: Home::Heap { capacity: bytes.capacity() } }
    }
}

impl Deref for Piece {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes that belong to the piece.
        unsafe { NonNull::slice_from_raw_parts(self.at, self.len).as_ref() }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the piece is borrowed alone.
        unsafe { NonNull::slice_from_raw_parts(self.at, self.len).as_mut() }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        match &self.home {
            Home::Heap { capacity } => {
                // SAFETY: from a vector of this capacity, of which at least `len` bytes were used.
                drop(unsafe { Vec::from_raw_parts(self.at.as_ptr(), self.len, *capacity) });
            }
            Home::Slab { slab, chunk, steps } => {
                slab.give(Free { at: self.at, chunk: *chunk }, *steps as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;
    use std::collections::VecDeque;

    #[test]
    fn pieces_are_apart_keep_their_bytes_and_leave_bounded_waste() {
        let (room, spare) = (16 * CHUNK_BYTES as u64, 3 * CHUNK_BYTES as u64);
        let slab = Slab::new(spare);
        let mut rng = Rng::new(5);
        let mut held: VecDeque<(Piece, u8)> = VecDeque::new();
        let rounds = if cfg!(miri) { 300 } else { 30_000 };
        for i in 0..rounds {
            // The sizes that are usual change, as with another family's turn.
            let len = 1 + rng.below(1000 + 2 * (i / 5000) * 1000) as usize;
            let (mut piece, mark) = (slab.take(len), i as u8);
            assert_eq!(piece.len(), len);
            piece.fill(mark);
            held.push_back((piece, mark));
            let bytes = |held: &VecDeque<(Piece, u8)>| {
                held.iter().map(|(piece, _)| piece.bytes() as u64).sum::<u64>()
            };
            while i % 50 == 0 && bytes(&held) + slab.excess_bytes() > room {
                // Mostly the oldest, as in a cache.
                let n = if rng.one_in(10) { rng.below(held.len() as u64) as usize } else { 0 };
                let Some((piece, mark)) = held.remove(n) else { break };
                assert!(piece.iter().all(|byte| *byte == mark));
            }
            let state = slab.state();
            assert!(state.chunk_bytes <= room + spare + CHUNK_BYTES as u64);
        }
        drop(held);
        assert_eq!(slab.state().piece_bytes, 0);
    }
}

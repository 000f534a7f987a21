//! A stored value where it was found.

use crate::lsm::sstable::Block;
use bytes::Bytes;
use std::ops::Deref;
use std::sync::Arc;

/// A value from this length on keeps its block alive instead of being copied, which would cost
/// more, if it is [`SHARED_PART`] of the block at least: so much more memory than its own a value
/// may hold, and no more.
const SHARED_MIN: usize = 512;
const SHARED_PART: usize = 8;

/// A stored value, and what keeps it alive.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    bytes: &'a [u8],
    block: Option<&'a Arc<Block>>,
}

/// A part of a block's bytes.
struct Part {
    block: Arc<Block>,
    start: usize,
    end: usize,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.block.data()[self.start..self.end]
    }
}

impl<'a> Stored<'a> {
    /// A value in a block.
    pub fn in_block(block: &'a Arc<Block>, start: usize, end: usize) -> Stored<'a> {
        Stored { bytes: &block.data()[start..end], block: Some(block) }
    }

    /// A value whose memory belongs to somebody who does not share it.
    pub fn elsewhere(bytes: &'a [u8]) -> Stored<'a> {
        Stored { bytes, block: None }
    }

    /// The value without its first `n` bytes, to be kept. REQUIRES: it has as many.
    pub fn keep_from(&self, n: usize) -> Bytes {
        let kept = &self.bytes[n..];
        match self.block {
            Some(block)
                if kept.len() >= SHARED_MIN && kept.len() * SHARED_PART >= block.data().len() =>
            {
                let data = block.data();
                // Both are parts of the block's bytes.
                let start = kept.as_ptr().addr() - data.as_ptr().addr();
                let end = start + kept.len();
                Bytes::from_owner(Part { block: Arc::clone(block), start, end })
            }
            _ => Bytes::copy_from_slice(kept),
        }
    }
}

impl Deref for Stored<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

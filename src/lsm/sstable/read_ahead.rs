//! Blocks one after another, read from the disk many at a time.

use super::format::{Handle, unpack_slice};
use crate::base::Result;
use crate::env::File;
use crate::env::disk::read_exact_at;
use std::path::Path;

const WINDOW_MIN: usize = 16 << 10;
const WINDOW_MAX: usize = 256 << 10;

/// A piece of a file that was read, and how much to read the next time.
#[derive(Default)]
pub(super) struct ReadAhead {
    start: u64,
    bytes: Vec<u8>,
    window: usize,
}

impl ReadAhead {
    /// Forgets what was read, as of another file.
    pub(super) fn forget(&mut self) {
        self.start = 0;
        self.window = 0;
        self.bytes.clear();
    }

    /// Reads, checks and unpacks a block. If it follows what was read last, more than it is read,
    /// twice as much each time, though nothing from `data_end` on.
    pub(super) fn block(
        &mut self,
        file: &dyn File,
        path: &Path,
        handle: Handle,
        data_end: u64,
    ) -> Result<Vec<u8>> {
        let read_end = self.start + self.bytes.len() as u64;
        if handle.offset < self.start || handle.end() > read_end {
            // What was read ahead may end within the block.
            let goes_on = handle.offset >= self.start && handle.offset <= read_end;
            self.window = if goes_on { (self.window * 2).clamp(WINDOW_MIN, WINDOW_MAX) } else { 0 };
            let wanted = (self.window as u64).min(data_end.saturating_sub(handle.offset));
            let len = wanted.max(handle.end() - handle.offset) as usize;
            self.start = handle.offset;
            self.bytes.resize(len, 0);
            if let Err(e) = read_exact_at(file, path, &mut self.bytes, handle.offset) {
                self.bytes.clear();
                return Err(e);
            }
        }
        let from = (handle.offset - self.start) as usize;
        let to = (handle.end() - self.start) as usize;
        unpack_slice(&self.bytes[from..to], path, handle.offset)
    }
}

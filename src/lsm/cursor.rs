//! A position in a sorted run of internal keys.

use crate::base::Result;

/// Walks internal keys in the order of [`crate::lsm::key::compare`]. Implemented by memtables,
/// sstables, levels and merges of these.
///
/// A cursor starts invalid. After an error it is invalid and stays so until the next seek.
pub trait Cursor {
    /// Whether the cursor stands on an entry.
    fn valid(&self) -> bool;
    /// Goes to the first entry.
    fn first(&mut self) -> Result<()>;
    /// Goes to the last entry.
    fn last(&mut self) -> Result<()>;
    /// Goes to the first entry at or behind `target`, an internal key.
    fn seek(&mut self, target: &[u8]) -> Result<()>;
    /// Goes to the last entry at or before `target`, an internal key.
    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()>;
    /// Goes to the next entry. REQUIRES: valid.
    fn next(&mut self) -> Result<()>;
    /// Goes to the previous entry. REQUIRES: valid.
    fn prev(&mut self) -> Result<()>;
    /// The internal key. REQUIRES: valid.
    fn key(&self) -> &[u8];
    /// The stored value. REQUIRES: valid.
    fn value(&self) -> &[u8];
}

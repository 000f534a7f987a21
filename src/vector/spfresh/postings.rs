//! Postings: where they are kept, and what an entry is.
//!
//! ```text
//! a posting: entries, one behind the other
//! an entry
//!   0  8    id, little-endian
//!   8  ..   the row of its code, see code/spectral.rs
//! ```
//!
//! An id may stand in a posting twice; the later entry counts.

use crate::base::{Error, Result};
use std::collections::HashSet;

const ID_BYTES: usize = 8;
/// What is read at once by a disk.
const PAGE_BYTES: usize = 4096;

/// Where postings are kept: in a file of pages, or in memory.
pub trait Postings {
    /// Shows the bytes of each of these postings, in this order; none for one that is not there.
    /// Which are asked for together do not depend on each other: they may be read all at once.
    ///
    /// # Errors
    ///
    /// Those of reading and of `show`.
    fn read(&self, numbers: &[u64], show: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()>;

    /// Appends entries to a posting, which need not be read for it.
    ///
    /// # Errors
    ///
    /// Those of writing.
    fn append(&mut self, number: u64, entries: &[u8]) -> Result<()>;

    /// Writes a posting anew, or removes it.
    ///
    /// # Errors
    ///
    /// Those of writing.
    fn replace(&mut self, number: u64, entries: Option<&[u8]>) -> Result<()>;
}

/// Where the vectors are: shows the vector of each of these ids, as it was inserted, that there is.
pub type FetchLive<'a> = dyn FnMut(&[u64], &mut dyn FnMut(u64, &[f32])) -> Result<()> + 'a;

/// Bytes of an entry whose row has `row_bytes`.
pub(super) fn entry_bytes(row_bytes: usize) -> usize {
    ID_BYTES + row_bytes
}

/// Pages that reading a posting takes.
pub(super) fn pages(bytes: &[u8]) -> u64 {
    bytes.len().div_ceil(PAGE_BYTES).max(1) as u64
}

/// Appends an entry.
pub(super) fn put(id: u64, row: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(row);
}

/// The entries of a posting, in order.
///
/// # Errors
///
/// [`ErrorKind::Corruption`](crate::base::ErrorKind::Corruption) if they are not whole.
pub(super) fn entries(
    number: u64,
    bytes: &[u8],
    row_bytes: usize,
) -> Result<impl DoubleEndedIterator<Item = (u64, &[u8])>> {
    let size = entry_bytes(row_bytes);
    if !bytes.len().is_multiple_of(size) {
        let expected = format!("entries of {size} bytes");
        let found = format!("{} bytes", bytes.len());
        return Err(Error::corruption(format!("vector posting {number}"), 0, expected, found));
    }
    Ok(bytes.chunks_exact(size).map(|entry| {
        let (id, row) = entry.split_at(ID_BYTES);
        let mut number = [0; ID_BYTES];
        number.copy_from_slice(id);
        (u64::from_le_bytes(number), row)
    }))
}

/// An entry for each id of a posting: the last.
pub(super) fn last_entries(
    number: u64,
    bytes: &[u8],
    row_bytes: usize,
) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut met = HashSet::new();
    let mut kept: Vec<(u64, Vec<u8>)> = entries(number, bytes, row_bytes)?
        .rev()
        .filter(|(id, _)| met.insert(*id))
        .map(|(id, row)| (id, row.to_vec()))
        .collect();
    kept.reverse();
    Ok(kept)
}

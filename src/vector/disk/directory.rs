//! The directory: the ids in ascending order, each with its node.
//!
//! ```text
//! a page: 12 bytes each: 8 id, 4 node
//! ```
//!
//! The first id of each page is kept in memory, so that an id costs one read.

use super::pages::{Pages, corrupt, offset, read_payloads};
use super::resident::Resident;
use crate::base::Result;

const ENTRY_BYTES: usize = 12;
type Entry = [u8; ENTRY_BYTES];
/// Entries of a page.
pub(super) const ENTRIES: usize = super::pages::PAYLOAD_BYTES / ENTRY_BYTES;
/// Pages read at once when all are looked through.
const PAGES_AT_ONCE: usize = 64;

/// Appends an entry.
pub(super) fn put(id: u64, node: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&node.to_le_bytes());
}

impl Resident {
    /// The nodes of those of `ids` that are in the segment, in ascending order. Counts pages read.
    pub(super) fn nodes_of(
        &self,
        ids: &[u64],
        from: &dyn Pages,
        pages_read: &mut u64,
    ) -> Result<Vec<u32>> {
        let mut wanted = ids.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let page_of = |id: u64| self.first_ids.partition_point(|first| *first <= id);
        let mut pages: Vec<usize> =
            wanted.iter().map(|id| page_of(*id)).filter(|page| *page > 0).collect();
        pages.dedup();
        let numbers: Vec<u64> = pages.iter().map(|page| *page as u64 - 1).collect();
        let mut nodes = Vec::new();
        // Both are in ascending order: each wanted id is looked for behind the one before.
        let mut ahead = wanted.as_slice();
        self.look_through(&numbers, from, pages_read, &mut |at, mut page| {
            while let (Some(id), Some(last)) = (ahead.first(), page.last()) {
                if *id > read_entry(last).0 {
                    break;
                }
                page = &page[page.partition_point(|entry| read_entry(entry).0 < *id)..];
                if let Some((_, node)) = page.first().map(read_entry).filter(|e| e.0 == *id) {
                    nodes.push(self.checked(node, at)?);
                }
                ahead = &ahead[1..];
            }
            Ok(())
        })?;
        nodes.sort_unstable();
        nodes.dedup();
        Ok(nodes)
    }

    /// The nodes of all ids that `takes` says yes to.
    pub(super) fn nodes_where(
        &self,
        takes: &dyn Fn(u64) -> bool,
        from: &dyn Pages,
        pages_read: &mut u64,
    ) -> Result<Vec<u32>> {
        let numbers: Vec<u64> = (0..self.header.directory_pages()).collect();
        let mut nodes = Vec::new();
        self.look_through(&numbers, from, pages_read, &mut |at, page| {
            for (id, node) in page.iter().map(read_entry) {
                if takes(id) {
                    nodes.push(self.checked(node, at)?);
                }
            }
            Ok(())
        })?;
        Ok(nodes)
    }

    /// About which share of the vectors a filter takes, by the ids that are in memory: the first of
    /// each page. At least one in all.
    pub(super) fn estimated_share(&self, takes: &dyn Fn(u64) -> bool) -> f64 {
        let (asked, all) = (self.first_ids.len().max(1), self.header.nodes.max(1));
        let taken = self.first_ids.iter().filter(|id| takes(**id)).count();
        (taken as f64 / asked as f64).max(1.0 / all as f64)
    }

    /// The number of a node, if there is such a one; it was read in the page `at`.
    fn checked(&self, node: u32, at: u64) -> Result<u32> {
        match (node as usize) < self.header.nodes {
            true => Ok(node),
            false => Err(corrupt(offset(at), "the number of a node", node.to_string())),
        }
    }

    /// Shows `take` the entries of some pages of the directory, with the number of each page.
    pub(super) fn look_through(
        &self,
        numbers: &[u64],
        from: &dyn Pages,
        pages_read: &mut u64,
        take: &mut dyn FnMut(u64, &[Entry]) -> Result<()>,
    ) -> Result<()> {
        let (mut buffer, mut payloads) = (Vec::new(), Vec::new());
        let at = self.header.directory_at();
        for some in numbers.chunks(PAGES_AT_ONCE) {
            let absolute: Vec<u64> = some.iter().map(|number| at + number).collect();
            read_payloads(from, &absolute, &mut buffer, &mut payloads)?;
            *pages_read += some.len() as u64;
            let pages = payloads.chunks_exact(super::pages::PAYLOAD_BYTES);
            for (number, page) in some.iter().zip(pages) {
                let before = *number as usize * ENTRIES;
                let count = ENTRIES.min(self.header.nodes - before);
                let entries = page.as_chunks::<ENTRY_BYTES>().0;
                take(at + number, &entries[..count.min(entries.len())])?;
            }
        }
        Ok(())
    }
}

fn read_entry(entry: &Entry) -> (u64, u32) {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *entry;
    (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u32::from_le_bytes([i, j, k, l]))
}

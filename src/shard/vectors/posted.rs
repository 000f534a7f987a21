//! The part of an index of kind `spfresh` that grows without end: its vectors stand in postings, in a
//! file of pages (`pages`), around centroids in memory.
//!
//! What is in memory, and where the postings lie, is written down as the index bytes of a segment's
//! file (`segment`), whose rows are the vectors in it:
//!
//! ```text
//! 0   8    number in the name of the file of pages
//! 8   8    vectors that the codes were learnt from
//! 16  8    entries whose vectors are gone or others by now, about
//! 24  8    postings, p
//! 32  ..   p times: 8 number, 8 first page, 4 bytes, 4 CRC32C of these
//! ..  4    CRC32C of all that stands before it here
//! ..       the centroids, with checksums of their own: see `vector/spfresh/stored.rs`
//! ```
//! All integers are little-endian.
//!
//! An id that is replaced or deleted leaves the rows at once, and its entries later: searches pass
//! over what has no row. A part whose postings are damaged is *lost*: searches then compare with all
//! of its records, until the background has built it anew from these.

use crate::base::checksum::crc32c_append;
use crate::base::codec::Reader;
use crate::base::{Error, ErrorKind, Result};
use crate::env::Disk;
use crate::op::vector::{IndexKind, IndexSpec};
use crate::shard::vectors::form::metric;
use crate::shard::vectors::limits::VectorLimits;
use crate::shard::vectors::pages::{self, PageFile, Place};
use crate::shard::vectors::rows::Rows;
use crate::vector::{Answer, FetchLive, Postings, SearchRequest, SpfreshConfig, SpfreshIndex};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const HEAD_BYTES: usize = 32;
const PLACE_BYTES: usize = 24;

/// What searches the vectors of a part.
#[derive(Debug)]
pub(super) struct Finder {
    pub(super) index: SpfreshIndex,
    pub(super) pages: PageFile,
    /// Vectors that the codes were learnt from.
    pub(super) learnt_of: u64,
    /// Postings that are still to be looked through for such entries.
    pub(super) sweep: Vec<u64>,
}

/// Vectors in postings.
#[derive(Debug)]
pub(super) struct Posted {
    /// Nothing if it is lost. Shared with the background alone, which changes it, while that learns.
    pub(super) finder: Option<Arc<Finder>>,
    /// Vectors that went or were replaced since their entries were last looked for.
    pub(super) stale: u64,
    pub(super) rows: Rows,
    /// The file that tells of it, its number and length, once there is one.
    pub(super) file: Option<(u64, u64)>,
    /// A search found it damaged.
    damaged: AtomicBool,
}

/// Whether what is sealed stands in postings.
pub(super) fn takes_postings(spec: &IndexSpec) -> bool {
    spec.kind == IndexKind::Spfresh
}

/// The settings of postings.
pub(super) fn config(spec: &IndexSpec, limits: &VectorLimits) -> SpfreshConfig {
    SpfreshConfig {
        posting_bytes: limits.posting_bytes(),
        ef_search: spec.ef_search as usize,
        ..SpfreshConfig::new(spec.dim as usize, metric(spec.metric))
    }
}

impl Posted {
    /// A part without what searches it: that is made in the background.
    pub(super) fn lost(rows: Rows) -> Posted {
        Posted { finder: None, stale: 0, rows, file: None, damaged: AtomicBool::new(false) }
    }

    /// A part that is whole, with so many stale entries.
    pub(super) fn new(finder: Finder, rows: Rows, stale: u64) -> Posted {
        Posted { finder: Some(Arc::new(finder)), stale, ..Posted::lost(rows) }
    }

    /// Forgets an id.
    pub(super) fn remove(&mut self, id: u64) {
        self.stale += u64::from(self.rows.remove(id));
    }

    /// Whether searches have to compare with all records.
    pub(super) fn is_lost(&self) -> bool {
        self.finder.is_none() || self.damaged.load(Ordering::Acquire)
    }

    /// Has it built anew: what is in memory and the postings do not agree, or these are damaged.
    pub(super) fn give_up(&self) {
        self.damaged.store(true, Ordering::Release);
    }

    /// What searches it, to be changed, unless it is lost; and the rows.
    pub(super) fn parts(&mut self) -> Option<(&mut Finder, &mut Rows)> {
        match self.is_lost() {
            true => None,
            false => {
                let finder = self.finder.as_mut().and_then(Arc::get_mut);
                finder.map(|finder| (finder, &mut self.rows))
            }
        }
    }

    /// Postings there are.
    pub(super) fn postings(&self) -> u64 {
        self.finder.as_ref().map_or(0, |finder| finder.index.postings() as u64)
    }

    /// Reads some postings, in the order of their numbers behind `after`; the number of the last of
    /// them. Damage has them built anew.
    pub(super) fn check_some(&self, after: Option<u64>, most: usize) -> Option<u64> {
        let finder = self.finder.as_ref().filter(|_| !self.is_lost())?;
        let numbers = finder.index.posting_numbers();
        let from = numbers.partition_point(|number| after.is_some_and(|after| *number <= after));
        let some = &numbers[from..numbers.len().min(from + most)];
        if finder.pages.read(some, &mut |_, _| Ok(())).is_err() {
            self.give_up();
            return None;
        }
        some.last().copied()
    }

    /// Bytes of its files.
    pub(super) fn disk_bytes(&self) -> u64 {
        let pages = self.finder.as_ref().map_or(0, |finder| finder.pages.file_bytes());
        pages + self.file.map_or(0, |(_, bytes)| bytes)
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes() + self.finder.as_ref().map_or(0, |finder| finder.memory_bytes())
    }

    /// Answers a request; `request.filter` has to say no to ids without a row, but for
    /// [`Filter::All`](crate::vector::Filter::All). `fetch` shows the vectors of those ids that have a
    /// row. Nothing if it is lost, which damage makes it: all records are to be compared with then,
    /// once the index is let go.
    ///
    /// # Errors
    /// What `fetch` gives.
    pub(super) fn answer(
        &self,
        request: &SearchRequest<'_>,
        fetch: &mut FetchLive<'_>,
    ) -> Result<Option<Answer>> {
        let Some(finder) = self.finder.as_ref().filter(|_| !self.is_lost()) else {
            return Ok(None);
        };
        let mut is_fetch = false;
        let mut fetch = |ids: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
            fetch(ids, show).inspect_err(|_| is_fetch = true)
        };
        match finder.index.answer(request, &mut fetch, &finder.pages) {
            Err(e) if !is_fetch && is_damage(&e) => {
                self.give_up();
                Ok(None)
            }
            answer => answer.map(Some),
        }
    }

    /// The index bytes of the file that tells of it. REQUIRES: all changes of pages are written.
    pub(super) fn to_bytes(&self) -> Option<Vec<u8>> {
        let Finder { index, pages, learnt_of, .. } = &**self.finder.as_ref()?;
        let places = pages.places();
        let mut out = Vec::with_capacity(HEAD_BYTES + places.len() * PLACE_BYTES);
        for number in [pages.number, *learnt_of, self.stale, places.len() as u64] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for (number, place) in places {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&place.page.to_le_bytes());
            out.extend_from_slice(&place.bytes.to_le_bytes());
            out.extend_from_slice(&place.sum.to_le_bytes());
        }
        let sum = crc32c_append(0, &out);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend(index.to_bytes());
        Some(out)
    }
}

impl Finder {
    /// A finder without vectors that the codes were not learnt from.
    pub(super) fn new(index: SpfreshIndex, pages: PageFile, learnt_of: u64) -> Finder {
        Finder { index, pages, learnt_of, sweep: Vec::new() }
    }

    /// The finder of the index bytes of a file, and how many entries are stale.
    ///
    /// # Errors
    /// `Corruption` if it, or the file of pages, is damaged or of other settings; what the disk
    /// answers.
    pub(super) fn open(
        disk: &dyn Disk,
        (dir, path): (&Path, &Path),
        bytes: &[u8],
        config: SpfreshConfig,
    ) -> Result<(Finder, u64)> {
        let wrong = |expected: &str, found: String| Error::corruption(path, 0, expected, found);
        let head = read_head(bytes).ok_or_else(|| wrong("places of postings", "others".into()))?;
        let index = SpfreshIndex::from_bytes(&bytes[head.end..])?;
        let (was, numbers) = (*index.config(), index.posting_numbers());
        let is_of = (was.dim, was.metric, was.posting_bytes)
            == (config.dim, config.metric, config.posting_bytes);
        if !is_of || head.placed.keys().any(|n| numbers.binary_search(n).is_err()) {
            return Err(wrong("postings of this index", format!("those of {was:?}")));
        }
        let path = pages::path(dir, head.number);
        let pages = PageFile::new(head.number, disk.open_write(&path)?, path, head.placed)?;
        Ok((Finder::new(index, pages, head.learnt_of), head.stale))
    }

    /// Whether it was made of so few that it ought to be made of more: `rows` are the vectors in it,
    /// of which it is made of `most` at most.
    pub(super) fn is_outgrown(&self, rows: usize, most: usize) -> bool {
        2 * self.learnt_of < most as u64 && rows as u64 > 4 * self.learnt_of
    }

    /// Steps that are due, each of them short: to learn codes is none.
    pub(super) fn steps_due(&self) -> usize {
        self.index.steps_due() - usize::from(self.index.is_worn())
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.index.memory_bytes() + self.pages.memory_bytes() + self.sweep.capacity() * 8
    }
}

/// What stands before the centroids.
struct Head {
    number: u64,
    learnt_of: u64,
    stale: u64,
    placed: HashMap<u64, Place>,
    /// Where they begin.
    end: usize,
}

fn read_head(bytes: &[u8]) -> Option<Head> {
    let mut reader = Reader::new(bytes);
    let (number, learnt_of, stale) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let count = usize::try_from(reader.u64()?).ok()?;
    let end = count.checked_mul(PLACE_BYTES)?.checked_add(HEAD_BYTES)?;
    let (body, rest) = bytes.split_at_checked(end)?;
    let sum = rest.first_chunk::<4>()?;
    if u32::from_le_bytes(*sum) != crc32c_append(0, body) {
        return None;
    }
    let mut placed = HashMap::with_capacity(count);
    for _ in 0..count {
        let number = reader.u64()?;
        let place = Place { page: reader.u64()?, bytes: reader.u32()?, sum: reader.u32()? };
        placed.insert(number, place);
    }
    (placed.len() == count).then_some(Head { number, learnt_of, stale, placed, end: end + 4 })
}

/// Whether an error is of what is derived, which can be derived again.
fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::IndexId;
    use crate::env::SimDisk;
    use crate::op::vector::Metric;
    use crate::shard::vectors::segment::Row;
    use crate::shard::vectors::tests::{apply, create, shard_on};

    /// Each that was put in again counted once more: codes were learnt anew ever later.
    #[test]
    fn what_finds_vectors_knows_how_many_there_are() {
        let limits = VectorLimits { segment_rows: 64, ..VectorLimits::default() };
        let shard = shard_on(&SimDisk::new(), limits);
        let spec = IndexSpec { kind: IndexKind::Spfresh, ..IndexSpec::new("v", 2, Metric::L2) };
        create(&shard, IndexId(3), 3, spec.with_defaults());
        for turn in 0..8 {
            apply(&shard, IndexId(3), 4 + turn, 0..300);
            shard.vectors.settle();
        }
        let index = shard.vectors.get("v").unwrap();
        let state = index.read();
        let posted = state.posted.as_ref().unwrap();
        let known = posted.finder.as_ref().unwrap().index.len();
        assert!((200..=300).contains(&known), "{known} of {}", posted.rows.len());
    }

    /// What lacked in postings that were built, because no record was as the index had it, lacked the
    /// next time too, and the background never came to an end.
    #[test]
    fn postings_are_built_though_the_index_has_many_rows_wrong() {
        let limits = VectorLimits { segment_rows: 64, ..VectorLimits::default() };
        let shard = shard_on(&SimDisk::new(), limits);
        let spec = IndexSpec { kind: IndexKind::Spfresh, ..IndexSpec::new("v", 2, Metric::L2) };
        create(&shard, IndexId(3), 3, spec.with_defaults());
        apply(&shard, IndexId(3), 4, 0..300);
        shard.vectors.settle();
        let index = shard.vectors.get("v").unwrap();
        {
            let mut state = index.write();
            let posted = state.posted.as_mut().unwrap();
            let rows: Vec<Row> = posted.rows.iter().take(100).collect();
            assert_eq!(rows.len(), 100);
            rows.iter().for_each(|(id, seq)| posted.rows.insert(*id, seq + 1));
            posted.give_up();
        }
        assert!((0..1_000).any(|_| !shard.vectors.work_once()), "it never comes to an end");
        assert!(!index.read().posted.as_ref().unwrap().is_lost());
        let checked = index.verify(shard.engine()).unwrap();
        assert_eq!((checked.stored, checked.missing, checked.surplus), (300, 0, 0));
    }
}

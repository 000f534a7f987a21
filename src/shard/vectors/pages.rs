//! The file of an index's postings: pages that are never written over while a file names them.
//!
//! A posting lies in whole pages of its own, which are 4 KiB, one behind the other. Where, its length
//! and its checksum are in memory, and in the file of what belongs to it (`posted`). Changes are
//! collected in memory; a posting that has changed is written to other pages, and the old ones are
//! free for others as soon as no file on disk names them. So what a file names stays as it was, and
//! a crash comes back to it; what it does not name counts for nothing.
//!
//! Free pages at the end of the file are given back to the disk. Postings are written to the first
//! pages that are free; where these are many and the last postings are in nobody's way, they are
//! written anew as if they had changed, so that the end becomes free.

use crate::base::checksum::crc32c_append;
use crate::base::{Error, Result};
use crate::env::File;
use crate::env::disk::read_exact_at;
use crate::vector::{PAGE_BYTES, Postings};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a posting lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its first page.
    pub(super) page: u64,
    pub(super) bytes: u32,
    /// CRC32C of its bytes.
    pub(super) sum: u32,
}

impl Place {
    /// How many pages it has.
    fn count(self) -> u64 {
        u64::from(self.bytes).div_ceil(PAGE_BYTES as u64)
    }

    fn pages(self) -> impl Iterator<Item = u64> {
        (0..self.count()).map(move |at| self.page + at)
    }
}

/// A change that has not been written.
#[derive(Debug)]
enum Change {
    /// Behind what is written.
    Added(Vec<u8>),
    /// In its place.
    Whole(Vec<u8>),
    Gone,
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Change::Added(bytes) | Change::Whole(bytes) => bytes.len() + CHANGE_BYTES,
            Change::Gone => CHANGE_BYTES,
        }
    }
}

/// Memory that a change takes beside its bytes, about.
const CHANGE_BYTES: usize = 48;

/// The file may have one free page for so many others before postings are moved from its end.
const PAGES_PER_FREE: usize = 2;
/// And so many in any case.
const FREE_MIN: usize = 16;
/// Postings that are moved from the end at once: so many, or one of so many.
const MOVED_AT_ONCE: usize = 64;
const POSTINGS_PER_MOVED: usize = 8;
/// One of so many pages may wait for a file that does not name it any more.
const PAGES_PER_HELD: usize = 4;

/// Postings in a file.
#[derive(Debug)]
pub(super) struct PageFile {
    /// The number in its name.
    pub(super) number: u64,
    file: Arc<dyn File>,
    path: PathBuf,
    placed: HashMap<u64, Place>,
    changes: HashMap<u64, Change>,
    changed_bytes: usize,
    /// Pages that nothing names.
    free: BTreeSet<u64>,
    /// Pages that were written since a file last named any.
    new: HashSet<u64>,
    /// Pages of no posting, which a file still names.
    held: Vec<u64>,
    /// Pages of the file.
    end: u64,
    /// How many there were when the last postings were to be moved, until they are.
    moving: Option<u64>,
    /// Free pages at which moving postings brought nothing: there is no room for them in a row.
    stuck: usize,
}

/// The path of a file of pages.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number}.pages"))
}

impl PageFile {
    /// A file in which these postings lie, as another file says.
    ///
    /// # Errors
    /// `Corruption` if two lie in one place, or one behind the end of the file.
    pub(super) fn new(
        number: u64,
        file: Arc<dyn File>,
        path: PathBuf,
        placed: HashMap<u64, Place>,
    ) -> Result<PageFile> {
        let end = file.len()?.div_ceil(PAGE_BYTES as u64);
        let len = file.len()?;
        let mut taken = HashSet::new();
        for place in placed.values() {
            let last = place.page.checked_add(place.count()).filter(|last| *last <= end);
            let at = place.page.saturating_mul(PAGE_BYTES as u64);
            let is_inside = last.is_some() && at + u64::from(place.bytes) <= len;
            if !is_inside || place.pages().any(|page| !taken.insert(page)) {
                let found = format!("{} bytes at page {}", place.bytes, place.page);
                return Err(Error::corruption(&path, at, "pages of one posting each", found));
            }
        }
        let free = (0..end).filter(|page| !taken.contains(page)).collect();
        let (changes, new) = (HashMap::new(), HashSet::new());
        Ok(PageFile {
            number,
            file,
            path,
            placed,
            changes,
            changed_bytes: 0,
            free,
            new,
            held: Vec::new(),
            end,
            moving: None,
            stuck: 0,
        })
    }

    /// Where all postings lie, by number. REQUIRES: all changes are written.
    pub(super) fn places(&self) -> Vec<(u64, Place)> {
        let mut places: Vec<_> = self.placed.iter().map(|(n, place)| (*n, *place)).collect();
        places.sort_unstable_by_key(|(number, _)| *number);
        places
    }

    /// Bytes of changes that are not written.
    pub(super) fn changed_bytes(&self) -> usize {
        self.changed_bytes
    }

    /// Bytes of the file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.end * PAGE_BYTES as u64
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.placed.capacity() * (size_of::<(u64, Place)>() + 1)
            + self.changed_bytes
            + (self.free.len() + self.new.len() + self.held.len()) * 16
    }

    /// Writes the changes of some postings; whether there are more.
    ///
    /// # Errors
    /// `Corruption` if one is damaged to which something is to be added; what the disk answers. What
    /// could not be written is there still.
    pub(super) fn write_some(&mut self, most: usize) -> Result<bool> {
        let mut numbers: Vec<u64> = self.changes.keys().copied().take(most).collect();
        numbers.sort_unstable();
        for number in numbers {
            let mut bytes = Vec::new();
            self.read_one(number, &mut bytes)?;
            let place = match bytes.is_empty() {
                true => None,
                false => Some(self.write_one(&bytes)?),
            };
            if let Some(change) = self.changes.remove(&number) {
                self.changed_bytes -= change.bytes();
            }
            let old = match place {
                Some(place) => self.placed.insert(number, place),
                None => self.placed.remove(&number),
            };
            for page in old.into_iter().flat_map(Place::pages) {
                match self.new.remove(&page) {
                    true => _ = self.free.insert(page),
                    false => self.held.push(page),
                }
            }
        }
        Ok(!self.changes.is_empty())
    }

    fn write_one(&mut self, bytes: &[u8]) -> Result<Place> {
        let place = Place { page: 0, bytes: bytes.len() as u32, sum: crc32c_append(0, bytes) };
        let free = run_of(&self.free, place.count());
        let place = Place { page: free.unwrap_or(self.end), ..place };
        let padded = place.count() as usize * PAGE_BYTES;
        let mut page = Vec::with_capacity(padded);
        page.extend_from_slice(bytes);
        page.resize(padded, 0);
        self.file.write_at(&page, place.page * PAGE_BYTES as u64)?;
        match free {
            Some(_) => place.pages().for_each(|page| _ = self.free.remove(&page)),
            None => self.end += place.count(),
        }
        self.new.extend(place.pages());
        Ok(place)
    }

    /// The file: what is written to it is durable once it is synced.
    pub(super) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// A file names all postings as they are now. REQUIRES: nothing was written since it was made.
    pub(super) fn filed(&mut self) {
        self.new.clear();
    }

    /// Whether a file that names the postings anew would leave much less on disk.
    pub(super) fn is_wasteful(&self) -> bool {
        self.moving.is_some() || self.held.len() > FREE_MIN.max(self.end as usize / PAGES_PER_HELD)
    }

    /// No file on disk names pages of no posting any more: neither now nor after a crash.
    pub(super) fn let_go(&mut self) {
        self.free.extend(self.held.drain(..));
        self.cut();
        if let Some(end) = self.moving.take() {
            self.stuck = if self.end < end { 0 } else { self.free.len() };
        }
        self.move_last();
    }

    /// Gives free pages at the end back. None of them is named by a file, nor holds a posting: what a
    /// crash comes back to is the same, whether they are gone then or not.
    fn cut(&mut self) {
        let mut end = self.end;
        while end > 0 && self.free.contains(&(end - 1)) {
            end -= 1;
        }
        // Where it fails there is only more on disk.
        if end < self.end && self.file.set_len(end * PAGE_BYTES as u64).is_ok() {
            self.end = end;
            _ = self.free.split_off(&end);
        }
    }

    /// Has the last postings written elsewhere, if there is much room before them.
    fn move_last(&mut self) {
        let free = self.free.len();
        let enough = FREE_MIN.max((self.end as usize - free) / PAGES_PER_FREE);
        if free <= enough.max(self.stuck + self.stuck / 4) {
            return;
        }
        self.moving = Some(self.end);
        let most = MOVED_AT_ONCE.max(self.placed.len() / POSTINGS_PER_MOVED).min(free / 2);
        let mut last: Vec<(u64, u64)> =
            self.placed.iter().map(|(number, place)| (place.page, *number)).collect();
        last.sort_unstable_by(|a, b| b.cmp(a));
        for (_, number) in last.into_iter().take(most) {
            if !self.changes.contains_key(&number) {
                self.set(number, Change::Added(Vec::new()));
            }
        }
    }

    /// Appends a posting's bytes.
    fn read_one(&self, number: u64, out: &mut Vec<u8>) -> Result<()> {
        let change = self.changes.get(&number);
        if let Some(place) = self.placed.get(&number)
            && matches!(change, None | Some(Change::Added(_)))
        {
            let from = out.len();
            out.resize(from + place.bytes as usize, 0);
            let at = place.page * PAGE_BYTES as u64;
            read_exact_at(&*self.file, &self.path, &mut out[from..], at)?;
            let sum = crc32c_append(0, &out[from..]);
            if sum != place.sum {
                let (expected, found) =
                    (format!("checksum {:08x}", place.sum), format!("{sum:08x}"));
                return Err(Error::corruption(&self.path, at, expected, found));
            }
        }
        if let Some(Change::Added(bytes) | Change::Whole(bytes)) = change {
            out.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn set(&mut self, number: u64, change: Change) {
        self.changed_bytes += change.bytes();
        if let Some(old) = self.changes.insert(number, change) {
            self.changed_bytes -= old.bytes();
        }
    }
}

impl Postings for PageFile {
    fn read(&self, numbers: &[u64], show: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let mut bytes = Vec::new();
        for number in numbers {
            bytes.clear();
            self.read_one(*number, &mut bytes)?;
            show(*number, &bytes)?;
        }
        Ok(())
    }

    fn append(&mut self, number: u64, entries: &[u8]) -> Result<()> {
        match self.changes.get_mut(&number) {
            Some(Change::Added(bytes) | Change::Whole(bytes)) => {
                bytes.extend_from_slice(entries);
                self.changed_bytes += entries.len();
            }
            Some(Change::Gone) => self.set(number, Change::Whole(entries.to_vec())),
            None => self.set(number, Change::Added(entries.to_vec())),
        }
        Ok(())
    }

    fn replace(&mut self, number: u64, entries: Option<&[u8]>) -> Result<()> {
        let change = entries.map_or(Change::Gone, |entries| Change::Whole(entries.to_vec()));
        self.set(number, change);
        Ok(())
    }
}

/// The first of so many pages in a row.
fn run_of(free: &BTreeSet<u64>, count: u64) -> Option<u64> {
    let (mut first, mut behind) = (0, None);
    for page in free {
        if behind != Some(*page) {
            first = *page;
        }
        behind = Some(page + 1);
        if page + 1 - first == count {
            return Some(first);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;
    use crate::env::sim_disk::Crash;
    use crate::env::{Disk, Rng, SimDisk};
    use std::collections::BTreeMap;

    fn open(disk: &SimDisk, placed: HashMap<u64, Place>) -> Result<PageFile> {
        let path = path(Path::new("/p"), 1);
        let file = match disk.exists(&path) {
            true => disk.open_write(&path).unwrap(),
            false => disk.create(&path).unwrap(),
        };
        PageFile::new(1, file, path, placed)
    }

    fn all(pages: &PageFile, model: &BTreeMap<u64, Vec<u8>>) {
        let numbers: Vec<u64> = (0..40).collect();
        let mut read = BTreeMap::new();
        let show = &mut |number, bytes: &[u8]| {
            assert!(read.insert(number, bytes.to_vec()).is_none());
            Ok(())
        };
        pages.read(&numbers, show).unwrap();
        read.retain(|_, bytes| !bytes.is_empty());
        assert_eq!(&read, model);
    }

    /// Whatever is written, and wherever it stops, what a file named last is there unharmed.
    #[test]
    fn postings_are_what_a_map_is_and_named_ones_stay() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/p")).unwrap();
        let mut rng = Rng::new(9);
        let mut pages = open(&disk, HashMap::new()).unwrap();
        let mut model = BTreeMap::<u64, Vec<u8>>::new();
        let mut named = (HashMap::new(), model.clone());
        let mut most = 0;
        for step in 0..3_000 {
            let number = rng.below(40);
            let mut bytes = vec![0; rng.below(3_000) as usize];
            rng.fill(&mut bytes);
            match rng.below(20) {
                0..8 => {
                    pages.append(number, &bytes).unwrap();
                    model.entry(number).or_default().extend_from_slice(&bytes);
                    model.retain(|_, bytes| !bytes.is_empty());
                }
                8..13 => {
                    pages.replace(number, Some(&bytes)).unwrap();
                    model.insert(number, bytes);
                    model.retain(|_, bytes| !bytes.is_empty());
                }
                13..15 => {
                    pages.replace(number, None).unwrap();
                    model.remove(&number);
                }
                15..18 => _ = pages.write_some(5).unwrap(),
                18 => {
                    while pages.write_some(100).unwrap() {}
                    assert_eq!(pages.changed_bytes(), 0);
                    pages.file().sync_data().unwrap();
                    pages.filed();
                    pages.let_go();
                    named = (pages.places().into_iter().collect(), model.clone());
                }
                _ if step % 3 == 0 => {
                    pages = open(&disk, named.0.clone()).unwrap();
                    model = named.1.clone();
                }
                _ => all(&open(&disk, named.0.clone()).unwrap(), &named.1),
            }
            if step % 7 == 0 {
                all(&pages, &model);
            }
            most = most.max(pages.end);
        }
        // Forty postings of some thousand bytes, twice: pages are used again.
        assert!(most < 1_500, "{most}");
    }

    /// As the owner does it: a file names all, and is durable before pages are let go.
    fn name_all(pages: &mut PageFile) -> HashMap<u64, Place> {
        while pages.write_some(100).unwrap() {}
        pages.file().sync_data().unwrap();
        pages.filed();
        let named = pages.places().into_iter().collect();
        pages.let_go();
        named
    }

    #[test]
    fn free_pages_at_the_end_are_given_back() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/p")).unwrap();
        let mut pages = open(&disk, HashMap::new()).unwrap();
        for number in 0..400 {
            pages.append(number, &[number as u8; 3_000]).unwrap();
        }
        name_all(&mut pages);
        assert_eq!(pages.file_bytes(), 400 * 4096);
        // All but each twentieth go, also of those at the end.
        for number in (0..400).filter(|number| number % 20 != 19) {
            pages.replace(number, None).unwrap();
        }
        name_all(&mut pages);
        let named = name_all(&mut pages);
        // What was moved may still be named where it was, and what it is moved to be free later.
        assert!(pages.file_bytes() <= 60 * 4096, "{}", pages.file_bytes());
        assert_eq!(pages.file().len().unwrap(), pages.file_bytes());
        let mut read = 0;
        let mut check = |number: u64, bytes: &[u8]| {
            assert_eq!((number % 20, bytes), (19, &[number as u8; 3_000][..]));
            read += 1;
            Ok(())
        };
        let numbers: Vec<u64> = (19..400).step_by(20).collect();
        open(&disk, named).unwrap().read(&numbers, &mut check).unwrap();
        assert_eq!(read, 20);
        for number in numbers {
            pages.replace(number, None).unwrap();
        }
        name_all(&mut pages);
        assert_eq!(pages.file().len().unwrap(), 0);
    }

    /// Whatever of the cuts and of what was written after them a crash keeps, loses or tears, what was
    /// named last is there.
    #[test]
    fn a_crash_beside_a_cut_costs_nothing_that_is_named() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/p")).unwrap();
        let (mut rng, mut cuts) = (Rng::new(12), 0);
        let mut pages = open(&disk, HashMap::new()).unwrap();
        let mut model = BTreeMap::<u64, Vec<u8>>::new();
        name_all(&mut pages);
        disk.sync_dir(Path::new("/p")).unwrap();
        let mut named = (HashMap::new(), model.clone());
        for round in 0..300u64 {
            // It swells and shrinks.
            let is_swelling = round / 10 % 2 == 0;
            for _ in 0..rng.below(20) {
                let number = rng.below(40);
                if is_swelling {
                    let mut bytes = vec![0; 1 + rng.below(9_000) as usize];
                    rng.fill(&mut bytes);
                    pages.replace(number, Some(&bytes)).unwrap();
                    model.insert(number, bytes);
                } else {
                    pages.replace(number, None).unwrap();
                    model.remove(&number);
                }
            }
            match rng.below(3) {
                0 => _ = pages.write_some(1 + rng.below(10) as usize).unwrap(),
                1 => {
                    let before = pages.file_bytes();
                    named = (name_all(&mut pages), model.clone());
                    cuts += u64::from(pages.file_bytes() < before);
                }
                _ => {}
            }
            let crash = match round % 3 {
                0 => Crash::PowerLostClean,
                1 => Crash::Process,
                _ => Crash::PowerLost(rng.next_u64()),
            };
            let after = disk.crash(crash);
            all(&open(&after, named.0.clone()).unwrap(), &named.1);
        }
        assert!(cuts > 10, "{cuts}");
    }

    #[test]
    fn damage_and_places_outside_are_told() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/p")).unwrap();
        let mut pages = open(&disk, HashMap::new()).unwrap();
        pages.append(3, &[7; 5_000]).unwrap();
        pages.append(4, &[8; 10]).unwrap();
        assert!(!pages.write_some(10).unwrap());
        let placed: HashMap<u64, Place> = pages.places().into_iter().collect();
        disk.damage(&path(Path::new("/p"), 1), 4_500, 1).unwrap();
        let error = pages.read(&[4, 3], &mut |_, _| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        let place = placed[&4];
        for wrong in [
            Place { page: 3, ..place },
            Place { page: u64::MAX, ..place },
            Place { bytes: u32::MAX, ..place },
            Place { page: 1, ..place },
        ] {
            let placed = HashMap::from([(3, placed[&3]), (4, wrong)]);
            assert_eq!(open(&disk, placed).unwrap_err().kind(), ErrorKind::Corruption);
        }
    }
}

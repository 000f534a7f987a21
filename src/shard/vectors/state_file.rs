//! What is on disk of an index, and how far it goes: the file `STATE`.
//!
//! ```text
//! 0   8   magic "ArqonVSt"
//! 8   2   version, 1
//! 10  4   CRC32C of all that follows
//! 14  8   index
//! 22  8   covered: a log index; the files and lists below hold what was applied up to there
//! 30  ..  fresh: 0, or the number + 1 of the file of the graph that grows, varint
//!         count of files, varint; of each: number varint, count of dead ids, ids u64
//!         count of loose ids, ids u64: vectors whose latest record no file holds
//! ```
//! A dead id stands in the file and does not count. Written anew as a whole, so that a crash leaves
//! the old one or the new one.

use crate::base::checksum::crc32c_append;
use crate::base::codec::{Reader, put_varint};
use crate::base::{Error, IndexId, LogIndex, Result};
use crate::env::Disk;
use crate::env::disk::{read_exact_at, write_atomic};
use crate::shard::vectors::index::State;
use crate::shard::vectors::posted::Posted;
use crate::shard::vectors::segment::{Row, Segment};
use std::path::Path;

const MAGIC: &[u8; 8] = b"ArqonVSt";
const VERSION: u16 = 1;
const HEAD_BYTES: usize = 14;
const NAME: &str = "STATE";

/// A file, and which of its ids do not count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct FileState {
    pub(super) number: u64,
    pub(super) dead: Vec<u64>,
}

/// What is on disk of an index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct IndexState {
    pub(super) covered: LogIndex,
    /// The number of the file of the graph that grows.
    pub(super) fresh: Option<u64>,
    pub(super) files: Vec<FileState>,
    pub(super) loose: Vec<u64>,
}

impl State {
    /// What is on disk of it, as of the log index that it is told to cover.
    pub(super) fn on_disk(&self, covered: LogIndex) -> IndexState {
        let written = self.segments.iter().filter(|segment| segment.file_bytes.is_some());
        let file =
            |s: &Segment| FileState { number: s.number, dead: s.dead.iter().copied().collect() };
        let mut files: Vec<FileState> = written.map(file).collect();
        let fresh = self.kept.as_ref().map(|kept| kept.number);
        let of_posted = |p: &Posted| Some(FileState { number: p.file?.0, dead: p.rows.dead() });
        files.extend(self.posted.as_ref().and_then(of_posted));
        files.extend(fresh.map(|number| FileState { number, dead: self.dead_of_kept() }));
        IndexState { covered, fresh, files, loose: self.loose() }
    }

    /// Ids whose latest record no file holds.
    pub(super) fn loose(&self) -> Vec<u64> {
        let kept = self.kept.as_ref().map(|kept| &*kept.rows);
        let is_loose = |id: &u64, seq: u64| kept.and_then(|kept| kept.get(*id)) != Some(seq);
        let mut loose: Vec<u64> =
            self.seqs.iter().filter(|(id, seq)| is_loose(id, **seq)).map(|(id, _)| *id).collect();
        let unwritten = self.segments.iter().filter(|segment| segment.file_bytes.is_none());
        loose.extend(unwritten.flat_map(|segment| segment.live_rows().map(|(id, _)| id)));
        match &self.posted {
            Some(posted) if posted.file.is_some() => loose.extend(posted.rows.loose()),
            Some(posted) => loose.extend(posted.rows.iter().map(|(id, _)| id)),
            None => {}
        }
        loose
    }

    /// Of the file that the graph was last kept in, the ids that do not count any more.
    pub(super) fn dead_of_kept(&self) -> Vec<u64> {
        let kept = self.kept.iter().flat_map(|kept| kept.rows.iter());
        let is_dead = |row: &Row| self.seqs.get(&row.0) != Some(&row.1);
        kept.filter(is_dead).map(|(id, _)| id).collect()
    }

    /// The numbers of its files.
    pub(super) fn files(&self) -> Vec<u64> {
        let written = self.segments.iter().filter(|segment| segment.file_bytes.is_some());
        let posted = self.posted.as_ref().and_then(|posted| posted.file);
        let kept = self.kept.as_ref().map(|kept| kept.number);
        let others = posted.map(|(number, _)| number).into_iter().chain(kept);
        written.map(|segment| segment.number).chain(others).collect()
    }
}

/// Replaces the state of an index, durably.
pub(super) fn write(disk: &dyn Disk, dir: &Path, index: IndexId, state: &IndexState) -> Result<()> {
    let mut body = Vec::new();
    body.extend_from_slice(&index.0.to_le_bytes());
    body.extend_from_slice(&state.covered.0.to_le_bytes());
    put_varint(&mut body, state.fresh.map_or(0, |number| number + 1));
    put_varint(&mut body, state.files.len() as u64);
    for file in &state.files {
        put_varint(&mut body, file.number);
        put_ids(&mut body, &file.dead);
    }
    put_ids(&mut body, &state.loose);
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&crc32c_append(0, &body).to_le_bytes());
    bytes.extend_from_slice(&body);
    write_atomic(disk, &dir.join(NAME), &bytes)
}

/// The state of an index; `None` if there is none.
///
/// # Errors
/// `Corruption` if it is damaged, or another's; what the disk answers.
pub(super) fn read(disk: &dyn Disk, dir: &Path, index: IndexId) -> Result<Option<IndexState>> {
    let path = dir.join(NAME);
    if !disk.exists(&path) {
        return Ok(None);
    }
    let file = disk.open(&path)?;
    let mut bytes = vec![0; file.len()? as usize];
    read_exact_at(&*file, &path, &mut bytes, 0)?;
    let wrong = |found: &str| Error::corruption(&path, 0, "the state of a vector index", found);
    let (head, body) = bytes.split_at_checked(HEAD_BYTES).ok_or_else(|| wrong("fewer bytes"))?;
    let sum = crc32c_append(0, body).to_le_bytes();
    if &head[..8] != MAGIC || head[8..10] != VERSION.to_le_bytes() || head[10..] != sum {
        return Err(wrong("bytes whose checksum is another"));
    }
    match parse(body) {
        Some((of, state)) if of == index => Ok(Some(state)),
        Some((of, _)) => Err(wrong(&format!("that of index {of}"))),
        None => Err(wrong("lists that are cut")),
    }
}

fn parse(body: &[u8]) -> Option<(IndexId, IndexState)> {
    let mut reader = Reader::new(body);
    let (index, covered) = (IndexId(reader.u64()?), LogIndex(reader.u64()?));
    let fresh = reader.varint()?.checked_sub(1);
    let mut files = Vec::new();
    for _ in 0..reader.varint()? {
        files.push(FileState { number: reader.varint()?, dead: read_ids(&mut reader)? });
    }
    let loose = read_ids(&mut reader)?;
    reader.is_empty().then_some((index, IndexState { covered, fresh, files, loose }))
}

fn put_ids(out: &mut Vec<u8>, ids: &[u64]) {
    put_varint(out, ids.len() as u64);
    ids.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
}

fn read_ids(reader: &mut Reader<'_>) -> Option<Vec<u64>> {
    let count = usize::try_from(reader.varint()?).ok()?;
    let bytes = reader.take(count.checked_mul(8)?)?;
    Some(bytes.as_chunks::<8>().0.iter().map(|id| u64::from_le_bytes(*id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;
    use crate::env::SimDisk;

    #[test]
    fn a_state_comes_back_and_a_damaged_one_is_told() {
        let (disk, dir, index) = (SimDisk::new(), Path::new("/v"), IndexId(3));
        disk.create_dir_all(dir).unwrap();
        assert_eq!(read(&disk, dir, index).unwrap(), None);
        let state = IndexState {
            covered: LogIndex(1 << 40),
            fresh: Some(0),
            files: vec![
                FileState { number: 300, dead: vec![7, u64::MAX] },
                FileState { number: 2, dead: vec![] },
            ],
            loose: vec![1, 2, 3],
        };
        write(&disk, dir, index, &state).unwrap();
        assert_eq!(read(&disk, dir, index).unwrap(), Some(state));
        let other = read(&disk, dir, IndexId(4)).unwrap_err();
        assert_eq!(other.kind(), ErrorKind::Corruption);
        let path = dir.join(NAME);
        let len = disk.open(&path).unwrap().len().unwrap();
        for at in 0..len {
            disk.damage(&path, at, 0x20).unwrap();
            assert_eq!(read(&disk, dir, index).unwrap_err().kind(), ErrorKind::Corruption, "{at}");
            disk.damage(&path, at, 0x20).unwrap();
        }
        for end in 0..len {
            let file = disk.open_write(&path).unwrap();
            let mut bytes = vec![0; len as usize];
            file.read_at(&mut bytes, 0).unwrap();
            file.set_len(end).unwrap();
            assert_eq!(read(&disk, dir, index).unwrap_err().kind(), ErrorKind::Corruption);
            file.write_at(&bytes, 0).unwrap();
        }
    }
}

//! Where a group's state lies, and how a snapshot takes its place.
//!
//! ```text
//! <folder of the group>/CURRENT          names the generation that counts
//!                      /gen-<n>/         the state machine's folder
//!                      /gen-<n + 1>/     a snapshot that is being received
//!                      /out-<n>/         a snapshot that is being sent: hard links
//!
//! CURRENT: [magic "AQGN"][crc32c u32 of what follows][protobuf]
//! message Current { uint32 version = 1; uint64 generation = 2; Applied applied = 3; }
//! ```
//! A snapshot is received into the folder of the next generation, which counts for nothing until
//! `CURRENT` names it. `CURRENT` is replaced as a whole, so a crash leaves the old state or the new
//! one; what does not count is removed at the next start.

use crate::base::checksum::crc32c_append;
use crate::base::{Error, ErrorKind, Result};
use crate::env::Disk;
use crate::env::disk::{read_exact_at, write_atomic};
use crate::raft::vocabulary::{LogId, StoredMembership};
use crate::raft::wire;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 4] = b"AQGN";
const CURRENT_BYTES_MAX: u64 = 1 << 20;

/// The generation that counts, and the snapshot it began as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Current {
    /// Its number, from 1.
    pub(crate) generation: u64,
    /// The last entry that the snapshot held; none if the state began empty.
    pub(crate) last: Option<LogId>,
    /// The members then.
    pub(crate) membership: StoredMembership,
}

/// The generations of one group.
#[derive(Debug)]
pub(crate) struct Generations {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    current: Current,
    /// The greatest number handed out, of a generation that counts or is received.
    staged: u64,
}

impl Generations {
    /// Opens the folder of a group, or begins one; removes what does not count.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Generations> {
        disk.create_dir_all(dir)?;
        let path = dir.join("CURRENT");
        let current = if disk.exists(&path) {
            read_current(&*disk, &path)?
        } else {
            // Data without its name would be removed as left over.
            if let Some(entry) = disk.list(dir)?.iter().find(|e| e.name == "gen-1") {
                let dir = dir.join(&entry.name);
                if !disk.list(&dir)?.is_empty() {
                    return Err(Error::corruption(
                        path,
                        0,
                        "the number of a generation",
                        "no such file, beside the generation's folder",
                    ));
                }
            }
            let current = Current { generation: 1, ..Current::default() };
            write_atomic(&*disk, &path, &encode(&current))?;
            current
        };
        let staged = current.generation;
        let mut generations = Generations { disk, dir: dir.to_path_buf(), current, staged };
        generations.clear()?;
        let folder = generations.folder();
        generations.disk.create_dir_all(&folder)?;
        Ok(generations)
    }

    /// What counts.
    pub(crate) fn current(&self) -> &Current {
        &self.current
    }

    /// The folder that counts.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.join(format!("gen-{}", self.current.generation))
    }

    /// The number of a new generation, and its folder, empty.
    pub(crate) fn stage(&mut self) -> Result<(u64, PathBuf)> {
        self.staged += 1;
        let next = self.staged;
        let folder = self.dir.join(format!("gen-{next}"));
        remove_dir_all(&*self.disk, &folder)?;
        self.disk.create_dir_all(&folder)?;
        Ok((next, folder))
    }

    /// Has `next` count from now on. REQUIRES: its folder is whole and durable.
    pub(crate) fn flip(&mut self, next: Current) -> Result<()> {
        write_atomic(&*self.disk, &self.dir.join("CURRENT"), &encode(&next))?;
        self.current = next;
        Ok(())
    }

    /// The folder of a copy to be sent, empty.
    pub(crate) fn outgoing(&mut self, number: u64) -> Result<PathBuf> {
        let folder = self.dir.join(format!("out-{number}"));
        remove_dir_all(&*self.disk, &folder)?;
        self.disk.create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Removes every folder that does not count.
    pub(crate) fn clear(&mut self) -> Result<()> {
        let keep = format!("gen-{}", self.current.generation);
        for entry in self.disk.list(&self.dir)? {
            let ours = entry.name.starts_with("gen-") || entry.name.starts_with("out-");
            if entry.is_dir && ours && entry.name != keep {
                remove_dir_all(&*self.disk, &self.dir.join(&entry.name))?;
            }
        }
        Ok(())
    }
}

pub(crate) fn encode(current: &Current) -> Vec<u8> {
    let body = wire::encode_current(current);
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&crc32c_append(0, &body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn read_current(disk: &dyn Disk, path: &Path) -> Result<Current> {
    let damaged = |what: &str| Error::corruption(path, 0, "the number of a generation", what);
    let file = disk.open(path)?;
    let len = file.len()?;
    if !(8..=CURRENT_BYTES_MAX).contains(&len) {
        return Err(damaged(&format!("{len} bytes")));
    }
    let mut bytes = vec![0; len as usize];
    read_exact_at(&*file, path, &mut bytes, 0)?;
    let (head, body) = bytes.split_at(8);
    let sum = crc32c_append(0, body).to_le_bytes();
    if head[..4] != MAGIC[..] || head[4..] != sum[..] {
        return Err(damaged("bytes whose checksum is another"));
    }
    wire::decode_current(body)
}

/// Whether a group has a folder that counts.
pub(crate) fn has_current(disk: &dyn Disk, dir: &Path) -> bool {
    disk.exists(&dir.join("CURRENT"))
}

/// Removes what is in a folder but for one file, durably; a folder that is not there is fine.
pub(crate) fn remove_all_but(disk: &dyn Disk, dir: &Path, kept: &str) -> Result<()> {
    if !disk.exists(dir) {
        return Ok(());
    }
    for entry in disk.list(dir)?.into_iter().filter(|entry| entry.name != kept) {
        let path = dir.join(&entry.name);
        if entry.is_dir { remove_dir_all(disk, &path)? } else { disk.remove(&path)? }
    }
    disk.sync_dir(dir)
}

/// Removes a folder and all that is in it; one that is not there is fine. What was in it is gone
/// durably before it is, so that no crash brings back a part of it without the rest.
pub(crate) fn remove_dir_all(disk: &dyn Disk, dir: &Path) -> Result<()> {
    if !disk.exists(dir) {
        return Ok(());
    }
    for entry in disk.list(dir)? {
        let path = dir.join(&entry.name);
        if entry.is_dir { remove_dir_all(disk, &path)? } else { disk.remove(&path)? }
    }
    disk.sync_dir(dir)?;
    match disk.remove_dir(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SimDisk;
    use crate::env::sim_disk::Crash;
    use crate::raft::vocabulary::log_id;

    fn fill(disk: &dyn Disk, folder: &Path, text: &[u8]) {
        let file = disk.create(&folder.join("state")).unwrap();
        file.write_at(text, 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(folder).unwrap();
    }

    fn text(disk: &dyn Disk, folder: &Path) -> Vec<u8> {
        let file = disk.open(&folder.join("state")).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn a_flip_leaves_the_old_state_or_the_new_wherever_it_is_cut() {
        let dir = Path::new("/group");
        let begun = SimDisk::new();
        let first = Generations::open(begun.shared(), dir).unwrap();
        fill(&begun, &first.folder(), b"old");
        drop(first);
        let next = Current { generation: 2, last: Some(log_id(3, 9)), ..Current::default() };
        let (mut old, mut new) = (0, 0);
        for stop in 0..40 {
            for crash in [Crash::Process, Crash::PowerLostClean, Crash::PowerLost(stop)] {
                let disk = begun.crash(Crash::Process);
                let mut generations = Generations::open(disk.shared(), dir).unwrap();
                disk.stop_at(Some(stop));
                let done = (|| -> Result<()> {
                    let (number, folder) = generations.stage()?;
                    assert_eq!(number, 2);
                    let file = disk.create(&folder.join("state"))?;
                    file.write_at(b"new", 0)?;
                    file.sync_data()?;
                    disk.sync_dir(&folder)?;
                    generations.flip(next.clone())?;
                    generations.clear()
                })();
                let after = disk.crash(crash);
                let generations = Generations::open(after.shared(), dir).unwrap();
                let found = text(&after, &generations.folder());
                match generations.current().generation {
                    1 => {
                        assert!(done.is_err());
                        assert_eq!((generations.current().last, &found[..]), (None, &b"old"[..]));
                        old += 1;
                    }
                    _ => {
                        assert_eq!(generations.current(), &next);
                        assert_eq!(found, b"new");
                        new += 1;
                    }
                }
                let folders = after.list(dir).unwrap().iter().filter(|e| e.is_dir).count();
                assert_eq!(folders, 1);
            }
        }
        assert!(old > 0 && new > 0);
    }

    #[test]
    fn a_damaged_or_missing_name_is_told_and_nothing_removed() {
        let dir = Path::new("/group");
        let disk = SimDisk::new();
        let generations = Generations::open(disk.shared(), dir).unwrap();
        fill(&disk, &generations.folder(), b"state");
        for offset in 0..9 {
            disk.damage(&dir.join("CURRENT"), offset, 0x10).unwrap();
            let error = Generations::open(disk.shared(), dir).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption);
            disk.damage(&dir.join("CURRENT"), offset, 0x10).unwrap();
        }
        disk.remove(&dir.join("CURRENT")).unwrap();
        let error = Generations::open(disk.shared(), dir).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert_eq!(text(&disk, &dir.join("gen-1")), b"state");
    }
}

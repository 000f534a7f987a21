//! Whom this metadata node has met.
//!
//! ```text
//! DIR/KNOWN: [magic "AQMK"][crc32c u32 LE of what follows][own incarnation u64 LE]
//!            [count u8]([replica u64 LE][incarnation u64 LE])*
//! ```
//! An incarnation is drawn when a folder is made, and anew when its log is gone. A metadata node whose
//! folder was lost would come back without the votes and changes that it gave its word for; by its
//! new incarnation it is told from the one before, and whoever knows of that one does not speak with
//! it: they tell each other. It is taken in again as another replica under its old number: see
//! `readmit`.
//!
//! The low half of a replica's id is the number of its metadata node, the high half how often that
//! one was taken in again.

use crate::base::checksum::crc32c_append;
use crate::base::codec::Reader;
use crate::base::{Error, ErrorKind, Result};
use crate::env::Disk;
use crate::env::disk::{read_exact_at, write_atomic};
use crate::env::rng::Seeds;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const MAGIC: &[u8; 4] = b"AQMK";
/// Bytes of the file at most: there are five metadata nodes.
const BYTES_MAX: u64 = 4 << 10;

/// The number of a replica's metadata node.
pub(super) fn number_of(replica: u64) -> u64 {
    replica & u64::from(u32::MAX)
}

/// The next replica under the same number.
pub(super) fn next_of(replica: u64) -> u64 {
    replica + (1 << 32)
}

/// Whom this metadata node has met, on its disk.
pub(super) struct Known {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    own: u64,
    /// By number, the newest replica and its incarnation.
    met: Mutex<Met>,
}

impl Known {
    /// What the folder says. A new one begins with an incarnation of its own, and so does one whose
    /// log knows no replica.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        seeds: &Seeds,
        has_replica: bool,
    ) -> Result<Known> {
        let path = dir.join("KNOWN");
        let (mut own, met) = match disk.exists(&path) {
            true => read(&*disk, &path)?,
            false => (0, BTreeMap::new()),
        };
        if own == 0 || !has_replica {
            own = seeds.next_seed().max(1);
        }
        let known = Known { disk, dir: dir.to_path_buf(), own, met: Mutex::new(met) };
        known.write(&known.met())?;
        Ok(known)
    }

    /// This one's incarnation.
    pub(super) fn own(&self) -> u64 {
        self.own
    }

    /// Whether a replica is who it was before; one that is new here is remembered, durably.
    ///
    /// # Errors
    /// `Refused` if it is not, or if another has taken its place; what the disk answers.
    pub(super) fn meet(&self, replica: u64, incarnation: u64) -> Result<()> {
        let mut met = self.met();
        let number = number_of(replica);
        match met.get(&number) {
            Some(before) if *before == (replica, incarnation) => return Ok(()),
            Some((newest, _)) if *newest >= replica => {
                let message = format!(
                    "metadata node {number} has had another folder: what this one lacks was \
                     promised to others"
                );
                return Err(Error::new(ErrorKind::Refused, message));
            }
            _ => {}
        }
        let mut with = met.clone();
        with.insert(number, (replica, incarnation));
        self.write(&with)?;
        *met = with;
        Ok(())
    }

    /// What others are told: `[count u8]([replica u64 LE][incarnation u64 LE])*`.
    pub(super) fn tell(&self) -> Vec<u8> {
        let mut told = Vec::new();
        put_met(&mut told, &self.met());
        told
    }

    /// Takes in what another one has told of replicas that this one has not met. `is_other` says
    /// which numbers are those of the others: what is told of any else is nothing.
    ///
    /// # Errors
    /// `InvalidArgument` if it is malformed; what the disk answers.
    pub(super) fn hear(&self, told: &[u8], is_other: impl Fn(u64) -> bool) -> Result<()> {
        let mut rest = Reader::new(told);
        let heard = take_met(&mut rest).filter(|_| rest.is_empty());
        let heard =
            heard.ok_or_else(|| Error::invalid("what was told of replicas is malformed"))?;
        let mut met = self.met();
        let mut with = met.clone();
        for (number, (replica, incarnation)) in heard {
            let is_newer = with.get(&number).is_none_or(|(known, _)| *known < replica);
            if is_newer && is_other(number) {
                with.insert(number, (replica, incarnation));
            }
        }
        if with != *met {
            self.write(&with)?;
            *met = with;
        }
        Ok(())
    }

    /// The incarnation of a replica that was met.
    pub(super) fn incarnation_of(&self, replica: u64) -> Option<u64> {
        let met = self.met();
        met.get(&number_of(replica)).filter(|met| met.0 == replica).map(|met| met.1)
    }

    fn met(&self) -> MutexGuard<'_, Met> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, met: &Met) -> Result<()> {
        let mut bytes = vec![0; 8];
        bytes.extend_from_slice(&self.own.to_le_bytes());
        put_met(&mut bytes, met);
        let sum = crc32c_append(0, &bytes[8..]).to_le_bytes();
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..8].copy_from_slice(&sum);
        write_atomic(&*self.disk, &self.dir.join("KNOWN"), &bytes)
    }
}

type Met = BTreeMap<u64, (u64, u64)>;

fn put_met(bytes: &mut Vec<u8>, met: &Met) {
    // There are as many as peers, five at most.
    bytes.push(met.len() as u8);
    for (replica, incarnation) in met.values() {
        bytes.extend_from_slice(&replica.to_le_bytes());
        bytes.extend_from_slice(&incarnation.to_le_bytes());
    }
}

fn take_met(rest: &mut Reader<'_>) -> Option<Met> {
    let mut met = BTreeMap::new();
    for _ in 0..rest.u8()? {
        let (replica, incarnation) = (rest.u64()?, rest.u64()?);
        met.insert(number_of(replica), (replica, incarnation));
    }
    Some(met)
}

fn read(disk: &dyn Disk, path: &Path) -> Result<(u64, Met)> {
    let damaged = || Error::corruption(path, 0, "whom this node has met", "bytes that say nothing");
    let file = disk.open(path)?;
    let size = file.len()?;
    if !(17..=BYTES_MAX).contains(&size) {
        return Err(damaged());
    }
    let mut bytes = vec![0; size as usize];
    read_exact_at(&*file, path, &mut bytes, 0)?;
    if bytes[..4] != MAGIC[..] || bytes[4..8] != crc32c_append(0, &bytes[8..]).to_le_bytes() {
        return Err(damaged());
    }
    let mut rest = Reader::new(&bytes[8..]);
    let mut parse = || {
        let (own, met) = (rest.u64()?, take_met(&mut rest)?);
        rest.is_empty().then_some((own, met))
    };
    parse().ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SimDisk;

    #[test]
    fn who_lost_a_folder_is_told_from_who_it_was() {
        let (disk, dir) = (SimDisk::new(), Path::new("/meta"));
        disk.create_dir_all(dir).unwrap();
        let open = || Known::open(disk.shared(), dir, &Seeds::default(), true);
        let known = open().unwrap();
        assert_ne!(known.own(), 0);
        known.meet(2, 20).unwrap();
        known.meet(3, 30).unwrap();
        known.meet(2, 20).unwrap();
        let again = next_of(2);
        assert_eq!((number_of(again), again > 2), (2, true));
        for known in [known, open().unwrap()] {
            assert_eq!(known.meet(2, 21).unwrap_err().kind(), ErrorKind::Refused);
            assert_eq!(known.incarnation_of(2), Some(20));
        }
        let known = open().unwrap();
        known.meet(again, 21).unwrap();
        known.meet(again, 21).unwrap();
        let known = open().unwrap();
        assert_eq!(known.meet(2, 20).unwrap_err().kind(), ErrorKind::Refused, "it was replaced");
        assert_eq!((known.incarnation_of(2), known.incarnation_of(again)), (None, Some(21)));
        // They tell each other; of itself nobody is told anything, and what is known stays.
        let elsewhere = Path::new("/other");
        disk.create_dir_all(elsewhere).unwrap();
        let other = Known::open(disk.shared(), elsewhere, &Seeds::default(), true).unwrap();
        other.meet(2, 20).unwrap();
        other.hear(&known.tell(), |number| number == 2).unwrap();
        assert_eq!((other.incarnation_of(again), other.incarnation_of(3)), (Some(21), None));
        other.hear(&known.tell()[..3], |_| true).unwrap_err();
        known.hear(&[1, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0], |_| true).unwrap();
        assert_eq!(known.incarnation_of(again), Some(21));
        let without_log = Known::open(disk.shared(), elsewhere, &Seeds::default(), false).unwrap();
        assert_ne!(without_log.own(), other.own());
        let size = disk.open(&dir.join("KNOWN")).unwrap().len().unwrap();
        for at in 0..size {
            disk.damage(&dir.join("KNOWN"), at, 1).unwrap();
            assert_eq!(open().err().unwrap().kind(), ErrorKind::Corruption, "byte {at}");
            disk.damage(&dir.join("KNOWN"), at, 1).unwrap();
        }
    }
}

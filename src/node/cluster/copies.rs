//! Copies of shards, for who makes a backup.
//!
//! ```text
//! DIR/copies/NUMBER/   a database of its own: what a shard's log has up to one entry
//! ```
//! A copy shares its tables with the shard by hard links, so it costs a flush, and the disk space
//! of what the shard compacts away meanwhile. It is held for who reads it, and goes when it is let
//! go of, when nobody has asked for it for a while, and when the node starts again. The sum of a
//! table, by which a backup tells whether it has it, is computed once as long as the shard is open.

use crate::base::{Error, ErrorKind, LogIndex, Result, Seq, ShardId};
use crate::catalog::View;
use crate::env::disk::read_exact_at;
use crate::env::{Disk, rng};
use crate::node::cluster::member::Inner;
use crate::node::cluster::replicas::Running;
use crate::node::pipeline;
use crate::raft::{Consistency, Rate};
use crate::rpc::cluster::copy_call::{
    HeldCopy, IDLE, decode_begin, decode_read, decode_sum, encode_held,
};
use crate::rpc::cluster::method;
use crate::shard::Shard;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

/// Copies that are held at a time.
const HELD_MAX: usize = 16;
/// Bytes read at a time for a sum.
const STEP_BYTES: u64 = 1 << 20;

/// The copies of a node.
pub(super) struct Copies {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    held: Mutex<BTreeMap<u64, Held>>,
    known: Mutex<BTreeMap<ShardId, Known>>,
    rate: Rate,
}

/// Sums of a shard's tables. Their names mean the same as long as it is open, and not longer.
struct Known {
    of: Weak<Shard>,
    sums: Arc<Mutex<BTreeMap<String, u128>>>,
}

struct Held {
    copy: Arc<Copy>,
    used: Instant,
}

/// A copy in a folder of its own, which goes with it.
struct Copy {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    index: LogIndex,
    seq: Seq,
    files: Vec<(String, u64)>,
    sums: Arc<Mutex<BTreeMap<String, u128>>>,
}

impl Copies {
    /// Copies below a node's folder; removes what an earlier start left. At most so many bytes a
    /// second are read from them; 0 for as many as there are.
    pub(super) fn open(disk: &Arc<dyn Disk>, dir: &Path, bytes_per_second: u64) -> Result<Copies> {
        let (disk, dir) = (disk.clone(), dir.join("copies"));
        if disk.exists(&dir) {
            for left in disk.list(&dir)?.into_iter().filter(|entry| entry.is_dir) {
                remove(&*disk, &dir.join(left.name))?;
            }
        }
        let (held, known) = (Mutex::default(), Mutex::default());
        Ok(Copies { disk, dir, held, known, rate: Rate::new(bytes_per_second) })
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<u64, Held>> {
        lock(&self.held)
    }

    /// What is known of a shard's tables.
    fn sums(&self, id: ShardId, shard: &Arc<Shard>) -> Arc<Mutex<BTreeMap<String, u128>>> {
        let of = Arc::downgrade(shard);
        let mut known = lock(&self.known);
        // A shard that was replaced by a snapshot has other tables under the same names.
        known.retain(|at, known| *at != id || Weak::ptr_eq(&known.of, &of));
        known.entry(id).or_insert_with(|| Known { of, sums: Arc::default() }).sums.clone()
    }

    /// A copy, which was asked for now.
    fn get(&self, number: u64) -> Result<Arc<Copy>> {
        match self.held().get_mut(&number) {
            Some(held) => {
                held.used = Instant::now();
                Ok(held.copy.clone())
            }
            None => {
                let message = format!(
                    "this node holds no copy {number}: nobody asked for it during {} s, or the \
                     node was started anew; make another",
                    IDLE.as_secs()
                );
                Err(Error::new(ErrorKind::NotFound, message))
            }
        }
    }

    /// Copies that nobody has asked for in a while, which go with what this gives: to be dropped where
    /// removing files may wait for the disk.
    pub(super) fn take_idle(&self) -> impl Send + use<> {
        let mut gone = Vec::new();
        self.held().retain(|_, held| {
            let is_idle = held.used.elapsed() >= IDLE && Arc::strong_count(&held.copy) == 1;
            if is_idle {
                gone.push(held.copy.clone());
            }
            !is_idle
        });
        gone
    }

    /// Lets all copies go.
    pub(super) fn clear(&self) {
        let gone = std::mem::take(&mut *self.held());
        drop(gone);
    }
}

impl Copy {
    fn file(&self, number: u64) -> Result<(PathBuf, u64)> {
        let file = usize::try_from(number).ok().and_then(|number| self.files.get(number));
        let (name, size) =
            file.ok_or_else(|| Error::invalid(format!("the copy has no file {number}")))?;
        Ok((self.dir.join(name), *size))
    }

    fn sum(&self, number: u64) -> Result<u128> {
        let (path, size) = self.file(number)?;
        let table = path.file_name().and_then(|name| name.to_str());
        let table = table.filter(|name| name.ends_with(".sst"));
        if let Some(sum) = table.and_then(|name| lock(&self.sums).get(name).copied()) {
            return Ok(sum);
        }
        let file = self.disk.open(&path)?;
        let (mut sum, mut bytes) = (Xxh3::new(), Vec::new());
        let mut at = 0;
        while at < size {
            bytes.resize((size - at).min(STEP_BYTES) as usize, 0);
            read_exact_at(&*file, &path, &mut bytes, at)?;
            sum.update(&bytes);
            at += bytes.len() as u64;
        }
        let sum = sum.digest128();
        if let Some(name) = table {
            lock(&self.sums).insert(name.to_string(), sum);
        }
        Ok(sum)
    }

    fn read(&self, number: u64, offset: u64, bytes: u64) -> Result<Bytes> {
        let (path, size) = self.file(number)?;
        if offset.checked_add(bytes).is_none_or(|end| end > size) {
            return Err(Error::invalid(format!("file {number} of the copy ends at {size}")));
        }
        let mut read = vec![0; bytes as usize];
        read_exact_at(&*self.disk.open(&path)?, &path, &mut read, offset)?;
        Ok(read.into())
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What stays behind is removed at the next start.
        _ = remove(&*self.disk, &self.dir);
    }
}

/// A poisoned mutex means that a thread panicked; what these guard is whole between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes a folder of files.
fn remove(disk: &dyn Disk, dir: &Path) -> Result<()> {
    for entry in disk.list(dir)? {
        disk.remove(&dir.join(entry.name))?;
    }
    disk.remove_dir(dir)
}

impl Inner {
    /// Answers a call about copies.
    pub(super) async fn copy_call(
        &self,
        method: u16,
        patience: Duration,
        body: &Bytes,
    ) -> Result<Bytes> {
        match method {
            method::COPY_BEGIN => {
                let (shard, epoch) = decode_begin(body)?;
                let held = self.begin_copy(shard, epoch, patience).await?;
                Ok(encode_held(&held))
            }
            method::COPY_SUM => {
                let (copy, file) = decode_sum(body)?;
                let copy = self.copies.get(copy)?;
                let sum = pipeline::on(&self.slow, move || copy.sum(file)).await?;
                Ok(Bytes::copy_from_slice(&sum.to_le_bytes()))
            }
            method::COPY_READ => {
                let asked = decode_read(body)?;
                let copy = self.copies.get(asked.copy)?;
                self.copies.rate.take(asked.bytes).await;
                let read = move || copy.read(asked.file, asked.offset, asked.bytes);
                pipeline::on(&self.slow, read).await
            }
            _ => {
                let number =
                    body.first_chunk().ok_or_else(|| Error::invalid("no copy is named"))?;
                let gone = self.copies.held().remove(&u64::from_le_bytes(*number));
                // Its files go with it.
                pipeline::on(&self.slow, move || {
                    drop(gone);
                    Ok(Bytes::new())
                })
                .await
            }
        }
    }

    /// Makes a copy of a shard that is led here: of all that was acknowledged before the call.
    async fn begin_copy(&self, id: ShardId, epoch: u64, patience: Duration) -> Result<HeldCopy> {
        let running = self.to_copy(id, epoch, &self.meta.view())?;
        running.group.ready_to_read(Consistency::Linearizable, patience).await?;
        if self.copies.held().len() >= HELD_MAX {
            let message = "this node holds as many copies as it can; wait for other backups";
            return Err(Error::new(ErrorKind::Busy, message));
        }
        let number = rng::entropy();
        let (disk, dir) =
            (self.copies.disk.clone(), self.copies.dir.join(format!("{number:016x}")));
        let shard = running.handle.get()?;
        let sums = self.copies.sums(id, &shard);
        let make = move || {
            let (index, seq, files) = (LogIndex(0), Seq(0), Vec::new());
            let mut copy = Copy { disk, dir, index, seq, files, sums };
            copy.disk.create_dir_all(&copy.dir)?;
            let info = shard.engine().checkpoint(&copy.dir)?;
            let files = copy.disk.list(&copy.dir)?;
            copy.files = files.into_iter().map(|entry| (entry.name, entry.len)).collect();
            (copy.index, copy.seq) = (info.index, info.seq);
            // Of tables that are gone nobody asks any more.
            let is_there = |name: &String| copy.files.iter().any(|(file, _)| file == name);
            lock(&copy.sums).retain(|name, _| is_there(name));
            Ok(copy)
        };
        let copy = pipeline::on(&self.slow, make).await?;
        let node = self.identity.node;
        let (index, seq, files) = (copy.index, copy.seq, copy.files.clone());
        let held = Held { copy: Arc::new(copy), used: Instant::now() };
        self.copies.held().insert(number, held);
        Ok(HeldCopy { copy: number, node, index, seq, files })
    }

    /// The replica of a shard here, if it leads at the epoch.
    fn to_copy(&self, id: ShardId, epoch: u64, view: &View) -> Result<Running> {
        let known = view.shard(id).map(|shard| shard.epoch.range);
        let running = self.replicas.get(id);
        let Some(running) = running.filter(|r| r.record.epoch.range == epoch) else {
            let message = format!("shard {id} is not here as it was at epoch {epoch}");
            // One that was split is another for good; one that comes or goes may be asked again.
            let kind = match known {
                Some(known) if known == epoch => ErrorKind::Unavailable,
                _ => ErrorKind::Conflict,
            };
            return Err(Error::new(kind, message));
        };
        if running.session() == 0 {
            let message = match running.leader() {
                Some(leader) => format!("node {leader} leads shard {id}; ask there"),
                None => format!("nobody leads shard {id} now; try again soon"),
            };
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SimDisk;

    fn hold(copies: &Copies, number: u64) -> PathBuf {
        let (disk, dir) = (copies.disk.clone(), copies.dir.join(format!("{number:016x}")));
        disk.create_dir_all(&dir).unwrap();
        let file = disk.create(&dir.join("000001.sst")).unwrap();
        file.write_at(b"content", 0).unwrap();
        let files = vec![("000001.sst".to_string(), 7)];
        let (index, seq, sums) = (LogIndex(1), Seq(1), Arc::default());
        let copy = Copy { disk, dir: dir.clone(), index, seq, files, sums };
        let held = Held { copy: Arc::new(copy), used: Instant::now() };
        copies.held().insert(number, held);
        dir
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_goes_when_nobody_asks_for_it_and_stays_as_long_as_somebody_does() {
        let disk: Arc<dyn Disk> = SimDisk::new().shared();
        let copies = Copies::open(&disk, Path::new("/node"), 0).unwrap();
        let (asked, forgotten) = (hold(&copies, 1), hold(&copies, 2));
        tokio::time::advance(IDLE / 2).await;
        assert_eq!(copies.get(1).unwrap().read(0, 2, 3).unwrap(), "nte");
        tokio::time::advance(IDLE / 2).await;
        drop(copies.take_idle());
        assert!(disk.exists(&asked) && !disk.exists(&forgotten));
        assert_eq!(copies.get(2).err().unwrap().kind(), ErrorKind::NotFound);
        // Being read it stays, however long that takes.
        let reading = copies.get(1).unwrap();
        tokio::time::advance(IDLE * 2).await;
        drop(copies.take_idle());
        assert_eq!(reading.sum(0).unwrap(), xxhash_rust::xxh3::xxh3_128(b"content"));
        for (file, offset, bytes) in [(1, 0, 1), (0, 7, 1), (0, u64::MAX, 2), (u64::MAX, 0, 0)] {
            assert!(reading.read(file, offset, bytes).is_err());
        }
        drop(reading);
        drop(copies.take_idle());
        assert!(!disk.exists(&asked));

        let left = hold(&copies, 3);
        // As after a crash: the folder stays.
        std::mem::forget(std::mem::take(&mut *copies.held()));
        Copies::open(&disk, Path::new("/node"), 0).unwrap();
        assert!(!disk.exists(&left));
    }
}

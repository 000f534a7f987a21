//! Something small that lives in memory as what a group replicates: the cluster's catalog.
//!
//! ```text
//! <folder>/state: [magic "AQMS"][crc32c u32 of what follows][index u64][what the state says]
//! ```

use crate::base::checksum::crc32c_append;
use crate::base::{Error, LogIndex, Result};
use crate::env::Disk;
use crate::env::disk::{read_exact_at, write_atomic};
use crate::raft::state::StateMachine;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const MAGIC: &[u8; 4] = b"AQMS";
const HEADER_BYTES: usize = 16;
const STATE_BYTES_MAX: u64 = 1 << 30;

/// A state in memory that changes by commands alone: no clock, no chance, no disk.
pub trait Memory: Send + 'static {
    /// Applies a command; gives what who proposed it is to hear, refusals among that.
    ///
    /// # Errors
    /// If the replica must stop: it does not understand what others may.
    fn apply(&mut self, command: &[u8]) -> Result<Vec<u8>>;
    /// All of the state.
    fn snapshot(&self) -> Vec<u8>;
    /// Takes the state that [`Memory::snapshot`] gave.
    ///
    /// # Errors
    /// If the bytes are no such state; the present one stays.
    fn restore(&mut self, snapshot: &[u8]) -> Result<()>;
}

/// A [`Memory`] as a group's state machine. Clones share it.
pub struct MemoryMachine<M> {
    shared: Arc<Shared<M>>,
}

impl<M> Clone for MemoryMachine<M> {
    fn clone(&self) -> MemoryMachine<M> {
        MemoryMachine { shared: self.shared.clone() }
    }
}

struct Shared<M> {
    disk: Arc<dyn Disk>,
    inner: Mutex<Inner<M>>,
    /// Held while the file is written, so that a later state is not replaced by an earlier one.
    writing: Mutex<LogIndex>,
}

struct Inner<M> {
    memory: M,
    dir: PathBuf,
    applied: LogIndex,
}

impl<M: Memory> MemoryMachine<M> {
    /// A state machine that begins as `memory` where there is nothing to restore.
    pub fn new(disk: Arc<dyn Disk>, memory: M) -> MemoryMachine<M> {
        let inner = Inner { memory, dir: PathBuf::new(), applied: LogIndex(0) };
        let (inner, writing) = (Mutex::new(inner), Mutex::new(LogIndex(0)));
        MemoryMachine { shared: Arc::new(Shared { disk, inner, writing }) }
    }

    /// Reads the state as it is applied now, on this replica: ask for a linearizer first where
    /// that matters.
    pub fn read<T>(&self, read: impl FnOnce(&M) -> T) -> T {
        read(&self.inner().memory)
    }

    fn inner(&self) -> MutexGuard<'_, Inner<M>> {
        lock(&self.shared.inner)
    }

    fn write(&self, dir: &Path, index: LogIndex, state: &[u8]) -> Result<()> {
        write_atomic(&*self.shared.disk, &dir.join("state"), &encode(index, state))
    }
}

impl<M: Memory> StateMachine for MemoryMachine<M> {
    fn open(&self, dir: &Path) -> Result<()> {
        let mut held = lock(&self.shared.writing);
        let path = dir.join("state");
        let found = if self.shared.disk.exists(&path) {
            Some(read_state(&*self.shared.disk, &path)?)
        } else {
            None
        };
        let mut inner = self.inner();
        let (index, state) = found.unzip();
        if let Some(state) = state {
            inner.memory.restore(&state)?;
        }
        inner.applied = index.unwrap_or_default();
        inner.dir = dir.to_path_buf();
        *held = inner.applied;
        Ok(())
    }

    fn held(&self) -> LogIndex {
        *lock(&self.shared.writing)
    }

    fn apply(&self, index: LogIndex, parts: &[Bytes]) -> Result<Bytes> {
        let mut inner = self.inner();
        let mut outcome = Vec::new();
        for part in parts {
            outcome = inner.memory.apply(part)?;
        }
        inner.applied = index;
        Ok(outcome.into())
    }

    fn hold(&self, sync: &dyn Fn() -> Result<()>) -> Result<()> {
        let mut held = lock(&self.shared.writing);
        let (dir, index, state) = {
            let inner = self.inner();
            (inner.dir.clone(), inner.applied, inner.memory.snapshot())
        };
        if index > *held {
            sync()?;
            self.write(&dir, index, &state)?;
            *held = index;
        }
        Ok(())
    }

    fn copy_to(&self, dir: &Path) -> Result<LogIndex> {
        let (index, state) = {
            let inner = self.inner();
            (inner.applied, inner.memory.snapshot())
        };
        self.write(dir, index, &state)?;
        Ok(index)
    }

    fn check(&self, dir: &Path) -> Result<LogIndex> {
        Ok(read_state(&*self.shared.disk, &dir.join("state"))?.0)
    }

    fn close(&self) {}
}

fn encode(index: LogIndex, state: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + state.len());
    bytes.extend_from_slice(MAGIC);
    let sum = crc32c_append(crc32c_append(0, &index.0.to_le_bytes()), state);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes.extend_from_slice(&index.0.to_le_bytes());
    bytes.extend_from_slice(state);
    bytes
}

fn read_state(disk: &dyn Disk, path: &Path) -> Result<(LogIndex, Vec<u8>)> {
    let damaged = |found: String| Error::corruption(path, 0, "a state", found);
    let file = disk.open(path)?;
    let len = file.len()?;
    if !(HEADER_BYTES as u64..=STATE_BYTES_MAX).contains(&len) {
        return Err(damaged(format!("{len} bytes")));
    }
    let mut bytes = vec![0; len as usize];
    read_exact_at(&*file, path, &mut bytes, 0)?;
    let sum = crc32c_append(0, &bytes[8..]).to_le_bytes();
    if bytes[..4] != MAGIC[..] || bytes[4..8] != sum[..] {
        return Err(damaged("bytes whose checksum is another".to_string()));
    }
    let mut index = [0; 8];
    index.copy_from_slice(&bytes[8..HEADER_BYTES]);
    Ok((LogIndex(u64::from_le_bytes(index)), bytes.split_off(HEADER_BYTES)))
}

/// A poisoned mutex means that a thread panicked; what these guard is whole between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;
    use crate::env::SimDisk;
    use crate::env::sim_disk::Crash;

    #[derive(Default)]
    struct Words(Vec<u8>);

    impl Memory for Words {
        fn apply(&mut self, command: &[u8]) -> Result<Vec<u8>> {
            self.0.extend_from_slice(command);
            Ok(self.0.len().to_string().into_bytes())
        }

        fn snapshot(&self) -> Vec<u8> {
            self.0.clone()
        }

        fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
            self.0 = snapshot.to_vec();
            Ok(())
        }
    }

    /// A leader may have committed, by the others, what its own log has not synced. Then its folder was
    /// ahead of its log after a power cut, and the replica was refused.
    #[test]
    fn what_the_log_does_not_have_durable_is_not_held() {
        let disk = SimDisk::new();
        let dir = Path::new("/m");
        disk.shared().create_dir_all(dir).unwrap();
        let machine = MemoryMachine::new(disk.shared(), Words::default());
        machine.open(dir).unwrap();
        machine.apply(LogIndex(1), &[Bytes::from_static(b"ab")]).unwrap();
        let held_at_sync = || match disk.shared().exists(&dir.join("state")) {
            true => Err(Error::invalid("it was written before the sync")),
            false => Err(Error::new(ErrorKind::Poisoned, "the log cannot be synced")),
        };
        let told = machine.hold(&held_at_sync).map_err(|error| error.kind());
        assert_eq!((told, machine.held()), (Err(ErrorKind::Poisoned), LogIndex(0)));
        assert!(!disk.shared().exists(&dir.join("state")));
        machine.hold(&|| Ok(())).unwrap();
        assert_eq!(machine.held(), LogIndex(1));
    }

    #[test]
    fn what_is_held_outlives_a_restart_and_damage_is_told() {
        let disk = SimDisk::new();
        let (dir, copy) = (Path::new("/m"), Path::new("/copy"));
        disk.shared().create_dir_all(dir).unwrap();
        disk.shared().create_dir_all(copy).unwrap();
        let machine = MemoryMachine::new(disk.shared(), Words::default());
        machine.open(dir).unwrap();
        let part = |text: &'static str| [Bytes::from_static(text.as_bytes())];
        assert_eq!(&machine.apply(LogIndex(1), &part("ab")).unwrap()[..], b"2");
        machine.apply(LogIndex(2), &[]).unwrap();
        assert_eq!(machine.held(), LogIndex(0));
        machine.hold(&|| Ok(())).unwrap();
        assert_eq!(machine.held(), LogIndex(2));
        machine.apply(LogIndex(3), &part("c")).unwrap();
        assert_eq!(machine.copy_to(copy).unwrap(), LogIndex(3));
        assert_eq!(machine.check(copy).unwrap(), LogIndex(3));

        let after = disk.crash(Crash::PowerLostClean);
        let again = MemoryMachine::new(after.shared(), Words::default());
        again.open(dir).unwrap();
        assert_eq!((again.held(), again.read(|w| w.0.clone())), (LogIndex(2), b"ab".to_vec()));
        again.open(copy).unwrap();
        assert_eq!((again.held(), again.read(|w| w.0.clone())), (LogIndex(3), b"abc".to_vec()));
        for offset in 0..19 {
            after.damage(&copy.join("state"), offset, 1).unwrap();
            assert_eq!(again.check(copy).unwrap_err().kind(), ErrorKind::Corruption);
            after.damage(&copy.join("state"), offset, 1).unwrap();
        }
    }
}

//! A group's state on this node: its state machine, where that lies, and where it stands.
//!
//! What has been applied is not written down entry by entry: the state machine's folder holds
//! everything up to an index that it knows ([`StateMachine::held`]), and what came behind is in the
//! log and is applied again after a restart. Entries are purged only up to what the folder holds,
//! so the term at that point is found in the log, or in the snapshot the folder began as.
//! Memberships are kept in a slot of the log, from the last one at or before that point on, so that
//! the one that counted at any later point is known.

use crate::base::{Error, ErrorKind, LogIndex, Result};
use crate::env::Disk;
use crate::raft::generation::{Current, Generations, remove_dir_all};
use crate::raft::log_store::LogStore;
use crate::raft::state::StateMachine;
use crate::raft::vocabulary::{LogId, SnapshotMeta, StoredMembership};
use crate::raft::work::Work;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a copy that nobody sends is kept for a transfer that broke off.
const COPY_PATIENCE: Duration = Duration::from_secs(120);

/// A group's state on this node.
pub(crate) struct Replica {
    state: Box<dyn StateMachine>,
    pub(crate) store: LogStore,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) work: Work,
    generations: Mutex<Generations>,
    /// Oldest first; never empty of those that may still be asked for.
    members: Mutex<Vec<StoredMembership>>,
    /// The copy made last, as long as it may be sent on.
    copy: tokio::sync::Mutex<Option<Kept>>,
    /// By number, what each copy that is being made or sent holds at least.
    copies: Mutex<BTreeMap<u64, LogIndex>>,
    /// How many copies this node has made, of all replicas since its process began: one of a replica
    /// that was begun again must not have the number of one before.
    made: Arc<AtomicU64>,
    /// The index up to which the log is to be cut next.
    to_hold: AtomicU64,
}

struct Kept {
    copy: Arc<Copy>,
    used: Instant,
}

impl Replica {
    /// Opens the state in the group's folder `dir`. Copies of it are numbered by `made`.
    pub(crate) fn open(
        state: Box<dyn StateMachine>,
        store: LogStore,
        disk: Arc<dyn Disk>,
        dir: &Path,
        work: Work,
        made: Arc<AtomicU64>,
    ) -> Result<Arc<Replica>> {
        let generations = Generations::open(disk.clone(), dir)?;
        state.open(&generations.folder())?;
        let current = generations.current();
        let mut members = Vec::new();
        if current.last.is_some() {
            members.push(current.membership.clone());
        }
        members.extend(store.members().into_iter().filter(|m| m.log_id() > &current.last));
        let replica = Replica {
            state,
            store,
            disk,
            work,
            generations: Mutex::new(generations),
            members: Mutex::new(members),
            copy: tokio::sync::Mutex::default(),
            copies: Mutex::default(),
            made,
            to_hold: AtomicU64::new(0),
        };
        replica.point()?;
        Ok(Arc::new(replica))
    }

    /// What the state machine's folder holds; `None` if nothing.
    ///
    /// # Errors
    /// `Corruption` if it holds what the log has never heard of.
    pub(crate) fn point(&self) -> Result<Option<SnapshotMeta>> {
        match self.state.held() {
            LogIndex(0) => Ok(None),
            held => self.meta_at(held).map(Some),
        }
    }

    /// The entry and the members at an index that was applied.
    fn meta_at(&self, index: LogIndex) -> Result<SnapshotMeta> {
        let at = index.0.saturating_sub(1);
        let began = lock(&self.generations).current().last;
        let last = self.store.log_id(at).or(began.filter(|id| id.index == at));
        let Some(last) = last else {
            return Err(Error::new(
                ErrorKind::Corruption,
                format!(
                    "the state holds entries up to {at}, of which the log knows nothing; remove \
                     this replica and add a new one"
                ),
            ));
        };
        let members = lock(&self.members);
        let then = members.iter().rev().find(|m| m.log_id().is_none_or(|id| id.index <= at));
        let last_membership = then.cloned().unwrap_or_default();
        Ok(SnapshotMeta { last_log_id: Some(last), last_membership })
    }

    /// The members that were heard of last.
    pub(crate) fn membership(&self) -> StoredMembership {
        lock(&self.members).last().cloned().unwrap_or_default()
    }

    /// Applies an entry's parts.
    pub(crate) fn apply(&self, index: LogIndex, parts: &[Bytes]) -> Result<Bytes> {
        self.state.apply(index, parts)
    }

    /// Whether applying these parts waits for the disk.
    pub(crate) fn is_slow(&self, parts: &[Bytes]) -> bool {
        self.state.is_slow(parts)
    }

    /// Keeps a membership that was applied.
    pub(crate) fn keep(&self, membership: StoredMembership) -> Result<()> {
        let held = self.state.held().0;
        let mut members = lock(&self.members);
        // After a restart entries are applied again.
        members.retain(|m| m.log_id() < membership.log_id());
        members.push(membership);
        let is_held = |m: &StoredMembership| m.log_id().is_none_or(|id| id.index < held);
        let first = members.iter().rposition(is_held).unwrap_or(0);
        members.drain(..first);
        self.store.save_members(&members)
    }

    /// Says up to which entry the log is to be cut.
    pub(crate) fn ask_to_hold(&self, index: u64) {
        self.to_hold.store(index + 1, Ordering::Release);
    }

    /// Brings what is applied into the folder, unless it holds as much as was asked for. Waits for
    /// the disk.
    pub(crate) fn hold(&self) -> Result<()> {
        match self.to_hold.load(Ordering::Acquire) {
            wanted if wanted > 0 && self.state.held().0 >= wanted => Ok(()),
            _ => self.state.hold(&|| self.store.sync()),
        }
    }

    /// The next generation's folder, for a snapshot to be received into.
    pub(crate) fn stage(self: &Arc<Self>) -> Result<Staged> {
        let (generation, folder) = lock(&self.generations).stage()?;
        Ok(Staged { replica: self.clone(), generation, folder, is_whole: false })
    }

    /// Checks that a snapshot that was received is the state at `last`.
    pub(crate) fn check(&self, staged: &Staged, last: &LogId) -> Result<()> {
        let index = self.state.check(&staged.folder)?;
        if index.0 == last.index + 1 {
            return Ok(());
        }
        Err(Error::corruption(
            &staged.folder,
            0,
            format!("the state at entry {}", last.index),
            format!("that at {}", index.0.saturating_sub(1)),
        ))
    }

    /// Puts a snapshot in the place of the state. A crash leaves the one or the other.
    pub(crate) fn install(&self, meta: &SnapshotMeta, mut staged: Staged) -> Result<()> {
        // What the log was told before, a truncation among it, must not be lost behind the flip.
        self.store.sync()?;
        let mut generations = lock(&self.generations);
        let (last, membership) = (meta.last_log_id, meta.last_membership.clone());
        let next = Current { generation: staged.generation, last, membership: membership.clone() };
        generations.flip(next)?;
        staged.is_whole = true;
        self.state.open(&generations.folder())?;
        {
            let mut members = lock(&self.members);
            *members = vec![membership];
            self.store.save_members(&members)?;
        }
        // What stays behind is removed at the next start.
        _ = generations.clear();
        drop(generations);
        self.point().map(|_| ())
    }

    /// A copy of the state to be sent, which holds at least what the log no longer does, and entries
    /// up to `point`: openraft takes it for what it has asked to be sent, and whoever gets it for one
    /// that has these entries. One that is being sent already is shared, if it has them.
    pub(crate) async fn copy(self: &Arc<Self>, point: Option<LogId>) -> Result<Arc<Copy>> {
        let mut kept = self.copy.lock().await;
        if let Some(kept) = &mut *kept
            && kept.copy.meta.last_log_id >= self.store.purged().max(point)
        {
            kept.used = Instant::now();
            return Ok(kept.copy.clone());
        }
        *kept = None;
        let replica = self.clone();
        let copy = Arc::new(self.work.run(move || replica.make_copy()).await?);
        *kept = Some(Kept { copy: copy.clone(), used: Instant::now() });
        Ok(copy)
    }

    /// Says that a copy has arrived: unless somebody else sends it, it goes.
    pub(crate) async fn sent(&self, copy: Arc<Copy>) {
        let mut kept = self.copy.lock().await;
        let is_last = |kept: &mut Kept| {
            // This one, that in the slot, and no other.
            Arc::ptr_eq(&kept.copy, &copy) && Arc::strong_count(&copy) == 2
        };
        kept.take_if(is_last);
    }

    /// Lets a copy go that nobody has sent for a while.
    pub(crate) async fn drop_idle_copy(&self) {
        let is_idle = |kept: &mut Kept| {
            Arc::strong_count(&kept.copy) == 1 && kept.used.elapsed() >= COPY_PATIENCE
        };
        self.copy.lock().await.take_if(is_idle);
    }

    fn make_copy(self: Arc<Self>) -> Result<Copy> {
        let number = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        let dir = lock(&self.generations).outgoing(number)?;
        lock(&self.copies).insert(number, self.state.held());
        let (meta, files) = (SnapshotMeta::default(), Vec::new());
        let mut copy = Copy { replica: self, number, dir, meta, files };
        let index = copy.replica.state.copy_to(&copy.dir)?;
        lock(&copy.replica.copies).insert(number, index);
        copy.meta = copy.replica.meta_at(index)?;
        let files = copy.replica.disk.list(&copy.dir)?;
        copy.files = files.into_iter().map(|entry| (entry.name, entry.len)).collect();
        Ok(copy)
    }

    /// What every copy that is being made or sent holds at least; `None` if there is none.
    pub(crate) fn copied(&self) -> Option<LogIndex> {
        lock(&self.copies).values().min().copied()
    }

    /// Lets the state go; nothing is written any more.
    pub(crate) fn close(&self) {
        // A copy holds the replica that it is of.
        if let Ok(mut kept) = self.copy.try_lock() {
            *kept = None;
        }
        self.state.close();
    }
}

/// A snapshot that is being received, or was. Dropped before it is installed, its folder goes.
pub struct Staged {
    replica: Arc<Replica>,
    generation: u64,
    folder: PathBuf,
    is_whole: bool,
}

impl Staged {
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_whole {
            // What stays behind is removed at the next start.
            _ = remove_dir_all(&*self.replica.disk, &self.folder);
        }
    }
}

/// A copy of the state in a folder of its own, which goes with it.
pub(crate) struct Copy {
    replica: Arc<Replica>,
    number: u64,
    pub(crate) dir: PathBuf,
    pub(crate) meta: SnapshotMeta,
    /// Its files: name and bytes.
    pub(crate) files: Vec<(String, u64)>,
}

impl Copy {
    /// Names the copy among all that this node has made since its process began.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        lock(&self.replica.copies).remove(&self.number);
        _ = remove_dir_all(&*self.replica.disk, &self.dir);
    }
}

/// A poisoned mutex means that a thread panicked; what these guard is whole between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::GroupId;
    use crate::env::SimDisk;
    use crate::env::sim_disk::Crash;
    use crate::log::{Log, LogOptions};
    use crate::raft::log_store::Recovered;
    use crate::raft::memory::{Memory, MemoryMachine};
    use crate::raft::vocabulary::{Entry, Payload, log_id};
    use openraft::storage::{RaftLogStorage, RaftLogStorageExt};

    const GROUP: GroupId = GroupId(3);

    /// Counts what it was given.
    #[derive(Default)]
    struct Tally(u8);

    impl Memory for Tally {
        fn apply(&mut self, _: &[u8]) -> Result<Vec<u8>> {
            self.0 += 1;
            Ok(vec![self.0])
        }

        fn snapshot(&self) -> Vec<u8> {
            vec![self.0]
        }

        fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
            self.0 = snapshot[0];
            Ok(())
        }
    }

    fn open(disk: &SimDisk, dir: &Path) -> Arc<Replica> {
        let options = LogOptions { threads: false, seed: Some(1), ..LogOptions::default() };
        let mut found = Recovered::default();
        let log = Log::open(disk.shared(), Path::new("/log"), options, &mut |position, record| {
            found.take(position, &record)
        });
        let store = LogStore::new(Arc::new(log.unwrap()), GROUP, found);
        disk.shared().create_dir_all(dir).unwrap();
        let state = Box::new(MemoryMachine::new(disk.shared(), Tally::default()));
        Replica::open(state, store, disk.shared(), dir, Work::Inline, Arc::default()).unwrap()
    }

    /// A replica whose log holds entries that were never committed, beyond what a snapshot brings, is
    /// sent that snapshot: its log is truncated first. Power lost at any change to the disk from there
    /// on must not bring the snapshot without the truncation, or the replica would vote by entries
    /// that others have overtaken.
    #[tokio::test]
    async fn a_snapshot_does_not_take_its_place_before_what_the_log_was_told() {
        let dir = Path::new("/group");
        let mut installed = 0;
        for stop in 0..40 {
            let disk = SimDisk::new();
            let replica = open(&disk, dir);
            let mut store = replica.store.clone();
            let of_term_1 = |index| Entry { log_id: log_id(1, index), payload: Payload::Blank };
            store.blocking_append((0..10).map(of_term_1)).await.unwrap();
            disk.stop_at(Some(stop));
            // Entry 7 of the leader's is of term 2.
            let truncated = store.truncate_after(Some(log_id(1, 4))).await;
            let last = log_id(2, 7);
            let install = || -> Result<()> {
                let staged = replica.stage()?;
                let sent = MemoryMachine::new(disk.shared(), Tally::default());
                sent.open(staged.folder())?;
                sent.apply(LogIndex(8), &[])?;
                sent.hold(&|| Ok(()))?;
                disk.shared().sync_dir(staged.folder())?;
                let meta = SnapshotMeta { last_log_id: Some(last), ..SnapshotMeta::default() };
                replica.install(&meta, staged)
            };
            _ = truncated.map(|()| install());
            drop((replica, store));

            let again = open(&disk.crash(Crash::PowerLostClean), dir);
            if let Some(point) = again.point().unwrap() {
                installed += 1;
                assert_eq!(point.last_log_id, Some(last), "stopped at {stop}");
                let stale = again.store.log_id(9);
                assert_eq!(stale, None, "stopped at {stop}: an entry of term 1 is there again");
            }
        }
        assert!(installed > 0 && installed < 40, "{installed} of 40 had been installed");
    }
}

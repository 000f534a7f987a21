//! The groups of one node: on its one log, in one folder, over one network.
//!
//! ```text
//! <folder>/group-<id>/        see `generation`
//!                    /REMOVED  the replica is being removed
//! ```
//! A replica is known to the log and has a folder; one that has only one of the two has lost the
//! other, and is refused: it may have voted or acknowledged what it no longer knows.

use crate::base::{Error, ErrorKind, GroupId, Result};
use crate::env::Disk;
use crate::env::disk::write_atomic;
use crate::log::{Log, Position, RecordRef};
use crate::raft::generation::{has_current, remove_all_but, remove_dir_all};
use crate::raft::group::{Group, Start};
use crate::raft::inbound;
use crate::raft::log_store::{LogStore, Recovered};
use crate::raft::message::{Body, Envelope};
use crate::raft::options::GroupOptions;
use crate::raft::proposer::{RaftLog, proposals};
use crate::raft::shard_machine::{ShardHandle, ShardMachine};
use crate::raft::ship::Rate;
use crate::raft::split::{Making, Split, clear_making};
use crate::raft::state::StateMachine;
use crate::raft::transport::{Class, NodeId, Peers, Questions};
use crate::raft::work::Work;
use crate::shard::Shard;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// Settings of a node's groups.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Below which each group has a folder.
    pub dir: PathBuf,
    /// Where flushes, copies and files of snapshots are worked on.
    pub work: Work,
    /// Bytes a second of all snapshots that this node sends; 0 for no bound. Default 64 MiB.
    pub snapshot_bytes_per_second: u64,
    /// Snapshots sent at a time, and as many received. Default 2, at least 1.
    pub snapshots_at_once: usize,
    /// Bytes of the node's log on disk above which groups are asked to let go of its oldest part,
    /// each of however little. Default 1 GiB.
    pub log_bytes_max: u64,
    /// A random number, another at every start: names of snapshots, and numbers of questions and of
    /// streams, begin there. An answer to a question of the process before is then none to one of
    /// this, however late it comes.
    pub nonce: u64,
}

impl HostOptions {
    /// The defaults, below `dir`.
    pub fn new(dir: impl Into<PathBuf>, work: Work, nonce: u64) -> HostOptions {
        HostOptions {
            dir: dir.into(),
            work,
            snapshot_bytes_per_second: 64 << 20,
            snapshots_at_once: 2,
            log_bytes_max: 1 << 30,
            nonce,
        }
    }
}

/// What a log's records say of all groups, gathered while it is opened.
#[derive(Debug, Default)]
pub struct Recoveries(BTreeMap<GroupId, Recovered>);

impl Recoveries {
    /// Takes the next record of a replicated group, in log order.
    ///
    /// # Errors
    /// As [`Recovered::take`].
    pub fn take(&mut self, position: Position, record: &RecordRef<'_>) -> Result<()> {
        self.0.entry(record.group).or_default().take(position, record)
    }
}

/// The groups of one node. Clones share them.
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
}

/// What a node's groups have in common.
pub(crate) struct Shared {
    pub(crate) options: HostOptions,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) log: Arc<Log>,
    pub(crate) questions: Arc<Questions>,
    /// Numbers of streams of appends.
    pub(crate) streams: AtomicU64,
    pub(crate) nonce: u64,
    /// How many copies of replicas have been made, to be sent.
    pub(crate) copies: Arc<AtomicU64>,
    pub(crate) sending: Semaphore,
    pub(crate) receiving: Arc<Semaphore>,
    pub(crate) rate: Rate,
    stores: Mutex<BTreeMap<GroupId, LogStore>>,
    groups: Mutex<BTreeMap<GroupId, Group>>,
    /// Groups that had a folder at the start of which the log knew nothing.
    orphans: Mutex<BTreeSet<GroupId>>,
    /// Held while a group is started, stopped or removed.
    changing: tokio::sync::Mutex<()>,
    /// Groups whose half of a split shard is being made here, or what is left of one seen to.
    pub(crate) making: Making,
}

impl Host {
    /// The host of the groups that `log` was replayed for.
    ///
    /// # Errors
    /// What the disk answers.
    pub fn new(
        options: HostOptions,
        disk: Arc<dyn Disk>,
        log: Arc<Log>,
        peers: Arc<dyn Peers>,
        recovered: Recoveries,
    ) -> Result<Host> {
        disk.create_dir_all(&options.dir)?;
        let mut stores = BTreeMap::new();
        for (group, recovered) in recovered.0 {
            if recovered.replica().is_some() {
                stores.insert(group, LogStore::new(log.clone(), group, recovered));
            } else {
                log.remove_group(group)?;
            }
        }
        let at_once = options.snapshots_at_once.max(1);
        // Not so high that counting on comes to 0.
        let first = (options.nonce >> 1) | 1;
        let shared = Shared {
            nonce: options.nonce.wrapping_shl(32),
            rate: Rate::new(options.snapshot_bytes_per_second),
            options,
            disk,
            log,
            questions: Questions::new(peers, first),
            streams: AtomicU64::new(first),
            copies: Arc::default(),
            sending: Semaphore::new(at_once),
            receiving: Arc::new(Semaphore::new(at_once)),
            stores: Mutex::new(stores),
            groups: Mutex::default(),
            orphans: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            making: Making::default(),
        };
        let host = Host { shared: Arc::new(shared) };
        for entry in host.shared.disk.list(&host.shared.options.dir)? {
            // What a crash left of a removal, also of one whose log is gone already, or of a half.
            let group = entry.name.strip_prefix("group-").and_then(|id| id.parse().ok());
            if let Some(group) = group.map(GroupId) {
                host.shared.finish_removal(group)?;
                clear_making(&host.shared, group)?;
                if host.shared.has_lost_log(group) {
                    lock(&host.shared.orphans).insert(group);
                }
            }
        }
        Ok(host)
    }

    /// Why the node's log takes nothing any more, if that is so: nothing runs here then until the
    /// process is started anew.
    pub fn log_failed(&self) -> Option<Error> {
        self.shared.log.poisoned()
    }

    /// The replicas that this node's log knows, whether they run or not.
    pub fn replicas(&self) -> Vec<(GroupId, u64)> {
        let stores = lock(&self.shared.stores);
        stores.iter().filter_map(|(group, store)| Some((*group, store.replica()?))).collect()
    }

    /// Whether the log knows replicas that have taken part in their groups, and not one folder of a
    /// group is here: what they are in, rather than each of them, has been lost.
    ///
    /// # Errors
    /// What the disk answers.
    pub fn has_lost_all(&self) -> Result<bool> {
        if lock(&self.shared.stores).values().all(LogStore::is_new) {
            return Ok(false);
        }
        let here = self.shared.disk.list(&self.shared.options.dir)?;
        Ok(here.iter().all(|entry| !entry.name.starts_with("group-")))
    }

    /// Groups whose folders are here, and of which the log knows nothing: no replica of them can be
    /// started or made until they are removed.
    pub fn orphans(&self) -> Vec<GroupId> {
        let orphans = lock(&self.shared.orphans).clone();
        orphans.into_iter().filter(|group| self.shared.replica_of(*group).is_none()).collect()
    }

    /// Whether the replica of a group that is here has neither voted nor been told anything.
    pub fn is_blank(&self, group: GroupId) -> bool {
        lock(&self.shared.stores).get(&group).is_none_or(LogStore::is_new)
    }

    /// A group that runs.
    pub fn group(&self, group: GroupId) -> Option<Group> {
        lock(&self.shared.groups).get(&group).cloned()
    }

    /// All groups that run.
    pub fn groups(&self) -> Vec<Group> {
        lock(&self.shared.groups).values().cloned().collect()
    }

    /// Makes a replica of a group on this node, empty, and starts it. One that is there already
    /// under this id is started. The registry gives ids of replicas out and never gives one twice.
    ///
    /// # Errors
    /// `AlreadyExists` if another replica of the group is here; `Unavailable` while a split makes one
    /// here; as [`Host::start`].
    pub async fn create(
        &self,
        group: GroupId,
        replica: u64,
        options: GroupOptions,
        state: Box<dyn StateMachine>,
    ) -> Result<Group> {
        let _one = self.shared.changing.lock().await;
        self.blocking(move |shared| {
            shared.finish_removal(group)?;
            shared.begin(group, replica)
        })
        .await?;
        self.run(group, replica, options, state).await
    }

    /// Does what waits for the disk, or for a split that does, on no thread of the runtime.
    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = self.shared.clone();
        self.shared.options.work.run(move || job(&shared)).await
    }

    /// Starts a replica that is here.
    ///
    /// # Errors
    /// `NotFound` if the replica is not here; `Refused` if the log has lost it; `Corruption` if its
    /// folder has been lost, or is damaged; what the disk answers.
    pub async fn start(
        &self,
        group: GroupId,
        replica: u64,
        options: GroupOptions,
        state: Box<dyn StateMachine>,
    ) -> Result<Group> {
        let _one = self.shared.changing.lock().await;
        if self.shared.replica_of(group) != Some(replica) {
            self.blocking(move |shared| shared.clear(group)).await?;
            let message = format!("replica {replica} of group {group} is not on this node");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        self.run(group, replica, options, state).await
    }

    /// As [`Host::start`] or, with `create`, [`Host::create`] for a shard, which `open` opens in a
    /// folder with the log it is given.
    pub async fn start_shard(
        &self,
        group: GroupId,
        replica: u64,
        options: GroupOptions,
        create: bool,
        open: impl Fn(&Path, RaftLog) -> Result<Arc<Shard>> + Send + Sync + 'static,
    ) -> Result<(Group, ShardHandle)> {
        let (log, proposer) = proposals();
        let handle = ShardHandle::new();
        let host = Arc::downgrade(&self.shared);
        let make_child = move |index, split: &Split, fill: &dyn Fn(&Path) -> Result<()>| {
            let host = host
                .upgrade()
                .ok_or_else(|| Error::new(ErrorKind::Unavailable, "the node is stopping"))?;
            crate::raft::split::make_child(&host, group, replica, index, split, fill)
        };
        let machine = Box::new(ShardMachine::new(
            self.shared.disk.clone(),
            &self.shared.log,
            Box::new(move |dir| open(dir, log.clone())),
            Box::new(make_child),
            handle.clone(),
        ));
        let group = match create {
            true => self.create(group, replica, options, machine).await?,
            false => self.start(group, replica, options, machine).await?,
        };
        group.lead(proposer, handle.clone());
        Ok((group, handle))
    }

    async fn run(
        &self,
        group: GroupId,
        replica: u64,
        options: GroupOptions,
        state: Box<dyn StateMachine>,
    ) -> Result<Group> {
        if self.group(group).is_some() {
            let message = format!("group {group} runs already");
            return Err(Error::new(ErrorKind::AlreadyExists, message));
        }
        let store = lock(&self.shared.stores).get(&group).cloned();
        let dir = self.shared.dir_of(group);
        let Some(store) = store else { return Err(lost_log(group)) };
        if !has_current(&*self.shared.disk, &dir) && !store.is_new() {
            let message = format!(
                "the folder of group {group} is gone, but its log is not; remove this replica and \
                 add a new one"
            );
            return Err(Error::new(ErrorKind::Corruption, message));
        }
        // Openraft takes for durable what the log holds, and acknowledges it: a replica that begins
        // again in the same process would do so with what the one before it had not synced.
        if let Some(error) = self.log_failed() {
            return Err(error);
        }
        let synced = store.clone();
        self.blocking(move |_| synced.sync()).await?;
        let start = Start { id: group, own: replica, options, store, state, dir };
        let group = Group::start(self.shared.clone(), start).await?;
        lock(&self.shared.groups).insert(group.id(), group.clone());
        Ok(group)
    }

    /// Stops a group; nothing of it is lost. Fine if it does not run.
    pub async fn stop(&self, group: GroupId) {
        let _one = self.shared.changing.lock().await;
        let running = lock(&self.shared.groups).remove(&group);
        if let Some(running) = running {
            running.stop().await;
        }
    }

    /// Stops a group and removes its replica from this node for good: its id must never be used
    /// again. Fine if it is not here.
    ///
    /// # Errors
    /// What the disk answers; called again, it goes on.
    pub async fn remove(&self, group: GroupId) -> Result<()> {
        self.stop(group).await;
        let _one = self.shared.changing.lock().await;
        self.blocking(move |shared| shared.remove(group)).await
    }

    /// Stops all groups.
    pub async fn stop_all(&self) {
        let groups: Vec<GroupId> = lock(&self.shared.groups).keys().copied().collect();
        for group in groups {
            self.stop(group).await;
        }
    }

    /// Keeps the node's log within its bound: a group that hardly writes keeps the oldest segment,
    /// and with it all behind it, though its own log is small. Called about once a second.
    ///
    /// # Errors
    /// `Unavailable` if the group has stopped.
    pub async fn tend(&self) -> Result<()> {
        let bytes = self.shared.log.bytes_on_disk();
        if bytes <= self.shared.options.log_bytes_max {
            return Ok(());
        }
        let pinned = self.shared.log.pinned_by();
        let Some((group, index, _)) = pinned.filter(|(_, index, _)| index.0 > 0) else {
            return Ok(());
        };
        let whatever = bytes / 2 > self.shared.options.log_bytes_max;
        match self.group(group) {
            Some(group) => group.cut_to(index.0 - 1, whatever).await,
            None => Ok(()),
        }
    }

    /// Serves the groups that hibernate, and lets those that have nothing to do begin to. Called
    /// four times in [`GroupOptions::election_max`], the bound of a leader's lease.
    pub fn hibernate(&self) {
        self.groups().iter().for_each(|group| group.inner().hibernate());
    }

    /// Takes a message that has arrived from a node. Called within a runtime, in the order in which
    /// the messages of one class were sent. Does not wait.
    pub fn receive(&self, from: NodeId, class: Class, message: Bytes) {
        if let Some(refusal) = Envelope::refusal(&message) {
            return self.shared.questions.answer(from, class, &refusal);
        }
        // What is malformed, or of a newer program, is as good as lost.
        let Ok(mut envelope) = Envelope::decode_bytes(message) else { return };
        if envelope.body.as_ref().is_some_and(Body::is_answer) {
            if let Some(body) = envelope.body.take() {
                self.shared.questions.take(from, envelope.id, body);
            }
            return;
        }
        match self.group(GroupId(envelope.group)) {
            Some(group) => inbound::take(group.inner(), from, class, envelope),
            None => {
                let (group, own) = (envelope.group, envelope.to);
                let error = Error::new(ErrorKind::Unavailable, "the group does not run here");
                let body = Some(Body::failed(&error));
                let answer =
                    Envelope { group, from: own, to: envelope.from, id: envelope.id, body };
                self.shared.questions.answer(from, class, &answer);
            }
        }
    }

    /// Says that the way to a node has broken: what it was asked is not waited for any longer.
    pub fn lost(&self, node: NodeId) {
        self.shared.questions.lose(node);
    }
}

impl Shared {
    /// Has the log know a replica, if it does not yet.
    fn begin(&self, group: GroupId, replica: u64) -> Result<()> {
        let _turn = self.making.try_take(group)?;
        clear_making(self, group)?;
        match self.replica_of(group) {
            Some(known) if known != replica => {
                let message = format!("replica {known} of group {group} is here; remove it first");
                Err(Error::new(ErrorKind::AlreadyExists, message))
            }
            Some(_) => Ok(()),
            None if self.has_lost_log(group) => Err(lost_log(group)),
            None => {
                let store = LogStore::new(self.log.clone(), group, Recovered::default());
                // The log first: a replica that it knows and that has done nothing needs no folder.
                store.begin(replica)?;
                self.keep_store(group, store);
                Ok(())
            }
        }
    }

    /// Sees to what a split left half-way where there is no replica.
    fn clear(&self, group: GroupId) -> Result<()> {
        let _turn = self.making.try_take(group)?;
        clear_making(self, group)?;
        match self.replica_of(group) {
            None if self.has_lost_log(group) => Err(lost_log(group)),
            _ => Ok(()),
        }
    }

    fn remove(&self, group: GroupId) -> Result<()> {
        let dir = self.dir_of(group);
        if self.disk.exists(&dir) {
            write_atomic(&*self.disk, &dir.join("REMOVED"), b"")?;
        }
        self.remove_store(group)?;
        self.finish_removal(group)
    }

    fn remove_store(&self, group: GroupId) -> Result<()> {
        let store = lock(&self.stores).remove(&group);
        store.map_or(Ok(()), |store| store.remove())
    }

    fn finish_removal(&self, group: GroupId) -> Result<()> {
        let (disk, dir) = (&*self.disk, self.dir_of(group));
        if !disk.exists(&dir.join("REMOVED")) {
            return Ok(());
        }
        self.remove_store(group)?;
        remove_all_but(disk, &dir, "REMOVED")?;
        remove_dir_all(disk, &dir)?;
        lock(&self.orphans).remove(&group);
        Ok(())
    }

    /// Whether a group has a folder that counts, of which the log knows nothing.
    fn has_lost_log(&self, group: GroupId) -> bool {
        self.replica_of(group).is_none() && has_current(&*self.disk, &self.dir_of(group))
    }

    pub(crate) fn store_of(&self, group: GroupId) -> Option<LogStore> {
        lock(&self.stores).get(&group).cloned()
    }

    /// The replica of a group that the log knows.
    pub(crate) fn replica_of(&self, group: GroupId) -> Option<u64> {
        lock(&self.stores).get(&group).and_then(LogStore::replica)
    }

    pub(crate) fn keep_store(&self, group: GroupId, store: LogStore) {
        lock(&self.stores).insert(group, store);
    }

    pub(crate) fn dir_of(&self, group: GroupId) -> PathBuf {
        self.options.dir.join(format!("group-{group}"))
    }
}

fn lost_log(group: GroupId) -> Error {
    let message = format!(
        "the log knows nothing of group {group}, but its folder is here: the log was lost; remove \
         this replica and add a new one"
    );
    Error::new(ErrorKind::Refused, message)
}

/// A poisoned mutex means that a thread panicked; what these guard is whole between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SimDisk;
    use crate::log::{LogOptions, SyncLevel};
    use crate::raft::message::{Body, Empty, Envelope};
    use crate::raft::transport::tests::Kept;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    /// The numbers of the first questions and streams of a node that begins.
    fn numbers(disk: &SimDisk, nonce: u64) -> BTreeSet<u64> {
        let options = LogOptions {
            sync: SyncLevel::Always,
            segment_bytes: 64 << 10,
            threads: false,
            ..LogOptions::default()
        };
        let log = Log::open(disk.shared(), Path::new("/log"), options, &mut |_, _| Ok(())).unwrap();
        let options = HostOptions::new("/groups", Work::Inline, nonce);
        let (kept, none) = (Arc::new(Kept::default()), Recoveries::default());
        let host = Host::new(options, disk.shared(), Arc::new(log), kept.clone(), none).unwrap();
        for _ in 0..1_000 {
            let body = Some(Body::Probe(Empty {}));
            let envelope = Envelope { group: 1, from: 1, to: 2, id: 0, body };
            let questions = &host.shared.questions;
            questions.ask(NodeId(2), Class::Control, envelope, Duration::from_secs(1)).unwrap();
        }
        let sent = std::mem::take(&mut *kept.0.lock().unwrap());
        let asked = sent.into_iter().map(|sent| Envelope::decode_bytes(sent).unwrap().id);
        let streams = (0..1_000).map(|_| host.shared.streams.fetch_add(1, Ordering::Relaxed));
        asked.chain(streams).collect()
    }

    #[tokio::test]
    async fn a_node_that_begins_again_gives_none_of_its_numbers_again() {
        let disk = SimDisk::new();
        let before = numbers(&disk, 0x1234_5678_9abc_def0);
        let now = numbers(&disk, 0x8765_4321_0fed_cba9);
        assert!(before.is_disjoint(&now));
        assert!(before.len() >= 1_000 && !before.contains(&0));
    }
}

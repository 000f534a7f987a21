//! A group's Raft log over the node's log.
//!
//! Entries are `Entry` records, a truncation is a `Truncate`, and vote, committed id, purged id
//! and applied state are `State` records in slots of their own: all one ordered stream, so none
//! can overtake another. In memory stands only where each entry lies and its term.
//!
//! A disk without room holds the replica up: what is to be written waits until there is some again,
//! and with it all that openraft does for the group here. Others elect another leader meanwhile.

use crate::base::{Error, ErrorKind, GroupId, LogIndex, Result};
use crate::log::{Log, Position, RecordKind, RecordRef};
use crate::raft::vocabulary::{
    Entry, LogId, Payload, StoredMembership, TypeConfig, Vote, log_id, term,
};
use crate::raft::wire;
use bytes::Bytes;
use openraft::impls::leader_id_std::LeaderId;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

const SLOT_VOTE: u64 = 1;
const SLOT_COMMITTED: u64 = 2;
const SLOT_PURGED: u64 = 3;
const SLOT_MEMBERS: u64 = 4;
const SLOT_REPLICA: u64 = 5;

/// Bytes of the newest entries that are kept in memory: each is read once for every follower and
/// once to be applied.
const RECENT_BYTES: usize = 4 << 20;
/// Bytes of entries that a replication stream is given at once.
const READ_BYTES: u64 = 4 << 20;
/// How often what waits for room on the disk looks whether there is some.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(100);

/// What a group's records say, gathered while the node's log is replayed.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Where entries lie; the first one's index is `first`.
    entries: VecDeque<Placed>,
    first: u64,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    members: Vec<StoredMembership>,
    replica: Option<u64>,
    /// Bytes of all entries, as the log carries them.
    bytes: u64,
    /// The newest entries, as far as they are in memory, and their bytes.
    recent: VecDeque<Entry>,
    recent_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Placed {
    position: Position,
    term: u64,
    bytes: u64,
}

impl Recovered {
    /// Takes the group's next record, in log order.
    ///
    /// # Errors
    /// `Corruption` if it is malformed or leaves a hole.
    pub fn take(&mut self, position: Position, record: &RecordRef<'_>) -> Result<()> {
        match record.kind {
            RecordKind::Entry => {
                let entry = wire::decode_entry(Bytes::copy_from_slice(record.payload))?;
                let index = entry.log_id.index;
                if self.entries.is_empty() {
                    self.first = index;
                }
                if index != self.end() || index + 1 != record.index.0 {
                    return Err(Error::new(
                        ErrorKind::Corruption,
                        format!("Raft entry {index} stands where {} should", self.end()),
                    ));
                }
                let bytes = record.payload.len() as u64;
                self.push(Placed { position, term: term(&entry.log_id), bytes });
            }
            RecordKind::Truncate => self.truncate(record.index.0),
            RecordKind::State => match record.index.0 {
                SLOT_VOTE => {
                    let vote = (!record.payload.is_empty()).then_some(record.payload);
                    self.vote = vote.map(wire::decode_vote).transpose()?;
                }
                SLOT_REPLICA => {
                    let id = <[u8; 8]>::try_from(record.payload).ok();
                    self.replica = id.map(u64::from_le_bytes);
                }
                SLOT_COMMITTED => self.committed = wire::decode_log_id(record.payload)?,
                SLOT_PURGED => {
                    self.purged = wire::decode_log_id(record.payload)?;
                    self.forget_purged();
                }
                SLOT_MEMBERS => self.members = wire::decode_members(record.payload)?,
                // A slot of a newer version: what it means is not ours to guess.
                slot => {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        format!("Raft state slot {slot} is of a newer version"),
                    ));
                }
            },
        }
        Ok(())
    }

    /// The replica that the records are of; `None` if it was removed.
    pub fn replica(&self) -> Option<u64> {
        self.replica
    }

    /// The index behind the last entry.
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn push(&mut self, placed: Placed) {
        self.bytes += placed.bytes;
        self.entries.push_back(placed);
    }

    /// Keeps an entry that was just pushed in memory.
    fn remember(&mut self, entry: Entry) {
        self.recent_bytes += size(&entry);
        self.recent.push_back(entry);
        while self.recent_bytes > RECENT_BYTES
            && self.recent.len() > 1
            && let Some(old) = self.recent.pop_front()
        {
            self.recent_bytes -= size(&old);
        }
    }

    /// Keeps the entries below `end`.
    fn truncate(&mut self, end: u64) {
        while self.end() > end.max(self.first)
            && let Some(placed) = self.entries.pop_back()
        {
            self.bytes -= placed.bytes;
        }
        while self.recent.back().is_some_and(|entry| entry.log_id.index >= end)
            && let Some(entry) = self.recent.pop_back()
        {
            self.recent_bytes -= size(&entry);
        }
    }

    /// Forgets the entries that are purged; they may be on disk still.
    fn forget_purged(&mut self) {
        let Some(purged) = self.purged else { return };
        while self.first <= purged.index
            && let Some(placed) = self.entries.pop_front()
        {
            self.first += 1;
            self.bytes -= placed.bytes;
        }
        while self.recent.front().is_some_and(|entry| entry.log_id.index <= purged.index)
            && let Some(entry) = self.recent.pop_front()
        {
            self.recent_bytes -= size(&entry);
        }
        if self.entries.is_empty() {
            self.first = purged.index + 1;
        }
    }

    fn id_of(&self, index: u64) -> Option<LogId> {
        let at = index.checked_sub(self.first)?;
        self.entries.get(at as usize).map(|placed| log_id(placed.term, index))
    }

    fn last(&self) -> Option<LogId> {
        self.end().checked_sub(1).and_then(|index| self.id_of(index)).or(self.purged)
    }
}

/// A group's log and votes. Clones share it.
#[derive(Clone)]
pub struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    log: Arc<Log>,
    group: GroupId,
    state: Mutex<Recovered>,
    /// Whether something waits for room on the disk.
    without_room: watch::Sender<bool>,
}

impl LogStore {
    /// The store of `group`, with what was recovered of it.
    pub fn new(log: Arc<Log>, group: GroupId, mut recovered: Recovered) -> LogStore {
        recovered.forget_purged();
        if recovered.entries.is_empty() && recovered.purged.is_none() {
            recovered.first = 0;
        }
        let (state, without_room) = (Mutex::new(recovered), watch::Sender::new(false));
        LogStore { shared: Arc::new(Shared { log, group, state, without_room }) }
    }

    /// The memberships that were kept last, oldest first.
    pub(crate) fn members(&self) -> Vec<StoredMembership> {
        self.state().members.clone()
    }

    /// Keeps memberships, durable with the next sync.
    pub(crate) fn save_members(&self, members: &[StoredMembership]) -> Result<()> {
        let payload = wire::encode_members(members);
        let mut state = self.state();
        self.append_state(SLOT_MEMBERS, &payload)?;
        state.members = members.to_vec();
        Ok(())
    }

    /// Whether the disk has no room for what is to be written, as that changes.
    pub(crate) fn without_room(&self) -> watch::Receiver<bool> {
        self.shared.without_room.subscribe()
    }

    /// Writes as soon as there is room for it.
    pub(crate) async fn with_room<T>(&self, mut write: impl FnMut() -> Result<T>) -> Result<T> {
        let waits = |waits| {
            let change = |was: &mut bool| std::mem::replace(was, waits) != waits;
            self.shared.without_room.send_if_modified(change);
        };
        loop {
            match write() {
                Err(error) if error.kind() == ErrorKind::OutOfSpace => waits(true),
                done => {
                    waits(false);
                    return done;
                }
            }
            tokio::time::sleep(LOOK_FOR_ROOM).await;
        }
    }

    /// Makes everything appended so far durable. Waits for the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.shared.log.sync_to(self.shared.log.written())
    }

    /// Bytes of the entries that are in the log.
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// The greatest index whose leaving, with all before it, leaves `bytes` or more in the log.
    pub(crate) fn index_to_leave(&self, bytes: u64) -> Option<u64> {
        let state = self.state();
        let mut left = state.bytes;
        let mut found = None;
        for (index, placed) in (state.first..).zip(&state.entries) {
            left -= placed.bytes;
            if left < bytes {
                break;
            }
            found = Some(index);
        }
        found
    }

    /// The last entry that was purged.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.state().purged
    }

    /// The replica that the log is of.
    pub(crate) fn replica(&self) -> Option<u64> {
        self.state().replica
    }

    /// Whether the replica has neither voted nor been told anything.
    pub(crate) fn is_new(&self) -> bool {
        let state = self.state();
        state.vote.is_none() && state.entries.is_empty() && state.purged.is_none()
    }

    /// Begins the log of a replica: what the records of one that was here before say is void.
    /// Durable on return.
    pub(crate) fn begin(&self, replica: u64) -> Result<()> {
        self.reset_to(Recovered { replica: Some(replica), ..Recovered::default() })
    }

    /// Begins the log of a replica behind `entry`, as if all up to there had been purged: with a
    /// vote of that entry's term, for itself, that no majority has given. Durable on return.
    pub(crate) fn begin_at(
        &self,
        replica: u64,
        entry: LogId,
        members: &StoredMembership,
    ) -> Result<()> {
        let leader_id = LeaderId { term: term(&entry), voted_for: replica };
        let vote = Vote { leader_id, committed: false };
        let began = Recovered {
            vote: Some(vote),
            purged: Some(entry),
            members: vec![members.clone()],
            replica: Some(replica),
            first: entry.index + 1,
            ..Recovered::default()
        };
        self.reset_to(began)?;
        // It is there from here on; what the log may give back is said again with the next cut.
        _ = self.shared.log.set_floor(self.shared.group, LogIndex(entry.index + 1));
        Ok(())
    }

    /// Forgets the replica: nothing of the group will be in the log. Durable on return.
    pub(crate) fn remove(&self) -> Result<()> {
        self.reset_to(Recovered::default())?;
        self.shared.log.remove_group(self.shared.group)
    }

    /// Puts `state`, which has no entries, in the place of what the log says of the group.
    fn reset_to(&self, state: Recovered) -> Result<()> {
        let record = |kind, index, payload| RecordRef {
            group: self.shared.group,
            kind,
            index: LogIndex(index),
            payload,
        };
        let slot = |slot, payload| record(RecordKind::State, slot, payload);
        let vote = state.vote.as_ref().map(wire::encode_vote).unwrap_or_default();
        let purged = wire::encode_log_id(state.purged.as_ref());
        let members = match state.members.is_empty() {
            true => Vec::new(),
            false => wire::encode_members(&state.members),
        };
        let id = state.replica.map(|id| id.to_le_bytes().to_vec()).unwrap_or_default();
        let end = self.shared.log.append(&[
            record(RecordKind::Truncate, 0, &[]),
            slot(SLOT_VOTE, &vote),
            slot(SLOT_COMMITTED, &[]),
            slot(SLOT_PURGED, &purged),
            slot(SLOT_MEMBERS, &members),
            slot(SLOT_REPLICA, &id),
        ])?;
        *self.state() = state;
        self.shared.log.sync_to(end)
    }

    /// The term and index of an entry that is still in the log.
    pub(crate) fn log_id(&self, index: u64) -> Option<LogId> {
        let state = self.state();
        state.id_of(index).or_else(|| state.purged.filter(|id| id.index == index))
    }

    fn state(&self) -> MutexGuard<'_, Recovered> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_state(&self, slot: u64, payload: &[u8]) -> Result<Position> {
        let record = RecordRef {
            group: self.shared.group,
            kind: RecordKind::State,
            index: LogIndex(slot),
            payload,
        };
        self.shared.log.append(&[record])
    }

    fn append_entries(&self, entries: &[Entry]) -> Result<Position> {
        let payloads: Vec<Vec<u8>> = entries.iter().map(wire::encode_entry).collect();
        let records: Vec<RecordRef<'_>> = entries
            .iter()
            .zip(&payloads)
            .map(|(entry, payload)| RecordRef {
                group: self.shared.group,
                kind: RecordKind::Entry,
                index: LogIndex(entry.log_id.index + 1),
                payload,
            })
            .collect();
        let mut state = self.state();
        if let Some(first) = entries.first() {
            if state.entries.is_empty() {
                state.first = first.log_id.index;
            }
            if first.log_id.index != state.end() {
                return Err(Error::new(
                    ErrorKind::Internal,
                    format!("entry {} appended behind {}", first.log_id, state.end()),
                ));
            }
        }
        let mut positions = Vec::with_capacity(records.len());
        let end = self.shared.log.append_each(&records, &mut positions)?;
        for ((entry, position), payload) in entries.iter().zip(positions).zip(&payloads) {
            let bytes = payload.len() as u64;
            state.push(Placed { position, term: term(&entry.log_id), bytes });
            state.remember(entry.clone());
        }
        Ok(end)
    }

    /// The entries of `range`, as far as there are any; of more than `bytes_max` only the first
    /// ones, but at least one.
    fn read_entries(&self, range: impl RangeBounds<u64>, bytes_max: u64) -> Result<Vec<Entry>> {
        let from = match range.start_bound() {
            Bound::Included(i) => *i,
            Bound::Excluded(i) => i + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(i) => i + 1,
            Bound::Excluded(i) => *i,
            Bound::Unbounded => u64::MAX,
        };
        let (positions, recent) = {
            let state = self.state();
            let skip = from.saturating_sub(state.first) as usize;
            let end = to.saturating_sub(state.first) as usize;
            let mut bytes = 0;
            let fits = |placed: &&Placed| {
                let is_first = bytes == 0;
                bytes += placed.bytes.max(1);
                is_first || bytes <= bytes_max
            };
            let held = state.entries.iter().take(end).skip(skip).take_while(fits);
            let mut positions: Vec<Position> = held.map(|placed| placed.position).collect();
            let first = from.max(state.first);
            let in_memory = state.recent.front().map_or(u64::MAX, |entry| entry.log_id.index);
            let on_disk = in_memory.saturating_sub(first).min(positions.len() as u64) as usize;
            let count = positions.len() - on_disk;
            positions.truncate(on_disk);
            let at = (first + on_disk as u64).saturating_sub(in_memory) as usize;
            let recent: Vec<Entry> = state.recent.iter().skip(at).take(count).cloned().collect();
            (positions, recent)
        };
        let read = |position| wire::decode_entry(self.shared.log.read(position)?.payload.into());
        positions.into_iter().map(read).chain(recent.into_iter().map(Ok)).collect()
    }
}

/// About the bytes of an entry, as it is sent.
pub(crate) fn bytes_of(entry: &Entry) -> u64 {
    size(entry) as u64
}

/// About the bytes an entry takes in memory.
fn size(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        Payload::Normal(proposal) => proposal.framed().len(),
        Payload::Blank | Payload::Membership(_) => 0,
    };
    payload + size_of::<Entry>()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.read_entries(range, u64::MAX).map_err(io_error)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read_entries(start..end, READ_BYTES).map_err(io_error)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.state().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.state();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last() })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let save = || -> Result<Position> {
            let mut state = self.state();
            let position = self.append_state(SLOT_VOTE, &wire::encode_vote(vote))?;
            state.vote = Some(*vote);
            Ok(position)
        };
        let position = self.with_room(save).await.map_err(io_error)?;
        durable(&self.shared.log, position).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let save = || -> Result<()> {
            let mut state = self.state();
            self.append_state(SLOT_COMMITTED, &wire::encode_log_id(committed.as_ref()))?;
            state.committed = committed;
            Ok(())
        };
        self.with_room(save).await.map_err(io_error)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.state().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let end = self.with_room(|| self.append_entries(&entries)).await.map_err(io_error)?;
        let done = move |outcome: Result<()>| callback.io_completed(outcome.map_err(io_error));
        self.shared.log.on_durable(end, Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let end = last.map_or(0, |id| id.index + 1);
        let record = RecordRef {
            group: self.shared.group,
            kind: RecordKind::Truncate,
            index: LogIndex(end),
            payload: &[],
        };
        let truncate = || -> Result<()> {
            let mut state = self.state();
            self.shared.log.append(&[record])?;
            state.truncate(end);
            Ok(())
        };
        self.with_room(truncate).await.map_err(io_error)
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let purge = || -> Result<()> {
            let mut state = self.state();
            self.append_state(SLOT_PURGED, &wire::encode_log_id(Some(&upto)))?;
            state.purged = Some(upto);
            state.forget_purged();
            Ok(())
        };
        self.with_room(purge).await.map_err(io_error)?;
        self.shared.log.set_floor(self.shared.group, LogIndex(upto.index + 1)).map_err(io_error)
    }
}

/// Waits, without holding a thread, until the log is durable up to `position`.
async fn durable(log: &Log, position: Position) -> io::Result<()> {
    let (send, receive) = tokio::sync::oneshot::channel();
    log.on_durable(position, Box::new(move |outcome| _ = send.send(outcome)));
    match receive.await {
        Ok(outcome) => outcome.map_err(io_error),
        Err(_) => Err(io::Error::other("the log closed before the vote was durable")),
    }
}

/// openraft takes any I/O error of the store as fatal, which is what a failed log is.
pub(crate) fn io_error(error: Error) -> io::Error {
    io::Error::other(error)
}

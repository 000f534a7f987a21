//! A group's Raft log over the node's log.
//!
//! Entries are `Entry` records, a truncation is a `Truncate`, and vote, committed id, purged id
//! and applied state are `State` records in slots of their own: all one ordered stream, so none
//! can overtake another. In memory stands only where each entry lies and its term.

use crate::base::{Error, ErrorKind, GroupId, LogIndex, Result};
use crate::log::{Log, Position, RecordKind, RecordRef};
use crate::raft::vocabulary::{Entry, LogId, StoredMembership, TypeConfig, Vote, log_id, term};
use crate::raft::wire;
use bytes::Bytes;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SLOT_VOTE: u64 = 1;
const SLOT_COMMITTED: u64 = 2;
const SLOT_PURGED: u64 = 3;
const SLOT_APPLIED: u64 = 4;

/// What a group's records say, gathered while the node's log is replayed.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Where entries lie; the first one's index is `first`.
    entries: VecDeque<Placed>,
    first: u64,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    applied: Option<(Option<LogId>, StoredMembership)>,
}

#[derive(Debug, Clone, Copy)]
struct Placed {
    position: Position,
    term: u64,
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
                self.entries.push_back(Placed { position, term: term(&entry.log_id) });
            }
            RecordKind::Truncate => self.truncate(record.index.0),
            RecordKind::State => match record.index.0 {
                SLOT_VOTE => self.vote = Some(wire::decode_vote(record.payload)?),
                SLOT_COMMITTED => self.committed = wire::decode_log_id(record.payload)?,
                SLOT_PURGED => self.purged = wire::decode_log_id(record.payload)?,
                SLOT_APPLIED => self.applied = Some(wire::decode_applied(record.payload)?),
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

    /// The index behind the last entry.
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Keeps the entries below `end`.
    fn truncate(&mut self, end: u64) {
        self.entries.truncate(end.saturating_sub(self.first) as usize);
    }

    /// Forgets entries at or below `index` (they may be on disk still).
    fn forget(&mut self, index: u64) {
        while self.first <= index && self.entries.pop_front().is_some() {
            self.first += 1;
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
}

impl LogStore {
    /// The store of `group`, with what was recovered of it.
    pub fn new(log: Arc<Log>, group: GroupId, mut recovered: Recovered) -> LogStore {
        if let Some(purged) = recovered.purged {
            recovered.forget(purged.index);
        }
        if recovered.entries.is_empty() {
            recovered.first = recovered.purged.map_or(0, |id| id.index + 1);
        }
        LogStore { shared: Arc::new(Shared { log, group, state: Mutex::new(recovered) }) }
    }

    /// What the state machine had applied when it last said so.
    pub(crate) fn applied(&self) -> Option<(Option<LogId>, StoredMembership)> {
        self.state().applied.clone()
    }

    /// Keeps what the state machine has applied, durable with the next sync.
    pub(crate) fn save_applied(
        &self,
        last: Option<&LogId>,
        membership: &StoredMembership,
    ) -> Result<()> {
        let payload = wire::encode_applied(last, membership);
        let mut state = self.state();
        self.append_state(SLOT_APPLIED, &payload)?;
        state.applied = Some((last.copied(), membership.clone()));
        Ok(())
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
        for (entry, position) in entries.iter().zip(positions) {
            state.entries.push_back(Placed { position, term: term(&entry.log_id) });
        }
        Ok(end)
    }

    fn read_entries(&self, range: impl RangeBounds<u64>) -> Result<Vec<Entry>> {
        let positions: Vec<Position> = {
            let state = self.state();
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
            let skip = from.saturating_sub(state.first) as usize;
            let end = to.saturating_sub(state.first) as usize;
            let held = state.entries.iter().take(end).skip(skip);
            held.map(|placed| placed.position).collect()
        };
        positions
            .into_iter()
            .map(|position| wire::decode_entry(self.shared.log.read(position)?.payload.into()))
            .collect()
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.read_entries(range).map_err(io_error)
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
        let position = {
            let mut state = self.state();
            let position =
                self.append_state(SLOT_VOTE, &wire::encode_vote(vote)).map_err(io_error)?;
            state.vote = Some(*vote);
            position
        };
        durable(&self.shared.log, position).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let mut state = self.state();
        self.append_state(SLOT_COMMITTED, &wire::encode_log_id(committed.as_ref()))
            .map_err(io_error)?;
        state.committed = committed;
        Ok(())
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
        let end = self.append_entries(&entries).map_err(io_error)?;
        let done = move |outcome: Result<()>| callback.io_completed(outcome.map_err(io_error));
        self.shared.log.on_durable(end, Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let end = last.map_or(0, |id| id.index + 1);
        let mut state = self.state();
        let record = RecordRef {
            group: self.shared.group,
            kind: RecordKind::Truncate,
            index: LogIndex(end),
            payload: &[],
        };
        self.shared.log.append(&[record]).map_err(io_error)?;
        state.truncate(end);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut state = self.state();
        self.append_state(SLOT_PURGED, &wire::encode_log_id(Some(&upto))).map_err(io_error)?;
        state.purged = Some(upto);
        state.forget(upto.index);
        if state.entries.is_empty() {
            state.first = upto.index + 1;
        }
        drop(state);
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

//! Drives a log with random work and remembers what it promised; checks what a replay shows
//! against that memory.

use arqondb::base::{GroupId, LogIndex, Result};
use arqondb::env::{Appending, Rng, SimDisk};
use arqondb::log::{Log, LogOptions, Position, Record, RecordKind, SyncLevel};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) const DIR: &str = "/log";

pub(crate) fn options(sync: SyncLevel) -> LogOptions {
    LogOptions {
        appending: Appending::default(),
        segment_bytes: 4096,
        sync,
        recycle_max: 2,
        threads: false,
        syncs: None,
        seed: Some(1),
    }
}

pub(crate) fn record(group: u64, kind: RecordKind, index: u64, payload: &[u8]) -> Record {
    Record { group: GroupId(group), kind, index: LogIndex(index), payload: payload.to_vec() }
}

pub(crate) fn entry(group: u64, index: u64, payload: &[u8]) -> Record {
    record(group, RecordKind::Entry, index, payload)
}

/// Opens the log on `disk`; gives it with all it replayed.
pub(crate) fn open(disk: &SimDisk, options: LogOptions) -> Result<(Log, Vec<(Position, Record)>)> {
    let mut seen = Vec::new();
    let log = Log::open(disk.shared(), Path::new(DIR), options, &mut |position, r| {
        seen.push((
            position,
            Record { group: r.group, kind: r.kind, index: r.index, payload: r.payload.to_vec() },
        ));
        Ok(())
    })?;
    Ok((log, seen))
}

/// A call of `append`.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Record>,
    pub(crate) position: Option<Position>,
}

/// Which kinds of records are appended.
#[derive(Clone, Copy)]
pub(crate) enum Kinds {
    All,
    /// Entries and truncations.
    NoStates,
    /// Entries alone, as by a node without Raft.
    Entries,
}

/// A log under random work. Each batch has a record whose payload begins with the batch's number.
pub(crate) struct Driver {
    pub(crate) disk: SimDisk,
    pub(crate) options: LogOptions,
    pub(crate) log: Option<Log>,
    pub(crate) rng: Rng,
    /// Every call of append, the one that failed included.
    pub(crate) history: Vec<Batch>,
    /// How many of them were acknowledged.
    pub(crate) acked: usize,
    /// How many of them were known to be durable.
    pub(crate) durable: usize,
    pub(crate) kinds: Kinds,
    floors: BTreeMap<u64, u64>,
    last: BTreeMap<u64, u64>,
}

impl Driver {
    pub(crate) fn new(seed: u64, disk: SimDisk, options: LogOptions) -> Driver {
        Driver {
            disk,
            options,
            log: None,
            rng: Rng::new(seed),
            history: Vec::new(),
            acked: 0,
            durable: 0,
            kinds: Kinds::All,
            floors: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    /// Opens the log and checks what it shows.
    pub(crate) fn reopen(&mut self) -> Result<()> {
        self.log = None;
        let (log, seen) = open(&self.disk, self.options.clone())?;
        let kept = self.check(&seen);
        self.history.truncate(kept);
        for (position, record) in &seen {
            assert_eq!(log.read(*position).unwrap(), *record);
            assert!(*position <= log.durable());
        }
        self.acked = kept;
        self.durable = kept;
        self.last.clear();
        for record in self.history.iter().flat_map(|batch| &batch.records) {
            match record.kind {
                RecordKind::State => {}
                _ => _ = self.last.insert(record.group.0, record.index.0),
            }
        }
        self.log = Some(log);
        Ok(())
    }

    /// Some random work; the first error ends it.
    pub(crate) fn work(&mut self, steps: usize) -> Result<()> {
        for _ in 0..steps {
            let outcome = self.step();
            if let Some(log) = &self.log {
                let durable = log.durable();
                let is_durable = |batch: &Batch| batch.position.is_some_and(|p| p <= durable);
                self.durable =
                    self.durable.max(self.history.iter().take_while(|b| is_durable(b)).count());
            }
            outcome?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        if self.log.is_none() {
            return self.reopen();
        }
        match self.rng.below(20) {
            0..=12 => self.append(),
            13..=15 => {
                let Some(log) = &self.log else { return Ok(()) };
                let before = self.history.iter().rev().find_map(|b| b.position);
                log.sync_to(before.unwrap_or_default())
            }
            16..=18 => {
                let group = self.rng.below(3);
                let last = self.last.get(&group).copied().unwrap_or(0);
                let floor = self.floors.entry(group).or_default();
                let index = last.saturating_sub(self.rng.below(3));
                *floor = (*floor).max(index);
                let Some(log) = &self.log else { return Ok(()) };
                log.set_floor(GroupId(group), LogIndex(index))
            }
            _ => self.reopen(),
        }
    }

    pub(crate) fn append(&mut self) -> Result<()> {
        let number = self.history.len() as u64;
        let mut records = Vec::new();
        for i in 0..1 + self.rng.below(4) {
            let group = self.rng.below(3);
            let mut payload = if i == 0 { number.to_le_bytes().to_vec() } else { Vec::new() };
            let more = match self.rng.below(20) {
                0 => self.rng.below(12_000),
                1..=4 => self.rng.below(1500),
                5..=8 => 0,
                _ => self.rng.below(150),
            };
            let from = payload.len();
            payload.resize(from + more as usize, 0);
            self.rng.fill(&mut payload[from..]);
            let last = self.last.entry(group).or_default();
            let kind = match self.kinds {
                Kinds::Entries => 9,
                Kinds::NoStates if self.rng.one_in(3) => 0,
                Kinds::NoStates => 9,
                Kinds::All => self.rng.below(10),
            };
            records.push(match kind {
                0 if *last > 0 => {
                    *last -= self.rng.below(*last + 1).min(3);
                    record(group, RecordKind::Truncate, *last, &payload)
                }
                1..=3 => {
                    payload.truncate(200);
                    record(group, RecordKind::State, self.rng.below(3), &payload)
                }
                _ => {
                    *last += 1;
                    entry(group, *last, &payload)
                }
            });
        }
        self.history.push(Batch { records, position: None });
        let Some(batch) = self.history.last_mut() else { return Ok(()) };
        let refs: Vec<_> = batch.records.iter().map(Record::as_ref).collect();
        let mut positions = Vec::new();
        let Some(log) = &self.log else { return Ok(()) };
        let end = log.append_each(&refs, &mut positions)?;
        assert_eq!(positions.last(), Some(&end));
        batch.position = Some(end);
        for (position, record) in positions.into_iter().zip(&batch.records) {
            assert_eq!(log.read(position).unwrap(), *record);
        }
        self.acked = self.history.len();
        Ok(())
    }

    /// Checks a replay: it must be what the first n batches left, nothing of them torn, nothing
    /// missing that a group needs; gives the greatest such n.
    pub(crate) fn check(&self, seen: &[(Position, Record)]) -> usize {
        assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0), "positions must grow");
        let number = |record: &Record| {
            let found = record.payload.get(..8)?.try_into().ok().map(u64::from_le_bytes)?;
            let batch = self.history.get(found as usize)?;
            batch.records.iter().any(|r| r == record).then_some(found as usize)
        };
        // Of the last batches nothing may be needed any more, and so nothing be seen.
        let least = seen.iter().filter_map(|(_, r)| number(r)).max().map_or(0, |n| n + 1);
        let mut why = String::new();
        for kept in (least..=self.history.len()).rev() {
            match self.fits(kept, seen) {
                Ok(()) => return kept,
                Err(e) => why.push_str(&format!("\n{kept}: {e}")),
            }
        }
        panic!("what is seen is the end of no prefix: {why}");
    }

    /// Whether `seen` is what the first `kept` batches left.
    fn fits(&self, kept: usize, seen: &[(Position, Record)]) -> Result<(), String> {
        let appended = || self.history[..kept].iter().flat_map(|b| &b.records);
        let want: Vec<&Record> = appended().filter(|r| r.kind != RecordKind::State).collect();
        let got: Vec<&Record> =
            seen.iter().map(|(_, r)| r).filter(|r| r.kind != RecordKind::State).collect();
        if got.len() > want.len() {
            return Err(format!("{} records became {}", want.len(), got.len()));
        }
        let gone = want.len() - got.len();
        if got != want[gone..] {
            return Err("what is seen is not the end of what was appended".into());
        }
        for (i, record) in want[..gone].iter().enumerate() {
            let void = want[i..].iter().any(|r| {
                r.kind == RecordKind::Truncate && r.group == record.group && r.index < record.index
            });
            let floor = self.floors.get(&record.group.0).copied().unwrap_or(0);
            if record.kind == RecordKind::Entry && !void && record.index.0 > floor {
                return Err(format!("entry {} of group {} is gone", record.index, record.group));
            }
        }
        let states = |records: &mut dyn Iterator<Item = &Record>| -> BTreeMap<_, Vec<u8>> {
            records
                .filter(|r| r.kind == RecordKind::State)
                .map(|r| ((r.group, r.index), r.payload.clone()))
                .collect()
        };
        if states(&mut appended()) != states(&mut seen.iter().map(|(_, r)| r)) {
            return Err("states differ".into());
        }
        Ok(())
    }
}

impl Driver {
    /// The same memory over another disk, without a log.
    pub(crate) fn twin(&self, disk: SimDisk) -> Driver {
        Driver {
            disk,
            options: self.options.clone(),
            log: None,
            rng: self.rng.clone(),
            history: self.history.clone(),
            acked: self.acked,
            durable: self.durable,
            kinds: self.kinds,
            floors: self.floors.clone(),
            last: self.last.clone(),
        }
    }
}

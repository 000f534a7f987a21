//! From files and records to indexes.
//!
//! If the files cover all that is in tables, what is newer was told when the log was read: those
//! vectors are looked up one by one. Otherwise, and if a file is damaged or missing, all records are
//! walked: what a file holds of a record with the same sequence number counts, and the rest is taken
//! in as if it had just been written.

use crate::base::{CfId, IndexId, Result};
use crate::lsm::{Engine, IterOptions, ReadOptions};
use crate::op::vector::{NamedIndex, VectorId};
use crate::shard::vectors::index::{Change, State, VectorIndex, lock};
use crate::shard::vectors::posted::{self, Finder, Posted, takes_postings};
use crate::shard::vectors::record::{self, Key};
use crate::shard::vectors::rows::Rows;
use crate::shard::vectors::segment::{self, Segment};
use crate::shard::vectors::state_file;
use crate::shard::vectors::stored::stored_indexes;
use crate::shard::vectors::{Registry, Vectors};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

impl Vectors {
    /// Loads all indexes. What was applied before is known from the engine, what is applied from now
    /// on is noted.
    ///
    /// # Errors
    /// What reading records gives, and a record of an index that is damaged or of a newer version.
    /// Damaged files are none.
    pub(crate) fn load(&self) -> Result<()> {
        let Some(replayed) = lock(&self.replayed).take() else { return Ok(()) };
        let mut registry = Registry::default();
        for NamedIndex { id, spec } in stored_indexes(&self.engine)? {
            let index = Arc::new(VectorIndex::new(id, spec, self.dir_of(id), self.limits())?);
            self.load_index(&index, replayed.get(&id))?;
            registry.add(index);
        }
        self.remove_strangers(&registry);
        *self.indexes.write().unwrap_or_else(PoisonError::into_inner) = registry;
        self.due.store(true, Ordering::Release);
        Ok(())
    }

    /// Records are about to go without a word: until [`Vectors::reload`] no file says what there is.
    pub(crate) fn fall_behind(&self) {
        self.behind.store(true, Ordering::Release);
    }

    /// Compares every index with the records anew, after records have gone without a word.
    pub(crate) fn reload(&self) -> Result<()> {
        for index in self.all() {
            let mut state = index.write();
            self.walk(&index, &mut state)?;
            index.measure(&state);
        }
        self.behind.store(false, Ordering::Release);
        self.due.store(true, Ordering::Release);
        Ok(())
    }

    /// Removes what is there of indexes that are not.
    fn remove_strangers(&self, registry: &Registry) {
        let disk = self.engine.place().0;
        let Ok(entries) = disk.list(&self.dir) else { return };
        for entry in entries.iter().filter(|entry| entry.is_dir) {
            let id = entry.name.parse::<u64>().ok().map(IndexId);
            if id.is_none_or(|id| !registry.by_id.contains_key(&id)) {
                self.remove_folder(&self.dir.join(&entry.name));
            }
        }
    }

    fn load_index(&self, index: &VectorIndex, replayed: Option<&HashSet<u64>>) -> Result<()> {
        let disk = &**self.engine.place().0;
        let mut state = index.write();
        // The number of a file that no state names may be taken.
        state.next_file = self.first_free(index);
        let stored = state_file::read(disk, &index.dir, index.id);
        let is_damaged = stored.is_err();
        let stored = stored.ok().flatten();
        let mut is_whole = stored.is_some();
        if let Some(stored) = &stored {
            is_whole &= self.flushed_at_open <= stored.covered;
            for file in &stored.files {
                let is_fresh = stored.fresh == Some(file.number);
                if self.load_file(index, &mut state, file, is_fresh).is_err() {
                    is_whole = false;
                    index.rebuilt.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        index.rebuilt.fetch_add(u64::from(is_damaged), Ordering::Relaxed);
        match stored.filter(|_| is_whole) {
            Some(stored) => {
                let replayed = replayed.into_iter().flatten();
                for id in stored.loose.iter().chain(replayed) {
                    index.look_up(&self.engine, &mut state, *id)?;
                }
                *lock(&index.saved) = stored.covered;
            }
            None => {
                self.walk(index, &mut state)?;
            }
        }
        index.measure(&state);
        Ok(())
    }

    fn first_free(&self, index: &VectorIndex) -> u64 {
        let entries = self.engine.place().0.list(&index.dir).unwrap_or_default();
        let number = |name: &str| name.split_once('.')?.0.parse::<u64>().ok();
        let numbers = entries.iter().filter_map(|entry| number(&entry.name));
        numbers.max().map_or(1, |number| number.saturating_add(1))
    }

    fn load_file(
        &self,
        index: &VectorIndex,
        state: &mut State,
        file: &state_file::FileState,
        is_fresh: bool,
    ) -> Result<()> {
        let disk = &**self.engine.place().0;
        let path = segment::path(&index.dir, file.number);
        let stored = segment::read(disk, &path, index.id)?;
        let dead: HashSet<u64> = file.dead.iter().copied().collect();
        if takes_postings(&index.spec)
            && let Some(bytes) = stored.posted(&path)?
        {
            let config = posted::config(&index.spec, &index.limits);
            let finder = Finder::open(disk, (&index.dir, &path), &bytes, config);
            let rows = Rows::of(stored.rows, &file.dead);
            let mut posted = match finder {
                Ok((finder, stale)) => Posted::new(&index.spec, finder, rows, stale),
                Err(_) => {
                    index.rebuilt.fetch_add(1, Ordering::Relaxed);
                    Posted::lost(&index.spec, rows)
                }
            };
            posted.file = Some((file.number, stored.file_bytes));
            state.posted = Some(posted);
            return Ok(());
        }
        if !is_fresh {
            let form = stored.form(&path, &index.spec)?;
            let is_final = form.is_final(&index.spec);
            let dead = dead.into_iter().filter(|id| stored.rows.get(*id).is_some());
            state.segments.push(Segment {
                number: file.number,
                form: Arc::new(form),
                dead: dead.collect(),
                rows: Arc::new(stored.rows),
                file_bytes: Some(stored.file_bytes),
                is_final,
            });
            return Ok(());
        }
        let mut graph = stored.graph(&path, &index.spec)?;
        state.fresh_dead = dead.iter().filter(|id| graph.remove(**id)).count();
        let live = stored.rows.iter().filter(|(id, _)| !dead.contains(id));
        state.seqs.extend(live);
        state.fresh = graph;
        state.kept = Some((file.number, Arc::new(stored.rows), stored.file_bytes));
        Ok(())
    }

    /// Takes in what the records say of all vectors.
    pub(super) fn walk(&self, index: &VectorIndex, state: &mut State) -> Result<()> {
        let options = IterOptions {
            prefix: record::prefix(index.id).to_vec(),
            fill_cache: false,
            ..IterOptions::default()
        };
        let mut iter = self.engine.iter(CfId::VECTORS, options)?;
        let mut there = HashSet::new();
        iter.first()?;
        while iter.valid() {
            if let Some(Key::Vector(_, id)) = record::parse_key(iter.key()) {
                there.insert(id);
                let seq = iter.seq().0;
                if state.seq_of(id) != Some(seq) {
                    state.remove(id, &index.spec);
                    let value = Some(Bytes::copy_from_slice(iter.value()));
                    state.take_in(&Change { id, seq, value }, &index.spec);
                }
            }
            iter.next()?;
        }
        let gone: Vec<u64> = state.ids().into_iter().filter(|id| !there.contains(id)).collect();
        gone.into_iter().for_each(|id| state.remove(id, &index.spec));
        Ok(())
    }
}

impl VectorIndex {
    /// Takes in what the records say of one vector, if that is not what is known.
    ///
    /// # Errors
    /// What reading the record gives.
    pub(super) fn look_up(&self, engine: &Engine, state: &mut State, id: u64) -> Result<()> {
        match self.record_of(engine, id)? {
            Some(change) => state.take_in(&change, &self.spec),
            None => state.remove(id, &self.spec),
        }
        Ok(())
    }

    /// Takes in what the records say of one vector, whatever was known of it.
    ///
    /// # Errors
    /// What reading the record gives; then all is as it was.
    pub(super) fn take_anew(&self, engine: &Engine, state: &mut State, id: u64) -> Result<()> {
        let found = self.record_of(engine, id)?;
        state.remove(id, &self.spec);
        if let Some(change) = found {
            state.apply(&change, &self.spec);
        }
        Ok(())
    }

    fn record_of(&self, engine: &Engine, id: u64) -> Result<Option<Change>> {
        let key = record::vector_key(self.id, VectorId::new(id));
        let found = engine.get(CfId::VECTORS, &key, &ReadOptions::default())?;
        Ok(found.map(|found| Change { id, seq: found.seq.0, value: Some(found.value) }))
    }

    /// Takes the vectors of segments that turned out to be damaged in from the records, some at a
    /// time, and gives the segments up once they have none.
    ///
    /// # Errors
    /// What reading records gives: the segments are there still, and the next search goes on.
    pub(super) fn give_up(&self, engine: &Engine, numbers: &[u64]) -> Result<()> {
        const AT_ONCE: usize = 256;
        loop {
            let mut state = self.write();
            let is_damaged = |segment: &&Segment| numbers.contains(&segment.number);
            let damaged = state.segments.iter().filter(is_damaged);
            let ids = damaged.flat_map(|segment| segment.live_rows().map(|(id, _)| id));
            let ids: Vec<u64> = ids.take(AT_ONCE).collect();
            if ids.is_empty() {
                let before = state.segments.len();
                state.segments.retain(|segment| !numbers.contains(&segment.number));
                let gone = before - state.segments.len();
                self.rebuilt.fetch_add(gone as u64, Ordering::Relaxed);
                self.measure(&state);
                return Ok(());
            }
            for id in ids {
                self.take_anew(engine, &mut state, id)?;
            }
            self.measure(&state);
        }
    }
}

//! Memtables into sstables.

use crate::base::{CfId, LogIndex, Result};
use crate::lsm::compaction::output::Target;
use crate::lsm::compaction::pick::Shape;
use crate::lsm::compaction::run::{Inputs, Rules, rewrite};
use crate::lsm::cursor::Cursor;
use crate::lsm::engine::install::Change;
use crate::lsm::engine::tree::{Buffer, Seal, Tree};
use crate::lsm::engine::work::{Held, Slot};
use crate::lsm::engine::{Engine, Inner, lock};
use crate::lsm::iter::Run;
use crate::lsm::key::user_key;
use crate::lsm::manifest::{Edit, Field};
use crate::lsm::tombstone::RangeDeletes;
use crate::lsm::version::{KeyRange, TableFile, Version};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Engine {
    /// Writes what a family has in memory to sstables, and waits for that.
    ///
    /// # Errors
    /// `NotFound`, `Refused` (read only), `Unavailable` (closed), `Poisoned`; what the disk
    /// answers: everything is still in memory then, and a later call may succeed.
    pub fn flush(&self, cf: CfId) -> Result<()> {
        let inner = &self.inner;
        inner.check_writable()?;
        let tree = inner.tree(cf)?;
        {
            let mut applying = inner.apply.lock();
            inner.rotate(&mut applying, &tree);
        }
        inner.flush_and_settle(&tree)
    }

    /// [`Engine::flush`] of every family. Afterwards [`Engine::replay_from`] is at least what was
    /// applied at the call.
    ///
    /// # Errors
    /// As [`Engine::flush`].
    pub fn flush_all(&self) -> Result<()> {
        let inner = &self.inner;
        inner.check_writable()?;
        let trees = inner.all_trees();
        let now = {
            let mut applying = inner.apply.lock();
            trees.iter().for_each(|tree| _ = inner.rotate(&mut applying, tree));
            inner.seal_now()
        };
        for tree in &trees {
            inner.flush_and_settle(tree)?;
        }
        let done = inner.advance(now);
        inner.settle(done)
    }

    /// Schedules the flush of every family whose records keep the log from being cut at `index`.
    ///
    /// # Errors
    /// `Refused` (read only), `Unavailable` (closed), `Poisoned`.
    pub fn flush_below(&self, index: LogIndex) -> Result<()> {
        let inner = &self.inner;
        inner.check_writable()?;
        let mut applying = inner.apply.lock();
        let pins = |first: Option<LogIndex>| first.is_some_and(|first| first <= index);
        let mut any = false;
        for tree in inner.all_trees() {
            if pins(tree.first_unflushed(&[])) {
                any = true;
                if pins(Some(LogIndex(tree.view().active.first_index.load(Ordering::Acquire)))) {
                    inner.rotate(&mut applying, &tree);
                }
                inner.queue(&tree, Slot::Flush);
            }
        }
        if !any && self.replay_from() < index {
            let (waiting, now) = (Arc::downgrade(inner), inner.seal_now());
            inner.pool.spawn(move || {
                if let Some(inner) = waiting.upgrade() {
                    _ = inner.settle(inner.advance(now));
                }
            });
        }
        Ok(())
    }
}

impl Inner {
    fn flush_and_settle(self: &Arc<Self>, tree: &Arc<Tree>) -> Result<()> {
        let held = self.take(tree.id, Slot::Flush)?;
        let done = self.flush_sealed(tree, &held);
        drop(held);
        let done = self.settle(done);
        self.schedule(tree);
        done.map(|_| ())
    }

    /// Records that idle families need no log up to `now`. What the log alone knew goes along:
    /// it may be cut there.
    fn advance(&self, now: Seal) -> Result<()> {
        self.check_writable()?;
        self.sync_log(now.last_index)?;
        {
            let mut manifest = lock(&self.manifest);
            let mut fields = self.idle_fields(&manifest, now.last_index, None);
            if fields.is_empty() {
                return Ok(());
            }
            fields.push(Field::LastSeq(now.last_seq));
            fields.push(Field::CommittedMs(now.committed_ms));
            self.append(&mut manifest, Edit { fields }, &[])?;
        }
        self.announce();
        Ok(())
    }

    /// Flushes sealed memtables until none is left; gives whether there was any.
    pub(super) fn flush_sealed(&self, tree: &Arc<Tree>, _slot: &Held<'_>) -> Result<bool> {
        let mut any = false;
        while !tree.is_dropped() {
            self.check_writable()?;
            let ceiling = lock(&self.work).ceiling;
            let may_flush =
                |b: &&Arc<Buffer>| ceiling.is_none_or(|ceiling| b.seal().last_index <= ceiling);
            let view = tree.view();
            let buffers: Vec<_> = view.sealed.iter().filter(may_flush).cloned().collect();
            if buffers.is_empty() {
                return Ok(any);
            }
            any = true;
            match self.flush_buffers(tree, buffers) {
                Err(_) if tree.is_dropped() => return Ok(any),
                done => done?,
            }
            self.announce();
            self.work_changed.notify_all();
        }
        Ok(any)
    }

    /// Writes memtables, the newest first, as one run. REQUIRES: older ones are flushed already.
    fn flush_buffers(&self, tree: &Tree, buffers: Vec<Arc<Buffer>>) -> Result<()> {
        let seal = buffers[0].seal();
        let readers = self.readers(tree);
        let collected = readers.floor;
        let version = tree.view().version.clone();
        let wanted = self.flush_level(tree, &buffers)?;
        let files = {
            let newer_holds = |key: &[u8]| tree.view().newer_holds(key, &buffers, 0, &[]);
            let rules = Rules {
                readers,
                committed_ms: self.committed_ms.load(Ordering::Acquire),
                older: &version,
                older_from: 0,
                newer_holds: &newer_holds,
                cancelled: &|| {
                    self.lend(tree);
                    self.closing.load(Ordering::Acquire) || tree.is_dropped()
                },
            };
            // Less than the part of the cache where what is new has to prove itself.
            let keep_bytes = (self.cache.stats().capacity_bytes / 16) as usize;
            let target = Target { keep_bytes, ..self.target(tree, wanted) };
            rewrite(inputs(&buffers), rules, target)?
        };
        let written: u64 = files.iter().map(|f| f.meta.size).sum();
        if self.barrier_always.load(Ordering::Acquire)
            || self.others_need_log(tree, seal.last_index)
        {
            self.sync_log(seal.last_index)?;
        }
        {
            let mut manifest = lock(&self.manifest);
            let level = self.level_for(tree, wanted, &files);
            let mut fields = self.idle_fields(&manifest, seal.last_index, Some(tree.id));
            fields.push(Field::Flushed(tree.id, seal.last_index));
            fields.push(Field::LastSeq(seal.last_seq));
            fields.push(Field::CommittedMs(seal.committed_ms));
            let added = files.into_iter().map(|file| (level, file)).collect();
            let change = Change { added, flushed: buffers, collected, ..Change::default() };
            self.install(&mut manifest, tree, fields, change)?;
        }
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        self.counters.flush_bytes_written.fetch_add(written, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a family other than `tree` has records up to `index` in memory only. Once that is
    /// not so it stays so: what is applied from now on has greater indexes.
    ///
    /// Where nobody needs the log up to `index` any more, it need not be durable up to there
    /// either: after a power loss it may end before what the tables hold, whose edit says that
    /// replay begins behind it.
    fn others_need_log(&self, tree: &Tree, index: LogIndex) -> bool {
        let needs = |other: &Arc<Tree>| other.first_unflushed(&[]).is_some_and(|i| i <= index);
        self.all_trees().iter().any(|other| other.id != tree.id && needs(other))
    }

    /// The level that new records of these memtables can go to.
    fn flush_level(&self, tree: &Tree, buffers: &[Arc<Buffer>]) -> Result<usize> {
        let Some(range) = range_of(buffers)? else {
            return Ok(0);
        };
        if self.is_taken(tree.id, Slot::Compact) {
            return Ok(0);
        }
        Ok(self.free_level(&tree.view().version, &range))
    }

    /// The deepest level that new records of `range` can go to, 0 if that is above the base: each
    /// level there would be one more to look at, and none would ever be full.
    fn free_level(&self, version: &Version, range: &KeyRange) -> usize {
        let free = version.deepest_free(range, self.options.levels).unwrap_or(0);
        if free < Shape::of(version, &self.options).base { 0 } else { free }
    }

    /// `wanted`, if files can still go to that level, else 0. REQUIRES: the manifest is locked, so
    /// that no compaction begins before the files are in the version.
    pub(super) fn level_for(&self, tree: &Tree, wanted: usize, files: &[Arc<TableFile>]) -> usize {
        let Some(first) = files.first() else {
            return 0;
        };
        let mut range = KeyRange::of(&first.meta);
        files.iter().for_each(|f| range.extend(&KeyRange::of(&f.meta)));
        let free = self.free_level(&tree.view().version, &range);
        if free < wanted || self.is_taken(tree.id, Slot::Compact) { 0 } else { wanted }
    }

    /// Where and how files of a level are written.
    pub(super) fn target<'a>(&'a self, tree: &Tree, level: usize) -> Target<'a> {
        // A flush to level 0 gives one file: several would count as as many runs.
        let file_bytes = if level == 0 { u64::MAX } else { self.options.file_bytes };
        Target {
            disk: &self.disk,
            dir: &self.options.dir,
            cache: &self.cache,
            cf: tree.id,
            table: self.options.table_for(level),
            file_bytes,
            keep_bytes: 0,
            new_number: Box::new(|| lock(&self.manifest).new_file_number()),
        }
    }
}

fn inputs(buffers: &[Arc<Buffer>]) -> Inputs {
    let mut range_deletes = RangeDeletes::default();
    buffers.iter().for_each(|b| range_deletes.extend(&b.table.range_deletes()));
    let bytes = buffers.iter().map(|b| b.table.bytes() as u64).sum();
    let cursors = buffers.iter().map(|b| Run::Memtable(b.table.cursor())).collect();
    Inputs { cursors, range_deletes, bytes }
}

/// The keys that memtables hold; `None` if they hold none.
fn range_of(buffers: &[Arc<Buffer>]) -> Result<Option<KeyRange>> {
    let mut range: Option<KeyRange> = None;
    let mut add = |start: &[u8], end: &[u8], excluded| {
        let part = KeyRange { start: start.to_vec(), end: Some((end.to_vec(), excluded)) };
        match &mut range {
            Some(range) => range.extend(&part),
            None => range = Some(part),
        }
    };
    for buffer in buffers {
        let mut cursor = buffer.table.cursor();
        cursor.first()?;
        if cursor.valid() {
            let start = user_key(cursor.key()).to_vec();
            cursor.last()?;
            add(&start, user_key(cursor.key()), false);
        }
        buffer.table.range_deletes().iter().for_each(|t| add(&t.start, &t.end, true));
    }
    Ok(range)
}

//! Point reads and iterators.
//!
//! A read takes the family's view first and the visible sequence number after: whatever was
//! visible at that moment is in the view or newer than it, and nothing that the view lacks was
//! dropped for the sake of it.

use crate::base::{CfId, Error, ErrorKind, Result, Seq};
use crate::lsm::engine::tree::{Tree, View};
use crate::lsm::engine::work::Slot;
use crate::lsm::engine::{Engine, Inner, no_such_family};
use crate::lsm::iter::{Iter, LevelCursor, MergingCursor, Run};
use crate::lsm::key::{Kind, Meta, split_value};
use crate::lsm::merge;
use crate::lsm::options::{IterOptions, ReadOptions};
use crate::lsm::stored::Stored;
use crate::lsm::tombstone::RangeDeletes;
use crate::lsm::version::KeyRange;
use crate::op::kv::MergeOp;
use bytes::Bytes;
use std::ops::Bound;
use std::sync::atomic::Ordering;

/// Dead keys that one search for a dead span walks over.
const DEAD_WALK_MAX: u64 = 1 << 20;

/// A value that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The value, merges folded.
    pub value: Bytes,
    /// What stands beside it.
    pub meta: Meta,
    /// Sequence number of the newest record behind it.
    pub seq: Seq,
}

impl Engine {
    /// Reads one key; `None` if it is absent, deleted or expired.
    ///
    /// # Errors
    /// `NotFound` if there is no such family; `Compacted` if the sequence number asked for is
    /// neither held by a snapshot nor retained; `Corruption`; what the disk answers.
    pub fn get(&self, cf: CfId, key: &[u8], options: &ReadOptions) -> Result<Option<Found>> {
        let trees = self.inner.trees.load();
        let tree = trees.get(&cf).ok_or_else(|| no_such_family(cf))?;
        let view = tree.view_for_read();
        let at = self.inner.read_at(&view, options.at)?;
        self.inner.counters.gets.fetch_add(1, Ordering::Relaxed);
        let mut lookup = Lookup::default();
        visit_sources(&view, key, at, &mut lookup)?;
        lookup.finish(options.now_ms)
    }

    /// The sequence number of the newest record of `key`, deletes and range deletes that cover it
    /// included, and whether it leaves the key present (expired or not).
    ///
    /// A delete is forgotten when compaction has nothing left that it hides: a key that was there
    /// and of which this gives `None` has been deleted since.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub fn last_change(&self, cf: CfId, key: &[u8]) -> Result<Option<(Seq, bool)>> {
        let view = self.inner.tree(cf)?.view();
        let at = self.inner.visible_seq();
        let mut newest = Newest::default();
        visit_sources(&view, key, at, &mut newest)?;
        Ok(match (newest.point, newest.cover) {
            (Some((seq, present)), cover) if cover.is_none_or(|c| c <= seq) => Some((seq, present)),
            (_, Some(cover)) => Some((cover, false)),
            (point, None) => point,
        })
    }

    /// An iterator over the live entries of a family within bounds.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub fn iter(&self, cf: CfId, options: IterOptions) -> Result<Iter> {
        let tree = self.inner.tree(cf)?;
        let before = self.inner.visible_seq();
        let view = tree.view();
        let at = self.inner.read_at(&view, options.at)?;
        self.inner.counters.iterators.fetch_add(1, Ordering::Relaxed);
        Ok(iter_over(&tree, &view, options, (before, at)))
    }
}

/// An iterator over `view` at `at`; `before` was visible before the view was taken. A dead span
/// that is newer than that may know of deletes that the view lacks, and would show a part of them.
fn iter_over(tree: &Tree, view: &View, options: IterOptions, (before, at): (Seq, Seq)) -> Iter {
    let range = key_range(&options);
    let mut range_deletes = RangeDeletes::default();
    let mut runs: Vec<Run> = Vec::with_capacity(8);
    for buffer in std::iter::once(&view.active).chain(&view.sealed) {
        range_deletes.extend(&buffer.table.range_deletes());
        runs.push(Run::Memtable(buffer.table.cursor()));
    }
    let (version, fill_cache) = (&view.version, options.fill_cache);
    for (level, files) in version.levels.iter().enumerate() {
        let within = version.overlapping(level, &range);
        let files = &files[within.clone()];
        if version.has_range_deletes {
            files.iter().for_each(|f| range_deletes.extend(f.range_deletes()));
        }
        match level {
            0 => {
                let files = files.iter().filter(|f| range.overlaps(&f.meta));
                runs.extend(files.map(|f| Run::File(f.cursor(fill_cache))));
            }
            _ if files.is_empty() => {}
            _ => runs.push(Run::Level(LevelCursor::of(version, level, within, fill_cache))),
        }
    }
    let iter = Iter::new(MergingCursor::new(runs), range_deletes, options, at);
    iter.with_dead_spans(&tree.dead, before.min(at))
}

impl Inner {
    /// Lends the thread of a long job to a search for a dead span: it is short, and with every
    /// thread at long jobs it would come too late.
    pub(super) fn lend(&self, tree: &Tree) {
        if tree.dead.has_suspect()
            && let Some(_held) = self.try_take(tree.id, Slot::Dead)
        {
            _ = self.find_dead_span(tree);
        }
    }

    /// Has the searches for dead spans catch up with who deletes: waits for the one under way, and
    /// if that was not enough searches. Deletes are faster than searches where many old versions
    /// lie about, and the next walk would pay for all that is behind.
    pub(super) fn catch_up(&self, tree: &Tree) {
        if let Ok(_held) = self.take(tree.id, Slot::Dead)
            && tree.dead.is_lagging()
        {
            _ = self.find_dead_span(tree);
        }
    }

    /// Looks from a suspect key on for the first live one, and enters what lies between.
    pub(super) fn find_dead_span(&self, tree: &Tree) -> Result<()> {
        let Some((number, start)) = tree.dead.suspect() else {
            return Ok(());
        };
        let before = self.visible_seq();
        let view = tree.view();
        let at = self.visible_seq();
        let options = IterOptions { fill_cache: false, keys_only: true, ..IterOptions::default() };
        let mut iter = iter_over(tree, &view, options, (before, at)).with_patience(DEAD_WALK_MAX);
        let sought = iter.seek(&start);
        let end = match sought.is_err() {
            true => Some(start),
            false => iter.dead_end().map(<[u8]>::to_vec),
        };
        tree.dead.enter(number, end, at);
        sought
    }

    /// The sequence number to read at: what was asked for, if it is still readable in `view`.
    fn read_at(&self, view: &View, asked: Option<Seq>) -> Result<Seq> {
        let visible = self.visible_seq();
        let Some(at) = asked.map(|at| at.min(visible)) else {
            return Ok(visible);
        };
        let floor = view.version.collected;
        if at < floor && !self.is_pinned(at) {
            let message = format!("versions below sequence number {floor} have been collected");
            return Err(Error::new(ErrorKind::Compacted, message));
        }
        Ok(at)
    }
}

/// All keys that the options' bounds let through, perhaps a few more.
fn key_range(options: &IterOptions) -> KeyRange {
    let start = match &options.lower {
        Bound::Unbounded => &[][..],
        Bound::Included(key) | Bound::Excluded(key) => key,
    };
    let start = start.max(&options.prefix).to_vec();
    let end = match &options.upper {
        Bound::Unbounded => crate::lsm::iter::user::prefix_end(&options.prefix).map(|k| (k, true)),
        Bound::Included(key) => Some((key.clone(), false)),
        Bound::Excluded(key) => Some((key.clone(), true)),
    };
    KeyRange { start, end }
}

/// Takes the records of one key, newest first, source by source.
trait Visitor {
    /// A range delete of this source covers the key. Comes before the source's records.
    fn cover(&mut self, seq: Seq);
    /// A record; false ends the visit.
    fn record(&mut self, seq: Seq, kind: Kind, stored: Stored<'_>) -> bool;
    /// Whether nothing older matters.
    fn is_done(&self) -> bool;
}

fn visit_sources(view: &View, key: &[u8], at: Seq, visitor: &mut impl Visitor) -> Result<()> {
    for buffer in std::iter::once(&view.active).chain(&view.sealed) {
        if let Some(seq) = buffer.table.covering_seq(key, at) {
            visitor.cover(seq);
        }
        buffer
            .table
            .get(key, at, &mut |seq, kind, v| visitor.record(seq, kind, Stored::elsewhere(v)));
        if visitor.is_done() {
            return Ok(());
        }
    }
    for (level, files) in view.version.levels.iter().enumerate() {
        let candidates = match level {
            0 => &files[..],
            _ => view.version.find(level, key).map_or(&[][..], std::slice::from_ref),
        };
        for file in candidates.iter().filter(|f| level > 0 || f.meta.covers(key)) {
            if let Some(seq) = file.covering_seq(key, at) {
                visitor.cover(seq);
            }
            file.get(key, at, &mut |seq, kind, v| visitor.record(seq, kind, v))?;
            if visitor.is_done() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Gathers what makes up a value.
#[derive(Default)]
struct Lookup {
    cover: Option<Seq>,
    newest: Option<Seq>,
    /// Newest first.
    operands: Vec<(MergeOp, Vec<u8>)>,
    base: Option<(Meta, Bytes)>,
    malformed: bool,
    done: bool,
}

impl Visitor for Lookup {
    fn cover(&mut self, seq: Seq) {
        self.cover = self.cover.max(Some(seq));
    }

    fn record(&mut self, seq: Seq, kind: Kind, stored: Stored<'_>) -> bool {
        if self.cover.is_some_and(|cover| seq < cover) {
            self.done = true;
            return false;
        }
        match kind {
            Kind::Merge => {
                self.newest = self.newest.or(Some(seq));
                match merge::split(&stored) {
                    Some((op, operand)) => self.operands.push((op, operand.to_vec())),
                    None => self.malformed = true,
                }
                !self.malformed
            }
            Kind::Put | Kind::PutMeta => {
                self.newest = self.newest.or(Some(seq));
                let split = split_value(kind, &stored);
                self.malformed |= split.is_none();
                self.base = split.map(|(meta, v)| (meta, stored.keep_from(stored.len() - v.len())));
                self.done = true;
                false
            }
            Kind::Delete | Kind::RangeDelete => {
                self.done = true;
                false
            }
        }
    }

    fn is_done(&self) -> bool {
        self.done || self.malformed || self.cover.is_some()
    }
}

impl Lookup {
    fn finish(self, now_ms: u64) -> Result<Option<Found>> {
        if self.malformed {
            return Err(Error::new(ErrorKind::Corruption, "a stored value is malformed"));
        }
        let Some(seq) = self.newest else {
            return Ok(None);
        };
        let meta = self.base.as_ref().map(|b| b.0).unwrap_or_default();
        if now_ms != 0 && meta.is_expired(now_ms) {
            return Ok(None);
        }
        let value = match self.base {
            Some((_, value)) if self.operands.is_empty() => value,
            base => {
                let operands = self.operands.iter().rev().map(|(op, bytes)| (*op, &bytes[..]));
                merge::fold(base.as_ref().map(|b| &b.1[..]), operands).into()
            }
        };
        Ok(Some(Found { value, meta, seq }))
    }
}

/// The newest record alone.
#[derive(Default)]
struct Newest {
    cover: Option<Seq>,
    point: Option<(Seq, bool)>,
}

impl Visitor for Newest {
    fn cover(&mut self, seq: Seq) {
        self.cover = self.cover.max(Some(seq));
    }

    fn record(&mut self, seq: Seq, kind: Kind, _stored: Stored<'_>) -> bool {
        self.point = Some((seq, kind != Kind::Delete));
        false
    }

    fn is_done(&self) -> bool {
        self.point.is_some() || self.cover.is_some()
    }
}

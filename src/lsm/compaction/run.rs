//! Carries a flush or a compaction out: sorted inputs through the filter into new sstables.

use crate::base::{CfId, Error, ErrorKind, Result};
use crate::lsm::compaction::filter::{Filter, Readers, Surroundings, keep_range_deletes};
use crate::lsm::compaction::output::{Output, Target};
use crate::lsm::compaction::pick::Compaction;
use crate::lsm::cursor::Cursor;
use crate::lsm::iter::{LevelCursor, MergingCursor, Run};
use crate::lsm::key::parse;
use crate::lsm::tombstone::{RangeDeletes, RangeTombstone};
use crate::lsm::version::{KeyRange, TableFile, Version};
use std::sync::Arc;

/// Sorted runs to rewrite, the newest first, and their range tombstones.
pub struct Inputs {
    /// One cursor a run.
    pub cursors: Vec<Run>,
    /// All range tombstones of the runs.
    pub range_deletes: RangeDeletes,
    /// Bytes of the runs.
    pub bytes: u64,
}

impl Inputs {
    /// The inputs of a compaction in `version`.
    pub fn of(version: &Version, compaction: &Compaction) -> Inputs {
        let files = |level: usize, numbers: &[u64]| -> Vec<Arc<TableFile>> {
            let all = version.levels.get(level).map_or(&[][..], |l| l.as_slice());
            all.iter().filter(|f| numbers.contains(&f.meta.number)).cloned().collect()
        };
        let upper = files(compaction.level, &compaction.upper);
        let lower = files(compaction.output, &compaction.lower);
        let mut range_deletes = RangeDeletes::default();
        upper.iter().chain(&lower).for_each(|f| range_deletes.extend(f.range_deletes()));
        let bytes = upper.iter().chain(&lower).map(|f| f.meta.size).sum();
        let mut cursors: Vec<Run> = Vec::new();
        match compaction.level {
            0 => cursors.extend(upper.iter().map(|f| Run::File(f.cursor(false)))),
            _ => cursors.push(Run::Level(LevelCursor::new(upper, false))),
        }
        if !lower.is_empty() {
            cursors.push(Run::Level(LevelCursor::new(lower, false)));
        }
        Inputs { cursors, range_deletes, bytes }
    }
}

/// What decides which records stay.
pub struct Rules<'a> {
    /// Who may read old versions.
    pub readers: Readers,
    /// Expiries up to this Unix time in ms have come.
    pub committed_ms: u64,
    /// The files below the inputs: `older` from level `older_from` on.
    pub older: &'a Version,
    /// See `older`.
    pub older_from: usize,
    /// Whether something newer than the inputs holds a user key.
    pub newer_holds: &'a dyn Fn(&[u8]) -> Result<bool>,
    /// Asked now and then: whether to give up.
    pub cancelled: &'a dyn Fn() -> bool,
}

/// Records between two questions whether to go on.
const RECORDS_PER_CHECK: usize = 1024;

/// Rewrites `inputs` by `rules` into `target`. The files are synced and open on return, and so
/// are their names; an error leaves none behind.
///
/// # Errors
/// `Unavailable` if cancelled; `Corruption` of an input; what the disk gives.
pub fn rewrite(
    inputs: Inputs,
    rules: Rules<'_>,
    target: Target<'_>,
) -> Result<Vec<Arc<TableFile>>> {
    let (older, from) = (rules.older, rules.older_from);
    let older_overlaps = |t: &RangeTombstone| {
        let range = KeyRange { start: t.start.to_vec(), end: Some((t.end.to_vec(), true)) };
        older.overlaps_from(from, &range)
    };
    // What remembers requests and transactions is in no count and in no index of expiries.
    let swept = !matches!(target.cf, CfId::DEDUP | CfId::TXN);
    let tombstones = keep_range_deletes(&inputs.range_deletes, &rules.readers, &older_overlaps);
    let mut output = Output::new(target, tombstones);
    let around = Surroundings {
        swept,
        older_may_hold: &|key: &[u8]| older.may_hold_from(from, key),
        newer_holds: rules.newer_holds,
    };
    let mut filter = Filter::new(rules.readers, rules.committed_ms, inputs.range_deletes, around);
    let mut cursor = MergingCursor::new(inputs.cursors);
    let mut sink = |key: &[u8], seq, kind, stored: &[u8]| output.add(key, seq, kind, stored);
    cursor.first()?;
    let mut records = 0;
    while cursor.valid() {
        let Some(record) = parse(cursor.key()) else {
            return Err(Error::new(ErrorKind::Corruption, "an internal key is malformed"));
        };
        filter.push(record, cursor.value(), &mut sink)?;
        records += 1;
        if records % RECORDS_PER_CHECK == 0 && (rules.cancelled)() {
            return Err(Error::new(ErrorKind::Unavailable, "the engine is closing"));
        }
        cursor.next()?;
    }
    filter.finish(&mut sink)?;
    output.finish()
}

//! Which files to compact next. Pure: the same files and options give the same choice.
//!
//! Levels are sized from the bottom: the largest level decides, each one above it may hold a part
//! of that, and the first that has a size at all is the *base*, into which level 0 is compacted.
//! Levels between are empty. So nine bytes in ten are in the last level however much there is,
//! and what is deleted or overwritten does not stay long.

use crate::lsm::manifest::FileMeta;
use crate::lsm::options::EngineOptions;
use crate::lsm::version::{KeyRange, Version};

/// A file is dense with tombstones if this share of its records (one in so many) are.
const DENSE_ONE_IN: u64 = 2;
/// Files with fewer records are not worth a look for tombstones.
const DENSE_ENTRIES_MIN: u64 = 64;
/// Dense files of level 0 are compacted at once if there is a tombstone for one in so many of the
/// records below that are rewritten for it.
const DENSE_BELOW_ONE_IN: u64 = 8;
/// The files of level 0 that are compacted together; more would make others wait for long.
const L0_FILES_MAX: usize = 16;
/// Where nobody writes, level 0 is compacted if it is this share (one in so many) of what it
/// overlaps.
const IDLE_ONE_IN: u64 = 16;
/// The score of a level above the base, where nothing should be.
const ABOVE_BASE: f64 = 1.5;

/// Why a compaction is worth its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Level 0 has many files, each of which a read must look at.
    Level0Files,
    /// A level is above its target size.
    LevelBytes,
    /// A file holds mostly tombstones, which slow scans until they meet what they hide.
    Tombstones,
    /// Nobody writes, and level 0 takes space that a merge gives back.
    Idle,
    /// The caller asked.
    Manual,
}

/// What to compact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compaction {
    /// The level the files come from.
    pub level: usize,
    /// The level the result goes to: the next that has files or should have, or `level` itself for
    /// a rewrite in place.
    pub output: usize,
    /// File numbers of `level`.
    pub upper: Vec<u64>,
    /// File numbers of `output` that overlap them.
    pub lower: Vec<u64>,
    /// All keys the inputs and so the outputs may hold.
    pub range: KeyRange,
    /// Why.
    pub reason: Reason,
}

impl Compaction {
    /// Whether the one input can be moved as it is.
    pub fn is_move(&self, options: &EngineOptions) -> bool {
        let compress = |level| level >= options.compress_from_level;
        self.upper.len() == 1
            && self.lower.is_empty()
            && self.level < self.output
            && compress(self.level) == compress(self.output)
            && self.reason != Reason::Manual
    }
}

/// What the levels of a tree may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The level that level 0 is compacted into.
    pub base: usize,
    /// Bytes that each level may hold; the last may hold any number, those above the base none.
    pub targets: Vec<u64>,
}

impl Shape {
    /// The shape that suits the bytes there are.
    pub fn of(version: &Version, options: &EngineOptions) -> Shape {
        let last = options.levels - 1;
        let mut targets = vec![0; options.levels];
        targets[last] = u64::MAX;
        let mut bytes = (1..=last).map(|level| level_bytes(version, level)).max().unwrap_or(0);
        let mut base = last;
        while base > 1 && bytes > options.level1_bytes {
            base -= 1;
            bytes /= options.level_multiplier;
            targets[base] = bytes.max(1);
        }
        Shape { base, targets }
    }

    /// The level that files of `level` are compacted into. No file that may hold older records is
    /// passed over.
    fn below(&self, version: &Version, level: usize) -> usize {
        next_level(version, level, self.base.max(level + 1))
    }
}

/// The first level below `level` that has files, `last` if none above that has.
fn next_level(version: &Version, level: usize, last: usize) -> usize {
    let has_files = |n: &usize| version.levels.get(*n).is_some_and(|files| !files.is_empty());
    (level + 1..last).find(has_files).unwrap_or(last)
}

/// How full each level is, as its files or bytes against its target; 1.0 is full.
pub fn scores(version: &Version, options: &EngineOptions) -> Vec<f64> {
    let (shape, last) = (Shape::of(version, options), options.levels - 1);
    let score = |(level, files): (usize, &Vec<_>)| match level {
        0 => files.len() as f64 / l0_files_due(version, &shape, options) as f64,
        level if level >= last || files.is_empty() => 0.0,
        level if level < shape.base => ABOVE_BASE,
        level => level_bytes(version, level) as f64 / shape.targets[level] as f64,
    };
    version.levels.iter().enumerate().map(score).collect()
}

/// Files in level 0 at which they are compacted: all of the level below is rewritten for them, so
/// where that is more than they are, more of them are let come together.
fn l0_files_due(version: &Version, shape: &Shape, options: &EngineOptions) -> usize {
    let below = level_bytes(version, shape.below(version, 0));
    let few = options.l0_compact_files;
    if level_bytes(version, 0) >= below { few } else { (2 * few).min(options.l0_slow_files) }
}

/// Bytes that stand above their level's target and so wait for compaction.
pub fn debt_bytes(version: &Version, options: &EngineOptions) -> u64 {
    let shape = Shape::of(version, options);
    let over = |level| level_bytes(version, level).saturating_sub(shape.targets[level]);
    let l0 = match version.levels.first() {
        Some(files) if files.len() >= l0_files_due(version, &shape, options) => {
            level_bytes(version, 0)
        }
        _ => 0,
    };
    l0 + (1..options.levels - 1).map(over).sum::<u64>()
}

fn level_bytes(version: &Version, level: usize) -> u64 {
    version.levels.get(level).map_or(0, |files| files.iter().map(|f| f.meta.size).sum())
}

/// The next compaction, if one is due. More is due where nobody writes (`idle`).
pub fn pick(version: &Version, options: &EngineOptions, idle: bool) -> Option<Compaction> {
    let shape = Shape::of(version, options);
    let scores = scores(version, options);
    let fullest = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(b.cmp(a)));
    match fullest {
        Some(0) if scores[0] >= 1.0 => level0(version, &shape, Reason::Level0Files),
        Some(level) if scores[level] > 1.0 => cheapest_file(version, &shape, level),
        _ => dense_level0(version, &shape)
            .or_else(|| dense_file(version, options))
            .or_else(|| idle_level0(version, &shape).filter(|_| idle)),
    }
}

/// Oldest files first, since what stays behind must be newer than what goes.
fn level0(version: &Version, shape: &Shape, reason: Reason) -> Option<Compaction> {
    let files = version.levels.first()?;
    let oldest = &files[files.len().saturating_sub(L0_FILES_MAX)..];
    let oldest: Vec<&FileMeta> = oldest.iter().map(|f| &f.meta).collect();
    compaction(version, 0, shape.below(version, 0), &oldest, reason)
}

/// The file that has the fewest bytes to rewrite below it for each of its own.
fn cheapest_file(version: &Version, shape: &Shape, level: usize) -> Option<Compaction> {
    let output = shape.below(version, level);
    let below = &version.levels.get(output).map_or(&[][..], |files| files.as_slice());
    let cost = |file: &FileMeta| {
        let within = version.overlapping(output, &KeyRange::of(file));
        let bytes: u64 = below[within].iter().map(|f| f.meta.size).sum();
        bytes as f64 / file.size.max(1) as f64
    };
    let files = version.levels.get(level)?.iter().map(|f| &f.meta);
    let cheapest = files.min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
    compaction(version, level, output, &[cheapest], Reason::LevelBytes)
}

fn is_dense(file: &FileMeta) -> bool {
    file.entries >= DENSE_ENTRIES_MIN && file.deletes * DENSE_ONE_IN >= file.entries
}

/// Level 0, if enough of it is tombstones to be worth what lies below.
fn dense_level0(version: &Version, shape: &Shape) -> Option<Compaction> {
    let files = version.levels.first()?;
    let deletes: u64 =
        files.iter().map(|f| &f.meta).filter(|f| is_dense(f)).map(|f| f.deletes).sum();
    if deletes == 0 {
        return None;
    }
    let choice = level0(version, shape, Reason::Tombstones)?;
    let below = sum_below(version, &choice, |f| f.entries);
    (below > 0 && deletes.saturating_mul(DENSE_BELOW_ONE_IN) >= below).then_some(choice)
}

/// Level 0, if it is large beside what it overlaps.
fn idle_level0(version: &Version, shape: &Shape) -> Option<Compaction> {
    let choice = level0(version, shape, Reason::Idle)?;
    let below = sum_below(version, &choice, |f| f.size);
    let worth = below > 0 && level_bytes(version, 0).saturating_mul(IDLE_ONE_IN) >= below;
    worth.then_some(choice)
}

/// Adds up a figure of the files that a compaction would rewrite in its output level.
fn sum_below(version: &Version, choice: &Compaction, of: fn(&FileMeta) -> u64) -> u64 {
    let files = version.levels.get(choice.output).into_iter().flatten();
    files.filter(|f| choice.lower.contains(&f.meta.number)).map(|f| of(&f.meta)).sum()
}

fn dense_file(version: &Version, options: &EngineOptions) -> Option<Compaction> {
    let is_dense = |f: &FileMeta| f.range_deletes > 0 || is_dense(f);
    // Where nothing lies below, only a snapshot can be what keeps the tombstones.
    let meets = |level: usize, f: &FileMeta| version.overlaps_from(level + 1, &KeyRange::of(f));
    let levels = version.levels.iter().enumerate().take(options.levels - 1).skip(1);
    for (level, files) in levels {
        if let Some(file) = files.iter().find(|f| is_dense(&f.meta) && meets(level, &f.meta)) {
            let output = next_level(version, level, options.levels - 1);
            return compaction(version, level, output, &[&file.meta], Reason::Tombstones);
        }
    }
    None
}

/// The compaction of `files` of `level` into `output`.
fn compaction(
    version: &Version,
    level: usize,
    output: usize,
    files: &[&FileMeta],
    reason: Reason,
) -> Option<Compaction> {
    let mut range = KeyRange::of(files.first()?);
    files.iter().for_each(|f| range.extend(&KeyRange::of(f)));
    let lower: Vec<&FileMeta> = version
        .levels
        .get(output)
        .map(|files| files.iter().map(|f| &f.meta).filter(|f| range.overlaps(f)).collect())
        .unwrap_or_default();
    lower.iter().for_each(|f| range.extend(&KeyRange::of(f)));
    Some(Compaction {
        level,
        output,
        upper: files.iter().map(|f| f.number).collect(),
        lower: lower.iter().map(|f| f.number).collect(),
        range,
        reason,
    })
}

/// The compaction that takes `range` of `level` down to the next level that has files, or to
/// `last`; at `last` itself it rewrites it in place. `None` if the level holds none of it.
pub fn pick_range(
    version: &Version,
    level: usize,
    range: &KeyRange,
    last: usize,
) -> Option<Compaction> {
    let all = version.levels.get(level)?.iter().map(|f| &f.meta);
    let mut files: Vec<&FileMeta> = all.collect();
    let any = files.iter().any(|f| range.overlaps(f));
    if level > 0 {
        files.retain(|f| range.overlaps(f));
    } else if !any {
        return None;
    }
    let output = next_level(version, level, last.max(level + 1));
    let mut choice = compaction(version, level, output, &files, Reason::Manual)?;
    if level == last {
        choice.output = level;
        choice.lower.clear();
        choice.range = KeyRange::of(files.first()?);
        files.iter().for_each(|f| choice.range.extend(&KeyRange::of(f)));
    }
    Some(choice)
}

//! Which files to compact next. Pure: the same files and options give the same choice.

use crate::lsm::manifest::FileMeta;
use crate::lsm::options::EngineOptions;
use crate::lsm::version::{KeyRange, Version};

/// A file is dense with tombstones if this share of its records (one in so many) are.
const DENSE_ONE_IN: u64 = 2;
/// Files with fewer records are not worth a look for tombstones.
const DENSE_ENTRIES_MIN: u64 = 64;

/// Why a compaction is worth its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Level 0 has many files, each of which a read must look at.
    Level0Files,
    /// A level is above its target size.
    LevelBytes,
    /// A file holds mostly tombstones, which slow scans until they meet what they hide.
    Tombstones,
    /// The caller asked.
    Manual,
}

/// What to compact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compaction {
    /// The level the files come from.
    pub level: usize,
    /// The level the result goes to: `level + 1`, or `level` itself for a rewrite in place.
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

/// How full each level is, as its files or bytes against its target; 1.0 is full.
pub fn scores(version: &Version, options: &EngineOptions) -> Vec<f64> {
    let last = options.levels - 1;
    let score = |(level, files): (usize, &Vec<_>)| match level {
        0 => files.len() as f64 / options.l0_compact_files as f64,
        level if level >= last => 0.0,
        level => level_bytes(version, level) as f64 / options.level_bytes(level) as f64,
    };
    version.levels.iter().enumerate().map(score).collect()
}

/// Bytes that stand above their level's target and so wait for compaction.
pub fn debt_bytes(version: &Version, options: &EngineOptions) -> u64 {
    let over = |level| level_bytes(version, level).saturating_sub(options.level_bytes(level));
    let l0 = match version.levels.first() {
        Some(files) if files.len() >= options.l0_compact_files => level_bytes(version, 0),
        _ => 0,
    };
    l0 + (1..options.levels - 1).map(over).sum::<u64>()
}

fn level_bytes(version: &Version, level: usize) -> u64 {
    version.levels.get(level).map_or(0, |files| files.iter().map(|f| f.meta.size).sum())
}

/// The next compaction, if one is due. `marks` holds for each level the largest key of the file
/// taken last, so that all parts of a level get their turn.
pub fn pick(version: &Version, options: &EngineOptions, marks: &[Vec<u8>]) -> Option<Compaction> {
    let scores = scores(version, options);
    let fullest = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(b.cmp(a)));
    match fullest {
        Some(0) if scores[0] >= 1.0 => level0(version, Reason::Level0Files),
        Some(level) if scores[level] > 1.0 => next_file(version, level, marks),
        _ => dense_file(version, options),
    }
}

fn level0(version: &Version, reason: Reason) -> Option<Compaction> {
    let files: Vec<&FileMeta> = version.levels.first()?.iter().map(|f| &f.meta).collect();
    compaction(version, 0, &files, reason)
}

fn next_file(version: &Version, level: usize, marks: &[Vec<u8>]) -> Option<Compaction> {
    let files = &version.levels[level];
    let mark = marks.get(level).map_or(&[][..], |m| m.as_slice());
    let next = files.iter().find(|f| f.meta.smallest.as_slice() > mark).or(files.first())?;
    compaction(version, level, &[&next.meta], Reason::LevelBytes)
}

fn dense_file(version: &Version, options: &EngineOptions) -> Option<Compaction> {
    let is_dense = |f: &FileMeta| {
        f.range_deletes > 0
            || (f.entries >= DENSE_ENTRIES_MIN && f.deletes * DENSE_ONE_IN >= f.entries)
    };
    // Where nothing lies below, only a snapshot can be what keeps the tombstones.
    let meets = |level: usize, f: &FileMeta| version.overlaps_from(level + 1, &KeyRange::of(f));
    let levels = version.levels.iter().enumerate().take(options.levels - 1).skip(1);
    for (level, files) in levels {
        if let Some(file) = files.iter().find(|f| is_dense(&f.meta) && meets(level, &f.meta)) {
            return compaction(version, level, &[&file.meta], Reason::Tombstones);
        }
    }
    None
}

/// The compaction of `files` of `level` into the next.
fn compaction(
    version: &Version,
    level: usize,
    files: &[&FileMeta],
    reason: Reason,
) -> Option<Compaction> {
    let mut range = KeyRange::of(files.first()?);
    files.iter().for_each(|f| range.extend(&KeyRange::of(f)));
    let output = level + 1;
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

/// The compaction that takes `range` of `level` one level down, or rewrites it in place where
/// nothing lies below and the caller says so by `rewrite`. `None` if the level holds none of it.
pub fn pick_range(
    version: &Version,
    level: usize,
    range: &KeyRange,
    rewrite: bool,
) -> Option<Compaction> {
    if level == 0 {
        let any = version.levels.first()?.iter().any(|f| range.overlaps(&f.meta));
        return if any { level0(version, Reason::Manual) } else { None };
    }
    let files: Vec<&FileMeta> =
        version.levels.get(level)?.iter().map(|f| &f.meta).filter(|f| range.overlaps(f)).collect();
    let mut choice = compaction(version, level, &files, Reason::Manual)?;
    if rewrite {
        choice.output = level;
        choice.lower.clear();
        choice.range = KeyRange::of(files.first()?);
        files.iter().for_each(|f| choice.range.extend(&KeyRange::of(f)));
    }
    Some(choice)
}

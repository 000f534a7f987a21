//! The slow check of a whole database: that every byte is sound and every promise holds.
//!
//! It looks at
//! - each sstable by itself: every block's checksum, the order of its records, what it says about
//!   itself ([`verify`]), and that the manifest says the same of it;
//! - each level: that the bounds of its files have no key in common;
//! - each key: that of its versions the newer ones stand in the sources above;
//! - the folder: files that the manifest names and that are missing, and those it does not name;
//! - counts: how many keys there are, beside how many the manifest says.
//!
//! What is wrong is reported and does not end the check.

use crate::base::{CfId, Result, Seq};
use crate::env::Disk;
use crate::lsm::cache::BlockCache;
use crate::lsm::cursor::Cursor;
use crate::lsm::iter::{Iter, LevelCursor, MergingCursor, Run};
use crate::lsm::key::{parse, user_key};
use crate::lsm::manifest::state::Family;
use crate::lsm::manifest::store::{file_name as manifest_name, load, read_current};
use crate::lsm::manifest::{FileMeta, State};
use crate::lsm::options::IterOptions;
use crate::lsm::sstable::verify::verify;
use crate::lsm::tombstone::RangeDeletes;
use crate::lsm::version::file::file_name;
use crate::lsm::version::{TableFile, Version};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of block cache an offline check uses.
const CACHE_BYTES: u64 = 8 << 20;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// Sstables read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Point records and range tombstones in them.
    pub records: u64,
    /// Each family's counts.
    pub families: Vec<FamilyCheck>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Files that nothing names: a crash left them, and the next open removes them.
    pub orphans: Vec<String>,
    /// Whether the manifest ended in an edit that was not wholly written.
    pub manifest_torn: bool,
}

/// A family's keys, in sstables alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyCheck {
    /// Its id.
    pub cf: CfId,
    /// Its name.
    pub name: String,
    /// Keys counted, those that have expired included.
    pub keys: u64,
    /// Keys with an expiry, counted.
    pub expires: u64,
    /// Keys by the manifest.
    pub keys_recorded: u64,
    /// Keys with an expiry by the manifest.
    pub expires_recorded: u64,
    /// Whether the manifest says that its figures are exact. They still count keys that had
    /// expired and that compaction has dropped before their deletes were logged.
    pub exact: bool,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file in which it was found.
    pub file: PathBuf,
    /// A sentence for people.
    pub what: String,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, file: &Path, what: impl Into<String>) {
        self.problems.push(Problem { file: file.to_path_buf(), what: what.into() });
    }
}

/// Checks the database in `dir` without opening it for writing. REQUIRES: no engine has it open.
///
/// # Errors
/// `NotFound` if there is none; `Corruption` if the manifest cannot be read; what the disk answers.
/// Damage anywhere else is in the report.
pub fn check_dir(disk: &Arc<dyn Disk>, dir: &Path) -> Result<CheckReport> {
    let Some(number) = read_current(disk.as_ref(), dir)? else {
        let message = format!("there is no database in {}", dir.display());
        return Err(crate::base::Error::new(crate::base::ErrorKind::NotFound, message));
    };
    let (state, manifest_torn) = load(disk.as_ref(), dir, number)?;
    let cache = BlockCache::new(CACHE_BYTES);
    let mut report = check_state(disk, dir, &state, &cache)?;
    report.manifest_torn = manifest_torn;
    let named: BTreeSet<String> = state
        .families
        .values()
        .flat_map(|family| family.files.keys().map(|number| file_name(*number)))
        .chain([manifest_name(number)])
        .collect();
    for entry in disk.list(dir)?.iter().filter(|entry| !entry.is_dir) {
        let name = &entry.name;
        let ours = name.ends_with(".sst") || name.starts_with("MANIFEST-") || name == "CURRENT.tmp";
        if ours && !named.contains(name) {
            report.orphans.push(name.clone());
        }
    }
    Ok(report)
}

/// Checks the files of `state`. REQUIRES: they are kept from being removed meanwhile.
pub(super) fn check_state(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    state: &State,
    cache: &Arc<BlockCache>,
) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    for (&cf, family) in &state.families {
        let mut files = Vec::new();
        let mut whole = true;
        for (level, meta) in family.files.values() {
            match check_file(disk, dir, (cf, meta), cache, &mut report) {
                Some(file) => files.push((usize::from(*level), file)),
                None => whole = false,
            }
        }
        let version = Version::empty(1).with(&[], &files, family.collected);
        check_levels(dir, &version, &mut report);
        // With a file missing, versions rightly seem out of order.
        if whole {
            check_order(&version, &mut report)?;
            check_counts(cf, family, &version, &mut report)?;
        }
    }
    Ok(report)
}

fn check_file(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    (cf, meta): (CfId, &FileMeta),
    cache: &Arc<BlockCache>,
    report: &mut CheckReport,
) -> Option<Arc<TableFile>> {
    let path = dir.join(file_name(meta.number));
    if !disk.exists(&path) {
        report.problem(&path, "the manifest names this sstable and it is not there");
        return None;
    }
    let before = report.problems.len();
    match verify(disk.as_ref(), &path) {
        Err(error) => report.problem(&path, error.to_string()),
        Ok(verified) => {
            report.files += 1;
            report.bytes += verified.file_bytes;
            report.records += verified.entries + verified.range_deletes;
            verified.damage.iter().for_each(|error| report.problem(&path, error.to_string()));
            let found = (verified.file_bytes, verified.entries, verified.range_deletes);
            let said = (meta.size, meta.entries, meta.range_deletes);
            if verified.damage.is_empty() && found != said {
                let what = format!(
                    "bytes, records and range tombstones are {found:?}, by the manifest {said:?}"
                );
                report.problem(&path, what);
            }
        }
    }
    if report.problems.len() > before {
        return None;
    }
    let file = TableFile::open(disk, dir, (cf, meta.clone()), cache);
    let checked = file.and_then(|file| {
        check_bounds(&file, report)?;
        Ok(file)
    });
    checked.map_err(|error| report.problem(&path, error.to_string())).ok()
}

/// Checks keys and sequence numbers against what the manifest says of the file.
fn check_bounds(file: &TableFile, report: &mut CheckReport) -> Result<()> {
    let meta = &file.meta;
    let seqs = meta.seq_min..=meta.seq_max;
    let mut outside = 0u64;
    let mut cursor = file.cursor(false);
    cursor.first()?;
    while cursor.valid() {
        let inside = parse(cursor.key())
            .is_some_and(|record| meta.covers(record.user_key) && seqs.contains(&record.seq));
        outside += u64::from(!inside);
        cursor.next()?;
    }
    for t in file.range_deletes().iter() {
        let end_inside = *t.end <= *meta.largest;
        let inside = *t.start >= *meta.smallest && end_inside && seqs.contains(&t.seq);
        outside += u64::from(!inside);
    }
    if outside > 0 {
        let what = format!("{outside} records lie outside the bounds that the manifest gives");
        report.problem(file.path(), what);
    }
    Ok(())
}

fn check_levels(dir: &Path, version: &Version, report: &mut CheckReport) {
    for (level, files) in version.levels.iter().enumerate().skip(1) {
        for pair in files.windows(2) {
            if !pair[0].meta.ends_before(&pair[1].meta.smallest) {
                let (a, b) = (pair[0].meta.number, pair[1].meta.number);
                let what = format!("overlaps sstable {a}, both being at level {level}");
                report.problem(&dir.join(file_name(b)), what);
            }
        }
    }
}

/// All cursors of a version, the newest source first.
fn sources(version: &Version) -> Vec<Run> {
    let mut cursors: Vec<Run> = Vec::new();
    for (level, files) in version.levels.iter().enumerate() {
        match level {
            0 => cursors.extend(files.iter().map(|f| Run::File(f.cursor(false)))),
            _ => cursors.push(Run::Level(LevelCursor::new(files.clone(), false))),
        }
    }
    cursors
}

/// Checks that of each key newer records stand in sources above, and that none is there twice.
fn check_order(version: &Version, report: &mut CheckReport) -> Result<()> {
    let mut cursor = MergingCursor::new(sources(version));
    let mut last: Option<(Vec<u8>, usize)> = None;
    cursor.first()?;
    while cursor.valid() {
        let (key, source) = (cursor.key(), cursor.source());
        let wrong = last.as_ref().is_some_and(|(before, before_source)| {
            before == key || (user_key(before) == user_key(key) && source < *before_source)
        });
        if wrong {
            let key = crate::base::escape::escape(user_key(cursor.key()));
            let place = version.files().next().map_or(PathBuf::new(), |(_, f)| f.path().into());
            report.problem(&place, format!("versions of the key \"{key}\" are out of order"));
        }
        last = Some((cursor.key().to_vec(), source));
        cursor.next()?;
    }
    Ok(())
}

fn check_counts(
    cf: CfId,
    family: &Family,
    version: &Version,
    report: &mut CheckReport,
) -> Result<()> {
    let mut range_deletes = RangeDeletes::default();
    version.files().for_each(|(_, file)| range_deletes.extend(file.range_deletes()));
    let options = IterOptions { keys_only: true, fill_cache: false, ..IterOptions::default() };
    let merged = MergingCursor::new(sources(version));
    let mut iter = Iter::new(merged, range_deletes, options, Seq::MAX);
    let (mut keys, mut expires) = (0, 0);
    iter.first()?;
    while iter.valid() {
        keys += 1;
        expires += u64::from(iter.meta().expire_at_ms.is_some());
        iter.next()?;
    }
    let (keys_recorded, expires_recorded) = (family.keys, family.expires);
    let (name, exact) = (family.name.clone(), family.exact);
    // Compaction drops only what expires: without an expiry nothing can be missing.
    if exact && (keys - expires) != keys_recorded.saturating_sub(expires_recorded) {
        let place = version.files().next().map_or(PathBuf::new(), |(_, f)| f.path().into());
        let what = format!(
            "the family {name} holds {keys} keys, {expires} of them with an expiry; \
             the manifest says {keys_recorded} and {expires_recorded}"
        );
        report.problem(&place, what);
    }
    report.families.push(FamilyCheck {
        cf,
        name,
        keys,
        expires,
        keys_recorded,
        expires_recorded,
        exact,
    });
    Ok(())
}

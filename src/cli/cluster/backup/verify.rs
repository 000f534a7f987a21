//! Reading a backup back: every byte of it.

use crate::base::{Error, ErrorKind, Result};
use crate::cli::cluster::backup::document::{Document, FileFact};
use crate::cli::cluster::backup::repository::Repository;
use crate::cli::cluster::backup::shelf::Shelf;
use crate::env::Disk;
use crate::env::disk::read_exact_at;
use crate::lsm::check::check_dir;
use crate::lsm::sstable::verify::verify as verify_table;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Bytes read at a time.
const STEP_BYTES: u64 = 1 << 20;

/// What was found of a backup.
#[derive(Debug, Default)]
pub struct Verified {
    /// Files read, content that several shards share once.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Keys in its tables, those that have expired included.
    pub keys: u64,
    /// All that is wrong.
    pub damage: Vec<Error>,
}

/// Checks that nothing of a backup is missing: every file is there at its full length.
///
/// # Errors
/// `Corruption` names the first that is not.
pub fn is_whole(repository: &Repository, document: &Document) -> Result<()> {
    document.files().try_for_each(|file| length(repository, file))
}

fn length(repository: &Repository, file: &FileFact) -> Result<()> {
    let path = repository.content_path(file);
    let expected = format!("{} bytes of {}", file.size, file.name);
    let len = match repository.disk().open(&path) {
        Ok(content) => content.len()?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::corruption(path, 0, expected, "no such file"));
        }
        Err(error) => return Err(error),
    };
    match len == file.size {
        true => Ok(()),
        false => Err(Error::corruption(path, len.min(file.size), expected, format!("{len} bytes"))),
    }
}

/// Reads a backup: sums, and the tables as an engine opens them. What is wrong is in the answer.
///
/// # Errors
/// What the disk answers.
pub fn verify(repository: &Repository, document: &Document) -> Result<Verified> {
    let mut found = Verified::default();
    let mut sound: BTreeMap<String, bool> = BTreeMap::new();
    let mut told: BTreeSet<String> = BTreeSet::new();
    for shard in &document.shards {
        let shelf = Arc::new(Shelf::new(repository, shard));
        let mut all_sound = true;
        for file in &shard.files {
            let content = file.content();
            let is_sound = match sound.get(&content) {
                Some(known) => *known,
                None => {
                    let damage = check_content(repository, &shelf, file)?;
                    found.files += 1;
                    found.bytes += file.size;
                    let is_sound = damage.is_empty();
                    found.damage.extend(damage);
                    sound.insert(content, is_sound);
                    is_sound
                }
            };
            all_sound &= is_sound;
        }
        if !all_sound {
            continue;
        }
        let disk: Arc<dyn Disk> = shelf.clone();
        match check_dir(&disk, shelf.dir()) {
            Ok(report) => {
                found.keys += report.families.iter().map(|family| family.keys).sum::<u64>();
                for problem in report.problems {
                    let path = shelf.place(&problem.file).unwrap_or(&problem.file);
                    if told.insert(format!("{}{}", path.display(), problem.what)) {
                        found.damage.push(Error::corruption(
                            path,
                            0,
                            "a sound table",
                            problem.what,
                        ));
                    }
                }
            }
            Err(error) => found.damage.push(error.context(format!("shard {}", shard.shard))),
        }
    }
    Ok(found)
}

/// What is wrong with the content of a file: where, if that can be told.
fn check_content(
    repository: &Repository,
    shelf: &Arc<Shelf>,
    file: &FileFact,
) -> Result<Vec<Error>> {
    if let Err(error) = length(repository, file) {
        return if error.kind() == ErrorKind::Corruption { Ok(vec![error]) } else { Err(error) };
    }
    let path = repository.content_path(file);
    let sum = sum(&**repository.disk(), &path, file.size)?;
    if sum == file.sum {
        return Ok(Vec::new());
    }
    if file.name.ends_with(".sst") {
        let report = verify_table(&**shelf, &shelf.dir().join(&file.name))?;
        let places = report.damage.iter().filter_map(Error::damage);
        let damage: Vec<Error> = places
            .map(|at| Error::corruption(&path, at.offset, at.expected.clone(), at.found.clone()))
            .collect();
        if !damage.is_empty() {
            return Ok(damage);
        }
    }
    let expected = format!("{} with the sum {}", file.name, file.sum);
    Ok(vec![Error::corruption(path, 0, expected, format!("the sum {sum}"))])
}

fn sum(disk: &dyn Disk, path: &Path, size: u64) -> Result<String> {
    let file = disk.open(path)?;
    let (mut sum, mut bytes, mut at) = (Xxh3::new(), Vec::new(), 0);
    while at < size {
        bytes.resize((size - at).min(STEP_BYTES) as usize, 0);
        read_exact_at(&*file, path, &mut bytes, at)?;
        sum.update(&bytes);
        at += bytes.len() as u64;
    }
    Ok(format!("{:032x}", sum.digest128()))
}

//! A shard of a backup as a folder that an engine opens.

use crate::base::{Error, ErrorKind, Result};
use crate::cli::cluster::backup::document::{FileFact, ShardFact};
use crate::cli::cluster::backup::repository::Repository;
use crate::env::disk::FileLock;
use crate::env::{Appending, DirEntry, Disk, File};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A read-only disk with one folder: the files of a shard under the names they had, each of them
/// content of a folder of backups.
#[derive(Debug)]
pub struct Shelf {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    files: BTreeMap<String, (PathBuf, u64)>,
}

impl Shelf {
    /// The shelf of a shard.
    pub fn new(repository: &Repository, shard: &ShardFact) -> Shelf {
        let place =
            |file: &FileFact| (file.name.clone(), (repository.content_path(file), file.size));
        Shelf {
            disk: repository.disk().clone(),
            dir: PathBuf::from(format!("shard-{}", shard.shard)),
            files: shard.files.iter().map(place).collect(),
        }
    }

    /// The folder in which the engine finds its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a file of the folder really lies.
    pub fn place(&self, path: &Path) -> Option<&Path> {
        let name = path.strip_prefix(&self.dir).ok()?.to_str()?;
        self.files.get(name).map(|(place, _)| place.as_path())
    }
}

fn read_only(path: &Path) -> Error {
    let message = format!("{} is of a backup, which is not written to", path.display());
    Error::new(ErrorKind::Refused, message)
}

impl Disk for Shelf {
    fn open(&self, path: &Path) -> Result<Arc<dyn File>> {
        match self.place(path) {
            Some(place) => self.disk.open(place),
            None => {
                let message = format!("the backup has no file {}", path.display());
                Err(Error::new(ErrorKind::NotFound, message))
            }
        }
    }

    fn open_write(&self, path: &Path) -> Result<Arc<dyn File>> {
        Err(read_only(path))
    }

    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        Err(read_only(path))
    }

    fn create_log(&self, path: &Path, _: u64, _: Appending) -> Result<Arc<dyn File>> {
        Err(read_only(path))
    }

    fn open_log(&self, path: &Path, _: Appending) -> Result<Arc<dyn File>> {
        Err(read_only(path))
    }

    fn rename(&self, from: &Path, _: &Path) -> Result<()> {
        Err(read_only(from))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        Err(read_only(path))
    }

    fn hard_link(&self, existing: &Path, _: &Path) -> Result<()> {
        Err(read_only(existing))
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        Err(read_only(path))
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        Err(read_only(path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        if dir != self.dir {
            return Err(Error::new(ErrorKind::NotFound, format!("no folder {}", dir.display())));
        }
        let entry = |(name, (_, len)): (&String, &(PathBuf, u64))| DirEntry {
            name: name.clone(),
            is_dir: false,
            len: *len,
        };
        Ok(self.files.iter().map(entry).collect())
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        Err(read_only(dir))
    }

    fn exists(&self, path: &Path) -> bool {
        path == self.dir || self.place(path).is_some_and(|place| self.disk.exists(place))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        Err(read_only(path))
    }

    fn free_bytes(&self, _: &Path) -> Result<u64> {
        Ok(0)
    }
}

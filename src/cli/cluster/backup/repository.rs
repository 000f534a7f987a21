//! The folder of backups.
//!
//! ```text
//! DIR/FORMAT               "arqondb backup 1\n"
//! DIR/LOCK                 held while a backup is made or removed
//! DIR/files/SUM-SIZE       content of a file, named by its XXH3 and its length
//! DIR/files/SUM-SIZE.part  the beginning of one
//! DIR/backups/NAME.json    a backup, see `document`: it names the files it consists of
//! ```
//! Content is kept once, however many backups have it: the next backup copies only what is new.
//! A backup's file is written last, when all its content is durable: a crash on the way leaves the
//! older backups as they were, and content that the next backup may use.

use crate::base::{Error, ErrorKind, Result};
use crate::cli::cluster::backup::document::{DOCUMENT_BYTES_MAX, Document, FileFact, is_name};
use crate::env::disk::{FileLock, read_exact_at, write_atomic};
use crate::env::{Disk, File};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

const FORMAT: &[u8] = b"arqondb backup 1\n";
/// Bytes read at a time.
const STEP_BYTES: u64 = 1 << 20;

/// A folder of backups.
#[derive(Debug)]
pub struct Repository {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    _lock: Option<Box<dyn FileLock>>,
}

impl Repository {
    /// Opens a folder to write to, or makes one.
    ///
    /// # Errors
    /// `Refused` if it holds something else, or another program writes to it.
    pub fn create(disk: Arc<dyn Disk>, dir: &Path) -> Result<Repository> {
        disk.create_dir_all(dir)?;
        let format = dir.join("FORMAT");
        let is_new = !disk.exists(&format);
        let ours = |name: &str| matches!(name, "LOCK" | "FORMAT.tmp");
        if is_new && let Some(entry) = disk.list(dir)?.into_iter().find(|e| !ours(&e.name)) {
            let message = format!(
                "{} is not empty (it holds {}) and is no folder of backups; name another",
                dir.display(),
                entry.name
            );
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let lock = disk.lock(&dir.join("LOCK"))?;
        disk.create_dir_all(&dir.join("files"))?;
        disk.create_dir_all(&dir.join("backups"))?;
        if is_new {
            write_atomic(&*disk, &format, FORMAT)?;
        }
        let repository = Repository::open(disk, dir)?;
        Ok(Repository { _lock: Some(lock), ..repository })
    }

    /// Opens a folder to read from.
    ///
    /// # Errors
    /// `NotFound` if it is no folder of backups; `Unsupported` if it is one of another version.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Repository> {
        let path = dir.join("FORMAT");
        if !disk.exists(&path) {
            let message = format!(
                "{} is no folder of backups: it has no file FORMAT; name one that `arqon cluster \
                 backup` has written",
                dir.display()
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let file = disk.open(&path)?;
        let mut found = vec![0; FORMAT.len() + 1];
        let n = file.read_at(&mut found, 0)?;
        found.truncate(n);
        if found != FORMAT {
            if found.starts_with(b"arqondb backup ") && found.ends_with(b"\n") {
                let message = format!(
                    "{} is a folder of backups of another version; use a newer program",
                    dir.display()
                );
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            let found = String::from_utf8_lossy(&found).escape_debug().to_string();
            return Err(Error::corruption(path, 0, "arqondb backup 1", found));
        }
        Ok(Repository { disk, dir: dir.to_path_buf(), _lock: None })
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The disk on which it lies.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The names of its backups, sorted.
    ///
    /// # Errors
    /// What the disk answers.
    pub fn names(&self) -> Result<Vec<String>> {
        let entries = self.disk.list(&self.dir.join("backups"))?.into_iter();
        let names = entries.filter_map(|e| e.name.strip_suffix(".json").map(String::from));
        Ok(names.filter(|name| is_name(name)).collect())
    }

    /// Where a backup's file lies.
    pub fn document_path(&self, name: &str) -> PathBuf {
        self.dir.join("backups").join(format!("{name}.json"))
    }

    /// Whether there is a backup of that name.
    pub fn has_backup(&self, name: &str) -> bool {
        self.disk.exists(&self.document_path(name))
    }

    /// A backup.
    ///
    /// # Errors
    /// `NotFound`; `Corruption`; `Unsupported` if it is of a newer version.
    pub fn read(&self, name: &str) -> Result<Document> {
        let path = self.document_path(name);
        if !is_name(name) || !self.disk.exists(&path) {
            let message = format!(
                "{} has no backup {name:?}; `arqon cluster backup list {}` shows which it has",
                self.dir.display(),
                self.dir.display()
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let file = self.disk.open(&path)?;
        let len = file.len()?;
        if len > DOCUMENT_BYTES_MAX {
            return Err(Error::corruption(path, 0, "a backup", format!("{len} bytes")));
        }
        let mut bytes = vec![0; len as usize];
        read_exact_at(&*file, &path, &mut bytes, 0)?;
        let document = Document::decode(&path, &bytes)?;
        if document.name != name {
            let found = format!("that of {}", document.name);
            return Err(Error::corruption(path, 0, format!("the backup {name}"), found));
        }
        Ok(document)
    }

    /// The backup made last among those that can be read; `None` if there is none.
    ///
    /// # Errors
    /// What the disk answers.
    pub fn last(&self) -> Result<Option<Document>> {
        let mut last: Option<Document> = None;
        for name in self.names()? {
            let document = self.read(&name)?;
            if last.as_ref().is_none_or(|last| last.made_ms <= document.made_ms) {
                last = Some(document);
            }
        }
        Ok(last)
    }

    /// Makes the content there is durable, and then adds the backup.
    ///
    /// # Errors
    /// What the disk answers: then the backup is there as a whole or not at all.
    pub fn add(&self, document: &Document) -> Result<()> {
        self.disk.sync_dir(&self.dir.join("files"))?;
        write_atomic(&*self.disk, &self.document_path(&document.name), &document.encode()?)
    }

    /// Where content lies.
    pub fn content_path(&self, file: &FileFact) -> PathBuf {
        self.dir.join("files").join(file.content())
    }

    /// Whether content is there, at its full length.
    ///
    /// # Errors
    /// What the disk answers.
    pub fn has(&self, file: &FileFact) -> Result<bool> {
        let path = self.content_path(file);
        Ok(self.disk.exists(&path) && self.disk.open(&path)?.len()? == file.size)
    }

    /// Begins to write content, or goes on where that was broken off.
    ///
    /// # Errors
    /// What the disk answers.
    pub fn part(&self, fact: &FileFact) -> Result<Part<'_>> {
        let whole = self.content_path(fact);
        let path = self.dir.join("files").join(format!("{}.part", fact.content()));
        let file = match self.disk.exists(&path) {
            true => self.disk.open_write(&path)?,
            false => self.disk.create(&path)?,
        };
        let mut part = Part {
            disk: &*self.disk,
            fact: fact.clone(),
            whole,
            path,
            file,
            sum: Xxh3::new(),
            at: 0,
        };
        let len = part.file.len()?;
        if len > fact.size {
            part.file.set_len(0)?;
            return Ok(part);
        }
        let mut bytes = Vec::new();
        while part.at < len {
            bytes.resize((len - part.at).min(STEP_BYTES) as usize, 0);
            read_exact_at(&*part.file, &part.path, &mut bytes, part.at)?;
            part.sum.update(&bytes);
            part.at += bytes.len() as u64;
        }
        Ok(part)
    }

    /// Removes backups, and the content that no other has. Gives how many files and bytes went.
    ///
    /// # Errors
    /// `Corruption` if a backup that stays cannot be read: what it needs is not known.
    pub fn remove(&self, names: &[String]) -> Result<(u64, u64)> {
        let mut needed = BTreeSet::new();
        for name in self.names()?.iter().filter(|name| !names.contains(name)) {
            needed.extend(self.read(name)?.files().map(FileFact::content));
        }
        for name in names {
            self.disk.remove(&self.document_path(name))?;
        }
        // A backup must be gone before what it consists of is.
        self.disk.sync_dir(&self.dir.join("backups"))?;
        let files = self.dir.join("files");
        let (mut count, mut bytes) = (0, 0);
        for entry in self.disk.list(&files)?.into_iter().filter(|e| !needed.contains(&e.name)) {
            self.disk.remove(&files.join(&entry.name))?;
            count += 1;
            bytes += entry.len;
        }
        Ok((count, bytes))
    }
}

/// Content that is being written.
pub struct Part<'a> {
    disk: &'a dyn Disk,
    fact: FileFact,
    whole: PathBuf,
    path: PathBuf,
    file: Arc<dyn File>,
    sum: Xxh3,
    at: u64,
}

impl Part<'_> {
    /// How many bytes there are.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Adds what comes behind them.
    ///
    /// # Errors
    /// What the disk answers.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_at(bytes, self.at)?;
        self.sum.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Makes it count. Its name is durable with the backup's.
    ///
    /// # Errors
    /// `Unavailable` if it is not the content it should be: it is removed, to be fetched anew.
    pub fn finish(self) -> Result<()> {
        let sum = format!("{:032x}", self.sum.digest128());
        if self.at != self.fact.size || sum != self.fact.sum {
            self.disk.remove(&self.path)?;
            let message = format!(
                "{} arrived with the sum {sum} at {} bytes, and should be {}",
                self.fact.name,
                self.at,
                self.fact.content()
            );
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        self.file.sync_data()?;
        self.disk.rename(&self.path, &self.whole)
    }
}

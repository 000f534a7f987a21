//! A table that may be damaged, taken apart: as much as can be read, and what is wrong.

use super::block::Block;
use super::filter::Filter;
use super::format::{Footer, Handle, read_block};
use super::index::Index;
use super::properties::Properties;
use super::table::{malformed, read_filter, read_index, read_properties, read_range_deletes};
use crate::base::{Error, Result};
use crate::env::{Disk, File};
use crate::lsm::tombstone::RangeTombstone;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What could be read of a table. A part that is not there, or is damaged, is `None` or empty.
pub(super) struct Anatomy {
    file: Arc<dyn File>,
    pub(super) path: PathBuf,
    pub(super) file_bytes: u64,
    pub(super) footer: Option<Footer>,
    pub(super) properties: Option<Properties>,
    pub(super) index: Option<Index>,
    pub(super) filter: Option<Filter>,
    pub(super) range_deletes: Vec<RangeTombstone>,
    pub(super) damage: Vec<Error>,
}

impl Anatomy {
    /// Takes the table at `path` apart.
    ///
    /// # Errors
    /// Only if the file cannot be opened at all.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<Anatomy> {
        let file = disk.open(path)?;
        let file_bytes = file.len()?;
        let mut anatomy = Anatomy {
            file,
            path: path.to_path_buf(),
            file_bytes,
            footer: None,
            properties: None,
            index: None,
            filter: None,
            range_deletes: Vec::new(),
            damage: Vec::new(),
        };
        let footer = Footer::read(&*anatomy.file, path, file_bytes);
        if let Some(footer) = anatomy.keep(footer) {
            anatomy.read_parts(&footer);
            anatomy.footer = Some(footer);
        }
        Ok(anatomy)
    }

    fn read_parts(&mut self, footer: &Footer) {
        self.properties = self.part(footer.properties, read_properties);
        self.index = self.part(footer.index, |bytes, path, _| read_index(bytes, path, footer));
        self.filter = self.part(footer.filter, read_filter);
        let range_deletes = self.part(footer.range_deletes, read_range_deletes);
        self.range_deletes = range_deletes.unwrap_or_default();
    }

    fn part<T>(
        &mut self,
        handle: Handle,
        read: impl FnOnce(&[u8], &Path, Handle) -> Result<T>,
    ) -> Option<T> {
        if handle.is_none() {
            return None;
        }
        let bytes = read_block(&*self.file, &self.path, handle);
        let part = bytes.and_then(|bytes| read(&bytes, &self.path, handle));
        self.keep(part)
    }

    /// The value of a result whose error is damage.
    pub(super) fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.damage.push(e)).ok()
    }

    /// Data blocks that the index knows of.
    pub(super) fn blocks(&self) -> usize {
        self.index.as_ref().map_or(0, Index::blocks)
    }

    /// Where data block `i` lies.
    pub(super) fn handle(&self, i: usize) -> Handle {
        self.index.as_ref().map_or(Handle::default(), |index| index.handle(i))
    }

    /// Reads data block `i`.
    pub(super) fn block(&self, i: usize) -> Result<Arc<Block>> {
        let bytes = read_block(&*self.file, &self.path, self.handle(i))?;
        Ok(Arc::new(Block::new(bytes).map_err(|_| self.malformed(i))?))
    }

    /// The error for block `i`, whose checksum is right but whose bytes are not.
    pub(super) fn malformed(&self, i: usize) -> Error {
        malformed(&self.path, self.handle(i).offset, "a data block")
    }
}

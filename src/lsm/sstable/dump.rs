//! Everything a table holds, damaged or not: what `arqon sst dump` prints.

use super::anatomy::Anatomy;
use super::block_cursor::BlockCursor;
use super::properties::Properties;
use crate::base::{Error, Result};
use crate::env::Disk;
use crate::lsm::tombstone::RangeTombstone;
use std::path::Path;
use std::vec;

/// One thing found in a table.
#[derive(Debug)]
pub enum DumpItem {
    /// A point record.
    Entry {
        /// Offset in the file of the block it lies in.
        block_offset: u64,
        /// Its internal key.
        key: Vec<u8>,
        /// Its stored value.
        value: Vec<u8>,
    },
    /// A range tombstone.
    RangeDelete(RangeTombstone),
    /// A part that cannot be read; the rest follows.
    Damage(Error),
}

/// Walks all of a table: first what is wrong with its frame, then range tombstones, then records
/// in order, with damaged blocks reported where they lie and passed over.
pub struct Dump {
    anatomy: Anatomy,
    frame: vec::IntoIter<DumpItem>,
    next_block: usize,
    block: Option<BlockCursor>,
}

/// Starts to walk the table at `path`.
///
/// # Errors
/// Only if the file cannot be opened.
pub fn dump(disk: &dyn Disk, path: &Path) -> Result<Dump> {
    let mut anatomy = Anatomy::open(disk, path)?;
    let damage = std::mem::take(&mut anatomy.damage).into_iter().map(DumpItem::Damage);
    let range_deletes = std::mem::take(&mut anatomy.range_deletes);
    let frame: Vec<DumpItem> =
        damage.chain(range_deletes.into_iter().map(DumpItem::RangeDelete)).collect();
    Ok(Dump { anatomy, frame: frame.into_iter(), next_block: 0, block: None })
}

impl Dump {
    /// What the table says about itself, if that can be read.
    pub fn properties(&self) -> Option<&Properties> {
        self.anatomy.properties.as_ref()
    }

    /// Goes to the first record of the next block; gives whether there is a block.
    fn enter_block(&mut self) -> Result<bool> {
        let i = self.next_block;
        if i >= self.anatomy.blocks() {
            return Ok(false);
        }
        self.next_block += 1;
        let mut block = BlockCursor::new(self.anatomy.block(i)?);
        block.first().map_err(|_| self.anatomy.malformed(i))?;
        self.block = Some(block);
        Ok(true)
    }
}

impl Iterator for Dump {
    type Item = DumpItem;

    fn next(&mut self) -> Option<DumpItem> {
        if let Some(item) = self.frame.next() {
            return Some(item);
        }
        loop {
            let Some(block) = self.block.as_mut().filter(|b| b.valid()) else {
                match self.enter_block() {
                    Ok(true) => continue,
                    Ok(false) => return None,
                    Err(e) => {
                        self.block = None;
                        return Some(DumpItem::Damage(e));
                    }
                }
            };
            let at = self.next_block - 1;
            let entry = DumpItem::Entry {
                block_offset: self.anatomy.handle(at).offset,
                key: block.key().to_vec(),
                value: block.value().to_vec(),
            };
            if block.next().is_err() {
                self.block = None;
                self.frame = vec![DumpItem::Damage(self.anatomy.malformed(at))].into_iter();
            }
            return Some(entry);
        }
    }
}

//! Ours, through its embedded interface.

use crate::store::{Result, Setup, Store};
use arqondb::{CfId, Codec, DBImpl, IterOptions, Options, SyncLevel, WriteBatch};
use std::ops::Bound;
use std::path::Path;

pub struct Arqon(DBImpl);

impl Arqon {
    pub fn open(dir: &Path, setup: Setup) -> Result<Arqon> {
        let defaults = Options::default();
        // Six parts of sixteen are the cache's, seven the memtables', of which there may be three.
        let memtables = setup.write_buffer_bytes.map_or(0, |bytes| 3 * bytes / 7 * 16);
        let wanted = memtables.max(setup.cache_bytes.unwrap_or(0) / 6 * 16);
        let options = Options {
            sync: if setup.sync { SyncLevel::Always } else { SyncLevel::Os },
            memory_budget_bytes: defaults.memory_budget_bytes.max(wanted),
            write_buffer_bytes: setup.write_buffer_bytes,
            compression: if setup.compress { Codec::Lz4 } else { Codec::None },
            ..defaults
        };
        Ok(Arqon(DBImpl::open_with(dir, options)?))
    }
}

impl Store for Arqon {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.0.put(key, value)?)
    }

    fn put_batch(&self, rows: &[(&[u8], &[u8])]) -> Result<()> {
        let bytes = rows.iter().map(|(k, v)| k.len() + v.len() + 8).sum();
        let mut batch = WriteBatch::with_capacity(bytes);
        for (key, value) in rows {
            batch.put(key, value);
        }
        self.0.write(batch)?;
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.0.delete(key)?)
    }

    fn get(&self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.0.get(key)?;
        Ok(value.map(|v| see(&v)).is_some())
    }

    fn scan(&self, from: &[u8], rows: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let options = IterOptions { lower: Bound::Included(from.to_vec()), ..Default::default() };
        let mut iter = self.0.iter(CfId::DEFAULT, options)?;
        iter.first()?;
        let mut n = 0;
        while n < rows && iter.valid() {
            see(iter.key(), iter.value());
            n += 1;
            iter.next()?;
        }
        Ok(n)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.0.flush()?)
    }

    fn settle(&self) -> Result<()> {
        Ok(self.0.compact_due(CfId::DEFAULT)?)
    }
}

//! fjall: a log-structured engine in Rust.

use crate::store::{Result, Setup, Store};
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;
use std::time::Duration;

pub struct Fjall {
    db: Database,
    rows: Keyspace,
    sync: bool,
}

impl Fjall {
    pub fn open(dir: &Path, setup: Setup) -> Result<Fjall> {
        let mut builder = Database::builder(dir);
        if let Some(bytes) = setup.cache_bytes {
            builder = builder.cache_size(bytes);
        }
        let db = builder.open()?;
        let codec = if setup.compress { CompressionType::Lz4 } else { CompressionType::None };
        let rows = db.keyspace("rows", || {
            let options = KeyspaceCreateOptions::default()
                .data_block_compression_policy(CompressionPolicy::all(codec));
            match setup.write_buffer_bytes {
                Some(bytes) => options.max_memtable_size(bytes),
                None => options,
            }
        })?;
        Ok(Fjall { db, rows, sync: setup.sync })
    }

    fn acknowledge(&self) -> Result<()> {
        if self.sync {
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl Store for Fjall {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.rows.insert(key, value)?;
        self.acknowledge()
    }

    fn put_batch(&self, rows: &[(&[u8], &[u8])]) -> Result<()> {
        let mut batch = self.db.batch();
        for (key, value) in rows {
            batch.insert(&self.rows, *key, *value);
        }
        batch.commit()?;
        self.acknowledge()
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.rows.remove(key)?;
        self.acknowledge()
    }

    fn get(&self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.rows.get(key)?;
        Ok(value.map(|v| see(&v)).is_some())
    }

    fn scan(&self, from: &[u8], rows: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut n = 0;
        for row in self.rows.range(from..).take(rows) {
            let (key, value) = row.into_inner()?;
            see(&key, &value);
            n += 1;
        }
        Ok(n)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.rows.rotate_memtable_and_wait()?)
    }

    fn settle(&self) -> Result<()> {
        // There is no call that waits: done is when nothing has moved for a while.
        let mut quiet = 0;
        let mut seen = self.db.compactions_completed();
        while quiet < 10 {
            // tidy: sleeps because the engine has no call that waits for its background work
            std::thread::sleep(Duration::from_millis(50));
            let now = self.db.compactions_completed();
            let busy = self.db.active_compactions() > 0 || self.db.outstanding_flushes() > 0;
            quiet = if now != seen || busy { 0 } else { quiet + 1 };
            seen = now;
        }
        Ok(())
    }
}

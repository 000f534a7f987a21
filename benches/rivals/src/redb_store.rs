//! redb: a copy-on-write B-tree in Rust. Each write is a transaction of its own.

use crate::store::{Result, Setup, Store};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use std::path::Path;

const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");

pub struct Redb {
    db: Database,
    sync: bool,
}

impl Redb {
    pub fn open(dir: &Path, setup: Setup) -> Result<Redb> {
        std::fs::create_dir_all(dir)?;
        let mut builder = Database::builder();
        if let Some(bytes) = setup.cache_bytes {
            builder.set_cache_size(bytes as usize);
        }
        let db = builder.create(dir.join("rows.redb"))?;
        let begin = db.begin_write()?;
        begin.open_table(ROWS)?;
        begin.commit()?;
        Ok(Redb { db, sync: setup.sync })
    }

    fn write(&self, rows: &[(&[u8], Option<&[u8]>)], durability: Durability) -> Result<()> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(durability)?;
        {
            let mut table = txn.open_table(ROWS)?;
            for (key, value) in rows {
                match value {
                    Some(value) => drop(table.insert(*key, *value)?),
                    None => drop(table.remove(*key)?),
                }
            }
        }
        Ok(txn.commit()?)
    }

    fn durability(&self) -> Durability {
        if self.sync { Durability::Immediate } else { Durability::None }
    }
}

impl Store for Redb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(&[(key, Some(value))], self.durability())
    }

    fn put_batch(&self, rows: &[(&[u8], &[u8])]) -> Result<()> {
        let rows: Vec<_> = rows.iter().map(|(k, v)| (*k, Some(*v))).collect();
        self.write(&rows, self.durability())
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.write(&[(key, None)], self.durability())
    }

    fn get(&self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let table = self.db.begin_read()?.open_table(ROWS)?;
        let value = table.get(key)?;
        Ok(value.map(|v| see(v.value())).is_some())
    }

    fn scan(&self, from: &[u8], rows: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let table = self.db.begin_read()?.open_table(ROWS)?;
        let mut n = 0;
        for row in table.range(from..)?.take(rows) {
            let (key, value) = row?;
            see(key.value(), value.value());
            n += 1;
        }
        Ok(n)
    }

    fn flush(&self) -> Result<()> {
        self.write(&[], Durability::Immediate)
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }
}

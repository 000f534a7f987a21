//! The engine in this process as the thing measured.

use crate::base::{CfId, Result};
use crate::bench::session::Tally;
use crate::bench::{Data, Op, Session, Target};
use crate::env::Rng;
use crate::lsm::batch::WriteBatch;
use crate::lsm::options::IterOptions;
use crate::node::Db;
use std::ops::Bound;

/// An open database.
pub(super) struct KvTarget {
    pub(super) db: Db,
}

impl Target for KvTarget {
    fn open(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(Client { db: self.db.clone(), key: Vec::new() }))
    }
}

struct Client {
    db: Db,
    key: Vec<u8>,
}

impl Session for Client {
    fn run(&mut self, batch: &[Op], data: &Data, rng: &mut Rng) -> Result<Tally> {
        let mut tally = Tally::default();
        let mut writes = WriteBatch::new();
        for op in batch {
            match *op {
                Op::Put(number) => {
                    data.key(number, &mut self.key);
                    let value = data.value(rng);
                    writes.put(&self.key, value);
                    tally.bytes += (self.key.len() + value.len()) as u64;
                }
                Op::Get(number) => {
                    data.key(number, &mut self.key);
                    tally.bytes += self.key.len() as u64;
                    match self.db.get(&self.key)? {
                        Some(value) => tally.bytes += value.len() as u64,
                        None => tally.missing += 1,
                    }
                }
                Op::Scan(number, keys) => {
                    data.key(number, &mut self.key);
                    self.scan(keys, &mut tally)?;
                }
            }
        }
        if !writes.is_empty() {
            self.db.write(writes)?;
        }
        Ok(tally)
    }
}

impl Client {
    /// Reads up to `keys` keys from `self.key` on.
    fn scan(&mut self, keys: u32, tally: &mut Tally) -> Result<()> {
        let lower = Bound::Included(self.key.clone());
        let options = IterOptions { lower, ..IterOptions::default() };
        let mut iter = self.db.iter(CfId::DEFAULT, options)?;
        iter.first()?;
        for read in 1..=keys {
            if !iter.valid() {
                break;
            }
            tally.bytes += (iter.key().len() + iter.value().len()) as u64;
            if read < keys {
                iter.next()?;
            }
        }
        Ok(())
    }
}

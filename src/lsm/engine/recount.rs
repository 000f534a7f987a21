//! Counting a family anew while it is written to.
//!
//! What a count at a snapshot finds, less what the counts said at that snapshot, is by how much they
//! are wrong. That does not change with writes that say what they do to the counts; where others came
//! meanwhile, or a split, nothing is known, and it is counted again another time.

use crate::base::{CfId, Result};
use crate::lsm::Iter;
use crate::lsm::engine::work::Slot;
use crate::lsm::engine::{Engine, lock};
use crate::lsm::manifest::{Edit, Field};
use crate::lsm::options::IterOptions;
use std::sync::atomic::Ordering;

impl Engine {
    /// Sets the counts of a family right, durably, to what `count` finds in it: keys, and those that
    /// expire. False if something came between.
    ///
    /// # Errors
    /// As [`Engine::flush`]; what `count` gives.
    pub fn recount(
        &self,
        cf: CfId,
        count: impl FnOnce(Iter) -> Result<(u64, u64)>,
    ) -> Result<bool> {
        // What memtables do not know of their counts is known to the tree then.
        self.flush(cf)?;
        let inner = &self.inner;
        let tree = inner.tree(cf)?;
        let mark = || {
            let (epoch, inexact) = (&inner.part_epoch, &tree.inexact);
            (epoch.load(Ordering::Acquire), inexact.load(Ordering::Acquire))
        };
        let (said, snapshot, marked) = {
            let _still = inner.apply.lock();
            let snapshot = self.snapshot();
            (tree.view().counts(), snapshot, mark())
        };
        let options = IterOptions {
            at: Some(snapshot.seq()),
            fill_cache: false,
            keys_only: true,
            ..IterOptions::default()
        };
        let (keys, expires) = count(self.iter(cf, options)?)?;
        // One that is closed has given its folder up.
        let Some(_held) = inner.try_take(cf, Slot::Count) else { return Ok(false) };
        let mut manifest = lock(&inner.manifest);
        if mark() != marked || tree.is_dropped() {
            return Ok(false);
        }
        let mended = |total: u64, found: u64, said: u64| {
            total.saturating_add_signed(found as i64 - said as i64)
        };
        let mut totals = tree.view().totals;
        totals.keys = mended(totals.keys, keys, said.keys);
        totals.expires = mended(totals.expires, expires, said.expires);
        totals.exact = true;
        let (keys, expires) = (totals.keys, totals.expires);
        let fields = vec![Field::Counts { cf, keys, expires, exact: true }];
        inner.append(&mut manifest, Edit { fields }, &[])?;
        tree.update(|view| view.totals = totals);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LogIndex, Seq};
    use crate::env::{Pool, Rng, SimDisk};
    use crate::lsm::batch::{Counts, WriteBatch};
    use crate::lsm::{BlockCache, EngineOptions};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    const CF: CfId = CfId::DEFAULT;

    struct World {
        engine: Arc<Engine>,
        keys: BTreeSet<u64>,
        at: u64,
    }

    impl World {
        fn apply(&mut self, batch: &mut WriteBatch) {
            self.at += 1;
            batch.place(Seq(self.at), 1);
            self.engine.apply(LogIndex(self.at), &batch.view()).unwrap();
        }

        /// A write that says what it does to the counts, or does not.
        fn write(&mut self, rng: &mut Rng, says: bool) {
            let (number, mut batch) = (rng.below(200), WriteBatch::new());
            let key = number.to_be_bytes();
            let change = |keys| Counts::Change { keys, expires: 0 };
            let counts = |keys| if says { change(keys) } else { Counts::Unknown };
            match rng.below(3) {
                0 => {
                    let keys = -i8::from(self.keys.remove(&number));
                    batch.delete_with(CF, &key, counts(keys));
                }
                _ => {
                    let keys = i8::from(self.keys.insert(number));
                    batch.put_with(CF, &key, b"v", Default::default(), counts(keys));
                }
            }
            self.apply(&mut batch);
        }
    }

    fn count(mut iter: Iter) -> Result<(u64, u64)> {
        let mut keys = 0;
        iter.first()?;
        while iter.valid() {
            keys += 1;
            iter.next()?;
        }
        Ok((keys, 0))
    }

    #[test]
    fn counts_are_set_right_while_others_write() {
        let mut rng = Rng::new(3);
        let (disk, pool) = (SimDisk::new().shared(), Pool::manual());
        let options = EngineOptions { background: false, ..EngineOptions::new("/db") };
        let engine = Engine::open(disk, pool, BlockCache::new(1 << 20), options).unwrap();
        let mut world = World { engine, keys: BTreeSet::new(), at: 0 };
        for round in 0..60 {
            (0..rng.below(40)).for_each(|_| world.write(&mut rng, false));
            // What comes while it is counted may say what it does, be flushed meanwhile, or not.
            let (says, flushes) = (rng.one_in(2), rng.one_in(2));
            let engine = world.engine.clone();
            let done = engine
                .recount(CF, |iter| {
                    let found = count(iter);
                    (0..20).for_each(|n| world.write(&mut rng, says || n > 0));
                    if flushes {
                        engine.flush(CF)?;
                    }
                    found
                })
                .unwrap();
            assert_eq!(done, says || !flushes, "round {round}");
            let told = engine.counts(CF).unwrap();
            assert_eq!(told.exact, says, "round {round}");
            if told.exact {
                assert_eq!(told.keys, world.keys.len() as u64, "round {round}");
            }
        }
    }
}

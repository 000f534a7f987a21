//! Column families of a shard that is one of several: told by the cluster's catalog, created and
//! dropped through the shard's log, so that no replica meets a write of a family before the family.

use crate::base::{CfId, Result};
use crate::lsm::batch::WriteBatch;
use crate::lsm::family_change::FamilyChange;
use crate::op::kv::CfInfo;
use crate::shard::Shard;
use crate::shard::commit::Ticket;
use std::sync::Arc;

impl Shard {
    /// The families that users made, and `default`, by id.
    pub fn families(&self) -> Vec<CfInfo> {
        let families = self.engine.list_cfs().into_iter().filter(|info| !info.id.is_system());
        families.map(|info| CfInfo { id: info.id, name: info.name }).collect()
    }

    /// Has the log create and drop families; it is done when the ticket is committed. What was
    /// written to a dropped one and is not committed yet goes with it.
    ///
    /// # Errors
    /// If the log did not take it: nothing will be done then.
    pub fn change_families(
        self: &Arc<Self>,
        drop: &[CfId],
        create: &[CfInfo],
        clock_ms: u64,
    ) -> Result<Ticket> {
        let now_ms = self.advance_now(clock_ms);
        let drops = drop.iter().map(|cf| FamilyChange::Drop { cf: *cf });
        let creates = create.iter().map(|f| FamilyChange::Create { cf: f.id, name: &f.name });
        let changes: Vec<FamilyChange<'_>> = drops.chain(creates).collect();
        if changes.is_empty() {
            return Ok(Ticket::default());
        }
        let began = self.commits.epoch();
        self.place(&mut WriteBatch::of_family_changes(&changes), now_ms, began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ErrorKind, LogIndex, Seq};
    use crate::env::sim_disk::Crash;
    use crate::env::{Pool, Rng, SimDisk};
    use crate::lsm::{BlockCache, Engine, EngineOptions, IterOptions};
    use crate::shard::{Log, Placed, ShardOptions};
    use std::collections::BTreeMap;
    use std::path::Path;

    /// A follower's: nothing is ever placed.
    struct NoLog;

    impl Log for NoLog {
        fn place(&self, _: &[u8]) -> Result<Placed> {
            Err(crate::base::Error::new(ErrorKind::Unavailable, "a follower"))
        }

        fn drive(&self, _: &Arc<Shard>) {}
    }

    fn follower(disk: &SimDisk, dir: &Path) -> Arc<Shard> {
        let options = EngineOptions { background: false, ..EngineOptions::new(dir) };
        let cache = BlockCache::new(1 << 20);
        let engine = Engine::open(disk.shared(), Pool::manual(), cache, options).unwrap();
        let options = ShardOptions { count_keys: false, seed: 1, ..ShardOptions::default() };
        Shard::new(engine, Box::new(NoLog), options)
    }

    type Keys = BTreeMap<Vec<u8>, Vec<u8>>;
    /// Families by id: name, and keys.
    type Model = BTreeMap<u32, (String, Keys)>;

    fn held(shard: &Shard) -> Model {
        let mut model = Model::new();
        for family in shard.families() {
            let mut keys = Keys::new();
            let mut iter = shard.engine().iter(family.id, IterOptions::default()).unwrap();
            iter.first().unwrap();
            while iter.valid() {
                keys.insert(iter.key().to_vec(), iter.value().to_vec());
                iter.next().unwrap();
            }
            model.insert(family.id.0, (family.name, keys));
        }
        model
    }

    /// A log of creations, drops and writes, as a leader makes it, and now and then what only an
    /// overtaken one does: an id again, a family that is gone. Beside each entry the state after it.
    fn history(rng: &mut Rng, entries: usize) -> (Vec<Vec<Vec<u8>>>, Vec<Model>) {
        let mut model = Model::from([(0, ("default".to_string(), Keys::new()))]);
        let (mut next, mut seq) = (1, 1);
        let (mut log, mut states) = (Vec::new(), Vec::new());
        for at in 0..entries {
            let mut entry = Vec::new();
            for _ in 0..rng.below(3) {
                let alive: Vec<u32> = model.keys().copied().collect();
                let one = alive[rng.below(alive.len() as u64) as usize];
                let name = format!("f{}", rng.below(4));
                let is_free = model.values().all(|(known, _)| *known != name);
                let mut batch = match rng.below(8) {
                    0 if is_free => {
                        model.insert(next, (name.clone(), Keys::new()));
                        next += 1;
                        let cf = CfId(next - 1);
                        WriteBatch::of_family_changes(&[FamilyChange::Create { cf, name: &name }])
                    }
                    1 if one != 0 => {
                        model.remove(&one);
                        WriteBatch::of_family_changes(&[FamilyChange::Drop { cf: CfId(one) }])
                    }
                    2 if next > 1 => {
                        let cf = CfId(1 + rng.below(u64::from(next) - 1) as u32);
                        WriteBatch::of_family_changes(&[FamilyChange::Create { cf, name: "late" }])
                    }
                    3 => {
                        let cf = CfId(next + 7);
                        WriteBatch::of_family_changes(&[FamilyChange::Drop { cf }])
                    }
                    _ => {
                        let (key, value) = (vec![b'a' + rng.below(6) as u8], vec![at as u8]);
                        let mut batch = WriteBatch::new();
                        batch.put_cf(CfId(one), &key, &value);
                        model.get_mut(&one).unwrap().1.insert(key, value);
                        batch
                    }
                };
                batch.place(Seq(seq), 1);
                seq += batch.len() as u64;
                entry.push(batch.encoded().to_vec());
            }
            log.push(entry);
            states.push(model.clone());
        }
        (log, states)
    }

    #[test]
    fn replicas_that_crash_or_begin_from_a_copy_have_the_same_families() {
        let mut rng = Rng::new(11);
        let (mut crashes, mut copies) = (0, 0);
        for _ in 0..40 {
            let (log, states) = history(&mut rng, 60);
            let mut disk = SimDisk::new();
            let mut shard = follower(&disk, Path::new("/gen-1"));
            let mut generation = 1;
            let (mut at, mut reached) = (0, 0);
            while at < log.len() {
                shard.apply_entry(LogIndex(at as u64 + 1), &log[at]).unwrap();
                // While it replays what it had applied, families may be ahead of keys.
                if at >= reached {
                    assert_eq!(held(&shard), states[at]);
                    reached = at;
                }
                at += 1;
                let dir = format!("/gen-{generation}");
                match rng.below(12) {
                    0 => {
                        // What is in memory is lost; the log is read again from where tables end.
                        let crash = if rng.below(2) == 0 {
                            Crash::Process
                        } else {
                            Crash::PowerLost(rng.next_u64())
                        };
                        disk = disk.crash(crash);
                        shard = follower(&disk, Path::new(&dir));
                        at = shard.engine().replay_from().0 as usize;
                        crashes += 1;
                    }
                    1 => shard.engine().flush_all().unwrap(),
                    2 => {
                        // The copy is of this moment, and whoever has it goes on from there.
                        generation += 1;
                        let copy = format!("/gen-{generation}");
                        let info = shard.engine().checkpoint(Path::new(&copy)).unwrap();
                        assert_eq!(info.index, LogIndex(at as u64));
                        shard.engine().close();
                        shard = follower(&disk, Path::new(&copy));
                        assert_eq!(shard.engine().replay_from(), info.index);
                        if at > reached {
                            assert_eq!(held(&shard), states[at - 1]);
                        }
                        copies += 1;
                    }
                    _ => {}
                }
            }
            assert_eq!(&held(&shard), states.last().unwrap());
        }
        assert!(crashes > 20 && copies > 20, "{crashes} crashes, {copies} copies");
    }
}

//! A keyspace that is a map in memory.

use arqondb::base::{Result, Seq};
use arqondb::env::Rng;
use arqondb::op::Reply;
use arqondb::op::command::{self, Place};
use arqondb::op::kv::RedisCall;
use arqondb::redis::{Keyspace, Stored, execute};
use bytes::Bytes;
use std::collections::BTreeMap;

pub(crate) struct Model {
    pub(crate) now_ms: u64,
    map: BTreeMap<Vec<u8>, Stored>,
    cursors: Vec<Bytes>,
    rng: Rng,
    /// Calls that changed something.
    pub(crate) writes: u64,
}

impl Model {
    pub(crate) fn at(now_ms: u64) -> Model {
        Model { now_ms, map: BTreeMap::new(), cursors: Vec::new(), rng: Rng::new(1), writes: 0 }
    }

    /// Looks a call up and executes it. An error reply must have changed nothing.
    pub(crate) fn call(&mut self, args: &[Bytes]) -> Reply {
        let spec = match command::lookup(args) {
            Ok(spec) => spec,
            Err(reply) => return reply,
        };
        assert_eq!(spec.place, Place::Data, "{} is no data command", spec.name);
        let before = self.writes;
        let reply = execute(&RedisCall { spec, args: args.to_vec() }, self).unwrap();
        if reply.is_error() || !spec.is_write() {
            assert_eq!(self.writes, before, "{} wrote and answered {reply:?}", spec.name);
        }
        reply
    }

    /// What a key holds, expired or not.
    pub(crate) fn stored(&self, key: &[u8]) -> Option<Stored> {
        self.map.get(key).cloned()
    }

    /// Makes a key hold something, as it was elsewhere.
    pub(crate) fn place(&mut self, key: &[u8], stored: Option<Stored>) {
        match stored {
            Some(stored) => drop(self.map.insert(key.to_vec(), stored)),
            None => drop(self.map.remove(key)),
        }
    }

    fn live(&self, stored: &Stored) -> bool {
        stored.expire_at_ms.is_none_or(|at| at > self.now_ms)
    }
}

impl Keyspace for Model {
    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Stored>> {
        Ok(self.map.get(key).filter(|stored| self.live(stored)).cloned())
    }

    fn put(&mut self, key: &[u8], value: Bytes, tag: u8, expire_at_ms: Option<u64>) -> Result<()> {
        self.writes += 1;
        let stored = Stored { value, tag, expire_at_ms, seq: Seq(self.writes) };
        self.map.insert(key.to_vec(), stored);
        Ok(())
    }

    fn append(&mut self, key: &[u8], suffix: &[u8]) -> Result<()> {
        self.writes += 1;
        let stored = self.map.get_mut(key).unwrap();
        stored.value = [&stored.value, suffix].concat().into();
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<bool> {
        let live = self.get(key)?.is_some();
        self.writes += u64::from(live);
        self.map.remove(key);
        Ok(live)
    }

    fn clear(&mut self) -> Result<u64> {
        self.writes += 1;
        let count = self.count()?;
        self.map.clear();
        Ok(count)
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.map.values().filter(|stored| self.live(stored)).count() as u64)
    }

    fn scan(
        &mut self,
        start: &[u8],
        visit: &mut dyn FnMut(&[u8], &Stored) -> bool,
    ) -> Result<bool> {
        for (key, stored) in self.map.range(start.to_vec()..) {
            if self.live(stored) && !visit(key, stored) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn random_key(&mut self) -> Result<Option<Bytes>> {
        let live: Vec<&Vec<u8>> =
            self.map.iter().filter(|(_, stored)| self.live(stored)).map(|(key, _)| key).collect();
        let at = self.rng.below(live.len() as u64) as usize;
        Ok(live.get(at).map(|key| Bytes::from(key.to_vec())))
    }

    fn save_cursor(&mut self, key: Bytes) -> u64 {
        self.cursors.push(key);
        self.cursors.len() as u64
    }

    fn load_cursor(&mut self, cursor: u64) -> Option<Bytes> {
        self.cursors.get(usize::try_from(cursor).ok()?.checked_sub(1)?).cloned()
    }
}

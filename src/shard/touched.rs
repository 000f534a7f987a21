//! The keys that an evaluation touches, in the order in which it came to them.

use crate::base::CfId;
use crate::lsm::batch::{Counts, WriteBatch};
use crate::lsm::key::Meta;
use crate::op::kv::MergeOp;
use crate::shard::transaction::{Held, expiry_key};
use bytes::Bytes;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::ops::{Index, IndexMut};

/// Above this many keys they are found by hash.
const LINEAR_MAX: usize = 16;

/// What the transaction makes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Read only.
    None,
    Put(Bytes, Meta),
    Delete,
    Merge(MergeOp, Bytes),
}

/// A key, what it held, and what becomes of it.
pub(super) struct Touched {
    pub(super) cf: CfId,
    pub(super) key: Bytes,
    /// What the key held before; `None` if nobody has looked.
    pub(super) base: Option<Option<Held>>,
    pub(super) effect: Effect,
    pub(super) plan: Option<Plan>,
}

impl Touched {
    /// What its write takes in a batch at most, without the expiry index.
    pub(super) fn bytes(&self) -> usize {
        const HEAD: usize = 32;
        match &self.effect {
            Effect::None => 0,
            Effect::Delete => HEAD + self.key.len(),
            Effect::Put(value, _) | Effect::Merge(_, value) => HEAD + self.key.len() + value.len(),
        }
    }
}

/// What writing a key entails beside the key itself.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) counts: Counts,
    pub(super) old_expiry: Option<u64>,
    pub(super) new_expiry: Option<u64>,
}

impl Plan {
    /// Moves the key's entry in the expiry index.
    pub(super) fn fill_index(&self, touched: &Touched, batch: &mut WriteBatch) {
        if self.old_expiry == self.new_expiry {
            return;
        }
        let entry = |at| expiry_key(at, touched.cf, &touched.key);
        if let Some(at) = self.old_expiry {
            batch.delete_with(CfId::EXPIRY, &entry(at), Counts::Unknown);
        }
        if let Some(at) = self.new_expiry {
            batch.put_with(CfId::EXPIRY, &entry(at), b"", Meta::default(), Counts::Unknown);
        }
    }
}

/// Keys in order, each once.
#[derive(Default)]
pub(super) struct TouchedKeys {
    list: Vec<Touched>,
    /// Where the keys of each hash begin, once there are many; of different keys with one hash, the
    /// first.
    by_hash: HashMap<u64, usize>,
}

impl TouchedKeys {
    pub(super) fn with_capacity(keys: usize) -> TouchedKeys {
        TouchedKeys { list: Vec::with_capacity(keys), by_hash: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Touched> {
        self.list.iter()
    }

    /// Where a key stands.
    pub(super) fn find(&self, cf: CfId, key: &[u8]) -> Option<usize> {
        let is_it = |touched: &Touched| touched.cf == cf && touched.key == key;
        if self.list.len() > LINEAR_MAX {
            let at = *self.by_hash.get(&self.hash(cf, key))?;
            if is_it(&self.list[at]) {
                return Some(at);
            }
        }
        // What is written has mostly just been read.
        self.list.iter().rposition(is_it)
    }

    /// Adds a key that is not there.
    pub(super) fn push(&mut self, touched: Touched) -> usize {
        let at = self.list.len();
        if at > LINEAR_MAX {
            let hash = self.hash(touched.cf, &touched.key);
            self.by_hash.entry(hash).or_insert(at);
        }
        self.list.push(touched);
        if at == LINEAR_MAX {
            self.index_anew();
        }
        at
    }

    /// Forgets all but the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.list.truncate(len);
        self.index_anew();
    }

    /// Forgets the keys that are not to stay.
    pub(super) fn retain(&mut self, stays: impl FnMut(&Touched) -> bool) {
        self.list.retain(stays);
        self.index_anew();
    }

    fn index_anew(&mut self) {
        self.by_hash.clear();
        if self.list.len() > LINEAR_MAX {
            for at in 0..self.list.len() {
                let hash = self.hash(self.list[at].cf, &self.list[at].key);
                self.by_hash.entry(hash).or_insert(at);
            }
        }
    }

    /// By the map's own secret, so that nobody can choose keys whose hashes are the same.
    fn hash(&self, cf: CfId, key: &[u8]) -> u64 {
        self.by_hash.hasher().hash_one((cf.0, key))
    }
}

impl Index<usize> for TouchedKeys {
    type Output = Touched;

    fn index(&self, at: usize) -> &Touched {
        &self.list[at]
    }
}

impl IndexMut<usize> for TouchedKeys {
    fn index_mut(&mut self, at: usize) -> &mut Touched {
        &mut self.list[at]
    }
}

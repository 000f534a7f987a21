//! From ids to slots.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};

/// Some ids, of which it is soon said whether one is among them.
pub(crate) type IdSet = HashSet<u64, Mix>;

/// A map from ids to slots.
#[derive(Debug, Clone, Default)]
pub(super) struct IdMap(HashMap<u64, u32, Mix>);

impl IdMap {
    pub(super) fn get(&self, id: u64) -> Option<u32> {
        self.0.get(&id).copied()
    }

    pub(super) fn insert(&mut self, id: u64, slot: u32) {
        self.0.insert(id, slot);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<u32> {
        self.0.remove(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn reserve(&mut self, more: usize) {
        self.0.reserve(more);
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.0.capacity() * (size_of::<(u64, u32)>() + 1)
    }
}

/// Mixes the bits of one number; ids are chosen by the owner of the data, whom it serves ill to
/// make them collide.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mix(u64);

impl BuildHasher for Mix {
    type Hasher = Mix;

    fn build_hasher(&self) -> Mix {
        Mix(0)
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 << 8 ^ u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (number ^ number >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

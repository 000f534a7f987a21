//! Randomness. A seed decides everything that follows; only [`entropy`] asks the outside world.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

/// A small, fast generator (SplitMix64, Steele et al. 2014). Not for secrets.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose whole output follows from `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A generator of its own, seeded from this one.
    pub fn fork(&mut self) -> Rng {
        Rng(self.next_u64())
    }

    /// True once in `n` calls on average.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Fills `buf`.
    pub fn fill(&mut self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Where seeds come from: the outside world, or one seed, from which all of them follow.
#[derive(Debug, Clone, Default)]
pub struct Seeds(Option<Arc<Mutex<Rng>>>);

impl Seeds {
    /// Seeds that follow from `seed`. Clones go on where others are.
    pub fn from(seed: u64) -> Seeds {
        Seeds(Some(Arc::new(Mutex::new(Rng::new(seed)))))
    }

    /// The next one.
    pub fn next_seed(&self) -> u64 {
        match &self.0 {
            None => entropy(),
            Some(rng) => rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64(),
        }
    }
}

/// A seed that differs from process to process and call to call.
pub fn entropy() -> u64 {
    // RandomState draws its keys from the operating system once a thread and steps them.
    RandomState::new().build_hasher().finish()
}

//! Striped key latches.
//!
//! A key's hash picks one of [`STRIPES`] mutexes. An evaluation takes the stripes of its keys in
//! ascending order, so two evaluations cannot wait for each other in a ring. One that touches
//! keys it cannot name beforehand (FLUSHALL, a range delete) takes all of them: rare, and some
//! hundred microseconds, so that nobody else pays for it.

use crate::base::CfId;
use std::sync::{Mutex, MutexGuard, PoisonError};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const STRIPES: usize = 4096;

/// The latches of a shard.
pub(crate) struct Latches {
    stripes: Box<[Mutex<()>]>,
}

/// Latches held; letting go of it releases them.
pub(crate) enum Held<'a> {
    /// One key's.
    One { _stripe: MutexGuard<'a, ()> },
    /// Several keys'.
    Many { _stripes: Vec<MutexGuard<'a, ()>> },
    /// Every key's.
    All { _stripes: Vec<MutexGuard<'a, ()>> },
}

/// The stripe of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stripe(usize);

/// The stripe of `key` in family `cf`.
pub(crate) fn stripe(cf: CfId, key: &[u8]) -> Stripe {
    Stripe(xxh3_64_with_seed(key, u64::from(cf.0)) as usize % STRIPES)
}

impl Latches {
    pub(crate) fn new() -> Latches {
        Latches { stripes: (0..STRIPES).map(|_| Mutex::new(())).collect() }
    }

    /// Latches one stripe.
    pub(crate) fn one(&self, stripe: Stripe) -> Held<'_> {
        Held::One { _stripe: self.lock(stripe) }
    }

    /// Latches the stripes of many keys.
    pub(crate) fn many(&self, mut stripes: Vec<Stripe>) -> Held<'_> {
        stripes.sort_unstable();
        stripes.dedup();
        Held::Many { _stripes: stripes.into_iter().map(|s| self.lock(s)).collect() }
    }

    /// Latches every key.
    pub(crate) fn all(&self) -> Held<'_> {
        Held::All { _stripes: (0..STRIPES).map(|i| self.lock(Stripe(i))).collect() }
    }

    /// A latch guards no data, so a holder's panic leaves nothing broken behind it.
    fn lock(&self, stripe: Stripe) -> MutexGuard<'_, ()> {
        self.stripes[stripe.0].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

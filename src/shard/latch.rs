//! Striped key latches.
//!
//! A key's hash picks one of [`STRIPES`] locks. An evaluation takes the stripes of its keys in
//! ascending order, so two evaluations cannot wait for each other in a ring. One that touches
//! keys it cannot name beforehand (FLUSHALL, a range delete) takes all of them: rare, and some
//! hundred microseconds, so that nobody else pays for it.

use crate::base::CfId;
use crate::env::{Spin, SpinGuard};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const STRIPES: usize = 4096;

/// The latches of a shard.
pub(crate) struct Latches {
    stripes: Box<[Padded]>,
}

/// Few to a cache line, so that threads with different keys seldom share one.
#[derive(Default)]
#[repr(align(8))]
struct Padded(Spin<()>);

/// Latches held; letting go of it releases them.
pub(crate) enum Held<'a> {
    /// One key's.
    One { _stripe: SpinGuard<'a, ()> },
    /// Several keys'.
    Many { _stripes: Vec<SpinGuard<'a, ()>> },
    /// Every key's.
    All { _stripes: Vec<SpinGuard<'a, ()>> },
}

/// The stripe of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stripe(u16);

/// The stripe of `key` in family `cf`.
pub(crate) fn stripe(cf: CfId, key: &[u8]) -> Stripe {
    Stripe(xxh3_64_with_seed(key, u64::from(cf.0)) as u16 % STRIPES as u16)
}

impl Latches {
    pub(crate) fn new() -> Latches {
        Latches { stripes: (0..STRIPES).map(|_| Padded::default()).collect() }
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
        Held::All { _stripes: (0..STRIPES).map(|i| self.lock(Stripe(i as u16))).collect() }
    }

    /// A latch guards no data, so a holder's panic leaves nothing broken behind it.
    fn lock(&self, stripe: Stripe) -> SpinGuard<'_, ()> {
        self.stripes[usize::from(stripe.0)].0.lock()
    }
}

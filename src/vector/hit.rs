//! An answer of a search, and what it cost.

use std::cmp::Ordering;

/// A vector that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The id it was inserted under.
    pub id: u64,
    /// Its distance from the query: squared under L2, 1 - similarity under cosine, the negated
    /// inner product. Smaller is closer.
    pub distance: f32,
}

impl Hit {
    /// The order of answers: by distance, then by id.
    pub(super) fn order(&self, other: &Hit) -> Ordering {
        self.distance.total_cmp(&other.distance).then(self.id.cmp(&other.id))
    }
}

/// Sorts `hits` and leaves the first `k`.
pub(super) fn nearest(hits: &mut Vec<Hit>, k: usize) {
    if hits.len() > k.saturating_mul(4) && k > 0 {
        hits.select_nth_unstable_by(k - 1, Hit::order);
        hits.truncate(k);
    }
    hits.sort_unstable_by(Hit::order);
    hits.truncate(k);
}

/// What a search did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SearchStats {
    /// Exact distances that were computed.
    pub distances: u64,
    /// Distances that were estimated from codes.
    pub estimates: u64,
    /// Nodes whose neighbours were looked at.
    pub hops: u64,
    /// Pages of 4 KiB that were read, each time it was.
    pub pages_read: u64,
    /// Whether the answer is exact: every vector that could be in it was compared.
    pub exact: bool,
}

/// Hits, the closest first, and what finding them cost.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// By distance, then by id.
    pub hits: Vec<Hit>,
    /// What the search did.
    pub stats: SearchStats,
}

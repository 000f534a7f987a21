//! What a search is asked for, and which vectors it may return.

use crate::base::{Error, Result};

/// The most hits, and the widest beam.
pub(super) const EF_MAX: usize = 1 << 20;

/// Which vectors a search may return.
#[derive(Clone, Copy, Default)]
pub enum Filter<'a> {
    /// All of them.
    #[default]
    All,
    /// Those with these ids. Ids that are not in the index, or named twice, do no harm. The
    /// fastest, if there are few of them.
    Ids(&'a [u64]),
    /// Those whose id it says yes to. It may be asked about every vector, about some several
    /// times, and has to give the same answer each time.
    Where(&'a (dyn Fn(u64) -> bool + Sync)),
}

impl std::fmt::Debug for Filter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Filter::All => f.write_str("All"),
            Filter::Ids(ids) => write!(f, "Ids({})", ids.len()),
            Filter::Where(_) => f.write_str("Where"),
        }
    }
}

/// What is searched for.
#[derive(Debug, Clone, Copy)]
pub struct SearchRequest<'a> {
    /// The vector near which to look.
    pub query: &'a [f32],
    /// How many hits are wanted.
    pub k: usize,
    /// Candidates to keep; the index's own setting if `None`. At least `k` are kept, or with
    /// `distance_max` ever more, until some lie beyond it.
    pub ef: Option<usize>,
    /// Which vectors may be returned.
    pub filter: Filter<'a>,
    /// Only hits at this distance or nearer.
    pub distance_max: Option<f32>,
    /// Compare with every vector that may be returned: the answer is exact, and as slow as that.
    pub exact: bool,
}

impl<'a> SearchRequest<'a> {
    /// The `k` vectors nearest to `query`.
    pub fn new(query: &'a [f32], k: usize) -> SearchRequest<'a> {
        SearchRequest { query, k, ef: None, filter: Filter::All, distance_max: None, exact: false }
    }

    /// How many candidates to keep, where `ef_search` is the index's own setting.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::base::ErrorKind::InvalidArgument) if `k` or `ef` is 0
    /// or above 2^20, or if
    /// `distance_max` is no number.
    pub(super) fn width(&self, ef_search: usize) -> Result<usize> {
        let ef = self.ef.unwrap_or(ef_search);
        for (name, value) in [("k", self.k), ("ef", ef)] {
            if value == 0 || value > EF_MAX {
                let message = format!("{name} is {value}; it may be from 1 to {EF_MAX}");
                return Err(Error::invalid(message));
            }
        }
        if self.distance_max.is_some_and(f32::is_nan) {
            return Err(Error::invalid("distance_max is not a number"));
        }
        Ok(ef)
    }
}

/// Vectors at which a filter is tried to estimate how many match.
const SAMPLE: usize = 400;

impl Filter<'_> {
    /// How many of `count` vectors match, judged by some all over; `id` gives the id of each. At
    /// least 1.
    pub(super) fn estimated_matches(&self, count: usize, id: impl Fn(usize) -> u64) -> usize {
        let matches = match self {
            Filter::All => count,
            Filter::Ids(ids) => ids.len().min(count),
            Filter::Where(accepts) => {
                let step = count.div_ceil(SAMPLE).max(1);
                let asked = count.div_ceil(step).max(1);
                (0..count).step_by(step).filter(|at| accepts(id(*at))).count() * count / asked
            }
        };
        matches.max(1)
    }

    /// The same filter as a test of one id. Sorts a copy of listed ids.
    pub(super) fn test(&self) -> impl Fn(u64) -> bool {
        let listed = match self {
            Filter::Ids(ids) => {
                let mut ids = ids.to_vec();
                ids.sort_unstable();
                ids
            }
            _ => Vec::new(),
        };
        move |id| match self {
            Filter::All => true,
            Filter::Ids(_) => listed.binary_search(&id).is_ok(),
            Filter::Where(accepts) => accepts(id),
        }
    }
}

//! Which vectors a search may return.

/// Which vectors a search may return.
#[derive(Clone, Copy, Default)]
pub enum Filter<'a> {
    /// All of them.
    #[default]
    All,
    /// Those with these ids. Ids that are not in the index, or named twice, do no harm. The
    /// fastest, if there are few of them.
    Ids(&'a [u64]),
    /// Those whose id it says yes to. It is asked up to once for every vector.
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
    /// Candidates to keep; the index's own setting if `None`. At least `k` are kept.
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
}

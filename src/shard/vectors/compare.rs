//! Comparing with records, one by one: what is asked to be certain of parts that keep less than these.

use crate::base::Result;
use crate::shard::vectors::attributes::Matching;
use crate::shard::vectors::posted::Posted;
use crate::shard::vectors::segment::Segment;
use crate::vector::{Answer, DistanceMetric, FetchLive, Filter, FlatIndex, Hit, SearchRequest};

/// Records that are compared at once.
const COMPARED_AT_ONCE: usize = 256;

/// Compares with the records of all of `ids` that `fetch` shows, whatever the request's filter.
///
/// # Errors
/// What `fetch` gives; `InvalidArgument` for a query, or a record, that is no vector of the index.
pub(super) fn compare(
    request: &SearchRequest<'_>,
    metric: DistanceMetric,
    ids: &mut dyn Iterator<Item = u64>,
    fetch: &mut FetchLive<'_>,
) -> Result<Answer> {
    let (dim, mut whole) = (request.query.len(), Answer::default());
    let all = SearchRequest { filter: Filter::All, exact: true, ..*request };
    whole.stats.exact = true;
    loop {
        let some: Vec<u64> = ids.take(COMPARED_AT_ONCE).collect();
        if some.is_empty() {
            return Ok(whole);
        }
        let (mut flat, mut refused) = (FlatIndex::new(dim, metric)?, None);
        fetch(&some, &mut |id, vector| {
            refused = flat.insert(id, vector).err().or(refused.take());
        })?;
        if let Some(refused) = refused {
            return Err(refused);
        }
        let answer = flat.answer(&all)?;
        whole.stats.distances += flat.len() as u64;
        whole.hits.extend(answer.hits);
        if whole.hits.len() > 2 * request.k + COMPARED_AT_ONCE {
            let order = |a: &Hit, b: &Hit| a.distance.total_cmp(&b.distance).then(a.id.cmp(&b.id));
            whole.hits.sort_unstable_by(order);
            whole.hits.truncate(request.k);
        }
    }
}

/// A part whose vectors are compared as records have them once the index is let go.
pub(super) struct Apart {
    /// The segment, if it is one, and whether all of it is meant.
    pub(super) segment: Option<(Segment, bool)>,
    /// Else those that match.
    pub(super) ids: Vec<u64>,
}

impl Apart {
    pub(super) fn of(
        segment: &Segment,
        (matching, few): (Option<&Matching<'_>>, Option<&[u64]>),
    ) -> Apart {
        let some = few.map(|few| few.iter().copied().filter(|id| segment.has(*id)).collect());
        let passing = |matching: &Matching<'_>| {
            segment.live_rows().map(|(id, _)| id).filter(|id| matching.has(*id)).collect()
        };
        let ids = some.or_else(|| matching.map(passing));
        Apart { segment: Some((segment.clone(), ids.is_none())), ids: ids.unwrap_or_default() }
    }

    pub(super) fn of_posted(
        posted: &Posted,
        (matching, few): (Option<&Matching<'_>>, Option<&[u64]>),
    ) -> Apart {
        let rows = &posted.rows;
        let all = || rows.iter().map(|(id, _)| id);
        let ids = match (few, matching) {
            (Some(few), _) => few.iter().copied().filter(|id| rows.has(*id)).collect(),
            (None, Some(matching)) => all().filter(|id| matching.has(*id)).collect(),
            (None, None) => all().collect(),
        };
        Apart { segment: None, ids }
    }
}

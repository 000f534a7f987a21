//! Comparing with records, one by one: what is asked to be certain of parts that keep less than these.

use crate::base::Result;
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

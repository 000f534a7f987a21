//! Comparing with records, one by one: what is asked to be certain of parts that keep less than these.

use crate::base::Result;
use crate::shard::vectors::attributes::Matching;
use crate::shard::vectors::posted::Posted;
use crate::shard::vectors::segment::{Row, Segment};
use crate::vector::{Answer, DistanceMetric, Filter, FlatIndex, Hit, SearchRequest};

/// Records that are compared at once.
const COMPARED_AT_ONCE: usize = 256;

/// Shows the vectors of those rows that there are.
pub(super) type FetchRows<'a> = dyn FnMut(&[Row], &mut dyn FnMut(u64, &[f32])) -> Result<()> + 'a;

/// Compares with the records of all of `rows` that `fetch` shows, whatever the request's filter.
///
/// # Errors
/// What `fetch` gives; `InvalidArgument` for a query, or a record, that is no vector of the index.
pub(super) fn compare(
    request: &SearchRequest<'_>,
    metric: DistanceMetric,
    rows: &mut dyn Iterator<Item = Row>,
    fetch: &mut FetchRows<'_>,
) -> Result<Answer> {
    let (dim, mut whole) = (request.query.len(), Answer::default());
    let all = SearchRequest { filter: Filter::All, exact: true, ..*request };
    whole.stats.exact = true;
    loop {
        let some: Vec<Row> = rows.take(COMPARED_AT_ONCE).collect();
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
    /// The segment, if all of one is meant.
    pub(super) segment: Option<Segment>,
    /// Else those that match.
    pub(super) rows: Vec<Row>,
}

impl Apart {
    pub(super) fn of(
        segment: &Segment,
        (matching, few): (Option<&Matching<'_>>, Option<&[u64]>),
    ) -> Apart {
        let row = |id: &u64| segment.has(*id).then(|| Some((*id, segment.seq_of(*id)?)))?;
        let rows = match (few, matching) {
            (Some(few), _) => few.iter().filter_map(row).collect(),
            (None, Some(matching)) => {
                segment.live_rows().filter(|(id, _)| matching.has(*id)).collect()
            }
            (None, None) => return Apart { segment: Some(segment.clone()), rows: Vec::new() },
        };
        Apart { segment: None, rows }
    }

    pub(super) fn of_posted(
        posted: &Posted,
        (matching, few): (Option<&Matching<'_>>, Option<&[u64]>),
    ) -> Apart {
        let rows = &posted.rows;
        let rows = match (few, matching) {
            (Some(few), _) => few.iter().filter_map(|id| Some((*id, rows.get(*id)?))).collect(),
            (None, Some(matching)) => rows.iter().filter(|(id, _)| matching.has(*id)).collect(),
            (None, None) => rows.iter().collect(),
        };
        Apart { segment: None, rows }
    }

    /// The sequence number of the record of one of them. REQUIRES: sorted rows.
    pub(super) fn seq_of(&self, id: u64) -> Option<u64> {
        if let Some(segment) = &self.segment {
            return segment.seq_of(id);
        }
        let at = self.rows.binary_search_by_key(&id, |row| row.0).ok()?;
        self.rows.get(at).map(|row| row.1)
    }

    /// All of them.
    pub(super) fn rows(&self) -> Box<dyn Iterator<Item = Row> + '_> {
        match &self.segment {
            Some(segment) => Box::new(segment.live_rows()),
            None => Box::new(self.rows.iter().copied()),
        }
    }
}

//! Searches of an index of vectors, of which every shard has a part.
//!
//! Where hits of several shards are ranked together first, or some are passed over, what is wanted of
//! their records is read behind that, of the few that are given. A record that is another by then
//! belongs to another distance, or to none: the search is made again, and where that happens again each
//! shard reads the records of all that it finds, which it knows to be those that it has searched.

use crate::base::{Error, ErrorKind, Result};
use crate::gateway::calls::ShardCalls;
use crate::gateway::gateway::{Gateway, unfitting};
use crate::gateway::vectors::{check_room, first_of_each, vector_answers};
use crate::op::Request;
use crate::op::route::{SlotRange, slot_of};
use crate::op::vector::index::EF_SEARCH;
use crate::op::vector::search::{HITS_MAX, VectorHit, depth};
use crate::op::vector::text::ranked;
use crate::op::vector::{
    FETCH_MAX, StoredVector, VectorAnswer, VectorCall, VectorId, VectorQuery, VectorSearch,
    VectorsFound,
};
use tokio::time::Instant;

/// Searches that are made before shards read records themselves.
const TRIES: usize = 2;

/// Which of the hits are given.
#[derive(Clone, Copy)]
struct Window {
    skip: usize,
    take: usize,
}

impl<C: ShardCalls> Gateway<C> {
    /// The nearest of all shards: each gives as many as are wanted in all.
    pub(super) async fn search_all(
        &self,
        mut search: VectorSearch,
        deadline: Instant,
    ) -> Result<VectorsFound> {
        if let VectorQuery::Stored(id) = search.query {
            let stored = self.fetch_one(&search.index, id, deadline).await?;
            search.query = VectorQuery::Vector(stored.vector);
            search.without = Some(id.get());
        }
        if search.k.saturating_add(search.offset) > HITS_MAX {
            return Err(Error::invalid(format!(
                "k is {} behind an offset of {}; together at most {HITS_MAX} hits can be asked for",
                search.k, search.offset
            )));
        }
        let skip = search.offset as usize;
        // All within a distance are wanted if there is no number: as many as one node gives.
        let take = if search.k == 0 { HITS_MAX as usize - skip } else { search.k as usize };
        let window = Window { skip, take };
        let step = if search.ef == 0 { EF_SEARCH } else { search.ef };
        let of_each = match (search.k, &search.text) {
            (0, _) => 0,
            (k, Some(_)) => ranked(k, search.offset),
            (k, None) => depth(k, search.offset, step),
        };
        (search.k, search.offset) = (of_each, 0);
        if let Some(text) = &mut search.text {
            text.is_part = true;
        }
        let reads = search.with_payload || search.with_vector;
        if reads && (skip > 0 || search.text.is_some()) {
            return self.search_and_read(search, window, deadline).await;
        }
        let found = self.search_parts(search, window, deadline).await?;
        check_room(found.hits.iter().map(bytes_of))?;
        Ok(found)
    }

    /// What the shards find, as one.
    async fn search_parts(
        &self,
        search: VectorSearch,
        Window { skip, take }: Window,
        deadline: Instant,
    ) -> Result<VectorsFound> {
        let by_words = search.text.is_some().then_some(search.k as usize);
        let answers = self.ask_all(VectorCall::Search(search), deadline).await?;
        let parts = answers.into_iter().map(|answer| match answer {
            VectorAnswer::Found(found) => Ok(found),
            _ => Err(unfitting("a search")),
        });
        let parts = parts.collect::<Result<_>>()?;
        Ok(match by_words {
            Some(ranked) => VectorsFound::ranked(parts, ranked, skip, take),
            None => VectorsFound::merged(parts, skip, take),
        })
    }

    /// As [`search_parts`](Self::search_parts), with what is wanted of the records of those that are
    /// given.
    async fn search_and_read(
        &self,
        search: VectorSearch,
        window: Window,
        deadline: Instant,
    ) -> Result<VectorsFound> {
        let bare = VectorSearch {
            with_payload: false,
            with_vector: false,
            with_seq: true,
            ..search.clone()
        };
        for _ in 0..TRIES {
            let mut found = self.search_parts(bare.clone(), window, deadline).await?;
            if self.read_hits(&search, &mut found, deadline).await? {
                return Ok(found);
            }
        }
        let found = self.search_parts(search, window, deadline).await?;
        check_room(found.hits.iter().map(bytes_of))?;
        Ok(found)
    }

    /// Adds what is wanted of records to hits. False if one of these is another by now, or gone.
    async fn read_hits(
        &self,
        search: &VectorSearch,
        found: &mut VectorsFound,
        deadline: Instant,
    ) -> Result<bool> {
        let mut hits = Vec::with_capacity(found.hits.len());
        for some in found.hits.chunks(FETCH_MAX) {
            let records = some.iter().map(|hit| (VectorId::new(hit.id), hit.seq)).collect();
            let call = VectorCall::Fetch { index: search.index.clone(), records };
            let stored = first_of_each(self.ask_all(call, deadline).await?, some.len())?;
            for (hit, stored) in some.iter().zip(stored) {
                let Some(StoredVector { vector, payload, .. }) = stored else { return Ok(false) };
                let has_payload = search.with_payload && !payload.is_empty();
                hits.push(VectorHit {
                    payload: has_payload.then_some(payload),
                    vector: search.with_vector.then_some(vector),
                    seq: 0,
                    ..hit.clone()
                });
            }
            check_room(hits.iter().map(bytes_of))?;
        }
        found.cost.fetched += hits.len() as u64;
        found.hits = hits;
        Ok(true)
    }

    async fn fetch_one(
        &self,
        index: &str,
        id: VectorId,
        deadline: Instant,
    ) -> Result<StoredVector> {
        let slot = slot_of(id.as_bytes());
        let range = SlotRange { first: slot, last: slot };
        let call = VectorCall::Get { index: index.to_string(), ids: vec![id] };
        let request = Request::Vector(Box::new(call));
        let answers = vector_answers(self.read_shards(range, deadline, &request).await?)?;
        first_of_each(answers, 1)?.pop().flatten().ok_or_else(|| {
            let message = format!("there is no vector {} in index `{index}`", id.get());
            Error::new(ErrorKind::NotFound, message)
        })
    }
}

fn bytes_of(hit: &VectorHit) -> usize {
    hit.payload.as_ref().map_or(0, |payload| payload.len())
        + hit.vector.as_ref().map_or(0, |vector| vector.as_bytes().len())
}

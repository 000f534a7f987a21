//! A search by a vector and by words.

use crate::base::{Error, Result};
use crate::lsm::Engine;
use crate::op::vector::filter::check_field;
use crate::op::vector::search::HITS_MAX;
use crate::op::vector::text::{RANKED_MIN, TextQuery};
use crate::op::vector::{VectorHit, VectorSearch, VectorsFound};
use crate::shard::vectors::attributes::Matching;
use crate::shard::vectors::form::metric;
use crate::shard::vectors::index::{State, VectorIndex};
use crate::shard::vectors::search::Plan;
use crate::vector::{FlatIndex, SearchRequest, words};
use std::collections::{HashMap, HashSet};

/// The longest text that is looked for, in bytes.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// The most different words that are looked for.
const WORDS_MAX: usize = 64;

/// How many of each ranking count.
pub(super) fn ranked(search: &VectorSearch) -> usize {
    search.k.saturating_add(search.offset).clamp(RANKED_MIN, HITS_MAX) as usize
}

/// Whether a search by words can be made.
///
/// # Errors
/// `InvalidArgument` says why not.
pub(super) fn check(search: &VectorSearch, text: &TextQuery) -> Result<()> {
    if text.field.is_empty() {
        return Err(Error::invalid("name the field of payloads whose words are looked for"));
    }
    check_field(&text.field)?;
    if text.text.len() > TEXT_BYTES_MAX {
        let bytes = text.text.len();
        let message = format!("the text has {bytes} bytes; at most {TEXT_BYTES_MAX} are allowed");
        return Err(Error::invalid(message));
    }
    let different: HashSet<String> = words(&text.text).into_iter().collect();
    if different.len() > WORDS_MAX {
        let count = different.len();
        let message =
            format!("the text has {count} different words; at most {WORDS_MAX} are looked for");
        return Err(Error::invalid(message));
    }
    if search.k == 0 {
        return Err(Error::invalid("k is 0; a search by words needs at least 1"));
    }
    Ok(())
}

impl VectorIndex {
    /// Adds those that fit the words best to what was found by the vector.
    pub(super) fn add_by_words(
        &self,
        engine: &Engine,
        state: &State,
        plan: &Plan,
        text: &TextQuery,
        matching: Option<&Matching<'_>>,
        found: &mut VectorsFound,
    ) -> Result<()> {
        let takes =
            |id: u64| Some(id) != plan.without && matching.is_none_or(|matching| matching.has(id));
        let (stats, matches) = state.texts.matches(&text.field, &text.text, plan.take, &takes);
        found.text = Some(stats);
        let mut matches: HashMap<u64, _> = matches.into_iter().collect();
        for hit in &mut found.hits {
            hit.text = matches.remove(&hit.id);
        }
        // The distances of those that are near by their words alone.
        let dim = self.spec.dim as usize;
        let mut others = FlatIndex::new(dim, metric(self.spec.metric))?;
        let mut floats = Vec::with_capacity(dim);
        for id in matches.keys() {
            floats.clear();
            found.cost.fetched += 1;
            if self.fetch(engine, *id, &mut floats)? {
                others.insert(*id, &floats)?;
            }
        }
        if others.is_empty() {
            return Ok(());
        }
        let base = SearchRequest::new(&plan.query, others.len());
        let distance_max = plan.distance_max;
        let answer = others.answer(&SearchRequest { exact: true, distance_max, ..base })?;
        found.cost.distances += answer.stats.distances;
        found.hits.extend(answer.hits.iter().map(|hit| VectorHit {
            text: matches.remove(&hit.id),
            ..VectorHit::new(hit.id, hit.distance)
        }));
        found.hits.sort_by(VectorHit::order);
        Ok(())
    }
}

//! A search by a vector and by words.

use crate::base::{Error, Result};
use crate::lsm::Engine;
use crate::op::vector::filter::check_field;
use crate::op::vector::text::TextQuery;
use crate::op::vector::{VectorHit, VectorSearch, VectorsFound};
use crate::shard::vectors::attributes::Matching;
use crate::shard::vectors::form::metric;
use crate::shard::vectors::index::{State, VectorIndex};
use crate::shard::vectors::reads::Reads;
use crate::shard::vectors::record;
use crate::shard::vectors::search::{Plan, Searched};
use crate::vector::{FlatIndex, SearchRequest, words};
use std::collections::{HashMap, HashSet};

/// The longest text that is looked for, in bytes.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// The most different words that are looked for.
const WORDS_MAX: usize = 64;

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

/// What is looked through for words.
pub(super) struct Words<'a> {
    pub(super) state: &'a State,
    pub(super) matching: Option<&'a Matching<'a>>,
}

impl VectorIndex {
    /// Adds those that fit the words best to what was found by the vector. Words count where they are
    /// of the record whose distance was told.
    pub(super) fn add_by_words(
        &self,
        engine: &Engine,
        plan: &Plan<'_>,
        Words { state, matching }: Words<'_>,
        found: &mut VectorsFound,
        searched: &mut Searched,
    ) -> Result<()> {
        let Some(text) = &plan.search.text else { return Ok(()) };
        let takes =
            |id: u64| Some(id) != plan.without && matching.is_none_or(|matching| matching.has(id));
        let (stats, matches) = state.texts.matches(&text.field, &text.text, plan.take, &takes);
        found.text = Some(stats);
        let mut matches: HashMap<u64, _> = matches.into_iter().collect();
        for hit in &mut found.hits {
            let text = matches.remove(&hit.id);
            let is_same = searched.get(&hit.id).copied() == state.seq_of(hit.id);
            hit.text = text.filter(|_| is_same);
        }
        // The distances of those that are near by their words alone.
        let dim = self.spec.dim as usize;
        let mut others = FlatIndex::new(dim, metric(self.spec.metric))?;
        let mut reads = Reads::default();
        for id in matches.keys() {
            let Some(seq) = state.seq_of(*id) else { continue };
            let filter = plan.search.filter.as_ref();
            let value = self.read_record(engine, (*id, seq), filter, &mut reads)?;
            if let Some(value) = value.filter(|_| !reads.newer.contains_key(id)) {
                others.insert(*id, record::floats(*id, &value)?)?;
                searched.insert(*id, seq);
            }
        }
        found.cost.fetched += reads.fetched;
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

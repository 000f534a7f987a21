//! The words of payloads' fields, for those fields in which a search has looked for words.

use crate::op::vector::filter::{Scalar, visit_scalars};
use crate::op::vector::text::{TextMatch, TextStats};
use crate::vector::{Filter, TextIndex};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// The fields whose words are indexed.
#[derive(Debug, Default)]
pub(super) struct Texts {
    fields: BTreeMap<String, Field>,
    /// Questions so far.
    questions: AtomicU64,
}

#[derive(Debug, Default)]
struct Field {
    index: TextIndex,
    /// Whether all vectors have been told.
    is_whole: bool,
    /// Which question was the last one that it was asked for.
    asked: AtomicU64,
}

impl Field {
    fn set(&mut self, id: u64, payload: &serde_json::Value, name: &str) {
        let mut text = String::new();
        visit_scalars(payload, name, &mut |scalar| {
            if let Scalar::Text(part) = scalar {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&part);
            }
        });
        self.index.remove(id);
        if !text.is_empty() {
            // What is refused, beyond 2^32 of them, is not found by its words.
            _ = self.index.insert(id, &text);
        }
    }
}

impl Texts {
    /// Whether a field can be asked.
    pub(super) fn has(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(|field| field.is_whole)
    }

    /// Forgets fields until there are `most`: all in which no text was found, a name that was misspelt,
    /// say, and then those that nobody has asked for longest.
    pub(super) fn forget(&mut self, most: usize) {
        self.fields.retain(|_, field| !field.index.is_empty() || !field.is_whole);
        while self.fields.len() > most {
            let whole = self.fields.iter().filter(|(_, field)| field.is_whole);
            let oldest = whole.min_by_key(|(_, field)| field.asked.load(Ordering::Relaxed));
            let Some(name) = oldest.map(|(name, _)| name.clone()) else { return };
            self.fields.remove(&name);
        }
    }

    /// The number of a question that is being asked.
    fn question(&self) -> u64 {
        self.questions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// How many fields there are.
    pub(super) fn count(&self) -> usize {
        self.fields.len()
    }

    /// Follows a field from now on; [`Texts::set_field`] is then called for all vectors, and
    /// [`Texts::end`].
    pub(super) fn begin(&mut self, field: &str) {
        self.fields.entry(field.to_string()).or_default();
    }

    /// All vectors were told of, or it failed, and the field is forgotten.
    pub(super) fn end(&mut self, field: &str, is_whole: bool) {
        let question = self.question();
        if !is_whole {
            self.fields.remove(field);
        } else if let Some(field) = self.fields.get_mut(field) {
            field.is_whole = true;
            *field.asked.get_mut() = question;
        }
    }

    /// Takes a vector's payload in, for all fields.
    pub(super) fn set(&mut self, id: u64, payload: &[u8]) {
        if !self.fields.is_empty() {
            let payload = serde_json::from_slice(payload).unwrap_or_default();
            self.fields.iter_mut().for_each(|(name, field)| field.set(id, &payload, name));
        }
    }

    /// Takes a vector's payload in, for one field.
    pub(super) fn set_field(&mut self, id: u64, payload: &[u8], name: &str) {
        if let Some(field) = self.fields.get_mut(name) {
            field.set(id, &serde_json::from_slice(payload).unwrap_or_default(), name);
        }
    }

    /// Forgets a vector.
    pub(super) fn remove(&mut self, id: u64) {
        self.fields.values_mut().for_each(|field| _ = field.index.remove(id));
    }

    /// The `k` that fit a text best, of those that `takes` says yes to, and what there is of its
    /// words in all.
    pub(super) fn matches(
        &self,
        field: &str,
        text: &str,
        k: usize,
        takes: &(dyn Fn(u64) -> bool + Sync),
    ) -> (TextStats, Vec<(u64, TextMatch)>) {
        let Some(field) = self.fields.get(field) else { return Default::default() };
        field.asked.store(self.question(), Ordering::Relaxed);
        let found = field.index.matches(text, k, Filter::Where(takes));
        let stats = TextStats { texts: found.texts, words: found.words, having: found.having };
        let hits = found
            .hits
            .into_iter()
            .map(|hit| (hit.id, TextMatch { words: hit.words, times: hit.times }));
        (stats, hits.collect())
    }

    /// Bytes of memory that it takes, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.fields.values().map(|field| field.index.memory_bytes()).sum()
    }
}

//! Which texts have the words of a query (Okapi BM25: Robertson and Walker 1994).
//!
//! A text's score is the sum over the words of the query that it has: a word counts the more the
//! fewer texts have it, and the oftener this one does, less so the longer the text is.

use super::tokens::words;
use crate::base::{Error, ErrorKind, Result};
use crate::vector::filter::{EF_MAX, Filter};
use crate::vector::ids::IdMap;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// How soon more of the same word counts no more.
const K1: f32 = 1.2;
/// How much a text's length counts.
const B: f32 = 0.75;
/// Removed texts that stay in the lists in any case.
const DEAD_MIN: usize = 64;
/// What the heap takes beside each piece of it, about.
const ALLOCATED_BYTES: usize = 16;

/// A text that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextHit {
    /// The id it was inserted under.
    pub id: u64,
    /// How well it fits; larger is better. Only scores of one search can be compared.
    pub score: f32,
}

/// Texts in memory that are found by their words.
///
/// ```
/// use arqondb::engine::vector::{Filter, TextIndex};
///
/// # fn main() -> arqondb::Result<()> {
/// let mut index = TextIndex::new();
/// index.insert(1, "a fast database for vectors")?;
/// index.insert(2, "a slow train")?;
/// assert_eq!(index.search("vector databases, or fast vectors", 5, Filter::All)?[0].id, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct TextIndex {
    terms: HashMap<String, u32>,
    lists: Vec<List>,
    texts: Vec<Text>,
    slots: IdMap,
    /// Words of all texts that are not removed.
    words: u64,
    /// Bytes on the heap of words, lists and texts, without those of the tables that hold them.
    heap_bytes: usize,
}

/// The texts that have a word.
#[derive(Debug, Default)]
struct List {
    /// Slots in ascending order, and how often each has it; removed ones among them.
    entries: Vec<(u32, u32)>,
    /// How many were not removed.
    live: u32,
}

#[derive(Debug)]
struct Text {
    id: u64,
    words: u32,
    /// Its different words; none if it was removed.
    terms: Box<[u32]>,
    is_live: bool,
}

impl List {
    fn heap_bytes(&self) -> usize {
        match self.entries.capacity() {
            0 => 0,
            entries => entries * size_of::<(u32, u32)>() + ALLOCATED_BYTES,
        }
    }
}

impl Text {
    fn heap_bytes(&self) -> usize {
        if self.terms.is_empty() { 0 } else { size_of_val(&*self.terms) + ALLOCATED_BYTES }
    }
}

fn word_bytes(word: &String) -> usize {
    word.capacity() + ALLOCATED_BYTES
}

impl TextIndex {
    /// No texts.
    pub fn new() -> TextIndex {
        TextIndex::default()
    }

    /// Texts in the index.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Inserts a text; one that had the id before is replaced.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] beyond 2^32 texts.
    pub fn insert(&mut self, id: u64, text: &str) -> Result<()> {
        if self.texts.len() >= u32::MAX as usize {
            return Err(Error::new(ErrorKind::Refused, "an index holds fewer than 2^32 texts"));
        }
        self.remove(id);
        let slot = self.texts.len() as u32;
        let mut counts: HashMap<u32, u32> = HashMap::new();
        let mut count = 0u32;
        for word in words(text) {
            let next = self.terms.len() as u32;
            let term = match self.terms.entry(word) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    self.heap_bytes += word_bytes(new.key());
                    *new.insert(next)
                }
            };
            *counts.entry(term).or_default() += 1;
            count = count.saturating_add(1);
        }
        self.lists.resize_with(self.terms.len(), List::default);
        for (term, count) in &counts {
            let list = &mut self.lists[*term as usize];
            let before = list.heap_bytes();
            list.entries.push((slot, *count));
            list.live += 1;
            self.heap_bytes += list.heap_bytes() - before;
        }
        self.words += u64::from(count);
        let text = Text { id, words: count, terms: counts.into_keys().collect(), is_live: true };
        self.heap_bytes += text.heap_bytes();
        self.texts.push(text);
        self.slots.insert(id, slot);
        Ok(())
    }

    /// Removes a text; false if there was none.
    pub fn remove(&mut self, id: u64) -> bool {
        let Some(slot) = self.slots.remove(id) else { return false };
        let text = &mut self.texts[slot as usize];
        text.is_live = false;
        self.heap_bytes -= text.heap_bytes();
        for term in std::mem::take(&mut text.terms) {
            self.lists[term as usize].live -= 1;
        }
        self.words -= u64::from(text.words);
        if self.texts.len() - self.slots.len() > DEAD_MIN.max(self.slots.len()) {
            self.sweep();
        }
        true
    }

    /// Takes removed texts, and words that none has, out of all lists.
    fn sweep(&mut self) {
        let mut places: Vec<Option<u32>> = Vec::with_capacity(self.texts.len());
        let mut kept = 0;
        for text in &self.texts {
            places.push(text.is_live.then_some(kept));
            kept += u32::from(text.is_live);
        }
        self.texts.retain(|text| text.is_live);
        let mut terms: Vec<Option<u32>> = vec![None; self.lists.len()];
        let mut lists = Vec::new();
        for (term, list) in std::mem::take(&mut self.lists).into_iter().enumerate() {
            if list.live > 0 {
                terms[term] = Some(lists.len() as u32);
                let entries = list.entries.into_iter();
                let entries = entries.filter_map(|(slot, n)| Some((places[slot as usize]?, n)));
                lists.push(List { entries: entries.collect(), live: list.live });
            }
        }
        self.lists = lists;
        self.terms.retain(|_, term| match terms[*term as usize] {
            Some(new) => {
                *term = new;
                true
            }
            None => false,
        });
        for (slot, text) in (0..).zip(&mut self.texts) {
            text.terms = text.terms.iter().filter_map(|term| terms[*term as usize]).collect();
            self.slots.insert(text.id, slot);
        }
        self.heap_bytes = self.heap_bytes_anew();
    }

    fn heap_bytes_anew(&self) -> usize {
        self.terms.keys().map(word_bytes).sum::<usize>()
            + self.lists.iter().map(List::heap_bytes).sum::<usize>()
            + self.texts.iter().map(Text::heap_bytes).sum::<usize>()
    }

    /// Bytes of memory that it takes, about.
    pub fn memory_bytes(&self) -> usize {
        // Seven of eight places of a table may be taken.
        let table = self.terms.capacity() * 8 / 7 * (size_of::<(String, u32)>() + 1);
        let lists = self.lists.capacity() * size_of::<List>();
        let texts = self.texts.capacity() * size_of::<Text>();
        table + lists + texts + self.slots.memory_bytes() + self.heap_bytes
    }

    /// The `k` texts that fit a query best, of those that have one of its words and match; by score,
    /// then by id.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] if `k` is 0 or above 2^20.
    pub fn search(&self, query: &str, k: usize, filter: Filter<'_>) -> Result<Vec<TextHit>> {
        if k == 0 || k > EF_MAX {
            return Err(Error::invalid(format!("k is {k}; it may be from 1 to {EF_MAX}")));
        }
        let found = self.matches(query, k, filter);
        Ok(found.hits.iter().map(|hit| TextHit { id: hit.id, score: hit.score }).collect())
    }

    /// As [`TextIndex::search`], with all that scores are made of, for those who rate texts of
    /// several indexes together.
    pub fn matches(&self, query: &str, k: usize, filter: Filter<'_>) -> TextMatches {
        let mut asked = words(query);
        asked.sort_unstable();
        asked.dedup();
        let lists: Vec<Option<&List>> = asked
            .iter()
            .map(|word| self.terms.get(word).map(|term| &self.lists[*term as usize]))
            .collect();
        let count = self.len() as f32;
        let mean = self.words as f32 / count.max(1.0);
        let mut scores: HashMap<u32, f32> = HashMap::new();
        for list in lists.iter().flatten() {
            let live = list.live as f32;
            let rarity = (1.0 + (count - live + 0.5) / (live + 0.5)).ln();
            for (slot, times) in &list.entries {
                let text = &self.texts[*slot as usize];
                if text.is_live {
                    let length = 1.0 - B + B * text.words as f32 / mean.max(1.0);
                    let times = *times as f32;
                    let score = rarity * times * (K1 + 1.0) / (times + K1 * length);
                    *scores.entry(*slot).or_default() += score;
                }
            }
        }
        let takes = filter.test();
        let id_of = |slot: u32| self.texts[slot as usize].id;
        let mut best: Vec<(u32, f32)> =
            scores.into_iter().filter(|(slot, _)| takes(id_of(*slot))).collect();
        best.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(id_of(a.0).cmp(&id_of(b.0))));
        best.truncate(k);
        let times = |list: &Option<&List>, slot: u32| {
            let entries = list.map_or(&[][..], |list| &list.entries);
            entries.binary_search_by_key(&slot, |entry| entry.0).map_or(0, |at| entries[at].1)
        };
        let hit = |(slot, score): (u32, f32)| TextMatched {
            id: id_of(slot),
            score,
            words: self.texts[slot as usize].words,
            times: lists.iter().map(|list| times(list, slot)).collect(),
        };
        TextMatches {
            texts: self.len() as u64,
            words: self.words,
            having: lists.iter().map(|list| list.map_or(0, |list| list.live.into())).collect(),
            hits: best.into_iter().map(hit).collect(),
        }
    }
}

/// A text that was found, and what its score is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct TextMatched {
    /// The id it was inserted under.
    pub id: u64,
    /// How well it fits; larger is better.
    pub score: f32,
    /// Words in it.
    pub words: u32,
    /// How often it has each of the different words of the query, these in their order.
    pub times: Vec<u32>,
}

/// Texts that were found, and what of all texts scores are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct TextMatches {
    /// Texts in the index.
    pub texts: u64,
    /// Words in all of them.
    pub words: u64,
    /// How many texts have each of the different words of the query, these in their order.
    pub having: Vec<u64>,
    /// By score, then by id.
    pub hits: Vec<TextMatched>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;
    use std::collections::BTreeMap;

    /// The score of a text, from the definition.
    fn score(texts: &BTreeMap<u64, String>, query: &str, id: u64) -> f64 {
        let all: Vec<Vec<String>> = texts.values().map(|text| words(text)).collect();
        let own = words(&texts[&id]);
        let mean = all.iter().map(Vec::len).sum::<usize>() as f64 / all.len() as f64;
        let mut asked = words(query);
        asked.sort();
        asked.dedup();
        let of = |word: &String| {
            let having = all.iter().filter(|text| text.contains(word)).count() as f64;
            let times = own.iter().filter(|other| *other == word).count() as f64;
            let rarity = (1.0 + (all.len() as f64 - having + 0.5) / (having + 0.5)).ln();
            rarity * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * own.len() as f64 / mean.max(1.0)))
        };
        asked.iter().map(of).sum()
    }

    /// A word that is in one text alone was counted as three bytes for each of its own.
    #[test]
    fn words_of_one_text_each_are_counted_with_all_they_take() {
        let mut index = TextIndex::new();
        for id in 0..1_000 {
            let text: String = (0..50).map(|n| format!("{:08x} ", id * 50 + n)).collect();
            index.insert(id, &text).unwrap();
        }
        // A place in a table with seven of eight taken at most, the word, a list and its first entries.
        let least = (28 + 8 + 32 + 8 + 4) * 50_000;
        let bytes = index.memory_bytes();
        assert!((least..4 * least).contains(&bytes), "{bytes}");
    }

    #[test]
    fn random_histories_are_scored_by_the_definition() {
        let mut rng = Rng::new(8);
        let mut index = TextIndex::new();
        let mut texts: BTreeMap<u64, String> = BTreeMap::new();
        let text = |rng: &mut Rng| -> String {
            let word = |rng: &mut Rng| format!("w{} ", rng.below(12) * rng.below(12));
            (0..rng.below(9)).map(|_| word(rng)).collect()
        };
        for _ in 0..1500 {
            let id = rng.below(90);
            match rng.below(4) {
                0 => assert_eq!(index.remove(id), texts.remove(&id).is_some()),
                1 => {
                    let query = text(&mut rng);
                    let even = |id: u64| id.is_multiple_of(2);
                    let hits = index.search(&query, 10, Filter::Where(&even)).unwrap();
                    let mut expected: Vec<(f64, u64)> = texts
                        .keys()
                        .filter(|id| even(**id))
                        .map(|id| (score(&texts, &query, *id), *id))
                        .filter(|(score, _)| *score > 0.0)
                        .collect();
                    expected.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                    assert_eq!(hits.len(), expected.len().min(10));
                    for (hit, (best, _)) in hits.iter().zip(expected) {
                        let own = score(&texts, &query, hit.id);
                        assert!((own - best).abs() < 1e-4, "{own} where {best} is best");
                        assert!((own - f64::from(hit.score)).abs() < 1e-4, "{hit:?}: {own}");
                    }
                }
                _ => {
                    let text = text(&mut rng);
                    index.insert(id, &text).unwrap();
                    texts.insert(id, text);
                }
            }
            assert_eq!(index.len(), texts.len());
            assert!(index.texts.len() <= 2 * index.len() + DEAD_MIN + 1);
            assert_eq!(index.heap_bytes, index.heap_bytes_anew());
        }
        let bytes = index.memory_bytes();
        let all: Vec<u64> = texts.keys().copied().collect();
        all.iter().for_each(|id| assert!(index.remove(*id)));
        assert!(index.heap_bytes < bytes / 2);
        assert!(index.search("w1", 0, Filter::All).is_err());
        assert!(index.search("nothing has this", 3, Filter::All).unwrap().is_empty());
    }
}
